"""What the tool gets: a real reply with as few changes as law 6 allows, or an answer of our own in its dialect."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable

from mitmproxy import http

from understudy.dialects import Dialect
from understudy.failover import RETRY_HORIZON, Refuse, Release
from understudy.failover.memory import Refusal
from understudy.proxy.masking_gate import COMPRESSED, mask_head, masked_body
from understudy.replies import Hold
from understudy.rules import OWN_MARK

ECHOED = (
    "understudy: the upstream's reply repeats the credential inside a compressed stream, so it cannot be passed on: "
    "look at the upstream, it should not do that"
)
INTERNAL = "understudy: internal error, this call was given up: see the proxy's log, and report what it says"
NO_WEBSOCKET = (
    "understudy: a call over a WebSocket cannot be replayed: send it as a plain HTTP request to the same path, "
    "as this tool does by itself after a 426"
)


def own_answer(dialect: Dialect, refuse: Refuse) -> http.Response:
    """Our own answer: a real status also for streamed requests, the reasons in the body, and when to come back."""
    headers = {"content-type": "application/json", OWN_MARK: "answer"}
    if refuse.retry_after is not None:
        headers["retry-after"] = str(refuse.retry_after)
    elif refuse.status not in (429, 503):
        headers["x-should-retry"] = "false"
    write = dialect.broken_body if refuse.broken and refuse.status >= 500 else dialect.error_body
    return http.Response.make(refuse.status, write(refuse.status, refuse.message), headers)


def held_head(http_version: str) -> http.Response:
    """The head of a stream whose call is held until a reset: the tool gets comments until there is something to say."""
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache", OWN_MARK: "held"}
    response = http.Response.make(200, b"", headers)
    del response.headers["content-length"]
    if http_version == "HTTP/1.1":
        response.headers["transfer-encoding"] = "chunked"
    return response


def as_event(response: http.Response) -> http.Response:
    """An answer of our own in a stream that has begun: its body as an event of an error."""
    body = b" ".join((response.data.content or b"").splitlines())
    event = b"event: error\ndata: " + body + b"\n\n"
    return http.Response.make(200, event, {"content-type": "text/event-stream", OWN_MARK: "answer"})


def told_again(refusal: Refusal) -> http.Response:
    """What a call was told a moment ago, where no candidate can be asked and nothing else could be said.

    That is a refusal of the model (F17), or an error in a stream, which the tool tries again by its own schedule (A10).
    """
    headers = {"content-type": refusal.content_type, OWN_MARK: "answer"}
    if refusal.status >= 400:
        headers["x-should-retry"] = "false"
    return http.Response.make(refusal.status, refusal.body, headers)


def no_websocket(dialect: Dialect) -> http.Response:
    """426 for a WebSocket where calls are made: the one answer after which Codex goes to plain HTTP at once (O07).

    RFC 9110 section 15.5.22 wants the protocol to use in ``Upgrade``, and section 7.8 that in ``Connection``.
    """
    headers = {"content-type": "application/json", OWN_MARK: "answer", "upgrade": "HTTP/1.1", "connection": "upgrade"}
    return http.Response.make(426, dialect.error_body(426, NO_WEBSOCKET), headers)


def prepare(
    response: http.Response,
    body: bytes,
    hold: Hold,
    step: Release,
    *,
    complete: bool,
    clock: Callable[[], float] = time.time,
) -> bytes | None:
    """Make a held reply fit for the tool; returns the bytes of its body so far, None when it must not go out.

    Changed are: a Retry-After beyond a minute, ``x-should-retry`` when another round cannot help, and an echo of the
    secret with the framing that this needs. ``body`` is what came so far, ``complete`` whether that is all: the body
    of one that is not complete may end in the middle of an echo (``StreamMask``). ``clock`` gives Unix time in seconds.
    """
    headers = response.headers
    if response.status_code >= 400:
        _cap_retry_after(headers, clock())
        if step.final and not step.retry:
            headers["x-should-retry"] = "false"
    if not hold.has_clean_head:
        mask_head(response, hold.secret)
    if not complete:
        # What still comes is masked as it comes; that cannot be done inside a compressed stream.
        masked = hold.secret.mask(body)
        if hold.encoded:
            return body if masked is body and hold.secret.mask(bytes(hold.body)) == hold.body else None
        if masked is not body:
            headers.pop("content-length", None)
        return masked
    encoding = headers.get("content-encoding", "")
    if not encoding and len(body) == hold.clean_bytes and body == hold.body and not body.startswith(COMPRESSED):
        return body  # it was looked at when it was judged
    masked = masked_body(body, encoding, hold.secret)
    if masked is not body:
        headers.pop("content-encoding", None)
        if "content-length" in headers:
            headers["content-length"] = str(len(masked))
    return masked


def decoded(body: bytes, hold: Hold) -> bytes:
    """What :func:`prepare` has made fit for the tool, without a content encoding."""
    return hold.secret.mask(bytes(hold.body)) if hold.encoded else body


def _cap_retry_after(headers: http.Headers, now: float) -> None:
    """Tools sleep through a long Retry-After without a word (seconds or an HTTP date, RFC 9110 section 10.2.3)."""
    for name, unit in (("retry-after", 1.0), ("retry-after-ms", 1000.0)):
        if any(not _seconds(value, unit, now) <= RETRY_HORIZON for value in headers.get_all(name)):
            headers[name] = f"{RETRY_HORIZON * unit:.0f}"


def _seconds(value: str, unit: float, now: float) -> float:
    """The time that a header states, in seconds; 0 when it states none."""
    try:
        return float(value) / unit
    except ValueError:
        parsed = email.utils.parsedate_tz(value)
    try:
        return email.utils.mktime_tz(parsed) - now if parsed else 0.0
    except (ValueError, OverflowError):
        return math.inf  # a date beyond the calendar
