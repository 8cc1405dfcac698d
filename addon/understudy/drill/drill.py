"""One drill: which attempts it answers in their candidate's place, whose calls it reaches, and what became of those.

What a call of a drill finds out about the target is kept under keys of its own (``Key.drill``), so that the drill's
calls see it and no other call does, and nothing of it is left in the end. What it finds out about any other candidate
is real, and stays. Times are readings of the clock that is handed in, in seconds; all that is kept is bounded.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import override

from understudy.codec.time_text import duration
from understudy.drill.behaviour import Behaviour
from understudy.failover import Exchange, Lineup, Outcome, Request
from understudy.failover.affinity import Sessions
from understudy.model import Candidate, Key, Label, counted, key_of, printable
from understudy.requests import short_session
from understudy.suspensions import Answers, Learned

USUAL = 300.0
"""Seconds for which a drill lasts when nothing is said."""
LONGEST = 3600.0
"""The longest drill, in seconds."""
MOST_TIMES = 50_000
"""How many calls' added seconds are kept; of more, the first ones."""
MOST_REASONS = 50
MOST_MOVED = 1000
"""How many sessions that moved are told apart."""
OTHER = "other reasons"
SHOWN_SESSION = 8
"""Characters of a session's id that are shown."""


def covers(target: Key, candidate: Candidate) -> bool:
    """Whether a target is this candidate, its credential or its upstream."""
    return key_of(candidate, target.scope) == target


class Seats(Sessions):
    """Who serves a session while a drill runs: what its calls have moved, and else what was before."""

    def __init__(self, clock: Callable[[], float], before: Sessions) -> None:
        super().__init__(clock, LONGEST)
        self._before = before
        self.moved: dict[str, tuple[Candidate, Candidate]] = {}
        """By session: from whom, and to whom."""

    @override
    def seat(self, lineup: Lineup, session: str) -> Candidate | None:
        return super().seat(lineup, session) or self._before.seat(lineup, session)

    @override
    def take_seat(self, lineup: Lineup, session: str, candidate: Candidate) -> None:
        before = self.seat(lineup, session)
        if before is not None and before != candidate:
            first = self.moved.pop(session, (before, candidate))[0]
            if first != candidate and len(self.moved) < MOST_MOVED:
                self.moved[session] = (first, candidate)
        super().take_seat(lineup, session, candidate)


@dataclass(frozen=True, slots=True)
class Moved:
    """A session that another candidate serves while the drill runs; ``session``: how its id begins."""

    session: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the calls of a drill.

    ``calls``: those that belong to it; ``met``: those of them that asked the target, or would have. Of these are
    ``rescued`` (another candidate answered), ``late`` (the target answered in the end), ``failed`` by reason, ``open``
    (a recording cannot tell) and the rest under way. ``hedged``: another candidate was asked as well.
    ``added``: seconds from the call until the candidate was asked that answered it, at the median, the 95th percentile
    and worst; None without an answer. ``attempts``: all of them; ``made_up``: those that went nowhere; ``extra``: real
    upstream calls beyond one a call.
    """

    calls: int = 0
    met: int = 0
    rescued: int = 0
    late: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    open: int = 0
    under_way: int = 0
    hedged: int = 0
    added: tuple[float, float, float] | None = None
    attempts: int = 0
    made_up: int = 0
    extra: int = 0
    moved: tuple[Moved, ...] = ()

    def lines(self) -> list[str]:
        """The same in words, for people."""
        failed = sum(self.failed.values())
        ends = [f"rescued {self.rescued}", f"failed {failed}"]
        ends += [f"answered late {self.late}"] if self.late else []
        ends += [f"open {self.open}"] if self.open else []
        ends += [f"under way {self.under_way}"] if self.under_way else []
        lines = [f"{counted(self.calls, 'call')}, {self.met} of them met the drill: {', '.join(ends)}"]
        lines += [f"  failed {count}: {reason}" for reason, count in self.failed.items()]
        added = "no call was answered"
        if self.added is not None:
            middle, most, worst = self.added
            added = (
                f"seconds added: {middle:.2f} at the median, {most:.2f} at the 95th percentile, {worst:.2f} at worst"
            )
        lines.append(f"hedged {self.hedged}; {added}")
        lines.append(
            f"extra upstream calls {self.extra}; of {counted(self.attempts, 'attempt')} {self.made_up} made up"
        )
        if self.moved:
            lines.append(f"{counted(len(self.moved), 'session')} moved:")
            lines += [f"  {each.session}: {each.before} -> {each.now}" for each in self.moved]
        return lines


class Drill:
    """A target that behaves in some way until a time. ``who`` began it, in words.

    ``share`` of the calls are its own, or those of one ``session`` only. ``everyone``: also calls of other users.
    """

    def __init__(
        self,
        target: Key,
        behaviour: Behaviour,
        seconds: float,
        clock: Callable[[], float],
        sessions: Sessions,
        *,
        share: float = 1.0,
        session: str = "",
        everyone: bool = False,
        who: str = "",
    ) -> None:
        self.target = target
        self.behaviour = behaviour
        self.clock = clock
        self.began = clock()
        self.until = self.began + seconds
        self.ended: float | None = None
        self.share = share
        self.session = short_session(session)
        self.everyone = everyone
        self.who = who
        self.learned = Learned(clock)
        self.answers = Answers()
        self.seats = Seats(clock, sessions)
        self.version = 0
        """Changes with everything that is to be told."""
        self._credit = 0.0
        self._sum = _Sum()

    def __str__(self) -> str:
        """``upstream openai: dead``, with whom it is limited to."""
        limits = []
        if self.share < 1:
            limits.append(f"{100 * self.share:g} % of the calls")
        if self.session:
            limits.append(f"session {shown_session(self.session)}")
        if self.everyone:
            limits.append("calls of other users too")
        return f"{self.target}: {self.behaviour}{f' ({", ".join(limits)})' if limits else ''}"

    @property
    def shown_session(self) -> str:
        """The beginning of the id of the session that it is limited to, "" without one."""
        return shown_session(self.session)

    @property
    def is_running(self) -> bool:
        """Whether its time is not over and nobody has ended it."""
        return self.ended is None and self.clock() < self.until

    @property
    def lasted(self) -> str:
        """How long it has run, in words."""
        return duration((self.clock() if self.ended is None else self.ended) - self.began)

    def end(self) -> None:
        """It is over. What its calls come to from now on is still counted."""
        if self.ended is None:
            self.ended = min(self.clock(), self.until)
        self.version += 1

    def takes(self, lineup: Lineup, session: str, *, own: bool, instead: Candidate | None) -> Call | None:
        """The next call, if it is the drill's. ``own``: its tool is of the same user as the proxy.

        ``instead``: who would be asked without the drill.
        """
        if not self.is_running or not (own or self.everyone) or (self.session and session != self.session):
            return None
        if not any(covers(self.target, member) for member in lineup.members):
            return None
        self._credit += self.share
        if self._credit < 1 - 1e-9:
            return None
        self._credit -= 1
        self._sum.calls += 1
        self.version += 1
        return Call(self, meets=instead is not None and covers(self.target, instead))

    def summary(self) -> Summary:
        """What became of its calls until now."""
        found = self._sum
        times = sorted(found.added)
        moved = tuple(
            Moved(shown_session(session), str(before), str(now)) for session, (before, now) in self.seats.moved.items()
        )
        return Summary(
            found.calls,
            found.met,
            found.rescued,
            found.late,
            dict(found.failed.most_common()),
            found.open,
            found.calls - found.over,
            found.hedged,
            (_median(times), times[math.ceil(0.95 * len(times)) - 1], times[-1]) if times else None,
            found.attempts,
            found.made_up,
            found.extra,
            moved,
        )

    def over(self, call: Call, exchange: Exchange, status: int, *, is_open: bool) -> None:
        """A call of the drill has come to its end; see :meth:`Call.over`."""
        found = self._sum
        self.version += 1
        found.over += 1
        sent = exchange.spent.attempts - exchange.request.spent.attempts
        real = sent - call.made_up
        found.attempts += sent
        found.made_up += call.made_up
        found.extra += max(0, real - 1)
        found.hedged += any(outcome.hedged for outcome in exchange.outcomes)
        if not (call.meets or call.struck):
            return
        found.met += 1
        answer = exchange.outcomes[exchange.best - 1] if exchange.is_released else None
        if is_open:
            found.open += 1
        elif call.broken is None and answer is not None and answer.verdict.label is Label.OK:
            late = answer.attempt.drilled
            found.late += late
            found.rescued += not late
            if len(found.added) < MOST_TIMES:
                seconds = max(0.0, answer.attempt.begun - exchange.started)
                found.added.append(seconds + (call.held_back if late else 0.0))
        else:
            reason = _why(exchange, answer, call.broken, status)
            known = reason in found.failed or len(found.failed) < MOST_REASONS
            found.failed[reason if known else OTHER] += 1


def shown_session(session: str) -> str:
    """The beginning of a session's id: enough to know it again."""
    return printable(session if len(session) <= SHOWN_SESSION else f"{session[:SHOWN_SESSION]}…")


def _why(exchange: Exchange, answer: Outcome | None, broken: Outcome | None, status: int) -> str:
    """Why a call has failed, in words that are the same for calls that fail alike."""
    if broken is not None:
        return f"the reply broke off after its release ({broken.verdict.label})"
    if answer is not None:
        return f"the tool got HTTP {status or answer.status}: {answer.verdict.label}"
    if not status:
        return "the tool went away"
    said = dict.fromkeys(outcome.word for outcome in exchange.outcomes)
    return f"understudy answered itself with HTTP {status}: {', '.join(said) or 'every candidate is suspended'}"


@dataclass
class _Sum:
    """The numbers of a drill while they grow."""

    calls: int = 0
    over: int = 0
    met: int = 0
    rescued: int = 0
    late: int = 0
    open: int = 0
    hedged: int = 0
    attempts: int = 0
    made_up: int = 0
    extra: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    added: array[float] = field(default_factory=lambda: array("d"))


class Call:
    """A call that belongs to a drill: what its exchange asks (``failover.Drilling``), and what is counted of it.

    ``meets``: without the drill the target would have been asked first.
    """

    def __init__(self, drill: Drill, *, meets: bool) -> None:
        self.drill = drill
        self.meets = meets
        self.kind = str(drill.behaviour)
        self.said = str(drill)
        self.asks = drill.behaviour.kind.asks
        self.learned = drill.learned
        self.answers = drill.answers
        self.struck = 0
        """How many attempts the drill answered, or spoilt."""
        self.made_up = 0
        self.held_back = 0.0
        """Seconds for which a real reply was held back."""
        self.broken: Outcome | None = None
        self._is_over = False

    def strikes(self, candidate: Candidate, *, generating: bool) -> bool:
        """Whether the attempt that begins now is answered, or spoilt, by the drill."""
        kind = self.drill.behaviour.kind
        if not self.drill.is_running or not covers(self.drill.target, candidate):
            return False
        if kind.generates_only and not generating:
            return False
        self.struck += 1
        self.made_up += not kind.asks
        return True

    def unsent(self) -> None:
        """Such an attempt could not even be built."""
        self.struck -= 1
        self.made_up -= not self.drill.behaviour.kind.asks

    def broke(self, request: Request, outcome: Outcome) -> None:
        """The reply that the tool got ended in an error."""
        self.broken = outcome

    def over(self, exchange: Exchange, status: int, *, is_open: bool = False) -> None:
        """The call has come to its end. May be told twice.

        ``status``: what the tool got, 0 when it got nothing. ``is_open``: a recording does not tell how it ends.
        """
        if not self._is_over:
            self._is_over = True
            self.drill.over(self, exchange, status, is_open=is_open)


def _median(times: Sequence[float]) -> float:
    """Of times in their order. Not the one of ``statistics``, which loads fractions and decimals for it."""
    middle = len(times) // 2
    return times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2
