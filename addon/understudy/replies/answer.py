"""Whether a 2xx answers the call: a piece of output, or an end that the dialect defines without any.

What output is, and which ends need none, each dialect says (docs/dialects.md). Here is what holds for all of them: an
empty body, a page and JSON of something else are no answers, whatever the status. What nothing is known about (another
endpoint, an encoding that cannot be undone, a body that was cut at a bound) counts as one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from understudy.dialects import Dialect, Progress, StreamEvent

PLAIN_TEXT = frozenset({"audio/transcriptions", "audio/translations"})
"""Endpoints whose answer may be plain text, as the request's ``response_format`` says."""
BROKEN = "JSON that cannot be read"
EMPTY, PAGE, OTHER = "an empty body", "a page (HTML or XML)", "neither JSON nor a stream of events"
NO_OUTPUT = "the stream has come to its end without output and without output tokens"


class Course:
    """The events of a stream so far: whether they have shown an answer, and whether they have come to an end."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.has_output = False
        """Whether there was real output, or an end that needs none."""
        self.has_ended = False
        """Whether the generation has ended, by a terminal event or the one before it."""
        self.is_done = False
        """Whether the terminal event has come, or the last one that all servers send."""
        self.steps = 0
        """Events that were more than a sign of life."""
        self._tokens = 0

    def add(self, event: StreamEvent) -> Progress:
        """Take the next event; returns what it is by itself."""
        progress = self.dialect.progress(event)
        self.steps += progress is not Progress.PING
        if progress in (Progress.OUTPUT, Progress.DONE, Progress.STOP):
            self.is_done = self.is_done or progress is Progress.DONE or self.dialect.finishes(event)
        if progress is Progress.OUTPUT:
            self.has_output = True
        elif not self.has_output and progress in (Progress.DONE, Progress.STOP, Progress.LIFECYCLE):
            ends = progress is not Progress.LIFECYCLE
            self.has_ended = self.has_ended or ends
            self._tokens = max(self._tokens, self.dialect.output_tokens(event))
            self.has_output = (self.has_ended and self._tokens > 0) or (ends and self.dialect.answered(event))
        return progress

    @property
    def is_empty(self) -> bool:
        """Whether the stream is over, as it says itself, and nothing that can still come makes an answer of it."""
        return self.is_done and self.has_ended and not self.has_output and not self.dialect.usage_follows


def lack_of_stream(dialect: Dialect, events: Iterable[StreamEvent]) -> str:
    """What a stream lacks to be an answer; "" when it is one, or has not come to an end."""
    course = Course(dialect)
    for event in events:
        if course.add(event) is Progress.ERROR or course.has_output:
            return ""
    return NO_OUTPUT if course.has_ended else ""


def lack_of_body(dialect: Dialect, endpoint: str, text: str, read: Callable[[str], object] = json.loads) -> str:
    """What a whole body that is no stream lacks to be an answer; "" when it is one.

    ``read``: parses the text as JSON, or raises as ``json.loads`` does.
    """
    begin = text.lstrip()
    if not begin:
        return "" if endpoint in PLAIN_TEXT else EMPTY
    if begin.startswith("<"):
        return PAGE
    if endpoint in PLAIN_TEXT and begin[:1] != "{":
        return ""
    if begin[:1] not in ("{", "["):
        return "null" if begin.rstrip() == "null" else OTHER
    try:
        document = read(text)
    except (ValueError, RecursionError):
        return BROKEN
    return dialect.lack(endpoint, document)


def is_media(content_type: str, endpoint: str) -> bool:
    """Whether a Content-Type (lower case, no parameters) names what is an answer without being looked into."""
    plain = endpoint in PLAIN_TEXT and content_type.startswith("text/") and content_type != "text/html"
    return plain or content_type.startswith(("audio/", "image/", "video/"))
