"""What belongs together over several requests: sessions of a tool, and its retries.

All of it is remembered for a bounded time and in bounded numbers, and none of it is needed for a request to be served.
The clock is injected, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cachetools import Cache, TLRUCache, TTLCache

from understudy.failover.selection import Lineup
from understudy.model import Affinity, Budget, Candidate

SESSIONS = 10_000
ROUNDS = 1_000
RETRY_SECONDS = 30.0
"""The same body again within this time is the tool's own retry."""
COUNTED_RETRY_SECONDS = 120.0
"""The same, where the tool itself says that it is a retry: SDKs sleep up to a minute in between."""


def is_empty(cache: Cache[Any, Any]) -> bool:
    """Whether nothing is in a cache, without a look at the clock where nothing was: every call asks."""
    return not Cache.__len__(cache) or not cache


class Sessions:
    """Which candidate serves a session of a tool (P02): as long as it can, for the sake of the prompt cache.

    Every call of a session asks and tells, so this is a dictionary in the order of the answers: a TTLCache takes some
    fifteen calls for it.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._seats: OrderedDict[tuple[str, str, str, str], tuple[float, Candidate]] = OrderedDict()
        """Until when a session is remembered, and who answered it last; the one that was answered last is last."""

    def seat(self, lineup: Lineup, session: str) -> Candidate | None:
        """The candidate that answered this session last, None when there was none, or it is not in the lineup."""
        if not session or lineup.route.affinity is Affinity.NONE:
            return None
        found = self._seats.get((lineup.route.pattern, lineup.dialect, lineup.alias, session))
        if found is None or found[0] <= self._clock():
            return None
        return found[1] if lineup.bit(found[1]) else None

    def take_seat(self, lineup: Lineup, session: str, candidate: Candidate) -> None:
        """This candidate has answered: the session stays with it from now on."""
        if not session or lineup.route.affinity is Affinity.NONE or self._seconds <= 0:
            return
        key, now = (lineup.route.pattern, lineup.dialect, lineup.alias, session), self._clock()
        self._seats[key] = now + self._seconds, candidate
        self._seats.move_to_end(key)
        while len(self._seats) > SESSIONS or next(iter(self._seats.values()))[0] <= now:
            self._seats.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Spent:
    """What earlier rounds of the same request have used up: sendings, and seconds of waiting.

    ``told``: the tool had an answer, an error, and now tries again by its own schedule.
    """

    attempts: int = 0
    waited: float = 0.0
    told: bool = False

    def left_of(self, budget: Budget) -> Budget:
        """What is left of a budget; one attempt is always possible."""
        if not self.attempts and not self.waited:
            return budget
        attempts, wait = max(1, budget.attempts - self.attempts), max(0.0, budget.wait - self.waited)
        return replace(budget, attempts=attempts, wait=wait)


NOTHING_SPENT = Spent()


class Rounds:
    """The tool's own retries of a request that failed, so that its budget and ours do not multiply."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._failed: TLRUCache[bytes, tuple[float, Spent, int]] = TLRUCache(
            ROUNDS, ttu=lambda _key, _value, now: now + COUNTED_RETRY_SECONDS, timer=clock
        )
        self._told: TTLCache[bytes, None] = TTLCache(ROUNDS, RETRY_SECONDS, timer=clock)
        self._sizes: TTLCache[int, None] = TTLCache(ROUNDS, COUNTED_RETRY_SECONDS, timer=clock)

    def __bool__(self) -> bool:
        return not is_empty(self._failed)

    def may_know(self, size: int) -> bool:
        """Whether a request of so many bytes has failed. Where none has, the fingerprint of a large body is not needed:
        it is dear."""
        return size in self._sizes

    def spent(self, fingerprint: bytes, *, counted: bool, session: bytes = b"") -> Spent:
        """What the rounds before this one have used up. ``counted``: the tool says itself that it is a retry.

        ``session``: the fingerprint of what the tool asks for in its session, b"" without one. Codex and others put a
        number of the try into the body: then this tells that the last call had an error for an answer.
        """
        found = NOTHING_SPENT
        if (known := self._failed.get(fingerprint)) is not None:
            ended, spent, _ = known
            if counted or abs(self.clock() - ended) <= RETRY_SECONDS:
                found = spent
        return replace(found, told=True) if session in self._told else found

    def failed(self, fingerprint: bytes, spent: Spent, session: bytes = b"", *, size: int = 0) -> None:
        """The round ended without an answer; ``spent`` is the sum over all rounds, ``size`` the bytes of the body."""
        self._failed[fingerprint] = (self.clock(), spent, size)
        self._sizes[size] = None
        if spent.told and session:
            self._told[session] = None

    def answered(self, fingerprint: bytes, session: bytes = b"") -> None:
        """The request was answered: asked once more, it is a new one."""
        _, _, size = self._failed.pop(fingerprint, (0.0, NOTHING_SPENT, None))
        if size is not None and all(size != other for _, _, other in self._failed.values()):
            self._sizes.pop(size, None)
        self._told.pop(session, None)
