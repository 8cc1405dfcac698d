"""One ``response.create``: the body of the HTTP call for it, and what the reply of that call is on the socket.

An event of a stream goes to the client as the message that it is, its bytes untouched but for the ``stream_id`` of a
named lane. Errors take the form that the socket has for them: ``{"type": "error", "status": ..., "error": {...}}``.

Sources: OpenAI, "WebSocket Mode" and the reference of its events; for the error's ``headers``, Codex' source
(``responses_websocket.rs``).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from understudy.codec.content_encoding import Decoder
from understudy.codec.event_stream import EventReader, is_event_stream
from understudy.codec.events import StreamEvent, read_json
from understudy.codec.json_edit import Raw, raw_items, raw_members, set_json_members
from understudy.sockets.transcripts import joined, sendable

LONGEST_EVENT = 32 * 1024 * 1024
"""Bytes of one event, or of a reply that is no stream: a picture is the longest."""
LONGEST_TEXT = 2000
"""Characters of an error that is no JSON."""
OWN_ID = "resp_local_"
"""How the ids begin of responses that were made here."""
_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")
_LASTING = ("response.completed", "response.incomplete")
"""With these a response can be gone on from."""
_END = re.compile(rb'"type"\s*+:\s*+"(?:response\.(?:completed|incomplete|failed|cancelled)|error)"')
_ITEM = b'"response.output_item.done"'
_CREATED = b'"response.created"'
_STAYS = frozenset({"content-length", "content-encoding", "transfer-encoding", "connection", "keep-alive", "trailer"})
_SECRET = frozenset({"set-cookie", "authorization", "proxy-authenticate", "www-authenticate"})
"""Headers that are of no use in an event."""
_STATUS = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "usage_limit_reached": 429,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "previous_response_not_found": 400,
}
"""The status of an error that a stream tells by its code alone."""


@dataclass(slots=True)
class Create:
    """A ``response.create``. ``text``: the message, until its turn has it; ``items``: those of its own input;
    ``previous``: the response that it goes on from, "" for none."""

    lane: str | None
    text: bytes = field(repr=False)
    items: bytes = field(repr=False)
    model: str = ""
    previous: str = ""
    generates: bool = True

    def take(self) -> bytes:
        """The message, which is not kept twice."""
        text, self.text = self.text, b""
        return text


class Turn:
    """One request on its way over HTTP, and its reply. ``earlier``: the items that it goes on from; None: its
    ``previous_response_id`` stays, because nothing is known of it here."""

    def __init__(self, create: Create, earlier: bytes | None) -> None:
        self.create = create
        self._text = create.take()
        self.items = joined(earlier or b"", create.items)
        """The conversation up to and with this request."""
        self.goes_on_unknown = earlier is None
        self.response = ""
        """The id of the response, once it is known."""
        self.is_done = False
        """Whether the client has the last message of it."""
        self.lasts = False
        """Whether a further request can go on from it."""
        self.unread = 0
        """Bytes that have come since the last message."""
        self._output: list[Raw] = []
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._decoder = Decoder("", LONGEST_EVENT)
        self._reader: EventReader | None = None
        self._body = bytearray()

    @property
    def size(self) -> int:
        """Bytes that the body is made of."""
        return len(self._text) + len(self.items)

    def body(self) -> bytes:
        """The body of the HTTP call, once: the message is then let go. Raises ValueError for one that is no object."""
        text, self._text = self._text, b""
        members: dict[str, Any] = dict.fromkeys(("type", "stream_id", "generate", "background"))
        members["stream"] = True
        if self.create.previous and not self.goes_on_unknown:
            members |= {"previous_response_id": None, "input": Raw(b"[" + self.items + b"]")}
        return set_json_members(text, members)

    @property
    def transcript(self) -> bytes:
        """The conversation up to and with the response."""
        return joined(self.items, sendable(self._output))

    # -- the reply ---------------------------------------------------------------------------------------------------

    def head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Status and headers of the reply are there."""
        self._status, self._headers = status, {name.lower(): value for name, value in headers}
        self._decoder = Decoder(self._headers.get("content-encoding", ""), 1 << 40)
        kind = self._headers.get("content-type", "")
        if 200 <= status < 300 and is_event_stream(kind):
            self._reader = EventReader(kind, LONGEST_EVENT)

    def data(self, data: bytes) -> list[bytes]:
        """The next bytes of the reply; returns the messages that they are."""
        if self.is_done:
            return []
        decoded = self._decoder.feed(data)
        if self._decoder.failed:
            return [self.failed("the reply cannot be decoded")]
        self.unread += len(decoded)
        if self._reader is None:
            self._body += decoded
            return [self.failed("the reply is too long")] if len(self._body) > LONGEST_EVENT else []
        messages = self._messages(self._reader.feed(decoded))
        if messages:
            self.unread = 0
        if not self.is_done and (self._reader.overflow or self._reader.failed):
            messages.append(self.failed("an event of the reply cannot be read, or is too long"))
        return messages

    def end(self, cut: str = "") -> list[bytes]:
        """The reply is over; ``cut``: why it is not all of it. Returns the messages that are left to be sent."""
        if self.is_done:
            return []
        messages = self._messages(self._reader.finish()) if self._reader is not None else []
        if self.is_done:
            return messages
        if cut or self._reader is not None:
            return [*messages, self.failed(cut or "the reply ended before its last event")]
        return self._whole(bytes(self._body))

    def failed(self, why: str) -> bytes:
        """The message that ends a reply which broke off. A client asks again after it, as after a connection."""
        self.is_done = True
        error = {"type": "server_error", "code": "stream_disconnected", "message": f"understudy: {why}", "param": None}
        return error_message(502, error, self.create.lane)

    def _messages(self, events: Iterable[StreamEvent]) -> list[bytes]:
        messages = []
        for event in events:
            if self.is_done:
                break
            data = event.data.strip()
            if not data.startswith(b"{"):
                continue  # [DONE], which says nothing on a socket
            if _ITEM in data:
                self._note_item(data)
            elif not self.response and _CREATED in data:
                self._note_id(data)
            elif _END.search(data):
                data = self._last(data)
            messages.append(self.stamped(data))
        return messages

    def _note_item(self, data: bytes) -> None:
        members = _members(data, ("type", "item"))
        if members.get("type") == b'"response.output_item.done"' and "item" in members:
            self._output.append(members["item"])

    def _note_id(self, data: bytes) -> None:
        response = _members(data, ("response",)).get("response", Raw())
        self.response = _string(_members(response, ("id",)).get("id"))

    def _last(self, data: bytes) -> bytes:
        """Whether this event is the last one; returns it in the form of the socket."""
        members = _members(data, ("type", "response", "error", "code", "message", "param"))
        kind = _string(members.get("type"))
        if kind not in _ENDS:
            return data
        self.is_done = True
        if kind == "error":
            return self._error_event(data, members)
        response = _members(members.get("response", Raw()), ("id", "output"))
        self.response = _string(response.get("id")) or self.response
        if kind in _LASTING:
            self.lasts = True
            with suppress(ValueError):
                self._output = raw_items(response.get("output", Raw())) or self._output
        return data

    def _error_event(self, data: bytes, members: Mapping[str, Raw]) -> bytes:
        """An error in a stream, which HTTP tells flat and without a status; what has one is the socket's form."""
        found = read_json(members.get("error", Raw())) if "error" in members else None
        error = found if isinstance(found, dict) else None
        flat = {name: read_json(members[name]) for name in ("code", "message", "param") if name in members}
        code = str((error or flat).get("code") or "")
        status = _STATUS.get(code, 500)
        if error is None:
            kind = {429: "rate_limit_error", 400: "invalid_request_error"}.get(status, "server_error")
            error = {"type": kind, **flat}
        if "status" in _members(data, ("status",)):
            return data
        return set_json_members(data, {"status": status, "error": error, "code": None, "message": None, "param": None})

    def _whole(self, body: bytes) -> list[bytes]:
        """What a reply that is no stream of events is on a socket."""
        self.is_done = True
        document = read_json(body)
        if 200 <= self._status < 300 and isinstance(document, dict) and document.get("object") == "response":
            return self._whole_response(document, body)
        error: object = document.get("error") if isinstance(document, dict) else None
        more: dict[str, object] = {}
        if not isinstance(error, dict):
            text = error if isinstance(error, str) else None
            if isinstance(document, dict):
                more = {name: value for name, value in document.items() if name not in ("type", "status", "headers")}
                text = text or next((value for value in more.values() if isinstance(value, str)), None)
            elif body.strip():
                text = body.decode("utf-8", "replace").strip()
            kind = "server_error" if self._status >= 500 or self._status < 400 else "invalid_request_error"
            error = {"type": kind, "code": None, "message": (text or "no reason given")[:LONGEST_TEXT], "param": None}
        status = self._status if self._status >= 300 else 502
        return [error_message(status, error, self.create.lane, useful(self._headers), more)]

    def _whole_response(self, document: dict[str, Any], body: bytes) -> list[bytes]:
        rows = document.get("output")
        output = [each for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []
        self.response, self.lasts = str(document.get("id") or ""), document.get("status") != "failed"
        with suppress(ValueError):
            self._output = raw_items(_members(body, ("output",)).get("output", Raw()))
        begun = {**document, "status": "in_progress", "output": []}
        status = document.get("status")
        last = status if status in ("incomplete", "failed") else "completed"
        events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
        events += (
            {"type": "response.output_item.done", "output_index": n, "item": each} for n, each in enumerate(output)
        )
        events.append({"type": f"response.{last}", "response": document})
        return [
            self.stamped(json.dumps({**event, "sequence_number": number}).encode())
            for number, event in enumerate(events)
        ]

    def stamped(self, data: bytes) -> bytes:
        """An event with the name of its lane, where that has one."""
        if self.create.lane is None:
            return data
        rest = data[1:].lstrip()
        comma = b"" if rest.startswith(b"}") else b", "
        return b'{"stream_id": ' + json.dumps(self.create.lane).encode() + comma + rest

    # -- without a call ----------------------------------------------------------------------------------------------

    def warmed_up(self) -> list[bytes]:
        """The answer to ``generate: false``: there is nothing to warm up over HTTP, so no candidate is asked."""
        self.is_done = self.lasts = True
        self.response = OWN_ID + os.urandom(16).hex()
        response: dict[str, object] = {"id": self.response, "object": "response", "model": self.create.model}
        response |= {"output": [], "error": None}
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        begun = {"type": "response.created", "sequence_number": 0, "response": {**response, "status": "in_progress"}}
        last = {"status": "completed", "usage": usage}
        ended = {"type": "response.completed", "sequence_number": 1, "response": {**response, **last}}
        return [self.stamped(json.dumps(each).encode()) for each in (begun, ended)]

    def cancelled(self) -> bytes:
        """The message that a cancelled response ends with."""
        self.is_done = True
        response = {"id": self.response or None, "object": "response", "status": "cancelled"}
        return self.stamped(json.dumps({"type": "response.cancelled", "response": response}).encode())


def error_message(
    status: int,
    error: object,
    lane: str | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> bytes:
    """An error as the socket has it."""
    message: dict[str, object] = {**(more or {}), "type": "error", "status": status, "error": error}
    if lane is not None:
        message["stream_id"] = lane
    if headers:
        message["headers"] = dict(headers)
    return json.dumps(message).encode()


def useful(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a reply that mean something in an event."""
    return {name: value for name, value in headers.items() if name not in _STAYS | _SECRET}


def _members(data: bytes, names: tuple[str, ...]) -> dict[str, Raw]:
    try:
        return raw_members(data, names)
    except ValueError:
        return {}


def _string(raw: Raw | None) -> str:
    value = read_json(raw) if raw else None
    return value if isinstance(value, str) else ""
