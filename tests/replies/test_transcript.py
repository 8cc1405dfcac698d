"""Streamed replies as a person reads them: every dialect's events add up to text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.replies import transcript

SSE = "text/event-stream"


def events(*documents: Any, name: bool = False) -> bytes:
    """A stream of server-sent events, as vendors write them."""
    lines = []
    for document in documents:
        if name and isinstance(document, dict):
            lines.append(f"event: {document['type']}\n")
        lines.append(f"data: {document if isinstance(document, str) else json.dumps(document)}\n\n")
    return "".join(lines).encode()


def chat(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, **more}]}


CHAT = events(
    chat({"role": "assistant", "content": ""}),
    chat({"reasoning_content": "Hm, "}),
    chat({"reasoning_content": "Berlin."}),
    chat({"content": "It is "}),
    chat({"content": "sunny."}),
    chat({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "weather", "arguments": ""}}]}),
    chat({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]}),
    chat({"tool_calls": [{"index": 0, "function": {"arguments": '"Berlin"}'}}]}),
    chat({}, finish_reason="tool_calls"),
    {"choices": [], "usage": {"total_tokens": 7}},
    "[DONE]",
)
RESPONSES = events(
    {"type": "response.created", "response": {"id": "r"}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"id": "rs", "type": "reasoning"}},
    {"type": "response.reasoning_summary_text.delta", "item_id": "rs", "summary_index": 0, "delta": "Hm, Berlin."},
    {"type": "response.output_item.added", "output_index": 1, "item": {"id": "m", "type": "message"}},
    {"type": "response.output_text.delta", "item_id": "m", "content_index": 0, "delta": "It is "},
    {"type": "response.output_text.delta", "item_id": "m", "content_index": 0, "delta": "sunny."},
    {"type": "response.output_text.done", "item_id": "m", "text": "It is sunny."},
    {"type": "response.output_item.added", "item": {"id": "f", "type": "function_call", "name": "weather"}},
    {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": '{"city": "Berlin"}'},
    {"type": "response.completed", "response": {"status": "completed", "usage": {"total_tokens": 7}}},
    name=True,
)
MESSAGES = events(
    {"type": "message_start", "message": {"id": "m", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm, Berlin."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "xyz"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "It is "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "sunny."}},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "name": "weather", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city": '}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '"Berlin"}'}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
    name=True,
)


def gemini(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One chunk of Gemini."""
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


GEMINI = [
    gemini({"thought": True, "text": "Hm, Berlin."}),
    gemini({"text": "It is "}),
    gemini({"text": "sunny."}),
    gemini({"functionCall": {"name": "weather", "args": {"city": "Berlin"}}}),
    gemini(finishReason="STOP") | {"usageMetadata": {"totalTokenCount": 7}},
]
ANSWER = ["[thinking]\nHm, Berlin.", "It is sunny.", '[tool call weather]\n{"city": "Berlin"}']


@pytest.mark.parametrize(
    ("data", "content_type", "end"),
    [
        (CHAT, SSE, 'ended: tool_calls\nusage: {"total_tokens": 7}'),
        (RESPONSES, SSE, 'ended: completed\nusage: {"total_tokens": 7}'),
        (MESSAGES, SSE, 'ended: tool_use\nusage: {"output_tokens": 7}'),
        (events(*GEMINI), SSE, 'ended: STOP\nusage: {"totalTokenCount": 7}'),
        (json.dumps(GEMINI, indent=1).encode(), "application/json", 'ended: STOP\nusage: {"totalTokenCount": 7}'),
    ],
    ids=["chat", "responses", "messages", "gemini", "gemini array"],
)
def test_every_dialect_reads_the_same(data: bytes, content_type: str, end: str) -> None:
    """Thinking, text and tool calls, whatever events they came in."""
    found = transcript.read(data, content_type)
    assert str(found).split("\n\n") == [*ANSWER, end]
    assert found.others == []


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (events({"error": {"message": "m", "code": "c"}}), 'error: {"message": "m", "code": "c"}'),
        (events({"type": "error", "error": {"type": "t"}}, name=True), 'error: {"type": "t"}'),
        (events({"type": "response.failed", "response": {"error": {"a": 1}}}), 'ended: failed\nerror: {"a": 1}'),
        (events({"choices": [{"text": "plain"}]}), "plain"),
        (events({"choices": [{"index": 1, "delta": {"content": "b"}}]}), "[choice 1]\nb"),
        (events(chat({"refusal": "no"})), "[refusal]\nno"),
        (events({"promptFeedback": {"blockReason": "SAFETY"}}), 'blocked: {"blockReason": "SAFETY"}'),
        (events(gemini({"inlineData": {"data": "AAAA"}})), "[inlineData]\n"),
        (b": ping\n\n", ""),
        (b"", ""),
        (b"[1, 2", "(the rest is no stream of events)"),
    ],
)  # fmt: skip
def test_ends_and_odd_ones(data: bytes, shown: str) -> None:
    """Errors, refusals, blocks, and what is no stream at all."""
    content_type = "application/json" if data.startswith(b"[") else SSE
    assert str(transcript.read(data, content_type)) == shown


def test_what_nobody_knows_is_shown_as_it_is() -> None:
    """Nothing is dropped without a word, and a flood of it stays readable."""
    unknown = [{"type": "vendor.news", "n": number} for number in range(25)]
    found = str(transcript.read(events(*unknown, name=True) + b"data: no json " + b"x" * 999 + b"\n\n", SSE))
    assert found.startswith('other events:\nvendor.news: {"type": "vendor.news", "n": 0}\n')
    assert found.endswith("\nand 6 more")
    assert "x" * 301 not in str(transcript.read(b"data: " + b"x" * 999, SSE))


def test_an_event_that_is_too_large_ends_the_reading() -> None:
    """Law 10: said, not guessed."""
    found = str(transcript.read(events(chat({"content": "begun"})) + b"data: " + b"x" * 300_000, SSE))
    assert found == "begun\n\n(an event is too large to be read)"


KEYS = [
    *("type", "choices", "delta", "index", "tool_calls", "function", "candidates", "content", "parts", "error", "item"),
    *("item_id", "response", "content_block", "functionCall", "usage", "text", "name", "usageMetadata"),
]
KINDS = ["response.output_text.delta", "response.completed", "content_block_start", "content_block_delta", "error"]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner | st.sampled_from(KINDS), max_size=5)
    ),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=5), st.sampled_from([SSE, "application/json"]))
def test_hostile_streams(documents: list[Any], content_type: str) -> None:
    """Whatever an upstream sends, looking at it does not raise."""
    assert isinstance(str(transcript.read(events(*map(json.dumps, documents)), content_type)), str)
    assert isinstance(str(transcript.read(json.dumps(documents).encode(), content_type)), str)


@given(st.binary(max_size=200), st.sampled_from([SSE, "application/json", ""]))
def test_hostile_bytes(data: bytes, content_type: str) -> None:
    """Nor on bytes that are nothing."""
    assert isinstance(str(transcript.read(data, content_type)), str)
