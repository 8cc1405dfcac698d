"""One entry of a HAR as a saved flow, as browsers, tools and mitmproxy write it (HAR 1.2, "entries" to "content")."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from understudy.harentries import HarError
from understudy.savedflow import SavedFlow, SavedReply, bounded, unix_time, without_encoding


def parsed(text: bytes) -> Any:
    """The JSON of an entry. Raises HarError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = str(error).partition(":")[0]
        raise HarError(f"it is no JSON ({what})") from None


def entry_values(entry: Any, number: int) -> SavedFlow | None:
    """An entry as a saved flow; None when it is none."""
    match entry:
        case {"request": {"url": str(url)} as request, "response": {"status": int(status)} as response}:
            pass
        case _:
            return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return None
    began = _date(entry.get("startedDateTime"))
    took = entry.get("time")
    ended = began + took / 1000 if began and isinstance(took, int | float) and 0 <= took < math.inf else 0.0
    reply = None
    if 100 <= status <= 599:
        content = response.get("content")
        body, tail = _content(content) if isinstance(content, dict) else (None, b"")
        reply = SavedReply(status, without_encoding(_pairs(response.get("headers"))), body, tail, ended, ended)
    post, error = request.get("postData"), response.get("_error")
    return SavedFlow(
        number,
        f"entry-{number}",
        str(request.get("method")),
        host,
        port,
        f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/",
        without_encoding(_pairs(request.get("headers"))),
        str(post.get("text") or "").encode("utf-8", "replace") if isinstance(post, dict) else b"",
        began,
        reply,
        error if isinstance(error, str) else "",
    )


def _pairs(headers: object) -> list[tuple[str, str]]:
    found = [item for item in headers if isinstance(item, dict)] if isinstance(headers, list) else []
    return [(str(item.get("name")), str(item.get("value"))) for item in found]


def _content(content: Mapping[str, Any]) -> tuple[bytes | None, bytes]:
    text = content.get("text")
    if not isinstance(text, str) or not text:
        return None, b""  # browsers leave it out, mitmproxy writes "" for a body that it did not keep
    if content.get("encoding") == "base64":
        try:
            return bounded(base64.b64decode(text), "")
        except (binascii.Error, ValueError):
            return None, b""
    return bounded(text.encode("utf-8", "replace"), "")


def _date(value: object) -> float:
    try:
        return unix_time(datetime.fromisoformat(value[:40]).timestamp()) if isinstance(value, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0
