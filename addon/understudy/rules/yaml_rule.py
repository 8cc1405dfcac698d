"""One .yaml file -> one Rule.

Rules are data that people write, so this module is strict: an unknown key, label or modifier is an error with
file, line and what to write instead, never something that silently matches nothing. `rules/README.md` is the manual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Never

from understudy.codec.yaml_nodes import LARGEST, RULE, Kind, Problem, RuleError, Scalar, Table, Value, read
from understudy.model import Label, Scope, Then
from understudy.replies import Reply
from understudy.rules.conditions import SERVED_MODEL, Condition, ConditionError, Line, read_line
from understudy.rules.speaker import EVERYWHERE, FALLBACK, AppliesTo, Example, Rule, Status
from understudy.rules.vocabulary import Vocabulary

NO_SOURCE = "write here where it is documented or was reported"
"""The source of a draft that names no source yet."""
_KEYS = ("id", "label", "about", "source", "status", "certain", "applies_to", "when", "unless", "then", "examples")
_NEEDED = ("id", "label", "about", "source", "status", "when", "examples")
_TEXTS = ("dialect", "endpoint", "kind", "host", "alias", "model", "event")
EXAMPLE_KEYS = ("status", "body", "headers", *_TEXTS, "streamed")
_ERROR_KEYS = ("message", "code", "type", "param")
"""Of an example without a body: it is ``{"error": {...}}`` with these."""
_SCALARS = (Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN)


def read_rule(file: Path, identity: str, vocabulary: Vocabulary | None = None) -> Rule:
    """The rule in one file; ``identity`` is the id it has to have, ``vocabulary`` what it speaks. Raises RuleError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        problem = Problem(str(file), 1, f"it cannot be read ({error.strerror})", "check its permissions")
        raise RuleError([problem]) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RuleError([Problem(str(file), line, "this is not UTF-8", "save the file as UTF-8")]) from None
    return parse_rule(text, str(file), identity, vocabulary)


def parse_rule(text: str, path: str, identity: str, vocabulary: Vocabulary | None = None) -> Rule:
    """The rule in the text of a file; ``path`` is where problems are shown. Raises RuleError."""
    problems: list[Problem] = []
    root = read(text, path, problems, RULE)
    if problems:
        raise RuleError(problems)
    return _Reader(path, vocabulary or Vocabulary()).rule(root, identity)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns the values of one file into a Rule; knows the file's name for its errors."""

    path: str
    vocabulary: Vocabulary

    def fail(self, value: Value | None, what: str, write: str) -> Never:
        raise RuleError([Problem(self.path, value.line if value else 1, what, write)])

    def rule(self, root: Value, identity: str) -> Rule:
        fields = self.table(root, _KEYS)
        for key in _NEEDED:
            if key not in fields:
                self.fail(root, f"`{key}` is missing", f"add `{key}:`")
        if self.text(fields["id"]) != identity:
            self.fail(fields["id"], "the id is not the path of the file", f"write `id: {identity}`")
        label = self.choice(fields["label"], Label)
        unless, vetoed_by = self.unless(fields["unless"]) if "unless" in fields else (None, frozenset[str]())
        examples = self.table(fields["examples"], ("matches", "near_misses"))
        shown = {}
        for key, expected in (("matches", label), ("near_misses", None)):
            items = self.items(examples[key]) if key in examples else ()
            if not items:
                self.fail(fields["examples"], f"there are no `{key}`", "show at least one reply")
            shown[key] = tuple(self.example(item, expected) for item in items)
        status = self.choice(fields["status"], Status)
        if status is Status.STABLE and self.text(fields["source"]) == NO_SOURCE:
            self.fail(
                fields["source"], "a stable rule has the source of a draft", "write where it is documented or was seen"
            )
        return Rule(
            id=identity,
            label=label,
            about=self.text(fields["about"]),
            source=self.text(fields["source"]),
            status=status,
            applies_to=self.applies_to(fields["applies_to"]) if "applies_to" in fields else EVERYWHERE,
            when=self.condition(fields["when"]),
            unless=unless,
            vetoed_by=vetoed_by,
            then=self.then(fields["then"]) if "then" in fields else Then(),
            certain=self.flag(fields["certain"]) if "certain" in fields else not identity.startswith(f"{FALLBACK}/"),
            matches=shown["matches"],
            near_misses=shown["near_misses"],
        )

    # -- values -------------------------------------------------------------------------------------------------

    def table(self, value: Value, keys: Collection[str] | None) -> dict[str, Value]:
        if not isinstance(value, Table):
            self.fail(value, "a mapping is expected here", "write `key: value` lines")
        for key, (written, _) in value.entries.items():
            if not key.strip():
                self.fail(written, "the key is empty", "write a name")
            if keys is not None and key not in keys:
                self.fail(written, f"the key `{key[:60]}` is not known", f"write one of {', '.join(keys)}")
        return {key: item for key, (_, item) in value.entries.items()}

    def items(self, value: Value) -> tuple[Value, ...]:
        if isinstance(value, Scalar | Table):
            self.fail(value, "a list is expected here", "write lines that begin with `- `")
        return value.items

    def text(self, value: Value, empty: bool = False) -> str:
        if not isinstance(value, Scalar) or value.kind not in _SCALARS or not (empty or value.text.strip()):
            self.fail(value, "a text is expected here", "write a text, in quotes if it holds special characters")
        return value.text

    def texts(self, value: Value) -> list[str]:
        if isinstance(value, Scalar | Table):
            return [self.text(value)]
        if not value.items:
            self.fail(value, "the list is empty", "write at least one value")
        return [self.text(item) for item in value.items]

    def choice[E: StrEnum](self, value: Value, choices: type[E]) -> E:
        written = self.text(value)
        try:
            return choices(written)
        except ValueError:
            known = ", ".join(choices)
            self.fail(value, f"`{written[:60]}` is not a {choices.__name__.lower()}", f"write one of {known}")

    def number(self, value: Value, least: float, most: float) -> float:
        if isinstance(value, Scalar) and value.kind is Kind.NUMBER:
            try:
                number = float(value.text)
            except ValueError:
                number = -1.0
            if least <= number <= most:
                return number
        return self.fail(value, "this is not a number in range", f"write a number from {least:g} to {most:g}")

    def flag(self, value: Value) -> bool:
        if isinstance(value, Scalar) and value.text.lower() in ("true", "false"):
            return value.text.lower() == "true"
        return self.fail(value, "this is neither true nor false", "write true or false")

    # -- parts of a rule ----------------------------------------------------------------------------------------

    def applies_to(self, value: Value) -> AppliesTo:
        fields = self.table(value, ("dialect", "host", "kind"))
        found = {key: tuple(text.lower() for text in self.texts(item)) for key, item in fields.items()}
        if unknown := [kind for kind in found.get("kind", ()) if kind not in ("generating", "auxiliary")]:
            self.fail(fields["kind"], f"`{unknown[0][:60]}` is not a kind", "write generating or auxiliary")
        return AppliesTo(found.get("dialect", ()), found.get("host", ()), found.get("kind", ()))

    def then(self, value: Value) -> Then:
        fields = self.table(value, ("replay", "retry_same", "scope", "seconds", "without_sealed"))
        return Then(
            replay=self.flag(fields["replay"]) if "replay" in fields else None,
            retry_same=int(self.number(fields["retry_same"], 0, 1)) if "retry_same" in fields else None,
            scope=self.choice(fields["scope"], Scope) if "scope" in fields else None,
            seconds=self.number(fields["seconds"], 0, 86400) if "seconds" in fields else None,
            without_sealed=self.flag(fields["without_sealed"]) if "without_sealed" in fields else False,
        )

    def alternatives(self, value: Value) -> tuple[Value, ...]:
        found = (value,) if isinstance(value, Scalar | Table) else value.items
        if not found or any(isinstance(item, Table) and not item.entries for item in found):
            self.fail(value, "the condition is empty", "write `field: value` lines")
        return found

    def condition(self, value: Value) -> Condition:
        alternatives = [self.lines(item) for item in self.alternatives(value)]
        named = [any(line.place == SERVED_MODEL for line in lines) for lines in alternatives]
        if any(named) and not all(named):
            # Whoever answers is asked about successes, where words of other alternatives would prove nothing.
            self.fail(
                value, f"`{SERVED_MODEL}` stands in some alternatives only", "write a rule of its own for the others"
            )
        return Condition.of(alternatives)

    def unless(self, value: Value) -> tuple[Condition | None, frozenset[str]]:
        """A condition, and the rules that veto this one by speaking: ``rule: [general/overloaded]``."""
        alternatives, vetoes = [], set[str]()
        for item in self.alternatives(value):
            fields = self.table(item, None)
            if "rule" not in fields:
                alternatives.append(self.lines(item))
            elif len(fields) > 1:
                self.fail(item, "`rule` stands beside other fields", "give it an item of its own in a list")
            else:
                vetoes.update(self.texts(fields["rule"]))
        return Condition.of(alternatives) if alternatives else None, frozenset(vetoes)

    def lines(self, value: Value) -> list[Line]:
        lines = []
        for key, item in self.table(value, None).items():
            try:
                lines.append(read_line(key, self.texts(item), self.vocabulary))
            except ConditionError as error:
                self.fail(item, error.what, error.write)
        return lines

    def example(self, value: Value, label: Label | None) -> Example:
        fields = self.table(value, (*EXAMPLE_KEYS, *_ERROR_KEYS))
        error = {key: self.plain(fields[key]) for key in _ERROR_KEYS if key in fields}
        if error and "body" in fields:
            self.fail(value, f"`{next(iter(error))}` stands beside `body`", "write it into the body, or leave that out")
        if "status" not in fields:
            self.fail(value, "the example has no `status`", "write `status: 404` or what the reply had")
        body = self.plain(fields["body"]) if "body" in fields else {"error": error} if error else ""
        texts = {key: self.text(fields[key], empty=True) for key in _TEXTS if key in fields}
        headers = self.table(fields["headers"], None) if "headers" in fields else {}
        reply = Reply(
            status=int(self.number(fields["status"], 100, 599)),
            streamed=self.flag(fields["streamed"]) if "streamed" in fields else False,
            headers=tuple((name, self.text(item, empty=True)) for name, item in headers.items()),
            body=(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode("utf-8", "replace"),
            dialect=texts.get("dialect", ""),
            endpoint=texts.get("endpoint", ""),
            kind=texts.get("kind", "generating"),
            host=texts.get("host", ""),
            alias=texts.get("alias", ""),
            model=texts.get("model", ""),
            event=texts.get("event", ""),
        )
        return Example(reply, value.line, label)

    def plain(self, value: Value) -> object:
        """A value as JSON would have it."""
        match value:
            case Table():
                return {key: self.plain(item) for key, (_, item) in value.entries.items()}
            case Scalar():
                match value.kind:
                    case Kind.NOTHING:
                        return None
                    case Kind.BOOLEAN:
                        return value.text.lower() in ("true", "yes", "on")
                    case Kind.NUMBER if re.fullmatch(r"-?\d{1,18}", value.text):
                        return int(value.text)
                return value.text
        return [self.plain(item) for item in value.items]
