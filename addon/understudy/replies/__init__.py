"""What came back: a reply with its error unwrapped, the hint when to try again, and how long a reply is held.

``reply`` is what rules look at; ``unwrap`` finds the errors inside a body; ``hints`` reads Retry-After and its kin;
``hold`` decides when a streamed reply has shown real output. The package never decides what a reply means: that is
``rules``. Start with ``reply``.
"""

from understudy.replies.hints import Hint, read_hint, seconds_until, sent_at
from understudy.replies.hold import Held, Hold, Secret, Tail
from understudy.replies.reply import MAX_TEXT, Fault, FaultKind, Reply
from understudy.replies.unwrap import ErrorInfo

__all__ = [
    "MAX_TEXT",
    "ErrorInfo",
    "Fault",
    "FaultKind",
    "Held",
    "Hint",
    "Hold",
    "Reply",
    "Secret",
    "Tail",
    "read_hint",
    "seconds_until",
    "sent_at",
    "transcript",
]
