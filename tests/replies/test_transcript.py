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


def several(*choices: dict[str, Any]) -> bytes:
    return events({"choices": list(choices)})


@pytest.mark.parametrize(
    ("data", "blocks"),
    [
        # Chat completions: which choice, which call, and what there is beside text.
        (several({"delta": {"content": "a"}}, {"index": 0, "text": "b"}), ["ab"]),
        (
            several({"delta": {"content": "a", "reasoning": "t"}},
                    {"index": 1, "delta": {"content": "b", "reasoning": "u"}}),
            ["[thinking]\nt", "a", "[thinking 1]\nu", "[choice 1]\nb"],
        ),
        (several({"index": 1, "delta": {"refusal": "no"}}, {"delta": {"refusal": "never"}}),
         ["[choice 1]\n", "[refusal 1]\nno", "[refusal]\nnever"]),
        (
            several({"delta": {"tool_calls": [
                {"index": 0, "function": {"name": "f", "arguments": "1"}}, {"index": 1, "function": {"name": "g"}},
                {"function": {"arguments": "2"}}, {"index": 1, "function": {"arguments": "3"}}, {"index": 2}, "x",
            ]}}),
            ["[tool call f]\n12", "[tool call g]\n3", "[tool call]\n"],
        ),
        (several({"delta": None, "text": "a"}, {"delta": "x", "text": "b"}), ["ab"]),
        (several({"delta": {"content": ["x"]}, "text": 5}), []),
        (several({"delta": {"reasoning_content": "", "reasoning": 5}}), []),
        (several({"finish_reason": "stop"}, {"finish_reason": "length"}), ["ended: length"]),
        (events({"choices": [], "usage": None}, {"choices": [], "usage": {}}), []),
        # Responses: by item, and what an item is called.
        (
            events({"type": "response.output_text.delta", "item_id": "a", "content_index": 0, "delta": "1"},
                   {"type": "response.output_text.delta", "item_id": "b", "content_index": 0, "delta": "2"},
                   {"type": "response.output_text.delta", "item_id": "a", "content_index": 1, "delta": "3"},
                   {"type": "response.output_text.delta", "item_id": "a", "content_index": 0, "delta": "4"},
                   {"type": "response.output_text.delta", "output_index": 7, "delta": "5"}),
            ["14", "2", "3", "5"],
        ),
        (events({"type": "response.refusal.delta", "item_id": "a", "delta": "no"}), ["[refusal]\nno"]),
        (events({"type": "response.reasoning_text.delta", "item_id": "a", "delta": "hm"}), ["[thinking]\nhm"]),
        (events({"type": "response.custom_tool_call_input.delta", "item_id": "a", "delta": "x"}), ["[tool call]\nx"]),
        (
            events({"type": "response.output_item.added", "item": {"id": "a", "type": "web_search_call"}},
                   {"type": "response.output_item.added", "output_index": 3, "item": {"type": "x_call", "name": "n"}},
                   {"type": "response.output_item.added", "item": {"id": "b", "type": "message"}},
                   {"type": "response.output_item.added", "item": "x"},
                   {"type": "response.function_call_arguments.delta", "output_index": 3, "delta": "y"}),
            ["[tool call web_search_call]\n", "[tool call n]\ny"],
        ),
        (
            events({"type": "response.incomplete", "response": {"status": "x", "incomplete_details": {"a": "é"}}}),
            ['ended: x\nbecause: {"a": "é"}'],
        ),
        (events({"type": "response.completed", "response": {"usage": [1]}}), ["ended: completed\nusage: [1]"]),
        (events({"type": "response.done", "response": None}), ["ended: done"]),
        # Messages: by block.
        (
            events({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}},
                   {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking"}},
                   {"type": "content_block_start", "index": 2, "content_block": "x"},
                   {"type": "content_block_delta", "index": 0, "delta": {"text": "b"}},
                   {"type": "content_block_delta", "index": 3, "delta": {"thinking": "c"}},
                   {"type": "content_block_delta", "index": 4, "delta": "x"},
                   {"type": "message_delta", "delta": None, "usage": {"a": 1}}),
            ["ab", "[redacted_thinking]\n", "c", 'usage: {"a": 1}'],
        ),
        # Gemini: by candidate, and each call by itself.
        (
            events({"candidates": [{"content": {"parts": [{"text": "a"}]}},
                                   {"index": 1, "content": {"parts": [{"text": "b"}, {"thought": 1, "text": "t"}, {}]}},
                                   {"index": 2, "content": None, "finishReason": "STOP"}, "x"]},
                   {"candidates": [{"content": {"parts": [{"functionCall": {"args": "é"}}, {"functionCall": {}}]}}]},
                   {"candidates": [{"index": 1, "content": {"parts": [{"text": "c"}, {"functionCall": "x"}]}}]}),
            ["a", "[candidate 1]\nbc", "[thinking]\nt", "[empty part]\n", '[tool call]\n"é"', "[tool call]\nnull",
             "[functionCall]\n", "ended: STOP"],
        ),
        (events({"usageMetadata": {"a": 1}}), ['usage: {"a": 1}']),
        # Errors, by whatever says so.
        (events({"type": "error", "message": "m"}), ['error: {"type": "error", "message": "m"}']),
        (b'event: error\ndata: {"message": "m"}\n\n', ['error: {"message": "m"}']),
        (b'event: error\ndata: {"type": "", "message": "m"}\n\n', ['error: {"type": "", "message": "m"}']),
        (events({"choices": [], "error": "e"}, {"error": "f"}), ["error: f"]),
        # What is known to say nothing, and what is not known.
        (b'event: ping\ndata: {}\n\n' + events({"type": "ping"}, {"type": "response.queued"}, {"type": 5}),
         ["other events:\n{\"type\": 5}"]),
        (events("5", "[5, []]"), ["other events:\n5\n[5, []]\n[5, []]"]),
    ],
)  # fmt: skip
def test_what_each_event_adds(data: bytes, blocks: list[str]) -> None:
    """Parts in the order in which they began, each with all that was added to it; then notes, then the rest."""
    assert str(transcript.read(data, SSE)) == "\n\n".join(blocks)


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, "\nand 1 more"), (19, "")])
def test_twenty_unknown_events_are_shown(count: int, more: str) -> None:
    found = str(transcript.read(b"data: 5\n\n" * count, SSE))
    assert found == "other events:" + "\n5" * min(count, 20) + more


@pytest.mark.parametrize(("length", "shown"), [(300, "7" * 300), (301, "7" * 300 + "…")])
def test_of_an_unknown_event_300_characters_are_shown(length: int, shown: str) -> None:
    assert str(transcript.read(b"data: x" + b"7" * (length - 1) + b"\n\n", SSE)) == f"other events:\nx{shown[1:]}"
