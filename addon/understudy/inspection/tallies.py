"""How often each candidate answered, and the last exchanges: plain values, bounded, without secrets.

``CountingJournal`` stands beside the journal and counts what the layer tells.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import override
from weakref import WeakKeyDictionary

from mitmproxy import http

from understudy.codec.steady_clock import ahead_of
from understudy.failover import Exchange, Lineup, Outcome, Request
from understudy.inspection.journal import FlowJournal
from understudy.model import Label, printable
from understudy.proxy import exchange_facts as known
from understudy.proxy.listener import Abandoned

MOST_CANDIDATES = 2000
"""How many candidates are counted; the one that was asked least recently is forgotten."""
MOST_EXCHANGES = 200
"""How many exchanges are on the time line."""
MOST_ATTEMPTS = 20
"""How many attempts of one exchange are told; of more, their number."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a candidate has done since the proxy started.

    ``answered``: replies that were released as good, and did not break off later. ``failed``: all others, by label.
    ``last_answered``: when the last one was released. ``opinions``: how many of them were second opinions on another
    candidate's reply, asked for nothing else.
    """

    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    last_answered: float | None = None
    last_failed: float | None = None
    opinions: int = 0


UNTRIED = Tally()


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt of an exchange. ``after``: seconds from the start of the exchange; ``seconds``: until its verdict.

    ``opinion``: a second opinion on another attempt's reply; ``compared``: what became of its own, see ``Compared``.
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
            attempt.drilled,
        )


class Tallies:
    """Counters and time line of one proxy. ``version`` changes with everything that is told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.version = 0
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._exchanges: deque[_Noted] = deque(maxlen=MOST_EXCHANGES)
        self._known: WeakKeyDictionary[Exchange, _Noted] = WeakKeyDictionary()

    # -- questions -----------------------------------------------------------------------------------------------

    def of(self, credential: str, model: str) -> Tally:
        """What a candidate has done; ``model`` is the upstream model."""
        return self._tallies.get((credential, model), UNTRIED)

    def exchanges(self) -> tuple[Told, ...]:
        """The last exchanges, the latest first."""
        self._look()
        ahead = ahead_of(self.clock)
        return tuple(noted.told(ahead) for noted in reversed(self._exchanges))

    def state(self) -> tuple[int, int]:
        """Differs from an earlier one when there is something new to tell."""
        return self.version, self._look()

    def _look(self) -> int:
        """Note whose tools went away, of which there is no event; returns how many exchanges are under way."""
        count = 0
        for exchange, noted in list(self._known.items()):
            noted.under_way = noted.under_way and exchange.is_under_way
            count += noted.under_way
        return count

    # -- what happens --------------------------------------------------------------------------------------------

    def tried(self, flow: str, exchange: Exchange) -> None:
        """An attempt was judged, and was not the one for the tool."""
        self._catch_up(flow, exchange)

    def released(self, flow: str, exchange: Exchange, number: int, skipped: Iterable[Skipped] = ()) -> None:
        """The reply of attempt ``number`` goes to the tool; 0: an answer of our own does."""
        noted = self._catch_up(flow, exchange)
        noted.skipped = tuple(skipped)
        noted.answer, noted.released, noted.under_way = number, self.clock(), False

    def ended_badly(self, flow: str, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error: its candidate has not answered after all."""
        noted = self._catch_up(flow, exchange)
        noted.ended = outcome.verdict.label.value
        if exchange.request.generating and not outcome.attempt.drilled:
            candidate = outcome.attempt.candidate
            key = (candidate.credential.name, candidate.model)
            tally = self._tallies.get(key, UNTRIED)
            self._tallies[key] = replace(tally, answered=max(0, tally.answered - 1))
            self._count(outcome)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _catch_up(self, flow: str, exchange: Exchange) -> _Noted:
        """Add the attempts that have been judged since the last time."""
        self.version += 1
        noted = self._known.get(exchange)
        if noted is None:
            noted = _Noted(flow, exchange.started, exchange.lineup, exchange.request, [])
            self._known[exchange] = noted
            self._exchanges.append(noted)
        outcomes, now = exchange.outcomes, self.clock()
        # What became of an open verdict is known later than the verdict.
        noted.judged = [(outcomes[place], at) for place, (_, at) in enumerate(noted.judged)]
        # The next attempt, if there is one, began when the last one was judged.
        judged = min(now, exchange.attempt.begun) if exchange.attempt is not None else now
        for outcome in outcomes[len(noted.judged) + noted.more :]:
            if exchange.request.generating and not outcome.attempt.drilled:
                self._count(outcome)
            if len(noted.judged) < MOST_ATTEMPTS:
                # Only the latest one has just been judged; what came before it was never sent.
                noted.judged.append((outcome, judged if outcome is outcomes[-1] else outcome.attempt.begun))
            else:
                noted.more += 1
        return noted

    def _count(self, outcome: Outcome) -> None:
        now = self.clock() + ahead_of(self.clock)
        candidate, label = outcome.attempt.candidate, outcome.verdict.label
        key = (candidate.credential.name, candidate.model)
        tally = self._tallies.pop(key, UNTRIED)
        if label is Label.OK:
            tally = replace(tally, answered=tally.answered + 1, last_answered=now)
        else:
            failed = {**tally.failed, outcome.word: tally.failed.get(outcome.word, 0) + 1}
            tally = replace(tally, failed=failed, last_failed=now)
        if outcome.attempt.opinion and (outcome.status > 0 or outcome.fault is not None):
            tally = replace(tally, opinions=tally.opinions + 1)
        self._tallies[key] = tally
        if len(self._tallies) > MOST_CANDIDATES:
            del self._tallies[next(iter(self._tallies))]


def _span(start: float, end: float) -> float:
    return round(max(0.0, end - start), 3)


logger = logging.getLogger("understudy")


class CountingJournal(FlowJournal):
    """Tells the tallies what the journal is told. To count must never cost a call."""

    def __init__(self, tallies: Tallies) -> None:
        super().__init__()
        self.tallies = tallies

    @override
    def abandoned(self, abandoned: Abandoned) -> None:
        super().abandoned(abandoned)
        self._count(lambda: self.tallies.tried(abandoned.flow.id, abandoned.exchange))

    @override
    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        super().released(flow, exchange, number)
        entries = flow.metadata.get(known.KEY, {}).get("skipped", ())
        skipped = [Skipped(each["credential"], each["model"], printable(each["why"], 500)) for each in entries]
        self._count(lambda: self.tallies.released(flow.id, exchange, number, skipped))

    @override
    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        super().ended_badly(flow, exchange, outcome)
        self._count(lambda: self.tallies.ended_badly(flow.id, exchange, outcome))

    @staticmethod
    def _count(tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as error:
            logger.error(f"understudy: an exchange cannot be counted: {type(error).__name__}")
