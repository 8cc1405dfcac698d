"""What a user of the proxy may spend: the routes of a pool as they are for one user (``who`` in the pool file).

A user is a name that the proxy has checked (``proxyauth``), "" for a call without one. A candidate that is not for the
user costs nothing and is not in the lineup at all, so that what holds for an only candidate holds for one that is the
only one left to this user. Users with the same permissions share a lineup, and with it the turns of a round robin.
"""

from __future__ import annotations

from cachetools import LRUCache

from understudy.model import Pool, Route

KNOWN = 1024
"""How many pairs of route and user are remembered; one that was forgotten is worked out anew."""


class UserRoutes:
    """The routes of one pool snapshot, by user."""

    def __init__(self, pool: Pool) -> None:
        self._limited = {name for name, route in pool.routes.items() if route.is_limited}
        self._known: LRUCache[tuple[str, str], Route] = LRUCache(KNOWN)
        self._variants: LRUCache[tuple[str, str], Route] = LRUCache(KNOWN)
        """The same by what is left of the route: a lineup goes by the very route that it was made for."""

    def route_for(self, route: Route, user: str) -> Route:
        """The route with the candidates that this user may use: itself, where it is for all."""
        if route.pattern not in self._limited:
            return route
        key = (route.pattern, user)
        known = self._known.get(key)
        if known is None:
            narrowed = route.for_user(user)
            known = self._known[key] = self._variants.setdefault((route.pattern, narrowed.variant), narrowed)
        return known
