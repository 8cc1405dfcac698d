"""The content view "understudy": the story of the exchange, and the reply as text, in every program of mitmproxy.

It is chosen by itself for the replies of routed calls and can be chosen anywhere. It reads nothing but the flow, so
saved flows are shown the same way, also by a mitmproxy that never made the call.
"""

from __future__ import annotations

import json
from typing import Any, override

from mitmproxy import contentviews, http

from understudy.codec.event_stream import is_event_stream
from understudy.inspection import exchange_table
from understudy.proxy import exchange_facts as known
from understudy.proxy.exchange_facts import Facts
from understudy.replies import transcript

CHOSEN = 2.0
"""Above mitmproxy's own view of JSON (1), which would show a stream in one array as it is."""
PRETTY_LIMIT = 1024 * 1024
"""Bytes of JSON that are laid out; more is shown as it is."""


class UnderstudyView(contentviews.Contentview):
    """See the module."""

    @property
    @override
    def name(self) -> str:
        return "understudy"

    @override
    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        facts = _facts(metadata)
        blocks = [exchange_table.table(facts)] if facts else []
        if data:
            blocks.append(_readable(data, metadata, facts))
        return "\n\n".join(filter(None, blocks))

    @override
    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        is_request = isinstance(metadata.http_message, http.Request)
        return CHOSEN if data and not is_request and _facts(metadata) else 0


def _facts(metadata: contentviews.Metadata) -> Facts | None:
    return known.of(metadata.flow.metadata) if metadata.flow is not None else None


def _is_stream(data: bytes, metadata: contentviews.Metadata, facts: Facts | None) -> bool:
    content_type = metadata.content_type or ""
    if isinstance(metadata.http_message, http.Request):
        return False
    # Gemini without alt=sse sends its stream as one JSON array.
    array = facts is not None and facts.get("streamed") is True and data.lstrip()[:1] == b"["
    return is_event_stream(content_type) or (array and content_type == "application/json")


def _readable(data: bytes, metadata: contentviews.Metadata, facts: Facts | None) -> str:
    if _is_stream(data, metadata, facts):
        return str(transcript.read(data, metadata.content_type or ""))
    if len(data) <= PRETTY_LIMIT:
        try:
            document: Any = json.loads(data)
            return json.dumps(document, indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return data.decode("utf-8", "backslashreplace")


def register() -> None:
    """Let mitmproxy know the view."""
    contentviews.add(UnderstudyView())


def unregister() -> None:
    """Leave mitmproxy as it was."""
    contentviews.registry._by_name.pop("understudy", None)
