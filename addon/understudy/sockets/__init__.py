"""WebSockets on which calls are made: what a message asks for, in which order, and what goes back for it.

``session`` holds the rules of one connection: lanes, queues, the earlier responses that a message goes on from. It
turns each ``response.create`` into the body of an HTTP call, and the reply of that call into messages (``turn``).
``frames`` reads and writes the frames of RFC 6455. The package does no I/O and never chooses a candidate. Start with
``session``.
"""

from understudy.sockets.frames import Closed, Frames, NotAHandshake, Received, Reply, handshake
from understudy.sockets.session import Action, Ask, HangUp, Say, Session, read_message
from understudy.sockets.transcripts import Transcripts
from understudy.sockets.turn import Turn

__all__ = [
    "Action",
    "Ask",
    "Closed",
    "Frames",
    "HangUp",
    "NotAHandshake",
    "Received",
    "Reply",
    "Say",
    "Session",
    "Transcripts",
    "Turn",
    "handshake",
    "read_message",
]
