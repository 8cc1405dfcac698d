"""What a reply means: rules look at its unwrapped error, and at most one of them speaks.

Laws of this module:
- a verdict is a pure function of the reply: no clock, no memory, no exception;
- the owner's folders before the shipped one; in a folder, a vendor's rules before `general`, these before `fallback`;
- among these, no two labels for one reply: a rule names the rules that veto it (`unless: {rule: ...}`). Where two that
  do not know each other speak all the same, the one that does less harm does, and `understudy rules test` fails;
- a 2xx is judged by its structure: words in it prove nothing;
- a verdict is certain where words made it, open where only a status or a type did, or nothing;
- what nothing recognises is `unknown`, which suspends nothing; a draft never acts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Protocol

from understudy.codec.body_text import ERROR_EVENTS
from understudy.model import AS_USUAL, ASKED, Label, Scope, Then, Verdict
from understudy.replies import ErrorInfo, FaultKind, Reply
from understudy.rules.conditions import Condition, Test

__all__ = [
    "ASKED", "EVERYWHERE", "AppliesTo", "Condition", "Example", "Label", "Rule", "Ruleset", "Scope", "Speaker",
    "Status", "Test", "Then", "Verdict", "evidence_of",
]  # fmt: skip


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

    def find(self, reply: Reply) -> int | None:
        """The index of the error that this rule speaks about, None when it is silent. `unless` looks at all errors."""
        if self.applies_to is not EVERYWHERE and not self.applies_to.covers(reply):
            return None
        infos = reply.said or _NOTHING_SAID
        for index, info in enumerate(infos):
            if self.when.holds(reply, info):
                vetoed = self.unless is not None and any(self.unless.holds(reply, other) for other in infos)
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


OWN_MARK = "x-understudy"
"""The header on every answer that an understudy gives itself, so that nobody takes it for an upstream's failure."""
OWN_HOPE = 2
"""Of an understudy's answer that says when to come back (see ``actions``): less than an upstream's own word."""
_NOTHING_SAID = (ErrorInfo(),)
FAULT_RULES = {
    FaultKind.CONNECT: "builtin/no_connection",
    FaultKind.TLS: "builtin/tls",
    FaultKind.CLOSED: "builtin/closed",
    FaultKind.SILENCE: "builtin/silence",
    FaultKind.EMPTY: "builtin/empty",
    FaultKind.CUT: "builtin/cut",
}
"""The rules of transport faults: each says what happened."""
NO_ANSWER = "builtin/no_answer"
"""The rule of a 2xx that is none (docs/architecture.md, section 5b)."""
ASK_ANOTHER = Then(replay=True)
"""What is no answer is a reply like any other error: another candidate may have one."""

# A successful JSON reply without any of these is not even parsed. They are the keys that `unwrap` reads from a 2xx.
_FAILURE_MARKS = (
    b'"error', b'"Error', b'"base_resp"', b'"blockReason"', b'"code"', b'"success"', b'"failed"', b'"failure"',
    b'"response.failed"', b'"ERROR"',
)  # fmt: skip


def _settled(reply: Reply) -> Verdict | None:
    """The verdict on what no rule is asked about: a fault, a success, a redirect."""
    if reply.fault is not None:
        evidence = f"{reply.fault.kind}: {reply.fault.message}"
        return Verdict(
            Label.OVERLOADED,
            FAULT_RULES[reply.fault.kind],
            _one_line(evidence),
            Then(scope=Scope.UPSTREAM),
            certain=False,
        )
    if reply.succeeded:
        wide = b"\0" in reply.body[:16]  # UTF-16, in which no mark would be found
        marked = wide or reply.event in ERROR_EVENTS or any(mark in reply.body for mark in _FAILURE_MARKS)
        failed = marked and (reply.event in ERROR_EVENTS or bool(reply.errors))
        if failed:
            return None
        if reply.lack:
            return Verdict(Label.UNKNOWN, NO_ANSWER, f"HTTP {reply.status}: {reply.lack}", ASK_ANOTHER, certain=False)
        return Verdict(Label.OK, "builtin/ok", f"HTTP {reply.status}")
    if reply.header(OWN_MARK):
        # Its answer is about its candidates: none of ours has done anything, but one of them may know better.
        then = Then(replay=True, hope=OWN_HOPE if _names_its_return(reply) else None)
        return Verdict(Label.UNKNOWN, "builtin/understudy", "another understudy has nothing left", then, certain=False)
    if 300 <= reply.status < 400:
        then = ASK_ANOTHER if reply.kind == "generating" else AS_USUAL
        return Verdict(Label.UNKNOWN, "builtin/redirect", f"HTTP {reply.status}: a redirect", then, certain=False)
    if reply.status < 400:
        return Verdict(Label.UNKNOWN, "builtin/unknown", f"HTTP {reply.status}", certain=False)
    return None


def _names_its_return(reply: Reply) -> bool:
    """Whether another understudy asks for another round, as it does within a minute and in whole seconds only (W09)."""
    return reply.status in (429, 503) and re.fullmatch("[1-5]?[0-9]|60", reply.header("retry-after")) is not None


@dataclass(frozen=True, init=False)
class Ruleset:
    """The rules of one or more folders, in the order in which they are asked.

    Folders come in the order in which they are asked. A stable rule hides those with the same id in later folders, so
    that a folder of one's own can correct a shipped rule.
    """

    tiers: tuple[tuple[Speaker, ...], ...]
    """Rules that are asked together, specific before general; in each, those that veto others first."""
    drafts: tuple[Speaker, ...]
    _asked: tuple[Speaker, ...] = field(repr=False)

    def __init__(self, *folders: Iterable[Speaker]) -> None:
        tiers: list[list[Speaker]] = []
        drafts: list[Speaker] = []
        hidden: set[str] = set()
        for folder in folders:
            ranked: tuple[list[Speaker], ...] = ([], [], [])
            for rule in folder:
                if rule.id in hidden:
                    continue
                if rule.status is Status.DRAFT:
                    drafts.append(rule)
                else:
                    ranked[_RANKS.get(rule.id.partition("/")[0], 0)].append(rule)
            hidden.update(rule.id for tier in ranked for rule in tier)
            tiers += (tier for tier in ranked if tier)
        object.__setattr__(self, "tiers", tuple(tuple(_ordered(tier)) for tier in tiers))
        object.__setattr__(self, "drafts", tuple(sorted(drafts, key=lambda rule: rule.id)))
        object.__setattr__(self, "_asked", tuple(rule for tier in self.tiers for rule in tier))

    @cached_property
    def rules(self) -> tuple[Speaker, ...]:
        """Every rule, the drafts at the end."""
        return (*self._asked, *self.drafts)

    def judge(self, reply: Reply) -> Verdict:
        """The verdict on a reply. Pure; whatever the reply holds, this does not raise."""
        if (settled := _settled(reply)) is not None:
            return settled
        for rule in self._asked:
            if (verdict := rule.speak(reply)) is not None:
                break
        else:
            # A success that failed by its structure is no answer, whatever its words would mean.
            failed = reply.succeeded and reply.kind == "generating"
            name, then = (NO_ANSWER, ASK_ANOTHER) if failed else ("builtin/unknown", AS_USUAL)
            verdict = Verdict(Label.UNKNOWN, name, evidence_of(reply, 0), then, certain=False)
        drafts = tuple(f"{draft.id}: {said.label}" for draft in self.drafts if (said := draft.speak(reply)) is not None)
        return replace(verdict, names_model=reply.names_model(), drafts=drafts)

    def voices(self, reply: Reply) -> tuple[Verdict, ...]:
        """What every rule says that is asked together with the one that speaks. More than one label is a mistake."""
        if _settled(reply) is not None:
            return ()
        for tier in self.tiers:
            said = [(rule, verdict) for rule in tier if (verdict := rule.speak(reply)) is not None]
            if said:
                speaking = {rule.id for rule, _ in said}
                return tuple(verdict for rule, verdict in said if not rule.vetoed_by & speaking)
        return ()


_RANKS = {"general": 1, FALLBACK: 2}


def _ordered(tier: Iterable[Speaker]) -> Iterator[Speaker]:
    """By label and id, and each rule behind those that veto it. Rules that veto each other stay as they are."""
    waiting = sorted(tier, key=lambda rule: (min(map(ASKED.index, rule.labels), default=0), rule.id))
    while waiting:
        left = {rule.id for rule in waiting}
        ready = [rule for rule in waiting if not (rule.vetoed_by - {rule.id}) & left] or waiting
        yield ready[0]
        waiting.remove(ready[0])


def evidence_of(reply: Reply, index: int) -> str:
    """Status, code or type, and message of one of a reply's errors, as one line of at most 200 characters."""
    info = reply.errors[index] if index < len(reply.errors) else ErrorInfo()
    word = info.code if info.code and not info.code.isdecimal() else info.type or info.code
    return _one_line(": ".join(part for part in (f"HTTP {reply.status}", word, info.message[:400]) if part))


def _one_line(text: str) -> str:
    text = text[:800]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
