"""What a rule is: who may speak about a reply, and a rule that is data.

``ruleset`` asks them; ``yaml_rule`` and ``python_rule`` make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Protocol

from understudy.model import AS_USUAL, Label, Then, Verdict
from understudy.replies import ErrorInfo, Reply
from understudy.rules.conditions import SERVED_MODEL, Condition


class Status(StrEnum):
    """Whether a rule acts. Drafts are loaded and checked, and never act."""

    STABLE = "stable"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class AppliesTo:
    """Where a rule is asked at all. Empty: everywhere. Hosts are globs; all in lower case."""

    dialects: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def covers(self, reply: Reply) -> bool:
        """Whether this reply came from there."""
        return (
            (not self.dialects or reply.dialect.lower() in self.dialects)
            and (not self.kinds or reply.kind.lower() in self.kinds)
            and (not self.hosts or any(fnmatchcase(reply.host.lower(), host) for host in self.hosts))
        )


EVERYWHERE = AppliesTo()
FALLBACK = "fallback"
"""The folder of the rules that are asked last, about status or type alone; what they say is open."""


@dataclass(frozen=True, slots=True)
class Example:
    """A reply that a rule file shows, the line it stands on, and the label it has to get; None: another than that."""

    reply: Reply
    line: int
    label: Label | None = None


class Speaker(Protocol):
    """What a ruleset asks: a rule that is data, or one that is a Python module."""

    @property
    def id(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def status(self) -> Status: ...
    @property
    def labels(self) -> tuple[Label, ...]: ...
    @property
    def matches(self) -> tuple[Example, ...]: ...
    @property
    def near_misses(self) -> tuple[Example, ...]: ...
    @property
    def vetoed_by(self) -> frozenset[str]: ...
    def speak(self, reply: Reply) -> Verdict | None:
        """The verdict of this rule alone, without ``names_model``; None when it is silent. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One label of one vendor, with its own examples."""

    id: str
    label: Label
    about: str
    source: str
    when: Condition
    status: Status = Status.STABLE
    applies_to: AppliesTo = EVERYWHERE
    unless: Condition | None = None
    vetoed_by: frozenset[str] = frozenset()
    """The ids of rules of the same folder: where one of them speaks, this one does not."""
    then: Then = AS_USUAL
    certain: bool = True
    """Whether its verdicts are: words say so, not only a status or a type that means anything."""
    matches: tuple[Example, ...] = ()
    near_misses: tuple[Example, ...] = ()

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels it can give."""
        return (self.label,)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The phrases of its lines with `says`, as they are written."""
        lines = [line for each in (self.when, self.unless) if each for lines in each.lines for line in lines]
        return tuple(phrase for line in lines if line.modifier.startswith("says") for phrase in line.values)

    @property
    def asks_served_model(self) -> bool:
        """Whether it speaks about successes that name another model than was sent, and about nothing else."""
        return any(line.place == SERVED_MODEL for lines in self.when.lines for line in lines)

    def find(self, reply: Reply) -> int | None:
        """The index of the error that this rule speaks about, None when it is silent. `unless` looks at all errors."""
        if self.applies_to is not EVERYWHERE and not self.applies_to.covers(reply):
            return None
        infos = reply.said or _NOTHING_SAID
        for index, info in enumerate(infos):
            if self.when.holds(reply, info):
                unless = self.unless
                vetoed = unless is not None and [other for other in infos if unless.holds(reply, other)]
                return None if vetoed else index
        return None

    def speak(self, reply: Reply) -> Verdict | None:
        """The verdict of this rule alone."""
        index = self.find(reply)
        if index is None:
            return None
        return Verdict(self.label, self.id, evidence_of(reply, index), self.then, certain=self.certain)

    def matches_reply(self, reply: Reply) -> bool:
        """Whether it speaks."""
        return self.find(reply) is not None


_NOTHING_SAID = (ErrorInfo(),)


def evidence_of(reply: Reply, index: int) -> str:
    """Status, code or type, and message of one of a reply's errors, as one line of at most 200 characters."""
    info = reply.errors[index] if index < len(reply.errors) else ErrorInfo()
    word = info.code if info.code and not info.code.isdecimal() else info.type or info.code
    return one_line(": ".join([part for part in (f"HTTP {reply.status}", word, info.message[:400]) if part]))


def one_line(text: str) -> str:
    text = text[:800]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
