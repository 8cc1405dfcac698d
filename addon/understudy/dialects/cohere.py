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
    count_at,
    has_content,
    nothing_said,
    read_json,
    without,
)
from understudy.dialects.body_model import BodyModelDialect
from understudy.model import Usage

_BOOKKEEPING = frozenset({"type", "role"})
_MEANT = ("MAX_TOKENS", "STOP_SEQUENCE")
"""Reasons to finish with which an answer may have no output: the request's own limits."""
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
            return Progress.UNREADABLE if event.data.strip() else Progress.LIFECYCLE
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

    def answered(self, event: StreamEvent) -> bool:
        return _ends_well(_member(read_json(event.data), "delta"))

    def usage(self, document: object) -> Usage | None:
        # Of a chat, of the last event of its stream, and of embed and rerank.
        for counted in (
            _member(document, "usage"),
            _member(_member(document, "delta"), "usage"),
            _member(document, "meta"),
        ):
            for kind in ("tokens", "billed_units"):
                read, made = count_at(counted, kind, "input_tokens"), count_at(counted, kind, "output_tokens")
                if read or made:
                    return Usage(read, made, min(read, count_at(counted, "cached_tokens")))
        return None

    def lack(self, endpoint: str, document: object) -> str:
        if endpoint in ("embed", "rerank"):
            name = "embeddings" if endpoint == "embed" else "results"
            found = _member(document, name)
            # Nothing may be relevant, so that a list of results can be empty.
            return "" if found or (found == [] and endpoint == "rerank") else without(name)
        message = _member(document, "message")
        if not isinstance(message, dict):
            return without("message")
        said = any(
            has_content(part, besides=_BOOKKEEPING)
            for name, value in message.items()
            if name not in _BOOKKEEPING
            for part in (value if isinstance(value, list) else [value])
        )
        return "" if said or _ends_well(document) else nothing_said(_member(document, "finish_reason"))

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps({"message": message}).encode()


def _ends_well(fields: object) -> bool:
    """Whether a reply that has shown no output ends in a way that needs none."""
    return _member(fields, "finish_reason") in _MEANT or count_at(fields, "usage", "tokens", "output_tokens") > 0


def _member(document: object, name: str) -> object:
    return document.get(name) if isinstance(document, dict) else None
