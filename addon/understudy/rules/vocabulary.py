"""Named phrases: ``vocabulary.yaml`` of the shipped rules and of the owner's folders.

A name collects the ways in which vendors say one thing, with examples and near misses of its own. Rules combine names:
``message|says: <the-model> <is-not-there>``. A file of the owner's adds names, and adds phrases to names that are there
already, for the shipped rules as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.codec.yaml_nodes import LARGEST, RULE, Problem, RuleError, Scalar, Table, Value, read
from understudy.rules.listening import Listener, find
from understudy.rules.phrases import BUILT_IN, Choice, Name, Node, PhraseError, Plain, expand, names_in, parse

FILE = "vocabulary.yaml"
"""What it is called, at the top of a folder of rules."""
_KEYS = ("about", "phrases", "examples", "near_misses")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one file says about one name. ``examples`` and ``near_misses`` are texts, with the line they stand on."""

    name: str
    about: str
    phrases: tuple[str, ...]
    examples: tuple[tuple[str, int], ...]
    near_misses: tuple[tuple[str, int], ...]
    path: str
    line: int


class Vocabulary:
    """The names of one or more files, and the listener that hears everything that rules say in their words.

    What the names stand for is a large part of what the rules take in memory, and judging needs only the listener: it
    is worked out when it is asked for, and :meth:`rest` lets go of it. Raises PhraseError where entries are wrong.
    """

    def __init__(self, entries: Sequence[Entry] = (), plain: dict[str, Plain] | None = None) -> None:
        """``plain``: what the names stand for, where that is worked out already."""
        self.entries = tuple(entries)
        self.listener = Listener()
        self._known = plain

    @property
    def nodes(self) -> dict[str, Node]:
        """Name -> what it stands for, other names expanded."""
        return {name: node for name, (node, _) in self._plain.items()}

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is held of what the names stand for."""
        return self._known is None

    @property
    def _plain(self) -> dict[str, Plain]:
        if self._known is None:
            written: dict[str, list[Node]] = {}
            for entry in self.entries:
                written.setdefault(entry.name, []).extend(map(parse, entry.phrases))
            together, plain = _choices(written), dict[str, Plain]()
            for name in together:
                expand(Name(name), together, plain)
            self._known = plain
        return self._known

    def phrase(self, text: str) -> Node:
        """A phrase of a rule, without names. Raises PhraseError."""
        return expand(parse(text), {}, self._plain)

    def listen(self, text: str) -> int:
        """The bit of a phrase of a rule. Raises PhraseError."""
        return self.listener.add(self.phrase(text))

    def rest(self) -> None:
        """All rules are read: get ready to listen, and let go of what only reading a rule needs."""
        self.listener.prepare()
        self._known = None

    def forget_examples(self) -> None:
        """Let go of the examples of all entries: :meth:`faults` then finds none."""
        self.entries = tuple(replace(entry, examples=(), near_misses=()) for entry in self.entries)

    def heard(self, text: str, said: str) -> str:
        """Where a phrase of a rule matches a text (as rules see it), and what its names stand for there; for people."""
        written = parse(text)
        passage = find(expand(written, {}, self._plain), said)
        parts = (
            [f"<{name}> {found!r}" for name in names_in(written) if (found := find(self._plain[name][0], passage))]
            if (passage)
            else []
        )
        return f"{passage!r}" + (f" ({', '.join(parts)})" if parts else "") if passage else ""

    def meaning(self, text: str) -> Iterator[str]:
        """What the names in a phrase of a rule stand for, as they are written, each once and the outermost first."""
        waiting, told = list(names_in(parse(text))), set[str]()
        while waiting:
            name = waiting.pop(0)
            if name in told:
                continue
            told.add(name)
            for entry in self.entries:
                if entry.name == name:
                    yield from (f"<{name}> = {phrase}" for phrase in entry.phrases)
                    waiting += [inner for phrase in entry.phrases for inner in names_in(parse(phrase))]

    def faults(self, entries: Sequence[Entry] | None = None) -> Iterator[str]:
        """What is wrong with the examples of these entries (all); one line each."""
        for entry in self.entries if entries is None else entries:
            node, _ = self._plain[entry.name]
            for text, line in entry.examples:
                if not find(node, text.lower()):
                    yield f"{entry.path}:{line}: <{entry.name}> does not match its example"
            for text, line in entry.near_misses:
                if found := find(node, text.lower()):
                    yield f"{entry.path}:{line}: <{entry.name}> matches its near miss: {found!r}"


def make_vocabulary(files: Sequence[Path]) -> Vocabulary:
    """The vocabulary of these files, those that are not there left out. Raises RuleError."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for file in files:
        if not file.is_file():
            continue
        try:
            entries += _read(file)
        except RuleError as error:
            problems += error.problems
    written: dict[str, list[Node]] = {}
    for entry in entries:
        for phrase in entry.phrases:
            try:
                written.setdefault(entry.name, []).append(parse(phrase))
            except PhraseError as error:
                problems.append(Problem(entry.path, entry.line, f"<{entry.name}>: {error.what}", error.write))
    together = _choices(written)
    plain: dict[str, Plain] = {}
    for entry in entries:
        try:
            if entry.name in together:
                expand(Name(entry.name), together, plain)
        except PhraseError as error:
            problems.append(Problem(entry.path, entry.line, f"<{entry.name}>: {error.what}", error.write))
    if problems:
        raise RuleError(problems)
    return Vocabulary(entries, plain)


def _choices(written: Mapping[str, Sequence[Node]]) -> dict[str, Node]:
    """For each name the choice of its phrases, in which other names still stand."""
    return {name: Choice(tuple(nodes)) for name, nodes in written.items()}


def _read(file: Path) -> list[Entry]:
    path = str(file)
    try:
        with file.open("rb") as opened:
            text = opened.read(LARGEST + 1).decode("utf-8-sig")
    except OSError as error:
        raise RuleError([Problem(path, 1, f"it cannot be read ({error.strerror})", "check its permissions")]) from None
    except UnicodeDecodeError:
        raise RuleError([Problem(path, 1, "this is not UTF-8", "save the file as UTF-8")]) from None
    problems: list[Problem] = []
    root = read(text, path, problems, RULE)
    if problems:
        raise RuleError(problems)
    if not isinstance(root, Table):
        raise RuleError([Problem(path, 1, "a mapping is expected here", "write `name:` and its phrases")])
    return [_entry(path, key, value) for key, value in root.entries.values()]


def _entry(path: str, key: Scalar, value: Value) -> Entry:
    def fail(at: Value, what: str, write: str) -> RuleError:
        return RuleError([Problem(path, at.line, what, write)])

    if not isinstance(value, Table):
        raise fail(key, "a mapping is expected here", f"write {', '.join(_KEYS)}")
    try:
        names = list(names_in(parse(f"<{key.text}>")))
    except PhraseError as error:
        raise fail(key, error.what, error.write) from None
    if not names:
        raise fail(key, f"<{key.text[:60]}> has its meaning already", f"take another name than {', '.join(BUILT_IN)}")
    texts: dict[str, tuple[tuple[str, int], ...]] = {}
    for name, (written, item) in value.entries.items():
        if name not in _KEYS:
            raise fail(written, f"the key `{name[:60]}` is not known", f"write one of {', '.join(_KEYS)}")
        items = (item,) if isinstance(item, Scalar | Table) else item.items
        for each in items:
            if not isinstance(each, Scalar) or not each.text.strip():
                raise fail(each, "a text is expected here", "write a text, in quotes if it holds special characters")
        texts[name] = tuple((each.text, each.line) for each in items if isinstance(each, Scalar))
    for name in _KEYS:
        if not texts.get(name):
            raise fail(key, f"<{key.text}> has no `{name}`", f"add `{name}:`")
    phrases = tuple(text for text, _ in texts["phrases"])
    about = " ".join(text for text, _ in texts["about"])
    return Entry(key.text, about, phrases, texts["examples"], texts["near_misses"], path, key.line)
