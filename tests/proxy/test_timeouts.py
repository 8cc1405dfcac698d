"""The watch of a connection: what it rings, and what it does not keep."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import CommandGenerator

from tests.support.layer import Core, ToolStream
from understudy.model.pool import Budget
from understudy.proxy.timeouts import Due, Timeout, Watch, Watched, watch_of


class Bell:
    """Something that is watched."""

    def __init__(self, *, broken: bool = False) -> None:
        self.rung: list[Exception | None] = []
        self.broken = broken

    def ring(self, error: Exception | None) -> CommandGenerator[None]:
        """Remember it."""
        if self.broken:
            raise RuntimeError("for this test")
        self.rung.append(error)
        yield commands.Log("rung")


def watch(now: list[float], **due: tuple[Watched, float]) -> Watch:
    """A watch with these times."""
    made = Watch(lambda: now[0])
    for watched, at in due.values():
        list(made.arm(watched, at))
    return made


def test_what_is_due_rings_once() -> None:
    now, soon, late = [0.0], Bell(), Bell()
    made = watch(now, soon=(soon, 1), late=(late, 2))
    now[0] = 1.0
    [_, alarm] = list(made.ring())
    assert (soon.rung, late.rung) == ([None], [])
    assert isinstance(alarm, commands.RequestWakeup)
    assert alarm.delay == 1.0
    list(made.ring())
    assert soon.rung == [None]
    made.disarm(late)
    now[0] = 3.0
    assert list(made.ring()) == []


def test_an_alarm_that_fails_is_told_to_everything_that_waits() -> None:
    """O08: nothing hangs because another one's time-out raised, whether its own time has come or not."""
    now, bells = [0.0], [Bell(broken=True), Bell(), Bell()]
    made = watch(now, a=(bells[0], 1), b=(bells[1], 1), c=(bells[2], 9))
    now[0] = 1.0
    list(made.ring_safely())
    assert [type(bell.rung[-1]) for bell in bells[1:]] == [RuntimeError, RuntimeError]
    assert len(made.due) == 0


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(Budget())
    yield made
    made.uninstall()


def test_a_time_out_reaches_its_layer(core: Core) -> None:
    """The last time that was asked for counts; a stopped one is not due."""
    layer = ToolStream(core, 7)
    timeout = Timeout(core.layer, layer, core.engine.clock)
    core.carry_out(timeout.start(5))
    core.carry_out(timeout.start(1))
    core.pass_time(1)
    assert [type(each) for each in layer.seen] == [Due]
    assert timeout.is_due
    timeout.stop()
    assert not timeout.is_due
    core.carry_out(timeout.start(float("inf")))
    core.pass_time(100)
    assert len(layer.seen) == 1
    assert len(watch_of(core.layer, core.engine.clock).due) == 0


def test_a_time_out_that_is_asked_for_keeps_no_layer_alive(core: Core) -> None:
    """Law 10: a connection that mitmproxy drops in the middle is let go, with all that waits on it."""
    core.carry_out(Timeout(core.layer, ToolStream(core, 7), core.engine.clock).start(1))
    layer = weakref.ref(core.layer)
    for name in ("layer", "context", "alarms", "hooks"):
        delattr(core, name)
    gc.collect()
    assert layer() is None
