"""A reply as it is judged: what came back on an attempt, parsed and unwrapped once, for every rule to look at.

Where errors hide is `unwrap`'s business, how their words are evened out `wording`'s. Nothing here raises on any input,
and everything is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from understudy.codec.body_text import ERROR_EVENTS, follow, names_utf_8, parse, text_of
from understudy.codec.event_stream import EventReader, begins_stream, kind_of
from understudy.dialects import DIALECTS, Kind, StreamEvent
from understudy.replies.answer import BROKEN, is_media, lack_of_body, lack_of_stream
from understudy.replies.statement import NOTHING_STATED, Statement, is_another, of_document, of_events
from understudy.replies.unwrap import MAX_ERRORS, ErrorInfo, find_errors
from understudy.replies.wording import fold, spell, spell_out

__all__ = ["ERROR_EVENTS", "MAX_ERRORS", "ErrorInfo", "Fault", "FaultKind", "Reply"]

MAX_TEXT = 1 << 20  # bytes of a body that are looked at
MOST_COMPARED = 16 * 1024  # characters of a text in which the words of its errors are looked for
_DECODER, _SPACE = json.JSONDecoder(), " \t\n\r"
_TOLD_BY = 8192  # characters by which a text is told to be Chinese


def _chinese(body: bytes) -> str:
    """A body that is called UTF-8, or nothing, and is GBK, as some Chinese gateways send it; else ""."""
    if body.isascii():
        return ""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start > len(body) - 4:
            return ""  # merely cut
        try:
            text = body.decode("gb18030")
        except UnicodeDecodeError:
            return ""
        odd = [char for char in text[:_TOLD_BY] if not char.isascii()]
        return text if sum("\u4e00" <= char <= "\u9fff" for char in odd) > 0.8 * len(odd) else ""
    return ""


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
    reused: bool = False  # whether it was on a connection that had served a request before, or takes none any more


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
    """Whether the body is not all there, or could not be decoded."""
    mask: Callable[[str], str] | None = field(default=None, repr=False, compare=False)
    """What takes an echo of the secret out of a text. The body is masked as it came; decoding may bring out more."""

    def header(self, name: str) -> str:
        """The first value of a header, whatever its case; "" if it is absent."""
        return self._first_values.get(name.lower(), "")

    @cached_property
    def _first_values(self) -> dict[str, str]:
        """By name in lower case. Rules ask a hundred times, and a peer may send thousands of headers."""
        return {key.lower(): value for key, value in reversed(self.headers)}

    @property
    def _type(self) -> str:
        """The Content-Type, in lower case and without parameters."""
        return self._first_values.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def succeeded(self) -> bool:
        """Whether the status claims success, which an error inside may still contradict."""
        return 200 <= self.status < 300

    @cached_property
    def text(self) -> str:
        """The body as text (`text_of`), never raising; GBK also where it is called UTF-8."""
        body, content_type = self.body[:MAX_TEXT], self._first_values.get("content-type", "")
        if body.isascii() and ("=" not in content_type or content_type.lower().endswith("; charset=utf-8")):
            text = body.decode("ascii")  # as nearly all
        else:
            text = (names_utf_8(content_type) and _chinese(body)) or text_of(body, content_type)
        return self.mask(text) if self.mask is not None and text else text

    @cached_property
    def folded_text(self) -> str:
        """The first 64 Ki characters of the text in lower case with single spaces, for the few rules that need it."""
        return " ".join(self.text[: 1 << 16].split()).lower()

    @cached_property
    def json(self) -> object | None:
        """The parsed body, also when it was sent as a JSON string; None when it is not JSON."""
        return parse(self.text)

    @cached_property
    def errors(self) -> tuple[ErrorInfo, ...]:
        """The errors inside, the innermost first. Empty when the structure carries none.

        A 2xx counts only where its structure says that it failed; words in it prove nothing.
        """
        found: dict[ErrorInfo, None] = {}
        text = self.text
        for info in find_errors(text, self.json, succeeded=self.succeeded, event=self.event):
            if self.mask is not None:
                # Unwrapping undoes escapes in escapes. What stands in the text just so was masked with it.
                said = info.code, info.type, info.param, info.message
                if len(text) > MOST_COMPARED or [each for each in said if each not in text]:
                    info = ErrorInfo(*(each and self.mask(each) for each in said))
            found.setdefault(info)
            if len(found) >= MAX_ERRORS:
                break
        return self._with_header_type(tuple(found))

    @cached_property
    def lack(self) -> str:
        """What a 2xx lacks to be an answer to its generating call; "" when it is one, or that cannot be known."""
        dialect = DIALECTS.get(self.dialect)
        if not self.succeeded or self.event or self.fault or self.truncated or dialect is None:
            return ""
        if not self.endpoint or self.kind != Kind.GENERATING:
            return ""
        content_type = self._type
        if content_type == "application/json" and self.text.startswith("{"):
            try:  # one object, as nearly all
                document = self._document
            except (ValueError, RecursionError):
                return BROKEN
            return dialect.lack(self.endpoint, document)
        if is_media(content_type, self.endpoint) and self.body:
            return ""
        if (framing := self._framing(content_type)) and self.body.strip():
            events = self._events(framing)
            if events is not None:
                return lack_of_stream(dialect, events)
        return lack_of_body(dialect, self.endpoint, self.text, lambda text: self._document)

    @cached_property
    def _document(self) -> object:
        """The whole body as JSON, parsed once. Raises ValueError or RecursionError when it is none."""
        text = self.text
        if not text.startswith("{"):
            return json.loads(text)
        document, end = _DECODER.raw_decode(text)  # the same, by half the steps
        if text[end:].strip(_SPACE):
            raise ValueError("something follows the document")
        return document

    @cached_property
    def statement(self) -> Statement:
        """What a success says of itself: the tokens that it took, and the model that made it."""
        dialect = DIALECTS.get(self.dialect)
        if not self.succeeded or self.kind != Kind.GENERATING or dialect is None:
            return NOTHING_STATED
        is_parsed = "_document" in self.__dict__  # it was judged as a whole document, as most are
        if not is_parsed and (framing := self._framing(self._type)) and (events := self._events(framing)) is not None:
            return of_events(dialect, events)
        try:
            found = of_document(dialect, self._document)
        except (ValueError, RecursionError):
            found = NOTHING_STATED
        if found.usage is None:
            found = replace(found, usage=dialect.usage_in_headers(self._first_values))
        return found

    @property
    def served_model(self) -> str:
        """The model that a success names, where that is another one than was sent; "" where it is not (Q04).

        Dates, releases, folders and regions make no other model of a name. Of a deployment nothing can be told.
        """
        dialect, named = DIALECTS.get(self.dialect), self.statement.model
        if dialect is None or dialect.names_deployments or not is_another(self.model, named):
            return ""
        return named

    def _events(self, framing: str) -> list[StreamEvent] | None:
        """The events of a body with this type; None when it turns out to be no stream."""
        reader = EventReader(framing)
        events = [*reader.feed(self.body), *reader.finish()]
        return None if reader.failed else events

    def _framing(self, content_type: str) -> str:
        """The type of the stream of events that the body is, whatever it is called; "" when it is none."""
        mark = self.body[:64].lstrip()[:1]
        if begins_stream(self.body):
            return "text/event-stream"
        if self.streamed and mark == b"[":
            return "application/json"
        return content_type if kind_of(content_type) is not None and mark != b"<" else ""

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
        names = spell(self.model, self.alias)
        said = []
        for info in self.errors:
            message, _ = names.put_placeholder(fold(info.message))
            said.append(ErrorInfo(info.code.lower(), info.type.lower(), info.param.lower(), message))
        return tuple(said)

    @cached_property
    def heard(self) -> dict[Any, dict[str, int]]:
        """For rules: by who listened (see ``rules.listening``), what was heard in the texts of this reply."""
        return {}

    @cached_property
    def _codes(self) -> dict[str, str]:
        return {word.lower(): spell_out(word) for info in self.errors for word in (info.code, info.type) if word}

    def spelled_out(self, code: str) -> str:
        """A code or type of ``said`` as words: ``model not found`` for ``ModelNotFound`` and ``model_not_found``."""
        return self._codes.get(code, "") or code

    def names_model(self) -> bool:
        """Whether an error's message or param names the requested upstream model or the alias, as vendors write it."""
        if [info for info in self.said if "{model}" in info.message]:
            return True
        names = spell(self.model, self.alias)
        return any(names.put_placeholder(f"model {fold(info.param)}")[1] for info in self.errors if info.param)

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
        return follow(root, keys)

    def _with_header_type(self, infos: tuple[ErrorInfo, ...]) -> tuple[ErrorInfo, ...]:
        # Bedrock names the exception in a header only (AWS restJson1 protocol, "x-amzn-errortype").
        name = self.header("x-amzn-errortype").partition(":")[0].strip() if self.headers else ""
        if not name or self.succeeded:
            return infos
        return tuple(
            ErrorInfo(info.code, info.type or name, info.param, info.message) for info in infos or (ErrorInfo(),)
        )
