"""The drill of one proxy: begin it, tell how it goes, end it when its time is over or somebody says so (H12)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from understudy.codec.steady_clock import ahead_of
from understudy.codec.time_text import duration
from understudy.control.target import ControlError, take_seconds, take_target
from understudy.drill import LONGEST, USUAL, BehaviourError, Drill, Summary, read_behaviour
from understudy.failover import own_name
from understudy.model import Key, Pool, Scope, printable
from understudy.proxy.engine import Engine

USAGE = "`drill WHAT KIND [TIME] [--for 10%] [--session ID] [--everyone]`, `drill stop`, or `drill` alone"
LONGEST_SESSION = 2000
"""Characters of the id of a session."""
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")

logger = logging.getLogger("understudy")


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """It does not happen."""


type Later = Callable[[float, Callable[[], None]], Timer | None]
"""Have something happen in so many seconds; None where nothing can."""


@dataclass(frozen=True, slots=True)
class DrillView:
    """A drill as it stands. Times are Unix times; ``ended`` 0: it runs. ``seconds``: how long yet.

    ``name``: target and kind with all limits, in words; ``meaning``: what happens at the target. ``share``: of calls.
    """

    name: str
    target: str
    kind: str
    meaning: str
    who: str
    share: float
    session: str
    everyone: bool
    began: float
    until: float
    ended: float
    seconds: float
    lasted: str
    summary: Summary

    @property
    def is_running(self) -> bool:
        """Whether it is not over."""
        return not self.ended


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The drill that runs, or the last one; None: there was none since the proxy started."""

    now: float
    drill: DrillView | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the options of a drill say."""

    share: float = 1.0
    session: str = ""
    everyone: bool = False


class Drills:
    """One drill at a time, and the last one after its end. ``later``: see :data:`Later`."""

    def __init__(self, engine: Engine, later: Later = lambda seconds, then: None) -> None:
        self.engine = engine
        self._later = later
        self._timer: Timer | None = None
        self._last: Drill | None = None

    @property
    def running(self) -> DrillView | None:
        """The drill that runs, if one does."""
        self._look()
        return _view(self.engine, self.engine.drill) if self.engine.drill is not None else None

    @property
    def version(self) -> str:
        """Differs from an earlier one when there is something new to tell of the drill that runs; "" without one."""
        drill = self.engine.drill
        return f"-drill-{drill.began:.3f}-{drill.version}" if drill is not None else ""

    def run(self, words: Sequence[str], who: str) -> DrillResult:
        """Follow the words of a command. ``who`` begins a drill, in words. Raises ControlError."""
        self._look()
        match list(words):
            case []:
                pass
            case ["stop"]:
                if self.engine.drill is None:
                    raise ControlError("no drill runs")
                self._end("ended by hand")
            case _:
                self._begin(words, who)
        ahead = ahead_of(self.engine.clock)
        return DrillResult(self.engine.clock() + ahead, _view(self.engine, self._last) if self._last else None)

    def use(self, pool: Pool) -> None:
        """Another pool is in use: a drill whose target is gone has come to its end."""
        drill = self.engine.drill
        if drill is not None and not _is_there(drill.target, pool):
            self._end("its target is gone from the pool file")

    def close(self) -> None:
        """The proxy ends."""
        if self.engine.drill is not None:
            self._end("the proxy ends")

    # -- parts -----------------------------------------------------------------------------------------------------

    def _begin(self, words: Sequence[str], who: str) -> None:
        if self.engine.snapshot is None:
            raise ControlError("there is no pool: write a pool file, or set pool_file")
        if self.engine.drill is not None:
            raise ControlError(f"a drill runs already ({self.engine.drill}): end it with `drill stop` first")
        plain, wanted = _options(words)
        target, rest = take_target(plain, self.engine.snapshot.pool)
        if not rest:
            raise ControlError(f"how does it fail? Write {USAGE}")
        try:
            behaviour = read_behaviour(rest[0])
        except BehaviourError as error:
            raise ControlError(str(error)) from None
        seconds = take_seconds(rest[1:], USUAL)
        if seconds > LONGEST:
            raise ControlError(f"a drill lasts an hour at most: write {duration(LONGEST)} or less")
        self._last = Drill(
            target,
            behaviour,
            seconds,
            self.engine.clock,
            self.engine.memory.sessions,
            share=wanted.share,
            session=wanted.session,
            everyone=wanted.everyone,
            who=printable(who),
        )
        self.engine.begin_drill(self._last)
        self._timer = self._later(seconds, self._look)
        meaning = behaviour.kind.meaning
        logger.warning(
            f"understudy: a drill begins, for {duration(seconds)}, by {printable(who)}: {self._last} ({meaning})"
        )

    def _look(self) -> None:
        """End a drill whose time is over."""
        drill = self.engine.drill
        if drill is not None and not drill.is_running:
            self._end("")
        elif drill is not None and self._timer is not None:
            # The timer's clock was ahead of ours.
            self._timer.cancel()
            self._timer = self._later(max(0.0, drill.until - self.engine.clock()), self._look)

    def _end(self, why: str) -> None:
        drill, timer, self._timer = self.engine.drill, self._timer, None
        if timer is not None:
            timer.cancel()
        if drill is not None:
            self.engine.end_drill()
            said = "; ".join(line.strip() for line in drill.summary().lines())
            reason = f", {why}" if why else ""
            logger.warning(f"understudy: the drill is over after {drill.lasted}{reason}: {drill}: {said}")


def _options(words: Sequence[str]) -> tuple[list[str], _Wanted]:
    """The words without the options, and what those say. Raises ControlError."""
    rest: list[str] = []
    share, session, everyone = 1.0, "", False
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name in ("--for", "--session"):
            value = value if equals else next(left, "")
            if name == "--for":
                share = _share(value)
            elif not value or len(value) > LONGEST_SESSION:
                raise ControlError("which session? Write `--session ID`, as the tool sends it")
            else:
                session = value
        elif word == "--everyone":
            everyone = True
        elif word.startswith("--"):
            raise ControlError(f"there is no option `{printable(word)}`: write {USAGE}")
        else:
            rest.append(word)
    return rest, _Wanted(share, session, everyone)


def _share(written: str) -> float:
    match = _PERCENT.fullmatch(written)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ControlError(f"`{printable(written)}` is no share of the calls: write `--for 10%`")
    return float(match[1]) / 100


def _is_there(target: Key, pool: Pool) -> bool:
    """Whether a pool has the target of a drill."""
    if target.scope is Scope.UPSTREAM:
        return target.name in pool.upstreams
    if own_name(target.name) not in pool.credentials:
        return False
    named = target.scope is Scope.CREDENTIAL
    return named or any(route.means(own_name(target.name), target.model) for route in pool.routes.values())


def _view(engine: Engine, drill: Drill) -> DrillView:
    ahead, now = ahead_of(engine.clock), engine.clock()
    return DrillView(
        name=str(drill),
        target=str(drill.target),
        kind=str(drill.behaviour),
        meaning=drill.behaviour.kind.meaning,
        who=drill.who,
        share=drill.share,
        session=drill.shown_session,
        everyone=drill.everyone,
        began=drill.began + ahead,
        until=drill.until + ahead,
        ended=drill.ended + ahead if drill.ended is not None else 0.0,
        seconds=max(0.0, drill.until - now) if drill.ended is None else 0.0,
        lasted=drill.lasted,
        summary=drill.summary(),
    )
