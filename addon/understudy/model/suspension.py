"""What can be taken out of rotation, and the value that says so: keys and suspensions.

A candidate is named by its credential and the concrete upstream model, never by the alias (law 3).
"""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from understudy.codec.record import record
from understudy.model.pool import Candidate, printable
from understudy.model.verdict import Label, Scope

BY_HAND = "by hand"
"""The rule id of a suspension that a person asked for."""


class Key(NamedTuple):
    """What is suspended. ``model`` is empty unless the scope is a candidate.

    ``drill``: for the calls of a drill only, by what the drill made up (H12); no other call looks at it.
    """

    scope: Scope
    name: str
    model: str = ""
    drill: bool = False

    def __str__(self) -> str:
        text = f"{self.scope} {self.name} {printable(self.model)}".rstrip()
        return f"{text} (drill)" if self.drill else text


def key_of(candidate: Candidate, scope: Scope, drill: bool = False) -> Key:
    """The key under which this candidate, its credential or its upstream is suspended."""
    match scope:
        case Scope.CANDIDATE:
            return Key(scope, candidate.credential.name, candidate.model, drill)
        case Scope.CREDENTIAL:
            return Key(scope, candidate.credential.name, "", drill)
        case Scope.UPSTREAM:
            return Key(scope, candidate.upstream.name, "", drill)


def keys_of(candidate: Candidate, drill: bool = False) -> tuple[Key, Key, Key]:
    """All keys that cover a candidate; ``drill``: those of a drill instead."""
    return (
        key_of(candidate, Scope.CANDIDATE, drill),
        key_of(candidate, Scope.CREDENTIAL, drill),
        key_of(candidate, Scope.UPSTREAM, drill),
    )


@record
class Suspension:
    """Out of rotation until ``until``, with the evidence. ``since`` and ``until`` are readings of the clock.

    ``hint`` says where the reply itself named the time, "" where we chose it. ``candidate`` is the one whose reply it
    was, ``generation`` how often its credential had changed by then, ``step`` the step of the ladder, from 0. ``order``
    is the number of the latest failure that confirmed it. ``doubt``: every candidate that was asked refused one request
    alike, so that the request is the suspect (J04); all that are in the same doubt have its number, 0: no doubt.
    """

    key: Key
    since: float
    until: float
    label: Label
    rule: str
    evidence: str = ""
    hint: str = ""
    candidate: str = ""
    generation: int = 0
    step: int = 0
    order: int = field(default=0, compare=False)
    doubt: int = field(default=0, compare=False)

    def confirmed(self, order: int) -> Suspension:
        """The same with another order."""
        return self._made_anew(self.until, order)

    def lasting(self, until: float) -> Suspension:
        """The same with another end."""
        return self._made_anew(until, self.order)

    def _made_anew(self, until: float, order: int) -> Suspension:
        # Written out, because ``replace`` takes several times as long.
        return Suspension(
            self.key,
            self.since,
            until,
            self.label,
            self.rule,
            self.evidence,
            self.hint,
            self.candidate,
            self.generation,
            self.step,
            order,
            self.doubt,
        )

    @property
    def stated(self) -> bool:
        """Whether even a route with a single candidate keeps to it: the reply stated the window, or a hand did."""
        return self.by_hand or (bool(self.hint) and self.label in (Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED))

    @property
    def by_hand(self) -> bool:
        """Whether a person asked for it: then there is no reply behind it."""
        return self.rule == BY_HAND

    @property
    def reason(self) -> str:
        """What was said and by which rule, in a few words."""
        return BY_HAND if self.by_hand else f"{self.label} by {self.rule}"
