"""YAML text -> values that know their line, and the error that names it.

PyYAML's own loading forgets lines, drops duplicate keys, turns ``no`` and ``4`` into other types and follows merge
keys. A pool file is written by people and names secrets, so it is read more strictly: every value keeps its line and
the text as written, and whatever a hostile file does, the outcome is a tree or a ConfigError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import yaml

from understudy.secrets import shown

LARGEST = 1024 * 1024
"""Bytes. A longer file is refused."""

_DEEPEST = 12
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


class ConfigError(ValueError):
    """A pool file that cannot be used, with all its problems in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


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
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def read(text: str, path: str, problems: list[Problem]) -> Value:
    """Read one document. Adds what is wrong but can be stepped over to ``problems``; raises ConfigError else."""
    node = _compose(text, path)
    if node is None:
        raise ConfigError([Problem(path, 1, "the file is empty", "write upstreams, credentials and routes")])
    return _Reader(path, problems).value(node, 1)


def _compose(text: str, path: str) -> yaml.Node | None:
    try:
        if len(text) > LARGEST or len(text.encode("utf-8", "surrogatepass")) > LARGEST:
            raise ConfigError([Problem(path, 1, f"the file is larger than {LARGEST} bytes", "write a shorter one")])
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "this is no YAML"
        raise ConfigError([_syntax(path, mark.line + 1 if mark else 1, what)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([_syntax(path, line, "a character that YAML does not allow")]) from None
    except RecursionError:
        raise ConfigError([Problem(path, 1, "values are nested too deeply", "write a flat file")]) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        # PyYAML lets a few errors of its own code escape, e.g. for the escape \UFFFFFFFF, and without a line.
        raise ConfigError([_syntax(path, 1, "an escape or a number that YAML does not allow")]) from None


def _syntax(path: str, line: int, what: str) -> Problem:
    # What PyYAML quotes may be a piece of a secret; short quotes and names of its own such as '<block end>' are not.
    what = re.sub(r"'(?!<)[^']{4,}'", "this", what.replace("\n", " "))
    if "\\t" in what:
        return Problem(path, line, "not valid YAML (a tab)", "indent with spaces")
    return Problem(path, line, f"not valid YAML ({what})", "correct this line or the one before it")


class _Reader:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.count = 0

    def value(self, node: yaml.Node, depth: int) -> Value:
        line = node.start_mark.line + 1
        self.count += 1
        if self.count > _MOST_VALUES:
            problem = Problem(self.path, line, f"more than {_MOST_VALUES} values", "write fewer, or use fewer aliases")
            raise ConfigError([*self.problems, problem])
        if depth > _DEEPEST:
            problem = Problem(self.path, line, "values are nested too deeply", "write a flat file")
            raise ConfigError([*self.problems, problem])
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
