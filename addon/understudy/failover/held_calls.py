"""Which calls are held until a reset (a route's ``until_reset``): for who looks at the pool. Decides nothing.

There are as many as calls that are held: each belongs to an exchange, and is gone with it. Costs nothing while no call
is held.
"""

from __future__ import annotations

from weakref import WeakSet

from understudy.model import Candidate


class HeldCall:
    """A call that is held. ``since``, ``until``: readings of the clock; ``candidate``: whose reset it waits for."""

    __slots__ = ("__weakref__", "alias", "candidate", "dialect", "route", "since", "until")

    def __init__(self, route: str, alias: str, dialect: str, since: float, until: float, candidate: Candidate) -> None:
        self.route = route
        self.alias = alias
        self.dialect = dialect
        self.since = since
        self.until = until
        self.candidate = candidate


class HeldCalls:
    """All of them. A call that is dropped without a word is not among them any more."""

    def __init__(self) -> None:
        self._calls: WeakSet[HeldCall] = WeakSet()
        self._begun = 0

    def begin(self, call: HeldCall) -> None:
        """A call is held from now on."""
        self._calls.add(call)
        self._begun += 1

    def end(self, call: HeldCall) -> None:
        """It is held no longer."""
        self._calls.discard(call)

    @property
    def version(self) -> str:
        """Differs from an earlier one when other calls are held."""
        return f"{self._begun}.{len(self._calls)}"

    def now(self) -> list[HeldCall]:
        """The calls that are held, the one that came first at the front."""
        return sorted(self._calls, key=lambda call: call.since)
