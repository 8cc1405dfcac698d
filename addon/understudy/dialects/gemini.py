"""Google's Gemini API (Generative Language). The model stands in the path, and for some actions in the body as well."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import ClassVar
from urllib.parse import quote

from understudy.codec.json_edit import replace_json_strings, set_json_members
from understudy.dialects.base import (
    AUTH_HEADERS,
    Asked,
    Call,
    Dialect,
    Endpoint,
    Kind,
    ModelList,
    Progress,
    StreamEvent,
    Written,
    bearer,
    count_at,
    has_content,
    nothing_said,
    path_model,
    read_json,
    rows_of,
    without,
)
from understudy.model import NO_TOKENS, Upstream, Usage

_PATH = re.compile(r"/v1(?:alpha|beta)?/models/(?P<name>[^/:?#\s]+?)(?::|%3[Aa])(?P<action>[A-Za-z]+)")
_PLACES = (
    ("model",),
    ("requests", "*", "model"),
    ("generateContentRequest", "model"),
    ("generate_content_request", "model"),
)
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
GOOGLE_QUERY = frozenset({"key", "$key", "access_token", "oauth_token", "userproject", "$userproject"})
"""Parameters with keys and tokens, and with the project that they are billed to."""
GOOGLE_IDENTITY = frozenset({"x-goog-user-project"})
_WEIGHT = (Progress.LIFECYCLE, Progress.OUTPUT, Progress.DONE, Progress.ERROR)
_MEANT = frozenset(
    {"MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)
"""Reasons to finish with which an answer may have no output: its limit, or a filter."""
_FAILED = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"})
"""Reasons to finish that say that the generation failed, whatever it has cost."""
_SIGNATURE = frozenset({"thoughtSignature"})


class Gemini(Dialect):
    """Sources: the Gemini API reference ("models.generateContent" and its neighbours, "GenerateContentResponse"),
    Google's "System parameters" for credentials in the query, ``google.rpc.Status`` for errors.
    """

    name = "gemini"
    sites: ClassVar[tuple[tuple[str, str], ...]] = (("generativelanguage.googleapis.com", ""),)
    relatives: ClassVar[frozenset[str]] = frozenset({"vertex"})
    auth_headers = AUTH_HEADERS
    auth_query = GOOGLE_QUERY
    reply_models = (("modelVersion",),)
    usage_member = "usageMetadata"
    model_list: ClassVar[ModelList | None] = ModelList(
        tails=frozenset({"/v1beta/models", "/v1/models"}),
        member="models",
        key="name",
        entry=lambda name: {
            "name": f"models/{name}",
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        },
        more=("nextPageToken",),
    )
    identity_headers = GOOGLE_IDENTITY

    path: ClassVar[re.Pattern[str]] = _PATH
    """How a tail names model and action."""
    _endpoints: ClassVar[dict[str, Endpoint]] = {
        **{
            action: Endpoint(action, Kind.GENERATING)
            for action in ("generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents")
        },
        "countTokens": Endpoint("countTokens", Kind.AUXILIARY),
    }

    def endpoint(self, method: str, tail: str) -> Endpoint | None:
        match = self.path.fullmatch(tail) if method == "POST" else None
        return self._endpoints.get(match["action"]) if match and path_model(match["name"]) else None

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        match = self.path.fullmatch(tail)
        alias = path_model(match["name"]) if match else None
        if match is None or alias is None:
            return None
        return Call(alias, match["action"] == "streamGenerateContent")

    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        match = self.path.fullmatch(tail)
        alias = path_model(match["name"]) if match else None
        if match is None or alias is None:
            raise ValueError("no model name in the path")
        model = model.removeprefix("models/")
        if alias == model:
            return tail, body
        tail = tail[: match.start("name")] + quote(model, safe="") + tail[match.end("name") :]
        # A body that names another model than the path is refused by the API; one that names none is left alone.
        names = {alias: model, f"models/{alias}": f"models/{model}"}
        if b'"model"' in body:
            with suppress(ValueError):  # not JSON: the upstream will say so, and the path names the right model
                body = replace_json_strings(body, _PLACES, names.get)
        return tail, body

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        tail = f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:{asked.endpoint.name}"
        return Written(tail, asked.query, without_model(asked.body))

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return credential_of(secret, otherwise="key")

    def progress(self, event: StreamEvent) -> Progress:
        document = read_json(event.data)
        if isinstance(document, list) and document:
            return max((_chunk_progress(chunk) for chunk in document), key=_WEIGHT.index)
        if isinstance(document, dict):
            return Progress.ERROR if event.name == "error" else _chunk_progress(document)
        if event.name == "error":
            return Progress.ERROR
        return Progress.UNREADABLE if event.data.strip() and document is None else Progress.LIFECYCLE

    def answered(self, event: StreamEvent) -> bool:
        document = read_json(event.data)
        chunks = document if isinstance(document, list) else [document]
        return any(not _lack_of_candidates(chunk) for chunk in chunks)

    def usage(self, document: object) -> Usage | None:
        found = NO_TOKENS
        for chunk in document if isinstance(document, list) else [document]:
            counted = _member(chunk, "usageMetadata")
            read = count_at(counted, "promptTokenCount") + count_at(counted, "toolUsePromptTokenCount")
            thought = count_at(counted, "thoughtsTokenCount")
            made = count_at(counted, "candidatesTokenCount") + thought
            cached = min(read, count_at(counted, "cachedContentTokenCount"))
            found = found.at_least(Usage(read, made, cached, 0, thought))
        return found if found.input or found.output else None

    def served_model(self, document: object) -> str:
        # Without alt=sse a stream is one array.
        chunks = document if isinstance(document, list) else [document]
        return next((name for chunk in chunks if (name := super(Gemini, self).served_model(chunk))), "")

    def lack(self, endpoint: str, document: object) -> str:
        if endpoint == "embedContent":
            return "" if has_content(_member(document, "embedding")) else without("embedding")
        if endpoint == "batchEmbedContents":
            return "" if rows_of(document, "embeddings") else without("embeddings")
        # Without alt=sse a stream is one array, and so is a stream that was read whole.
        chunks = document if isinstance(document, list) and document else [document]
        found = [_lack_of_candidates(chunk) for chunk in chunks]
        return "" if "" in found else found[-1]

    def error_body(self, status: int, message: str) -> bytes:
        name = _STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return json.dumps({"error": {"code": status, "message": message, "status": name}}).encode()


def credential_of(secret: str, *, otherwise: str) -> tuple[tuple[str, str], ...]:
    """The header for a secret of Google's: keys begin with ``AIza`` or ``AQ.``, tokens of an account with ``ya29.``."""
    kind = "key" if secret.startswith(("AIza", "AQ.")) else "bearer" if secret.startswith("ya29.") else otherwise
    return (("x-goog-api-key", secret),) if kind == "key" else bearer(secret)


def without_model(body: bytes) -> bytes:
    """The body for another path, which names the model: one that it names itself would contradict."""
    if b'"model"' in body:
        with suppress(ValueError):  # not JSON: the upstream will say so
            return set_json_members(body, {"model": None})
    return body


def _chunk_progress(chunk: object) -> Progress:
    if not isinstance(chunk, dict):
        return Progress.LIFECYCLE
    if chunk.get("error"):
        return Progress.ERROR
    feedback = chunk.get("promptFeedback")
    # A blocked prompt is the model's answer, not a fault of the candidate: another one must not be asked.
    found = [Progress.OUTPUT] if isinstance(feedback, dict) and feedback.get("blockReason") else []
    candidates = chunk.get("candidates")
    if isinstance(candidates, list):
        found += [_candidate_progress(candidate) for candidate in candidates]
    elif candidates is None and not found:
        known = frozenset({"promptFeedback", "usageMetadata", "modelVersion", "responseId", "createTime"})
        found = [Progress.OUTPUT] if has_content(chunk, besides=known) else []
    return max(found, key=_WEIGHT.index, default=Progress.LIFECYCLE)


def _candidate_progress(candidate: object) -> Progress:
    if not isinstance(candidate, dict):
        return Progress.LIFECYCLE
    if candidate.get("finishReason") not in (None, "", "FINISH_REASON_UNSPECIFIED"):
        return Progress.DONE
    return Progress.OUTPUT if _has_parts(candidate) else Progress.LIFECYCLE


def _has_parts(candidate: object) -> bool:
    """Whether a candidate shows output. A signature alone is none: the last chunk of a stream may carry it."""
    return any(has_content(part, besides=_SIGNATURE) for part in rows_of(_member(candidate, "content"), "parts"))


def _lack_of_candidates(document: object) -> str:
    """What a reply, or a chunk of one, lacks to be an answer; "" when it is one."""
    if not isinstance(document, dict):
        return "no JSON object"
    feedback = document.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        return ""
    candidates = rows_of(document, "candidates")
    if not candidates:
        return without("candidates")
    reasons = [candidate.get("finishReason") for candidate in candidates]
    if any(_has_parts(candidate) for candidate in candidates) or any(reason in _MEANT for reason in reasons):
        return ""
    failed = any(reason in _FAILED for reason in reasons)
    tokens = count_at(document, "usageMetadata", "candidatesTokenCount")
    return "" if tokens and not failed else nothing_said(reasons[0])


def _member(document: object, name: str) -> object:
    return document.get(name) if isinstance(document, dict) else None
