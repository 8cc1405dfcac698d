"""The memory of what is out of rotation: a cache with a time to live for each entry, the ladder, and the state on disk.

A suspension is only ever lengthened, until it expires, is lifted by hand, or its probe succeeds (law 3). Beside it
stands what comparing candidates has taught (``learned``), and who answered of late (``refusal_width``). The package
never decides that something is suspended, or whose fault a reply is: ``failover`` does. Start with ``cache``.
"""

from understudy.suspensions.cache import PROBED, Peers, Suspensions
from understudy.suspensions.first_events import Pace
from understudy.suspensions.ladder import HOUR, JITTER, MINUTE, Ladders, Rung, doubling, seconds_of
from understudy.suspensions.learned import Cause, Learned, Lesson, Signature
from understudy.suspensions.refusal_width import Answers

__all__ = [
    "HOUR",
    "JITTER",
    "MINUTE",
    "PROBED",
    "Answers",
    "Cause",
    "Ladders",
    "Learned",
    "Lesson",
    "Pace",
    "Peers",
    "Rung",
    "Signature",
    "Suspensions",
    "doubling",
    "persistence",
    "seconds_of",
]
