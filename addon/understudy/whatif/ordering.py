"""The order of recorded calls: flows stand in a file as they ended, as they began, or as a person picked them.

A bounded window puts the calls into the order in which they began, and the attempts of an exchange to its call, on
whichever side of it they stand. What lies further apart than the window reaches stays as it is in the file.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from understudy.flows import SavedFlow
from understudy.flows.traits import text_of
from understudy.whatif.recorder import RecordedAttempt, RecordedCall, Recorder

WINDOW = 1000
"""How many calls are looked ahead, and for how many exchanges attempts wait for their call."""
WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes of held replies that are looked ahead, and that wait."""


@dataclass
class Counts:
    """What was in the files. ``strays``: attempts whose call was not found near them."""

    flows: int = 0
    calls: int = 0
    attempts: int = 0
    strays: int = 0


class Arrangement:
    """The window. Iterate over :meth:`calls` once."""

    def __init__(self, recorder: Recorder, counts: Counts | None = None) -> None:
        self.recorder = recorder
        self.counts = counts or Counts()
        self._calls: list[tuple[float, int, RecordedCall]] = []
        self._by_exchange: dict[str, RecordedCall] = {}
        self._early: dict[str, list[RecordedAttempt]] = {}
        self._size = self._early_size = 0
        self._last = 0.0

    def calls(self, flows: Iterable[SavedFlow], file: str = "") -> Iterator[RecordedCall]:
        """The calls among these flows; the time of one that has none is that of the one before it."""
        for flow in flows:
            self.counts.flows += 1
            match self.recorder.read(flow, file):
                case RecordedAttempt() as attempt:
                    self._take_attempt(attempt, text_of(flow.facts, "exchange"))
                case RecordedCall() as call:
                    self._take_call(call)
            while len(self._calls) > WINDOW or self._size > WINDOW_BYTES:
                yield self._next()
        while self._calls:
            yield self._next()
        self.counts.strays += sum(map(len, self._early.values()))
        self._early.clear()

    def _take_attempt(self, attempt: RecordedAttempt, exchange: str) -> None:
        self.counts.attempts += 1
        if (owner := self._by_exchange.get(exchange)) is not None:
            owner.attempts.append(attempt)
            self._size += attempt.size
            return
        self._early.setdefault(exchange, []).append(attempt)
        self._early_size += attempt.size
        while len(self._early) > WINDOW or self._early_size > WINDOW_BYTES:
            self.counts.strays += len(self._leave_early(next(iter(self._early))))

    def _take_call(self, call: RecordedCall) -> None:
        self.counts.calls += 1
        call.began = self._last = call.began or self._last
        if call.exchange:
            call.attempts += self._leave_early(call.exchange)
            self._by_exchange[call.exchange] = call
        self._size += call.size
        heapq.heappush(self._calls, (call.began, self.counts.flows, call))

    def _leave_early(self, exchange: str) -> list[RecordedAttempt]:
        attempts = self._early.pop(exchange, [])
        self._early_size -= sum(attempt.size for attempt in attempts)
        return attempts

    def _next(self) -> RecordedCall:
        call = heapq.heappop(self._calls)[2]
        self._size -= call.size
        self._by_exchange.pop(call.exchange, None)
        call.attempts.sort(key=lambda attempt: attempt.number)
        earlier = sum(attempt.seconds for attempt in call.attempts if attempt.flow != call.flow)
        call.attempts[:] = [
            # The tool's flow began with the first attempt, not with the one whose reply it got.
            replace(each, seconds=max(0.0, each.seconds - earlier)) if each.flow == call.flow else each
            for each in call.attempts
        ]
        return call
