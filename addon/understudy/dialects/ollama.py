"""Ollama's own API: lines of JSON instead of server-sent events, streamed unless a request says otherwise."""

from __future__ import annotations

import json
from typing import ClassVar

from understudy.codec.json_edit import read_json_member, read_json_model
from understudy.dialects.base import (
    AUTH_HEADERS,
    Call,
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

_STREAMING = frozenset({"/api/chat", "/api/generate"})
_BOOKKEEPING = frozenset({"model", "created_at", "role", "remote_model", "remote_host", "done_reason", "context"})


class Ollama(BodyModelDialect):
    """Sources: Ollama's API documentation, "Generate a chat completion", "Generate a response", "Generate embeddings",
    "Streaming" and "Errors"; "Cloud" for ollama.com and its bearer keys.
    """

    name = "ollama"
    sites = ()
    wide_sites = (("ollama.com", ""),)
    auth_headers = AUTH_HEADERS
    reply_models = (("model",),)
    model_list = ModelList(
        tails=frozenset({"/api/tags"}),
        member="models",
        key="name",
        entry=lambda name: {
            "name": name,
            "model": name,
            "modified_at": "1970-01-01T00:00:00Z",
            "size": 0,
            "digest": "",
            "details": {},
        },
    )

    _endpoints: ClassVar[dict[str, Endpoint]] = {
        f"/api/{name}": Endpoint(name, Kind.GENERATING) for name in ("chat", "generate", "embed", "embeddings")
    }

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        alias, _ = read_json_model(body)
        return Call(alias, tail in _STREAMING and read_json_member(body, "stream") is not False) if alias else None

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return bearer(secret)

    def progress(self, event: StreamEvent) -> Progress:
        document = read_json(event.data)
        if not isinstance(document, dict):
            return Progress.OUTPUT if event.data.strip() else Progress.LIFECYCLE
        if document.get("error"):
            return Progress.ERROR
        if document.get("done") is True:
            return Progress.DONE
        message = document.get("message")
        if isinstance(message, dict) and has_content(message, besides=_BOOKKEEPING):
            return Progress.OUTPUT
        besides = _BOOKKEEPING | {"message"}
        return Progress.OUTPUT if has_content(document, besides=besides) else Progress.LIFECYCLE

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps({"error": message}).encode()
