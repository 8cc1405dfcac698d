"""What a reply says of itself: tokens in every dialect (Q03), and whether another model has answered (Q04)."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.amazon_frames import frame
from tests.support.decisions import candidate, upstream
from understudy.codec.event_stream import StreamKind
from understudy.dialects import DIALECTS, Call, Kind
from understudy.dialects.base import Endpoint
from understudy.model import NO_TOKENS, HoldUntil, Price, Usage
from understudy.replies.hold import TAIL_LIMIT, Held, Hold, Secret, Tail
from understudy.replies.reply import Reply
from understudy.replies.statement import MOST, Statement, is_another, of_document, of_fragment
from understudy.requests.sites import Recognised

type Json = dict[str, object]

OPENAI_CHAT: Json = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
OPENAI_RESPONSES: Json = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 130,
}
USUAL = Usage(100, 30, 64, 0, 20)
ANTHROPIC: Json = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 85,
    "output_tokens": 30,
}
CACHING = Usage(100, 30, 85, 5)
CONVERSE: Json = {"inputTokens": 10, "cacheWriteInputTokens": 5, "cacheReadInputTokens": 85, "outputTokens": 30}
GEMINI: Json = {
    "promptTokenCount": 95,
    "toolUsePromptTokenCount": 5,
    "cachedContentTokenCount": 64,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 20,
}
COHERE: Json = {"billed_units": {"input_tokens": 9}, "tokens": {"input_tokens": 100, "output_tokens": 30}}
PLAIN: list[tuple[str, str, Json, Usage]] = [
    ("openai", "chat/completions", {"usage": OPENAI_CHAT}, USUAL),
    ("openai", "responses", {"usage": OPENAI_RESPONSES}, USUAL),
    ("openai", "embeddings", {"usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(8)),
    ("openai", "chat/completions", {"x_groq": {"usage": {"prompt_tokens": 8, "completion_tokens": 2}}}, Usage(8, 2)),
    ("openai", "chat/completions", {"usage": {"prompt_tokens": 8, "prompt_cache_hit_tokens": 3}}, Usage(8, 0, 3)),
    ("openai", "chat/completions", {"usage": {"prompt_tokens": 8, "cached_tokens": 3}}, Usage(8, 0, 3)),
    ("azure-openai", "chat/completions", {"usage": OPENAI_CHAT}, USUAL),
    ("anthropic", "messages", {"usage": ANTHROPIC}, CACHING),
    ("anthropic-vertex", "messages", {"usage": ANTHROPIC}, CACHING),
    ("gemini", "generateContent", {"usageMetadata": GEMINI}, Usage(100, 30, 64, 0, 20)),
    ("vertex", "generateContent", {"usageMetadata": GEMINI}, Usage(100, 30, 64, 0, 20)),
    ("bedrock", "converse", {"usage": CONVERSE}, CACHING),
    ("bedrock", "invoke", {"usage": ANTHROPIC}, CACHING),
    ("cohere", "chat", {"usage": {**COHERE, "cached_tokens": 64}}, Usage(100, 30, 64)),
    ("cohere", "embed", {"meta": {"billed_units": {"input_tokens": 9}}}, Usage(9)),
    ("ollama", "chat", {"prompt_eval_count": 100, "eval_count": 30}, Usage(100, 30)),
]


@pytest.mark.parametrize(("dialect", "endpoint", "document", "usage"), PLAIN)
def test_q03_the_tokens_of_a_plain_reply(dialect: str, endpoint: str, document: Json, usage: Usage) -> None:
    """Q03: in every dialect, with what came from a cache in the input and what was thought in the output."""
    reply = Reply(200, dialect=dialect, body=json.dumps(document).encode())
    assert reply.statement.usage == usage
    assert Reply(200, dialect=dialect, body=reply.body, kind="auxiliary").statement == Statement()
    assert Reply(400, dialect=dialect, body=reply.body).statement == Statement()


def test_q03_every_dialect_is_in_the_table() -> None:
    """Q03: a new dialect says where its tokens are, or fails here."""
    assert {dialect for dialect, *_ in PLAIN} == set(DIALECTS)


def test_q03_reasoning_that_stands_beside_the_output_is_added() -> None:
    """Q03: xAI's total tells it, and so does a part that would be larger than its whole."""
    beside = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "reasoning_tokens": 94}
    assert DIALECTS["openai"].usage({"usage": beside}) == Usage(32, 103, 0, 0, 94)
    inside = {"prompt_tokens": 32, "completion_tokens": 103, "total_tokens": 135, "reasoning_tokens": 94}
    assert DIALECTS["openai"].usage({"usage": inside}) == Usage(32, 103, 0, 0, 94)


def test_q03_bedrock_counts_in_headers_what_an_invoked_model_does_not() -> None:
    """Q03: the schema of an invoked model is its own."""
    names = {"input": 10, "output": 30, "cache-read-input": 85, "cache-write-input": 5}
    headers = tuple((f"X-Amzn-Bedrock-{name}-Token-Count", str(count)) for name, count in names.items())
    reply = Reply(200, dialect="bedrock", endpoint="invoke", headers=headers, body=b'{"results": [{"text": "hi"}]}')
    assert reply.statement.usage == CACHING
    odd = tuple((name, value) for (name, _), value in zip(headers, ("-1", "", "x", "9" * 40), strict=True))
    assert Reply(200, dialect="bedrock", endpoint="invoke", headers=odd, body=b"{}").statement.usage is None


# -- streams ---------------------------------------------------------------------------------------------------------


class Stream:
    """A held stream that is released at its first output, and passed on from there."""

    def __init__(
        self,
        dialect: str,
        model: str = "m1",
        kind: str = "text/event-stream",
        until: HoldUntil = HoldUntil.OUTPUT,
    ) -> None:
        spoken = DIALECTS[dialect]
        endpoint = Endpoint("chat", Kind.GENERATING)
        recognised = Recognised(spoken, endpoint, "/chat", "")
        to = candidate("work", model, upstream("there", dialect))
        self.hold = Hold(recognised, Call(model, True), to, Secret("work", "sk-0123456789"), until)
        self.hold.start(200, [("content-type", kind)])
        self.tail = Tail()
        self.kind = kind

    def send(self, *data: bytes) -> Statement:
        """What it says after these pieces."""
        held = Held.MORE
        for piece in data:
            if held is Held.MORE:
                held = self.hold.data(piece)
            self.tail.append(piece)
        return self.hold.statement(self.tail)


def events(*documents: object) -> list[bytes]:
    """Server-sent events."""
    return [f"data: {json.dumps(document)}\n\n".encode() for document in documents]


def amazon(kind: str, document: object) -> bytes:
    """One of Amazon's messages."""
    return frame({":message-type": "event", ":event-type": kind}, json.dumps(document).encode())


def delta(text: str, **more: object) -> Json:
    """A chunk of a chat."""
    return {"model": "m1-2025-08-07", "choices": [{"delta": {"content": text}}], **more}


def test_q03_a_chat_stream_counts_at_its_end() -> None:
    """Q03: where the tool has asked for it; else it counts nothing."""
    last = {"model": "m1", "choices": [], "usage": OPENAI_CHAT}
    assert Stream("openai").send(*events(delta("a"), delta("b"), last), b"data: [DONE]\n\n").usage == USUAL
    nothing = Stream("openai").send(*events(delta("a", usage=None), delta("b", usage=None)), b"data: [DONE]\n\n")
    assert nothing == Statement(None, "m1-2025-08-07")


def test_q03_a_response_counts_in_its_last_event() -> None:
    """Q03: also where that is longer than what is kept of a stream."""
    first = {"type": "response.created", "response": {"model": "gpt-5"}}
    text = {"type": "response.output_text.delta", "delta": "hi"}
    for padding in (10, TAIL_LIMIT + 10):
        response = {"output": "x" * padding, "usage": OPENAI_RESPONSES, "user": None, "metadata": {}}
        last = {"type": "response.completed", "response": response}
        assert Stream("openai").send(*events(first, text, last)) == Statement(USUAL, "gpt-5")


def test_q03_anthropic_counts_at_both_ends() -> None:
    """Q03: the input in the first event, the output in the last but one; cut in the middle the input counts."""
    start = {"type": "message_start", "message": {"model": "m1", "usage": {**ANTHROPIC, "output_tokens": 4}}}
    text = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}}
    begun, ended = events({"type": "ping"}, start, text), events(end, {"type": "message_stop"})
    assert Stream("anthropic").send(*begun, *ended) == Statement(CACHING, "m1")
    assert Stream("anthropic").send(*begun) == Statement(Usage(100, 0, 85, 5), "m1")


def test_q03_gemini_counts_upwards() -> None:
    """Q03: each chunk states all so far, as events and as an array."""
    chunk = {"modelVersion": "m1", "candidates": [{"content": {"parts": [{"text": "a"}]}}]}
    early = {**chunk, "usageMetadata": {"promptTokenCount": 95, "candidatesTokenCount": 1}}
    last = {**chunk, "usageMetadata": GEMINI}
    assert Stream("gemini").send(*events(early, chunk, last)) == Statement(Usage(100, 30, 64, 0, 20), "m1")
    rows = [json.dumps(each, indent=2).encode() for each in (early, last)]
    array = [b"[" + rows[0], b",\n" + rows[1], b"\n]"]
    assert Stream("gemini", kind="application/json").send(*array).usage == Usage(100, 30, 64, 0, 20)


def test_q03_the_other_streams() -> None:
    """Q03: Cohere's last event, Ollama's last line, and Amazon's frames of both kinds."""
    said = {"type": "content-delta", "delta": {"message": {"content": {"text": "hi"}}}}
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE}}
    assert Stream("cohere").send(*events(said, end)).usage == Usage(100, 30)
    rows = [{"model": "m1", "message": {"content": "hi"}}, {"done": True, "prompt_eval_count": 100, "eval_count": 30}]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    assert Stream("ollama", kind="application/x-ndjson").send(*lines) == Statement(Usage(100, 30), "m1")
    converse = [
        amazon("contentBlockDelta", {"delta": {"text": "hi"}}),
        amazon("messageStop", {"stopReason": "end_turn"}),
        amazon("metadata", {"usage": CONVERSE}),
    ]
    assert Stream("bedrock", kind="application/vnd.amazon.eventstream").send(*converse).usage == CACHING


def test_q03_a_stream_that_is_held_whole_is_read_from_what_is_held() -> None:
    """Q03: nothing was released, so there is no tail."""
    stream = Stream("openai")
    last = {"model": "m1", "choices": [], "usage": OPENAI_CHAT}
    for piece in (*events(delta("a"), last), b"data: [DONE]\n\n"):
        stream.hold.data(piece)
    assert stream.hold.statement(None) == Statement(USUAL, "m1-2025-08-07")


@pytest.mark.parametrize(
    ("until", "after", "usage"),
    [
        (HoldUntil.COMPLETE, b": bye\n\n", Usage(5)),
        (HoldUntil.COMPLETE, b'data: {"choices": [], "usage": {"prompt_tokens": 6}}\n\n', Usage(6)),
        (HoldUntil.OUTPUT, b'data: {"choices": [], "usage": {"prompt_tokens": 6}}\n\n', Usage(6)),
        (HoldUntil.OUTPUT, b": bye\n\n", None),
    ],
)
def test_q03_what_comes_after_a_release_counts_first(until: HoldUntil, after: bytes, usage: Usage | None) -> None:
    """Q03: what was held counts where that was the whole reply; of a live one it was the beginning only."""
    stream = Stream("openai", until=until)
    stream.hold.data(b"".join(events({"choices": []}, {"choices": [], "usage": {"prompt_tokens": 5}}, delta("a"))))
    stream.tail.append(after)
    assert stream.hold.statement(stream.tail).usage == usage


def test_q03_the_end_of_a_stream_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q03: how it ended, and what it took, are told from the same events."""
    stream = Stream("openai")
    stream.send(*events(delta("a"), {"choices": [], "usage": OPENAI_CHAT}), b"data: [DONE]\n\n")
    monkeypatch.setattr("understudy.replies.hold.last_events", lambda *_: pytest.fail("read once more"))
    assert stream.tail.last(stream.hold)[1] is not None
    assert stream.hold.statement(stream.tail).usage == USUAL
    assert stream.hold.framing is StreamKind.SSE


def test_q03_what_is_too_large_to_be_parsed_is_looked_at_where_it_counts() -> None:
    """Q03: the last count wins, and a quotation of one is none."""
    openai = DIALECTS["openai"]
    quoted = json.dumps({"text": 'so "usage": {"prompt_tokens": 7}', "usage": OPENAI_CHAT}).encode()
    assert of_fragment(openai, quoted[9:]) == USUAL
    assert of_fragment(openai, json.dumps({"text": 'so "usage": {"prompt_tokens": 7}'}).encode()[9:]) is None
    assert of_fragment(openai, b'"usage": {"prompt_tokens": 7') is None
    assert of_fragment(openai, b'"usage"') is None


@given(dialect=st.sampled_from(sorted(DIALECTS)), document=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["usage", "response", "message", "usageMetadata", "tokens", "delta", "meta", "model",
                         "prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens", "eval_count"]),
        inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_q03_nothing_that_a_vendor_writes_raises_or_is_believed_without_bounds(dialect: str, document: object) -> None:
    """Q03, law 10: hostile documents count nothing, or something that is bounded."""
    usage = of_document(DIALECTS[dialect], document).usage or NO_TOKENS
    assert 0 <= usage.input < MOST and 0 <= usage.output < MOST


def test_q03_a_number_beyond_belief_counts_nothing() -> None:
    """Q03, law 10: a sum of such numbers could not even be written."""
    assert of_document(DIALECTS["openai"], {"usage": {"prompt_tokens": 10**4000}}).usage is None


# -- which model answered --------------------------------------------------------------------------------------------

SAME = [
    ("gpt-5", "gpt-5-2025-08-07"),
    ("gpt-5", "openai/gpt-5"),
    ("gpt-4", "gpt-4-0613"),
    ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
    ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    ("anthropic/claude-sonnet-4", "anthropic/claude-4-sonnet-20250522"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
    ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5-20250929"),
    ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5-20250929"),
    ("models/gemini-2.5-pro", "gemini-2.5-pro"),
    ("gemini-1.5-pro", "gemini-1.5-pro-002"),
    ("gemini-flash-latest", "gemini-2.5-flash-preview-09-2025"),
    ("mistral-large-latest", "mistral-large-2411"),
    ("llama3", "llama3:latest"),
    ("accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-v3p1-8b-instruct"),
    ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
    ("deepseek/deepseek-chat:free", "deepseek/deepseek-chat"),
    ("openrouter/auto", "openai/gpt-5"),
    ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc", "claude-sonnet-4-5"),
    ("gpt-5", ""),
]
ANOTHER = [
    ("gpt-5", "gpt-5-mini"),
    ("gpt-5", "gpt-5.1"),
    ("gpt-4o", "gpt-4"),
    ("gpt-5-codex", "gpt-5"),
    ("claude-opus-4-5", "claude-sonnet-4-5"),
    ("claude-opus-4-20250514", "claude-opus-4-1-20250805"),
    ("claude-3-5-sonnet", "claude-3-7-sonnet"),
    ("gemini-2.5-pro", "gemini-2.5-flash"),
    ("gemini-pro-latest", "gemini-2.5-flash"),
    ("qwen3:8b", "qwen3:70b"),
    ("m1", "m2"),
]


@pytest.mark.parametrize(("sent", "named"), SAME)
def test_q04_dates_releases_and_prefixes_make_no_other_model(sent: str, named: str) -> None:
    """Q04: what vendors add to the name that was asked for, and names that leave them the choice."""
    assert not is_another(sent, named)


@pytest.mark.parametrize(("sent", "named"), ANOTHER)
def test_q04_another_model(sent: str, named: str) -> None:
    """Q04: another family, size or version."""
    assert is_another(sent, named)


@given(st.text(max_size=300), st.text(max_size=300))
def test_q04_no_name_raises(sent: str, named: str) -> None:
    """Q04: vendors call their models what they like."""
    assert is_another(sent, named) in (True, False)
    assert not is_another(sent, sent)


def test_q04_a_deployment_is_called_what_its_owner_likes() -> None:
    """Q04: so nothing can be told of Azure's."""
    body = b'{"model": "gpt-5-2025-08-07", "choices": [{"message": {"content": "hi"}}]}'
    reply = Reply(200, dialect="azure-openai", model="my-deployment", body=body)
    assert (reply.statement.model, reply.served_model) == ("gpt-5-2025-08-07", "")
    assert Reply(200, dialect="openai", model="gpt-4", body=body).served_model == "gpt-5-2025-08-07"
    assert Reply(200, dialect="openai", model="gpt-5", body=body).served_model == ""


# -- money -----------------------------------------------------------------------------------------------------------


def test_q03_what_tokens_cost() -> None:
    """Q03: by million; what came from a cache, and went into one, at its own price where that is stated."""
    usage = Usage(1_000_000, 200_000, 400_000, 100_000, 50_000)
    assert Price(2.0, 10.0).of(usage) == pytest.approx(2.0 + 2.0)
    assert Price(2.0, 10.0, 0.2, 2.5).of(usage) == pytest.approx(1.0 + 0.08 + 0.25 + 2.0)
    assert Price(2.0, 10.0).of(NO_TOKENS) == 0


def test_q03_as_many_tokens_are_believed() -> None:
    """Q03: below a billion, of what goes in and of what comes out alike."""
    openai = DIALECTS["openai"]
    for counts, believed in (((MOST - 1, MOST - 1), True), ((MOST, 1), False), ((1, MOST), False)):
        usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
        expected = Usage(*counts) if believed else None
        assert of_document(openai, {"usage": usage}).usage == expected
        assert of_fragment(openai, b'x, "usage": ' + json.dumps(usage).encode() + b"}") == expected


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        (b'"usage":{"prompt_tokens":5}', Usage(5)),
        (b', "usage" : {"prompt_tokens":5}, "x": [', Usage(5)),
        (b'"usage": null, "usage": {"prompt_tokens":5}', Usage(5)),
        (b'"usage": {"prompt_tokens":5}, "usage": {"prompt_tokens":6}', Usage(6)),
        (b'"usage": {"prompt_tokens":5', None),
        (b'usage": {"prompt_tokens":5}', None),
        (b'"usage": {' + b" " * 4100 + b'"prompt_tokens":5}', None),
        (b'"usage": {' + b" " * 3000 + b'"prompt_tokens":5}', Usage(5)),
        (b"", None),
    ],
)
def test_q03_the_last_count_in_the_end_of_a_document(data: bytes, usage: Usage | None) -> None:
    """Q03: wherever its beginning was, and up to 4 KiB of it."""
    assert of_fragment(DIALECTS["openai"], data) == usage


@pytest.mark.parametrize(
    ("sent", "named", "another"),
    [
        ("x-1", "", False),
        ("", "x-1", False),
        ("x-1", "x-1", False),
        ("x-1", "X-1", False),
        ("x-1", "x-2", True),
        ("x-1", "y/x-1", False),
        ("x-1", "---", False),
        ("auto", "x-1", False),
        ("openrouter/auto", "x-1", False),
        ("automatic-x", "x-1", True),
        ("x-latest", "x-2", False),
        ("x-latest", "y-2", True),
        ("x", "x-2", True),
        ("x-x-latest", "x", False),
        ("arn:aws:bedrock:x-1", "x-2", False),
        ("1-x", "x-1", False),
        ("x-1-mini", "x-1", True),
        ("x-1", "x-1-mini", True),
        ("x" * 199 + "-1", "x" * 199 + "-2", False),
        ("x" * 198 + "-1", "x" * 198 + "-2", True),
    ],
)
def test_q04_what_is_another_model(sent: str, named: str, another: bool) -> None:
    """Q04: told by the words of the names, whatever their order, and of each up to 200 characters."""
    assert is_another(sent, named) is another


def test_q03_a_held_array_that_goes_on_as_something_else_is_read_as_it_came() -> None:
    """Q03: what is held are the upstream's bytes, whatever the tool is sent."""
    stream = Stream("gemini", kind="application/json")
    stream.hold.data(b'[{"candidates": []}\n,\n{"usageMetadata": ' + json.dumps(GEMINI).encode() + b"}\n]")
    assert stream.hold.live
    stream.hold.goes_on_as(stream.hold.dialect)
    assert stream.hold.framing is StreamKind.SSE
    assert stream.hold.statement(None).usage == Usage(100, 30, 64, 0, 20)


@pytest.mark.parametrize(("back", "usage"), [(4, Usage(5)), (5, None)])
def test_q03_tokens_are_looked_for_in_the_last_events(back: int, usage: Usage | None) -> None:
    """Q03, law 10: in four of them, however many are kept of a stream that was passed on."""
    stream = Stream("openai")
    text = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
    counted = b'data: {"choices": [], "usage": {"prompt_tokens": 5}}\n\n'
    assert stream.hold.data(text) is Held.OUTPUT
    for chunk in (text * (TAIL_LIMIT // len(text) + 1), counted, text * (back - 1)):
        stream.tail.append(chunk)
    assert len(stream.tail.content()) == TAIL_LIMIT
    assert stream.hold.statement(stream.tail).usage == usage


def test_q03_what_is_no_success_of_a_call_that_generates_states_nothing() -> None:
    """Q03: neither a refusal nor a list of models took tokens."""
    counted = b'data: {"choices": [], "usage": {"prompt_tokens": 5}}\n\n'
    for status, kind, usage in (
        (200, Kind.GENERATING, Usage(5)),
        (200, Kind.AUXILIARY, None),
        (400, Kind.GENERATING, None),
        (400, Kind.AUXILIARY, None),
    ):
        recognised = Recognised(DIALECTS["openai"], Endpoint("chat", kind), "/chat", "")
        to = candidate("work", "m1", upstream("there", "openai"))
        held = Hold(recognised, Call("m1", True), to, Secret("work", "sk-0123456789"))
        held.start(status, [("content-type", "text/event-stream")])
        held.data(counted)
        assert held.statement(None).usage == usage


def test_q03_of_an_encoded_stream_what_was_held_is_read() -> None:
    """Q03: its end was passed on as it came, and is not looked into."""
    stream = Stream("openai")
    stream.hold.start(200, [("content-type", "text/event-stream"), ("content-encoding", "gzip")])
    role, counted, text = (
        b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": 5}}\n\n',
        b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n',
    )
    assert stream.hold.data(gzip.compress(role + counted + text)) is Held.OUTPUT
    stream.tail.append(counted.replace(b"5", b"6"))
    assert stream.hold.statement(stream.tail).usage == Usage(5)
