"""The rules of a connection: E07 without a socket. Messages in; calls, messages and ends out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.sockets.session import MOST_ACTIVE, MOST_LANES, MOST_WAITING, Action, Ask, HangUp, Say, Session
from understudy.sockets.transcripts import SECONDS, Transcripts
from understudy.sockets.turn import OWN_ID, Turn

LIMIT = 100_000
SSE = [("content-type", "text/event-stream")]


class Stage:
    """A connection, with what it wanted in order."""

    def __init__(self, transcripts: Transcripts | None = None) -> None:
        self.now = 1000.0
        self.transcripts = transcripts or Transcripts(lambda: self.now)
        self.session = Session(self.transcripts, LIMIT)
        self.asked: list[Turn] = []
        self.bodies: list[bytes] = []
        self.said: list[dict[str, Any]] = []
        self.hung_up: list[Turn] = []

    def do(self, actions: Any) -> None:
        """Remember what is wanted."""
        action: Action
        for action in actions:
            match action:
                case Say(text=text):
                    self.said.append(json.loads(text))
                case Ask(turn=turn):
                    self.asked.append(turn)
                    self.bodies.append(turn.body())
                case HangUp(turn=turn):
                    self.hung_up.append(turn)

    def send(self, kind: str = "response.create", **members: Any) -> None:
        """A message of the client."""
        self.do(self.session.receive(json.dumps({"type": kind, **members}).encode()))

    def create(self, text: str, **members: Any) -> None:
        """A request with one message in it."""
        self.send(model="m", input=[user(text)], **members)

    def body(self, number: int = -1) -> dict[str, Any]:
        """The body of a call."""
        found = json.loads(self.bodies[number])
        assert isinstance(found, dict)
        return found

    def answer(self, response: str, *items: dict[str, Any], number: int = -1, over: bool = True) -> None:
        """The whole stream of a call."""
        turn = self.asked[number]
        turn.head(200, SSE)
        for event in stream(response, *items):
            self.do(self.session.data(turn, event))
        if over:
            self.do(self.session.end(turn))

    @property
    def last(self) -> dict[str, Any]:
        """The last message."""
        return self.said[-1]

    @property
    def code(self) -> str:
        """The code of the error that was said last."""
        assert self.last["type"] == "error"
        found = self.last["error"]["code"]
        assert isinstance(found, str)
        return found


def user(text: str) -> dict[str, Any]:
    """A message of the user."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def message(text: str) -> dict[str, Any]:
    """A message of the model."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": f"msg_{text}", "role": "assistant", "content": [part]}


def sse(event: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def stream(response: str, *items: dict[str, Any], last: str = "response.completed") -> list[bytes]:
    """The events of a response with these items, which its last event does not repeat, as ChatGPT's backend has it."""
    head = {"id": response, "object": "response"}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {**head, "status": "in_progress"}}]
    events += ({"type": "response.output_item.done", "output_index": n, "item": item} for n, item in enumerate(items))
    return [*map(sse, [*events, {"type": last, "response": {**head, "output": []}}]), b"data: [DONE]\n\n"]


def test_e07_a_request_becomes_the_body_of_a_call() -> None:
    """E07: without what is a socket's alone; everything else identical to the byte."""
    stage = Stage()
    text = b'{"type": "response.create", "model":"m",  "input":"hi", "temperature":1.0, "background": false}'
    stage.do(stage.session.receive(text))
    assert stage.bodies == [b'{"stream": true,  "model":"m",  "input":"hi", "temperature":1.0}']


def test_e07_a_conversation_goes_on_from_what_passed() -> None:
    """E07: a request with `previous_response_id` is sent with the whole conversation, so that anybody can answer it."""
    stage = Stage()
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
    thought = {"type": "reasoning", "id": "rs_1", "encrypted_content": "sealed", "summary": []}
    stage.create("one", store=False)
    stage.answer("resp_1", thought, call)
    result = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    stage.send(model="m", input=[result], previous_response_id="resp_1", store=False)
    assert stage.body()["input"] == [user("one"), thought, call, result]
    assert "previous_response_id" not in stage.body()
    assert stage.body()["store"] is False
    stage.answer("resp_2", message("two"))
    stage.create("three", previous_response_id="resp_2")
    assert stage.body()["input"] == [user("one"), thought, call, result, message("two"), user("three")]
    assert len(stage.transcripts) == 1


def test_e07_a_text_is_gone_on_from_as_a_message() -> None:
    stage = Stage()
    stage.send(model="m", input="one")
    stage.answer("resp_1", message("a"))
    stage.send(model="m", input="two", previous_response_id="resp_1")
    assert stage.body()["input"] == [
        {"role": "user", "content": "one"},
        message("a"),
        {"role": "user", "content": "two"},
    ]


def test_e07_reasoning_that_only_its_account_knows_is_left_out() -> None:
    """E07: without its encrypted content it is an id, and what came with it then has none either."""
    stage = Stage()
    stage.create("one")
    stage.answer("resp_1", {"type": "reasoning", "id": "rs_1", "summary": []}, message("a"))
    stage.create("two", previous_response_id="resp_1")
    kept = {name: value for name, value in message("a").items() if name != "id"}
    assert stage.body()["input"] == [user("one"), kept, user("two")]


def test_e07_what_is_not_known_here_keeps_its_id() -> None:
    """E07: a stored response of another connection is for its vendor to know; what follows from it as well."""
    stage = Stage()
    stage.create("one", previous_response_id="resp_elsewhere")
    assert stage.body()["previous_response_id"] == "resp_elsewhere"
    assert stage.body()["input"] == [user("one")]
    stage.answer("resp_1", message("a"))
    stage.create("two", previous_response_id="resp_1")
    assert stage.body()["previous_response_id"] == "resp_1"


def test_e07_a_warm_up_costs_nothing_and_can_be_gone_on_from() -> None:
    """E07: `generate: false` is answered here; its id is never shown to a vendor."""
    stage = Stage()
    stage.create("tools", generate=False)
    assert [each["type"] for each in stage.said] == ["response.created", "response.completed"]
    warm = stage.last["response"]["id"]
    assert warm.startswith(OWN_ID)
    assert stage.asked == []
    stage.create("go", previous_response_id=warm)
    assert stage.body()["input"] == [user("tools"), user("go")]
    stage.answer("resp_1", message("a"))
    stage.create("again", previous_response_id=warm)
    assert stage.code == "previous_response_not_found"  # the lane has gone on from it
    assert len(stage.asked) == 1


def test_e07_another_connection_knows_nothing_of_it() -> None:
    """E07: what passed on one connection is not gone on from on another, nor after the connection is over."""
    stage = Stage()
    stage.create("secret", generate=False)
    other = Stage(stage.transcripts)
    other.create("more", previous_response_id=stage.last["response"]["id"])
    assert other.code == "previous_response_not_found"
    stage.do(stage.session.close())
    assert len(stage.transcripts) == 0


def test_what_is_remembered_is_bounded_in_bytes_and_time() -> None:
    """Law 10: of all connections together, and for an hour."""
    now = 0.0
    transcripts = Transcripts(lambda: now, most=20_000)
    assert not transcripts.put(1, "resp_large", b"x" * 6000)
    for number in range(100):
        assert transcripts.put(number, "resp", b"x" * 1000)
    assert 10 < len(transcripts) < 20
    assert transcripts.get(99, "resp") == b"x" * 1000
    assert transcripts.get(0, "resp") is None
    now = SECONDS + 1
    assert transcripts.get(99, "resp") is None


def test_requests_of_a_lane_run_one_after_another() -> None:
    """E07: also when the second goes on from the first, which is not there yet when it is sent."""
    stage = Stage()
    stage.create("one")
    stage.create("two", previous_response_id="resp_1")
    assert len(stage.asked) == 1
    stage.answer("resp_1", message("a"))
    assert stage.body()["input"] == [user("one"), message("a"), user("two")]


def test_lanes_run_side_by_side_and_their_events_say_which_one() -> None:
    """E07: `stream_id` is in every event of a named lane, and in none of the default lane; never in a call."""
    stage = Stage()
    stage.create("plan", stream_id="planner")
    stage.create("ask")
    assert len(stage.asked) == 2
    assert "stream_id" not in stage.body(0)
    stage.answer("resp_p", message("p"), number=0)
    assert {each["stream_id"] for each in stage.said} == {"planner"}
    said = len(stage.said)
    stage.answer("resp_q", message("q"), number=1)
    assert not any("stream_id" in each for each in stage.said[said:])
    # A fork: another lane goes on from the latest of this one, which goes on itself.
    stage.create("critic", stream_id="critic", previous_response_id="resp_p")
    stage.create("more", stream_id="planner", previous_response_id="resp_p")
    assert [stage.body(number)["input"][:2] for number in (-2, -1)] == [[user("plan"), message("p")]] * 2


def test_calls_at_a_time_names_and_waiting_requests_are_bounded() -> None:
    """E07, law 10: 16 calls, 32 names, 64 waiting requests; what is above the first waits, the rest is refused."""
    stage = Stage()
    for number in range(MOST_LANES):
        stage.create("x", stream_id=f"lane-{number}")
    assert len(stage.asked) == MOST_ACTIVE
    stage.create("x", stream_id="one-more")
    assert stage.code == "websocket_stream_limit_reached"
    assert stage.last["stream_id"] == "one-more"
    stage.answer("resp_0", message("a"), number=0)
    assert len(stage.asked) == MOST_ACTIVE + 1
    for _ in range(MOST_WAITING):
        stage.create("x")
    assert stage.code == "websocket_queue_full"
    assert stage.last["status"] == 429
    big = Stage()
    big.create("x")
    big.create("y" * (LIMIT // 2))
    big.create("z" * (LIMIT // 2))
    assert big.code == "websocket_queue_full"


def test_a_conversation_that_is_too_large_is_refused() -> None:
    stage = Stage()
    stage.create("x" * (LIMIT // 2))
    stage.answer("resp_1", message("a"))
    stage.create("y" * (LIMIT // 2), previous_response_id="resp_1")
    assert (stage.code, stage.last["status"]) == ("request_too_large", 413)
    assert len(stage.asked) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"hello", "invalid_request"),
        (b"[]", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"type": 7}', "invalid_request"),
        (b'{"type": "session.update"}', "invalid_request"),
        (b'{"type": "response.create", "stream_id": ""}', "invalid_stream_id"),
        (b'{"type": "response.create", "stream_id": "a b"}', "invalid_stream_id"),
        (b'{"type": "response.create", "input": 7}', "invalid_request"),
        (b'{"type": "response.create", "previous_response_id": 7}', "invalid_request"),
        (b'{"type": "response.cancel"}', "response_not_active"),
    ],
)
def test_what_cannot_be_served_is_refused_and_the_connection_goes_on(text: bytes, code: str) -> None:
    """E07: errors have the socket's own form."""
    stage = Stage()
    stage.do(stage.session.receive(text))
    assert stage.code == code
    assert stage.last["status"] == 400
    assert stage.last["error"]["type"] == "invalid_request_error"
    stage.create("hi")
    assert len(stage.asked) == 1


def test_what_codex_says_of_a_response_is_heard_without_an_answer() -> None:
    stage = Stage()
    stage.send("response.processed", response_id="resp_1")
    assert (stage.said, stage.asked) == ([], [])


def test_steering_gives_the_input_back() -> None:
    """The vendor's own answer where a response cannot be steered."""
    stage = Stage()
    stage.create("one")
    stage.send("response.steer", previous_response_id="resp_1", input=[user("no, two")])
    assert stage.last["type"] == "response.steer.failed"
    assert stage.last["error"]["code"] == "steering_not_supported"
    assert stage.last["steer"] == {"previous_response_id": "resp_1", "input": [user("no, two")]}
    assert stage.hung_up == []


@pytest.mark.parametrize("named", [{}, {"response_id": "resp_1"}])
def test_a_cancelled_response_ends_its_call_and_the_next_request_begins(named: dict[str, str]) -> None:
    stage = Stage()
    stage.create("one")
    stage.create("two")
    [turn] = stage.asked
    turn.head(200, SSE)
    stage.do(stage.session.data(turn, stream("resp_1")[0]))
    stage.send("response.cancel", **named)
    assert stage.hung_up == [turn]
    assert stage.last["response"] == {"id": "resp_1", "object": "response", "status": "cancelled"}
    assert len(stage.asked) == 2
    said = len(stage.said)
    stage.do(stage.session.data(turn, stream("resp_1", message("late"))[1]))
    stage.do(stage.session.end(turn))
    assert len(stage.said) == said


def test_a_reply_that_says_its_last_and_does_not_end_holds_up_nobody() -> None:
    """The lane goes on at the last event; the call that lingers is ended when the next one has said its last, too."""
    stage = Stage()
    stage.create("one")
    stage.create("two", previous_response_id="resp_1")
    stage.answer("resp_1", message("a"), over=False)
    assert len(stage.asked) == 2
    assert stage.hung_up == []
    stage.answer("resp_2", message("b"), over=False)
    assert stage.hung_up == [stage.asked[0]]
    stage.do(stage.session.close())
    assert stage.hung_up == stage.asked


def test_the_end_of_the_connection_ends_its_calls() -> None:
    stage = Stage()
    stage.create("one", stream_id="a")
    stage.create("two")
    stage.create("three")
    stage.do(stage.session.close())
    assert set(stage.hung_up) == set(stage.asked)
    assert len(stage.asked) == 2
    assert stage.said == []


@given(st.lists(st.sampled_from(["create", "create a", "answer", "fail", "cut", "cancel", "warm"]), max_size=30))
def test_whatever_happens_each_request_ends_once(steps: list[str]) -> None:
    """A state machine in small: what was asked is answered, in the order of its lane, and nothing is left over."""
    stage = Stage()
    open_: list[Turn] = []
    wanted = 0
    for number, step in enumerate(steps):
        before = len(stage.asked)
        match step:
            case "create" | "create a":
                wanted += 1
                stage.create(str(number), **({"stream_id": "a"} if step == "create a" else {}))
            case "warm":
                stage.create(str(number), generate=False, stream_id="warm")
            case "cancel":
                stage.send("response.cancel")
                open_ = [turn for turn in open_ if turn not in stage.hung_up]
            case _ if open_:
                turn = open_.pop(0)
                turn.head(*((503, []) if step == "fail" else (200, SSE)))
                for event in stream(f"resp_{number}", message("x"))[: 2 if step == "cut" else None] * (step != "fail"):
                    stage.do(stage.session.data(turn, event))
                stage.do(stage.session.end(turn, "cut" if step == "cut" else ""))
        open_ += [turn for turn in stage.asked[before:] if turn not in stage.hung_up]
    assert len(stage.asked) == len({id(turn) for turn in stage.asked}) <= wanted
    ends = ("response.completed", "response.cancelled", "error")
    ended = [each for each in stage.said if each["type"] in ends and each.get("stream_id") != "warm"]
    refused = [each for each in ended if each["type"] == "error" and each["error"]["code"] == "response_not_active"]
    assert len(ended) - len(refused) == len(stage.asked) - len(open_)
    assert all(turn.is_done for turn in stage.asked if turn not in open_)
    assert {turn.create.lane for turn in open_} == {turn.create.lane for turn in stage.asked if not turn.is_done}
