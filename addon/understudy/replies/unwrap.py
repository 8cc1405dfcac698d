"""The errors inside a body: one unwrapping for the dozen ways in which vendors and gateways wrap them.

An object, a string, a list, a field of their own, JSON inside a message, an event of a stream. Rules must not know
about that. Equally important is what is *not* found here: request echoes, assistant texts and tool arguments are never
read as an error, because a refusal's wording in there was written by the user or a tool.

Nothing here raises on any input, and everything is bounded: characters, depth, number of errors, length of messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from understudy.codec.body_text import ERROR_EVENTS, MAX_PARSED, frames, parse

MAX_DEPTH = 6  # error inside error inside error ...
MAX_ERRORS = 6
MAX_VISITS = 1000  # values of one body in which errors are looked for: a small tree has many branches
MAX_MESSAGE = 8192  # characters of one message that are kept
MAX_PLAIN = 2048  # characters of a plain text that is taken for a message


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """One unwrapped error; "" where the vendor said nothing."""

    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""


_CODE_KEYS = ("code", "Code", "error_code", "errorCode", "status_code", "err_code", "err_no", "errcode", "reason")
_TYPE_KEYS = ("type", "Type", "__type", "error_type", "errorType", "status", "title", "name")
_PARAM_KEYS = ("param", "parameter", "field", "loc")
_MESSAGE_KEYS = (
    "message", "Message", "msg", "error_msg", "error_message", "errorMessage", "err_msg", "errmsg", "status_msg",
    "error_description", "detail", "Detail", "description", "desc",
)  # fmt: skip
_INNER_KEYS = (
    "error", "Error", "errors", "Errors", "detail", "details", "Response", "response", "base_resp", "header",
    "innererror", "inner_error", "metadata", "raw", "upstream_error", "provider_error",
)  # fmt: skip
_INNER = frozenset(_INNER_KEYS)
_OWN = frozenset((*_CODE_KEYS, *_TYPE_KEYS, *_PARAM_KEYS, *_MESSAGE_KEYS))  # by which an object says something itself
_FAILING = frozenset({"response", "promptFeedback", "choices", "delta"})  # what only _failures reads
_PAYLOAD_KEYS = ("choices", "candidates", "content", "output", "outputs", "data", "result", "results", "embeddings")


class _Visits:
    """How many values may still be looked into: a body of 128 KiB has room for tens of thousands."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VISITS

    def exhausted(self) -> bool:
        """Count one more; whether it is one too many."""
        self.left -= 1
        return self.left < 0


def find_errors(text: str, parsed: object | None, *, succeeded: bool, event: str) -> Iterator[ErrorInfo]:
    """Every error in a body, the innermost first; the same one may come twice.

    ``parsed`` is the body as JSON, None when it is none. A 2xx (``succeeded``) counts only where its structure says
    that it failed, unless ``event`` is the name of an event that is an error by itself.
    """
    lenient = not succeeded or event in ERROR_EVENTS
    if parsed is not None:
        yield from _unwrap(parsed) if lenient else _failures(parsed)
        if lenient and (isinstance(parsed, list) or (isinstance(parsed, dict) and not _FAILING.isdisjoint(parsed))):
            yield from _failures(parsed)
    elif _STREAM.match(text):
        for name, data in frames(text):
            yield from _unwrap(data) if name in ERROR_EVENTS or not succeeded else _failures(data)
        if (told := _TOLD_IN_TEXT.match(text)) is not None:
            yield from _unwrap(told[1][:MAX_PLAIN])
    elif lenient and not _PAGE.match(text) and text[:1] not in ("{", "["):
        yield from _unwrap(text[:MAX_PLAIN])


_TOLD_IN_TEXT = re.compile(
    r"(?:[^\S\n]*+(?::[^\n]*+|event:[^\n]*+|id:[^\n]*+)?+\n)*+data:\s*+((?:error|exception)\b[^\n]+)", re.IGNORECASE
)
"""The first event of a stream is no JSON and says that it is an error."""


def _unwrap(value: object, depth: int = 0, visits: _Visits | None = None) -> Iterator[ErrorInfo]:
    """Every error in a value that is known to be one, the innermost first."""
    visits = visits or _Visits()
    if depth > MAX_DEPTH or visits.exhausted():
        return
    match value:
        case str():
            yield from _unwrap_text(value, depth, visits)
        case list():
            for item in value[:MAX_ERRORS]:
                yield from _unwrap(item, depth + 1, visits)
        case dict():
            if not _INNER.isdisjoint(value):
                for key in _INNER_KEYS:
                    if key not in value:
                        continue
                    inner = value[key]
                    if isinstance(inner, (dict, list)) or (key == "raw" and isinstance(inner, str)):
                        yield from _unwrap(inner, depth + 1, visits)
            if isinstance(inner := value.get("args"), dict) and ("error_type" in value or "errorType" in value):
                yield from _unwrap(inner, depth + 1, visits)  # not a tool's arguments: those of an exception
            if not _OWN.isdisjoint(value) or isinstance(value.get("error"), str):
                yield from _own_error(value, depth, visits)


def _unwrap_text(text: str, depth: int, visits: _Visits) -> Iterator[ErrorInfo]:
    parsed = parse(text[:MAX_PARSED])
    if isinstance(parsed, dict | list):
        yield from _unwrap(parsed, depth + 1, visits)
        return
    message = (parsed if isinstance(parsed, str) else text).strip()[:MAX_MESSAGE]
    if message and not _PAGE.match(message):
        yield from _embedded(message, depth, visits)
        yield ErrorInfo(message=message)


def _own_error(fields: dict[Any, Any], depth: int, visits: _Visits) -> Iterator[ErrorInfo]:
    """What an error object says itself, after what it carries as text inside its message."""
    code, kind = _first_word(fields, _CODE_KEYS), _first_word(fields, _TYPE_KEYS).rpartition("#")[2]
    plain = fields.get("error")
    texts = [
        value for key in _MESSAGE_KEYS if key in fields and isinstance(value := fields[key], str) and value.strip()
    ]
    if isinstance(plain, str) and plain.strip():
        word = plain.strip()
        if texts and (not re.search(r"\s", word) or word.lower() in _REASONS):
            # {"error": "invalid_request", "error_description": "..."}, or a framework's name of a status: "Not Found"
            code = code or word[:200]
        else:
            texts.insert(0, plain)
    message = texts[0] if texts else ""
    if message and "{" not in message and message.lstrip()[0] not in '["<':
        message = message.strip()[:MAX_MESSAGE]  # plain words, as most
    elif parts := list(_unwrap_text(message, depth, visits)) if message else []:
        yield from parts[:-1]
        message = parts[-1].message
        if parts[-1].code or parts[-1].type:  # the message was JSON itself: the outer code still belongs to it
            yield parts[-1]
    if not code and _CODE_AS_MESSAGE.fullmatch(message):
        code = message
    kind = "" if kind.lower() in ("error", "object") else kind
    param = _param(fields)
    if message or (code and code != "0") or (kind and depth):
        yield ErrorInfo(code, kind, param, message)
    if len(param.split()) >= WORDS_OF_A_SENTENCE:
        yield ErrorInfo(code, kind, "", param)  # "Param Incorrect", and in its place what is wrong with which
    if len(texts) > 1 and texts[1] != texts[0]:
        yield from _unwrap_text(texts[1], depth, visits)  # a general sentence, and beside it what really happened


WORDS_OF_A_SENTENCE = 3
"""A parameter of so many words is no name: the vendor says there what is wrong."""
_REASONS = frozenset(status.phrase.lower() for status in HTTPStatus)
"""What a status is called: beside a message, such a text says nothing more."""
_CODE_AS_MESSAGE = re.compile(r"[A-Za-z]{1,40}(?:_[A-Za-z]{1,40}){1,6}")
"""A message that is nothing but a code: ``context_length_exceeded``."""


def _first_word(fields: dict[Any, Any], keys: Iterable[str]) -> str:
    for key in keys:
        if key not in fields:
            continue
        value = fields[key]
        if isinstance(value, str) and value.strip():
            return value.strip()[:200]
        if isinstance(value, int) and not isinstance(value, bool) and key not in ("type", "status", "title", "name"):
            return str(value) if abs(value) < 1 << 63 else ""
    return ""


def _param(fields: dict[Any, Any]) -> str:
    for key in _PARAM_KEYS:
        value = fields.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()[:200]
        if isinstance(value, list) and value:  # FastAPI: ["body", "messages", 0]
            steps = [str(step)[:80] for step in value[:8] if isinstance(step, str | int)]
            return ".".join(steps[1:] if steps[:1] == ["body"] else steps)
    return ""


ECHO_BEFORE = re.compile(
    r"\b(?:arguments?|(?<!generate )contents?|prompts?|tools?|function|messages|inputs?|schema|texts?)\b", re.IGNORECASE
)
_REPR_FIELD = re.compile(
    r"'(error|message|code|type|param|detail)':\s*(?:'((?:[^'\\]|\\.){1,2000})'|\"((?:[^\"\\]|\\.){1,2000})\")"
)


def _embedded(message: str, depth: int, visits: _Visits) -> Iterator[ErrorInfo]:
    """The error that a gateway quoted inside its own sentence, as JSON or as a Python dict.

    Not when the words before it say that it is a piece of the request (arguments of a tool, a prompt).
    """
    start = message.find("{")
    if start < 0 or ECHO_BEFORE.search(message, max(0, start - 80), start):
        return
    if message.startswith('{\\"', start):
        message = message.replace('\\"', '"').replace("\\\\", "\\")  # JSON that was quoted once more
    for _ in range(4):
        try:
            value, _end = json.JSONDecoder().raw_decode(message, start)
        except (ValueError, RecursionError):
            start = message.find("{", start + 1)
            if start < 0:
                break
            continue
        yield from _unwrap(value, depth + 1, visits)
        return
    fields = {key: one or two for key, one, two in reversed(_REPR_FIELD.findall(message))}
    text = fields.get("message") or fields.get("error") or fields.get("detail") or ""
    if text or fields.get("code"):
        yield ErrorInfo(fields.get("code", ""), fields.get("type", ""), fields.get("param", ""), text)


def _failures(value: object) -> Iterator[ErrorInfo]:
    """Errors that the structure of a 2xx body or of a stream event proves; the words in it prove nothing."""
    match value:
        case list():
            for item in value[:1] + value[1:][-1:]:
                if isinstance(item, dict):
                    yield from _object_failures(item)
        case dict():
            yield from _object_failures(value)


def _object_failures(fields: dict[Any, Any]) -> Iterator[ErrorInfo]:
    response, base, capital = fields.get("response"), fields.get("base_resp"), fields.get("Response")
    feedback, choices, delta = fields.get("promptFeedback"), fields.get("choices"), fields.get("delta")
    code, text, head = fields.get("code"), fields.get("message") or fields.get("msg"), fields.get("header")
    if _says_something(fields.get("error")):
        yield from _unwrap(fields["error"] if isinstance(fields["error"], dict | list) else fields)
    elif fields.get("type") == "error" or fields.get("object") == "error" or fields.get("error_code") not in _FINE:
        yield from _unwrap(fields)
    elif isinstance(response, dict) and (fields.get("type") == "response.failed" or response.get("status") == "failed"):
        yield from _unwrap(response.get("error") or {}, 1)
        yield ErrorInfo(type="response.failed")
    elif isinstance(base, dict) and base.get("status_code") not in _FINE:
        yield from _unwrap(base)
    elif isinstance(head, dict) and head.get("code") not in _FINE and "payload" not in fields:
        yield from _unwrap(head)  # iFlytek
    elif isinstance(capital, dict) and _says_something(capital.get("Error")):
        yield from _unwrap(capital["Error"])
    elif isinstance(feedback, dict) and isinstance(reason := feedback.get("blockReason"), str) and reason:
        yield ErrorInfo(reason, "promptFeedback", "", str(feedback.get("blockReasonMessage") or "")[:MAX_MESSAGE])
    elif isinstance(delta, dict) and (delta.get("finish_reason") == "ERROR" or _says_something(delta.get("error"))):
        yield ErrorInfo(type="message-end", message=str(delta.get("error") or "")[:MAX_MESSAGE])  # Cohere's last event
    elif isinstance(choices, list) and choices and isinstance(choices[0], dict):
        yield from _failed_choice(choices[0])
    elif not any(fields.get(key) for key in _PAYLOAD_KEYS):
        status = fields.get("status")
        refused = fields.get("success") is False or status in ("error", "failure", "failed") or _is_error_status(status)
        if (isinstance(text, str) and text and (refused or code not in _FINE)) or (
            _says_something(fields.get("errors"))
        ):
            yield from _unwrap(fields)


_FINE: tuple[object, ...] = (None, 0, "0", 200, "200", "", "ok", "OK", "success", "Success", False)


def _is_error_status(status: object) -> bool:
    """Whether a field called ``status`` holds a number from 400 to 599, or its digits."""
    if isinstance(status, str) and len(status) == 3 and status.isdecimal():
        status = int(status)
    return isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600


def _says_something(value: object) -> bool:
    match value:
        case str():
            return bool(value.strip())
        case dict():
            return any(item not in (None, "", [], {}, 0, False) for item in value.values())
        case list():
            return any(_says_something(item) for item in value[:4])
    return False


def _failed_choice(choice: dict[Any, Any]) -> Iterator[ErrorInfo]:
    # Some gateways end a 200 with finish_reason "error" and put the error where the assistant's text belongs. That
    # text counts only if it is an error object; prose may be the assistant's.
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason.lower().startswith("error"):
        holder = choice.get("delta") or choice.get("message")
        content = holder.get("content") if isinstance(holder, dict) else None
        parsed = parse(content[:MAX_MESSAGE]) if isinstance(content, str) else None
        if isinstance(parsed, dict):
            yield from _unwrap(parsed, 1)
        yield ErrorInfo(type="finish_reason:error")


_STREAM = re.compile(r"\s*+(?:data:|event:|:|id:|retry:)")
_PAGE = re.compile(r"\s*+<(?:!doctype|html|\?xml|head|body|title|center)", re.IGNORECASE)
