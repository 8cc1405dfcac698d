"""Amazon Bedrock's runtime: invoke and converse of any model, named in the path; its streams have Amazon's framing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote, unquote

from understudy.codec.json_edit import set_json_members
from understudy.dialects.anthropic import OAUTH_BETA, Anthropic
from understudy.dialects.base import (
    AUTH_HEADERS,
    Asked,
    Call,
    Dialect,
    Endpoint,
    Kind,
    Progress,
    StreamEvent,
    Written,
    bearer,
    count_at,
    has_content,
    nothing_said,
    read_json,
    rows_of,
    without,
)
from understudy.model import Upstream, Usage

VERSION = "bedrock-2023-05-31"
SIGNATURE_HEADERS = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-region-set"})
"""Headers of a signature beside the credential's own: they go with the signature that they belong to."""
_PATH = re.compile(
    r"/model/(?P<name>[^/?#\s]+)/(?P<action>invoke|converse)"
    r"(?P<streamed>(?<=invoke)-with-response-stream|(?<=converse)-stream)?"
)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,2047}")
_LAST_CHUNK = "amazon-bedrock-invocationMetrics"
_COUNT_HEADER = "x-amzn-bedrock-{}-token-count"
_PADDING = frozenset({"p"})
_USUAL = ("end_turn", "tool_use")
"""Reasons to stop that need output; with the others it was a limit or a filter that left none."""


_TOKENS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
_METRICS = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")
_HEADERS = ("input", "output", "cache-read-input", "cache-write-input")
"""How tokens are counted: by converse, in the last chunk of a stream of invoke, and in the headers of invoke."""


class Bedrock(Dialect):
    """Sources: Amazon Bedrock API reference, "InvokeModel", "InvokeModelWithResponseStream", "Converse",
    "ConverseStream", "ResponseStream"; "Use an Amazon Bedrock API key"; for what moves between path, headers and body,
    "Anthropic Claude Messages API" and Anthropic's own client for Bedrock.

    A message to Anthropic can go here, because only model, version and flags move. The other way it cannot: the tool
    would have to be given frames. A model is whatever may stand in the path: an id, a profile, an ARN.
    """

    name = "bedrock"
    sites = ()
    wide_sites = (("bedrock-runtime.*.amazonaws.com", ""), ("bedrock-runtime-fips.*.amazonaws.com", ""))
    relatives = frozenset({Anthropic.name})
    auth_headers = AUTH_HEADERS | {"x-amz-security-token"}
    identity_headers = SIGNATURE_HEADERS

    _anthropic = Anthropic()
    _endpoints: ClassVar[dict[str, Endpoint]] = {
        name: Endpoint(name, Kind.GENERATING) for name in ("invoke", "converse")
    }

    def endpoint(self, method: str, tail: str) -> Endpoint | None:
        match = _PATH.fullmatch(tail) if method == "POST" else None
        return self._endpoints[match["action"]] if match and _model(match) else None

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        match = _PATH.fullmatch(tail)
        alias = _model(match) if match else None
        return Call(alias, match["streamed"] is not None) if match and alias else None

    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        match = _PATH.fullmatch(tail)
        if match is None or _model(match) is None:
            raise ValueError("no model name in the path")
        return tail[: match.start("name")] + quote(model, safe="") + tail[match.end("name") :], body

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        if asked.endpoint.name != "messages":
            raise ValueError(f"{self.name} takes no {asked.endpoint.name} in Anthropic's form")
        flags = [flag.strip() for flag in asked.headers.get("anthropic-beta", "").split(",")]
        members: dict[str, object] = {"model": None, "stream": None, "anthropic_version": VERSION}
        if wanted := [flag for flag in flags if flag and flag != OAUTH_BETA]:
            members["anthropic_beta"] = wanted
        action = "invoke-with-response-stream" if asked.call.streamed else "invoke"
        accepted = "application/vnd.amazon.eventstream" if asked.call.streamed else "application/json"
        headers = (("anthropic-beta", ""), ("anthropic-version", ""), ("accept", accepted))
        return Written(f"/model/{quote(model, safe='')}/{action}", "", set_json_members(asked.body, members), headers)

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return bearer(secret)

    def progress(self, event: StreamEvent) -> Progress:
        if event.name == "exception":
            return Progress.ERROR
        document = read_json(event.data)
        if not isinstance(document, dict):
            return Progress.UNREADABLE if event.data.strip() else Progress.LIFECYCLE
        match event.name:
            case "messageStart" | "contentBlockStop" | "metadata":
                return Progress.LIFECYCLE
            case "messageStop":
                return Progress.DONE
            case "contentBlockStart" | "contentBlockDelta":
                content = document.get("start" if event.name == "contentBlockStart" else "delta")
                return Progress.OUTPUT if has_content(content) else Progress.LIFECYCLE
        if isinstance(document.get("type"), str):
            return self._anthropic.progress(event)
        if _LAST_CHUNK in document:
            return Progress.DONE
        return Progress.OUTPUT if has_content(document, besides=_PADDING) else Progress.LIFECYCLE

    usage_follows = True  # ``metadata`` comes after ``messageStop``

    def answered(self, event: StreamEvent) -> bool:
        document = read_json(event.data)
        if event.name == "messageStop" and isinstance(document, dict):
            return _is_meant(document.get("stopReason"))
        # The schema of an invoked model is its own; Anthropic's counts in an event of its own.
        return False

    def output_tokens(self, event: StreamEvent) -> int:
        document = read_json(event.data)
        counted = count_at(document, "usage", "outputTokens") or count_at(document, _LAST_CHUNK, "outputTokenCount")
        return counted or self._anthropic.output_tokens(event)

    def usage(self, document: object) -> Usage | None:
        for member, names in ((_LAST_CHUNK, _METRICS), ("usage", _TOKENS)):
            if (found := _usage(*(count_at(document, member, name) for name in names))) is not None:
                return found
        return self._anthropic.usage(document)

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage | None:
        values = [headers.get(_COUNT_HEADER.format(name), "") for name in _HEADERS]
        return _usage(*(int(value) if value.isdecimal() and len(value) < 12 else 0 for value in values))

    def served_model(self, document: object) -> str:
        return self._anthropic.served_model(document)

    def lack(self, endpoint: str, document: object) -> str:
        if endpoint == "converse":
            output = document.get("output") if isinstance(document, dict) else None
            message = output.get("message") if isinstance(output, dict) else None
            if not isinstance(document, dict) or not isinstance(message, dict):
                return without("output.message")
            reason = document.get("stopReason")
            said = any(has_content(block) for block in rows_of(message, "content"))
            return (
                "" if said or _is_meant(reason) or count_at(document, "usage", "outputTokens") else nothing_said(reason)
            )
        if isinstance(document, dict) and document.get("type") == "message":
            return self._anthropic.lack("messages", document)
        return "" if isinstance(document, dict | list) and document else "no JSON object"

    def error_body(self, status: int, message: str) -> bytes:
        kind = {429: "ThrottlingException", 503: "ServiceUnavailableException"}.get(
            status, "InternalServerException" if status >= 500 else "ValidationException"
        )
        return json.dumps({"__type": kind, "message": message}).encode()


def _model(match: re.Match[str]) -> str | None:
    """The model in the path, decoded; None for one that could be taken for more than a name."""
    name = unquote(match["name"])
    return name if _MODEL.fullmatch(name) and ".." not in name and "//" not in name else None


def _usage(read: int, made: int, cached: int, written: int) -> Usage | None:
    """Amazon counts what came from a cache, and what went into one, beside the rest of the input."""
    found = Usage(read + cached + written, made, cached, written)
    return found if found.input or found.output else None


def _is_meant(reason: object) -> bool:
    return isinstance(reason, str) and reason != "" and reason not in _USUAL
