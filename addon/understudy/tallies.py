"""How often each candidate answered, and the last exchanges: plain values for whoever looks, bounded, without secrets.

Counted is what says something about a candidate: generating attempts whose reply was judged. Token counts, model lists
and cancelled attempts are on the time line only (law 4 draws the same line). Candidates are named by credential and
upstream model, as everywhere (law 3); tools choose models, so the least recently used ones are forgotten.

The journal tells what happens, see ``counting.py``; ``flow`` is always the id of the tool's flow. Times are readings of
the injected clock, which is the engine's: Unix times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from understudy.exchange import Exchange
from understudy.keys import key_of
from understudy.pool import printable
from understudy.rules import Label, Scope
from understudy.steps import Outcome

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
    ``last_answered``: when the last one was released.
    """

    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    last_answered: float | None = None
    last_failed: float | None = None


UNTRIED = Tally()


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt of an exchange. ``after``: seconds from the start of the exchange; ``seconds``: until its verdict."""

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


@dataclass(slots=True)
class Told:
    """An exchange on the time line; ``flow`` is the id of the tool's flow. ``more``: how many attempts are left out.

    ``answer``: the number of the attempt that was released, 0 for an answer of our own, None while there is none.
    ``released``: seconds until then. ``ended``: the label of what went wrong after the release.
    """

    flow: str
    time: float
    route: str
    alias: str
    dialect: str
    streamed: bool
    generating: bool
    tried: tuple[Tried, ...] = ()
    more: int = 0
    answer: int | None = None
    released: float | None = None
    ended: str = ""
    under_way: bool = True


class Tallies:
    """Counters and time line of one proxy. ``version`` changes with everything that is told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.version = 0
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._exchanges: deque[Told] = deque(maxlen=MOST_EXCHANGES)
        self._known: WeakKeyDictionary[Exchange, Told] = WeakKeyDictionary()

    # -- questions -----------------------------------------------------------------------------------------------

    def of(self, credential: str, model: str) -> Tally:
        """What a candidate has done; ``model`` is the upstream model."""
        return self._tallies.get((credential, model), UNTRIED)

    def exchanges(self) -> tuple[Told, ...]:
        """The last exchanges, the latest first."""
        self._look()
        return tuple(reversed(self._exchanges))

    def state(self) -> tuple[int, int]:
        """Differs from an earlier one when there is something new to tell."""
        return self.version, self._look()

    def _look(self) -> int:
        """Note whose tools went away, which nobody tells; returns how many exchanges are still under way."""
        count = 0
        for exchange, told in list(self._known.items()):
            told.under_way = told.under_way and exchange.is_under_way
            count += told.under_way
        return count

    # -- what happens --------------------------------------------------------------------------------------------

    def tried(self, flow: str, exchange: Exchange) -> None:
        """An attempt was judged, and was not the one for the tool."""
        self._catch_up(flow, exchange)

    def released(self, flow: str, exchange: Exchange, number: int) -> None:
        """The reply of attempt ``number`` goes to the tool; 0: an answer of our own does."""
        told = self._catch_up(flow, exchange)
        told.answer, told.released, told.under_way = number, _since(exchange.started, self.clock()), False

    def ended_badly(self, flow: str, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error: its candidate has not answered after all."""
        told = self._catch_up(flow, exchange)
        told.ended = outcome.verdict.label.value
        if exchange.request.generating:
            candidate = outcome.attempt.candidate
            key = (candidate.credential.name, candidate.model)
            tally = self._tallies.get(key, UNTRIED)
            self._tallies[key] = replace(tally, answered=max(0, tally.answered - 1))
            self._count(outcome)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _catch_up(self, flow: str, exchange: Exchange) -> Told:
        """Add the attempts that have been judged since the last time."""
        self.version += 1
        told = self._known.get(exchange)
        if told is None:
            told = self._begin(flow, exchange)
        outcomes, now = exchange.outcomes, self.clock()
        # The next attempt, if there is one, began when the last one was judged.
        judged = min(now, exchange.attempt.begun) if exchange.attempt is not None else now
        for outcome in outcomes[len(told.tried) + told.more :]:
            if exchange.request.generating:
                self._count(outcome)
            if len(told.tried) < MOST_ATTEMPTS:
                # Only the latest one has just been judged; what came before it was never sent.
                ended = judged if outcome is outcomes[-1] else outcome.attempt.begun
                told.tried += (_tried(exchange, outcome, ended),)
            else:
                told.more += 1
        return told

    def _begin(self, flow: str, exchange: Exchange) -> Told:
        lineup, request = exchange.lineup, exchange.request
        told = Told(
            flow,
            exchange.started,
            lineup.route.pattern,
            printable(request.alias),
            lineup.dialect,
            request.streamed,
            request.generating,
        )
        self._known[exchange] = told
        self._exchanges.append(told)
        return told

    def _count(self, outcome: Outcome) -> None:
        candidate, label = outcome.attempt.candidate, outcome.verdict.label
        key = (candidate.credential.name, candidate.model)
        tally = self._tallies.pop(key, UNTRIED)
        if label is Label.OK:
            tally = replace(tally, answered=tally.answered + 1, last_answered=self.clock())
        else:
            failed = {**tally.failed, label.value: tally.failed.get(label.value, 0) + 1}
            tally = replace(tally, failed=failed, last_failed=self.clock())
        self._tallies[key] = tally
        if len(self._tallies) > MOST_CANDIDATES:
            del self._tallies[next(iter(self._tallies))]


def _since(start: float, now: float) -> float:
    return round(max(0.0, now - start), 3)


def _tried(exchange: Exchange, outcome: Outcome, ended: float) -> Tried:
    attempt, verdict = outcome.attempt, outcome.verdict
    candidate = attempt.candidate
    return Tried(
        attempt.number,
        exchange.lineup.mask(key_of(candidate, Scope.CANDIDATE)).bit_length(),
        candidate.credential.name,
        printable(candidate.model),
        candidate.upstream.name,
        outcome.status,
        verdict.label.value,
        verdict.rule,
        printable(verdict.evidence, 500),
        attempt.repeat,
        _since(exchange.started, attempt.begun),
        _since(attempt.begun, ended),
    )
