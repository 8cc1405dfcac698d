"""What came back: a reply with its error unwrapped, the hint when to try again, and how long a reply is held.

``reply`` is what rules look at; ``unwrap`` finds the errors inside a body; ``hints`` reads Retry-After and its kin;
``hold`` decides when a streamed reply has shown real output; ``statement`` reads its tokens and its model. The package
never decides what a reply means: that is ``rules``. Start with ``reply``.
"""

from understudy.replies.hints import Hint, read_hint, seconds_until, sent_at
from understudy.replies.hold import Held, Hold, Secret, Tail
from understudy.replies.reply import MAX_TEXT, Fault, FaultKind, Reply
from understudy.replies.statement import NOTHING_STATED, Statement, is_another, of_document, of_events, of_fragment
from understudy.replies.unwrap import ErrorInfo

__all__ = [
    "MAX_TEXT",
    "NOTHING_STATED",
    "ErrorInfo",
    "Fault",
    "FaultKind",
    "Held",
    "Hint",
    "Hold",
    "Reply",
    "Secret",
    "Statement",
    "Tail",
    "is_another",
    "of_document",
    "of_events",
    "of_fragment",
    "read_hint",
    "seconds_until",
    "sent_at",
    "transcript",
]
