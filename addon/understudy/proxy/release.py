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
from understudy.replies import Hold, Secret
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
    else:
        headers["x-should-retry"] = "false"
    return http.Response.make(refuse.status, dialect.error_body(refuse.status, refuse.message), headers)


def last_refusal(refusal: Refusal) -> http.Response:
    """What somebody else was told a moment ago, where nobody can be asked and nothing else could be said (F17)."""
    headers = {"content-type": refusal.content_type, OWN_MARK: "answer", "x-should-retry": "false"}
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
    secret with the framing that this needs. ``body`` is what came so far, ``complete`` whether that is all;
    ``clock`` gives Unix time in seconds.
    """
    headers = response.headers
    if response.status_code >= 400:
        _cap_retry_after(headers, clock())
        if step.final and not step.retry:
            headers["x-should-retry"] = "false"
    headers.fields = masked_fields(headers.fields, hold.secret)
    decoded = bytes(hold.body) if hold.encoded else body
    masked = hold.secret.mask(decoded)
    if masked == decoded:
        return body
    if hold.encoded:
        if not complete:
            return None
        headers.pop("content-encoding", None)
    if "content-length" in headers:
        if complete:
            headers["content-length"] = str(len(masked))
        else:
            del headers["content-length"]
    return masked


def decoded(body: bytes, hold: Hold) -> bytes:
    """What :func:`prepare` has made fit for the tool, without a content encoding."""
    return hold.secret.mask(bytes(hold.body)) if hold.encoded else body


def masked_fields(fields: tuple[tuple[bytes, bytes], ...], secret: Secret) -> tuple[tuple[bytes, bytes], ...]:
    """Header fields of a reply without an echo of the secret; the same tuple where there is none."""
    values = b"\n".join(value for _, value in fields)
    if secret.mask(values) == values:
        return fields
    return tuple((name, secret.mask(value)) for name, value in fields)


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
