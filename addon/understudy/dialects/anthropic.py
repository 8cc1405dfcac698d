"""Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from understudy.codec.json_edit import set_json_members
from understudy.dialects.base import (
    AUTH_HEADERS,
    Asked,
    Endpoint,
    Kind,
    ModelList,
    Progress,
    StreamEvent,
    Written,
    bearer,
    count_at,
    has_content,
    member_of,
    nothing_said,
    read_json,
    without,
)
from understudy.dialects.body_model import BodyModelDialect
from understudy.model import Upstream, Usage

OAUTH_PREFIX = "sk-ant-oat"
"""How the token of a subscription login begins; API keys begin with ``sk-ant-api``."""
OAUTH_BETA = "oauth-2025-04-20"
"""The flag in ``anthropic-beta`` that such a token needs and an API key must not have."""

_BETA = "anthropic-beta"
_TYPE = frozenset({"type"})
_USUAL = ("end_turn", "tool_use")
"""Reasons to stop that need output. With the others (max_tokens, stop_sequence, refusal, pause_turn,
model_context_window_exceeded) it was the request's own limit, or a filter, that left none."""
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Anthropic(BodyModelDialect):
    """Sources: the Anthropic API documentation, "Streaming messages", "Errors" and "Workspaces"."""

    name = "anthropic"
    sites: ClassVar[tuple[tuple[str, str], ...]] = (("api.anthropic.com", ""),)
    relatives: ClassVar[frozenset[str]] = frozenset({"anthropic-vertex"})
    auth_headers = AUTH_HEADERS
    reply_models = (("model",), ("message", "model"))
    model_list: ClassVar[ModelList | None] = ModelList(
        tails=frozenset({"/v1/models"}),
        member="data",
        key="id",
        entry=lambda name: {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"},
        more=("has_more",),
    )
    identity_headers = frozenset({"anthropic-workspace-id", "anthropic-user-profile-id"})

    _endpoints: ClassVar[dict[str, Endpoint]] = {
        "/v1/messages": Endpoint("messages", Kind.GENERATING),
        "/v1/messages/count_tokens": Endpoint("messages/count_tokens", Kind.AUXILIARY),
    }

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        # A relative has the version in the body, the streaming in the path, and need not send the header.
        members = {"anthropic_version": None, "model": model, **({"stream": True} if asked.call.streamed else {})}
        version = () if "anthropic-version" in asked.headers else (("anthropic-version", "2023-06-01"),)
        return Written(f"/v1/{asked.endpoint.name}", asked.query, set_json_members(asked.body, members), version)

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        # The header follows from the secret, never from where the tool had its own: SDKs send either kind as bearer.
        if secret.startswith(OAUTH_PREFIX):
            return bearer(secret)
        return (("x-api-key", secret),)

    def clean_headers(self, headers: Mapping[str, str], secret: str = "") -> tuple[tuple[str, str], ...]:
        old = headers.get(_BETA, "")
        flags = [flag.strip() for flag in old.split(",") if flag.strip()]
        wanted = [flag for flag in flags if flag != OAUTH_BETA]
        if secret.startswith(OAUTH_PREFIX):
            if OAUTH_BETA in flags:
                return ()
            wanted.append(OAUTH_BETA)
        if wanted == flags:
            return ()
        return ((_BETA, ",".join(wanted)),)

    def progress(self, event: StreamEvent) -> Progress:
        document = read_json(event.data)
        if not isinstance(document, dict):
            if event.name == "error":
                return Progress.ERROR
            return Progress.UNREADABLE if event.data.strip() else Progress.LIFECYCLE
        stated = document.get("type")
        kind = stated if isinstance(stated, str) and stated else event.name
        if event.name == "error" or document.get("error"):
            return Progress.ERROR
        content: object
        match kind:
            case "error":
                return Progress.ERROR
            case "message_stop":
                return Progress.DONE
            case "ping":
                return Progress.PING
            case "content_block_stop":
                return Progress.LIFECYCLE
            case "message_start":
                message = document.get("message")
                content = message.get("content") if isinstance(message, dict) else None
            case "content_block_start":
                content = document.get("content_block")
            case "content_block_delta":
                content = document.get("delta")
            case "message_delta":
                # Only a stop reason says something; without one it counts tokens.
                delta = document.get("delta")
                content = delta.get("stop_reason") if isinstance(delta, dict) else None
                if content in _USUAL:
                    return Progress.STOP
            case _:
                content = document
        return Progress.OUTPUT if has_content(content, besides=_TYPE) else Progress.LIFECYCLE

    def output_tokens(self, event: StreamEvent) -> int:
        # Only at its end: what message_start counts is the place of an output that may never come.
        document = read_json(event.data)
        ends = isinstance(document, dict) and document.get("type") == "message_delta"
        return count_at(document, "usage", "output_tokens") if ends else 0

    def usage(self, document: object) -> Usage | None:
        counted, begins = member_of(document, "usage"), False
        if not isinstance(counted, dict):
            counted, begins = member_of(document, "message", "usage"), True
        read, cached = count_at(counted, "input_tokens"), count_at(counted, "cache_read_input_tokens")
        written = count_at(counted, "cache_creation_input_tokens")
        # What message_start counts as output is the place of one that may never come.
        made = 0 if begins else count_at(counted, "output_tokens")
        found = Usage(read + cached + written, made, cached, written)
        return found if found.input or found.output else None

    def lack(self, endpoint: str, document: object) -> str:
        if not isinstance(document, dict):
            return "no JSON object"
        content, reason = document.get("content"), document.get("stop_reason")
        if not isinstance(content, list):
            return without("content")
        if any(has_content(block, besides=_TYPE) for block in content):
            return ""
        meant = isinstance(reason, str) and reason and reason not in _USUAL
        return "" if meant or count_at(document, "usage", "output_tokens") else nothing_said(reason)

    def event_of(self, event: StreamEvent) -> tuple[str, bytes]:
        document = read_json(event.data)
        fields = document if isinstance(document, dict) else {}
        if event.name != "exception":
            return str(fields.get("type") or event.name), event.data
        error = {"type": str(fields.get("__type")), "message": str(fields.get("message", ""))}
        return "error", json.dumps({"type": "error", "error": error}).encode()

    def error_body(self, status: int, message: str) -> bytes:
        kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()

    def broken_body(self, status: int, message: str) -> bytes:
        """Of an ``overloaded_error`` Claude Code shows no message, and says that the API is at capacity."""
        return json.dumps({"type": "error", "error": {"type": "api_error", "message": message}}).encode()
