"""Cohere's API, version 2: chat, embed and rerank."""

from __future__ import annotations

import json
from typing import ClassVar

from understudy.dialects.base import (
    AUTH_HEADERS,
    Endpoint,
    Kind,
    ModelList,
    Progress,
    StreamEvent,
    bearer,
    has_content,
    read_json,
)
from understudy.dialects.body_model import BodyModelDialect

_BOOKKEEPING = frozenset({"type", "role"})
_LIFECYCLE = frozenset({"message-start", "content-end", "tool-call-end", "citation-end"})


class Cohere(BodyModelDialect):
    """Sources: Cohere's API reference, "Chat (v2)", "Embed (v2)", "Rerank (v2)", "Errors"; "A guide to streaming
    responses".
    """

    name = "cohere"
    sites = (("api.cohere.com", ""), ("api.cohere.ai", ""))
    auth_headers = AUTH_HEADERS
    model_list = ModelList(
        tails=frozenset({"/v1/models"}),
        member="models",
        key="name",
        entry=lambda name: {"name": name, "endpoints": ["chat"]},
        more=("next_page_token",),
    )

    _endpoints: ClassVar[dict[str, Endpoint]] = {
        f"/v2/{name}": Endpoint(name, Kind.GENERATING) for name in ("chat", "embed", "rerank")
    }

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return bearer(secret)

    def progress(self, event: StreamEvent) -> Progress:
        if event.data.strip() == b"[DONE]":
            return Progress.DONE
        document = read_json(event.data)
        if not isinstance(document, dict):
            if event.name == "error":
                return Progress.ERROR
            return Progress.OUTPUT if event.data.strip() else Progress.LIFECYCLE
        stated = document.get("type")
        kind = stated if isinstance(stated, str) and stated else event.name
        delta = document.get("delta")
        fields = delta if isinstance(delta, dict) else {}
        if kind == "error" or document.get("error") or fields.get("error"):
            return Progress.ERROR
        if not kind and not fields:
            # No event of a stream, but the error that a plain reply would be: an id and a message.
            return Progress.ERROR if has_content(document) else Progress.LIFECYCLE
        if kind == "message-end":
            return Progress.ERROR if fields.get("finish_reason") == "ERROR" else Progress.DONE
        if kind in _LIFECYCLE:
            return Progress.LIFECYCLE
        message = fields.get("message")
        parts = message.values() if isinstance(message, dict) else ()
        return Progress.OUTPUT if any(has_content(part, besides=_BOOKKEEPING) for part in parts) else Progress.LIFECYCLE

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps({"message": message}).encode()
