"""What counts as an answer, dialect by dialect: the table of docs/dialects.md, both sides of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replies.test_hold import JSON, SSE, chat, event, fed
from tests.support.amazon_frames import frame
from tests.support.decisions import candidate, upstream
from understudy.codec import amazon_frames
from understudy.dialects import DIALECTS, Call, Progress, StreamEvent
from understudy.model import HoldUntil, Label
from understudy.replies.answer import (
    BROKEN,
    EMPTY,
    NO_OUTPUT,
    OTHER,
    PAGE,
    Course,
    is_media,
    lack_of_body,
    lack_of_stream,
)
from understudy.replies.hold import COMPLETE_LIMIT, Held, Hold, Secret
from understudy.replies.reply import MAX_TEXT, FaultKind, Reply
from understudy.requests.sites import Recognised
from understudy.rules.ruleset import Ruleset

RULES = Ruleset()
NDJSON = [("content-type", "application/x-ndjson")]
FRAMES = [("content-type", amazon_frames.TYPE)]


def hold(dialect: str, path: str, *, streamed: bool, until: HoldUntil = HoldUntil.OUTPUT) -> Hold:
    spoken = DIALECTS[dialect]
    endpoint = spoken.endpoint("POST", path)
    assert endpoint is not None
    at = upstream(dialect=dialect)
    recognised, call = Recognised(spoken, endpoint, path, ""), Call("alias", streamed)
    return Hold(recognised, call, candidate("a", at=at), Secret("a", "sk-secret-0123456789"), until)


def choice(content: object = None, finish: str | None = "stop", tokens: int = 0, **message: object) -> object:
    said = {"role": "assistant", "content": content, "tool_calls": None, **message}
    usage = {"prompt_tokens": 9, "completion_tokens": tokens}
    return {"choices": [{"index": 0, "finish_reason": finish, "message": said}], "usage": usage}


def response(*output: object, status: str = "completed", tokens: int = 0) -> object:
    return {"object": "response", "status": status, "output": output, "usage": {"output_tokens": tokens}}


def message(*content: object, stop: str | None = "end_turn", tokens: int = 0) -> object:
    return {"type": "message", "content": content, "stop_reason": stop, "usage": {"output_tokens": tokens}}


def google(*parts: object, finish: str | None = "STOP", tokens: int = 0) -> object:
    content = {"role": "model", "parts": parts} if parts else {"role": "model"}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": tokens} if tokens else {"promptTokenCount": 9}
    return {"candidates": [{"content": content, "finishReason": finish, "index": 0}], "usageMetadata": usage}


def converse(*content: object, stop: str = "end_turn", tokens: int = 0) -> object:
    said = {"message": {"role": "assistant", "content": content}}
    return {"output": said, "stopReason": stop, "usage": {"inputTokens": 9, "outputTokens": tokens}}


def cohere(*content: object, finish: str = "COMPLETE", tokens: int = 0, **said: object) -> object:
    spoken = {"role": "assistant", "content": content, **said}
    return {"id": "c", "finish_reason": finish, "message": spoken, "usage": {"tokens": {"output_tokens": tokens}}}


def ollama(text: str = "", reason: str = "stop", tokens: int = 0, **said: object) -> object:
    spoken = {"role": "assistant", "content": text, **said}
    return {"model": "m", "done": True, "done_reason": reason, "message": spoken, "eval_count": tokens}


CHAT, RESPONSES, MESSAGES = "/chat/completions", "/responses", "/v1/messages"
GENERATE, STREAM = "/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent"
VERTEX = "/v1/projects/p/locations/l/publishers/google/models/m:generateContent"
RAW = "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict"

ANSWERS = [
    ("openai", CHAT, choice("Hi")),
    ("openai", CHAT, choice(None, "tool_calls", tool_calls=[{"id": "t", "function": {"name": "f"}}])),
    ("openai", CHAT, choice("", reasoning_content="hm")),
    ("openai", CHAT, choice(None, refusal="I cannot")),
    ("openai", CHAT, choice(None, audio={"id": "a", "data": "AAAA"})),
    ("openai", CHAT, choice("", tokens=1)),
    ("openai", CHAT, choice("", "length")),
    ("openai", CHAT, choice("", "content_filter")),
    ("openai", "/completions", {"choices": [{"text": "x", "finish_reason": "stop"}]}),
    ("openai", "/completions", {"choices": [{"text": "", "finish_reason": "length"}]}),
    ("openai", RESPONSES, response({"type": "message", "content": [{"type": "output_text", "text": "Hi"}]})),
    ("openai", RESPONSES, response({"type": "function_call", "name": "f"})),
    ("openai", RESPONSES, response(status="incomplete")),
    ("openai", RESPONSES, response(status="queued")),
    ("openai", RESPONSES, response(tokens=64)),
    ("openai", "/embeddings", {"object": "list", "data": [{"embedding": [0.1]}]}),
    ("openai", "/moderations", {"results": [{"flagged": False}]}),
    ("openai", "/images/generations", {"data": [{"b64_json": "AAAA"}]}),
    ("openai", "/audio/transcriptions", {"text": ""}),
    ("azure-openai", "/openai/deployments/m/chat/completions", choice("Hi")),
    ("anthropic", MESSAGES, message({"type": "text", "text": "Hi"})),
    ("anthropic", MESSAGES, message({"type": "tool_use", "id": "t", "name": "f", "input": {}}, stop="tool_use")),
    ("anthropic", MESSAGES, message(tokens=2)),
    ("anthropic", MESSAGES, message(stop="refusal")),
    ("anthropic", MESSAGES, message(stop="max_tokens")),
    ("anthropic", MESSAGES, message(stop="stop_sequence")),
    ("anthropic", "/v1/messages/count_tokens", {"input_tokens": 9}),
    ("anthropic-vertex", RAW, message({"type": "text", "text": "Hi"})),
    ("gemini", GENERATE, google({"text": "Hi"})),
    ("gemini", GENERATE, google({"text": "hm", "thought": True}, finish="MAX_TOKENS")),
    ("gemini", GENERATE, google({"functionCall": {"name": "f", "args": {}}})),
    ("gemini", GENERATE, google(finish="MAX_TOKENS")),
    ("gemini", GENERATE, google(finish="SAFETY")),
    ("gemini", GENERATE, google(tokens=3)),
    ("gemini", "/v1beta/models/m:embedContent", {"embedding": {"values": [0.1]}}),
    ("gemini", "/v1beta/models/m:batchEmbedContents", {"embeddings": [{"values": [0.1]}]}),
    ("gemini", "/v1beta/models/m:countTokens", {"totalTokens": 0}),
    ("vertex", VERTEX, google({"text": "Hi"})),
    ("bedrock", "/model/m/converse", converse({"text": "Hi"})),
    ("bedrock", "/model/m/converse", converse({"toolUse": {"name": "f", "input": {}}}, stop="tool_use")),
    ("bedrock", "/model/m/converse", converse(stop="guardrail_intervened")),
    ("bedrock", "/model/m/converse", converse(tokens=1)),
    ("bedrock", "/model/m/invoke", {"generation": "Hi"}),
    ("bedrock", "/model/m/invoke", message({"type": "text", "text": "Hi"})),
    ("cohere", "/v2/chat", cohere({"type": "text", "text": "Hi"})),
    ("cohere", "/v2/chat", cohere(tool_calls=[{"id": "t", "function": {"name": "f"}}])),
    ("cohere", "/v2/chat", cohere(finish="MAX_TOKENS")),
    ("cohere", "/v2/chat", cohere(tokens=1)),
    ("cohere", "/v2/embed", {"embeddings": {"float": [[0.1]]}}),
    ("cohere", "/v2/rerank", {"results": []}),
    ("ollama", "/api/chat", ollama("Hi")),
    ("ollama", "/api/chat", ollama(thinking="hm")),
    ("ollama", "/api/chat", ollama(tokens=1)),
    ("ollama", "/api/chat", ollama(reason="load")),
    ("ollama", "/api/generate", {"response": "Hi", "done": True}),
    ("ollama", "/api/embed", {"embeddings": [[0.1]]}),
    ("ollama", "/api/embeddings", {"embedding": [0.1]}),
]

NONE = [
    ("openai", CHAT, None),
    ("openai", CHAT, {}),
    ("openai", CHAT, [1]),
    ("openai", CHAT, {"status": "up"}),
    ("openai", CHAT, {"choices": []}),
    ("openai", CHAT, {"choices": None}),
    ("openai", CHAT, choice(None)),
    ("openai", CHAT, choice("")),
    ("openai", CHAT, choice(None, "tool_calls")),
    ("openai", CHAT, message({"type": "text", "text": "Hi"})),
    ("openai", "/completions", {"choices": [{"text": "", "finish_reason": "stop"}]}),
    ("openai", RESPONSES, response()),
    ("openai", RESPONSES, response({"type": "message", "content": []})),
    ("openai", RESPONSES, {"id": "r"}),
    ("openai", "/embeddings", {"object": "list", "data": []}),
    ("openai", "/moderations", {"results": []}),
    ("openai", "/images/generations", {"created": 1}),
    ("openai", "/audio/transcriptions", {"ok": True}),
    ("openai", "/audio/speech", {"ok": True}),
    ("azure-openai", "/openai/deployments/m/chat/completions", choice(None)),
    ("anthropic", MESSAGES, message()),
    ("anthropic", MESSAGES, message({"type": "text", "text": ""})),
    ("anthropic", MESSAGES, message(stop="tool_use")),
    ("anthropic", MESSAGES, {"type": "message"}),
    ("anthropic-vertex", RAW, message()),
    ("gemini", GENERATE, google()),
    ("gemini", GENERATE, google({"text": ""})),
    ("gemini", GENERATE, google({"text": "", "thoughtSignature": "x"})),
    ("gemini", GENERATE, google(finish="MALFORMED_FUNCTION_CALL", tokens=9)),
    ("gemini", GENERATE, {"candidates": []}),
    ("gemini", GENERATE, {"usageMetadata": {}}),
    ("gemini", "/v1beta/models/m:embedContent", {"embedding": {}}),
    ("gemini", "/v1beta/models/m:batchEmbedContents", {"embeddings": []}),
    ("vertex", VERTEX, google()),
    ("bedrock", "/model/m/converse", converse()),
    ("bedrock", "/model/m/converse", {"usage": {}}),
    ("bedrock", "/model/m/invoke", {}),
    ("bedrock", "/model/m/invoke", message()),
    ("cohere", "/v2/chat", cohere()),
    ("cohere", "/v2/chat", cohere({"type": "text", "text": ""})),
    ("cohere", "/v2/chat", {"id": "c"}),
    ("cohere", "/v2/embed", {"embeddings": []}),
    ("cohere", "/v2/rerank", {"id": "r"}),
    ("ollama", "/api/chat", ollama()),
    ("ollama", "/api/chat", {"models": []}),
    ("ollama", "/api/generate", {"response": "", "done": True}),
    ("ollama", "/api/embed", {"embeddings": []}),
    ("ollama", "/api/embeddings", {}),
]


def judged(dialect: str, path: str, body: bytes, headers: Sequence[tuple[str, str]] = JSON) -> Reply:
    """A plain reply as it is judged after it was held."""
    held = hold(dialect, path, streamed=False)
    assert fed(held, [body[:5], body[5:]], headers) is Held.REPLY
    return held.reply()


@pytest.mark.parametrize(("dialect", "path", "body"), ANSWERS)
def test_an_answer_is_released(dialect: str, path: str, body: object) -> None:
    """A01: output, or an end that the dialect allows without any; auxiliary endpoints are not looked at."""
    reply = judged(dialect, path, json.dumps(body).encode())
    assert reply.lack == ""
    assert RULES.judge(reply).label is Label.OK


@pytest.mark.parametrize(("dialect", "path", "body"), NONE)
def test_what_is_no_answer_is_an_open_verdict(dialect: str, path: str, body: object) -> None:
    """A01: `null`, other JSON, no output and no output tokens."""
    reply = judged(dialect, path, json.dumps(body).encode())
    assert reply.lack
    verdict = RULES.judge(reply)
    assert (verdict.label, verdict.rule, verdict.is_open) == (Label.UNKNOWN, "builtin/no_answer", True)
    assert verdict.evidence == f"HTTP 200: {reply.lack}"


@pytest.mark.parametrize("body", [b"", b"  \n", b"<html>Log in</html>", b'{"choices": [{"mess', b'{"a": NaN,}', b"Hi"])
@pytest.mark.parametrize(("dialect", "path"), sorted({(dialect, path) for dialect, path, _ in ANSWERS}))
def test_what_is_no_json_is_no_answer(dialect: str, path: str, body: bytes) -> None:
    """A01: nothing, a page, JSON that was cut: at every generating endpoint of every dialect, and at no other."""
    kind = DIALECTS[dialect].endpoint("POST", path)
    assert kind is not None
    plain_text = path == "/audio/transcriptions" and body[:1] not in (b"<", b"{")
    assert bool(judged(dialect, path, body).lack) is (kind.kind == "generating" and not plain_text)


END = "[DONE]"


def sse(*documents: object) -> list[bytes]:
    return [event(document) for document in documents]


def delta(finish: str | None = None, tokens: int | None = None, **said: object) -> object:
    document: dict[str, object] = {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}
    return document if tokens is None else {**document, "usage": {"completion_tokens": tokens}}


USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}
COUNTED = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
STARTED = {"type": "message_start", "message": {"content": [], "usage": {"output_tokens": 4}}}
LAST = {"type": "message_stop"}


def stopped(reason: str, tokens: int = 0) -> object:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": tokens}}


def frames(*events: tuple[str, object]) -> list[bytes]:
    return [
        frame({":message-type": "event", ":event-type": name}, json.dumps(document).encode())
        for name, document in events
    ]


def rows(*documents: object) -> list[bytes]:
    return [json.dumps(document).encode() + b"\n" for document in documents]


STREAMED_ANSWERS = [
    ("openai", CHAT, SSE, sse(delta(role="assistant"), delta("stop", 2), END)),
    ("openai", CHAT, SSE, sse(delta(role="assistant"), delta("stop"), COUNTED, END)),
    ("openai", CHAT, SSE, sse(delta(role="assistant"), delta("length"))),
    ("openai", CHAT, SSE, sse(delta(role="assistant"), delta("content_filter"))),
    ("openai", RESPONSES, SSE, sse({"type": "response.completed", "response": response(tokens=3)})),
    ("openai", RESPONSES, SSE, sse({"type": "response.incomplete", "response": response(status="incomplete")})),
    ("openai", "/audio/transcriptions", SSE, sse({"type": "transcript.text.done", "text": ""})),
    ("anthropic", MESSAGES, SSE, sse(STARTED, stopped("end_turn", 2), LAST)),
    ("anthropic", MESSAGES, SSE, sse(STARTED, stopped("refusal"), LAST)),
    ("gemini", STREAM, SSE, sse(google(finish="SAFETY"))),
    ("gemini", STREAM, SSE, sse(google({"text": "Hi"}))),
    ("gemini", STREAM, SSE, sse(google(tokens=3))),
    ("bedrock", "/model/m/converse-stream", FRAMES, frames(("messageStop", {"stopReason": "max_tokens"}))),
    (
        "bedrock",
        "/model/m/converse-stream",
        FRAMES,
        frames(("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": {"outputTokens": 3}})),
    ),
    ("cohere", "/v2/chat", SSE, sse({"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}})),
    ("ollama", "/api/chat", NDJSON, rows(ollama(tokens=1))),
]

STREAMED_NONE = [
    ("openai", CHAT, SSE, sse(delta(role="assistant"), delta("stop"), USAGE, END)),
    ("openai", CHAT, SSE, sse(delta(role="assistant"), delta("stop"))),
    ("openai", RESPONSES, SSE, sse({"type": "response.completed", "response": response()})),
    ("anthropic", MESSAGES, SSE, sse(STARTED, stopped("end_turn"), LAST)),
    ("gemini", STREAM, SSE, sse(google())),
    ("gemini", STREAM, SSE, sse(google(finish="MALFORMED_FUNCTION_CALL"))),
    ("gemini", STREAM, JSON, [b"[" + json.dumps(google()).encode() + b"]"]),
    (
        "bedrock",
        "/model/m/converse-stream",
        FRAMES,
        frames(("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": {"outputTokens": 0}})),
    ),
    ("cohere", "/v2/chat", SSE, sse({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})),
    ("ollama", "/api/chat", NDJSON, rows(ollama())),
]


@pytest.mark.parametrize(("dialect", "path", "headers", "chunks"), STREAMED_ANSWERS)
def test_a_stream_that_may_end_without_output_is_released(
    dialect: str, path: str, headers: Sequence[tuple[str, str]], chunks: list[bytes]
) -> None:
    """A01: a refusal, a filter, a limit, or tokens that were spent on something that is not shown."""
    assert fed(hold(dialect, path, streamed=True), chunks, headers) is Held.OUTPUT


@pytest.mark.parametrize(("dialect", "path", "headers", "chunks"), STREAMED_NONE)
def test_a_stream_without_an_answer_is_an_open_verdict(
    dialect: str, path: str, headers: Sequence[tuple[str, str]], chunks: list[bytes]
) -> None:
    """A01: it has ended as it should, and has said nothing: no fault of the transport."""
    held = hold(dialect, path, streamed=True)
    assert fed(held, chunks, headers) is Held.REPLY
    reply = held.reply()
    assert (reply.status, reply.fault) == (200, None)
    verdict = RULES.judge(reply)
    assert (verdict.label, verdict.rule, verdict.is_open) == (Label.UNKNOWN, "builtin/no_answer", True)


ERROR = b'{"error": {"message": "the engine is gone"}}'
FIRST = chat(role="assistant")


@pytest.mark.parametrize(
    "chunks",
    [
        [event("error: the engine is gone")],
        [FIRST, event("Internal Server Error")],
        [FIRST, b"error: the engine is gone\n\n"],
        [FIRST, b"data: " + ERROR + b"\ndata: " + ERROR + b"\n\n"],
        [FIRST, b"data: " + ERROR + ERROR + b"\n\n"],
        [FIRST, b'data: {"choices": [{"del\n\n', b"data: " + ERROR + b"\n\n"],
        [FIRST, b'data: {"choices": [{"delta": {}, "finish_reason": "error"}]}\n\n'],
        [ERROR],
        [b" \n", ERROR[:20], ERROR[20:]],
    ],
    ids=["text", "text-later", "field", "two-lines", "two-objects", "cut", "finish-reason", "bare", "bare-split"],
)
def test_an_event_that_says_no_output_is_a_reply(chunks: list[bytes]) -> None:
    """A02: no JSON, two objects in one event, a cut event, `error:` fields, `finish_reason: "error"`."""
    held = hold("openai", CHAT, streamed=True)
    assert fed(held, chunks) is Held.REPLY
    reply = held.reply()
    assert reply.fault is None
    verdict = RULES.judge(reply)
    assert (verdict.label, verdict.is_open) == (Label.UNKNOWN, True)
    # The same after real output is passed on as it is.
    assert fed(hold("openai", CHAT, streamed=True), [chat(content="Hi"), *chunks]) is Held.OUTPUT


def test_a_page_under_the_type_of_a_stream_is_no_answer() -> None:
    """A01"""
    held = hold("openai", CHAT, streamed=True)
    assert fed(held, [b"<html><body>", b"Log in</body></html>"]) is Held.REPLY
    assert (held.reply().fault, held.reply().lack) == (None, "a page (HTML or XML)")


def test_what_cannot_be_known_counts_as_an_answer() -> None:
    """Law 9: another endpoint, an unknown dialect, an encoding that cannot be undone, a body that was cut by us."""
    assert Reply(200, body=b"null").lack == ""
    assert Reply(200, body=b"null", dialect="openai").lack == ""
    assert Reply(200, body=b"null", dialect="other", endpoint="chat/completions").lack == ""
    assert Reply(200, body=b"null", dialect="openai", endpoint="chat/completions", truncated=True).lack == ""
    assert judged("openai", CHAT, b"\x00xyz", [*JSON, ("content-encoding", "sdch")]).lack == ""


_MEMBERS = ["choices", "message", "content", "usage", "output", "candidates", "finishReason", "parts", "usageMetadata"]
_MEMBERS += ["results", "data", "stop_reason", "response", "delta", "embedding", "promptFeedback"]
_hostile = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_MEMBERS), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=40) | _hostile.map(lambda value: json.dumps(value).encode()))
def test_no_body_makes_the_look_fail(body: bytes) -> None:
    """Whatever a body holds, it lacks something or it does not."""
    for dialect, path, _ in ANSWERS:
        endpoint = DIALECTS[dialect].endpoint("POST", path)
        assert endpoint is not None
        assert isinstance(lack_of_body(DIALECTS[dialect], endpoint.name, body.decode("utf-8", "replace")), str)
        for streamed in (False, True):
            held = hold(dialect, path, streamed=streamed)
            fed(held, [body], JSON)
            assert isinstance(held.reply().lack, str)


# -- hold: complete ----------------------------------------------------------------------------------------------


def whole(path: str = CHAT, dialect: str = "openai", *, streamed: bool = True) -> Hold:
    return hold(dialect, path, streamed=streamed, until=HoldUntil.COMPLETE)


DONE = event("[DONE]")
FINISH = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})


def test_a04_a_held_stream_is_released_at_its_terminal_event() -> None:
    """A04: not at the end of the connection; what comes behind it changes nothing."""
    held = whole()
    held.start(200, SSE)
    assert held.data(chat(content="Hi") + FINISH) is Held.MORE
    assert held.data(DONE) is Held.OUTPUT
    assert fed(whole(), [chat(content="Hi") + FINISH + DONE + event({"error": {"message": "late"}})]) is Held.OUTPUT
    assert fed(
        whole(MESSAGES, "anthropic"), [*sse({"type": "content_block_delta", "delta": {"text": "Hi"}}, LAST)]
    ) is (Held.OUTPUT)
    # An encoding has to end as well; one that does not, because the connection stays open, is the layer's business.
    packed = gzip.compress(chat(content="Hi") + FINISH + DONE)
    held = whole()
    held.start(200, [*SSE, GZIP])
    assert [held.data(packed[:-8]), held.is_done, held.data(packed[-8:])] == [Held.MORE, True, Held.OUTPUT]
    held = whole()
    # A server without a terminal event is complete at its end, if it has said why it finished.
    assert fed(held, [chat(content="Hi") + FINISH]) is Held.OUTPUT
    assert held.is_done


def test_a04_an_array_is_released_at_its_last_bracket() -> None:
    """A04: the end of the generation is not yet the end of what the tool has to parse."""
    held = whole(STREAM, "gemini")
    held.start(200, JSON)
    assert held.data(b"[" + json.dumps(google({"text": "Hi"}, finish=None)).encode()) is Held.MORE
    assert held.data(b"," + json.dumps(google({"text": "."})).encode()) is Held.MORE
    assert held.data(b"]") is Held.OUTPUT
    cut = whole(STREAM, "gemini")
    assert fed(cut, [b"[" + json.dumps(google({"text": "Hi"})).encode()], JSON) is Held.REPLY
    assert cut.reply().fault is not None


PACKED = gzip.compress(b"".join([chat(content="Hi")] * 40) + FINISH + DONE)
ANSWER = json.dumps(choice("Hi")).encode()
GZIP = ("content-encoding", "gzip")


@pytest.mark.parametrize(
    ("headers", "chunks", "reason"),
    [
        (SSE, [chat(content="Hi")], "terminal event"),
        ([*SSE, GZIP], [PACKED[:-30]], "ends early"),
        ([*SSE, GZIP], [PACKED[:10] + b"\xff" * 60], "corrupt"),
        ([*JSON, GZIP], [gzip.compress(ANSWER)[:-9]], "ends early"),
        ([*JSON, GZIP], [b"not gzip at all"], "corrupt"),
        (JSON, [ANSWER[:-5]], "cannot be read"),
        (JSON, [ANSWER[:9], ANSWER[9:-1]], "cannot be read"),
    ],
)
def test_a04_what_is_not_proven_complete_is_a_fault(
    headers: list[tuple[str, str]], chunks: list[bytes], reason: str
) -> None:
    """A04: JSON that does not parse, gzip that ends early or is corrupt, a stream without its terminal event."""
    held = whole(streamed=headers[0] in SSE)
    assert fed(held, chunks, headers) is Held.REPLY
    fault = held.reply().fault
    assert fault is not None
    assert (fault.kind, reason in fault.message) == (FaultKind.CUT, True)


def test_a04_what_is_proven_complete_is_released() -> None:
    """A04, and law 9: an encoding that nobody here knows is not known to be wrong."""
    for headers, body in (
        (JSON, ANSWER),
        ([*JSON, GZIP], gzip.compress(ANSWER)),
        ([*JSON, ("content-encoding", "sdch")], b"xyz"),
        ([("content-type", "application/json; charset=utf-16")], ANSWER.decode().encode("utf-16")),
    ):
        held = whole(streamed=False)
        assert fed(held, [body], headers) is Held.REPLY
        assert RULES.judge(held.reply()).label is Label.OK
    assert fed(whole(), [PACKED], [*SSE, GZIP]) is Held.OUTPUT


def test_a04_a_large_body_is_proven_by_its_brackets() -> None:
    """A04, law 10: more than a megabyte is not parsed at once."""
    numbers = b'{"data": [{"embedding": [' + b"0.25, " * (MAX_TEXT // 6 + 9) + b"1]}]}"
    for body, complete in ((numbers, True), (numbers[:-1], False)):
        held = whole("/embeddings", streamed=False)
        state = fed(held, [body[at : at + 65536] for at in range(0, len(body), 65536)], JSON)
        assert state is Held.REPLY
        assert (held.reply().fault is None) is complete
    assert len(numbers) < COMPLETE_LIMIT


@pytest.mark.parametrize(("size", "parsed"), [(MAX_TEXT, True), (MAX_TEXT + 1, False)])
def test_a04_a_body_of_a_mebibyte_is_parsed(size: int, parsed: bool) -> None:
    """A04: so a word that is no JSON is seen in it; in a longer one only that its brackets end."""
    body = b'{"choices": [no json]}'
    held = whole(streamed=False)
    assert fed(held, [body.ljust(size)], JSON) is Held.REPLY
    assert (held.reply().fault is not None) is parsed


def test_a04_comments_and_pings_are_no_step() -> None:
    """A04: what `idle` runs by: comments, pings and white space say nothing."""
    held = whole()
    held.start(200, SSE)
    held.data(chat(content="Hi"))
    before = held.steps
    held.data(b": still here\n\n")
    held.data(event({"type": "ping"}))
    held.data(b"data")
    assert held.steps == before
    held.data(b': {"choices": [{"delta": {"content": "x"}}]}\n\n')
    assert held.steps == before + 1
    plain = whole(streamed=False)
    plain.start(200, JSON)
    plain.data(b" ")
    assert (plain.steps, plain.has_begun) == (0, False)
    plain.data(b"{")
    assert (plain.steps, plain.has_begun) == (1, True)


# -- the parts, one by one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "text", "lack"),
    [
        ("chat/completions", "", EMPTY),
        ("chat/completions", " \n" * 300, EMPTY),
        ("chat/completions", "<html>", PAGE),
        ("chat/completions", "\n <?xml", PAGE),
        ("chat/completions", "words", OTHER),
        ("chat/completions", '"words"', OTHER),
        ("chat/completions", " null\n", "null"),
        ("chat/completions", "nul", OTHER),
        ("chat/completions", '{"choices": [', BROKEN),
        ("chat/completions", "[" * 100_000, BROKEN),
        ("chat/completions", " " * 300 + '{"choices": [{"message": {"content": "Hi"}}]}', ""),
        ("audio/transcriptions", "", ""),
        ("audio/transcriptions", " \n", ""),
        ("audio/transcriptions", "words", ""),
        ("audio/transcriptions", "[words", ""),
        ("audio/transcriptions", "<html>", PAGE),
        ("audio/transcriptions", "{words", BROKEN),
        ("audio/translations", '{"text": "x"}', ""),
    ],
)
def test_a01_what_a_body_lacks(endpoint: str, text: str, lack: str) -> None:
    """A01: plain text is an answer where the request can ask for it, and a page never is."""
    assert lack_of_body(DIALECTS["openai"], endpoint, text) == lack


@pytest.mark.parametrize(
    ("content_type", "endpoint", "expected"),
    [
        ("audio/mpeg", "audio/speech", True),
        ("image/png", "images/generations", True),
        ("video/mp4", "chat/completions", True),
        ("text/plain", "audio/transcriptions", True),
        ("text/vtt", "audio/translations", True),
        ("text/html", "audio/transcriptions", False),
        ("text/plain", "chat/completions", False),
        ("application/json", "audio/transcriptions", False),
        ("", "audio/transcriptions", False),
    ],
)
def test_a01_what_is_an_answer_without_a_look(content_type: str, endpoint: str, expected: bool) -> None:
    assert is_media(content_type, endpoint) is expected


def stream(*documents: object) -> list[StreamEvent]:
    return [StreamEvent("", each if isinstance(each, bytes) else json.dumps(each).encode()) for each in documents]


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
TEXT = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
FAILED = {"error": {"message": "overloaded"}}


@pytest.mark.parametrize(
    ("documents", "lack"),
    [
        ([], ""),
        ([ROLE], ""),
        ([ROLE, TEXT], ""),
        ([ROLE, TEXT, STOP, b"[DONE]"], ""),
        ([ROLE, STOP], NO_OUTPUT),
        ([ROLE, STOP, b"[DONE]"], NO_OUTPUT),
        ([ROLE, FAILED, STOP, b"[DONE]"], ""),
        ([ROLE, STOP, {"choices": [], "usage": {"completion_tokens": 1}}, b"[DONE]"], ""),
    ],
)
def test_a01_what_a_stream_lacks(documents: list[object], lack: str) -> None:
    """A01: what has not ended lacks nothing yet, and what says that it failed is judged by that."""
    assert lack_of_stream(DIALECTS["openai"], stream(*documents)) == lack


def test_where_a_stream_stands() -> None:
    """It is empty once nothing that can still come makes an answer of it, and not before."""
    course = Course(DIALECTS["anthropic"])
    assert (course.steps, course.has_output, course.has_ended, course.is_done, course.is_empty) == (
        0, False, False, False, False,
    )  # fmt: skip
    ping, start = {"type": "ping"}, {"type": "message_start", "message": {"content": []}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 0}}
    standing = []
    for each in stream(ping, start, delta, {"type": "message_stop"}):
        course.add(each)
        standing.append((course.steps, course.has_ended, course.is_done, course.is_empty))
    assert standing == [
        (0, False, False, False),
        (1, False, False, False),
        (2, True, False, False),
        (3, True, True, True),
    ]
    assert course.add(stream({"type": "content_block_delta", "delta": {"text": "Hi"}})[0]) is Progress.OUTPUT
    assert course.has_output and not course.is_empty
