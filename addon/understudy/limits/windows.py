"""What is known of each credential's limits: the windows that its replies spoke of, until they begin anew.

Nothing here is a verdict. It says who has little left (``is_low``) and whose rest is lost first (``lost_at``), and the
selection orders equals by it. Bounded in credentials and windows; what has begun anew since is not known any more.
Times are readings of the injected clock, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from understudy.limits.headers import LimitTable, Reading, Whose, shipped_table
from understudy.model import Candidate

MOST_CREDENTIALS = 10_000
"""Credentials whose windows are kept; the one that was heard of least recently is forgotten."""
MOST_OF_ONE = 64
"""Windows of one credential; the oldest goes."""
UNDATED = 60.0
"""Seconds for which a window counts whose reset is not stated: most of these are per minute."""
LONGEST = 40 * 86400.0
"""Seconds. A later reset is not believed."""
RESERVE = 0.02
"""The share of a window below which a candidate goes behind its equals."""
MOST_OUTPUT = 131_072
"""Tokens that no request is thought to ask for beyond its own length."""
SAMPLE_EVERY = 20.0
SAMPLES = 46
"""A share is noted every so many seconds, so often: the forecast looks back a quarter of an hour."""
LEAST_SPAN = 60.0
"""Seconds that a forecast has to look back at least."""
FORECAST_FROM = 300.0
"""Seconds until a reset below which there is no forecast: a limit per minute fills up again by itself."""
NEWS = 0.005
"""By how much a share has to change to be news: what is kept in a file and shown is not written for less."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request is estimated to take, in tokens: its prompt, and the most output that it states."""

    input: float = 0.0
    output: float = 0.0

    def of(self, what: str) -> float:
        """Tokens of a window: a vendor that counts both reserves the larger one of prompt and stated maximum."""
        match what:
            case "input tokens":
                return self.input
            case "tokens":
                return max(self.input, self.output)
            case _:
                return 0.0  # output is counted as it comes, not as it might


NO_NEED = Need()


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a limit. ``reset`` and ``read`` are readings of the clock; the rest is as in :class:`Reading`."""

    name: str
    of: str
    whose: Whose
    subject: str
    left: float | None
    limit: float | None
    remaining: float | None
    reset: float
    read: float
    length: float = 0.0

    @property
    def ends(self) -> float:
        """When it is not known any more."""
        return self.reset if self.reset < math.inf else self.read + UNDATED

    def is_low(self, reserve: float, need: Need) -> bool:
        """Whether less than the reserve is left, or fewer tokens than a request needs."""
        if self.left is not None and self.left < reserve:
            return True
        if self.remaining is None:
            return False
        return self.remaining < 1 if self.of != "plan" and self.left is None else self.remaining < need.of(self.of)


@dataclass(frozen=True, slots=True)
class LimitView:
    """A window for people and programs: shares from 0 to 1, times as Unix time and as seconds from now.

    ``whose``: ``credential``, ``family`` (those of its models that have ``family`` in their name) or ``model``.
    ``low``: it goes behind its equals. ``empty_in``: seconds until it is used up at the rate of the last minutes, None
    where that is after the reset or not known; ``forecast``: the same in words.
    """

    name: str
    of: str
    whose: str
    family: str
    used: float | None
    left: float | None
    limit: float | None
    remaining: float | None
    reset: float | None
    seconds: float | None
    read: float
    low: bool
    empty_in: float | None
    forecast: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A window and whose it is, for the state file."""

    credential: str
    window: Window


@dataclass(slots=True)
class _Kept:
    """A window, and what was left of it in the last minutes: (when, share). ``told``: the share that was last news."""

    window: Window
    samples: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    told: float | None = None


type _Name = tuple[Whose, str, str]


class Limits:
    """The windows of all credentials. ``table``: how headers are read, None: as the shipped file says."""

    def __init__(self, clock: Callable[[], float], table: LimitTable | None = None) -> None:
        self.clock = clock
        self.table = table
        self.version = 0
        """Changes with everything that is worth showing or keeping."""
        self.watched: set[str] = set()
        """The credentials that a request may find low: most calls need not look any further."""
        self.reserve = RESERVE
        """The largest reserve of any route: what has more left than that is not watched."""
        self._windows: dict[str, dict[_Name, _Kept]] = {}

    # -- questions -----------------------------------------------------------------------------------------------

    def of(self, candidate: Candidate) -> list[Window]:
        """The windows that a candidate's calls count in, the shortest first."""
        found = [kept.window for kept in self._of(candidate)]
        found.sort(key=lambda window: (window.length or window.ends - window.read, window.name))
        return found

    def is_low(self, candidate: Candidate, reserve: float, need: Callable[[float], Need]) -> bool:
        """Whether a candidate goes behind its equals.

        ``need`` tells what the request takes. It is asked only where tokens might be short, and is told the least that
        is left: a request that is surely smaller need not be looked into.
        """
        name = candidate.credential.name
        if name not in self.watched:
            return False
        least = math.inf
        for kept in self._of(candidate):
            window = kept.window
            if window.is_low(reserve, NO_NEED):
                return True
            if _is_short(window):
                least = min(least, window.remaining or 0.0)
        return least < math.inf and any(kept.window.is_low(reserve, need(least)) for kept in self._of(candidate))

    def lost_at(self, candidate: Candidate) -> float:
        """When the unused rest of a candidate's longest window is lost; infinite where nothing is known of it.

        The longest one, because that is what runs out: what is left of a window of hours comes back several times
        before that of the week does.
        """
        longest, at = 0.0, math.inf
        for kept in self._of(candidate):
            window = kept.window
            if window.reset < math.inf and (length := window.length or window.reset - window.read) >= longest:
                at = window.reset if length > longest else min(at, window.reset)
                longest = length
        return at

    def empty_in(self, candidate: Candidate, window: Window) -> float | None:
        """Seconds until a window is used up at the rate of the last minutes; None: not before its reset."""
        kept = self._windows.get(candidate.credential.name, {}).get((window.whose, window.subject, window.name))
        now = self.clock()
        if kept is None or window.left is None or window.reset == math.inf or window.reset - now < FORECAST_FROM:
            return None
        samples = [sample for sample in kept.samples if now - sample[0] <= SAMPLE_EVERY * SAMPLES]
        if not samples:
            return None
        span, spent = window.read - samples[0][0], samples[0][1] - window.left
        if span < LEAST_SPAN or spent <= 0:
            return None
        # It is assumed to have gone on like that since it was read.
        seconds = max(0.0, window.left * span / spent - (now - window.read))
        return seconds if now + seconds < window.reset else None

    def stored(self) -> Iterator[Stored]:
        """Everything that has not begun anew, for the state file."""
        now = self.clock()
        for name, windows in list(self._windows.items()):
            for kept in list(windows.values()):
                if kept.window.ends > now:
                    yield Stored(name, kept.window)

    # -- changes -------------------------------------------------------------------------------------------------

    def hear(
        self,
        candidate: Candidate,
        headers: Iterable[tuple[str, str]],
        ahead: float,
        mask: Callable[[str], str] = lambda text: text,
    ) -> None:
        """A reply to a candidate's call has these headers.

        ``ahead``: seconds by which wall time is ahead of the clock. ``mask``: takes secrets out of what is kept: an
        upstream may name a limit as it likes, also after the secret that it got.
        """
        if self.table is None:
            self.table = shipped_table()
        host = candidate.credential.upstream.host
        if not (spoken := self.table.spoken(host, headers)):
            return
        now = self.clock()
        readings = self.table.read(host, candidate.model, spoken, now + ahead)
        for reading in readings:
            self._keep(candidate.credential.name, _window(reading, now, mask))
        if readings:
            self._watch(candidate.credential.name)

    def restore(self, stored: Iterable[Stored]) -> None:
        """What an earlier process knew; what was read since then is newer."""
        now = self.clock()
        for each in stored:
            window = each.window
            known = self._windows.get(each.credential, {})
            if now < window.ends <= now + LONGEST and (window.whose, window.subject, window.name) not in known:
                self._keep(each.credential, window)
                self._watch(each.credential)

    def forget(self, credential: str) -> None:
        """The credential is another account now, or none."""
        if self._windows.pop(credential, None) is not None:
            self.version += 1
        self.watched.discard(credential)

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Forget the credentials that are not wanted any more."""
        for name in [name for name in self._windows if not wanted(name)]:
            self.forget(name)

    def use_reserve(self, reserve: float) -> None:
        """The largest reserve of the routes is now this."""
        self.reserve = reserve
        for name in self._windows:
            self._watch(name)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _of(self, candidate: Candidate) -> Iterator[_Kept]:
        windows = self._windows.get(candidate.credential.name)
        if not windows:
            return
        now, model = self.clock(), ""
        for name, kept in list(windows.items()):
            window = kept.window
            if window.ends <= now:
                del windows[name]
                self.version += 1
                continue
            match window.whose:
                case Whose.CREDENTIAL:
                    yield kept
                case Whose.MODEL:
                    if window.subject == candidate.model:
                        yield kept
                case Whose.FAMILY:
                    model = model or candidate.model.lower()
                    if window.subject in model:
                        yield kept

    def _keep(self, credential: str, window: Window) -> None:
        windows = self._windows.pop(credential, None)
        windows = {} if windows is None else windows
        self._windows[credential] = windows  # the latest one comes last
        if len(self._windows) > MOST_CREDENTIALS:
            self.forget(next(iter(self._windows)))
        name = (window.whose, window.subject, window.name)
        kept = windows.get(name)
        if kept is None:
            if len(windows) >= MOST_OF_ONE:
                del windows[next(iter(windows))]
            kept = windows[name] = _Kept(window)
            self.version += 1
        before, kept.window = kept.window, window
        if window.left is None:
            return
        if before.left is not None and window.left > before.left + NEWS:
            kept.samples.clear()  # it has begun anew
        if not kept.samples or window.read - kept.samples[-1][0] >= SAMPLE_EVERY:
            kept.samples.append((window.read, window.left))
        if kept.told is None or abs(window.left - kept.told) >= NEWS:
            kept.told = window.left
            self.version += 1

    def _watch(self, credential: str) -> None:
        windows = (kept.window for kept in self._windows.get(credential, {}).values())
        if any(window.is_low(self.reserve, NO_NEED) or _is_short(window) for window in windows):
            self.watched.add(credential)
        else:
            self.watched.discard(credential)


def _is_short(window: Window) -> bool:
    """Whether its tokens might not be enough for one large request."""
    return window.remaining is not None and "tokens" in window.of and window.remaining < 8 * MOST_OUTPUT


def _window(reading: Reading, now: float, mask: Callable[[str], str]) -> Window:
    reset = reading.reset if reading.reset <= LONGEST else math.inf
    return Window(
        mask(reading.name),
        reading.of,
        reading.whose,
        reading.subject if reading.whose is Whose.MODEL else mask(reading.subject),
        reading.left,
        reading.limit,
        reading.remaining,
        now + reset,
        now,
        reading.length,
    )
