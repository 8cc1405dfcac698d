"""YAML text -> values that know their line, and the errors that name it. Pool files and rule files are read with it.

PyYAML's own loading forgets lines, drops duplicate keys, turns ``no`` and ``4`` into other types and follows merge
keys. These files are written by people and decide where secrets go, so they are read more strictly: every value keeps
its line and the text as written, and whatever a hostile file does, the outcome is a tree or a FileError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml

from understudy.codec.masking import shown

LARGEST = 1024 * 1024
"""Bytes. A longer file is refused."""

_MOST_VALUES = 100_000  # aliases are followed: without a bound, a few lines could stand for billions of values


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, and what to write instead. Its text is one line: ``path:line: what: write``."""

    path: str
    line: int
    what: str
    write: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}: {self.write}"


class FileError(ValueError):
    """A file that cannot be used, with all its problems in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class ConfigError(FileError):
    """A pool file that cannot be used."""


class RuleError(FileError):
    """A rule file that cannot be used, or a folder of them."""


class Kind(StrEnum):
    """What YAML takes a scalar for. The text as written is kept whatever the kind."""

    TEXT = "a text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    DATE = "a date"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value."""

    line: int
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    line: int
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping: key as written -> (the key, its value)."""

    line: int
    entries: dict[str, tuple[Scalar, Value]]


type Value = Scalar | Listing | Table

_KINDS = {
    "tag:yaml.org,2002:str": Kind.TEXT,
    "tag:yaml.org,2002:int": Kind.NUMBER,
    "tag:yaml.org,2002:float": Kind.NUMBER,
    "tag:yaml.org,2002:bool": Kind.BOOLEAN,
    "tag:yaml.org,2002:timestamp": Kind.DATE,
    "tag:yaml.org,2002:null": Kind.NOTHING,
    "tag:yaml.org,2002:value": Kind.TEXT,  # a plain "="
}
_QUOTES = 'put it in quotes, as in `"*-mini": [work]`'
_INDENT = "indent it like the lines that it belongs to"
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True, slots=True)
class Manner:
    """How one kind of file is read: its error, what an empty one lacks, how deep it may go, and with what."""

    error: type[FileError]
    lacks: str
    deepest: int
    loader: type[Any] = yaml.SafeLoader


POOL = Manner(ConfigError, "write upstreams, credentials and routes", deepest=12)
RULE = Manner(
    # There may be a hundred rule files; bodies in their examples are nested.
    RuleError,
    "write id, label, about, source, status, when and examples",
    deepest=32,
    loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
)


def read(text: str, path: str, problems: list[Problem], manner: Manner = POOL) -> Value:
    """Read one document. Adds what is wrong but can be stepped over to ``problems``; raises the manner's error else."""
    try:
        node = _compose(text, path, manner)
        if node is None:
            raise FileError([Problem(path, 1, "the file is empty", manner.lacks)])
        return _Reader(path, problems, manner.deepest).value(node, 1)
    except FileError as error:
        raise manner.error(error.problems) from None


def _compose(text: str, path: str, manner: Manner) -> yaml.Node | None:
    try:
        if len(text) > LARGEST or len(text.encode("utf-8", "surrogatepass")) > LARGEST:
            raise FileError([Problem(path, 1, f"the file is larger than {LARGEST} bytes", "write a shorter one")])
        return yaml.compose(text, Loader=manner.loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "this is no YAML"
        opened = error.context_mark.line + 1 if error.context_mark else 0
        raise FileError([_syntax(path, mark.line + 1 if mark else 1, what, opened)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(0, error.position)) + 1
        raise FileError([_syntax(path, line, "a character that YAML does not allow")]) from None
    except RecursionError:
        raise FileError([Problem(path, 1, "values are nested too deeply", "write a flat file")]) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, FileError):
            raise
        # PyYAML lets a few errors of its own code escape, e.g. for the escape \UFFFFFFFF, and without a line.
        raise FileError([_syntax(path, 1, "an escape or a number that YAML does not allow")]) from None


_MISTAKES: tuple[tuple[str, bool, str, str], ...] = (
    # What PyYAML or libyaml says, whether the line where it began is meant, what we say, and what to write.
    ("',' or '}'", True, "a `{` is not closed", "add the missing `}` to this line"),
    ("',' or ']'", True, "a `[` is not closed", "add the missing `]` to this line"),
    ("found '}'", False, "a `}` too many", "remove it"),
    ("found ']'", False, "a `]` too many", "remove it"),
    ("alphabetic or numeric character", False, "a name or value that begins with `*` or `&`", _QUOTES),
    ("undefined alias", False, "a name or value that begins with `*`", _QUOTES),
    ("unexpected end of stream", True, "a quotation mark is not closed", "close it on this line"),
    ("mapping values are not allowed", False, "a second colon on this line", "put the value in quotes"),
    ("cannot start any token", False, "a value that begins with a character of YAML's own", "put it in quotes"),
    ("found '<block mapping start>'", False, "a line that is indented differently from those before it", _INDENT),
    ("found '?'", False, "a key among the entries of a list", _INDENT),
    ("expected <block end>", False, "a line that does not belong to the one before it", _INDENT),
    ("did not find expected key", False, "a line that does not belong to the one before it", _INDENT),
    ("unknown escape", False, "a backslash in double quotes", "use single quotes"),
)


def _syntax(path: str, line: int, what: str, opened: int = 0) -> Problem:
    if "\\t" not in what:
        for sign, began, said, write in _MISTAKES:
            if sign in what:
                return Problem(path, opened if began and opened else line, f"not valid YAML ({said})", write)
    # What PyYAML quotes may be a piece of a secret; short quotes and names of its own such as '<block end>' are not.
    what = re.sub(r"'[^']*'", lambda found: found[0] if _NO_SECRET.match(found[0]) else "this", what.replace("\n", " "))
    if "\\t" in what:
        return Problem(path, line, "not valid YAML (a tab)", "indent with spaces")
    return Problem(path, line, f"not valid YAML ({what})", "correct this line or the one before it")


_NO_SECRET = re.compile("'(?:<.*|.{0,3})'$")


class _Reader:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, path: str, problems: list[Problem], deepest: int) -> None:
        self.path = path
        self.problems = problems
        self.deepest = deepest
        self.count = 0

    def value(self, node: yaml.Node, depth: int) -> Value:
        line = node.start_mark.line + 1
        self.count += 1
        if self.count > _MOST_VALUES:
            problem = Problem(self.path, line, f"more than {_MOST_VALUES} values", "write fewer, or use fewer aliases")
            raise FileError([*self.problems, problem])
        if depth > self.deepest:
            problem = Problem(self.path, line, "values are nested too deeply", "write a flat file")
            raise FileError([*self.problems, problem])
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            self._add(line, "a YAML tag that is not supported", "write a plain list or mapping")
        if isinstance(node, yaml.MappingNode):
            return self._table(node, line, depth)
        if isinstance(node, yaml.SequenceNode):
            return Listing(line, tuple(self.value(item, depth + 1) for item in node.value))
        kind = _KINDS.get(node.tag)
        if kind is None:
            self._add(line, "a YAML tag that is not supported", "write a plain value")
            kind = Kind.TEXT
        return Scalar(line, node.value, kind)

    def _table(self, node: yaml.MappingNode, line: int, depth: int) -> Table:
        entries: dict[str, tuple[Scalar, Value]] = {}
        for key_node, value_node in node.value:
            here = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._add(here, "a merge key", "write the keys themselves in place of `<<`")
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(here, "a key that is a list or a mapping", "write a text as key")
                continue
            key = Scalar(here, key_node.value, _KINDS.get(key_node.tag, Kind.NOTHING))
            value = self.value(value_node, depth + 1)
            if key.text in entries:
                first = entries[key.text][0].line
                self._add(here, f"the key {shown(key.text)} is written twice", f"keep this one or that of line {first}")
                continue
            entries[key.text] = (key, value)
        return Table(line, entries)

    def _add(self, line: int, what: str, write: str) -> None:
        self.problems.append(Problem(self.path, line, what, write))
