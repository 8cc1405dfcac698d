"""One line of a rule's condition -> a test of a reply, quick enough to run for every rule and every reply.

A test sees a reply and one of its errors in lower case (`Reply.said`). It also keeps what was written and can say what
it saw, so that people can be told why a rule kept silent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import partial

from understudy.codec.patterns import MOST_SEARCHED, compile_pattern, needles, searched
from understudy.replies import ErrorInfo, Reply
from understudy.rules.listening import Listener
from understudy.rules.phrases import PhraseError
from understudy.rules.vocabulary import Vocabulary

INFO_FIELDS = ("code", "type", "param", "message")
CODE_OR_TYPE = "code-or-type"
MODIFIERS = ("contains", "re", "glob", "says", "says-not")
SERVED_MODEL = "served_model"
"""The model that a success names, where that is another one than was sent."""
PLACES = "status, code, type, code-or-type, param, message, text, served_model, header.<name> or json.<path>"

type Test = Callable[[Reply, ErrorInfo], bool]
"""Whether a condition holds."""


class ConditionError(ValueError):
    """A line that means nothing: what is wrong, and what to write instead."""

    def __init__(self, what: str, write: str) -> None:
        super().__init__(what)
        self.what = what
        self.write = write


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a condition: ``message|contains: [a, b]``; the values are alternatives."""

    place: str
    modifier: str
    values: tuple[str, ...]
    test: Test = field(compare=False, repr=False)
    read: Callable[[Reply, ErrorInfo], str] = field(compare=False, repr=False)
    """What a reply has in this place, for people."""
    price: int = 0
    """How much it costs to try; the cheapest are tried first."""
    holds: Callable[[str], bool] = field(default=lambda text: False, compare=False, repr=False)
    """The test of a text alone, of a line about the value of one place."""
    listener: Listener | None = None
    """Of a line with ``says``: what hears its phrases."""
    bits: int = 0
    """The bits of its phrases in what the listener hears."""
    heard: Callable[[Reply, ErrorInfo], str] = field(default=lambda reply, info: "", compare=False, repr=False)
    """Which of its phrases a reply has in this place, and where; "" for a line without phrases."""

    def __str__(self) -> str:
        name = f"{self.place}|{self.modifier}" if self.modifier else self.place
        more = f" (or one of {len(self.values) - 1} more)" if len(self.values) > 1 else ""
        value = self.values[0]
        return f"{name}: {value if len(value) <= 60 else value[:57] + '...'}{more}"


@dataclass(frozen=True, slots=True)
class Condition:
    """OR over alternatives, each the AND of its tests, the cheapest first. One alternative is about one error."""

    alternatives: tuple[tuple[Test, ...], ...]
    lines: tuple[tuple[Line, ...], ...] = ()
    """The alternatives as they were written."""

    @classmethod
    def of(cls, alternatives: Sequence[Sequence[Line]]) -> Condition:
        """From what was written."""
        ordered = tuple(tuple(sorted(lines, key=lambda line: line.price)) for lines in alternatives)
        return cls(tuple(tuple(line.test for line in lines) for lines in ordered), ordered)

    def holds(self, reply: Reply, info: ErrorInfo) -> bool:
        """Whether one alternative holds altogether."""
        for tests in self.alternatives:  # plain loops: this is the innermost part of judging
            for test in tests:
                if not test(reply, info):
                    break
            else:
                return True
        return False


def read_line(key: str, values: Sequence[str], vocabulary: Vocabulary | None = None) -> Line:
    """``key: values`` of a condition; ``vocabulary`` is what ``says`` speaks. Raises ConditionError."""
    place, bar, modifier = key.partition("|")
    if bar and modifier not in MODIFIERS:
        raise ConditionError(f"the modifier `{modifier[:60]}` is not known", f"write one of {', '.join(MODIFIERS)}")
    written = tuple(values)
    if place == "status":
        if bar:
            raise ConditionError("`status` takes no modifier", "write numbers or a class such as 4xx")
        wanted = statuses_of(written)
        return Line(
            place, "", written, lambda reply, info: reply.status in wanted, lambda reply, info: str(reply.status)
        )
    if place not in (*INFO_FIELDS, CODE_OR_TYPE, "text", SERVED_MODEL) and not re.fullmatch(
        r"(?:header|json)\.\S+", place
    ):
        raise ConditionError(f"the field `{place[:60]}` is not known", f"write {PLACES}")
    if modifier in ("says", "says-not"):
        return _phrase_line(place, modifier, written, vocabulary or Vocabulary())
    if place == CODE_OR_TYPE:
        raise ConditionError(f"`{place}` takes only `says`", f"write `{place}|says`, or `code` and `type`")
    price = 1 if place in INFO_FIELDS[:3] else 2 if not bar or modifier == "contains" else 3
    if place not in INFO_FIELDS:
        price += 3
    holds = _value_test(modifier, written)
    test, read = _place_test(place, holds)
    if modifier == "re" and place.startswith("json."):
        test = _values_together(tuple(place.removeprefix("json.").split(".")), holds)
    return Line(place, modifier, written, test, read, price, holds)


def _phrase_line(place: str, modifier: str, written: tuple[str, ...], vocabulary: Vocabulary) -> Line:
    """``message|says`` and its like: phrases of the vocabulary, all of which are heard in one pass (``listening``)."""
    wanted = 0
    for phrase in written:
        try:
            wanted |= vocabulary.listen(phrase)
        except PhraseError as error:
            raise ConditionError(f"`{phrase[:60]}`: {error.what}", error.write) from None
    listener = vocabulary.listener

    def hears(reply: Reply, text: str) -> bool:
        if not text:
            return False
        return bool(hear_once(reply, listener, text) & wanted)

    read = _spelling(place)

    def heard(reply: Reply, info: ErrorInfo) -> str:
        text = read(reply, info)
        return next((f"`{phrase}` in {found}" for phrase in written if (found := vocabulary.heard(phrase, text))), "")

    if modifier == "says-not":
        return Line(place, modifier, written, lambda reply, info: not hears(reply, read(reply, info)), read, 6)
    price = 1 if place in INFO_FIELDS or place == CODE_OR_TYPE else 5
    test: Test = lambda reply, info: hears(reply, read(reply, info))  # noqa: E731  as the other tests here
    if place == "message":
        test = lambda reply, info: bool(info.message and hear_once(reply, listener, info.message) & wanted)  # noqa: E731
    return Line(place, modifier, written, test, read, price, listener=listener, bits=wanted, heard=heard)


def hear_once(reply: Reply, listener: Listener, text: str) -> int:
    """The bits of all phrases that a listener hears in a text of this reply, however often it is asked."""
    memory = reply.heard.get(listener)
    if memory is None:
        memory = reply.heard[listener] = {}
    heard = memory.get(text)
    if heard is None:
        heard = memory[text] = listener.hears(text)
    return heard


def pieces_of(line: Line) -> frozenset[str]:
    """Texts (lower case) of which a value must hold one for this line to hold; none where that is not known."""
    found: set[str] = set()
    for value in line.values:
        match line.modifier:
            case "contains":
                found.add(value.lower())
            case "re" if sets := needles(value):
                found |= sets[0]
            case _:
                return frozenset()
    return frozenset() if "" in found else frozenset(found)


def heard_in_errors(reply: Reply, listener: Listener) -> int:
    """The bits of all phrases that a listener hears in any message, code or type of a reply's errors."""
    found = 0
    for info in reply.said:
        if info.message:
            found |= hear_once(reply, listener, info.message)
        if info.code:
            found |= hear_once(reply, listener, reply.spelled_out(info.code))
        if info.type:
            found |= hear_once(reply, listener, reply.spelled_out(info.type))
            if info.code:
                found |= hear_once(reply, listener, _code_or_type(reply, info))
    return found


def _code_or_type(reply: Reply, info: ErrorInfo) -> str:
    """Both, spelled out, with a full stop between them."""
    return " . ".join([reply.spelled_out(word) for word in (info.code, info.type) if word])


def _spelling(place: str) -> Callable[[Reply, ErrorInfo], str]:
    """What a place says, in words: codes are spelled out, with a full stop between a code and a type."""
    match place:
        case "message":
            return lambda reply, info: info.message
        case "code":
            return lambda reply, info: reply.spelled_out(info.code)
        case "type":
            return lambda reply, info: reply.spelled_out(info.type)
        case "code-or-type":
            return _code_or_type
    _, read = _place_test(place, lambda text: False)
    return lambda reply, info: read(reply, info)[:_MOST_HEARD]


_MOST_HEARD = 8192  # characters of a body, a header or a value that are listened to


def statuses_of(values: Sequence[str]) -> frozenset[int]:
    wanted: set[int] = set()
    for value in values:
        if re.fullmatch(r"[1-5]xx", value.lower()):
            wanted.update(range(int(value[0]) * 100, int(value[0]) * 100 + 100))
        elif re.fullmatch(r"[1-9]\d\d", value):
            wanted.add(int(value))
        else:
            raise ConditionError(f"`{value[:60]}` is not a status", "write a number such as 404 or a class such as 4xx")
    return frozenset(wanted)


def _place_test(place: str, holds: Callable[[str], bool]) -> tuple[Test, Callable[[Reply, ErrorInfo], str]]:
    match place:
        case "code":
            return lambda reply, info: holds(info.code), lambda reply, info: info.code
        case "type":
            return lambda reply, info: holds(info.type), lambda reply, info: info.type
        case "param":
            return lambda reply, info: holds(info.param), lambda reply, info: info.param
        case "message":
            return lambda reply, info: holds(info.message), lambda reply, info: info.message
        case "text":
            return lambda reply, info: holds(reply.folded_text), lambda reply, info: reply.folded_text
        case "served_model":
            return (
                lambda reply, info: bool(reply.served_model) and holds(reply.served_model.lower()),
                lambda reply, info: reply.served_model,
            )
    kind, _, name = place.partition(".")
    if kind == "header":
        return (
            lambda reply, info: holds(reply.header(name).lower()),
            lambda reply, info: reply.header(name).lower(),
        )
    keys = tuple(name.split("."))
    return (
        lambda reply, info: any(holds(text) for text in _leaves(reply.follow(keys))),
        lambda reply, info: ", ".join(_leaves(reply.follow(keys))),
    )


def _value_test(modifier: str, values: Sequence[str]) -> Callable[[str], bool]:
    """A test of one text in lower case. Several values are alternatives."""
    match modifier:
        case "":
            wanted = frozenset(value.lower() for value in values)
            return lambda text: text in wanted
        case "contains":
            return partial(_contains_one, tuple(value.lower() for value in values))
        case "glob":  # linear: every part of it is found once
            return _match_one([((), re.compile(translate(value.lower())).match, sys.maxsize) for value in values])
    tries = []
    for value in values:
        try:
            search, most = compile_pattern(value).search, searched(value)
        except ValueError as error:
            raise ConditionError(str(error), "write an expression without it") from None
        tries.append((tuple(tuple(words) for words in needles(value)), search, most))
    return _match_one(tries)


type _Search = Callable[[str, int, int], re.Match[str] | None]
type _Needles = tuple[tuple[str, ...], ...]


def _contains_one(values: tuple[str, ...], text: str) -> bool:
    for value in values:  # noqa: SIM110  a plain loop: this runs for every rule and every reply
        if value in text:
            return True
    return False


def _match_one(tries: Sequence[tuple[_Needles, _Search, int]]) -> Callable[[str], bool]:
    """Whether one expression is found in the characters that it may be searched in.

    Those whose necessary words are not in the text are not even started.
    """
    empty = any(search("", 0, 0) is not None for _, search, _ in tries)
    every = tuple(tries)

    def holds(text: str) -> bool:
        if not text:
            return empty
        for needed, search, most in every:  # plain loops, as above
            for words in needed:
                for word in words:
                    if word in text:
                        break
                else:
                    break
            else:
                if search(text, 0, most) is not None:
                    return True
        return False

    return holds


def _values_together(keys: tuple[str, ...], holds: Callable[[str], bool]) -> Test:
    """A test of the values at a path, which all together are no longer than one text."""

    def test(reply: Reply, info: ErrorInfo) -> bool:
        left = MOST_SEARCHED
        for text in _leaves(reply.follow(keys)):
            if holds(text[:left]):
                return True
            left -= len(text)
            if left <= 0:
                break
        return False

    return test


def _leaves(value: object | None) -> list[str]:
    """The scalars that a path led to, as lower-case texts; nothing for what is absent, null or a mapping."""
    match value:
        case bool():
            return ["true" if value else "false"]
        case str() | float():
            return [str(value).lower()]
        case int() if abs(value) < 1 << 63:
            return [str(value)]
        case list():
            return [leaf for item in value[:64] if not isinstance(item, list) for leaf in _leaves(item)]
    return []
