"""The laws of docs/architecture.md, over random interleavings of everything that can happen to the decision core."""

from __future__ import annotations

import math
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

from tests.support.decisions import NOW, OTHER, RULES, Clock, candidate, fault, reply, route
from understudy.failover.affinity import Sessions, Spent
from understudy.failover.default_actions import DEFAULTS, Next
from understudy.failover.exchange import Exchange
from understudy.failover.penalties import SHORT_STEP
from understudy.failover.selection import Selector
from understudy.failover.steps import Attempt, Compared, Refuse, Release, Request, Step, Wait
from understudy.model.pool import Budget, Candidate, Route, Strategy
from understudy.model.suspension import Key, key_of, keys_of
from understudy.model.verdict import Label, Scope, Then
from understudy.replies.reply import FaultKind, Reply
from understudy.rules import FAULT_RULES
from understudy.suspensions.cache import EARLY_PROBE, PROBED, Suspensions
from understudy.suspensions.ladder import JITTER, seconds_of

SOURCE = Path(__file__).parents[2] / "addon"
CORE = ("codec", "model", "dialects", "requests", "replies", "rules", "suspensions", "failover")


def foreign(module: str) -> list[str]:
    """Which of mitmproxy and asyncio a fresh interpreter has loaded after it has imported this module."""
    code = f"import sys, understudy.{module}; print(*sorted({{'mitmproxy', 'asyncio'}} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", CORE)
def test_the_decision_core_knows_neither_mitmproxy_nor_asyncio(module: str) -> None:
    """docs/architecture.md, section 3: decisions are values; whoever imports these gets no I/O with them."""
    assert foreign(module) == []


def test_the_check_of_imports_sees_an_import() -> None:
    assert "mitmproxy" in foreign("proxy.tool_reply")


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
    route(A1, B1, C1, pattern="sure", second_opinion=False),
)
MEMBERS = (A1, A2, B1, C1, C3)
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
    certain: bool = True
    message: str = ""

    def reply(self) -> Reply:
        if self.fault is not None:
            return fault(self.fault, sent=self.sent, reused=self.flag)
        known = STATUSES.get(self.label, [400])
        status = known[self.status % len(known)]
        return reply(
            self.label,
            status=status,
            retry_after=self.hint,
            then=self.then,
            names_model=self.flag,
            certain=self.certain,
            message=self.message,
        )


FAULTS = [*[None] * 12, *FaultKind]
LABELS = [*GOES_ON, *GOES_ON, *GOES_ON, *Label]  # mostly those that something follows
MESSAGES = ["", "the flux is off", "no such thing"]
OPEN = (Label.UNKNOWN, Label.REQUEST_INVALID)
"""What may be compared where no words make it certain."""
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
    certain=st.booleans(),
    message=st.sampled_from(MESSAGES),
)
MOVES = 60


def _any_reply(random: Random) -> Said:
    flag, sent, status = random.random() < 0.5, random.random() < 0.5, random.randrange(5)
    label, hint, then = random.choice(LABELS), random.choice(HINTS), random.choice(THENS)
    certain, message = random.random() < 0.5, random.choice(MESSAGES)
    return Said(random.choice(FAULTS), flag, sent, label, status, hint, then, certain, message)


@dataclass
class Watched:
    """An exchange, and what it has done so far."""

    exchange: Exchange
    on: Route
    sent: list[Candidate] = field(default_factory=list)
    tickets: list[tuple[int, Candidate]] = field(default_factory=list)
    waits_until: float | None = None
    over: bool = False
    released: Candidate | None = None
    ticket: int = 0
    """That of the attempt that was released."""
    ended_by: Label | None = None
    ruled_out: set[tuple[str, str]] = field(default_factory=set)
    """Upstreams and models that said that they cannot do this request."""
    opinions: int = 0
    """How many second opinions it has asked for."""

    def may_change(self, key: Key, cleared: int) -> bool:
        """Whether something that this exchange has sent is about the key, and is newer than what cleared it (F16)."""
        return any(ticket > cleared and key in keys_of(candidate) for ticket, candidate in self.tickets)


class Laws(RuleBasedStateMachine):
    """Many exchanges over shared credentials and models. Every rule ends in :meth:`take`, which checks the laws."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.suspensions = Suspensions(self.clock)
        self.selector = Selector(self.suspensions)
        self.sessions = Sessions(self.clock, 3600.0)
        self.random = Random(1)
        self.open: list[Watched] = []
        self.released: list[Watched] = []
        """The tool has the beginning of these; they may still end well or badly."""
        self.ends: dict[Key, float] = {}
        self.cleared: dict[Key, int] = {}
        self.early: dict[Candidate, float] = {}
        self.steps: dict[tuple[Key, Label], tuple[int, float]] = {}

    # -- what can happen -----------------------------------------------------------------------------------------

    @rule(
        on=st.sampled_from(ROUTES),
        together=st.integers(1, 3),
        generating=st.sampled_from([True, True, True, False]),
        blocked=st.sampled_from(["", "", "", "", "openai", "other"]),
        replay_after_sent=st.booleans(),
        session=st.sampled_from(["", "one", "two"]),
        bound_to=st.sampled_from(["", "", "", "a", "c"]),
        spent=st.sampled_from([Spent(), Spent(), Spent(2, 5.0), Spent(9, 99.0), Spent(2, 0.0, told=True)]),
    )
    def requests_come(
        self,
        on: Route,
        together: int,
        generating: bool,
        blocked: str,
        replay_after_sent: bool,
        session: str,
        bound_to: str,
        spent: Spent,
    ) -> None:
        """Some at the same instant, so that several are under way at the same candidate."""
        for _ in range(together):
            request = Request(
                on.pattern,
                generating,
                True,
                {blocked: "no"} if blocked else {},
                replay_after_sent,
                session=session,
                bound_to=bound_to,
                spent=spent,
            )
            lineup = self.selector.lineup(on, on.pattern, "openai")
            arguments = (request, lineup, self.selector, RULES, self.clock.now, self.random, self.sessions)
            watched = Watched(Exchange(*arguments), on)
            self.open.append(watched)
            self.take(watched, watched.exchange.begin(self.clock.now))

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

    @rule(which=st.integers(0, 9))
    def a_wait_is_looked_at(self, which: int) -> None:
        """The layer looks now and then whether a wait can end early."""
        if (watched := self.find(which, sending=False)) is not None and watched.exchange.is_ready():
            watched.waits_until = None
            self.take(watched, watched.exchange.resume(self.clock.now))

    @rule(which=st.integers(0, 9), label=st.sampled_from([Label.CREDENTIAL_REJECTED, Label.REQUEST_INVALID]))
    def a_request_cannot_be_built(self, which: int, label: Label) -> None:
        if (watched := self.find(which, sending=True)) is not None:
            before = self.running()
            last = watched.sent.pop()  # it never was: law 5
            attempt = watched.exchange.attempt
            assert attempt is not None
            watched.opinions -= attempt.opinion
            step = watched.exchange.unsendable(label, "builtin/secret", "gone", self.clock.now)
            earlier = {each.suspension.key for each in watched.exchange.outcomes[:-1] if each.suspension is not None}
            after = self.running()
            assert {key for key in after if after[key] != before.get(key)} <= earlier  # with nobody left, in full
            assert not isinstance(step, Attempt) or step.candidate != last
            self.take(watched, step)

    @rule(which=st.integers(0, 9), ends=st.sampled_from([None, Label.OK, Label.OK, Label.OVERLOADED]))
    def output_comes(self, which: int, ends: Label | None) -> None:
        """The released stream goes on for a while, or ends at once, well or badly."""
        if (watched := self.find(which, sending=True)) is not None:
            attempt = watched.exchange.attempt
            assert attempt is not None
            watched.exchange.accept()
            assert not self.held_by(attempt.ticket)  # F14: it has shown what it is worth
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
        # What is in one doubt with it is free as well, because it was another request's fault (J04).
        assert watched.released is not None
        own = {key_of(watched.released, Scope.CANDIDATE)}
        doubts = {before[key].doubt for key in keys_of(watched.released) if key in before} - {0}
        with_it = {key for key, item in before.items() if item.doubt in doubts} - own
        assert lifted <= own | with_it
        assert watched.exchange.request.generating or not lifted
        assert all(before[key].order < watched.ticket for key in lifted)
        ours = [each for each in watched.exchange.outcomes if each.attempt.candidate == watched.released]
        assert not lifted or ours[-1].verdict.label is Label.OK
        self.note_cleared(lifted - with_it)
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
            assert changed <= set(keys_of(watched.released))
            assert all(watched.ticket > self.cleared.get(key, 0) for key in changed)  # F16
            assert label not in ABOUT_NOBODY or not changed

    @rule(seconds=st.sampled_from([0.01, 1.0, 5.0, 30.0, 600.0, 100_000.0, -10.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=st.integers(0, 9))
    def somebody_resumes_by_hand(self, which: int) -> None:
        if running := list(self.suspensions):
            key = running[which % len(running)].key
            assert self.suspensions.resume(key) is not None
            assert self.suspensions.get(key) is self.suspensions.half_open(key) is None
            self.note_cleared({key})

    @rule(name=st.sampled_from("abc"), rejected_only=st.booleans())
    def a_secret_changes(self, name: str, rejected_only: bool) -> None:
        """F16: what was learnt with the old one is void, and late results of it count no more."""
        generation = self.suspensions.generations[name]
        self.suspensions.renew(name, rejected_only=rejected_only)
        assert self.suspensions.generations[name] == generation + 1
        about = {item.key: item.label for item in self.suspensions if item.key.name == name}
        if not rejected_only:
            assert not {key for key in about if key.scope is not Scope.UPSTREAM}
        keys = {key_of(member, scope) for member in MEMBERS for scope in (Scope.CANDIDATE, Scope.CREDENTIAL)}
        running = self.running()
        gone = {key for key in keys if key.name == name and key not in running}
        self.note_cleared(gone)
        for key in keys - gone:
            if key.name == name:
                self.cleared[key] = self.suspensions.ticket()

    @rule(kept=st.sets(st.sampled_from("abc")))
    def the_pool_is_reloaded(self, kept: set[str]) -> None:
        """Law 11: what is open works on with its lineups. O03: what is gone takes its suspensions along."""
        self.selector = Selector(self.suspensions)
        before = self.running()
        self.suspensions.retain(lambda key: key.scope is Scope.UPSTREAM or key.name in kept)
        after = self.running()
        assert set(after) == {key for key in before if key.scope is Scope.UPSTREAM or key.name in kept}
        self.note_cleared(set(before) - set(after))

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
        may_compare = said.label in OPEN and not said.certain and said.then.replay is None and said.fault is None
        may_compare = may_compare and exchange.request.generating and not exchange.request.bound_to
        if attempt.opinion:  # J02, J03: whatever it says, nobody else is asked
            assert not isinstance(step, Attempt | Wait)
            watched.ended_by = label
        elif ends and isinstance(step, Attempt | Wait):
            assert may_compare and watched.on.second_opinion and watched.ended_by is None  # J01, J03
        elif ends:
            watched.ended_by = label
        elif DEFAULTS[label].next is Next.OTHER_MODEL and not isinstance(step, Wait):
            watched.ruled_out.add((attempt.candidate.upstream.name, attempt.candidate.model))
        after = self.running()
        changed = {key for key in after if after[key] != before.get(key)}
        # Laws 4 and 7, F16: who may be suspended by this, and by whom. What refused before, or could not be reached,
        # may be penalised in full now (F12, L11).
        earlier = {each.suspension.key for each in exchange.outcomes[:-1] if each.suspension is not None}
        assert changed - earlier <= set(keys_of(attempt.candidate))
        assert all(watched.may_change(key, self.cleared.get(key, 0)) for key in changed)
        named = not said.fault and label is Label.MODEL_UNSUPPORTED and said.flag
        if label in ABOUT_NOBODY or not (exchange.request.generating or named):
            assert not changed - earlier
        if not isinstance(step, Wait):
            assert not self.held_by(attempt.ticket)  # F14: the slot is free on every outcome
        self.take(watched, step)

    def wake(self, watched: Watched, ahead: float) -> None:
        """The wait of an exchange is over, or nearly, or long ago."""
        assert watched.waits_until is not None
        self.clock.now = max(self.clock.now, watched.waits_until + ahead)
        watched.waits_until = None
        self.take(watched, watched.exchange.resume(self.clock.now))

    def play_deep(self, seed: int) -> None:
        """Hypothesis plays short games; this one goes deep: many requests over few candidates."""
        random = Random(seed)
        for _ in range(MOVES):
            if len(self.open) < 6:
                blocked = random.choice(["", "", "", "", "", "openai", "other"])
                self.requests_come(
                    random.choice(ROUTES),
                    random.randint(1, 3),
                    random.random() < 0.8,
                    blocked,
                    random.random() < 0.8,
                    random.choice(["", "one", "two"]),
                    random.choice(["", "", "", "", "a", "c"]),
                    random.choice([Spent(), Spent(), Spent(), Spent(2, 5.0)]),
                )
            which = random.randrange(10)
            match random.randrange(18):
                case 0 | 1:
                    self.time_passes(random.choice([0.01, 1.0, 5.0, 5.0, 30.0, 600.0, 4000.0, -10.0]))
                case 2:
                    self.output_comes(which, random.choice([None, Label.OK, Label.OK, Label.OVERLOADED]))
                case 3:
                    self.a_stream_dies(which, random.choice(list(Label)))
                case 4:
                    self.a_reply_is_complete(which)
                case 5 | 6:
                    self.a_wait_ends(which, random.choice([-0.005, 0.0, 0.1, 100.0]))
                case 7:
                    self.a_request_cannot_be_built(which, Label.REQUEST_INVALID)
                case 8:
                    [self.a_tool_goes_away, self.somebody_resumes_by_hand, self.a_wait_is_looked_at][which % 3](which)
                case 9 if random.random() < 0.3:
                    self.a_secret_changes(random.choice("abc"), random.random() < 0.5)
                case _:
                    said = [_any_reply(random) for _ in range(random.randint(1, 6))]
                    self.upstreams_answer(which, said, random.random() < 0.7)
            self.check()

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
                chosen = exchange.outcomes[step.attempt - 1].attempt
                self.close(watched, chosen.candidate, chosen.ticket)
            case Refuse():
                self.check_refusal(watched, step)
                self.close(watched, None)

    def check_attempt(self, watched: Watched, step: Attempt) -> None:
        exchange, now, chosen = watched.exchange, self.clock.now, step.candidate
        request = exchange.request
        assert not watched.over  # law 1
        assert watched.ended_by is None  # laws 7 and 9: a reply that is the tool's business is not replayed
        assert chosen in exchange.lineup.members
        assert chosen.upstream.name not in request.blocked
        assert not request.bound_to or chosen.credential.name == request.bound_to  # P04
        assert (chosen.upstream.name, chosen.model) not in watched.ruled_out  # F10
        alone = exchange._chooser.only is not None
        if step.opinion:  # J03
            watched.opinions += 1
            compared = [each for each in exchange.outcomes if each.compared is Compared.ASKED]
            assert watched.opinions == len(compared) == 1
            assert compared[0].attempt.candidate.credential != chosen.credential
            assert request.generating and not request.bound_to and watched.on.second_opinion
        held = self.selector.suspensions_of(chosen)
        if step.early and not (held and all(each.doubt for each in held)):  # F17
            assert all(
                due is not None and due.label is Label.MODEL_UNSUPPORTED
                for member in exchange.lineup.members
                if not request.why_not(member)
                for due in [self.selector.suspension_of(member)]
            )
        if step.early:  # J04 as well: of limits, overloads and refused models only now and then
            if any(each.label in PROBED for each in held):
                assert abs(now - self.early.get(chosen, -math.inf)) >= EARLY_PROBE
                self.early[chosen] = now
        else:
            assert self.selector.suspension_of(chosen, stated=alone) is None  # law 3
        assert alone or not self.selector.is_probed(chosen, step.ticket)  # F14: exactly one finds out
        assert now < exchange.deadline or not watched.sent  # W08
        watched.sent.append(chosen)
        watched.tickets.append((step.ticket, chosen))
        assert watched.sent.count(chosen) <= 2  # law 2
        assert not step.repeat or watched.sent.count(chosen) == 2
        assert len(watched.sent) <= watched.on.budget.attempts  # W04, law 5
        assert len(watched.sent) <= max(1, watched.on.budget.attempts - request.spent.attempts)
        assert step.number == len(exchange.outcomes) + 1

    def check_release(self, watched: Watched, step: Release) -> None:
        outcomes = watched.exchange.outcomes
        released = outcomes[step.attempt - 1]
        assert released.attempt.number == step.attempt
        assert released.status not in (0, 401)  # law 6: a real reply that does not lie about the tool's login
        assert released.status != 403 or released.verdict.label not in (Label.CREDENTIAL_REJECTED, Label.UNKNOWN)
        first = (Compared.ASKED, Compared.REQUEST, Compared.UNDECIDED, Compared.KNOWN_REQUEST)
        compared = released.compared in first  # J02: that very reply
        if (watched.ended_by is None or step.attempt != len(outcomes)) and not compared:
            assert released.hope == max(each.hope for each in outcomes if each.releasable)  # law 6
        if step.final and not step.retry:
            members = [each for each in watched.exchange.lineup.members if not watched.exchange.request.why_not(each)]
            dues = [self.selector.suspension_of(member) for member in members]
            # What is in doubt is out for this very request: another round of it would be refused alike (J04).
            assert not any(due is not None and not due.doubt and 0 < due.until - self.clock.now <= 60 for due in dues)

    def check_refusal(self, watched: Watched, step: Refuse) -> None:
        assert step.status in (400, 429, 503)
        assert not any(each.releasable for each in watched.exchange.outcomes)  # law 6: a real reply goes before
        assert step.retry_after is None or step.status != 400  # W09
        if not watched.sent and not watched.exchange.request.spent.told:
            assert (step.retry_after is None) is (step.status == 400)  # W03
        assert step.retry_after is None or 1 <= step.retry_after <= 60
        assert len(step.message.splitlines()) == 1 + len(watched.exchange.lineup.members)  # W03
        assert not step.refused or not watched.sent

    def close(self, watched: Watched, released: Candidate | None, ticket: int = 0) -> None:
        """Law 1: from here on nothing moves any more."""
        watched.over, watched.released = True, released
        watched.ticket = ticket or next((number for number, who in reversed(watched.tickets) if who == released), 0)
        self.open.remove(watched)
        if released is not None:
            self.released.append(watched)
        exchange, now = watched.exchange, self.clock.now
        assert not any(self.held_by(number) for number, _ in watched.tickets)  # F14
        before = len(exchange.outcomes)
        for move in (lambda: exchange.resume(now), lambda: exchange.judge(reply(Label.OK), now), exchange.accept):
            with pytest.raises(RuntimeError):
                move()
        assert (len(exchange.outcomes), exchange.attempt) == (before, None)

    @invariant()
    def check(self) -> None:
        """What holds whatever has happened."""
        self.suspensions_are_only_lengthened()
        self.ladders_are_climbed_once_per_window()
        self.probes_belong_to_somebody()
        self.lineups_know_who_is_free()

    def suspensions_are_only_lengthened(self) -> None:
        """Law 3: until they expire or are resumed; and their keys are upstream models, never aliases."""
        running = self.running()
        for key, end in self.ends.items():
            assert running.get(key, end if end <= self.clock.now else 0.0) >= end, key
        for key in running:
            assert key.model in MODELS if key.scope is Scope.CANDIDATE else not key.model
        self.ends = running

    def ladders_are_climbed_once_per_window(self) -> None:
        """F15: steps we choose ourselves are as long as the ladder says, and each is counted after the last is over."""
        for item in self.suspensions:
            if item.hint or item.rule in FAULT_RULES.values() or item.label is Label.MODEL_UNSUPPORTED:
                continue
            steps = DEFAULTS[item.label].steps
            length = item.until - item.since
            if length < 10 or length == SHORT_STEP:  # a rule's own time is 7 s, and like the short step knows no ladder
                continue
            expected = seconds_of(steps, item.step)
            # L08: chance makes it longer, and at the last step shorter: never longer than that.
            longest = min(expected * (1 + JITTER), steps[-1])
            assert min(expected, longest * (1 - JITTER)) - 1e-6 <= length <= longest + 1e-6
            last_step, last_until = self.steps.get((item.key, item.label), (item.step, item.until))
            assert item.step <= last_step or item.since >= last_until
            self.steps[item.key, item.label] = (item.step, item.until)

    def probes_belong_to_somebody(self) -> None:
        """F14: whoever holds the slot of a half-open key still has to find out, or is about to ask once more."""
        for key, ticket in self.suspensions._probes.items():
            assert self.suspensions.half_open(key) is not None
            holders = [each for each in self.open if any(number == ticket for number, _ in each.tickets)]
            assert len(holders) == 1
            assert key in keys_of(next(who for number, who in holders[0].tickets if number == ticket))

    def lineups_know_who_is_free(self) -> None:
        """Law 5: what is skipped is what is suspended or probed, in the lineups of every pool that is still in use."""
        self.suspensions.expire()
        for lineup in {id(each.exchange.lineup): each.exchange.lineup for each in self.open}.values():
            free = [
                member
                for member in lineup.members
                if self.selector.suspension_of(member) is None and not self.selector.is_probed(member)
            ]
            assert lineup.members_of(lineup.available()) == free

    # -- helpers -------------------------------------------------------------------------------------------------

    def running(self) -> dict[Key, float]:
        return {item.key: item.until for item in self.suspensions}

    def held_by(self, ticket: int) -> bool:
        """Whether an attempt still holds the slot of a probe."""
        return ticket in self.suspensions._probes.values()

    def note_cleared(self, keys: set[Key]) -> None:
        """These were given back: attempts that began before say nothing about them any more."""
        for key in keys:
            self.cleared[key] = self.suspensions.ticket()
            self.ends.pop(key, None)
            if key.scope is Scope.CANDIDATE:
                self.early = {who: at for who, at in self.early.items() if key_of(who, Scope.CANDIDATE) != key}

    def find(self, which: int, *, sending: bool) -> Watched | None:
        """One of the open exchanges that is sending, or one that waits."""
        found = [each for each in self.open if (each.waits_until is None) is sending]
        return found[which % len(found)] if found else None


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=int(os.environ.get("LAWS_EXAMPLES", "2000")),
    stateful_step_count=10,
    deadline=None,  # timings are never asserted
    derandomize="LAWS_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("first", range(0, int(os.environ.get("LAWS_EXAMPLES", "100")), 100))
def test_the_laws_hold_in_long_games(first: int) -> None:
    """Laws 1 to 7 after each of 60 moves, in games of many requests over few candidates."""
    for seed in range(first, first + 100):
        Laws().play_deep(seed)


def test_a_run_can_be_told_again() -> None:
    """Determinism: the same pool, clock, chance and replies give the same outcomes and suspensions."""

    def told(seed: int) -> list[str]:
        laws = Laws()
        laws.play_deep(seed)
        return [repr(each) for each in (*laws.suspensions, *(watched.exchange for watched in laws.open))]

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_time_begins_where_the_tests_say() -> None:
    """The machine's clock is its own: nothing here looks at the real one."""
    assert Laws().clock.now == NOW
