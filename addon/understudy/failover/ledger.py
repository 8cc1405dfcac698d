"""Which account has what: who sealed a part of a conversation, who keeps a response or a file (section 5d).

The ledger is learnt from replies, from uploads, and from what a candidate has read. It holds hashes only, a bounded
number of them, for a bounded time, and none of it is needed for a request to be served. What is not in it has no known
owner. The clock is injected, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

from cachetools import TTLCache

from understudy.failover.affinity import is_empty

ENTRIES = 50_000
SECONDS = 24 * 3600.0
"""How long an entry is remembered. Vendors keep ids for days; a day's work is what it is for."""


class Ledger:
    """Which credential knows what, by the names of ``requests.sealed``.

    ``learnt(mark, credential)`` is told of what this process learns, each name as its hash.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._owners: TTLCache[str, str] = TTLCache(ENTRIES, SECONDS, timer=clock)
        self._homes: TTLCache[str, str] = TTLCache(ENTRIES, SECONDS, timer=clock)
        self._refused: TTLCache[tuple[str, str], None] = TTLCache(ENTRIES, SECONDS, timer=clock)
        self.learnt: Callable[[str, str], None] | None = None

    def __bool__(self) -> bool:
        return not (is_empty(self._owners) and is_empty(self._refused))

    # -- what is known -------------------------------------------------------------------------------------------

    def owner_of(self, name: str) -> str:
        """The credential that this came from, "" when it is not known."""
        return self._owners.get(_hashed(name), "")

    def first_owned(self, names: Iterable[str]) -> tuple[str, str]:
        """The first of these whose owner is known, and its owner; both "" without one."""
        return next(((name, owner) for name in names if (owner := self.owner_of(name))), ("", ""))

    def owner(self, names: Iterable[str]) -> str:
        """The credential that the first known of these came from, "" when none is known."""
        return self.first_owned(names)[1]

    def home(self, name: str) -> str:
        """The credential with which the conversation went on whose latest part this is; "" where it never moved."""
        return self._homes.get(_hashed(name), "")

    def was_refused(self, name: str, credential: str) -> bool:
        """Whether this credential has refused a request with this part in it."""
        return (_hashed(name), credential) in self._refused

    # -- what is learnt ------------------------------------------------------------------------------------------

    def learn(self, names: Iterable[str], credential: str) -> None:
        """These came from this credential."""
        for mark in map(_hashed, names):
            if self.learnt is not None and self._owners.get(mark) != credential:
                self.learnt(mark, credential)
            self._owners[mark] = credential

    def take(self, mark: str, credential: str) -> None:
        """Another process has learnt this. ``mark``: the name as its hash."""
        self._owners[mark] = credential

    def move(self, name: str, credential: str) -> None:
        """The conversation whose latest part this is goes on with this credential."""
        self._homes[_hashed(name)] = credential

    def refuse(self, names: Iterable[str], credential: str) -> None:
        """This credential has refused a request with these parts in it."""
        for name in names:
            self._refused[_hashed(name), credential] = None


def _hashed(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
