"""A reply as it is judged: what came back on an attempt, and the error that is inside it.

Vendors and gateways wrap one error in many ways: an object, a string, a list, a field of their own, JSON inside a
message, an event of a stream. Rules must not know about that, so this module unwraps once and offers code, type, param
and message. Equally important is what it does *not* offer: request echoes, assistant texts and tool arguments are
never read as an error, because a refusal's wording in there is somebody else's.

Nothing here raises on any input, and everything is bounded: bytes, depth, number of errors, length of messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

MAX_TEXT = 1 << 20  # bytes of a body that are looked at
MAX_DEPTH = 6  # error inside error inside error ...
MAX_ERRORS = 12
MAX_MESSAGE = 8192  # characters of one message that are kept
MAX_FRAMES = 64  # events of a stream that are looked at
HEAD, TAIL = 900, 300  # characters of a message that are judged: vendors say what is wrong first or last


class FaultKind(StrEnum):
    """Where the transport failed."""

    CONNECT = "connect"
    TLS = "tls"
    CLOSED = "closed"
    SILENCE = "silence"
    EMPTY = "empty"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Fault:
    """A transport fault: what came back instead of a reply."""

    kind: FaultKind
    message: str
    sent: bool  # whether any byte of the request had been sent
    reused: bool = False  # whether it happened on a kept-alive connection that had served a request before


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """One unwrapped error; "" where the vendor said nothing."""

    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back on an attempt. Parsed parts are computed when first asked for and then kept."""

    status: int
    dialect: str = ""
    endpoint: str = ""
    kind: str = "generating"
    host: str = ""
    alias: str = ""
    model: str = ""
    streamed: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    event: str = ""
    fault: Fault | None = None
    truncated: bool = False

    def header(self, name: str) -> str:
        """The first value of a header, whatever its case; "" if it is absent."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")

    @property
    def succeeded(self) -> bool:
        """Whether the status claims success, which an error inside may still contradict."""
        return 200 <= self.status < 300

    @cached_property
    def text(self) -> str:
        """The body as text, in the charset the reply names (UTF-8 if none or unknown), never raising."""
        found = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", self.header("content-type"), re.IGNORECASE)
        body = self.body[:MAX_TEXT]
        try:
            return body.decode(found.group(1) if found else "utf-8", errors="replace").removeprefix("\ufeff")
        except (LookupError, ValueError, UnicodeError):
            return body.decode("utf-8", errors="replace").removeprefix("\ufeff")

    @cached_property
    def folded_text(self) -> str:
        """The first 64 Ki characters of the text in lower case with single spaces, for the few rules that need it."""
        return " ".join(self.text[: 1 << 16].split()).lower()

    @cached_property
    def json(self) -> object | None:
        """The parsed body, also when it was sent as a JSON string; None when it is not JSON."""
        return _parse(self.text)

    @cached_property
    def errors(self) -> tuple[ErrorInfo, ...]:
        """The errors inside, the innermost first. Empty when the structure carries none.

        A 2xx counts only where its structure says that it failed; words in it prove nothing.
        """
        found: dict[ErrorInfo, None] = {}
        for info in self._find_errors():
            found.setdefault(info)
            if len(found) >= MAX_ERRORS:
                break
        return self._with_header_type(tuple(found))

    @property
    def error(self) -> ErrorInfo | None:
        """The most telling error (the innermost), None when there is none."""
        return self.errors[0] if self.errors else None

    @cached_property
    def said(self) -> tuple[ErrorInfo, ...]:
        """`errors` as rules see them: lower case, single spaces, bounded.

        In messages the requested upstream model stands as `{model}`, however the vendor spelled it, and longer quoted
        passages are left out: they are echoes of the request.
        """
        names = _name_pattern(self.model.lower(), self.alias.lower())
        return tuple(
            ErrorInfo(
                info.code.lower(),
                info.type.lower(),
                info.param.lower(),
                _put_placeholder(_fold(info.message), names)[0],
            )
            for info in self.errors
        )

    def names_model(self) -> bool:
        """Whether an error's message or param names the requested upstream model or the alias, as vendors write it."""
        names = _name_pattern(self.model.lower(), self.alias.lower())
        return any(
            _put_placeholder(text, names)[1]
            for info in self.errors
            for text in (_fold(info.message), f"model {_fold(info.param)}" if info.param else "")
            if text
        )

    def path(self, dotted: str) -> object | None:
        """The value at a dotted path of the JSON body; numbers index lists, `*` gathers all elements; None if absent.

        A body that is an array with one element is entered by itself (Gemini wraps errors so).
        """
        return self.follow(tuple(dotted.split(".")))

    def follow(self, keys: tuple[str, ...]) -> object | None:
        """`path` with the keys already split."""
        root = self.json
        if isinstance(root, list) and len(root) == 1 and not keys[0].isdecimal() and keys[0] != "*":
            root = root[0]
        return _follow(root, keys)

    def _find_errors(self) -> Iterator[ErrorInfo]:
        parsed = self.json
        lenient = not self.succeeded or self.event in ERROR_EVENTS
        if parsed is not None:
            yield from _unwrap(parsed) if lenient else _failures(parsed)
            if lenient:
                yield from _failures(parsed)
        elif _looks_like_stream(self.text):
            for name, data in _frames(self.text):
                yield from _unwrap(data) if name in ERROR_EVENTS or not self.succeeded else _failures(data)
        elif lenient and not _looks_like_page(self.text):
            yield from _unwrap(self.text[: 2 * HEAD])

    def _with_header_type(self, infos: tuple[ErrorInfo, ...]) -> tuple[ErrorInfo, ...]:
        # Bedrock names the exception in a header only (AWS restJson1 protocol, "x-amzn-errortype").
        name = self.header("x-amzn-errortype").partition(":")[0].strip() if self.headers else ""
        if not name or self.succeeded:
            return infos
        return tuple(
            ErrorInfo(info.code, info.type or name, info.param, info.message) for info in infos or (ErrorInfo(),)
        )


ERROR_EVENTS = frozenset({"error", "response.failed", "response.error", "exception"})
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
_PAYLOAD_KEYS = ("choices", "candidates", "content", "output", "outputs", "data", "result", "results", "embeddings")


def _parse(text: str) -> object | None:
    """JSON, or JSON inside a JSON string; None for anything else."""
    value: object = text
    for _ in range(2):
        if not isinstance(value, str):
            break
        stripped = value.strip()
        if stripped[:1] not in ("{", "[", '"'):
            return value if value is not text else None
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            return value if value is not text else None
    return value


def _follow(value: object, keys: tuple[str, ...]) -> object | None:
    for index, key in enumerate(keys):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key == "*":
            gathered = (_follow(item, keys[index + 1 :]) for item in value[:MAX_FRAMES])
            flat = (leaf for item in gathered for leaf in (item if isinstance(item, list) else [item]))
            return [leaf for leaf in flat if leaf is not None] or None
        elif isinstance(value, list) and key.isdecimal() and len(key) < 6:
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def _unwrap(value: object, depth: int = 0) -> Iterator[ErrorInfo]:
    """Every error in a value that is known to be one, the innermost first."""
    if depth > MAX_DEPTH:
        return
    match value:
        case str():
            yield from _unwrap_text(value, depth)
        case list():
            for item in value[:MAX_ERRORS]:
                yield from _unwrap(item, depth + 1)
        case dict():
            for key in _INNER_KEYS:
                inner = value.get(key)
                if isinstance(inner, dict | list) or (key == "raw" and isinstance(inner, str)):
                    yield from _unwrap(inner, depth + 1)
            yield from _own_error(value, depth)


def _unwrap_text(text: str, depth: int) -> Iterator[ErrorInfo]:
    parsed = _parse(text[:MAX_TEXT])
    if isinstance(parsed, dict | list):
        yield from _unwrap(parsed, depth + 1)
        return
    message = (parsed if isinstance(parsed, str) else text).strip()[:MAX_MESSAGE]
    if message and not _looks_like_page(message):
        yield from _embedded(message, depth)
        yield ErrorInfo(message=message)


def _own_error(fields: dict[Any, Any], depth: int) -> Iterator[ErrorInfo]:
    """What an error object says itself, after what it carries as text inside its message."""
    code, kind = _first_word(fields, _CODE_KEYS), _first_word(fields, _TYPE_KEYS).rpartition("#")[2]
    plain = fields.get("error")
    texts = [value for key in _MESSAGE_KEYS if isinstance(value := fields.get(key), str) and value.strip()]
    if isinstance(plain, str) and plain.strip():
        if texts and not re.search(r"\s", plain.strip()):
            code = code or plain.strip()[:200]  # {"error": "invalid_request", "error_description": "..."}
        else:
            texts.insert(0, plain)
    message = texts[0] if texts else ""
    if parts := list(_unwrap_text(message, depth)) if message else []:
        yield from parts[:-1]
        message = parts[-1].message
        if parts[-1].code or parts[-1].type:  # the message was JSON itself: the outer code still belongs to it
            yield parts[-1]
    kind = "" if kind.lower() in ("error", "object") else kind
    if message or (code and code != "0") or (kind and depth):
        yield ErrorInfo(code, kind, _param(fields), message)


def _first_word(fields: dict[Any, Any], keys: Iterable[str]) -> str:
    for key in keys:
        value = fields.get(key)
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


_ECHO_BEFORE = re.compile(
    r"\b(?:arguments?|(?<!generate )contents?|prompts?|tools?|function|messages|inputs?|schema|texts?)\b", re.IGNORECASE
)
_REPR_FIELD = re.compile(
    r"'(error|message|code|type|param|detail)':\s*(?:'((?:[^'\\]|\\.){1,2000})'|\"((?:[^\"\\]|\\.){1,2000})\")"
)


def _embedded(message: str, depth: int) -> Iterator[ErrorInfo]:
    """The error that a gateway quoted inside its own sentence, as JSON or as a Python dict.

    Not when the words before it say that it is a piece of the request (arguments of a tool, a prompt).
    """
    start = message.find("{")
    if start < 0 or _ECHO_BEFORE.search(message, max(0, start - 80), start):
        return
    for _ in range(4):
        try:
            value, _end = json.JSONDecoder().raw_decode(message, start)
        except (ValueError, RecursionError):
            start = message.find("{", start + 1)
            if start < 0:
                break
            continue
        yield from _unwrap(value, depth + 1)
        return
    fields = {key: one or two for key, one, two in reversed(_REPR_FIELD.findall(message))}
    text = fields.get("message") or fields.get("error") or fields.get("detail") or ""
    if text or fields.get("code"):
        yield ErrorInfo(fields.get("code", ""), fields.get("type", ""), fields.get("param", ""), text)


def _failures(value: object) -> Iterator[ErrorInfo]:
    """Errors that the structure of a 2xx body or of a stream event proves; the words in it prove nothing."""
    match value:
        case list() if value:
            yield from _failures(value[0] if not isinstance(value[0], list) else None)
            if len(value) > 1 and isinstance(value[-1], dict):
                yield from _failures(value[-1])
        case dict():
            yield from _object_failures(value)


def _object_failures(fields: dict[Any, Any]) -> Iterator[ErrorInfo]:
    response, base, capital = fields.get("response"), fields.get("base_resp"), fields.get("Response")
    feedback, choices = fields.get("promptFeedback"), fields.get("choices")
    code, text = fields.get("code"), fields.get("message") or fields.get("msg")
    if _says_something(fields.get("error")):
        yield from _unwrap(fields["error"] if isinstance(fields["error"], dict | list) else fields)
    elif fields.get("type") == "error" or fields.get("object") == "error" or fields.get("error_code") not in _FINE:
        yield from _unwrap(fields)
    elif isinstance(response, dict) and (fields.get("type") == "response.failed" or response.get("status") == "failed"):
        yield from _unwrap(response.get("error") or {}, 1)
        yield ErrorInfo(type="response.failed")
    elif isinstance(base, dict) and base.get("status_code") not in _FINE:
        yield from _unwrap(base)
    elif isinstance(capital, dict) and _says_something(capital.get("Error")):
        yield from _unwrap(capital["Error"])
    elif isinstance(feedback, dict) and isinstance(reason := feedback.get("blockReason"), str) and reason:
        yield ErrorInfo(reason, "promptFeedback", "", str(feedback.get("blockReasonMessage") or "")[:MAX_MESSAGE])
    elif isinstance(choices, list) and choices and isinstance(choices[0], dict):
        yield from _failed_choice(choices[0])
    elif not any(fields.get(key) for key in _PAYLOAD_KEYS):
        refused = fields.get("success") is False or fields.get("status") in ("error", "failure", "failed")
        if (isinstance(text, str) and text and (refused or code not in _FINE)) or (
            _says_something(fields.get("errors"))
        ):
            yield from _unwrap(fields)


_FINE: tuple[object, ...] = (None, 0, "0", 200, "200", "", "ok", "OK", "success", "Success", False)


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
        parsed = _parse(content[:MAX_MESSAGE]) if isinstance(content, str) else None
        if isinstance(parsed, dict):
            yield from _unwrap(parsed, 1)
        yield ErrorInfo(type="finish_reason:error")


def _looks_like_stream(text: str) -> bool:
    return text.lstrip()[:6].startswith(("data:", "event:", ":", "id:", "retry:"))


def _looks_like_page(text: str) -> bool:
    start = text.lstrip()[:200].lower()
    return start.startswith(("<!doctype", "<html", "<?xml", "<head", "<body", "<title", "<center"))


def _frames(text: str) -> Iterator[tuple[str, object]]:
    """Name and parsed data of the first events of a stream (WHATWG event stream, CRLF or LF)."""
    blocks = re.split(r"\r?\n\r?\n", text[: MAX_TEXT // 2], maxsplit=MAX_FRAMES)
    for block in blocks[:MAX_FRAMES]:
        name, data = "", []
        for line in block.splitlines():
            key, _, value = line.partition(":")
            if key == "event":
                name = value.strip()
            elif key == "data":
                data.append(value.removeprefix(" "))
        parsed = _parse("\n".join(data)) if data else None
        if parsed is not None:
            yield name, parsed
        elif name in ERROR_EVENTS and data:
            yield name, "\n".join(data)


_QUOTED = re.compile(
    r"\"(?:[^\"\\]|\\.){8,2000}\"|`[^`]{8,2000}`|(?<![a-z0-9])'(?:[^'\\]|\\.){8,2000}'(?![a-z0-9])|“[^”]{8,2000}”"
)
_VENDOR_BEFORE = re.compile(
    r"(?:error|exception|provider|upstream|response|failed|returned|said|says|status|reason|[\"'](?:message|detail|msg)[\"'])"
    r"\W{0,8}$"
)


@lru_cache(maxsize=256)
def _fold(message: str) -> str:
    """Lower case, single spaces, bounded, without longer quoted passages, which repeat the request's words."""
    text = " ".join(message[:MAX_MESSAGE].split()).lower().replace("\u2019", "'")
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} … {text[-TAIL:]}"
    brace = text.find("{")
    if brace >= 0 and _ECHO_BEFORE.search(text, max(0, brace - 80), brace):
        text = f"{text[:brace]}…"  # arguments of a tool, a schema, a prompt

    def drop(found: re.Match[str]) -> str:
        passage = found.group()
        if passage.count(" ") < 2 or not found.start() or _VENDOR_BEFORE.search(text, 0, found.start()):
            return passage
        return "…"

    return _QUOTED.sub(drop, text) if any(quote in text for quote in "\"'`“") else text


@lru_cache(maxsize=256)
def _name_pattern(model: str, alias: str) -> re.Pattern[str] | None:
    """Finds a model name as vendors write it: without folders, tags or a region, with a date behind it."""
    strong: set[str] = set()
    weak: set[str] = set()
    for name in (model[:200], alias[:200]):
        short = name.rpartition("/")[2]
        spellings = {name, name.removeprefix("models/"), short, re.sub(r"\[\w+\]$|:(?!\d)[\w-]+$", "", short)}
        spellings.add(re.sub(r"^(?:us|eu|apac|global)\.", "", short))
        for spelling in spellings:
            if len(spelling) > 2:
                (strong if re.search(r"[0-9/_-]", spelling) else weak).add(re.escape(spelling))
    if not strong and not weak:
        return None
    # A name that is an ordinary word ("auto", "ollama") counts only in quotes or right behind "model".
    choices = []
    if strong:
        choices.append("|".join(sorted(strong, key=len, reverse=True)))
    if weak:
        words = "|".join(sorted(weak, key=len, reverse=True))
        choices.append(rf"(?<=[`'\"“/])(?:{words})(?=[`'\"”])|(?:(?<=model )|(?<=model:)|(?<=model=))(?:{words})")
    dated = r"(?:[-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest)?"
    return re.compile(rf"(?<![a-z0-9_-])(?:{'|'.join(choices)}){dated}(?![a-z0-9_]|[-.:@/][a-z0-9])")


_FOLDERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.:@-/")
_OPENING, _CLOSING = "`'\"<[\u2018\u201c", "`'\">]\u2019\u201d"


def _put_placeholder(text: str, names: re.Pattern[str] | None) -> tuple[str, int]:
    """The text with every mention of the model, its folders and quotes, as `{model}`; and how many there were."""
    if names is None:
        return text, 0
    pieces: list[str] = []
    done = count = 0
    for found in names.finditer(text):
        start, end = found.span()
        while start > done and text[start - 1] in _FOLDERS and (text[start - 1] == "/" or start < found.start()):
            start -= 1
        if start > done and text[start - 1] in _OPENING:
            start -= 1
            end += end < len(text) and text[end] in _CLOSING
        pieces += (text[done:start], "{model}")
        done, count = end, count + 1
    return "".join((*pieces, text[done:])), count
