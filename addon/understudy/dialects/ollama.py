"""Ollama's own API: lines of JSON instead of server-sent events, streamed unless a request says otherwise."""

from __future__ import annotations

import json
from typing import ClassVar

from understudy.codec.json_edit import read_json_flag, read_json_model
from understudy.dialects.base import (
    AUTH_HEADERS,
    Call,
    Endpoint,
    Kind,
    ModelList,
    Progress,
    StreamEvent,
    bearer,
    count_at,
    has_content,
    nothing_said,
    read_json,
    without,
)
from understudy.dialects.body_model import BodyModelDialect
from understudy.model import Usage

_STREAMING = frozenset({"/api/chat", "/api/generate"})
_BOOKKEEPING = frozenset({"model", "created_at", "role", "remote_model", "remote_host", "done_reason", "context"})
_MEANT = ("length", "load", "unload")
"""Reasons to end without output: the request's own limit, or a request that only loads a model."""


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
        return Call(alias, tail in _STREAMING and read_json_flag(body, "stream") is not False) if alias else None

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return bearer(secret)

    def progress(self, event: StreamEvent) -> Progress:
        document = read_json(event.data)
        if not isinstance(document, dict):
            return Progress.UNREADABLE if event.data.strip() else Progress.LIFECYCLE
        if document.get("error"):
            return Progress.ERROR
        if document.get("done") is True:
            return Progress.DONE
        message = document.get("message")
        if isinstance(message, dict) and has_content(message, besides=_BOOKKEEPING):
            return Progress.OUTPUT
        besides = _BOOKKEEPING | {"message"}
        return Progress.OUTPUT if has_content(document, besides=besides) else Progress.LIFECYCLE

    def answered(self, event: StreamEvent) -> bool:
        return not _lack_of_output(read_json(event.data))

    def usage(self, document: object) -> Usage | None:
        read, made = count_at(document, "prompt_eval_count"), count_at(document, "eval_count")
        return Usage(read, made) if read or made else None

    def lack(self, endpoint: str, document: object) -> str:
        if endpoint in ("embed", "embeddings"):
            name = "embedding" if endpoint == "embeddings" else "embeddings"
            found = document.get(name) if isinstance(document, dict) else None
            return "" if isinstance(found, list) and found else without(name)
        return _lack_of_output(document)

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps({"error": message}).encode()


def _lack_of_output(document: object) -> str:
    """What a whole reply, or the last line of a stream, lacks to be an answer; "" when it is one."""
    if not isinstance(document, dict):
        return "no JSON object"
    message = document.get("message")
    if "message" not in document and "response" not in document:
        return without("message")
    if has_content(message, besides=_BOOKKEEPING) or has_content(document, besides=_BOOKKEEPING | {"message"}):
        return ""
    reason = document.get("done_reason")
    return "" if reason in _MEANT or count_at(document, "eval_count") else nothing_said(reason)
