"""The wait between two attempts: a time-out in, a step out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.layer import Core, ToolStream, pooled_call
from understudy.failover.exchange import Exchange
from understudy.failover.steps import Attempt, Step
from understudy.model.pool import Budget
from understudy.model.suspension import Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.proxy.timeouts import Timeout
from understudy.proxy.waiting import LOOK_INTERVAL, Waiting


class Pause:
    """An exchange that waits for its only candidate, and the part that waits."""

    def __init__(self, core: Core) -> None:
        self.core = core
        core.engine.suspensions.suspend(
            Suspension(
                key_of(core.pool.routes["default"].candidates("gpt-x", "openai")[0], Scope.CANDIDATE),
                core.now,
                core.now + 2,
                Label.RATE_LIMITED,
                "test/rule",
                hint="header",
            )
        )
        self.exchange: Exchange = pooled_call(core).exchange
        step = self.exchange.begin(core.now)
        assert not isinstance(step, Attempt)
        timeout = Timeout(core.layer, ToolStream(core, 7), core.engine.clock)
        self.waiting = Waiting(self.exchange, timeout, core.engine.clock)
        core.carry_out(self.waiting.begin(2))

    def due(self) -> Step | None:
        """The time-out has come."""
        wanted = self.waiting.on_due()
        try:
            while True:
                next(wanted)
        except StopIteration as end:
            step: Step | None = end.value
            return step


@pytest.fixture
def pause() -> Iterator[Pause]:
    core = Core(Budget(), credentials=1)
    yield Pause(core)
    core.uninstall()


def test_a_wait_looks_now_and_then_and_ends_in_time(pause: Pause) -> None:
    """W01: it goes on until the candidate is back; then that one is asked."""
    assert pause.core.alarms[-1][0] == pause.core.now + LOOK_INTERVAL
    pause.core.now += LOOK_INTERVAL
    assert pause.due() is None
    assert pause.waiting.goes_on
    pause.core.now += 2 - 2 * LOOK_INTERVAL
    assert pause.due() is None
    pause.core.now += LOOK_INTERVAL
    assert isinstance(pause.due(), Attempt)
    assert not pause.waiting.goes_on


def test_a_wait_ends_early_when_somebody_resumes(pause: Pause) -> None:
    """O04: at the next look."""
    pause.core.now += LOOK_INTERVAL
    assert pause.due() is None
    pause.core.engine.suspensions.resume(next(iter(pause.core.engine.suspensions)).key)
    pause.core.now += LOOK_INTERVAL
    assert isinstance(pause.due(), Attempt)


def test_a_time_out_that_comes_early_or_late_changes_nothing(pause: Pause) -> None:
    """One that was put off since, or that belongs to a wait which was stopped."""
    assert pause.due() is None
    pause.waiting.stop()
    pause.core.now += 10
    assert pause.due() is None
    assert not pause.waiting.goes_on
