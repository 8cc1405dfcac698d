"""Which rules are worth asking about a reply: most are about one host, or about words that the reply does not hold.

What is left out could not have spoken, and the order of the others stays as it is. A rule speaks only where one of its
alternatives holds, and of an alternative that asks for a code, a status or a phrase it is enough to look for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from understudy.replies import Reply
from understudy.rules.conditions import CODE_OR_TYPE, INFO_FIELDS, Line, heard_in_errors, pieces_of, statuses_of
from understudy.rules.listening import Listener
from understudy.rules.speaker import Rule, Speaker

MOST_PLACES = 256
"""Places (host, dialect, kind) that are remembered."""


class Index:
    """Rules in their order, by the places where they apply and by what each needs of a reply."""

    def __init__(self, rules: Sequence[Speaker]) -> None:
        self._rules = tuple(rules)
        self._places: dict[tuple[str, str, str], _Place] = {}

    def asked(self, reply: Reply) -> list[Speaker]:
        """The rules that could speak about this reply."""
        where = (reply.host, reply.dialect, reply.kind)
        place = self._places.get(where)
        if place is None:
            if len(self._places) >= MOST_PLACES:
                self._places.clear()
            covering = (rule for rule in self._rules if not isinstance(rule, Rule) or rule.applies_to.covers(reply))
            place = self._places[where] = _Place(covering)
        return place.asked(reply)


@dataclass(slots=True)
class Needs:
    """One of these a reply must have, or the rule is silent."""

    words: set[str] = field(default_factory=set)
    """Whole codes or types, in lower case."""
    statuses: set[int] = field(default_factory=set)
    bits: dict[Listener, int] = field(default_factory=dict)
    """Phrases in a message, a code or a type, by who hears them."""
    pieces: set[str] = field(default_factory=set)
    """Pieces of a message, in lower case."""
    members: set[str] = field(default_factory=set)
    """Keys at the top of the body."""
    places: set[str] = field(default_factory=set)
    """``code``, ``type`` or ``param`` that is there at all."""


def needs_of(rule: Speaker) -> Needs | None:
    """What a reply must have for this rule to speak; None when nothing can be said of it beforehand."""
    if not isinstance(rule, Rule) or not rule.when.lines:
        return None
    needs = Needs()
    for lines in rule.when.lines:
        if not _add(needs, lines):
            return None
    return needs


def _add(needs: Needs, lines: Iterable[Line]) -> bool:
    """Add what one alternative needs; False when that is nothing of the kind."""
    lines = tuple(lines)
    for line in lines:
        if line.place in ("code", "type") and not line.modifier and all(line.values):
            needs.words.update(value.lower() for value in line.values)
            return True
    for line in lines:
        if line.listener is not None and (line.place in INFO_FIELDS or line.place == CODE_OR_TYPE):
            needs.bits[line.listener] = needs.bits.get(line.listener, 0) | line.bits
            return True
    for line in lines:
        if line.place == "message" and (pieces := pieces_of(line)):
            needs.pieces |= pieces
            return True
    for line in lines:
        if line.place.startswith("json.") and (key := line.place.split(".")[1]) != "*" and not key.isdecimal():
            needs.members.add(key)
            return True
    for line in lines:
        if line.place in ("code", "type", "param") and not line.listener and not line.holds(""):
            needs.places.add(line.place)
            return True
    for line in lines:
        if line.place == "status":
            needs.statuses.update(statuses_of(line.values))
            return True
    return False


class _Place:
    def __init__(self, rules: Iterable[Speaker]) -> None:
        self._rules = list(rules)
        self._always: set[int] = set()
        self._by_word: dict[str, list[int]] = {}
        self._by_status: dict[int, list[int]] = {}
        self._by_bits: dict[Listener, list[tuple[int, int]]] = {}
        self._by_piece: dict[str, list[int]] = {}
        self._by_member: dict[str, list[int]] = {}
        self._with: dict[str, list[int]] = {"code": [], "type": [], "param": []}
        for number, rule in enumerate(self._rules):
            needs = needs_of(rule)
            if needs is None:
                self._always.add(number)
                continue
            for word in needs.words:
                self._by_word.setdefault(word, []).append(number)
            for status in needs.statuses:
                self._by_status.setdefault(status, []).append(number)
            for piece in needs.pieces:
                self._by_piece.setdefault(piece, []).append(number)
            for key in needs.members:
                self._by_member.setdefault(key, []).append(number)
            for name in needs.places:
                self._with[name].append(number)
            for listener, bits in needs.bits.items():
                self._by_bits.setdefault(listener, []).append((number, bits))

    def asked(self, reply: Reply) -> list[Speaker]:
        found = self._always.union(self._by_status.get(reply.status, ()))
        for info in reply.said:
            for name, word in (("code", info.code), ("type", info.type)):
                if word:
                    found.update(self._with[name])
                    found.update(self._by_word.get(word, ()))
            if info.param:
                found.update(self._with["param"])
            message = info.message
            for piece, numbers in self._by_piece.items():
                if piece in message:
                    found.update(numbers)
        if self._by_member:
            body = reply.json
            if isinstance(body, list) and len(body) == 1:
                body = body[0]  # as Reply.follow does
            if isinstance(body, dict):
                for key, numbers in self._by_member.items():
                    if key in body:
                        found.update(numbers)
        for listener, needing in self._by_bits.items():
            if heard := heard_in_errors(reply, listener):
                found.update([number for number, bits in needing if heard & bits])
        return [self._rules[number] for number in sorted(found)]
