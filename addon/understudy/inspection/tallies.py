"""How often each candidate answered, and the last exchanges: plain values, bounded, without secrets.

``CountingJournal`` stands beside the journal and counts what the layer tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import override
from weakref import WeakKeyDictionary

from mitmproxy import http

from understudy.codec.record import record
from understudy.codec.steady_clock import ahead_of
from understudy.failover import Exchange, Lineup, Outcome, Request, own_name
from understudy.inspection.backlog import Backlog
from understudy.inspection.journal import FlowJournal
from understudy.inspection.usage import Place, UsageLedger
from understudy.model import Label, printable
from understudy.proxy import exchange_facts as known
from understudy.proxy.listener import Abandoned, Measured

MOST_CANDIDATES = 2000
"""How many candidates are counted; the one that was asked least recently is forgotten."""
MOST_EXCHANGES = 200
"""How many exchanges are on the time line."""
MOST_ATTEMPTS = 20
"""How many attempts of one exchange are told; of more, their number."""
STEP = 300.0
"""Seconds that are counted together in what a candidate did of late."""
STEPS = 12
"""Steps that are told: an hour."""
MEASURED = 50
"""Streams of a candidate by which its speed is told."""
LEAST_SECONDS = 0.1
"""A speed is told of what took so long together: what came at once says nothing about it."""


@record
class Tally:
    """What a candidate has done since the proxy started.

    ``answered``: replies that were released as good, and did not break off later. ``failed``: all others, by label.
    ``last_answered``: when the last one was released. ``opinions``: how many of them were second opinions on another
    candidate's reply, asked for nothing else. ``moves``: conversations that came from another account to this one
    without their sealed parts.
    """

    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    last_answered: float | None = None
    last_failed: float | None = None
    opinions: int = 0
    moves: int = 0


UNTRIED = Tally()


@dataclass(slots=True)
class Lately:
    """What a candidate did in the last hour, and how fast it was.

    ``steps``: [number, answered, failed] of each step of five minutes in which anything was; the number is that of the
    step since the beginning of Unix time. ``made`` and ``took``: tokens and seconds of all ``speeds``. ``served``: the
    model that a reply named last, where that was another one than was sent.
    """

    steps: deque[list[int]] = field(default_factory=lambda: deque(maxlen=STEPS + 1))
    speeds: deque[tuple[int, float]] = field(default_factory=deque)
    made: int = 0
    took: float = 0.0
    served: str = ""
    changes: int = 0
    """Differs when anything was counted for the candidate."""

    def count(self, step: int, *, failed: bool) -> None:
        """An attempt was judged in this step."""
        if not self.steps or self.steps[-1][0] != step:
            self.steps.append([step, 0, 0])
        self.steps[-1][1 + failed] += 1

    def take_back(self) -> None:
        """The last answer was none after all."""
        if self.steps and self.steps[-1][1]:
            self.steps[-1][1] -= 1

    def since(self, step: int) -> list[list[int]]:
        """The steps of the hour that ends with this one, the earliest first."""
        return [each for each in self.steps if step - STEPS < each[0] <= step]

    def add_speed(self, tokens: int, seconds: float) -> None:
        """A stream has made so many tokens of output in so many seconds."""
        self.speeds.append((tokens, seconds))
        self.made, self.took = self.made + tokens, self.took + seconds
        if len(self.speeds) > MEASURED:
            tokens, seconds = self.speeds.popleft()
            self.made, self.took = self.made - tokens, self.took - seconds

    @property
    def speed(self) -> float | None:
        """Tokens of output per second over the last streams, None where that cannot be told."""
        return round(self.made / self.took, 1) if self.took >= LEAST_SECONDS else None


QUIET = Lately()
"""Of a candidate that has done nothing."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt of an exchange. ``after``: seconds from the start of the exchange; ``seconds``: until its verdict.

    ``opinion``: a second opinion on another attempt's reply; ``compared``: what became of its own, see ``Compared``.
    ``left_out``: how many sealed parts it went without; ``moved_from``: the account that the conversation came from.
    ``drill``: a drill made up, or spoilt, what came back.
    """

    number: int
    place: int
    credential: str
    model: str
    upstream: str
    status: int
    label: str
    rule: str
    evidence: str
    again: bool
    after: float
    seconds: float
    opinion: bool = False
    compared: str = ""
    left_out: int = 0
    moved_from: str = ""
    drill: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """A candidate that was not asked. ``why``: the whole reason."""

    credential: str
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """An exchange on the time line; ``flow`` is the id of the tool's flow. ``more``: how many attempts are left out.

    ``answer``: the number of the attempt that was released, 0 for an answer of our own, None while there is none.
    ``released``: seconds until then. ``ended``: the label of what went wrong after the release. ``skipped``: who was
    not asked, with the reason.
    """

    flow: str
    time: float
    route: str
    alias: str
    dialect: str
    streamed: bool
    generating: bool
    tried: tuple[Tried, ...]
    more: int
    answer: int | None
    released: float | None
    ended: str
    under_way: bool
    skipped: tuple[Skipped, ...] = ()


@dataclass(slots=True)
class _Noted:
    """What a call leaves behind; told only when it is looked at, for every call has to pay for what is noted."""

    flow: str
    started: float
    lineup: Lineup
    request: Request
    judged: list[tuple[Outcome, float]]
    """Each with the time of its verdict."""
    more: int = 0
    answer: int | None = None
    released: float = 0.0
    ended: str = ""
    under_way: bool = True
    skipped: tuple[Skipped, ...] = ()

    def told(self, ahead: float) -> Told:
        """``ahead``: of wall time."""
        return Told(
            self.flow,
            self.started + ahead,
            self.lineup.route.pattern,
            printable(self.request.alias),
            self.lineup.dialect,
            self.request.streamed,
            self.request.generating,
            tuple(self._tried(outcome, at) for outcome, at in self.judged),
            self.more,
            self.answer,
            None if self.answer is None else _span(self.started, self.released),
            self.ended,
            self.under_way,
            self.skipped,
        )

    def _tried(self, outcome: Outcome, at: float) -> Tried:
        attempt, verdict = outcome.attempt, outcome.verdict
        candidate = attempt.candidate
        return Tried(
            attempt.number,
            self.lineup.bit(candidate).bit_length(),
            candidate.credential.name,
            printable(candidate.model),
            candidate.upstream.name,
            outcome.status,
            outcome.word,
            verdict.rule,
            printable(verdict.evidence, 500),
            attempt.repeat,
            _span(self.started, attempt.begun),
            _span(attempt.begun, at),
            attempt.opinion,
            outcome.compared.value if outcome.compared is not None else "",
            attempt.left_out,
            self.request.moved_from(attempt),
            attempt.drilled,
        )


type _Verdicts = tuple[int, float, float]
"""How far an exchange was at some time: how many attempts were judged, when the last of them was, and that time."""


class Tallies:
    """Counters and time line of one proxy. ``version`` changes with everything that is told.

    What happens is noted, and counted when somebody asks, or when much has come together (``backlog``).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.version = 0
        self.backlog = Backlog()
        self.usage = UsageLedger(clock, backlog=self.backlog)
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._lately: dict[tuple[str, str], Lately] = {}
        self._exchanges: deque[_Noted] = deque(maxlen=MOST_EXCHANGES)
        self._known: WeakKeyDictionary[Exchange, _Noted] = WeakKeyDictionary()

    # -- questions -----------------------------------------------------------------------------------------------

    def of(self, credential: str, model: str) -> Tally:
        """What a candidate has done; ``model`` is the upstream model."""
        self.backlog.settle()
        return self._tallies.get((credential, model), UNTRIED)

    def lately(self, credential: str, model: str) -> Lately:
        """What a candidate did of late."""
        self.backlog.settle()
        return self._lately.get((credential, model), QUIET)

    def exchanges(self) -> tuple[Told, ...]:
        """The last exchanges, the latest first."""
        self._look()
        ahead = ahead_of(self.clock)
        return tuple(noted.told(ahead) for noted in reversed(self._exchanges))

    def state(self) -> tuple[int, int]:
        """Differs from an earlier one when there is something new to tell."""
        under_way = self._look()
        return self.version, under_way

    def _look(self) -> int:
        """Note whose tools went away, of which there is no event; returns how many exchanges are under way."""
        self.backlog.settle()
        count = 0
        for exchange, noted in list(self._known.items()):
            noted.under_way = noted.under_way and exchange.is_under_way
            count += noted.under_way
        return count

    # -- what happens --------------------------------------------------------------------------------------------

    def tried(self, flow: str, exchange: Exchange) -> None:
        """An attempt was judged, and was not the one for the tool."""
        self.backlog.add(self._catch_up, flow, exchange, self._verdicts(exchange))

    def released(self, flow: str, exchange: Exchange, number: int, skipped: Sequence[Skipped] = ()) -> None:
        """The reply of attempt ``number`` goes to the tool; 0: an answer of our own does."""
        self.backlog.add(self._released, flow, exchange, number, skipped, self._verdicts(exchange))

    def ended_badly(self, flow: str, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error: its candidate has not answered after all."""
        self.backlog.add(self._ended_badly, flow, exchange, outcome, self._verdicts(exchange))

    def measured(self, exchange: Exchange, measured: Measured) -> None:
        """What a reply took (Q03), who made it (Q04), and how fast (Q05)."""
        self.backlog.add(self._measured, exchange, measured, self.clock())

    # -- its counts ----------------------------------------------------------------------------------------------

    def _released(
        self, flow: str, exchange: Exchange, number: int, skipped: Sequence[Skipped], verdicts: _Verdicts
    ) -> None:
        noted = self._catch_up(flow, exchange, verdicts)
        noted.skipped = tuple(skipped)
        noted.answer, noted.released, noted.under_way = number, verdicts[-1], False

    def _ended_badly(self, flow: str, exchange: Exchange, outcome: Outcome, verdicts: _Verdicts) -> None:
        noted = self._catch_up(flow, exchange, verdicts)
        noted.ended = outcome.verdict.label.value
        if exchange.request.generating and not outcome.attempt.drilled:
            candidate = outcome.attempt.candidate
            key = (candidate.credential.name, candidate.model)
            tally = self._tallies.get(key, UNTRIED)
            self._tallies[key] = replace(tally, answered=max(0, tally.answered - 1))
            self._late(key).take_back()
            self._count(outcome, exchange.request, verdicts[-1])

    def _measured(self, exchange: Exchange, measured: Measured, now: float) -> None:
        self.version += 1
        if measured.attempt.drilled:
            return  # H12: what a drill has made up, or spoilt, is no use of the candidate
        candidate, usage = measured.attempt.candidate, measured.usage
        name, model = candidate.credential.name, printable(candidate.model)
        place = Place(own_name(name), model, candidate.upstream.name)
        session, another = exchange.request.session, bool(measured.served)
        self.usage.add(place, session, usage, another=another, lost=measured.lost, at=now)
        lately = self._lately.get((name, candidate.model)) or self._late((name, candidate.model))
        lately.changes += 1
        if measured.seconds is not None and usage is not None and usage.output:
            lately.add_speed(usage.output, measured.seconds)
        if another:
            lately.served = measured.served

    # -- parts ---------------------------------------------------------------------------------------------------

    def _verdicts(self, exchange: Exchange) -> _Verdicts:
        now, attempt = self.clock(), exchange.attempt
        # The next attempt, if there is one, began when the last one was judged.
        return len(exchange.outcomes), now if attempt is None else min(now, attempt.begun), now

    def _catch_up(self, flow: str, exchange: Exchange, verdicts: _Verdicts) -> _Noted:
        """Add the attempts that had been judged at that time."""
        count, judged, now = verdicts
        self.version += 1
        noted = self._known.get(exchange)
        if noted is None:
            noted = _Noted(flow, exchange.started, exchange.lineup, exchange.request, [])
            self._known[exchange] = noted
            self._exchanges.append(noted)
        outcomes = exchange.outcomes[:count]
        # What became of an open verdict is known later than the verdict.
        noted.judged = [(outcomes[place], at) for place, (_, at) in enumerate(noted.judged)]
        for outcome in outcomes[len(noted.judged) + noted.more :]:
            if exchange.request.generating and not outcome.attempt.drilled:
                self._count(outcome, exchange.request, now)
            if len(noted.judged) < MOST_ATTEMPTS:
                # Only the latest one has just been judged; what came before it was never sent.
                noted.judged.append((outcome, judged if outcome is outcomes[-1] else outcome.attempt.begun))
            else:
                noted.more += 1
        return noted

    def _count(self, outcome: Outcome, request: Request, at: float) -> None:
        now = at + ahead_of(self.clock)
        candidate, label = outcome.attempt.candidate, outcome.verdict.label
        key = (candidate.credential.name, candidate.model)
        tally = self._tallies.pop(key, UNTRIED)
        if label is Label.OK:
            moves = tally.moves + bool(request.moved_from(outcome.attempt))
            # Written out, because ``replace`` takes several times as long, and every call comes through here.
            tally = Tally(tally.answered + 1, tally.failed, now, tally.last_failed, tally.opinions, moves)
        else:
            failed = {**tally.failed, outcome.word: tally.failed.get(outcome.word, 0) + 1}
            tally = replace(tally, failed=failed, last_failed=now)
        if outcome.attempt.opinion and (outcome.status > 0 or outcome.fault is not None):
            tally = replace(tally, opinions=tally.opinions + 1)
        self._tallies[key] = tally
        self._late(key).count(int(now // STEP), failed=label is not Label.OK)
        if len(self._tallies) > MOST_CANDIDATES:
            del self._tallies[next(iter(self._tallies))]

    def _late(self, key: tuple[str, str]) -> Lately:
        found = self._lately.pop(key, None) or Lately()
        found.changes += 1
        self._lately[key] = found  # the latest last
        if len(self._lately) > MOST_CANDIDATES:
            del self._lately[next(iter(self._lately))]
        return found


def _span(start: float, end: float) -> float:
    return round(max(0.0, end - start), 3)


class CountingJournal(FlowJournal):
    """Tells the tallies what the journal is told."""

    def __init__(self, tallies: Tallies) -> None:
        super().__init__()
        self.tallies = tallies

    @override
    def abandoned(self, abandoned: Abandoned) -> None:
        super().abandoned(abandoned)
        self.tallies.tried(abandoned.flow.id, abandoned.exchange)

    @override
    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        super().released(flow, exchange, number)
        entries = flow.metadata.get(known.KEY, {}).get("skipped", ())
        skipped = [Skipped(each["credential"], each["model"], printable(each["why"], 500)) for each in entries]
        self.tallies.released(flow.id, exchange, number, skipped)

    @override
    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        super().ended_badly(flow, exchange, outcome)
        self.tallies.ended_badly(flow.id, exchange, outcome)

    @override
    def measured(self, flow: http.HTTPFlow, exchange: Exchange, measured: Measured) -> None:
        super().measured(flow, exchange, measured)
        self.tallies.measured(exchange, measured)
