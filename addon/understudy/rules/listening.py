"""Hearing every phrase of every rule in one pass over the words of a text.

All phrases together are one automaton, made while it is used: each word leads from one set of open phrases to the
next, and a set that was met before is not worked out again. So a text costs time in proportion to its words, however
many phrases there are and whatever a peer writes; nothing is ever tried twice.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from understudy.rules.phrases import (
    BREAKS,
    Choice,
    Ending,
    Gap,
    Kind,
    Label,
    Node,
    NoneOf,
    OneOf,
    Word,
    hear,
    hear_chunk,
    is_parameter,
    kinds_of,
)
from understudy.rules.phrases import Sequence as InTurn

MOST_SETS = 6000
"""Sets of open phrases that are remembered; with more, all are forgotten and met anew."""
MOST_CHUNKS, LONGEST_CHUNK = 8192, 40
"""Texts without spaces that are remembered, and the characters of the longest one."""
MOST_SHORT, LONGEST_SHORT = 512, 160
"""Texts of which is remembered what they say, such as codes in words and the sentences that a vendor says again and
again, and the characters of the longest one."""


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """What the automaton can tell of one heard word. One object for each, so that they are quickly told apart."""

    word: str = ""
    name: bool = False
    number: bool = False
    endings: frozenset[str] = frozenset()
    parameter: bool = False
    inside: bool = True
    """Whether it is a word, not an end of a sentence or of the text."""


NOWHERE: tuple[frozenset[int], int] = (frozenset(), 0)
"""No phrase is open, none complete."""
BEGINNING, END, BREAK = Symbol("^", inside=False), Symbol("$", inside=False), Symbol(".", inside=False)


def _fits(label: Label, symbol: Symbol) -> bool:
    match label:
        case Word(text):
            return symbol.word == text and symbol.inside
        case OneOf(words):
            return symbol.word in words and symbol.inside
        case Ending(text):
            return text in symbol.endings
        case NoneOf(words, inside):
            return symbol.word not in words and (symbol.inside or not inside)
        case Kind("^"):
            return symbol is BEGINNING
        case Kind("$"):
            return symbol is END
        case Kind("a-name"):
            return symbol.name
        case Kind("a-number"):
            return symbol.number
        case Kind("a-parameter"):
            return symbol.parameter
    return symbol.inside  # "*"


ANY = Kind("*")


class _Graph:
    """States, each with at most one labelled way out, and ways that cost no word. State 0 is where every phrase begins.

    There are some ten thousand states: what is known of all of them stands in arrays, not in an object for each.
    """

    __slots__ = ("_first", "_ways", "beyond", "ends", "labels", "same", "targets")

    def __init__(self) -> None:
        self.labels: list[Label | None] = []
        self.targets = array("i")
        """Where the labelled way of a state leads, -1 without one."""
        self.ends: dict[int, int] = {}
        """State -> the bit of the phrase that is complete there."""
        self.beyond: dict[int, tuple[frozenset[int], int]] = {}
        """State -> the labelled states that can be reached from it without a word, and the bits complete then."""
        self._first = array("i")
        """State -> where in ``_ways`` its latest way without a word stands, -1 without one."""
        self._ways = array("i")
        """Two numbers for each way: the state that it leads to, and where the next way of the same state stands."""
        self.same: dict[Label, Label] = {}
        """The labels so far, so that equal ones are one object; may be emptied when nothing more is added."""

    def state(self) -> int:
        self.labels.append(None)
        self.targets.append(-1)
        self._first.append(-1)
        return len(self.labels) - 1

    def join(self, start: int, end: int) -> None:
        """Lead from one state to another without a word."""
        self._ways.extend((end, self._first[start]))
        self._first[start] = len(self._ways) - 2

    def add(self, node: Node, start: int, end: int = -1) -> int:
        """The state behind a phrase from ``start``, which has no labelled way: ``end``, or with -1 a new one."""
        match node:
            case InTurn(()):
                if end < 0:
                    return start
                self.join(start, end)
                return end
            case InTurn(parts):
                for part in parts[:-1]:
                    start = self.add(part, start)
                return self.add(parts[-1], start, end)
        end = self.state() if end < 0 else end
        match node:
            case Choice(options):
                for option in options:
                    begun = self.state()
                    self.join(start, begun)
                    self.add(option, begun, end)
            case Gap():
                self.labels[start], self.targets[start] = ANY, start
                self.join(start, end)
            case Word() | OneOf() | Ending() | Kind() | NoneOf():
                self.labels[start], self.targets[start] = self.same.setdefault(node, node), end
            case _:
                raise TypeError(node)  # a name has to be expanded first
        return end

    def open_from(self, state: int) -> tuple[frozenset[int], int]:
        """See ``beyond``, which this fills."""
        if (known := self.beyond.get(state)) is None:
            reached, complete = self.reach((state,)), 0
            for each in reached:
                complete |= self.ends.get(each, 0)
            known = frozenset(each for each in reached if self.labels[each] is not None), complete
            self.beyond[state] = known
        return known

    def follow(self, states: Iterable[int], symbol: Symbol) -> set[int]:
        """Where a word leads from these states."""
        labels = self.labels
        return {self.targets[each] for each in states if (label := labels[each]) is not None and _fits(label, symbol)}

    def reach(self, states: Iterable[int]) -> set[int]:
        """These states and all that can be reached without a word."""
        first, ways = self._first, self._ways
        found, left = set(states), list(states)
        while left:
            at = first[left.pop()]
            while at >= 0:
                other = ways[at]
                if other not in found:
                    found.add(other)
                    left.append(other)
                at = ways[at + 1]
        return found


class _Set(dict[Symbol, "_Set"]):
    """A set of open phrases: where each word leads from here, and which phrases are complete here."""

    __slots__ = ("complete", "listener", "states")

    def __init__(self, listener: Listener, states: frozenset[int], complete: int) -> None:
        super().__init__()
        self.listener = listener
        self.states = states
        self.complete = complete

    def __missing__(self, symbol: Symbol) -> _Set:
        after = self[symbol] = self.listener.after(self.states, symbol)
        return after

    __hash__ = object.__hash__  # type: ignore[assignment]


class Listener:
    """Phrases, each with a bit of its own, and the one pass that hears which of them a text holds."""

    def __init__(self) -> None:
        self._graph = _Graph()
        self._start = self._graph.state()
        self._count = 0
        self._bits: dict[Node, int] = {}
        self._chunks: dict[str, tuple[Symbol, ...]] = {}
        self._short: dict[str, int] = {}
        self._told_apart: dict[tuple[str, bool, bool, frozenset[str], bool], Symbol] = {}
        self._words: set[str] | None = None
        self._endings: set[str] = set()
        self._first: tuple[dict[str, list[int]], list[int]] | None = None
        self._begun: dict[Symbol, set[int]] = {}
        self._sets: dict[tuple[frozenset[int], int], _Set] = {}
        self._forget()

    def add(self, phrase: Node) -> int:
        """A phrase without names; its bit (1, 2, 4 ...)."""
        bit = self._bits.get(phrase)
        if bit is None:
            bit = self._bits[phrase] = 1 << self._count
            self._count += 1
            begun = self._graph.state()  # its own: a phrase may come back to where it began
            self._graph.join(self._start, begun)
            self._graph.ends[self._graph.add(phrase, begun)] = bit
            self._forget()
        return bit

    def prepare(self) -> None:
        """Work out now what every text needs, so that the first one does not wait for it.

        Of the phrases themselves nothing is kept: one that is added once more gets a bit of its own.
        """
        self._bits.clear()
        self._graph.same.clear()
        if self._words is None:
            self._words, self._endings = self._alphabet()
        if self._first is None:
            self._first = self._index()

    def hears(self, text: str) -> int:
        """The bits of all phrases in a text that is in lower case with single spaces."""
        short = self._short
        if (found := short.get(text, -1)) >= 0:
            return found
        chunks = self._chunks
        symbols = [BEGINNING]
        for chunk in text.split():
            known = chunks.get(chunk)
            symbols += known if known is not None else self._chunk(chunk)
        if symbols[-1] is BREAK:
            symbols.pop()
        symbols.append(END)
        here, found = self._sets[NOWHERE], 0
        for symbol in symbols:
            here = here[symbol]
            if here.complete:
                found |= here.complete
        if len(text) <= LONGEST_SHORT:
            if len(short) >= MOST_SHORT:
                short.clear()
            short[text] = found
        return found

    def after(self, states: frozenset[int], symbol: Symbol) -> _Set:
        """Where a word leads from a set of open phrases; every phrase may begin with it as well."""
        graph = self._graph
        if (begun := self._begun.get(symbol)) is None:
            if self._first is None:
                self._first = self._index()
            by_word, others = self._first
            firsts = [*by_word.get(symbol.word, ()), *others]
            begun = graph.follow(firsts, symbol)
            self._begun[symbol] = begun
        reached: set[int] = set()
        complete = 0
        for target in begun | graph.follow(states, symbol):
            beyond, ends = graph.open_from(target)
            reached |= beyond
            complete |= ends
        key = (frozenset(reached), complete)
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) > MOST_SETS:
                self._forget_sets()
            found = self._sets[key] = _Set(self, *key)
        return found

    def _index(self) -> tuple[dict[str, list[int]], list[int]]:
        """The states in which a phrase may begin, by their word where they have one."""
        by_word: dict[str, list[int]] = defaultdict(list)
        others: list[int] = []
        for each in self._graph.reach([self._start]):
            match self._graph.labels[each]:
                case None:
                    pass
                case Word(text):
                    by_word[text].append(each)
                case OneOf(words):
                    for text in words:
                        by_word[text].append(each)
                case _:
                    others.append(each)
        return by_word, others

    def _chunk(self, chunk: str) -> tuple[Symbol, ...]:
        """The symbols of a text without spaces."""
        symbols = tuple(self._symbol(heard) for heard in hear_chunk(chunk))
        if len(chunk) <= LONGEST_CHUNK:
            if len(self._chunks) >= MOST_CHUNKS:
                self._chunks.clear()
            self._chunks[chunk] = symbols
        return symbols

    def _symbol(self, heard: str) -> Symbol:
        if heard in BREAKS:
            return BREAK
        word, name, number = kinds_of(heard)
        if self._words is None:
            self._words, self._endings = self._alphabet()
        endings = frozenset(each for each in self._endings if word.endswith(each))
        known = (word if word in self._words else "", name, number, endings, is_parameter(word))
        return self._told_apart.setdefault(known, Symbol(*known))

    def _alphabet(self) -> tuple[set[str], set[str]]:
        """The words and the endings that phrases ask for."""
        words: set[str] = set()
        endings: set[str] = set()
        for label in self._graph.labels:
            match label:
                case Word(text):
                    words.add(text)
                case OneOf(several) | NoneOf(several, _):
                    words |= several
                case Ending(text):
                    endings.add(text)
        return words, endings

    def _forget(self) -> None:
        """Another phrase has come: what was worked out is not complete any more."""
        self._chunks, self._short, self._told_apart, self._begun = {}, {}, {}, {}
        self._words, self._first = None, None
        self._graph.beyond.clear()
        self._forget_sets()

    def _forget_sets(self) -> None:
        for each in self._sets.values():
            each.clear()
        self._sets.clear()
        self._sets[NOWHERE] = _Set(self, *NOWHERE)


def find(phrase: Node, text: str) -> str:
    """The first and then longest passage of a text that a phrase without names matches, for people; "" when none."""
    graph = _Graph()
    start = graph.state()
    end = graph.add(phrase, start)
    heard = hear(text)
    symbols = [BEGINNING, *(_alone(each) for each in heard), END]
    for first in range(len(symbols)):
        states, longest = graph.reach([start]), -1
        for at in range(first, len(symbols)):
            states = graph.reach(graph.follow(states, symbols[at]))
            if end in states:
                longest = at
            if not states:
                break
        if longest >= 0:
            return " ".join(heard[max(0, first - 1) : longest])
    return ""


def _alone(heard: str) -> Symbol:
    if heard in BREAKS:
        return BREAK
    word, name, number = kinds_of(heard)
    endings = frozenset(word[at:] for at, char in enumerate(word) if char == "_")
    return Symbol(word, name, number, endings, is_parameter(word))
