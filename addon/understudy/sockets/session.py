"""The rules of one WebSocket on which calls are made: what each message of the client leads to, and in which order.

1. Requests of one lane (``stream_id``; without one, the default lane) run one after another, in the order they came.
2. Lanes run side by side, up to :data:`MOST_ACTIVE` calls at a time; the rest waits, within bounds.
3. A request that goes on from a response of this connection is sent with the whole conversation, so that any candidate
   can answer it. One that goes on from something else keeps its ``previous_response_id``.
4. An error of one request ends that request alone.
5. What cannot be carried over HTTP is refused in the form that the vendor has for it.

Sources: OpenAI, "WebSocket Mode" (lanes, limits, errors) and the reference of its client events; Codex' source for
``response.processed``.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from understudy.codec.events import read_json
from understudy.codec.json_edit import Raw, raw_members, set_json_members
from understudy.sockets.transcripts import Transcripts, items_of
from understudy.sockets.turn import OWN_ID, Create, Turn, error_message

MOST_ACTIVE = 16
"""Calls under way at a time."""
MOST_LANES = 32
"""Names that a connection may give to lanes."""
MOST_WAITING = 64
"""Requests that wait for their turn."""
_LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_WANTED = ("type", "stream_id", "model", "input", "previous_response_id", "generate", "response_id")
BAD_LANE = (
    "The 'stream_id' field must be a non-empty string with at most 256 characters and may only contain letters, "
    "numbers, underscores, hyphens, and periods."
)
NO_STEERING = "understudy serves this connection over HTTP, where a response cannot be steered"


@dataclass(frozen=True, slots=True)
class Say:
    """Send this message."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Make the HTTP call of this turn, and tell the session what comes of it."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call of this turn, as a client does that goes away."""

    turn: Turn


type Action = Say | Ask | HangUp


@dataclass(frozen=True, slots=True)
class Message:
    """What a message of the client says. ``members``: those that matter, None where it is no object.

    ``items``: those of its input, and ``problem`` why there are none; ``answer``: what is said to it in any case.
    """

    text: bytes
    members: dict[str, Raw] | None
    kind: object = None
    items: bytes = b""
    problem: str = ""
    answer: bytes = b""


def read_message(text: bytes) -> Message:
    """Read a message, which takes its time where it is large, in whatever thread."""
    try:
        members = raw_members(text, _WANTED)
        kind = read_json(members.get("type", Raw(b"null")))
    except ValueError:
        return Message(text, None)
    given = members.pop("input", None)
    if kind == "response.steer":
        return Message(text, members, kind, answer=_not_steered(text))
    try:
        return Message(text, members, kind, items_of(given) if kind == "response.create" else b"")
    except ValueError as problem:
        return Message(text, members, kind, problem=str(problem))


def _not_steered(text: bytes) -> bytes:
    """The vendor's own answer for a response that cannot be steered, with the input that it gives back."""
    members = raw_members(text, ("input", "previous_response_id"))
    steer = b", ".join(b'"%s": %s' % (name.encode(), value) for name, value in members.items())
    error = {"type": "invalid_request_error", "code": "steering_not_supported", "message": NO_STEERING}
    event = {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "steer": Raw(b"{" + steer + b"}"),
        "error": error,
    }
    return set_json_members(b"{}", event)


@dataclass
class Lane:
    """The requests of one ``stream_id``. ``latest``: the response that can be gone on from."""

    waiting: deque[Create] = field(default_factory=deque)
    active: Turn | None = None
    lingering: Turn | None = None
    """The one before, when its reply has said its last and does not end."""
    latest: str = ""


class Session:
    """One connection. ``limit``: the most bytes of a request, and of those that wait together."""

    _numbers: ClassVar[itertools.count[int]] = itertools.count(1)

    def __init__(self, transcripts: Transcripts, limit: int) -> None:
        self._transcripts = transcripts
        self._limit = limit
        self._number = next(Session._numbers)
        self._lanes: dict[str | None, Lane] = {None: Lane()}
        self._waiting_bytes = 0

    # -- from the client ---------------------------------------------------------------------------------------------

    def receive(self, text: bytes, message: Message | None = None) -> Iterator[Action]:
        """A message of the client. ``message``: what it says, where it was read already."""
        message = message or read_message(text)
        kind = message.kind
        match kind:
            case _ if message.members is None:
                yield refused("invalid_request", "A message has to be a JSON object.")
            case "response.create":
                yield from self._create(message, message.members)
            case "response.cancel":
                yield from self._cancel(message.members)
            case "response.steer":
                yield Say(message.answer)
            case "response.processed":
                pass  # tells the vendor that it need not keep the response
            case _:
                name = str(kind)[:100] if isinstance(kind, str) else "without a type"
                yield refused("invalid_request", f"understudy does not serve a message {name!r}.", "type")

    def _create(self, message: Message, members: dict[str, Raw]) -> Iterator[Action]:
        lane, text = None, message.text
        if "stream_id" in members:
            name = read_json(members["stream_id"])
            if not isinstance(name, str) or not _LANE.fullmatch(name):
                yield refused("invalid_stream_id", BAD_LANE, "stream_id")
                return
            lane = name
        if lane not in self._lanes:
            if len(self._lanes) > MOST_LANES:
                text_ = (
                    f"This WebSocket connection has reached its maximum number of distinct stream IDs ({MOST_LANES}). "
                    "Reuse an existing stream_id or open a new WebSocket connection."
                )
                yield refused("websocket_stream_limit_reached", text_, "stream_id", lane)
                return
            self._lanes[lane] = Lane()
        previous = read_json(members.get("previous_response_id", Raw(b"null")))
        model = read_json(members.get("model", Raw(b"null")))
        if previous is not None and not isinstance(previous, str):
            yield refused("invalid_request", "`previous_response_id` is not a string.", "previous_response_id", lane)
            return
        if message.problem:
            yield refused("invalid_request", message.problem, "input", lane)
            return
        generates = members.get("generate") != b"false"
        create = Create(lane, text, message.items, model if isinstance(model, str) else "", previous or "", generates)
        if len(self._waiting) >= MOST_WAITING or self._waiting_bytes + len(text) > self._limit:
            yield refused("websocket_queue_full", "Too many requests wait on this connection.", None, lane, 429)
            return
        self._lanes[lane].waiting.append(create)
        self._waiting_bytes += len(text)
        yield from self._go_on()

    @property
    def _waiting(self) -> list[Create]:
        return [create for lane in self._lanes.values() for create in lane.waiting]

    def _cancel(self, members: dict[str, Raw]) -> Iterator[Action]:
        """End what is under way: the response that is named, or that of the lane. The vendor documents no such message
        for this connection; it has the form that it has elsewhere."""
        named = read_json(members.get("response_id", Raw(b"null")))
        name = read_json(members.get("stream_id", Raw(b"null")))
        lanes = (
            self._lanes.values()
            if isinstance(named, str)
            else [self._lanes.get(name if isinstance(name, str) else None)]
        )
        for lane in lanes:
            turn = lane.active if lane is not None else None
            if lane is not None and turn is not None and (not isinstance(named, str) or turn.response == named):
                lane.active = None
                yield HangUp(turn)
                yield Say(turn.cancelled())
                yield from self._go_on()
                return
        yield refused("response_not_active", "No such response is under way on this connection.", "response_id")

    # -- from the calls ----------------------------------------------------------------------------------------------

    def data(self, turn: Turn, data: bytes, messages: Iterable[bytes] | None = None) -> Iterator[Action]:
        """Bytes of the reply of a call. ``messages``: what they are, where they were read already."""
        for message in turn.data(data) if messages is None else messages:
            yield Say(message)
        if turn.is_done:
            yield from self._done(turn)

    def end(self, turn: Turn, cut: str = "", messages: Iterable[bytes] | None = None) -> Iterator[Action]:
        """A call is over; ``cut``: why its reply is not complete. ``messages``: as for :meth:`data`, of its end."""
        for message in turn.end(cut) if messages is None else messages:
            yield Say(message)
        lane = self._lanes[turn.create.lane]
        if lane.lingering is turn:
            lane.lingering = None
        yield from self._done(turn, over=True)

    def close(self) -> Iterator[HangUp]:
        """The connection is over: nothing more is wanted, and nothing is kept."""
        for lane in self._lanes.values():
            for turn in (lane.active, lane.lingering):
                if turn is not None:
                    yield HangUp(turn)
            self._transcripts.drop(self._number, lane.latest)
            lane.waiting.clear()
            lane.active = lane.lingering = None

    def _done(self, turn: Turn, *, over: bool = False) -> Iterator[Action]:
        """The client has the last message of a turn, whose call may not be over yet."""
        lane = self._lanes[turn.create.lane]
        if lane.active is not turn:
            return
        lane.active = None
        self._keep(lane, turn)
        if not over:
            # Most end a moment later, and keep their connection then.
            if lane.lingering is not None:
                yield HangUp(lane.lingering)
            lane.lingering = turn
        yield from self._go_on()

    def _keep(self, lane: Lane, turn: Turn) -> None:
        if not turn.lasts or not turn.response or turn.goes_on_unknown:
            return
        if lane.latest != turn.response:
            self._transcripts.drop(self._number, lane.latest)
        kept = self._transcripts.put(self._number, turn.response, turn.transcript)
        lane.latest = turn.response if kept else ""

    def _go_on(self) -> Iterator[Action]:
        """Begin what can begin."""
        for lane in list(self._lanes.values()):
            while lane.waiting and lane.active is None and self._active < MOST_ACTIVE:
                create = lane.waiting.popleft()
                self._waiting_bytes -= len(create.text)
                yield from self._begin(lane, create)

    @property
    def _active(self) -> int:
        return sum(lane.active is not None for lane in self._lanes.values())

    def _begin(self, lane: Lane, create: Create) -> Iterator[Action]:
        earlier: bytes | None = b""
        if create.previous:
            earlier = self._transcripts.get(self._number, create.previous)
            if earlier is None and (create.previous.startswith(OWN_ID) or not create.generates):
                what = f"Previous response with id '{create.previous[:200]}' not found."
                yield refused("previous_response_not_found", what, "previous_response_id", create.lane)
                return
        turn = Turn(create, earlier)
        if len(turn.items) > self._limit:
            what = f"The conversation is larger than {self._limit} bytes."
            yield refused("request_too_large", what, "input", create.lane, 413)
        elif not create.generates:
            for message in turn.warmed_up():
                yield Say(message)
            self._keep(lane, turn)
        else:
            lane.active = turn
            yield Ask(turn)


def refused(code: str, message: str, param: str | None = None, lane: str | None = None, status: int = 400) -> Say:
    """An error that the connection itself has."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    error = {"type": kind, "code": code, "message": message, "param": param}
    return Say(error_message(status, error, lane))
