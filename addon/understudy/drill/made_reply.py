"""What a target of a drill answers: a reply as its vendor would send it, as bytes of the upstream's dialect.

Shapes, statuses and wordings follow the vendors' public documentation of their errors; every text says that a drill
made it up, because a tool may get it in the end. Rules judge it like any other reply: nothing says what it means.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zlib import crc32

from understudy.codec.amazon_frames import TYPE as AMAZON
from understudy.drill.behaviour import Behaviour, Kind

MARK = "x-understudy-drill"
"""The header of every reply that a drill has made up, with the kind."""
SAID = "(made up by a drill of understudy)"
"""What stands behind every text."""

type Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class MadeReply:
    """A whole reply: status, headers (name, value), and a body that is not encoded."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Error:
    """An error reply of a vendor. ``header``: one more that names the error."""

    status: int
    body: Json
    header: tuple[str, str] | None = None


def made_reply(
    behaviour: Behaviour, dialect: str, model: str, *, endpoint: str, streamed: bool, query: str = ""
) -> MadeReply:
    """The reply of an upstream of this dialect that fails in this way.

    ``endpoint`` is the name of one of the dialect's, ``query`` that of the request. Raises ValueError for a behaviour
    that is no reply: a connection that fails, silence, a real reply that is spoilt.
    """
    kind, family = behaviour.kind, _FAMILIES[dialect]
    if kind in (Kind.ERROR_EVENT, Kind.EMPTY) and streamed:
        framing, body = _stream(family, dialect, model, endpoint, query, fails=kind is Kind.ERROR_EVENT)
        return MadeReply(200, (("content-type", framing), (MARK, str(behaviour))), body)
    if kind is Kind.EMPTY:
        return _json(200, _EMPTY[family](model, endpoint), behaviour)
    if kind is Kind.ERROR_EVENT:
        kind = Kind.OVERLOADED
    if kind not in _TEXTS:
        raise ValueError(f"{kind} is no reply")
    error = _ERRORS[family](kind, model)
    more = [error.header] if error.header is not None else []
    if kind is Kind.LIMITED and behaviour.seconds:
        more.append(("retry-after", f"{behaviour.seconds:g}"))
    return _json(error.status, error.body, behaviour, *more)


def _json(status: int, body: object, behaviour: Behaviour, *more: tuple[str, str]) -> MadeReply:
    content = json.dumps(body).encode()
    length = ("content-length", str(len(content)))
    return MadeReply(status, (("content-type", "application/json"), length, (MARK, str(behaviour)), *more), content)


_FAMILIES: Mapping[str, str] = {
    "openai": "openai",
    "azure-openai": "openai",
    "anthropic": "anthropic",
    "anthropic-vertex": "anthropic",
    "gemini": "gemini",
    "vertex": "gemini",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "ollama": "ollama",
}
"""Dialects whose errors look alike."""
_TEXTS: Mapping[Kind, str] = {
    Kind.LIMITED: "Rate limit reached for requests. Please slow down and try again later.",
    Kind.QUOTA: "You exceeded your current quota, please check your plan and billing details.",
    Kind.UNSUPPORTED: "The model `{model}` does not exist or you do not have access to it.",
    Kind.REJECTED: "Incorrect API key provided.",
    Kind.OVERLOADED: "The server is currently overloaded with other requests. Please try again later.",
}
"""What most vendors say."""


_STATUSES: Mapping[Kind, int] = {
    Kind.LIMITED: 429,
    Kind.QUOTA: 402,
    Kind.UNSUPPORTED: 404,
    Kind.REJECTED: 401,
    Kind.OVERLOADED: 503,
}
"""What says most where the body has no code of its own."""


def _text(kind: Kind, model: str, **other: str) -> str:
    return f"{other.get(kind.name, _TEXTS[kind]).format(model=model)} {SAID}"


def _openai(kind: Kind, model: str) -> _Error:
    """OpenAI, "Error codes"; the same at Azure."""
    status, name, code = {
        Kind.LIMITED: (429, "requests", "rate_limit_exceeded"),
        Kind.QUOTA: (429, "insufficient_quota", "insufficient_quota"),
        Kind.UNSUPPORTED: (404, "invalid_request_error", "model_not_found"),
        Kind.REJECTED: (401, "invalid_request_error", "invalid_api_key"),
        Kind.OVERLOADED: (503, "server_error", None),
    }[kind]
    return _Error(status, {"error": {"message": _text(kind, model), "type": name, "param": None, "code": code}})


def _anthropic(kind: Kind, model: str) -> _Error:
    """Anthropic, "Errors"."""
    status, name = {
        Kind.LIMITED: (429, "rate_limit_error"),
        Kind.QUOTA: (400, "invalid_request_error"),
        Kind.UNSUPPORTED: (404, "not_found_error"),
        Kind.REJECTED: (401, "authentication_error"),
        Kind.OVERLOADED: (529, "overloaded_error"),
    }[kind]
    text = _text(
        kind,
        model,
        QUOTA="Your credit balance is too low to access the Anthropic API.",
        REJECTED="invalid x-api-key",
        OVERLOADED="Overloaded",
    )
    if kind is Kind.UNSUPPORTED:
        text = f"model: {model}"  # nothing else, which is how it is known: what made it up stands beside it
    return _Error(status, {"type": "error", "error": {"type": name, "message": text}, "request_id": SAID.strip("()")})


def _gemini(kind: Kind, model: str) -> _Error:
    """Google, "Troubleshooting guide" of the Gemini API; ``google.rpc.Status``."""
    status, name = {
        Kind.LIMITED: (429, "RESOURCE_EXHAUSTED"),
        Kind.QUOTA: (429, "RESOURCE_EXHAUSTED"),
        Kind.UNSUPPORTED: (404, "NOT_FOUND"),
        Kind.REJECTED: (401, "UNAUTHENTICATED"),
        Kind.OVERLOADED: (503, "UNAVAILABLE"),
    }[kind]
    text = _text(
        kind,
        model,
        LIMITED="Resource has been exhausted (e.g. check quota).",
        UNSUPPORTED="models/{model} is not found for API version v1beta, or is not supported for generateContent.",
        REJECTED="API key not valid. Please pass a valid API key.",
        OVERLOADED="The model is overloaded. Please try again later.",
    )
    error: Json = {"code": status, "message": text, "status": name}
    if kind is Kind.QUOTA:
        daily = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_requests_per_model_per_day",
            "quotaId": "GenerateRequestsPerDayPerProjectPerModel",
            "quotaValue": "1000",
        }
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [daily]}]
    return _Error(status, {"error": error})


def _bedrock(kind: Kind, model: str) -> _Error:
    """Amazon Bedrock, "InvokeModel", errors; the name of the exception is in a header."""
    status, name = {
        Kind.LIMITED: (429, "ThrottlingException"),
        Kind.QUOTA: (400, "ServiceQuotaExceededException"),
        Kind.UNSUPPORTED: (400, "ValidationException"),
        Kind.REJECTED: (403, "UnrecognizedClientException"),
        Kind.OVERLOADED: (503, "ServiceUnavailableException"),
    }[kind]
    text = _text(
        kind,
        model,
        LIMITED="Too many requests, please wait before trying again.",
        UNSUPPORTED="The provided model identifier is invalid.",
        REJECTED="The security token included in the request is invalid.",
    )
    return _Error(status, {"message": text}, ("x-amzn-errortype", name))


def _cohere(kind: Kind, model: str) -> _Error:
    """Cohere, "Errors"."""
    text = _text(kind, model, UNSUPPORTED="model '{model}' not found", REJECTED="invalid api token")
    return _Error(_STATUSES[kind], {"message": text})


def _ollama(kind: Kind, model: str) -> _Error:
    """Ollama, "Errors"."""
    text = _text(kind, model, UNSUPPORTED="model '{model}' not found", REJECTED="unauthorized: invalid api key")
    return _Error(_STATUSES[kind], {"error": text})


_ERRORS: Mapping[str, Callable[[Kind, str], _Error]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "bedrock": _bedrock,
    "cohere": _cohere,
    "ollama": _ollama,
}


# -- successes without an answer, and streams ----------------------------------------------------------------------


def _chunk(model: str, choices: list[Json]) -> Json:
    return {"id": "chatcmpl-drill", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices}


def _response(model: str, status: str) -> Json:
    return {"id": "resp_drill", "object": "response", "created_at": 0, "model": model, "status": status, "output": []}


def _message(model: str, stop: str | None) -> Json:
    usage = {"input_tokens": 0, "output_tokens": 0}
    head: Json = {"id": "msg_drill", "type": "message", "role": "assistant", "model": model, "content": []}
    return {**head, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _empty_openai(model: str, endpoint: str) -> Json:
    if endpoint == "responses":
        return _response(model, "completed")
    if endpoint in ("chat/completions", "completions"):
        return {**_chunk(model, []), "object": "chat.completion"}
    return {"object": "list", "data": [], "model": model}


def _empty_gemini(model: str, endpoint: str) -> Json:
    return {"candidates": [], "modelVersion": model}


def _empty_cohere(model: str, endpoint: str) -> Json:
    message = {"role": "assistant", "content": []}
    return {"id": "drill", "message": message, "finish_reason": "COMPLETE"} if endpoint == "chat" else {"id": "drill"}


def _empty_ollama(model: str, endpoint: str) -> Json:
    return {"model": model, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}


_EMPTY: Mapping[str, Callable[[str, str], Json]] = {
    "openai": _empty_openai,
    "anthropic": lambda model, endpoint: _message(model, "end_turn"),
    "gemini": _empty_gemini,
    "bedrock": lambda model, endpoint: {},
    "cohere": _empty_cohere,
    "ollama": _empty_ollama,
}


def _event(data: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def _stream(family: str, dialect: str, model: str, endpoint: str, query: str, *, fails: bool) -> tuple[str, bytes]:
    """Content type and body of a stream that shows no output; with ``fails`` an error comes in its place."""
    error = _ERRORS[family](Kind.OVERLOADED, model).body
    match family:
        case "openai" if endpoint == "responses":
            begun_as: Json = {"type": "response.created", "response": _response(model, "in_progress")}
            created = _event(begun_as, "response.created")
            failed = {**_response(model, "failed"), "error": {**_member(error), "code": "server_is_overloaded"}}
            last = _event({"type": "response.failed", "response": failed}, "response.failed")
            return "text/event-stream", created + (last if fails else b"")
        case "openai":
            begun = _event(_chunk(model, [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]))
            return "text/event-stream", begun + (_event(error) if fails else b"data: [DONE]\n\n")
        case "anthropic":
            begun = _event({"type": "message_start", "message": _message(model, None)}, "message_start")
            return "text/event-stream", begun + (_event(error, "error") if fails else b"")
        case "gemini":
            begun_with: Json = {"candidates": [], "modelVersion": model}
            if "alt=sse" in query:
                return "text/event-stream", _event(begun_with) + (_event(error) if fails else b"")
            return "application/json", json.dumps([begun_with, error] if fails else [begun_with]).encode()
        case "bedrock":
            said = json.dumps({"message": _text(Kind.OVERLOADED, model)}).encode()
            names = {":message-type": "exception", ":exception-type": "serviceUnavailableException"}
            failed_frame = _frame({**names, ":content-type": "application/json"}, said) if fails else b""
            names = {":message-type": "event", ":event-type": "messageStart", ":content-type": "application/json"}
            begun = _frame(names, b'{"role":"assistant"}') if endpoint == "converse" else b""
            return AMAZON, begun + failed_frame
        case "cohere":
            begun = _event({"type": "message-start", "id": "drill", "delta": {}}, "message-start")
            return "text/event-stream", begun + (_event({"type": "error", **error}, "error") if fails else b"")
    lines = [error] if fails else [_empty_ollama(model, endpoint)]
    return "application/x-ndjson", b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _member(error: Json) -> Json:
    found = error["error"]
    assert isinstance(found, dict)
    return found


def _frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of Amazon's event stream (Smithy, "Amazon Event Stream Specification"); all headers are texts."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    start = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = start + struct.pack(">I", crc32(start)) + head + payload
    return message + struct.pack(">I", crc32(message))
