"""The laws of the design, over random interleavings of everything that can happen to the decision core."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from decisions import NOW, OTHER, RULES, Clock, candidate, fault, reply, route
from understudy.actions import DEFAULTS, Next
from understudy.exchange import Exchange
from understudy.keys import Key, key_of
from understudy.pool import Budget, Candidate, Route, Strategy
from understudy.reply import FaultKind, Reply
from understudy.rules import Label, Scope, Then
from understudy.select import Selector
from understudy.steps import Attempt, Refuse, Release, Request, Step, Wait
from understudy.suspensions import Suspensions

SOURCE = Path(__file__).parent.parent / "addon"
PURE = ("pool", "reply", "rules", "hints", "suspensions", "select", "exchange", "steps", "refusal", "actions")


def foreign(module: str) -> list[str]:
    """Which of mitmproxy and asyncio a fresh interpreter has loaded after it has imported this module."""
    code = f"import sys, understudy.{module}; print(*sorted({{'mitmproxy', 'asyncio'}} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", PURE)
def test_the_decision_core_knows_neither_mitmproxy_nor_asyncio(module: str) -> None:
    """Design, section 3: decisions are values; whoever imports these gets no I/O with them."""
    assert foreign(module) == []


def test_the_check_of_imports_sees_an_import() -> None:
    assert "mitmproxy" in foreign("release")


A1, A2, B1 = candidate("a", "m1"), candidate("a", "m2"), candidate("b", "m1")
C1, C3 = candidate("c", "m1", OTHER), candidate("c", "m3", OTHER)
SHORT = Budget(attempts=3, seconds=20, wait=10, patience=2)
ROUTES = (
    route(A1, A2, B1, C1, pattern="x"),
    route(B1, A1, C3, pattern="y", strategy=Strategy.ROUND_ROBIN, budget=SHORT),
    route(A2, A1, B1, C1, C3, pattern="z", budget=Budget(attempts=8, seconds=120)),
    route(C3, pattern="alone"),
    route(A1, pattern="single", budget=SHORT),
    route(B1, pattern="lone", budget=Budget(wait=0)),
)
MODELS = {"m1", "m2", "m3"}
ABOUT_NOBODY = {
    Label.CAPABILITY_UNSUPPORTED,
    Label.CONTEXT_EXCEEDED,
    Label.CONTENT_FILTERED,
    Label.REQUEST_INVALID,
    Label.UNKNOWN,
    Label.OK,
}
"""Labels that cost no candidate anything (law 7)."""
STATUSES = {
    Label.OK: [200],
    Label.UNKNOWN: [302, 401, 403, 404, 500],
    Label.CREDENTIAL_REJECTED: [401, 403],
    Label.MODEL_UNSUPPORTED: [400, 403, 404],
    Label.OVERLOADED: [200, 503, 529],
}
THENS = [
    *[Then()] * 5,
    Then(retry_same=0),
    Then(retry_same=2),
    Then(retry_same=2),
    Then(scope=Scope.CREDENTIAL, seconds=7),
    Then(scope=Scope.CANDIDATE),
    Then(replay=False),
]
GOES_ON = [label for label in Label if DEFAULTS[label].next is not Next.NOBODY]


@dataclass(frozen=True)
class Said:
    """What comes back on an attempt: a fault, or a reply with this label."""

    fault: FaultKind | None
    flag: bool
    """Of a fault: the connection had been used before; of a reply: it names the model."""
    sent: bool
    label: Label
    status: int
    hint: str
    then: Then

    def reply(self) -> Reply:
        if self.fault is not None:
            return fault(self.fault, sent=self.sent, reused=self.flag)
        known = STATUSES.get(self.label, [400])
        status = known[self.status % len(known)]
        return reply(self.label, status=status, retry_after=self.hint, then=self.then, names_model=self.flag)


FAULTS = [*[None] * 12, *FaultKind]
LABELS = [*GOES_ON, *GOES_ON, *GOES_ON, *Label]  # mostly those that something follows
HINTS = ["", "", "1", "2", "20", "1000000", "-1", "nan"]
SAID = st.builds(
    Said,
    fault=st.sampled_from(FAULTS),
    flag=st.booleans(),
    sent=st.booleans(),
    label=st.sampled_from(LABELS),
    status=st.integers(0, 4),
    hint=st.sampled_from(HINTS),
    then=st.sampled_from(THENS),
)
MOVES = 60


def _any_reply(random: Random) -> Said:
    flag, sent, status = random.random() < 0.5, random.random() < 0.5, random.randrange(5)
    label, hint, then = random.choice(LABELS), random.choice(HINTS), random.choice(THENS)
    return Said(random.choice(FAULTS), flag, sent, label, status, hint, then)


@dataclass
class Watched:
    """An exchange, and what it has done so far."""

    exchange: Exchange
    on: Route
    sent: list[Candidate] = field(default_factory=list)
    waits_until: float | None = None
    over: bool = False
    released: Candidate | None = None
    began: float = 0.0
    ended_by: Label | None = None
    ruled_out: set[tuple[str, str]] = field(default_factory=set)
    """Upstreams and models that said that they cannot do this request."""


class Laws(RuleBasedStateMachine):
    """Many exchanges over shared credentials and models. Every rule ends in :meth:`take`, which checks the laws."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.suspensions = Suspensions(self.clock)
        self.selector = Selector(self.suspensions)
        self.open: list[Watched] = []
        self.released: list[Watched] = []
        """The tool has the beginning of these; they may still end well or badly."""
        self.ends: dict[Key, float] = {}

    # -- what can happen -----------------------------------------------------------------------------------------

    @rule(
        on=st.sampled_from(ROUTES),
        together=st.integers(1, 3),
        generating=st.sampled_from([True, True, True, False]),
        blocked=st.sampled_from(["", "", "", "", "openai", "other"]),
        replay_after_sent=st.booleans(),
    )
    def requests_come(self, on: Route, together: int, generating: bool, blocked: str, replay_after_sent: bool) -> None:
        """Some at the same instant, so that several are under way at the same candidate."""
        for _ in range(together):
            request = Request(on.pattern, generating, True, {blocked: "no"} if blocked else {}, replay_after_sent)
            lineup = self.selector.lineup(on, on.pattern, "openai")
            exchange = Exchange(request, lineup, self.selector, RULES, self.clock.now, Random(1))
            watched = Watched(exchange, on)
            self.open.append(watched)
            self.take(watched, exchange.begin(self.clock.now))

    @rule(which=st.integers(0, 9), said=st.lists(SAID, min_size=1, max_size=6), patient=st.booleans())
    def upstreams_answer(self, which: int, said: list[Said], patient: bool) -> None:
        """One exchange gets its replies one after the other; ``patient``: it sits out its waits in between."""
        watched = self.find(which, sending=True)
        for each in said:
            if watched is None or watched.over:
                return
            if watched.waits_until is None:
                self.answer(watched, each)
            elif patient:
                self.wake(watched, 0.0)

    @rule(which=st.integers(0, 9), ahead=st.sampled_from([-0.005, 0.0, 0.1, 100.0]))
    def a_wait_ends(self, which: int, ahead: float) -> None:
        if (watched := self.find(which, sending=False)) is not None:
            self.wake(watched, ahead)

    @rule(which=st.integers(0, 9), label=st.sampled_from([Label.CREDENTIAL_REJECTED, Label.REQUEST_INVALID]))
    def a_request_cannot_be_built(self, which: int, label: Label) -> None:
        if (watched := self.find(which, sending=True)) is not None:
            before = self.running()
            last = watched.sent.pop()  # it never was: law 5
            step = watched.exchange.unsendable(label, "builtin/secret", "gone", self.clock.now)
            assert self.running() == before
            assert not isinstance(step, Attempt) or step.candidate != last
            self.take(watched, step)

    @rule(which=st.integers(0, 9), ends=st.sampled_from([None, Label.OK, Label.OK, Label.OVERLOADED]))
    def output_comes(self, which: int, ends: Label | None) -> None:
        """The released stream goes on for a while, or ends at once, well or badly."""
        if (watched := self.find(which, sending=True)) is not None:
            attempt = watched.exchange.attempt
            assert attempt is not None
            watched.exchange.accept()
            self.close(watched, attempt.candidate)
            if ends is Label.OK:
                self.a_reply_is_complete(-1)
            elif ends is not None:
                self.a_stream_dies(-1, ends)

    @rule(which=st.integers(0, 99))
    def a_tool_goes_away(self, which: int) -> None:
        if self.open:
            watched = self.open[which % len(self.open)]
            before = self.running()
            watched.exchange.cancelled()
            watched.exchange.succeeded()
            assert self.running() == before  # law 4
            self.close(watched, None)

    @rule(which=st.integers(0, 9))
    def a_reply_is_complete(self, which: int) -> None:
        if not self.released:
            return
        watched = self.released.pop(which % len(self.released))
        before = {item.key: item for item in self.suspensions}
        watched.exchange.succeeded()
        lifted = set(before) - set(self.running())
        # Law 4: exactly the same candidate, from a generating endpoint, and nothing that is newer than the attempt.
        assert watched.released is not None
        assert lifted <= {key_of(watched.released, Scope.CANDIDATE)}
        assert watched.exchange.request.generating or not lifted
        assert all(before[key].since < watched.began for key in lifted)
        ours = [each for each in watched.exchange.outcomes if each.attempt.candidate == watched.released]
        assert not lifted or ours[-1].verdict.label is Label.OK
        self.ends = self.running()

    @rule(which=st.integers(0, 9), label=st.sampled_from(Label))
    def a_stream_dies(self, which: int, label: Label) -> None:
        if self.released:
            watched = self.released.pop(which % len(self.released))
            before = self.running()
            watched.exchange.failed_after_release(reply(label, status=200), self.clock.now)
            after = self.running()
            assert watched.released is not None
            changed = {key for key in after if after[key] != before.get(key)}
            assert changed <= {key_of(watched.released, scope) for scope in Scope}
            assert label not in ABOUT_NOBODY or not changed

    @rule(seconds=st.sampled_from([0.01, 1.0, 5.0, 30.0, 600.0, 100_000.0, -10.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=st.integers(0, 9))
    def somebody_resumes_by_hand(self, which: int) -> None:
        if running := list(self.suspensions):
            key = running[which % len(running)].key
            assert self.suspensions.resume(key) is not None
            self.ends.pop(key, None)

    @rule()
    def the_pool_is_reloaded(self) -> None:
        """Law 11: what is open works on with the lineups it began with."""
        self.selector = Selector(self.suspensions)

    # -- how it happens ------------------------------------------------------------------------------------------

    def answer(self, watched: Watched, said: Said) -> None:
        """A reply or a fault comes back on the attempt under way."""
        exchange, attempt = watched.exchange, watched.exchange.attempt
        assert attempt is not None
        if said.label in ABOUT_NOBODY:  # a rule's own scope would be its author's wish, not a default
            said = replace(said, then=replace(said.then, scope=None, seconds=None))
        label = Label.OVERLOADED if said.fault else said.label
        before = self.running()
        step = exchange.judge(said.reply(), self.clock.now)
        if said.fault:
            ends = said.sent and not exchange.request.replay_after_sent
        else:
            ends = DEFAULTS[label].next is Next.NOBODY or said.then.replay is False
        if ends:
            watched.ended_by = label
        elif DEFAULTS[label].next is Next.OTHER_MODEL and not isinstance(step, Wait):
            watched.ruled_out.add((attempt.candidate.upstream.name, attempt.candidate.model))
        after = self.running()
        changed = {key for key in after if after[key] != before.get(key)}
        # Laws 4 and 7: who may be suspended by this, and by whom.
        assert changed <= {key_of(attempt.candidate, scope) for scope in Scope}
        named = not said.fault and label is Label.MODEL_UNSUPPORTED and said.flag
        if label in ABOUT_NOBODY or not (exchange.request.generating or named):
            assert not changed
        self.take(watched, step)

    def wake(self, watched: Watched, ahead: float) -> None:
        """The wait of an exchange is over, or nearly, or long ago."""
        assert watched.waits_until is not None
        self.clock.now = max(self.clock.now, watched.waits_until + ahead)
        watched.waits_until = None
        self.take(watched, watched.exchange.resume(self.clock.now))

    @rule(seed=st.integers(0, 1 << 32))
    def much_happens_at_once(self, seed: int) -> None:
        """Hypothesis plays short games; this one goes deep: many requests over few candidates."""
        random = Random(seed)
        for _ in range(MOVES):
            if len(self.open) < 6:
                on, many = random.choice(ROUTES), random.randint(1, 3)
                blocked = random.choice(["", "", "", "", "", "openai", "other"])
                self.requests_come(on, many, random.random() < 0.8, blocked, random.random() < 0.8)
            which = random.randrange(10)
            match random.randrange(16):
                case 0:
                    self.time_passes(random.choice([0.01, 1.0, 5.0, 5.0, 30.0, 600.0, -10.0]))
                case 1:
                    self.output_comes(which, random.choice([None, Label.OK, Label.OK, Label.OVERLOADED]))
                case 2:
                    self.a_stream_dies(which, random.choice(list(Label)))
                case 3:
                    self.a_reply_is_complete(which)
                case 4 | 5:
                    self.a_wait_ends(which, random.choice([-0.005, 0.0, 0.1, 100.0]))
                case 6:
                    self.a_request_cannot_be_built(which, Label.REQUEST_INVALID)
                case 7:
                    random.choice([self.a_tool_goes_away, self.somebody_resumes_by_hand])(which)
                case _:
                    said = [_any_reply(random) for _ in range(random.randint(1, 6))]
                    self.upstreams_answer(which, said, random.random() < 0.7)
            self.suspensions_are_only_lengthened()
            self.lineups_know_who_is_free()

    # -- the laws ------------------------------------------------------------------------------------------------

    def take(self, watched: Watched, step: Step) -> None:
        """Check a step against the laws and remember it."""
        exchange, now = watched.exchange, self.clock.now
        match step:
            case Attempt():
                self.check_attempt(watched, step)
            case Wait():
                assert 0 <= step.seconds <= watched.on.budget.wait + watched.on.budget.patience
                assert now + step.seconds < exchange.deadline  # W08
                assert watched.ended_by is None
                watched.waits_until = now + step.seconds
            case Release():
                self.check_release(watched, step)
                self.close(watched, exchange.outcomes[step.attempt - 1].attempt.candidate)
            case Refuse():
                self.check_refusal(watched, step)
                self.close(watched, None)

    def check_attempt(self, watched: Watched, step: Attempt) -> None:
        exchange, now, chosen = watched.exchange, self.clock.now, step.candidate
        assert not watched.over  # law 1
        assert watched.ended_by is None  # laws 7 and 9: a reply that is the tool's business is not replayed
        assert chosen in exchange.lineup.members
        assert chosen.upstream.name not in exchange.request.blocked
        assert (chosen.upstream.name, chosen.model) not in watched.ruled_out  # F10
        alone = len(exchange.lineup.members) == 1
        assert self.selector.suspension_of(chosen, stated=alone) is None  # law 3
        assert now < exchange.deadline or not watched.sent  # W08
        watched.sent.append(chosen)
        watched.began = now
        assert watched.sent.count(chosen) <= 2  # law 2
        assert not step.repeat or watched.sent.count(chosen) == 2
        assert len(watched.sent) <= watched.on.budget.attempts  # W04, law 5
        assert step.number == len(exchange.outcomes) + 1

    def check_release(self, watched: Watched, step: Release) -> None:
        outcomes = watched.exchange.outcomes
        released = outcomes[step.attempt - 1]
        assert released.attempt.number == step.attempt
        assert released.status not in (0, 401)  # law 6: a real reply that does not lie about the tool's login
        assert released.status != 403 or released.verdict.label not in (Label.CREDENTIAL_REJECTED, Label.UNKNOWN)
        if watched.ended_by is None or step.attempt != len(outcomes):
            assert released.hope == max(each.hope for each in outcomes if each.releasable)  # law 6
        if step.final and not step.retry:
            dues = [self.selector.suspension_of(member) for member in watched.exchange.lineup.members]
            assert not any(due is not None and 0 < due.until - self.clock.now <= 60 for due in dues) or (
                watched.exchange.request.blocked
            )

    def check_refusal(self, watched: Watched, step: Refuse) -> None:
        assert step.status in (400, 429, 503)
        assert not any(each.releasable for each in watched.exchange.outcomes)  # law 6: a real reply goes before
        assert (step.retry_after is None) is (step.status == 400)  # W09
        assert step.retry_after is None or 1 <= step.retry_after <= 60
        assert len(step.message.splitlines()) == 1 + len(watched.exchange.lineup.members)  # W03

    def close(self, watched: Watched, released: Candidate | None) -> None:
        """Law 1: from here on nothing moves any more."""
        watched.over, watched.released = True, released
        self.open.remove(watched)
        if released is not None:
            self.released.append(watched)
        exchange, now = watched.exchange, self.clock.now
        before = len(exchange.outcomes)
        for move in (lambda: exchange.resume(now), lambda: exchange.judge(reply(Label.OK), now), exchange.accept):
            with pytest.raises(RuntimeError):
                move()
        assert (len(exchange.outcomes), exchange.attempt) == (before, None)

    @invariant()
    def suspensions_are_only_lengthened(self) -> None:
        """Law 3: until they expire or are resumed; and their keys are upstream models, never aliases."""
        running = self.running()
        for key, end in self.ends.items():
            assert running.get(key, end if end <= self.clock.now else 0.0) >= end, key
        for key in running:
            assert key.model in MODELS if key.scope is Scope.CANDIDATE else not key.model
        self.ends = running

    @invariant()
    def lineups_know_who_is_free(self) -> None:
        """Law 5: what is skipped is what is suspended, in the lineups of every pool that is still in use."""
        self.suspensions.expire()
        for lineup in {id(each.exchange.lineup): each.exchange.lineup for each in self.open}.values():
            free = [member for member in lineup.members if self.selector.suspension_of(member) is None]
            assert lineup.members_of(lineup.available()) == free

    # -- helpers -------------------------------------------------------------------------------------------------

    def running(self) -> dict[Key, float]:
        return {item.key: item.until for item in self.suspensions}

    def find(self, which: int, *, sending: bool) -> Watched | None:
        """One of the open exchanges that is sending, or one that waits."""
        found = [each for each in self.open if (each.waits_until is None) is sending]
        return found[which % len(found)] if found else None


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=320,
    stateful_step_count=12,
    deadline=None,  # timings are never asserted
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_time_begins_where_the_tests_say() -> None:
    """The machine's clock is its own: nothing here looks at the real one."""
    assert Laws().clock.now == NOW
