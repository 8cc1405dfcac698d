"""Calls begin in steps after a switch, and no more at a time than a credential's ``concurrency`` says (Q02)."""

from __future__ import annotations

import gc
from itertools import pairwise

import pytest

from tests.support.decisions import Clock, Stage, candidate, reply, route
from understudy.failover import Attempt, Exchange, Pacing, Refuse, Release, Step, Wait
from understudy.failover import pacing as module
from understudy.failover.pacing import LOOK, MOST_LANES, MOST_WAITING, RAMP, STEP, Lane
from understudy.model import Budget, Label, Route, Then

A, B, C = candidate("a"), candidate("b"), candidate("c")
ON = route(A, B)
ENDED = reply(Label.QUOTA_EXHAUSTED, retry_after="3600")


def paced(**limits: int) -> Stage:
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use(limits)
    return stage


class Agents:
    """Several calls at once, each at its own step; they go on whenever they can."""

    def __init__(self, stage: Stage, count: int, on: Route = ON, **facts: object) -> None:
        self.stage = stage
        self.began = stage.now
        self.steps: list[tuple[Exchange, Step]] = [stage.open(on, **facts) for _ in range(count)]  # type: ignore[arg-type]
        self.begun: list[tuple[int, str, float]] = []
        """Which call, to whom, and after how many seconds."""

    def all_get(self, label_reply: object = ENDED) -> None:
        """Each attempt that is under way gets this reply."""
        for at, (exchange, step) in enumerate(self.steps):
            if isinstance(step, Attempt):
                following = exchange.judge(label_reply, self.stage.now)  # type: ignore[arg-type]
                self.steps[at] = (exchange, following)
                self._note(at, following)

    def go_on(self, seconds: float, by: float = STEP / 5) -> None:
        """So much time passes."""
        end = self.stage.now + seconds
        while self.stage.now < end - 1e-9:
            self.stage.clock.now += by
            for at, (exchange, step) in enumerate(self.steps):
                if isinstance(step, Wait) and exchange.is_under_way and (exchange.is_ready()):
                    following = exchange.resume(self.stage.now)
                    self.steps[at] = (exchange, following)
                    self._note(at, following)

    def _note(self, at: int, step: Step) -> None:
        if isinstance(step, Attempt):
            self.begun.append((at, step.candidate.credential.name, round(self.stage.now - self.began, 3)))


def test_q02_after_a_switch_the_next_ones_load_rises_in_steps() -> None:
    """Q02: fifty agents whose account ends at once: one begins on B, then one more each 250 ms, in their order."""
    stage = paced()
    agents = Agents(stage, 50)
    agents.all_get()
    assert agents.begun == [(0, "b", 0.0)]
    agents.go_on(16)
    assert [(at, to) for at, to, _ in agents.begun] == [(at, "b") for at in range(50)]
    times = [when for _, _, when in agents.begun]
    assert all(later - earlier >= STEP - 1e-6 for earlier, later in pairwise(times))
    assert times[-1] <= 49 * (STEP + STEP / 5) + STEP
    assert all(exchange.waited < 16 for exchange, _ in agents.steps)


def test_q02_a_single_agent_waits_for_nothing() -> None:
    """Q02, F01: call after call begins at once: nothing is under way, and nobody waits."""
    stage = paced()
    for number in range(10):
        exchange, step = stage.open(ON)
        if number == 0:
            step = exchange.judge(ENDED, stage.now)
        assert step == Attempt(2 if number == 0 else 1, B)
        exchange.accept()
        exchange.finished()


def test_q02_a_session_that_the_candidate_serves_already_does_not_wait() -> None:
    stage = paced()
    for on, session in ((route(B, A), "of-b"), (ON, "of-a")):
        own, _ = stage.open(on, session=session)
        own.accept()
    agents = Agents(stage, 5)
    agents.all_get()
    _, step = stage.open(ON)
    assert isinstance(step, Wait)
    own, step = stage.open(route(B, A), session="of-b")
    assert step == Attempt(1, B)


def test_q02_the_steps_end_after_half_a_minute() -> None:
    stage = paced()
    agents = Agents(stage, 3)
    agents.all_get()
    agents.go_on(RAMP)
    assert [stage.open(ON)[1] for _ in range(3)] == [Attempt(1, B)] * 3


def test_q02_who_has_the_load_already_is_not_made_to_wait_by_a_probe_elsewhere() -> None:
    """A comes half-open for one call each hour, and refuses it: that is no switch."""
    stage = paced()
    first, _ = stage.open(ON)
    assert first.judge(ENDED, stage.now) == Attempt(2, B)
    first.accept()
    first.finished()
    stage.clock.now += 3600
    for _ in range(3):
        exchange, step = stage.open(route(B, A))
        assert step == Attempt(1, B)
        exchange.accept()
    probe, step = stage.open(ON)
    assert step == Attempt(1, A)
    assert probe.judge(ENDED, stage.now) == Attempt(2, B)
    assert stage.open(ON)[1] == Attempt(1, B)


def test_q02_a_full_queue_goes_to_the_next_candidate() -> None:
    """Q02: bounded in number; the next one's load rises in steps as well only when it is switched to."""
    stage = paced(b=1)
    on = route(B, C)
    agents = Agents(stage, MOST_WAITING + 3, on)
    steps = [step for _, step in agents.steps]
    assert steps[0] == Attempt(1, B)
    assert all(isinstance(step, Wait) for step in steps[1 : MOST_WAITING + 1])
    assert steps[MOST_WAITING + 1 :] == [Attempt(1, C)] * 2


def test_q02_the_wait_for_a_turn_is_bounded_in_time() -> None:
    """Q02: by ``wait``; then the next candidate is asked, and without one the tool is told at once."""
    stage = paced(b=1)
    on = route(B, C, budget=Budget(wait=5))
    holder, _ = stage.open(on)
    exchange, step = stage.open(on)
    assert isinstance(step, Wait)
    assert step.seconds == 5
    stage.clock.now += 5
    assert exchange.resume(stage.now) == Attempt(1, C)
    alone, step = stage.open(route(B, budget=Budget(wait=5)))
    assert isinstance(step, Wait)
    stage.clock.now += 5
    refusal = alone.resume(stage.now)
    assert isinstance(refusal, Refuse)
    assert (refusal.status, refusal.retry_after) == (503, 1)
    assert "calls are under way" in refusal.message
    holder.finished()


def test_q02_the_wait_for_a_turn_ends_before_the_budget_does() -> None:
    """Q02: no attempt begins after its ``seconds``, whatever ``wait`` says."""
    stage = paced(b=1)
    on = route(B, C, budget=Budget(seconds=3, wait=5))
    holder, _ = stage.open(on)
    exchange, step = stage.open(on)
    assert isinstance(step, Wait)
    assert step.seconds == pytest.approx(3)
    stage.clock.now += step.seconds
    assert exchange.resume(stage.now) == Attempt(1, C)
    holder.finished()


def test_q02_concurrency_is_kept_and_the_rest_queue_in_order() -> None:
    """Q02: three at a time; whoever ends lets the first of the queue begin."""
    stage = paced(b=3)
    agents = Agents(stage, 6, route(B))
    steps = [step for _, step in agents.steps]
    assert steps[:3] == [Attempt(1, B)] * 3
    assert all(isinstance(step, Wait) for step in steps[3:])
    assert stage.pacing is not None
    assert stage.pacing.of("b") == (3, 3, 3)
    agents.go_on(1)
    assert agents.begun == []
    exchange = agents.steps[1][0]
    exchange.accept()
    agents.go_on(1)
    assert agents.begun == []  # a stream that was released is under way until its end
    exchange.finished()
    agents.go_on(0.1)
    assert [at for at, _, _ in agents.begun] == [3]
    agents.steps[0][0].cancelled()  # the tool of another one goes away
    agents.go_on(0.1)
    assert [at for at, _, _ in agents.begun] == [3, 4]
    assert stage.pacing.of("b") == (3, 1, 3)


def test_q02_who_waits_and_goes_away_holds_up_nobody() -> None:
    stage = paced(b=1)
    agents = Agents(stage, 4, route(B))
    agents.steps[1][0].cancelled()
    agents.steps[0][0].finished()
    agents.go_on(0.1)
    assert [at for at, _, _ in agents.begun] == [2]


def test_q02_a_place_that_is_dropped_without_a_word_is_free_again() -> None:
    """Nothing leaks, whatever becomes of a call."""
    stage = paced(b=1)
    exchange, _ = stage.open(route(B))
    assert stage.pacing is not None
    assert stage.pacing.of("b") == (1, 0, 1)
    del exchange
    gc.collect()
    assert stage.pacing.of("b") == (0, 0, 1)


def test_q02_an_attempt_that_failed_gives_its_place_back_and_a_repeat_keeps_it() -> None:
    stage = paced(a=1, b=1)
    exchange, _ = stage.open(ON)
    assert stage.pacing is not None
    wait = exchange.judge(reply(Label.OVERLOADED), stage.now)
    assert isinstance(wait, Wait)
    assert stage.pacing.of("a") == (1, 0, 1)
    stage.clock.now += wait.seconds
    assert exchange.resume(stage.now) == Attempt(2, A, repeat=True)
    assert exchange.judge(reply(Label.OVERLOADED), stage.now) == Attempt(3, B)
    assert (stage.pacing.of("a"), stage.pacing.of("b")) == ((0, 0, 1), (1, 0, 1))


def test_q02_a_hedge_does_not_go_past_the_limit() -> None:
    """Q02: nor does a second opinion."""
    stage = paced(b=1)
    holder, _ = stage.open(route(B))
    exchange, _ = stage.open(ON)
    assert exchange.hedge(A, stage.now) is None
    step = exchange.judge(reply(Label.REQUEST_INVALID, certain=False, message="odd"), stage.now)
    assert step == Release(1)
    holder.finished()


def test_q02_a_candidate_that_is_suspended_meanwhile_is_waited_for_no_longer() -> None:
    stage = paced(b=1)
    holder, _ = stage.open(route(B))
    waiting, step = stage.open(route(B, C))
    assert isinstance(step, Wait)
    stage.suspend(B)
    assert waiting.is_ready()
    assert waiting.resume(stage.now) == Attempt(1, C)
    assert stage.pacing is not None
    assert stage.pacing.of("b") == (1, 0, 1)
    holder.finished()


def test_q02_where_nobody_else_is_left_the_steps_are_no_reason_to_refuse() -> None:
    """A call that could not have its turn in time begins all the same: only a stated limit is kept."""
    stage = paced()
    agents = Agents(stage, 60, route(A, B, budget=Budget(wait=1)))
    agents.all_get()
    agents.go_on(1.2)
    assert len(agents.begun) == 60


def test_q02_a_token_count_is_not_counted() -> None:
    stage = paced(b=1)
    holder, _ = stage.open(route(B))
    assert stage.open(route(B), generating=False)[1] == Attempt(1, B)
    holder.finished()


def test_a_pool_without_ramps_has_none() -> None:
    stage = paced()
    assert stage.pacing is not None
    stage.pacing.use({}, 0)
    agents = Agents(stage, 20)
    agents.all_get()
    assert len(agents.begun) == 20
    assert stage.pacing.is_idle


def test_a_reload_changes_the_limit_of_what_is_under_way() -> None:
    stage = paced(b=1)
    assert stage.pacing is not None
    agents = Agents(stage, 3, route(B))
    stage.pacing.use({"b": 2})
    agents.go_on(0.1)
    assert [at for at, _, _ in agents.begun] == [1]


def test_each_tools_own_login_is_an_account_of_its_own() -> None:
    clock = Clock()
    pacing = Pacing(clock)
    pacing.use({"own": 1})
    first, second = pacing.lane("own"), pacing.lane("own~2")
    assert first is not None and second is not None and first is not second
    held = first.begin()
    assert held is not None
    assert first.begin() is None
    other = second.begin()
    assert other is not None


def test_lanes_are_bounded() -> None:
    clock = Clock()
    pacing = Pacing(clock)
    pacing.use({})
    for number in range(MOST_LANES + 10):
        pacing.switched_to(f"c{number}")
    assert len(pacing._lanes) <= MOST_LANES
    clock.now += RAMP
    for number in range(MOST_LANES + 10):
        assert pacing.lane(f"c{number}") is None
    assert pacing.is_idle


def test_a_look_comes_when_a_turn_can() -> None:
    """No polling for what is known: the second of a queue looks again in two steps."""
    clock = Clock()
    lane = Lane(clock, 0)
    lane.ramp_until = clock() + RAMP
    first = lane.begin()
    assert first is not None
    one, two = lane.wait(30), lane.wait(30)
    assert one is not None and two is not None
    assert (round(lane.look_in(one), 3), round(lane.look_in(two), 3)) == (STEP, 2 * STEP)


# -- one lane -------------------------------------------------------------------------------------------------------


def ramped(clock: Clock, limit: int = 0) -> Lane:
    """A lane on which one call has just begun after a switch."""
    lane = Lane(clock, limit)
    lane.ramp_until = clock() + RAMP
    return lane


def test_a_call_begins_when_its_step_has_come_and_not_before() -> None:
    """Q02: to the moment; where nothing is under way, or after the ramp, at once."""
    clock = Clock()
    lane = ramped(clock)
    first = lane.begin()
    assert first is not None
    clock.now += STEP - 0.01
    assert lane.begin() is None
    clock.now += 0.01
    second = lane.begin()
    assert second is not None
    assert lane.under_way == 2
    for place in (first, second):
        place.leave()
    assert (lane.under_way, lane.is_used) == (0, True)
    third = lane.begin()
    assert third is not None
    clock.now = lane.ramp_until
    assert not lane.is_ramping
    assert lane.begin() is not None
    third.leave()
    assert not lane.is_used


def test_who_is_served_already_or_has_no_time_goes_first_but_not_past_the_limit() -> None:
    """Q02: a session and a last resort wait for no step and for nobody in the queue."""
    clock = Clock()
    lane = ramped(clock, limit=4)
    begun = [lane.begin()]
    waiting = lane.wait(30)
    assert waiting is not None and lane.begin() is None
    begun += [lane.begin(seated=True), lane.begin(at_once=True), lane.begin(seated=True)]
    assert None not in begun
    assert not lane.has_room
    assert lane.begin(seated=True) is None and lane.begin(at_once=True) is None


def test_who_waits_knows_that_a_turn_can_come_in_time() -> None:
    """Q02: a step each, from the one that comes next; without a ramp it is anybody's guess, and worth a wait."""
    clock = Clock()
    lane = ramped(clock)
    held = lane.begin()
    assert held is not None
    assert lane.wait(STEP - 0.01) is None
    one = lane.wait(STEP)
    assert one is not None
    assert lane.wait(2 * STEP - 0.01) is None
    two = lane.wait(2 * STEP)
    assert two is not None
    assert lane.waiting == 2
    clock.now += STEP
    assert [lane.is_turn(each) for each in (one, two)] == [True, False]
    lane.take_turn(one)
    assert (lane.waiting, lane.under_way) == (1, 2)
    assert not lane.is_turn(two)
    clock.now += STEP
    assert lane.is_turn(two)
    full = Lane(clock, 1)
    under_way = full.begin()
    assert under_way is not None
    assert full.wait(0) is None
    later = full.wait(0.001)
    assert later is not None and not full.is_turn(later)
    under_way.leave()
    assert full.is_turn(later)


def test_a_place_in_the_queue_that_is_dropped_without_a_word_holds_up_nobody() -> None:
    clock = Clock()
    lane = Lane(clock, 1)
    under_way, gone, next_one = lane.begin(), lane.wait(30), lane.wait(30)
    assert under_way is not None and gone is not None and next_one is not None
    under_way.leave()
    assert not lane.is_turn(next_one)
    del gone
    gc.collect()
    assert lane.waiting == 1
    assert lane.is_turn(next_one)
    next_one.leave()
    assert lane.waiting == 0 and not lane.is_used


def test_a_look_comes_soon_where_nobody_knows_when_a_call_ends() -> None:
    """The first of the queue looks often, the others less so; who is late for its step looks at once."""
    clock = Clock()
    lane = Lane(clock, 1)
    held = lane.begin()
    places = [lane.wait(30) for _ in range(3)]
    assert held is not None
    assert [lane.look_in(each) for each in places if each is not None] == pytest.approx([LOOK, 2 * LOOK, 3 * LOOK])
    assert lane.look_in(held) == LOOK
    lane.ramp_until = clock() + RAMP  # a switch while it is full: a call has to end first
    assert [lane.look_in(each) for each in places if each is not None] == pytest.approx([LOOK, 2 * LOOK, 3 * LOOK])
    late = ramped(clock)
    under_way, waiting = late.begin(), late.wait(30)
    assert under_way is not None and waiting is not None
    clock.now += 5
    assert late.look_in(waiting) == 0.01


# -- all lanes -------------------------------------------------------------------------------------------------------


def test_a_switch_during_a_ramp_or_soon_after_it_begins_no_other() -> None:
    """Q02: it is so already; a new one begins when as much time has passed as a ramp takes."""
    clock = Clock()
    pacing = Pacing(clock)
    pacing.use({"b": 5})
    pacing.switched_to("b")
    lane = pacing.lane("b")
    assert lane is not None
    first = lane.ramp_until
    assert first == clock() + RAMP
    for seconds in (10.0, RAMP, RAMP - 10.5):
        clock.now += seconds
        pacing.switched_to("b")
        assert lane.ramp_until == first
    clock.now += 0.5
    pacing.switched_to("b")
    assert lane.ramp_until == clock() + RAMP


def test_the_lane_that_nobody_uses_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: and the oldest one where all are used."""
    monkeypatch.setattr(module, "MOST_LANES", 2)
    clock = Clock()
    pacing = Pacing(clock)
    pacing.use({"a": 1, "b": 1, "c": 1})
    a, b = pacing.lane("a"), pacing.lane("b")
    assert a is not None and b is not None
    held = a.begin()
    assert held is not None
    c = pacing.lane("c")
    assert c is not None
    assert pacing.of("a") == (1, 0, 1)
    also = c.begin()
    assert also is not None
    assert pacing.of("b") == (0, 0, 1), "it has come anew, in the place of the oldest"
    assert pacing.of("c") == (1, 0, 1)


def test_a_lane_without_a_limit_lasts_as_long_as_its_ramp_and_its_queue() -> None:
    """Then its calls just begin, and every call is spared the question."""
    clock = Clock()
    pacing = Pacing(clock)
    pacing.use({})
    assert pacing.is_idle and pacing.lane("b") is None and pacing.of("b") == (0, 0, 0)
    pacing.switched_to("b")
    assert not pacing.is_idle
    lane = pacing.lane("b")
    assert lane is not None
    held, waiting = lane.begin(), lane.wait(60)
    assert held is not None and waiting is not None
    clock.now += RAMP
    assert pacing.of("b") == (1, 1, 0)
    waiting.leave()
    assert pacing.lane("b") is None and pacing.is_idle


def test_a_session_does_not_pass_by_a_queue_for_want_of_room() -> None:
    """Q02: who serves it matters while beginnings are spaced, and a limit is a limit."""
    stage = paced(b=1)
    own, _ = stage.open(route(B, A), session="s")
    own.accept()
    own.finished()
    holder, _ = stage.open(route(B))
    waiting, _ = stage.open(route(B))
    holder.finished()
    _, step = stage.open(route(B, A), session="s")
    assert isinstance(step, Wait), "somebody waits already"
    waiting.cancelled()


def test_a_switch_to_who_has_the_load_already_is_none() -> None:
    """Q02: B answered a moment ago, and A has not for a minute: A was only tried again."""
    for answered, ramps in (((), True), (("b",), False), (("a", "b"), True), (("a",), True)):
        stage = paced()
        for name in answered:
            stage.suspensions.answers.answered((name, 0), "m1", stage.now - (RAMP if name == "b" else 2 * RAMP))
        exchange, _ = stage.open(ON)
        assert exchange.judge(ENDED, stage.now) == Attempt(2, B)
        assert stage.pacing is not None
        lane = stage.pacing.lane("b")
        assert (lane is not None) is ramps, answered
    late = paced()
    late.suspensions.answers.answered(("b", 0), "m1", late.now - RAMP - 1)
    exchange, _ = late.open(ON)
    exchange.judge(ENDED, late.now)
    assert late.pacing is not None and late.pacing.lane("b") is not None, "that was too long ago"


@pytest.mark.parametrize(
    ("answered", "ramps"),
    [((), False), (("m2", 0.0), False), (("m1", 0.0), True), (("m1", 2 * RAMP), True), (("m1", 2 * RAMP + 1), False)],
    ids=str,
)
def test_the_calls_for_a_model_that_was_never_served_are_no_load_that_moves(
    answered: tuple[str, float] | tuple[()], ramps: bool
) -> None:
    """Q02: one call that finds out held all others of the account back, for half a minute. A model that is retired
    while it is in use has a load."""
    stage = paced()
    if answered:
        stage.suspensions.answers.answered(("a", 0), answered[0], stage.now - answered[1])
    exchange, _ = stage.open(ON)
    assert exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now) == Attempt(2, B)
    assert stage.pacing is not None
    assert (stage.pacing.lane("b") is not None) is ramps


def test_who_goes_on_to_another_model_of_the_same_account_has_not_switched() -> None:
    """Q02: nor has who leaves a candidate that is not suspended."""
    stage = paced()
    second = candidate("a", "m2")
    exchange, _ = stage.open(route(A, second))
    assert exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now) == Attempt(2, second)
    assert stage.pacing is not None and stage.pacing.is_idle
    exchange, _ = stage.open(route(candidate("c"), B))
    assert exchange.judge(reply(Label.UNKNOWN, then=Then(replay=True)), stage.now) == Attempt(2, B)
    assert stage.pacing.is_idle


def test_a_call_that_waits_says_how_many_are_before_it() -> None:
    stage = paced(b=1)
    steps = [stage.open(route(B))[1] for _ in range(3)]
    assert [step.reason for step in steps if isinstance(step, Wait)] == []
    opened = [stage.open(route(B)) for _ in range(3)]
    assert Pacing(stage.clock).is_idle
    reasons = [step.reason for _, step in opened if isinstance(step, Wait)]
    assert reasons == [f"b m1: {number} calls wait before this one" for number in range(2)]
