"""The memory of what is out of rotation: a cache with a time to live for each entry, the ladder, and the state on disk.

A suspension is only ever lengthened, until it expires, is lifted by hand, or its probe succeeds (law 3). The package
never decides that something is suspended: ``failover`` does. Start with ``cache``.
"""

from understudy.suspensions.cache import Peers, Suspensions
from understudy.suspensions.ladder import HOUR, JITTER, MINUTE, Ladders, Rung, doubling, seconds_of

__all__ = [
    "HOUR",
    "JITTER",
    "MINUTE",
    "Ladders",
    "Peers",
    "Rung",
    "Suspensions",
    "doubling",
    "persistence",
    "seconds_of",
]
