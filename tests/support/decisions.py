"""What the tests of the decision core share: a clock by hand, short names, replies with a scripted verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, override

from understudy.failover.affinity import Sessions
from understudy.failover.exchange import Exchange
from understudy.failover.ledger import Ledger
from understudy.failover.pacing import Pacing
from understudy.failover.sealed import Sealed
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Attempt, Refuse, Release, Request, Step, Wait
from understudy.model.pool import Budget, Candidate, Choice, Credential, Route, Strategy, Upstream
from understudy.model.suspension import Key, Suspension, key_of
from understudy.model.verdict import Label, Scope, Then, Verdict
from understudy.replies.reply import Fault, FaultKind, Reply
from understudy.rules.ruleset import Ruleset
from understudy.suspensions.cache import Suspensions

NOW = 1_700_000_000.0
"""Where every test's clock starts. Unix time, as hints with dates need it."""


class Clock:
    """Time that moves by hand only."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Source:
    """A secret for tests."""

    is_client = False
    refreshable = False

    def __init__(self, value: str = "sk-secret-0123456789") -> None:
        self.value = value

    def reveal(self) -> str:
        return self.value


def upstream(name: str = "openai", dialect: str = "openai", host: str = "") -> Upstream:
    """An upstream over TLS; its host follows from its name."""
    return Upstream(name, dialect, "https", host or f"{name}.example", 443, "/v1" if dialect == "openai" else "")


OPENAI, OTHER = upstream("openai"), upstream("other")


def credential(name: str, at: Upstream = OPENAI) -> Credential:
    """A credential of an upstream."""
    return Credential(name, at, Source(f"sk-{name}-0123456789"))


def candidate(name: str, model: str = "m1", at: Upstream = OPENAI) -> Candidate:
    """A candidate with a credential of that name."""
    return Candidate(credential(name, at), model)


def route(
    *members: Candidate,
    pattern: str = "gpt-5",
    strategy: Strategy = Strategy.ORDERED,
    budget: Budget | None = None,
    second_opinion: bool = True,
) -> Route:
    """A route over exactly these candidates."""
    choices = tuple(Choice(member.credential, member.model) for member in members)
    return Route(pattern, choices, strategy, budget or Budget(), second_opinion=second_opinion)


OK = Verdict(Label.OK, "test/ok")


@dataclass(frozen=True)
class Scripted(Reply):
    """A reply whose verdict the test decides."""

    verdict: Verdict = OK


class ScriptedRules(Ruleset):
    """Reads the verdict off a scripted reply; faults and everything else are judged as usual."""

    @override
    def judge(self, reply: Reply) -> Verdict:
        return reply.verdict if isinstance(reply, Scripted) else super().judge(reply)


RULES = ScriptedRules(())
STATUS: Mapping[Label, int] = {
    Label.MODEL_UNSUPPORTED: 400,
    Label.CAPABILITY_UNSUPPORTED: 400,
    Label.RATE_LIMITED: 429,
    Label.QUOTA_EXHAUSTED: 429,
    Label.CREDENTIAL_REJECTED: 401,
    Label.OVERLOADED: 503,
    Label.CONTEXT_EXCEEDED: 400,
    Label.CONTENT_FILTERED: 400,
    Label.REQUEST_INVALID: 400,
    Label.OK: 200,
    Label.UNKNOWN: 404,
}


def reply(
    label: Label,
    *,
    status: int = 0,
    retry_after: str = "",
    then: Then | None = None,
    names_model: bool = False,
    evidence: str = "because",
    certain: bool = True,
    message: str = "",
) -> Reply:
    """A reply that is judged to be this; ``message`` is what stands in it, for its signature."""
    headers = (("Retry-After", retry_after),) if retry_after else ()
    verdict = Verdict(label, f"test/{label}", evidence, then or Then(), names_model, certain=certain)
    body = json.dumps({"error": {"message": message}}).encode() if message else b""
    return Scripted(status or STATUS[label], headers=headers, body=body, verdict=verdict)


def fault(kind: FaultKind = FaultKind.CONNECT, *, sent: bool | None = None, reused: bool = False) -> Reply:
    """A transport fault."""
    was_sent = kind not in (FaultKind.CONNECT, FaultKind.TLS) if sent is None else sent
    return Reply(0, fault=Fault(kind, "broken", was_sent, reused))


class Steady(Random):
    """Chance that always says the least: no jitter, the shortest pause."""

    @override
    def random(self) -> float:
        return 0.0


class Stage:
    """Suspensions and lineups under one clock, and the exchanges that tests open on them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.suspensions = Suspensions(self.clock)
        self.selector = Selector(self.suspensions)
        self.ledger = Ledger(self.clock)
        self.sessions = Sessions(self.clock, 3600.0)
        self.pacing: Pacing | None = None
        """Set it for a test in which calls wait for their turn."""

    @property
    def now(self) -> float:
        return self.clock.now

    def lineup(self, on: Route, alias: str = "gpt-5") -> Lineup:
        return self.selector.lineup(on, alias, (on.choices or on.closed)[0].credential.upstream.dialect)

    def exchange(
        self,
        on: Route,
        alias: str = "gpt-5",
        *,
        generating: bool = True,
        streamed: bool = False,
        blocked: Mapping[str, str] | None = None,
        replay_after_sent: bool = True,
        seed: int | None = None,
        **facts: Any,
    ) -> Exchange:
        """An exchange that has not begun; without a seed there is no jitter. ``facts``: more of the request."""
        request = Request(alias, generating, streamed, blocked or {}, replay_after_sent, **facts)
        random = Random(seed) if seed is not None else Steady()
        lineup = self.lineup(on, alias)
        return Exchange(request, lineup, self.selector, RULES, self.now, random, self.sessions, self.pacing)

    def sealed(self, on: Route, *parts: str) -> dict[str, Any]:
        """The facts of a request that has these sealed parts."""
        credentials = {choice.credential.name: choice.credential for choice in on.choices}
        found = Sealed(parts, self.ledger, credentials, lambda: parts)
        return {"sealed": found, "prefers": found.prefers}

    def open(self, on: Route, alias: str = "gpt-5", *, generating: bool = True, **facts: Any) -> tuple[Exchange, Step]:
        """An exchange and its first step."""
        exchange = self.exchange(on, alias, generating=generating, **facts)
        return exchange, exchange.begin(self.now)

    def answer(
        self, on: Route, replies: Sequence[Reply], alias: str = "gpt-5", *, generating: bool = True, **facts: Any
    ) -> Played:
        """Play a whole exchange: the next reply for each attempt, every wait sat out, a success reported as such."""
        exchange, step = self.open(on, alias, generating=generating, **facts)
        sent, waits, left = [], [], list(replies)
        while True:
            match step:
                case Attempt():
                    sent.append(step.candidate)
                    step = exchange.judge(left.pop(0), self.now)
                case Wait():
                    waits.append(step.seconds)
                    self.clock.now += step.seconds
                    step = exchange.resume(self.now)
                case Release() | Refuse():
                    exchange.succeeded()
                    assert not left, f"{len(left)} replies were not asked for"
                    return Played(exchange, sent, waits, step)

    def suspend(
        self,
        what: Candidate,
        seconds: float = 600.0,
        *,
        scope: Scope = Scope.CANDIDATE,
        label: Label = Label.OVERLOADED,
        hint: str = "",
    ) -> Suspension | None:
        """Take a candidate out of rotation by hand."""
        key = key_of(what, scope)
        return self.suspensions.suspend(
            Suspension(key, self.now, self.now + seconds, label, f"test/{label}", "because", hint)
        )

    def suspended(self) -> dict[Key, float]:
        """What is suspended, and for how many seconds yet."""
        return {each.key: each.until - self.now for each in self.suspensions}


@dataclass(frozen=True)
class Played:
    """An exchange that has come to its end."""

    exchange: Exchange
    sent: list[Candidate]
    waits: list[float]
    end: Release | Refuse

    @property
    def released(self) -> int:
        """The number of the attempt whose reply the tool got."""
        assert isinstance(self.end, Release), self.end
        return self.end.attempt

    @property
    def refused(self) -> Refuse:
        """Our own answer."""
        assert isinstance(self.end, Refuse), self.end
        return self.end
