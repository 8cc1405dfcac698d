"""What is read off a saved flow without judging it: who went away, what broke, how long it took, what was noted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mitmproxy import http

from understudy.flows.saved_flow import SavedFlow
from understudy.replies import Fault, FaultKind

LONGEST = 3600.0
"""Seconds that a recorded reply may have taken; more is a clock that was set meanwhile."""
_NEVER_SENT = (FaultKind.CONNECT, FaultKind.TLS)


def request_of(flow: SavedFlow) -> http.Request:
    """The request as the engine reads it: its body is decoded already."""
    named = [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in flow.headers]
    method, path = flow.method.encode("latin-1", "replace"), flow.path.encode("utf-8", "surrogateescape")
    began = flow.began
    return http.Request(
        flow.host,
        flow.port,
        method,
        b"https",
        b"",
        path,
        b"HTTP/1.1",
        http.Headers(named),
        flow.body,
        None,
        began,
        began,
    )


def is_gone(flow: SavedFlow) -> bool:
    """Whether the tool went away, which says nothing about a candidate."""
    words = flow.error.lower()
    return flow.facts.get("label") == "cancelled" or "client disconnect" in words or "tool went away" in words


def fault_of(flow: SavedFlow) -> Fault:
    """The transport fault that was noted, in understudy's words or another recorder's."""
    kind, _, message = flow.error.partition(": ")
    if kind in list(FaultKind):
        return Fault(FaultKind(kind), message, sent=FaultKind(kind) not in _NEVER_SENT)
    guessed = FaultKind.CLOSED if flow.connected else FaultKind.CONNECT
    return Fault(guessed, flow.error, sent=guessed is FaultKind.CLOSED)


def seconds_until(flow: SavedFlow, until: float) -> float:
    """Seconds from the beginning of the request until then, 0 where either is unknown."""
    seconds = until - flow.began if until and flow.began else 0.0
    return min(max(0.0, seconds), LONGEST) if math.isfinite(seconds) else 0.0


def text_of(facts: Mapping[str, Any], key: str) -> str:
    """A text among the facts; "" when there is none. A file can say anything."""
    value = facts.get(key)
    return value[:200] if isinstance(value, str) else ""


def number_of(facts: Mapping[str, Any], key: str) -> int:
    """A number from 1 among the facts; 0 when there is none."""
    value = facts.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1000 else 0
