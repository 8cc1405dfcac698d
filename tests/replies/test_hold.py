"""A reply that is held: when it is decided, and what there is to judge."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bounds import no_hang
from tests.support.decisions import candidate, upstream
from understudy.dialects import DIALECTS, Call, Kind, Progress
from understudy.dialects.base import Endpoint
from understudy.model import HoldUntil
from understudy.replies.hold import (
    BODY_LIMIT,
    COMPLETE_LIMIT,
    EVENT_LIMIT,
    STREAM_LIMIT,
    TAIL_LIMIT,
    Held,
    Hold,
    Secret,
    Tail,
)
from understudy.replies.reply import Fault, FaultKind
from understudy.replies.statement import NOTHING_STATED
from understudy.requests.sites import Recognised

SECRET = "sk-secret-0123456789"
PATHS = {
    "openai": "/chat/completions",
    "responses": "/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/gemini-pro:streamGenerateContent",
}
SSE = [("Content-Type", "text/event-stream; charset=utf-8")]
JSON = [("content-type", "application/json")]


def hold(kind: str = "openai", *, streamed: bool = True) -> Hold:
    """A hold for a call of this dialect."""
    dialect = DIALECTS["openai" if kind == "responses" else kind]
    endpoint = dialect.endpoint("POST", PATHS[kind])
    assert endpoint is not None
    recognised = Recognised(dialect, endpoint, PATHS[kind], "")
    return Hold(
        recognised, Call("alias", streamed), candidate("a", at=upstream(dialect=dialect.name)), Secret("a", SECRET)
    )


def fed(held: Hold, chunks: Sequence[bytes], headers: Sequence[tuple[str, str]] = SSE, status: int = 200) -> Held:
    """Feed a reply until it is decided; its end comes after the last chunk."""
    state = held.start(status, headers)
    for chunk in chunks:
        if state is not Held.MORE:
            return state
        state = held.data(chunk)
    return state if state is not Held.MORE else held.end()


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def chat(**delta: str) -> bytes:
    return event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})


# -- what needs a decision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422, 429, 500, 503, 529])
def test_an_error_is_held_whole(status: int) -> None:
    """S01: not 2xx: the whole body, also of a streamed request, also when it claims to be a stream."""
    for headers in (JSON, SSE, [], [("content-type", "text/html")]):
        held = hold()
        assert held.start(status, headers) is Held.MORE
        assert held.data(b'{"error":') is Held.MORE
        assert held.data(b' {"code": "x"}}') is Held.MORE
        assert held.end() is Held.REPLY
        reply = held.reply()
        assert (reply.status, reply.body) == (status, b'{"error": {"code": "x"}}')
        assert (reply.host, reply.model, reply.alias, reply.dialect) == ("openai.example", "m1", "alias", "openai")


def test_a_json_success_is_held_whole() -> None:
    """F11: a 200 with a top-level error object is a reply to judge like any other."""
    held = hold(streamed=False)
    assert fed(held, [b'{"error": {"message": "no such model"}}'], JSON) is Held.REPLY
    assert held.reply().errors
    assert fed(hold(streamed=False), [b"{}"], [("Content-Type", "application/problem+json")]) is Held.REPLY


@pytest.mark.parametrize("content_type", ["audio/mpeg", "image/png", "video/mp4", "application/octet-stream"])
def test_a_success_of_another_kind_needs_no_decision_but_its_first_byte(content_type: str) -> None:
    """A01: a 200 with nothing is no answer; the first byte of a sound is one."""
    headers = [("content-type", content_type)]
    assert fed(hold(), [b"\xff\xfb"], headers) is Held.OUTPUT
    held = hold()
    assert held.start(200, headers) is Held.MORE
    assert held.end() is Held.REPLY
    assert held.reply().lack == "an empty body"


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "application/xml", ""])
def test_a_success_that_is_text_is_held_to_its_end(content_type: str) -> None:
    """A01: a login page, or a sentence, where JSON belongs."""
    for body, lack in ((b"<!doctype html><title>Log in</title>", "a page"), (b"Service starting", "neither JSON")):
        held = hold(streamed=False)
        assert fed(held, [body[:9], body[9:]], [("content-type", content_type)] if content_type else []) is Held.REPLY
        assert held.reply().lack.startswith(lack)
    answer = json.dumps({"choices": [{"message": {"content": "Hi"}}]}).encode()
    held = hold(streamed=False)
    assert fed(held, [answer], [("content-type", content_type)]) is Held.REPLY
    assert held.reply().lack == ""
    # Servers that send a stream under another type are read as what they send.
    held = hold()
    assert fed(held, [chat(role="assistant"), chat(content="Hi")], [("content-type", content_type)]) is Held.OUTPUT
    assert held.live


# -- streams -----------------------------------------------------------------------------------------------------

ERRORS = [
    ("anthropic", [event({"type": "message_start", "message": {"content": []}}, "message_start")],
     event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error"), "error"),
    ("responses", [event({"type": "response.created", "response": {"status": "in_progress"}}, "response.created")],
     event({"type": "response.failed", "response": {"error": {"code": "server_error"}}}, "response.failed"),
     "response.failed"),
    ("openai", [b": keep-alive\n\n", chat(role="assistant", content="")],
     event({"error": {"message": "at capacity", "code": 503}}), "error"),
    ("gemini", [event({"candidates": []})], event({"error": {"code": 503, "status": "UNAVAILABLE"}}), "error"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "before", "error", "name"), ERRORS, ids=[each[0] for each in ERRORS])
def test_an_error_before_output_is_a_reply(kind: str, before: list[bytes], error: bytes, name: str) -> None:
    """S02: 200 + `event: error`, `response.failed` after `response.created`, `data: {"error":..}`, Gemini's SSE."""
    held = hold(kind)
    assert fed(held, [*before, error]) is Held.REPLY
    reply = held.reply()
    assert (reply.status, reply.event, reply.fault) == (200, name, None)
    assert reply.errors
    assert reply.body in error


def test_an_error_as_an_element_of_an_array_is_a_reply() -> None:
    """S02: Gemini without `alt=sse` streams one JSON array."""
    held = hold("gemini")
    error = b'{"error": {"code": 503, "status": "UNAVAILABLE"}}'
    assert fed(held, [b"", b' [{"candidates": []}\n', b"," + error[:20], error[20:]], JSON) is Held.REPLY
    assert held.live
    assert held.reply().body == error


@pytest.mark.parametrize("kind", PATHS)
def test_real_output_ends_the_hold(kind: str) -> None:
    """S03: an error after real output is not the hold's business any more."""
    output = {
        "openai": chat(content="Hi"),
        "responses": event({"type": "response.output_text.delta", "delta": "Hi"}),
        "anthropic": event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}),
        "gemini": event({"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}),
    }[kind]
    error = next(each[2] for each in ERRORS if each[0] == kind)
    assert fed(hold(kind), [output + error]) is Held.OUTPUT
    assert fed(hold(kind), [error + output]) is Held.REPLY


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(("kind", "before", "error", "name"), ERRORS, ids=[each[0] for each in ERRORS])
def test_where_the_bytes_are_split_makes_no_difference(
    kind: str, before: list[bytes], error: bytes, name: str, line_end: bytes
) -> None:
    """S05: split at any byte, CRLF or LF: same verdict."""
    stream = b"".join([*before, error]).replace(b"\n", line_end)
    for at in range(len(stream) + 1):
        held = hold(kind)
        assert fed(held, [stream[:at], stream[at:]]) is Held.REPLY
        assert (held.reply().event, bool(held.reply().errors)) == (name, True)
    assert fed(hold(kind), [stream[at : at + 1] for at in range(len(stream))]) is Held.REPLY


@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [b": ping\n\n"], [chat(role="assistant")], [b"\n\n"]],
    ids=["none", "empty", "ping", "role", "blank"],
)
def test_a_stream_that_ends_without_output_is_a_fault(chunks: list[bytes]) -> None:
    """S06: an empty stream or an immediate close is judged as a fault, so that B answers."""
    held = hold()
    assert fed(held, chunks) is Held.REPLY
    reply = held.reply()
    assert reply.fault is not None
    assert (reply.status, reply.fault.kind, reply.fault.sent) == (0, FaultKind.EMPTY, True)


@pytest.mark.parametrize("chunks", [[], [b" \n"], [b"[]"], [b"["]])
def test_an_array_that_ends_without_output_is_a_fault(chunks: list[bytes]) -> None:
    """S06: Gemini's JSON array, too."""
    held = hold("gemini")
    assert fed(held, chunks, JSON) is Held.REPLY
    fault = held.reply().fault
    assert fault is not None
    assert fault.kind is FaultKind.EMPTY


def test_a_last_event_without_its_empty_line_counts() -> None:
    """S02: some servers close right after the error's line."""
    held = hold()
    assert fed(held, [b'data: {"error": {"message": "at capacity"}}']) is Held.REPLY
    assert (held.reply().fault, held.reply().status) == (None, 200)
    assert fed(hold(), [chat(content="Hi").rstrip(b"\n")]) is Held.OUTPUT


def test_a_flood_of_lifecycle_events_ends_the_hold() -> None:
    """S07: at the bound of events the reply is released."""
    held = hold()
    held.start(200, SSE)
    states = [held.data(chat(role="assistant")) for _ in range(EVENT_LIMIT)]
    assert states == [Held.MORE] * (EVENT_LIMIT - 1) + [Held.BOUND]


def test_a_flood_of_bytes_ends_the_hold() -> None:
    """S07: at the bound of bytes the reply is released, whether they are comments or one endless event."""
    for piece in (b": " + b"x" * 1021 + b"\n", b"x" * 1024, b"data: " + b"x" * 1017 + b"\n"):
        held = hold()
        held.start(200, SSE)
        states = [held.data(piece) for _ in range(STREAM_LIMIT // 1024)]
        assert states[-1] is Held.BOUND
        assert states[:-2] == [Held.MORE] * (len(states) - 2)
        assert len(held.body) <= STREAM_LIMIT + len(piece)


def test_a_compressed_flood_is_bounded_by_what_it_stands_for() -> None:
    """S07, S08: a few bytes that decode to a megabyte end the hold as well."""
    held = hold()
    held.start(200, [*SSE, ("Content-Encoding", "gzip")])
    assert held.data(gzip.compress(b": ping\n" * 1_000_000)) is Held.BOUND
    assert len(held.body) <= BODY_LIMIT


def test_a_body_ends_the_hold_at_its_bound() -> None:
    """S07: law 10: a body of a megabyte is released, whatever its status."""
    for status in (200, 500):
        held = hold(streamed=False)
        held.start(status, JSON)
        assert held.data(b"x" * (BODY_LIMIT - 1)) is Held.MORE
        assert held.data(b"x") is Held.BOUND


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP "])
def test_a_compressed_stream_is_judged_decoded(encoding: str) -> None:
    """S08: judged as what it stands for."""
    plain = chat(role="assistant") + event({"error": {"message": "at capacity"}})
    packed = zlib.compress(plain) if encoding == "deflate" else gzip.compress(plain)
    held = hold()
    assert fed(held, [packed[:7], packed[7:]], [*SSE, ("Content-Encoding", encoding)]) is Held.REPLY
    assert held.encoded
    assert held.reply().errors[0].message == "at capacity"


def test_what_cannot_be_decoded_is_released() -> None:
    """Law 9: an unknown or broken encoding is not recognised, and so passes untouched."""
    assert fed(hold(), [b"xyz"], [*SSE, ("content-encoding", "sdch")]) is Held.BOUND
    assert fed(hold(), [b"not gzip at all"], [*SSE, ("content-encoding", "gzip")]) is Held.BOUND
    held = hold("gemini")
    assert fed(held, [b"xyz"], [*JSON, ("content-encoding", "sdch")]) is Held.REPLY
    assert (held.reply().status, held.reply().fault) == (200, None)


def test_an_array_that_is_no_stream_of_events_is_no_answer() -> None:
    """A01: other JSON: no fault of the transport, but nothing that answers the call."""
    held = hold("gemini")
    assert fed(held, [b"[1, 2, 3]"], JSON) is Held.REPLY
    assert (held.reply().fault, held.reply().lack) == (None, "no JSON object")


@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(sorted(PATHS)), st.sampled_from([200, 400]))
def test_no_bytes_make_the_hold_fail(chunks: list[bytes], kind: str, status: int) -> None:
    """S05: hostile bytes: every reply comes to a decision, and there is something to judge."""
    for headers in (SSE, JSON):
        held = hold(kind)
        assert fed(held, chunks, headers, status) is not Held.MORE
        assert held.reply().text is not None


# -- secrets -----------------------------------------------------------------------------------------------------


def test_an_echoed_secret_is_not_judged() -> None:
    """R06: what is judged, and so every evidence, shows the placeholder."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}}).encode()
    held = hold(streamed=False)
    fed(held, [body[:60], body[60:]], JSON, 401)
    assert SECRET not in held.reply().text
    assert "<understudy:a>" in held.reply().text
    streamed = hold()
    fed(streamed, [event({"error": {"message": SECRET}})])
    assert SECRET not in streamed.reply().text
    fault = held.fault(Fault(FaultKind.CLOSED, f"bad header {SECRET}", sent=True)).fault
    assert fault is not None
    assert SECRET not in fault.message


def test_every_secret_of_a_tool_is_masked() -> None:
    """R06: where the tool's own credential is echoed, whichever of its forms it is."""
    secret = Secret("client", "", ("sk-first-0123456789", "second-0123456789"))
    assert secret.mask("a sk-first-0123456789 b second-0123456789") == "a <understudy:client> b <understudy:client>"
    assert secret.mask(b"sk-first-0123456789") == b"<understudy:client>"
    assert repr(secret) == "Secret(name='client')"


def test_a_secret_is_in_no_repr() -> None:
    """R07: neither of the secret itself nor of what holds it."""
    held = hold()
    assert SECRET not in repr(held.secret)
    assert SECRET not in repr(held)


def test_a_fault_is_a_reply_without_a_status() -> None:
    reply = hold().fault(Fault(FaultKind.CONNECT, "x" * 1000, sent=False))
    assert reply.status == 0
    assert reply.fault is not None
    assert len(reply.fault.message) == 500


# -- the tail ----------------------------------------------------------------------------------------------------


def live(kind: str = "openai", headers: Sequence[tuple[str, str]] = SSE) -> Hold:
    """The hold of a stream that was released."""
    held = hold(kind)
    held.start(200, headers)
    return held


def tail(*chunks: bytes) -> Tail:
    kept = Tail()
    for chunk in chunks:
        kept.append(chunk)
    return kept


def test_the_terminal_event_is_seen_at_the_end() -> None:
    """F14: law 4: a success is proven by the terminal event."""
    ending = chat(content="bye") + event("[DONE]")
    for size in (1, 7, len(ending)):
        chunks = [ending[at : at + size] for at in range(0, len(ending), size)]
        assert tail(*chunks).last(live())[0] is Progress.DONE
    assert tail(event({"type": "message_stop"}, "message_stop")).last(live("anthropic"))[0] is Progress.DONE


def test_an_end_that_says_nothing_is_neutral() -> None:
    assert tail().last(live())[0] is Progress.LIFECYCLE
    assert tail(chat(content="Hi")).last(live())[0] is Progress.LIFECYCLE
    # What is said to be compressed is not read at all.
    assert tail(event("[DONE]")).last(live(headers=[*SSE, ("content-encoding", "gzip")]))[0] is Progress.LIFECYCLE


def test_an_error_at_the_end_is_seen() -> None:
    """S03: an error after real output: what it says can be judged, its echo of a secret is masked."""
    held = live()
    progress, found = tail(chat(content="Hi"), event({"error": {"message": f"overloaded {SECRET}"}})).last(held)
    assert progress is Progress.ERROR
    assert found is not None
    reply = held.ending(found)
    assert reply.errors[0].message == "overloaded <understudy:a>"
    assert (reply.status, reply.event) == (200, "error")


@pytest.mark.parametrize("size", [100, 5000, TAIL_LIMIT + 1, 3 * TAIL_LIMIT])
def test_the_tail_is_bounded_and_keeps_the_end(size: int) -> None:
    """Law 10: 256 KiB and at most one chunk more, however the stream came."""
    stream = chat(content="x" * 100) * 4000 + event("[DONE]")
    kept = tail(*(stream[at : at + size] for at in range(0, len(stream), size)))
    assert kept._size < TAIL_LIMIT + size
    assert kept.last(live())[0] is Progress.DONE


@pytest.mark.parametrize("size", [500, 20_000, 200_000, TAIL_LIMIT, 2 * TAIL_LIMIT])
def test_a_long_last_event_is_seen(size: int) -> None:
    """F14: OpenAI's last event repeats tools, instructions and the output, or is a picture; nothing else is as long."""
    response = {"id": "resp_1", "status": "completed", "tools": [{"description": "d" * size}]}
    last = event({"type": "response.completed", "response": response}, "response.completed")
    held = hold("responses")
    held.start(200, SSE)
    before = event({"type": "response.output_text.delta", "delta": "Hi"}, "response.output_text.delta") * 3000
    for chunks in ([before, last], [(before + last)[at : at + 1400] for at in range(0, len(before + last), 1400)]):
        assert tail(*chunks).last(held)[0] is Progress.DONE


def test_the_end_of_an_array_is_seen() -> None:
    """F14: Gemini without alt=sse: the last element says that it is over."""
    element = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]}
    last = {"candidates": [{"content": {"parts": [{"text": "."}]}, "finishReason": "STOP"}]}
    held = hold("gemini")
    held.start(200, [("content-type", "application/json")])
    held.data(b"[" + json.dumps(element, indent=2).encode())
    assert held.live
    for elements, progress in (([element, last], Progress.DONE), ([last, element], Progress.LIFECYCLE)):
        whole = "[" + "\n,\r\n".join(json.dumps(each, indent=2) for each in elements) + "\n]\n"
        assert (tail(whole.encode()).last(held)[0] is Progress.DONE) is (progress is Progress.DONE)
        assert tail(whole.encode()[:-3]).last(held)[0] is not Progress.DONE


def test_a_quoted_end_is_not_the_end() -> None:
    """S04: the model spoke of the end of a stream; wherever the kept bytes begin, that is no terminal event."""
    after = chat(content="x")
    for padding in range(TAIL_LIMIT - 60 - len(after), TAIL_LIMIT):
        text = "event: error data: [DONE]" + "x" * padding
        assert tail(chat(content=text), after).last(live())[0] is not Progress.DONE
        delta = event(
            {"type": "content_block_delta", "delta": {"text": text.replace("[DONE]", '{"type": "message_stop"}')}}
        )
        assert tail(delta, delta[-100:] + after).last(live("anthropic"))[0] is not Progress.DONE


def test_white_space_that_comes_by_the_byte_is_looked_at_once() -> None:
    """H02: whether a stream is an array was looked for in all that had come, with every byte that came."""
    held = hold("gemini")
    held.start(200, [("content-type", "application/json")])
    with no_hang():
        for _ in range(300_000):
            assert held.data(b" ") is Held.MORE
    held.data(b'[{"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}')
    assert held.has_output


def test_law_10_a_body_that_cannot_be_decoded_is_bounded_by_what_came() -> None:
    """Law 10: nothing comes out of a decoder that has failed, so the bytes on the wire are what is counted."""
    held = hold(streamed=False)
    held.start(500, [("content-type", "application/json"), ("content-encoding", "gzip")])
    assert held.data(b"\xff" * (BODY_LIMIT - 1)) is Held.MORE
    assert held.body == b""
    assert held.data(b"\xff") is Held.BOUND
    assert held.outgrown


def test_hold_complete_ends_at_eight_mebibytes() -> None:
    """S12: over the bound a reply is released live from there."""
    held = whole_hold()
    held.start(200, [("content-type", "application/json")])
    piece = b"x" * (1 << 20)
    assert [held.data(piece) for _ in range(7)] == [Held.MORE] * 7
    assert held.data(piece) is Held.BOUND


def test_a_blank_line_is_no_event_of_a_tail() -> None:
    """S03: what is left of a released stream may begin with the end of an event that was cut off."""
    tail = Tail()
    tail.append(b"\n\n")
    held = hold()
    assert tail.last(held)[0] is Progress.LIFECYCLE
    tail.append(b"data: [DONE]\n\n")
    assert tail.last(held)[0] is Progress.DONE


def whole_hold() -> Hold:
    """A hold to the very end."""
    usual = hold(streamed=False)
    recognised = Recognised(usual.dialect, usual.endpoint, "", "")
    return Hold(recognised, usual.call, usual.candidate, usual.secret, HoldUntil.COMPLETE)


# -- what the first bytes say, and what a hold makes of them -----------------------------------------------------

HI = chat(content="Hi")
FAILED = b'{"error": {"message": "m"}}'
PACKED = gzip.compress(b"{}", mtime=0)
MORE, OUTPUT, REPLY, BOUND = Held.MORE, Held.OUTPUT, Held.REPLY, Held.BOUND
NO_END, NO_OUTPUT = "the stream ended before its terminal event", "the stream ended before any output"


@dataclass
class First:
    """A success, and the states after its headers, its chunks and its end: held to its output, and to its end."""

    content_type: str
    chunks: list[bytes]
    states: list[Held]
    whole: list[Held]
    steps: int
    why: str = ""
    """Why the one that is held to its end is a fault."""
    framing: str = ""
    """How it is read as a stream, "" when it is none."""
    encoding: str = ""
    streamed: bool = True
    kind: Kind = Kind.GENERATING


FIRST = [
    First("", [b"data:", b" ", HI[6:]], [MORE, MORE, MORE, OUTPUT], [MORE] * 4 + [REPLY], 1, NO_END, "sse"),
    First("", [b"\xef\xbb\xbfdata: ", HI[6:]], [MORE, MORE, OUTPUT], [MORE] * 3 + [REPLY], 1, NO_END, "sse"),
    First("", [b" \n", b"dat", HI[3:]], [MORE, MORE, MORE, OUTPUT], [MORE] * 4 + [REPLY], 1, NO_END, "sse"),
    First("text/plain", [b"{", FAILED[1:]], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 2),
    First("text/plain", [b"<", b"html>"], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 2),
    First("application/octet-stream", [b"x"], [MORE, OUTPUT], [MORE, MORE, OUTPUT], 1),
    First("application/octet-stream", [b" "], [MORE, OUTPUT], [MORE, MORE, OUTPUT], 0),
    First("application/octet-stream", [b"data: ", b"x\n\n"], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 1, "", "sse"),
    First("application/octet-stream", [b"{", b"}"], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 2),
    First("application/octet-stream", [b"<html>"], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 1),
    First("application/json", [b"[", FAILED + b"]"], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 2,
          streamed=False),
    First("application/json", [b"[", FAILED + b"]"], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 1, "", "json"),
    First("application/json", [chat(role="x"), HI], [MORE, MORE, OUTPUT], [MORE] * 3 + [REPLY], 2, NO_END, "sse"),
    First("text/event-stream", [FAILED[:9], FAILED[9:]], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 1, "", "json"),
    First("text/event-stream", [b"[" + FAILED + b"]"], [MORE, REPLY], [MORE, REPLY], 1, "", "json"),
    First("text/event-stream", [b"\n<!doctype>", b"x"], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 2),
    First("text/event-stream", [b"dat", b"x"], [MORE, MORE, MORE, REPLY], [MORE] * 3 + [REPLY], 0, NO_OUTPUT, "sse"),
    First("application/x-ndjson", [b"<", b"x"], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 2),
    First("application/x-ndjson", [HI[6:]], [MORE, OUTPUT], [MORE, MORE, REPLY], 1, NO_END, "json"),
    First("application/vnd.amazon.eventstream", [bytes(16)], [MORE, BOUND], [MORE, REPLY], 0,
          "what follows is no event", "amazon"),
    First("application/problem+json", [b"", b"{}"], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 1),
    First("Application/JSON; x", [b""], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 0, NO_OUTPUT),
    First("application/json", [b" \n"], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 0, streamed=False),
    First("audio/mpeg", [b"", b"\xff"], [MORE, MORE, OUTPUT], [MORE, MORE, MORE, OUTPUT], 1),
    First("text/event-stream", [b"x"], [MORE, BOUND], [MORE, BOUND], 0, "", "sse", " SDCH "),
    First("application/json", [b"x", b" ", b"y"], [MORE] * 4 + [REPLY], [MORE] * 4 + [REPLY], 3, encoding="sdch"),
    First("application/json", [b"x", b" ", b"y"], [MORE] * 4 + [REPLY], [MORE] * 4 + [REPLY], 2, encoding="Identity"),
    First("application/json", [PACKED[:5], PACKED[5:]], [MORE, MORE, MORE, REPLY], [MORE, MORE, MORE, REPLY], 1,
          encoding="gzip"),
    First("application/json", [b"{}"], [MORE, MORE, REPLY], [MORE, MORE, REPLY], 1, kind=Kind.AUXILIARY),
    First("text/plain", [b"x"], [OUTPUT], [MORE, MORE, OUTPUT], 1, kind=Kind.AUXILIARY),
    First("", [], [OUTPUT], [MORE, REPLY], 0, kind=Kind.AUXILIARY),
]  # fmt: skip


@pytest.mark.parametrize("first", FIRST, ids=lambda first: f"{first.content_type} {b''.join(first.chunks)[:12]!r}")
def test_what_the_first_bytes_say(first: First) -> None:
    """S02, A01: they tell more than the type that a server wrote."""
    headers = [("content-type", first.content_type)] if first.content_type else []
    headers += [("Content-Encoding", first.encoding)] if first.encoding else []
    usual = hold(streamed=first.streamed)
    recognised = Recognised(usual.dialect, Endpoint("chat/completions", first.kind), "", "")
    for until, states in ((HoldUntil.OUTPUT, first.states), (HoldUntil.COMPLETE, first.whole)):
        held = Hold(recognised, usual.call, usual.candidate, usual.secret, until)
        found = [held.start(200, headers)]
        for chunk in first.chunks if found[-1] is Held.MORE else []:
            found.append(held.data(chunk))
            if found[-1] is not Held.MORE:
                break
        if found[-1] is Held.MORE:
            found.append(held.end())
        assert found == states
        assert (held.framing.value if held.live else "") == first.framing
        assert held.encoded is (first.encoding not in ("", "Identity"))
        assert not held.outgrown
        fault = held.reply().fault
        assert fault is None or fault.sent
        if until is HoldUntil.COMPLETE:
            assert (fault.message if fault else "") == first.why
        if len(states) > 1:
            assert held.steps == first.steps
            assert held.has_begun is (held.has_output if held.live else first.steps > 0)


@pytest.mark.parametrize("field", ["event:", " \ndata: ", "retry:"])
def test_six_bytes_tell_a_stream(field: str) -> None:
    for size, told in ((len(field) - 1, False), (len(field), True)):
        held = hold()
        held.start(200, [])
        assert held.data(field[:size].encode()) is Held.MORE
        assert held.live is told


def test_before_its_headers_a_reply_is_nothing() -> None:
    held = hold()
    assert (held.status, held.headers, held.live, held.framing.value, held.steps) == (0, (), False, "sse", 0)
    found = (
        held.success,
        held.encoded,
        held.outgrown,
        held.has_begun,
        held.has_output,
        held.is_done,
        held.is_held_whole,
    )
    assert found == (False,) * 7
    assert (held.opening, held.opening_model(), held.statement(None)) == (None, "", NOTHING_STATED)
    assert held.reply().fault is None
    assert not held.reply().truncated


@pytest.mark.parametrize("status", [199, 200, 299, 300])
def test_a_success_is_2xx(status: int) -> None:
    held = whole_hold()
    held.start(status, SSE)
    assert held.success is held.live is held.is_held_whole is (status in (200, 299))


def test_what_a_hold_is_bounded_by() -> None:
    """Law 10: by what it is, and a stream by its events as well, unless it is held to its end."""
    for held, headers, most in (
        (hold(), SSE, STREAM_LIMIT),
        (hold(), JSON, BODY_LIMIT),
        (whole_hold(), SSE, COMPLETE_LIMIT),
        (whole_hold(), JSON, COMPLETE_LIMIT),
    ):
        held.start(200, headers)
        assert held.data(b"x" * (most - 1)) is Held.MORE
        assert not held.outgrown
        assert held.data(b"x") is Held.BOUND
        assert held.outgrown
        assert held.reply().truncated
    held = whole_hold()
    held.start(200, SSE)
    assert [held.data(chat(role="assistant")) for _ in range(EVENT_LIMIT + 1)] == [Held.MORE] * (EVENT_LIMIT + 1)


def test_the_first_event_of_a_stream_may_name_the_model() -> None:
    """Q04: the first that is more than a sign of life."""
    held = hold()
    assert held.opening_model() == ""
    named = json.dumps({"model": "m-9", "choices": [{"delta": {"role": "assistant"}}]})
    fed(held, [b": ping\n\n", event({"type": "ping"}), event(named), event(named.replace("m-9", "m-8")), HI])
    assert held.opening is not None
    assert held.opening_model() == "m-9"
    assert (held.another("m-9"), held.another("m1"), held.another("")) == ("m-9", "", "")


def test_a_secret_in_the_name_of_a_header_is_seen_in_any_case() -> None:
    """H03: of eight characters or more; and each of several."""
    secret = Secret("a", "Sk-12345", ("Other-6789", "short-7"))
    for name, found in {
        b"x-sk-12345": True, b"X-SK-12345": True, b"other-6789": True, b"short-7": False, b"sk-1234": False, b"": False,
    }.items():  # fmt: skip
        assert secret.is_in_lower_case(name) is found
    assert secret.named == [("Sk-12345", "a"), ("Other-6789", "a"), ("short-7", "a")]


def test_headers_are_masked_and_else_the_same_object() -> None:
    """R06"""
    held = hold()
    held.start(401, [*JSON, ("X-Echo", f"a {SECRET}")])
    assert held.reply().headers == (*JSON, ("X-Echo", "a <understudy:a>"))
    held = hold()
    held.start(401, JSON)
    assert held.reply().headers is held.headers


# -- the tail, chunk by chunk ------------------------------------------------------------------------------------


def test_a_tail_keeps_just_what_it_has_to() -> None:
    """Law 10: a chunk goes when those behind it are enough."""
    kept = Tail()
    assert kept.content() == b""
    for size, chunks in ((TAIL_LIMIT, 1), (1, 2), (TAIL_LIMIT - 1, 2), (5, 2), (TAIL_LIMIT, 1)):
        kept.append(bytes([48 + chunks]) * size)
        assert len(kept._chunks) == chunks
    assert kept.content() == b"1" * TAIL_LIMIT
    kept = tail(b"a" * TAIL_LIMIT, b"b" * 3)
    assert kept.content() == b"a" * (TAIL_LIMIT - 3) + b"bbb"
    assert kept.content() == b"a" * (TAIL_LIMIT - 3) + b"bbb"
    kept.append(b"c")
    assert kept.content() == b"a" * (TAIL_LIMIT - 4) + b"bbbc"


def test_the_last_four_events_of_a_tail_are_read_once() -> None:
    held = live()
    kept = tail(*(event({"n": number}) for number in range(9)))
    read = kept.events(held)
    assert [json.loads(each.data)["n"] for each in read] == [5, 6, 7, 8]
    assert kept.events(held) is read
    kept.append(event({"n": 9}))
    assert [json.loads(each.data)["n"] for each in kept.events(held)] == [6, 7, 8, 9]


def test_an_end_is_seen_by_its_terminal_event_or_by_what_all_servers_send() -> None:
    """F14: and an error before it is an error."""
    done, finish = event("[DONE]"), event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    error = event({"error": {"message": "m"}})
    for chunks, is_done, progress in (
        ([HI, finish, done], True, Progress.DONE),
        ([HI, done, HI], True, Progress.DONE),
        ([HI, finish], True, Progress.LIFECYCLE),
        ([HI, finish, event({"choices": [], "usage": {}})], True, Progress.LIFECYCLE),
        ([HI], False, Progress.LIFECYCLE),
        ([], False, Progress.LIFECYCLE),
        ([HI, error], False, Progress.ERROR),
        ([HI, error, done], False, Progress.ERROR),
    ):
        kept = tail(*chunks)
        assert (kept.is_done(live()), kept.last(live())[0]) == (is_done, progress)
    one = b"data: " + b"x" * (TAIL_LIMIT - 6)
    assert tail(one[:-1]).last(live())[0] is not Progress.DONE
    assert tail(one).last(live()) == (Progress.DONE, None)
