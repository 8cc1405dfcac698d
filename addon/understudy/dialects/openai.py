"""OpenAI's API and the many servers that speak it: chat completions, responses and the smaller endpoints."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from understudy.codec.json_edit import read_json_model, set_json_members, write_json_model
from understudy.codec.multipart import read_multipart_model, set_multipart_model, write_multipart_model
from understudy.dialects.base import (
    AUTH_HEADERS,
    Asked,
    Call,
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
    rows_of,
    without,
    without_parameters,
)
from understudy.dialects.body_model import BodyModelDialect
from understudy.model import Upstream, Usage

_GENERATING = (
    "chat/completions",
    "responses",
    "completions",
    "embeddings",
    "moderations",
    "images/generations",
    "images/edits",
    "images/variations",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
)
_AUXILIARY = ("responses/compact", "responses/input_tokens")

_STARTING = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.metadata",
        "codex.rate_limits",
    }
)
_PINGS = frozenset({"keepalive", "ping"})
_FAILING = frozenset({"error", "response.error", "response.failed"})
_ENDING = frozenset(
    {
        "response.completed",
        "response.incomplete",
        "response.done",
        "speech.audio.done",
        "transcript.text.done",
        "image_generation.completed",
        "image_edit.completed",
    }
)
_BOOKKEEPING = frozenset(
    # Members of an event that are filled even where its delta is empty; obfuscation is padding against eavesdroppers.
    ["type", "id", "object", "model", "event_id", "item_id", "response_id", "obfuscation", "usage"]
)

_ROLE = frozenset({"role"})
# A role alone is the first chunk of every chat stream, sent before the model has said anything.
_MEANT = frozenset({"length", "max_tokens", "content_filter", "safety", "refusal", "recitation"})
"""Reasons to finish with which an answer may have no output: its limit, or a filter."""
_PENDING = frozenset({"queued", "in_progress"})
"""The states of a response that is made in the background: its answer is its id."""
_LISTS = {
    "embeddings": "data",
    "moderations": "results",
    "images/generations": "data",
    "images/edits": "data",
    "images/variations": "data",
}
"""Endpoints whose answer is a list: where it stands."""


class OpenAI(BodyModelDialect):
    """Sources: the OpenAI API reference, "Authentication", "Streaming events" and "Error codes"; for what compatible
    servers add, OpenRouter's errors inside a choice and vLLM's ``"object": "error"``; for logins, what Codex and the
    Copilot CLI were seen to send.
    """

    name = "openai"
    sites: ClassVar[tuple[tuple[str, str], ...]] = (("api.openai.com", "/v1"),)
    relatives: ClassVar[frozenset[str]] = frozenset({"azure-openai"})
    auth_headers = AUTH_HEADERS
    # A login with ChatGPT, as Codex has it, and one with GitHub, as Copilot has it: both speak this dialect elsewhere.
    wide_sites: ClassVar[tuple[tuple[str, str], ...]] = (
        ("chatgpt.com", "/backend-api/codex"),
        ("api.githubcopilot.com", ""),
        ("api.*.githubcopilot.com", ""),
    )
    identity_headers = frozenset(
        {"openai-organization", "openai-project"}
        | {"chatgpt-account-id", "x-openai-account-routing-override", "x-openai-fedramp", "x-oai-attestation"}
        | {"copilot-integration-id"}
    )
    reply_models = (("model",), ("response", "model"))
    model_list: ClassVar[ModelList | None] = ModelList(
        tails=frozenset({"/models"}),
        member="data",
        key="id",
        entry=lambda name: {"id": name, "object": "model", "created": 0, "owned_by": "understudy"},
        foreign=("capabilities",),  # Copilot's entries say what a model can do
    )
    model_header = "x-codex-routing-hint"

    _endpoints: ClassVar[dict[str, Endpoint]] = {
        **{f"/{name}": Endpoint(name, Kind.GENERATING) for name in _GENERATING},
        **{f"/{name}": Endpoint(name, Kind.AUXILIARY) for name in _AUXILIARY},
    }

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        alias, streamed = read_body_model(content_type, body)
        return Call(alias, streamed) if alias else None

    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        return tail, write_body_model(content_type, body, model)

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        query = without_parameters(asked.query, frozenset({"api-version"}))
        return Written(f"/{asked.endpoint.name}", query, put_model(asked.content_type, asked.body, model))

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return bearer(secret)

    def progress(self, event: StreamEvent) -> Progress:
        if event.data.strip() == b"[DONE]":
            return Progress.DONE
        document = read_json(event.data)
        stated = document.get("type") if isinstance(document, dict) else None
        kind = stated if isinstance(stated, str) and stated else event.name
        if kind in _FAILING or event.name in _FAILING:
            return Progress.ERROR
        if not isinstance(document, dict):
            return Progress.UNREADABLE if event.data.strip() else Progress.LIFECYCLE
        if document.get("error") or document.get("object") == "error":
            return Progress.ERROR
        if kind in _ENDING:
            return Progress.DONE
        if kind in _PINGS:
            return Progress.PING
        if kind in _STARTING:
            return Progress.LIFECYCLE
        if isinstance(choices := document.get("choices"), list):
            return max((_choice_progress(choice) for choice in choices), key=_WEIGHT.index, default=Progress.LIFECYCLE)
        return Progress.OUTPUT if has_content(document, besides=_BOOKKEEPING) else Progress.LIFECYCLE

    def finishes(self, event: StreamEvent) -> bool:
        # "[DONE]" is OpenAI's; several servers that speak its chat completions end without it.
        document = read_json(event.data)
        choices = document.get("choices") if isinstance(document, dict) else None
        return isinstance(choices, list) and any(
            isinstance(choice, dict) and bool(choice.get("finish_reason")) for choice in choices
        )

    def answered(self, event: StreamEvent) -> bool:
        document = read_json(event.data)
        kind = document.get("type") if isinstance(document, dict) else None
        if not isinstance(document, dict) or kind not in _ENDING:
            return False
        # The last event of anything but a response (speech, a transcript, a picture) is its result.
        response = document.get("response")
        return not isinstance(response, dict) or not _lack_of_response(response)

    def output_tokens(self, event: StreamEvent) -> int:
        return _tokens(read_json(event.data))

    def usage(self, document: object) -> Usage | None:
        if not isinstance(document, dict):
            return None
        counted = document.get("usage")
        if not isinstance(counted, dict):
            counted = member_of(document, "response", "usage") or member_of(document, "x_groq", "usage")
        return _usage(counted) if isinstance(counted, dict) else None

    def lack(self, endpoint: str, document: object) -> str:
        if not isinstance(document, dict):
            return "no JSON object"
        if endpoint in ("chat/completions", "completions"):
            return _lack_of_choices(document)
        if endpoint == "responses":
            return _lack_of_response(document)
        if endpoint in _LISTS:
            return "" if rows_of(document, _LISTS[endpoint]) else without(_LISTS[endpoint])
        if endpoint in ("audio/transcriptions", "audio/translations"):
            return "" if isinstance(document.get("text"), str) else without("text")  # of silence it is empty
        return "JSON where audio was asked for" if endpoint == "audio/speech" else ""

    def error_body(self, status: int, message: str) -> bytes:
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
            status, "server_error" if status >= 500 else "invalid_request_error"
        )
        error = {"message": message, "type": kind, "param": None, "code": None}
        return json.dumps({"error": error}).encode()


_WEIGHT = (Progress.LIFECYCLE, Progress.STOP, Progress.OUTPUT, Progress.ERROR)


def _tokens(document: object) -> int:
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return 0
    for name in ("completion_tokens", "output_tokens"):
        made = usage.get(name)
        if isinstance(made, int) and made > 0:
            return made
    return 0


def _usage(counted: dict[str, Any]) -> Usage | None:
    """Sources beside OpenAI's: DeepSeek ``prompt_cache_hit_tokens``, Moonshot ``cached_tokens``; xAI and others count
    reasoning beside the completion, which the total tells."""
    get = counted.get  # plain look-ups: every call is counted
    read, made = get("prompt_tokens") or get("input_tokens") or 0, get("completion_tokens") or get("output_tokens") or 0
    inside = get("prompt_tokens_details") or get("input_tokens_details")
    cached = (inside.get("cached_tokens") if isinstance(inside, dict) else 0) or 0
    cached = cached or get("prompt_cache_hit_tokens") or get("cached_tokens") or 0
    inside = get("completion_tokens_details") or get("output_tokens_details")
    thought = (inside.get("reasoning_tokens") if isinstance(inside, dict) else 0) or get("reasoning_tokens") or 0
    if not type(read) is type(made) is type(cached) is type(thought) is int or min(read, made, cached, thought) < 0:
        return None
    if not (read or made):
        return None
    if thought and (thought > made or count_at(counted, "total_tokens") == read + made + thought):
        made += thought
    return Usage(read, made, min(cached, read), 0, thought)


def _lack_of_choices(document: dict[str, Any]) -> str:
    choices = rows_of(document, "choices")
    if not choices:
        return "`choices` is empty" if isinstance(document.get("choices"), list) else without("choices")
    if _tokens(document) or any(_choice_progress(choice) in (Progress.OUTPUT, Progress.ERROR) for choice in choices):
        return ""
    return nothing_said(choices[0].get("finish_reason"))


def _lack_of_response(document: dict[str, Any]) -> str:
    status, output = document.get("status"), document.get("output")
    if status in _PENDING or status == "incomplete" or _tokens(document):
        return ""
    if not isinstance(output, list):
        # The last event of a stream need not repeat the output; a whole reply has it.
        return without("output")
    spoken = [item for item in rows_of(document, "output") if item.get("type") != "message" or item.get("content")]
    return "" if spoken else nothing_said(status)


def read_body_model(content_type: str, body: bytes) -> tuple[str | None, bool]:
    """The alias that a body, JSON or a form, names (None without one), and whether it asks for a stream."""
    return read_multipart_model(content_type, body) if _is_form(content_type) else read_json_model(body)


def write_body_model(content_type: str, body: bytes, model: str) -> bytes:
    """The body with its model replaced. Raises ValueError where :func:`read_body_model` finds none."""
    if _is_form(content_type):
        return write_multipart_model(content_type, body, model)
    return write_json_model(body, model)


def put_model(content_type: str, body: bytes, model: str) -> bytes:
    """The body naming this model, whether it named one before or not. Raises ValueError when it cannot be read."""
    if _is_form(content_type):
        return set_multipart_model(content_type, body, model)
    return set_json_members(body, {"model": model})


def _is_form(content_type: str) -> bool:
    """Whether a Content-Type names a form with files."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def _choice_progress(choice: object) -> Progress:
    if not isinstance(choice, dict):
        return Progress.LIFECYCLE
    if choice.get("error"):
        return Progress.ERROR
    said = choice.get("text") or has_content(choice.get("delta"), _ROLE) or has_content(choice.get("message"), _ROLE)
    reason = choice.get("finish_reason")
    if not isinstance(reason, str) or not reason:
        return Progress.OUTPUT if said else Progress.LIFECYCLE
    if reason.lower().startswith("error"):
        return Progress.ERROR
    return Progress.OUTPUT if said or reason.lower() in _MEANT else Progress.STOP
