"""What a reply means: rules look at its unwrapped error, and at most one of them speaks.

Laws of this module:
- a verdict is a pure function of the reply: no clock, no memory, no exception;
- the owner's folders before the shipped one; in a folder, a vendor's rules before `general`, these before `fallback`;
- among these, no two labels for one reply: a rule names the rules that veto it (`unless: {rule: ...}`). Where two that
  do not know each other speak all the same, the one that does less harm does, and `understudy rules test` fails;
- a 2xx is judged by its structure: words in it prove nothing. Only the model that it names may be minded by a rule;
- a verdict is certain where words made it, open where only a status or a type did, or nothing;
- what nothing recognises is `unknown`, which suspends nothing; a draft never acts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from understudy.codec.body_text import ERROR_EVENTS
from understudy.codec.in_pieces import contains_any
from understudy.model import ASKED, Label, Scope, Then, Verdict
from understudy.replies import FaultKind, Reply, read_hint, sent_at
from understudy.rules.index import Index
from understudy.rules.speaker import FALLBACK, Rule, Speaker, Status, evidence_of, one_line

__all__ = ["OWN_HOPE", "OWN_MARK", "Rule", "Ruleset", "Speaker", "Status"]


OWN_MARK = "x-understudy"
"""The header on every answer that an understudy gives itself, so that no proxy takes it for an upstream's failure."""
OWN_HOPE = 2
"""Of an understudy's answer that says when to come back (see ``actions``): less than an upstream's own word."""
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

# A successful JSON reply without any of these is not even parsed. They are the keys that `unwrap` reads from a 2xx.
_FAILURE_MARKS = (
    b'"error', b'"Error', b'"base_resp"', b'"blockReason"', b'"code"', b'"success"', b'"failed"', b'"failure"',
    b'"response.failed"', b'"ERROR"', b'"msg"', b"data: error", b"data:error", b"data: Error", b"data: exception",
)  # fmt: skip


@lru_cache(maxsize=100)  # the statuses of successes
def _answered(status: int) -> Verdict:
    return Verdict(Label.OK, "builtin/ok", f"HTTP {status}")


def _settled(reply: Reply) -> Verdict | None:
    """The verdict on what no rule is asked about: a fault, a success, a redirect."""
    if reply.fault is not None:
        evidence = f"{reply.fault.kind}: {reply.fault.message}"
        return Verdict(
            Label.OVERLOADED,
            FAULT_RULES[reply.fault.kind],
            one_line(evidence),
            Then(scope=Scope.UPSTREAM),
            certain=False,
        )
    if reply.succeeded:
        wide = b"\0" in reply.body[:16]  # UTF-16, in which no mark would be found
        marked = wide or reply.event in ERROR_EVENTS or contains_any(reply.body, _FAILURE_MARKS)
        failed = marked and (reply.event in ERROR_EVENTS or bool(reply.errors))
        if failed:
            return None
        if reply.lack:
            return Verdict(Label.UNKNOWN, NO_ANSWER, f"HTTP {reply.status}: {reply.lack}", certain=False)
        return _answered(reply.status)
    if reply.header(OWN_MARK):
        # Its answer is about its candidates: none of ours has done anything, but one of them may know better.
        then = Then(replay=True, hope=OWN_HOPE if _names_its_return(reply) else None)
        return Verdict(
            Label.UNKNOWN, "builtin/understudy", "another understudy has no candidate left", then, certain=False
        )
    if 300 <= reply.status < 400:
        return Verdict(Label.UNKNOWN, "builtin/redirect", f"HTTP {reply.status}: a redirect", certain=False)
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
    _index: Index = field(repr=False, compare=False)

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
        object.__setattr__(self, "_index", Index(self._asked))

    @cached_property
    def rules(self) -> tuple[Speaker, ...]:
        """Every rule, the drafts at the end."""
        return (*self._asked, *self.drafts)

    def judge(self, reply: Reply) -> Verdict:
        """The verdict on a reply. Pure; whatever the reply holds, this does not raise."""
        if (settled := _settled(reply)) is not None:
            if self.asks_served_model and settled.label is Label.OK and reply.served_model:
                return self._judge_served_model(reply, settled)
            return settled
        for rule in self._index.asked(reply):
            if (verdict := rule.speak(reply)) is not None:
                verdict = _with_hours(verdict, reply)
                break
        else:
            # A success that failed by its structure is no answer, whatever its words would mean.
            name = NO_ANSWER if reply.succeeded and reply.kind == "generating" else "builtin/unknown"
            verdict = Verdict(Label.UNKNOWN, name, evidence_of(reply, 0), certain=False)
        drafts: tuple[str, ...] = ()
        if self.drafts:
            drafts = tuple(
                f"{each.id}: {said.label}" for each in self.drafts if (said := each.speak(reply)) is not None
            )
        # A Python rule may quote what it has decoded itself.
        evidence = reply.mask(verdict.evidence) if reply.mask is not None else verdict.evidence
        names_model = reply.names_model()
        return Verdict(verdict.label, verdict.rule, evidence, verdict.then, names_model, drafts, verdict.certain)

    @cached_property
    def asks_served_model(self) -> bool:
        """Whether a rule speaks about successes that name another model than was sent."""
        return bool(self._about_served)

    @cached_property
    def _about_served(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self._asked if isinstance(rule, Rule) and rule.asks_served_model)

    def _judge_served_model(self, reply: Reply, settled: Verdict) -> Verdict:
        """The verdict on an answer of another model than was sent: that of the first rule that minds."""
        for rule in self._about_served:
            if (verdict := rule.speak(reply)) is not None:
                named = one_line(reply.served_model)
                named = reply.mask(named) if reply.mask is not None else named
                return replace(verdict, evidence=f"HTTP {reply.status}: the reply names {named}")
        return settled

    def voices(self, reply: Reply) -> tuple[Verdict, ...]:
        """What every rule says that is asked together with the one that speaks. More than one label is a mistake."""
        if _settled(reply) is not None:
            about = self._about_served if reply.succeeded else ()
            return tuple(verdict for rule in about if (verdict := rule.speak(reply)) is not None)
        for tier in self.tiers:
            said = [(rule, verdict) for rule in tier if (verdict := rule.speak(reply)) is not None]
            if said:
                speaking = {rule.id for rule, _ in said}
                return tuple(verdict for rule, verdict in said if not rule.vetoed_by & speaking)
        return ()


HOURS, WEEK = 3600.0, 8 * 86400.0
"""Seconds. A limit that asks for so long a wait is a quota: no vendor asks to slow down for an hour. What is longer
than a window of a week is no window, and believed no more than before (L03)."""


def _with_hours(verdict: Verdict, reply: Reply) -> Verdict:
    """A rate limit whose reply states a wait of hours is an exhausted quota: of the model, where it names the model."""
    if verdict.label is not Label.RATE_LIMITED or verdict.is_open:
        return verdict
    # Times of day count from the reply's own date, so that the verdict stays a function of the reply.
    hint = read_hint(reply, sent_at(reply))
    if hint is None or not HOURS <= hint.seconds <= WEEK:
        return verdict
    then = verdict.then
    if then.scope is None and reply.names_model():
        then = replace(then, scope=Scope.CANDIDATE)
    return replace(verdict, label=Label.QUOTA_EXHAUSTED, then=then)


_RANKS = {"general": 1, FALLBACK: 2}


def _ordered(tier: Iterable[Speaker]) -> Iterator[Speaker]:
    """By label and id, and each rule behind those that veto it. Rules that veto each other stay as they are."""
    waiting = sorted(tier, key=lambda rule: (min(map(ASKED.index, rule.labels), default=0), rule.id))
    while waiting:
        left = {rule.id for rule in waiting}
        ready = [rule for rule in waiting if not (rule.vetoed_by - {rule.id}) & left] or waiting
        yield ready[0]
        waiting.remove(ready[0])
