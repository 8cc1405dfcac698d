"""What an observed call is judged to be, and what enforce would have made of it; without a network."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from mitmproxy import http

from tests.support.decisions import NOW, Clock, Source
from understudy.dialects import DIALECTS
from understudy.dialects.base import Call
from understudy.failover.memory import Plan
from understudy.failover.signatures import signature_of
from understudy.inspection.exchange_table import advised, table
from understudy.model.pool import Budget, Choice, Credential, Mode, Pool, Route, Upstream
from understudy.model.suspension import Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.proxy.engine import Engine, Intake
from understudy.proxy.observe_mode import Observation
from understudy.replies.hold import Secret
from understudy.replies.reply import Reply
from understudy.requests.conversation import Conversation
from understudy.requests.rewrite import Stash
from understudy.requests.sites import Recognised
from understudy.rules.folders import shipped
from understudy.suspensions import Cause

OPENAI = DIALECTS["openai"]
OWN = "sk-own-0123456789"
STASH = Stash(((b"Authorization", f"Bearer {OWN}".encode()),), (b"q-0123456789",))
BUSY = b'{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}'


class Here:
    """An engine over two candidates, and a call of a tool."""

    def __init__(self, mode: Mode = Mode.ADVISE, budget: Budget | None = None) -> None:
        upstreams = [Upstream(name, "openai", "https", f"{name}.test", 443, "/v1") for name in "uv"]
        owned = [Credential(f"c{each.name}", each, Source(f"sk-{each.name}-0123456789")) for each in upstreams]
        self.route = Route("gpt-*", tuple(Choice(each) for each in owned), budget=budget or Budget(), mode=mode)
        self.clock = Clock()
        self.engine = Engine(shipped(), clock=self.clock, random=Random(1))
        self.engine.use(
            Pool({each.name: each for each in upstreams}, {each.name: each for each in owned}, {"gpt-*": self.route})
        )
        snapshot = self.engine.snapshot
        assert snapshot is not None
        self.snapshot = snapshot
        endpoint = OPENAI.endpoint("POST", "/chat/completions")
        assert endpoint is not None
        self.recognised = Recognised(OPENAI, endpoint, "/chat/completions", "")
        self.candidates = self.route.candidates("gpt-5", "openai")

    def observe(self, *, streamed: bool = False, refused: str = "") -> Observation:
        """A call is seen."""
        plan = Plan(self.recognised, Call("gpt-5", streamed), self.route, Conversation())
        intake = Intake(self.snapshot, self.recognised, STASH)
        request = http.Request.make("POST", "https://api.openai.com/v1/chat/completions")
        shadow = self.engine.shadow(intake, plan, request) if self.route.mode is Mode.ADVISE else None
        return Observation(plan, Secret("client", "", STASH.secrets), request, shipped(), self.clock, shadow, refused)

    def suspend(self, number: int, seconds: float = 90) -> None:
        """A candidate is out of rotation."""
        key = key_of(self.candidates[number], Scope.CANDIDATE)
        until = self.clock() + seconds
        self.engine.suspensions.suspend(Suspension(key, NOW, until, Label.OVERLOADED, "test/rule", "because"))


def reply(status: int, content_type: str = "application/json", **headers: str) -> http.Response:
    """The head of a reply."""
    return http.Response.make(status, b"", {"content-type": content_type, **headers})


def test_own_secrets_are_masked_in_every_spelling() -> None:
    """R06: header and query, as they are, in JSON, in base64."""
    own = Secret("client", "", STASH.secrets)
    assert own.mask(f"x {OWN} y q-0123456789") == "x <understudy:client> y <understudy:client>"
    assert own.mask(b"c2stb3duLTAxMjM0NTY3ODk=").startswith(b"<understudy:client>")
    assert OWN not in repr(own)


def test_what_is_suspended_in_a_shadow_is_forgotten() -> None:
    """advise: the same call is told the same again, and nothing is suspended."""
    here = Here()
    for _ in range(2):
        seen = here.observe()
        assert seen.head(reply(429, **{"retry-after": "20"})) is False
        seen.data(BUSY)
        here.clock.now += 1.5
        facts = seen.end()
        assert facts["observed"]["label"] == "rate_limited"
        assert facts["advice"] == {
            "asks": "cu gpt-5",
            "suspends": "candidate cu gpt-5 for 20s",
            "then": "replayed to cv gpt-5",
        }
        assert facts["seconds"] == 1.5
    assert list(here.engine.suspensions) == []


def test_a_second_opinion_is_advised_and_nothing_is_learnt() -> None:
    """J01: whom enforce would have asked; what comparing has taught counts, and the shadow adds nothing to it."""
    here = Here()
    odd = b'{"error": {"message": "Seat 17 is not staffed today"}}'
    for _ in range(2):
        seen = here.observe()
        seen.head(reply(418))
        seen.data(odd)
        assert seen.end()["advice"] == {"asks": "cu gpt-5", "then": "asked cv gpt-5 for a second opinion"}
    learned = here.engine.suspensions.learned
    assert (list(learned), learned.asked) == ([], 0)
    said = Reply(418, dialect="openai", alias="gpt-5", model="gpt-5", body=odd)
    learned.learn(signature_of(said, "u"), Cause.REQUEST, Label.UNKNOWN, "builtin/unknown", "cu", "cv")
    seen = here.observe()
    seen.head(reply(418))
    seen.data(odd)
    assert seen.end()["advice"] == {"asks": "cu gpt-5", "then": "released it"}


def test_suspensions_that_run_count() -> None:
    """advise: who is out of rotation would have been passed over; with nobody left, that is said."""
    here = Here()
    here.suspend(0)
    facts = here.observe().facts
    assert facts["advice"] == {"asks": "cv gpt-5"}
    assert [each["credential"] for each in facts["skipped"]] == ["cu"]
    here.suspend(1)
    assert advised(here.observe().facts["advice"]) == "answered 400 itself"
    here = Here()
    for number in (0, 1):
        here.suspend(number, 3)
    assert advised(here.observe().facts["advice"]) == "waited 3.0s: every candidate is suspended"


def test_patience_is_told() -> None:
    """advise: a short limit would have been waited out."""
    seen = Here().observe()
    seen.head(reply(429, **{"retry-after": "2"}))
    seen.data(BUSY)
    assert seen.end()["advice"]["then"] == "waited 2.0s: cu gpt-5: rate_limited, tried once more"


def test_a_call_that_the_pool_would_not_have_been_spent_on() -> None:
    """advise, law 12: the reason is the advice."""
    seen = Here().observe(refused="no password")
    seen.head(reply(429))
    seen.data(BUSY)
    assert seen.end()["advice"] == {"instead": "no password"}


def test_observe_gives_no_advice() -> None:
    """observe: the verdict and nothing else; the table says whose credential it was."""
    seen = Here(Mode.OBSERVE).observe()
    seen.head(reply(429))
    seen.data(BUSY)
    facts = seen.end()
    assert "advice" not in facts
    assert table(facts).splitlines()[0].endswith("(openai chat/completions, observe)")
    assert "the tool's own credential  429 rate_limited by" in table(facts)


@pytest.mark.parametrize(
    ("begun", "late", "kind"),
    [
        (b"", False, "cut"),
        (b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n', True, "cut"),
        (None, False, "closed"),
    ],
)
def test_faults(begun: bytes | None, late: bool, kind: str) -> None:
    """Before headers, before output, after output: a fault each time, and advice only where enforce could replay."""
    seen = Here().observe(streamed=True)
    if begun is not None:
        assert seen.head(reply(200, "text/event-stream")) is True
        seen.data(begun)
    facts = seen.fault("peer closed connection", sent=True)
    assert facts["observed"]["evidence"] == f"{kind}: peer closed connection"
    assert facts.get("late", False) is late
    assert ("then" in facts["advice"]) is not late


def test_a_reply_beyond_all_bounds() -> None:
    """Law 10: what is looked at is bounded, errors and answers alike."""
    for status, label in ((200, "ok"), (500, "overloaded")):
        seen = Here().observe()
        seen.head(reply(status))
        for _ in range(40):
            seen.data(b" " * 65536)
        assert len(seen._hold.body) < 2 * 1024 * 1024
        assert seen.end()["observed"]["label"] == label


def test_a_round_robin_stays_where_it_is() -> None:
    """advise: nobody was asked."""
    here = Here()
    here.route = replace(here.route, strategy=type(here.route.strategy).ROUND_ROBIN)
    assert [here.observe().facts["advice"]["asks"] for _ in range(3)] == ["cu gpt-5"] * 3
