"""How much a backtracking search for an expression can cost, read from its parse tree before it is ever run.

Python's engine tries an expression from every start, and goes back to every choice that it has made: how long a
repetition is, which branch. So each part is tried at most once for each way to come to it, and the ways are counted
here: a choice of a length without end multiplies them by the length of the text, a bounded one by its bound. Choices
stand in order, so d of them among n characters are about n^d / d!. Two things keep everyday expressions cheap:

* a repetition of characters that what follows cannot begin with (``[a-z]+ ``) ends in one place only;
* a word that follows a choice is found in few places: ``not`` in a third of them at most.

The result is an upper bound of steps, as a polynomial of the text's length: what ``re`` does is never more.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ENDLESS = 4096
"""A repetition that may run longer than this counts as one without end."""
_TOO_MANY = 1e18  # ways; nothing is counted beyond
_FARTHEST = 8  # characters between two places of a word that are counted on

type Tree = Sequence[tuple[Any, Any]]
"""What ``re`` parses an expression to: operations with their values."""


class TooManyWaysError(ValueError):
    """The ways through the expression grow beyond all bounds."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """In how many ways the engine comes to a place: ``number`` times the places of ``choices`` in the text."""

    number: float = 1.0
    choices: int = 1  # the first is where the search starts
    outer: float = 1.0
    """``number`` before the last choice was made."""
    span: float = math.inf
    """How many lengths the last choice has: what a word behind it thins out; 0 once something else was read."""
    word: str = ""
    """What was read since, letter by letter."""

    def after_choice(self, lengths: float) -> _Ways:
        """With one more choice: of so many lengths, or without end."""
        endless = math.isinf(lengths)
        number = self.number if endless else self.number * lengths
        return _Ways(_countable(number), self.choices + endless, self.number, lengths)

    def after_letter(self, letter: str) -> _Ways:
        """With one more letter behind."""
        if not self.span:
            return self
        word = self.word + letter.lower()
        apart = min(_FARTHEST, _period(word))
        number = self.outer / apart if math.isinf(self.span) else self.outer * math.ceil(self.span / apart)
        return _Ways(number, self.choices, self.outer, self.span, word)

    def after_reading(self) -> _Ways:
        """With something else behind."""
        return _Ways(self.number, self.choices, self.number, 0)


def _together(ends: Sequence[_Ways], number: float) -> _Ways:
    return _Ways(_countable(number), max(end.choices for end in ends)).after_reading()


def _countable(number: float) -> float:
    if not number <= _TOO_MANY:
        raise TooManyWaysError
    return number


class Cost:
    """The steps that a search takes at most. Raises TooManyWaysError where no length of text bounds them."""

    def __init__(self, tree: Any, flags: int) -> None:
        self._terms: dict[int, float] = {}
        self._single: dict[int, bool] = {}
        # Where the dot, lines or ASCII mean something else, nothing is concluded from sets and anchors.
        self._plain = not (flags | _inner_flags(tree)) & ~(re.IGNORECASE | re.UNICODE)
        self._walk(tree, _Ways(), _NOTHING)

    def steps(self, length: int) -> float:
        """For a text of so many characters."""
        return sum(number * _places(length, choices) for choices, number in self._terms.items())

    def longest(self, steps: float, most: int) -> int:
        """The longest text, up to ``most`` characters, that takes at most so many steps."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.steps(middle) <= steps else (low, middle - 1)
        return low

    def _pay(self, ways: _Ways, each: float = 1, more_choices: int = 0) -> None:
        choices = ways.choices + more_choices
        self._terms[choices] = self._terms.get(choices, 0) + ways.number * each

    def _walk(self, tree: Tree, ways: _Ways, follow: _First) -> _Ways:
        """Count the steps of a sequence; the ways to come to its end."""
        for index, (operation, value) in enumerate(tree):
            ways = self._part(str(operation), value, ways, functools.partial(_behind, tree, index, follow))
        return ways

    def _part(self, name: str, value: Any, ways: _Ways, follow: Callable[[], _First]) -> _Ways:
        match name:
            case "LITERAL":
                self._pay(ways)
                return ways.after_letter(chr(value))
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self._repetition(int(value[0]), int(value[1]), list(value[2]), ways, follow())
            case "POSSESSIVE_REPEAT":
                self._repetition(int(value[0]), int(value[1]), list(value[2]), ways, _NOTHING)
            case "SUBPATTERN":
                return self._walk(value[-1], ways, follow())
            case "BRANCH":
                return self._branches(value[1], ways, follow())
            case "GROUPREF_EXISTS":
                return self._branches([part or () for part in value[1:]], ways, follow())
            case "ASSERT" | "ASSERT_NOT":
                self._walk(value[-1], ways, _NOTHING)
                return ways
            case "ATOMIC_GROUP":
                self._walk(value, ways, _NOTHING)
            case "GROUPREF":
                self._pay(ways, more_choices=1)
            case "AT":
                self._pay(ways)
                begins = self._plain and str(value) in ("AT_BEGINNING", "AT_BEGINNING_STRING")
                return _Ways(choices=0).after_reading() if begins and ways == _Ways() else ways
            case _:
                self._pay(ways)
        return ways.after_reading()

    def _repetition(self, least: int, most: int, body: Tree, ways: _Ways, follow: _First) -> _Ways:
        lengths = math.inf if most > ENDLESS else most - least + 1
        again = _first(body)
        if self._comes_back_once(body, again.then(again) | follow):
            inside = ways.after_choice(math.inf if most > ENDLESS else max(1, most)).after_reading()
            self._walk(body, inside, again.then(again) | follow)
        elif most > ENDLESS:
            raise TooManyWaysError
        else:
            return self._unrolled(least, most, body, ways, again.then(again) | follow)
        if lengths == 1:
            return ways.after_reading()
        if self._plain and not again.optional and not again.meets(follow):
            self._pay_for(ways, lengths, each=follow.tries)  # what follows is tried after each length, and fails
            return ways.after_reading()
        return ways.after_choice(lengths)

    def _pay_for(self, ways: _Ways, lengths: float, each: float = 1) -> None:
        if math.isinf(lengths):
            self._pay(ways, each, more_choices=1)
        else:
            self._pay(ways, each * lengths)

    def _comes_back_once(self, body: Tree, follow: _First) -> bool:
        """Whether the engine comes out of it in at most one way for each way in."""
        key = id(body[0]) if body else 0  # parts of one tree, which outlives the count
        if key not in self._single:
            terms, self._terms = self._terms, {}
            after = self._walk(body, _Ways().after_reading(), follow)
            self._terms = terms
            self._single[key] = after.choices == 1 and after.number <= 1
        return self._single[key]

    def _unrolled(self, least: int, most: int, body: Tree, ways: _Ways, follow: _First) -> _Ways:
        ends = [ways] if least == 0 else []
        for count in range(1, most + 1):
            ways = self._walk(body, ways, follow)
            if count >= least:
                ends.append(ways)
        return _together(ends, sum(end.number for end in ends))

    def _branches(self, branches: Sequence[Tree], ways: _Ways, follow: _First) -> _Ways:
        ends = [self._walk(branch, ways, follow) for branch in branches]
        numbers = [end.number for end in ends]
        apart = self._plain and _exclude_each_other(branches)
        return _together(ends, max(numbers) if apart else sum(numbers))


def _places(length: int, choices: int) -> float:
    """How many ways there are to choose so many places in a text, in order; a word's last one may reach beyond."""
    return float((length + _FARTHEST * choices) ** choices) / math.factorial(choices)


def _period(word: str) -> int:
    """How far apart two places at least are at which a word stands (Knuth, Morris and Pratt)."""
    borders = [0] * len(word)
    for index in range(1, len(word)):
        length = borders[index - 1]
        while length and word[index] != word[length]:
            length = borders[length - 1]
        borders[index] = length + (word[index] == word[length])
    return len(word) - borders[-1]


def _inner_flags(tree: Tree) -> int:
    """The flags that groups have of their own."""
    flags = 0
    for operation, value in tree:
        if str(operation) == "SUBPATTERN":
            flags |= int(value[1]) | int(value[2])
        for part in parts(str(operation), value):
            flags |= _inner_flags(part)
    return flags


def parts(name: str, value: Any) -> list[Any]:
    """The sequences inside an operation."""
    match name:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT" | "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
            return [value[-1]]
        case "ATOMIC_GROUP":
            return [value]
        case "BRANCH":
            return list(value[1])
        case "GROUPREF_EXISTS":
            return [part for part in value[1:] if part is not None]
    return []


_CHARACTERS = ("LITERAL", "NOT_LITERAL", "ANY", "IN")


@dataclass(frozen=True, slots=True)
class _First:
    """What something can begin with: character sets, written as ``re`` takes them."""

    sets: frozenset[str] = frozenset()
    optional: bool = True
    """It can be empty."""
    tries: int = 0
    """How many parts of it are tried at most before a character is read."""

    def then(self, other: _First) -> _First:
        """With something behind."""
        if not self.optional:
            return self
        return _First(self.sets | other.sets, other.optional, self.tries + other.tries)

    def __or__(self, other: _First) -> _First:
        return _First(self.sets | other.sets, self.optional or other.optional, self.tries + other.tries)

    def meets(self, other: _First) -> bool:
        """Whether something can begin with both."""
        return any(_meet(one, two) for one in self.sets for two in other.sets)


_NOTHING = _First(tries=1)
"""The end: the search is over, and nothing is tried again."""
_ANYTHING = _First(frozenset((r"[\s\S]",)), tries=1)


def _behind(tree: Tree, index: int, follow: _First) -> _First:
    """What stands behind one part of a sequence."""
    return _first(tree[index + 1 :]).then(follow)


def _first(tree: Tree) -> _First:
    found = _First()
    for operation, value in tree:
        name = str(operation)
        match name:
            case _ if name in _CHARACTERS:
                part = _First(frozenset((_written(name, value),)), optional=False, tries=1)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                inner = _first(value[2])
                part = _First(inner.sets, inner.optional or int(value[0]) == 0, inner.tries + 1)
            case "SUBPATTERN":
                part = _first(value[-1])
            case "ATOMIC_GROUP":
                part = _first(value)
            case "BRANCH":
                part = functools.reduce(_First.__or__, map(_first, value[1]))
            case "AT":
                part = _First(tries=1)
            case _:  # what reads ahead, refers to a group, or is newer than this
                part = _ANYTHING
        found = found.then(part)
        if not found.optional:
            break
    return found


def _written(name: str, value: Any) -> str:
    """A set of characters, as it can be written in an expression."""
    match name:
        case "LITERAL":
            return f"[\\U{value:08x}]"
        case "NOT_LITERAL":
            return f"[^\\U{value:08x}]"
        case "ANY":
            return r"[\s\S]"
    written = ""
    for operation, item in value:
        match str(operation):
            case "NEGATE":
                written += "^"
            case "LITERAL":
                written += f"\\U{item:08x}"
            case "RANGE":
                written += f"\\U{item[0]:08x}-\\U{item[1]:08x}"
            case _:
                written += _CATEGORIES[str(item)]
    return f"[{written}]"


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w", "CATEGORY_NOT_WORD": r"\W",
}  # fmt: skip
_BEYOND = re.compile(r"\\U(?!0000)")


@functools.lru_cache(maxsize=4096)
def _meet(one: str, two: str) -> bool:
    """Whether two sets have a character in common, in whatever case; beyond the basic plane it is taken for granted."""
    if one == two or _BEYOND.search(one) or _BEYOND.search(two):
        return True
    return re.search(two, _members(one), re.IGNORECASE) is not None


@functools.lru_cache(maxsize=256)
def _members(characters: str) -> str:
    # In runs: one text for each character would take 4 MB.
    return "".join(re.findall(f"{characters}+", _alphabet(), re.IGNORECASE))


@functools.lru_cache(maxsize=1)
def _alphabet() -> str:
    # Not joined, for the same reason.
    return array("I", range(1 << 16)).tobytes().decode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass")


def forget() -> None:
    """Let go of what is remembered of the sets of characters so far, up to some MB: it helps with many expressions."""
    for remembered in (_meet, _members, _alphabet):
        remembered.cache_clear()


def _exclude_each_other(branches: Sequence[Tree]) -> bool:
    """Whether at most one of them can match in one place."""
    if all(branch and all(str(operation) == "LITERAL" for operation, _ in branch) for branch in branches):
        words = sorted("".join(chr(value).lower() for _, value in branch) for branch in branches)
        return not any(after.startswith(before) for before, after in itertools.pairwise(words))
    if len(branches) > _MOST_COMPARED:
        return False
    firsts = [_first(branch) for branch in branches]
    return not any(
        one.optional or other.optional or one.meets(other)
        for index, one in enumerate(firsts)
        for other in firsts[index + 1 :]
    )


_MOST_COMPARED = 40
