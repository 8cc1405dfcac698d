"""Which rules are worth asking about a reply: most are about one host, or about codes that the reply does not carry.

What is left out could not have spoken, and the order of the others stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from understudy.replies import Reply
from understudy.rules.speaker import Rule, Speaker

MOST_PLACES = 256
"""Places (host, dialect, kind) that are remembered."""


class Index:
    """Rules in their order, by the places where they apply and the exact codes and types that they need."""

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


class _Place:
    def __init__(self, rules: Iterable[Speaker]) -> None:
        self._rules = list(rules)
        self._always: list[int] = []
        self._by_word: dict[str, list[int]] = {}
        for number, rule in enumerate(self._rules):
            words = needed_words(rule)
            if words is None:
                self._always.append(number)
            for word in words or ():
                self._by_word.setdefault(word, []).append(number)
        self._always_asked = [self._rules[number] for number in self._always]

    def asked(self, reply: Reply) -> list[Speaker]:
        found: set[int] = set()
        for info in reply.said:
            for word in (info.code, info.type):
                if word in self._by_word:
                    found.update(self._by_word[word])
        if not found:
            return self._always_asked
        return [self._rules[number] for number in sorted(found.union(self._always))]


def needed_words(rule: Speaker) -> frozenset[str] | None:
    """Codes and types of which a reply has to carry one, whole and in lower case; None when the rule needs none."""
    if not isinstance(rule, Rule) or not rule.when.lines:
        return None
    needed: set[str] = set()
    for lines in rule.when.lines:
        exact = [line for line in lines if line.place in ("code", "type") and not line.modifier and all(line.values)]
        if not exact:
            return None
        needed.update(value.lower() for value in exact[0].values)
    return frozenset(needed)
