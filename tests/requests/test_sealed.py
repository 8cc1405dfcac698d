"""Sealed parts of a conversation: how they are known again, and what each API's request looks like without them."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.requests.conversation import read
from understudy.requests.sealed import (
    NO_SIGNATURE,
    Shape,
    bonds_in,
    in_words,
    kind_of,
    may_hold,
    names_in_reply,
    parts_in,
    shape_of,
    states_in,
    take_out,
)


def seal(name: str) -> str:
    """A sealed part as vendors write them: base64 of some length, the same for the same name."""
    return "gAAAAABm" + random.Random(name).randbytes(60).hex() + "=="


def name(kind: str, of: str) -> str:
    return f"{kind} {seal(of)[-32:]}"


def everything(_part: str) -> bool:
    return True


def only(*parts: str) -> Callable[[str], bool]:
    return frozenset(parts).__contains__


def dumped(body: object, *, indent: int | None = None) -> bytes:
    """JSON with odd spacing, so that a body that is written anew would be noticed."""
    return json.dumps(body, separators=(" ,", ":  "), indent=indent).encode()


# -- Responses -------------------------------------------------------------------------------------------------------


def reasoning(of: str, **more: object) -> dict[str, object]:
    return {"type": "reasoning", "id": f"rs_{of}0123456789", "summary": [], "encrypted_content": seal(of), **more}


USER = {"role": "user", "content": 'say "reasoning" and "encrypted_content"'}
CALL = {"type": "function_call", "id": "fc_0123456789", "call_id": "c1", "name": "ls", "arguments": '{"reasoning": 1}'}
SECOND_CALL = {**CALL, "id": "fc_9876543210", "call_id": "c2"}
RESULTS = [{"type": "function_call_output", "call_id": each, "output": "x"} for each in ("c1", "c2")]
SAID = {
    "type": "message",
    "role": "assistant",
    "id": "msg_0123456789",
    "content": [{"type": "output_text", "text": "I reason."}],
}


def without_id(item: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in item.items() if key != "id"}


def responses(*items: object, **members: object) -> bytes:
    return dumped({"model": "m", "input": list(items), "store": False, "temperature": 1.0, **members})


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("before", "goes", "after"),
    [
        ([USER, reasoning("a"), SAID, USER], everything, [USER, without_id(SAID), USER]),
        (
            [USER, reasoning("a"), CALL, SECOND_CALL, *RESULTS, reasoning("b"), SAID, USER],
            everything,
            [USER, without_id(CALL), without_id(SECOND_CALL), *RESULTS, without_id(SAID), USER],
        ),
        (
            [USER, reasoning("a"), CALL, *RESULTS, reasoning("b"), SECOND_CALL, *RESULTS],
            only(name("sealed", "a")),
            [USER, without_id(CALL), *RESULTS, reasoning("b"), SECOND_CALL, *RESULTS],
        ),
        (
            [reasoning("a"), reasoning("b"), SAID, USER],
            only("rs_b0123456789"),
            [reasoning("a"), without_id(SAID), USER],
        ),
        ([reasoning("a", encrypted_content=None), USER], only("rs_a0123456789"), [USER]),
        ([USER, {"type": "item_reference", "id": "rs_a0123456789"}, SAID], everything, [USER, without_id(SAID)]),
        ([reasoning("a")], everything, []),
        (
            [{"type": "compaction", "encrypted_content": seal("c")}, reasoning("a"), SAID, USER],
            everything,
            [{"type": "compaction", "encrypted_content": seal("c")}, without_id(SAID), USER],
        ),
    ],
    ids=["one", "parallel calls", "some", "by id", "no content", "a reference", "nothing else", "a compaction stays"],
)
def test_e01_e06_reasoning_goes_with_its_item(
    before: list[object], goes: Callable[[str], bool], after: list[object], indent: int | None
) -> None:
    """E01, E06: the item, and the ids of what it led to; every other byte stays, the spacing of the rest included."""
    members = {"model": "m", "input": before, "store": False, "reasoning": {"effort": "high"}, "n": 1.0}
    body = dumped(members, indent=indent)
    made, count = take_out(Shape.RESPONSES, body, goes)
    assert json.loads(made) == {**members, "input": after}
    assert count == len(before) - len(after)
    if indent is None and after:
        assert made == dumped({**members, "input": after})


def test_e06_what_stays_is_identical_to_the_byte() -> None:
    """E06: only bytes are missing, in their order, and none is added."""
    body = responses(USER, reasoning("a"), CALL, *RESULTS, reasoning("b"), SAID, USER)
    made, _ = take_out(Shape.RESPONSES, body, everything)
    left = iter(body)
    assert all(byte in left for byte in made)
    item = dumped(reasoning("a"))
    assert body.count(item) == 1
    assert len(body) - len(made) == len(item) + len(dumped(reasoning("b"))) + 2 * len(" ,") + len(
        '"id":  "fc_0123456789" ,'
    ) + len('"id":  "msg_0123456789" ,')


@pytest.mark.parametrize("shape", Shape)
def test_without_anything_sealed_the_body_is_the_same(shape: Shape) -> None:
    body = dumped({"model": "m", "input": [USER], "messages": [USER], "contents": [{"parts": [{"text": "hi"}]}]})
    assert take_out(shape, body, everything) == (body, 0)
    assert take_out(shape, b'{"input": "hi", "messages": 5, "contents": null}', everything)[1] == 0


def test_p04_what_binds_a_response() -> None:
    """P04: what cannot be taken out without losing the conversation."""
    body = responses(
        {"type": "item_reference", "id": "msg_0123456789"},
        {"id": "fc_0123456789", "type": "item_reference"},
        {"type": "item_reference", "id": "rs_0123456789"},
        SAID | {"id": "msg_of_its_own_1"},
        {"type": "compaction", "encrypted_content": seal("c")},
        previous_response_id="resp_0123456789",
        tools=[{"type": "file_search", "vector_store_ids": ["vs_0123456789"]}, {"container": "cntr_0123456789"}],
    )
    found = bonds_in(Shape.RESPONSES, body)
    assert set(found) == {
        *("msg_0123456789", "fc_0123456789", "resp_0123456789", "vs_0123456789", "cntr_0123456789"),
        name("sealed", "c"),
    }
    assert in_words("resp_0123456789abcdef0123") == "previous_response_id resp_0123456789a…"
    assert in_words(name("sealed", "c")) == "a compaction"
    assert {in_words(each).partition(" ")[0] for each in found} == {
        *("item", "previous_response_id", "vector", "container", "a")
    }


# -- Messages --------------------------------------------------------------------------------------------------------


def thinking(of: str) -> dict[str, object]:
    return {"type": "thinking", "thinking": "I think", "signature": seal(of)}


REDACTED = {"type": "redacted_thinking", "data": seal("r")}
TEXT = {"type": "text", "text": 'the "thinking" of it'}
TOOL = {"type": "tool_use", "id": "t1", "name": "ls", "input": {"signature": "def thinking"}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]}
ASK = {"role": "user", "content": "go on"}


def said(*blocks: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(
    ("before", "goes", "after"),
    [
        ([ASK, said(thinking("a"), TEXT), ASK], everything, [ASK, said(TEXT), ASK]),
        ([ASK, said(REDACTED, thinking("a"), TEXT), ASK], everything, [ASK, said(TEXT), ASK]),
        (
            [ASK, said(thinking("a"), TEXT, TOOL), RESULT, said(thinking("b"), TOOL, TOOL), RESULT, ASK],
            only(name("thinking", "b")),
            [ASK, said(thinking("a"), TEXT, TOOL), RESULT, said(TOOL, TOOL), RESULT, ASK],
        ),
        ([ASK, said(thinking("a")), ASK], everything, [ASK, ASK]),
        ([ASK, said({"type": "thinking", "thinking": "unsigned"}, TEXT), ASK], everything, [ASK, said(TEXT), ASK]),
        ([ASK, said(REDACTED, TEXT), ASK], only(name("thinking", "r")), [ASK, said(TEXT), ASK]),
    ],
    ids=["one", "redacted", "interleaved, one of two", "nothing else in it", "unsigned", "redacted by name"],
)
@pytest.mark.parametrize("wanted", [None, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}])
def test_e02_e06_thinking_goes_block_by_block(
    before: list[object], goes: Callable[[str], bool], after: list[object], wanted: object
) -> None:
    """E02, E06: between turns the thinking of earlier ones is not needed; everything else stays to the byte."""
    more = {"thinking": wanted} if wanted else {}
    made, count = take_out(Shape.MESSAGES, dumped({"model": "m", "messages": before, **more, "max_tokens": 9}), goes)
    assert count
    assert made == dumped({"model": "m", "messages": after, **more, "max_tokens": 9})


EDITS = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]}
BUDGET = {"type": "enabled", "budget_tokens": 2000}


@pytest.mark.parametrize(
    ("turn", "is_switched_off"),
    [
        ([said(thinking("a"), TOOL), RESULT], True),
        ([said(thinking("a"), TOOL), RESULT, said(thinking("a"), TOOL), RESULT], True),
        ([said(thinking("a"), TOOL), RESULT, said(TOOL), RESULT], True),
        ([said(thinking("b"), TOOL), RESULT, said(thinking("a"), TOOL), RESULT], False),
        ([said(thinking("a"), thinking("b"), TOOL), RESULT], False),
        ([said(TEXT, TOOL), RESULT], False),
        ([said(thinking("a"), TOOL), RESULT, said(TEXT), ASK], False),
        ([said(thinking("a"), TOOL), {"role": "user", "content": [*RESULT["content"], TEXT]}], False),
    ],
    ids=[
        "one call",
        "two",
        "not interleaved",
        "begins with its own",
        "still begins so",
        "never thought",
        "over",
        "asked",
    ],
)
def test_e02_a_turn_that_has_lost_its_thinking_goes_on_without(turn: list[object], is_switched_off: bool) -> None:
    """E02: Anthropic refuses `enabled` thinking where the turn that goes on does not begin with any."""
    old = [ASK, said(thinking("a"), TEXT), ASK]
    body = {"model": "m", "thinking": BUDGET, "context_management": EDITS, "messages": [*old, *turn]}
    made, count = take_out(Shape.MESSAGES, dumped(body), only(name("thinking", "a")))
    assert count
    read = json.loads(made)
    assert read["thinking"] == ({"type": "disabled"} if is_switched_off else BUDGET)
    assert len(read["context_management"]["edits"]) == (1 if is_switched_off else 2)
    assert seal("a") not in made.decode()
    adaptive, _ = take_out(
        Shape.MESSAGES, dumped({**body, "thinking": {"type": "adaptive"}}), only(name("thinking", "a"))
    )
    assert json.loads(adaptive)["thinking"] == {"type": "adaptive"}
    assert len(json.loads(adaptive)["context_management"]["edits"]) == 2


# -- Gemini, chat ----------------------------------------------------------------------------------------------------


def test_e02_e06_gemini_keeps_the_call_and_says_that_its_signature_is_missing() -> None:
    """E02: a call needs a signature, so Google's word for none stands there; a text does without."""
    call = {"functionCall": {"name": "ls", "args": {"thoughtSignature": "no"}}, "thoughtSignature": seal("a")}
    other = {"functionCall": {"name": "ls", "args": {}}}
    contents: list[dict[str, object]] = [
        {"role": "user", "parts": [{"text": 'the "thoughtSignature"'}]},
        {"role": "model", "parts": [{"text": "I think", "thought": True}, call, other]},
        {"role": "user", "parts": [{"functionResponse": {"name": "ls", "response": {}}}]},
        {"role": "model", "parts": [{"text": "so", "thought_signature": seal("b")}, {"thoughtSignature": seal("c")}]},
    ]
    made, count = take_out(Shape.GEMINI, dumped({"contents": contents, "tools": []}), everything)
    assert count == 3
    contents[1]["parts"] = [{"text": "I think", "thought": True}, {**call, "thoughtSignature": NO_SIGNATURE}, other]
    contents[3]["parts"] = [{"text": "so"}, {"thoughtSignature": NO_SIGNATURE}]
    assert made == dumped({"contents": contents, "tools": []})
    assert take_out(Shape.GEMINI, made, everything) == (made, 0)
    some, count = take_out(Shape.GEMINI, dumped({"contents": contents[1:2]}), only(name("thought", "b")))
    assert count == 0 and json.loads(some) == {"contents": contents[1:2]}


def test_e02_chat_completions_carry_sealed_parts_of_several_vendors() -> None:
    """E02, E06: OpenRouter's details, Copilot's opaque reasoning, Gemini's signature in a call."""

    def call(signature: str) -> dict[str, Any]:
        google = {"thought_signature": signature}
        return {"id": "c1", "type": "function", "function": {"name": "ls"}, "extra_content": {"google": google}}

    details = [{"type": "reasoning.encrypted", "data": seal("a")}, {"type": "reasoning.text", "signature": seal("b")}]
    messages = [
        {"role": "user", "content": 'what is "reasoning_details"?'},
        {"role": "assistant", "reasoning_details": details, "content": "so"},
        {"role": "assistant", "content": None, "reasoning_opaque": seal("c"), "tool_calls": [call(seal("d"))]},
    ]
    body = dumped({"model": "m", "messages": messages})
    made, count = take_out(Shape.CHAT, body, everything)
    assert count == 3
    after = [
        messages[0],
        {"role": "assistant", "content": "so"},
        {"role": "assistant", "content": None, "tool_calls": [call(NO_SIGNATURE)]},
    ]
    assert made == dumped({"model": "m", "messages": after})
    assert set(parts_in(Shape.CHAT, body)) == {
        *(name("sealed", each) for each in "abc"),
        name("thought", "d"),
    }
    assert take_out(Shape.CHAT, body, only(name("sealed", "b")))[1] == 1


# -- names -----------------------------------------------------------------------------------------------------------


def test_parts_are_named_in_their_order_the_latest_last() -> None:
    body = responses(USER, reasoning("a"), CALL, *RESULTS, reasoning("b"), SAID, reasoning("c", id=None))
    assert parts_in(Shape.RESPONSES, body) == (
        *("rs_a0123456789", name("sealed", "a")),
        *("rs_b0123456789", name("sealed", "b")),
        name("sealed", "c"),
    )
    messages = dumped({"messages": [said(thinking("a"), REDACTED, TEXT)]})
    assert parts_in(Shape.MESSAGES, messages) == (name("thinking", "a"), name("thinking", "r"))
    assert [kind_of(each) for each in ("rs_1", name("thought", "a"), name("thinking", "a"))] == [
        *("sealed", "thought", "thinking")
    ]


def test_a_part_has_one_name_however_its_json_is_written() -> None:
    """Google's servers write `=` as an escape, and a client sends it back as it is."""
    escaped = json.dumps({"thoughtSignature": seal("a")}).replace("=", r"\u003d").replace("AAAA", r"AA\/AA").encode()
    plain = json.dumps({"thoughtSignature": seal("a")}).encode()
    assert parts_in(Shape.GEMINI, escaped) == parts_in(Shape.GEMINI, plain) == (name("thought", "a"),)


def test_e01_e02_a_thought_signature_has_one_name_in_both_alphabets_of_base64() -> None:
    """E01, E02: Google's servers write the standard alphabet, and Google's SDK for Python sends back the other one."""
    raw = bytes(range(190, 256)) * 2
    standard, other = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert standard[-32:] != other[-32:]
    reply = dumped({"candidates": [{"content": {"parts": [{"text": "x", "thoughtSignature": standard}]}}]})
    (learnt,) = names_in_reply(Shape.GEMINI, reply)
    call = {"functionCall": {"name": "ls", "args": {}}, "thoughtSignature": other}
    body = dumped({"contents": [{"role": "model", "parts": [call]}]})
    assert parts_in(Shape.GEMINI, body) == (learnt,)
    made, count = take_out(Shape.GEMINI, body, only(learnt))
    assert (count, made) == (1, body.replace(other.encode(), NO_SIGNATURE.encode()))


def test_e06_names_of_the_bytes_are_names_of_the_structure() -> None:
    """What is found by a search in the bytes is what is taken out by name."""
    contents = [{"parts": [{"text": "x", "thoughtSignature": seal("a")}]}]
    bodies = {
        Shape.RESPONSES: responses(reasoning("a"), SAID),
        Shape.MESSAGES: dumped({"messages": [said(REDACTED, thinking("a"), TEXT)]}),
        Shape.GEMINI: dumped({"contents": contents}),
        Shape.CHAT: dumped({"messages": [{"role": "assistant", "reasoning_opaque": seal("a")}]}),
    }
    for shape, body in bodies.items():
        for part in parts_in(shape, body):
            assert take_out(shape, body, only(part))[1] == 1, (shape, part)


def test_what_a_reply_leaves_in_its_account() -> None:
    """P04, E01: parts, stored responses and items; of a response that is not stored no item can be referred to."""
    output = [reasoning("a"), CALL, {**SAID, "id": "msg_0123456789"}]
    event = dumped({"type": "response.completed", "response": {"id": "resp_0123456789", "output": output}})
    found = set(names_in_reply(Shape.RESPONSES, event))
    parts = {"rs_a0123456789", name("sealed", "a"), "resp_0123456789"}
    assert found == parts | {"fc_0123456789", "msg_0123456789"}
    unstored = event.replace(b'"output":', b'"store":  false ,"output":')
    assert set(names_in_reply(Shape.RESPONSES, unstored)) == parts
    tail = (
        b'data: {"type":"signature_delta","signature":"%s"}\n\ndata: {"type":"message_stop"}\n\n' % seal("a").encode()
    )
    assert names_in_reply(Shape.MESSAGES, tail) == (name("thinking", "a"),)
    assert names_in_reply(None, event) == ()


@pytest.mark.parametrize(
    ("dialect", "endpoint", "shape"),
    [
        ("openai", "responses", Shape.RESPONSES),
        ("azure-openai", "responses/compact", Shape.RESPONSES),
        ("openai", "chat/completions", Shape.CHAT),
        ("openai", "embeddings", None),
        ("anthropic", "messages/count_tokens", Shape.MESSAGES),
        ("anthropic-vertex", "messages", Shape.MESSAGES),
        ("bedrock", "invoke", Shape.MESSAGES),
        ("bedrock", "converse", None),
        ("vertex", "streamGenerateContent", Shape.GEMINI),
        ("cohere", "chat", None),
    ],
)
def test_the_shape_of_a_call(dialect: str, endpoint: str, shape: Shape | None) -> None:
    assert shape_of(dialect, endpoint) is shape


@given(st.binary(max_size=300), st.sampled_from(Shape))
def test_nothing_a_stranger_sends_raises_anything_else(text: bytes, shape: Shape) -> None:
    pieces = [
        b'{"input": [',
        b'{"messages": [',
        b'"encrypted_content": "',
        b'"type": "compaction"',
        b'"rs_',
        b'"signature":"',
    ]
    for piece in pieces:
        body = piece + text + piece
        assert all(len(each) <= 130 for each in (*parts_in(shape, body), *bonds_in(shape, body)))
        try:
            take_out(shape, body, everything)
        except ValueError:
            continue


def test_h02_a_long_history_is_read_in_linear_time() -> None:
    """Law 10: ten thousand items, of which every third is sealed, in a body of some megabytes."""
    items = [each for _ in range(3000) for each in (reasoning("a"), CALL, {**RESULTS[0], "output": "x" * 500})]
    body = responses(*items)
    made, count = take_out(Shape.RESPONSES, body, everything)
    assert count == 3000
    assert b'"encrypted_content"' not in made
    assert len(parts_in(Shape.RESPONSES, body)) == 2


# -- at the edges ----------------------------------------------------------------------------------------------------

MOST = 256


@pytest.mark.parametrize(
    ("shape", "member", "kind"),
    [
        (Shape.RESPONSES, "encrypted_content", "sealed"),
        (Shape.MESSAGES, "signature", "thinking"),
        (Shape.GEMINI, "thoughtSignature", "thought"),
        (Shape.GEMINI, "thought_signature", "thought"),
        (Shape.CHAT, "reasoning_opaque", "sealed"),
    ],
)
def test_law_10_the_latest_parts_of_a_kind_are_looked_at(shape: Shape, member: str, kind: str) -> None:
    """Law 10: so many, in their order, wherever the first of them stands."""
    pieces = [f'"{member}":"part {number:05}"' for number in range(MOST + 9)]
    expected = [f"{kind} part {number:05}" for number in range(MOST + 9)]
    assert list(parts_in(shape, ",".join(pieces).encode())) == expected[9:]
    assert list(parts_in(shape, ",".join(pieces[:MOST]).encode())) == expected[:MOST]
    assert list(parts_in(shape, ",".join(pieces[:2]).encode())) == expected[:2]


@pytest.mark.parametrize(
    ("shape", "beginning"), [(Shape.RESPONSES, "resp_"), (Shape.MESSAGES, "file_"), (Shape.GEMINI, "files/")]
)
def test_law_10_the_latest_names_of_a_kind_are_looked_at(shape: Shape, beginning: str) -> None:
    """Law 10, P04: a text may begin with one, as the end of a stream does."""
    names = [f"{beginning}{number:08}" for number in range(MOST + 9)]
    text = ",".join(f'"{name}"' for name in names).encode()
    assert set(bonds_in(shape, text)) == set(names[9:])
    assert set(bonds_in(shape, text[: text.index(b",")])) == {names[0]}
    assert set(bonds_in(shape, ",".join(f'"{name}"' for name in names[:2]).encode())) == set(names[:2])
    if beginning.endswith("/"):
        assert set(bonds_in(shape, text[1 : text.index(b",")])) == {names[0]}
    reasoning_ids = [f"rs_{number:08}" for number in range(MOST + 9)]
    text = ",".join(f'"{name}"' for name in reasoning_ids).encode()
    assert list(parts_in(Shape.RESPONSES, text)) == reasoning_ids[9:]


def test_law_10_so_many_references_are_looked_at() -> None:
    """P04: an item that is referred to binds, however it is written."""
    names = [f"msg_{number:08}" for number in range(MOST + 9)]
    items = [{"type": "item_reference", "id": name} for name in names]
    assert list(bonds_in(Shape.RESPONSES, dumped({"input": items}))) == names[:MOST]
    assert bonds_in(Shape.RESPONSES, dumped({"input": items[:1]})) == (names[0],)
    cut = b'"id":"msg_00000001","type":"item_reference"'
    assert bonds_in(Shape.RESPONSES, b'{"id":"msg_00000000"},{' + cut) == ("msg_00000001",)
    assert bonds_in(Shape.RESPONSES, b'"item_reference","id":"msg_00000003"}') == ("msg_00000003",)
    other = dumped([{"type": "item_reference"}, {"id": "msg_00000002"}])
    assert bonds_in(Shape.RESPONSES, other) == ()


@pytest.mark.parametrize(("value", "has_name"), [("x" * 7, False), ("x" * 8, True), (NO_SIGNATURE, False), ("", False)])
def test_a_part_that_is_too_short_to_be_sealed_has_no_name(value: str, has_name: bool) -> None:
    """E06: nor has the word that stands for none; what has no name goes where everything goes."""
    for shape, member, kind in (
        (Shape.RESPONSES, "encrypted_content", "sealed"),
        (Shape.MESSAGES, "signature", "thinking"),
        (Shape.GEMINI, "thoughtSignature", "thought"),
    ):
        found = parts_in(shape, dumped({member: value}))
        assert found == ((f"{kind} {value}",) if has_name else ())


def test_a_part_is_known_by_its_end_however_it_is_escaped() -> None:
    """E01: 32 characters, each of which may be written with six."""
    plain = "ab" * 40
    assert parts_in(Shape.RESPONSES, dumped({"encrypted_content": plain})) == (f"sealed {plain[-32:]}",)
    for written, meant in ((r"\u003d", "="), (r"\u002B", "+"), (r"\u002f", "/"), (r"\/", "/")):
        body = f'{{"encrypted_content":"{"ab" * 40}{written * 32}"}}'.encode()
        assert parts_in(Shape.RESPONSES, body) == (f"sealed {meant * 32}",)


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary", "context_compaction"])
def test_p04_a_compaction_binds_whatever_its_kind(kind: str) -> None:
    """P04: it stands for the history before it; a body that is no JSON has none."""
    body = dumped({"input": [{"type": kind, "encrypted_content": seal("c")}, {"type": kind}]})
    assert bonds_in(Shape.RESPONSES, body) == (name("sealed", "c"),)
    assert bonds_in(Shape.RESPONSES, body[:-1]) == ()
    assert bonds_in(Shape.CHAT, body) == ()


def test_a_part_whose_value_is_cut_has_no_name() -> None:
    assert parts_in(Shape.MESSAGES, b'{"signature":"abcdefghijkl') == ()
    assert parts_in(Shape.MESSAGES, b'{"signature":') == ()
    assert parts_in(Shape.MESSAGES, b'{"signature":5,"x":"abcdefghijkl"}') == ()


def test_data_and_signatures_are_parts_only_where_sealed_parts_are() -> None:
    """An image has `data`, too."""
    image = {"source": {"type": "base64", "data": seal("i")}}
    assert parts_in(Shape.MESSAGES, dumped({"messages": [{"content": [image]}]})) == ()
    assert parts_in(Shape.CHAT, dumped({"messages": [image, {"signature": seal("s")}]})) == ()
    with_details = dumped({"messages": [{"reasoning_details": [{"data": seal("a"), "signature": seal("b")}]}]})
    assert set(parts_in(Shape.CHAT, with_details)) == {name("sealed", "a"), name("sealed", "b")}


STATE, OTHER_STATE = "gAAAAAB-the-state-of-this-turn", "gAAAAAB-another"


def test_e04_the_states_of_turns_in_a_body() -> None:
    """E04: of each member that is a text, in their order; a few hundred at most."""
    member = '"x-codex-turn-state"'
    body = f'{{"client_metadata":{{{member} : "{STATE}"}}, "more":[{{{member}:5}},{{{member}:"{OTHER_STATE}"}}]}}'
    assert states_in(body.encode()) == (f"state {STATE}", f"state {OTHER_STATE}")
    assert states_in(f'{member}:"abc"'.encode()) == ("state abc",)
    assert states_in(f'{member}:"cut'.encode()) == states_in(b"{}") == ()
    many = ",".join(f'{member}:"s{number:05}"' for number in range(MOST + 9))
    assert states_in(many.encode()) == tuple(f"state s{number:05}" for number in range(MOST))
    assert read([], body.encode(), Shape.RESPONSES).states == states_in(body.encode())
    assert read([], body.encode(), Shape.CHAT).states == ()


def test_e04_the_state_of_a_turn_goes_and_the_rest_of_its_member_stays() -> None:
    """E04: it counts as a part, beside those of the conversation."""
    metadata = {"x-codex-turn-state": STATE, "session": "s", "n": 1}
    body = responses(USER, reasoning("a"), client_metadata=metadata)
    made, count = take_out(Shape.RESPONSES, body, only(f"state {STATE}"))
    assert (count, json.loads(made)) == (
        1,
        {**json.loads(body), "client_metadata": {"session": "s", "n": 1}},
    )
    made, count = take_out(Shape.RESPONSES, body, everything)
    assert count == 2 and b"encrypted" not in made.replace(b'say \\"reasoning\\" and \\"encrypted_content\\"', b"")
    assert take_out(Shape.RESPONSES, body, only("state other")) == (body, 0)
    odd = responses(USER, client_metadata={**metadata, "x-codex-turn-state": 5})
    assert take_out(Shape.RESPONSES, odd, everything) == (odd, 0)


def test_e06_what_reasoning_led_to_ends_with_the_next_item_of_another_kind() -> None:
    """E06: behind it an item keeps its id, for the account has stored it."""
    asked = {"type": "message", "role": "user", "id": "msg_of_the_user_1", "content": "hi"}
    custom = {"type": "custom_tool_call", "id": "ctc_0123456789", "call_id": "c1", "name": "x", "input": "y"}
    for between in (USER, asked, RESULTS[0]):
        made, count = take_out(Shape.RESPONSES, responses(reasoning("a"), custom, between, SAID, CALL), everything)
        assert count == 1
        assert json.loads(made)["input"] == [without_id(custom), between, SAID, CALL]
    nameless = {key: value for key, value in CALL.items() if key != "id"}
    made, _ = take_out(Shape.RESPONSES, responses(reasoning("a"), nameless, SAID), everything)
    assert json.loads(made)["input"] == [nameless, without_id(SAID)]


def test_e06_a_call_before_any_reasoning_keeps_its_id() -> None:
    """E06: nothing that it was led to by has gone."""
    made, count = take_out(Shape.RESPONSES, responses(CALL, SAID, USER, reasoning("a")), everything)
    assert count == 1
    assert json.loads(made)["input"] == [CALL, SAID, USER]
    stored = {"type": "item_reference", "id": "msg_0123456789"}
    assert take_out(Shape.RESPONSES, responses(stored, SAID), everything)[1] == 0


def test_e06_reasoning_without_any_name_goes_where_everything_goes() -> None:
    bare = {"type": "reasoning", "summary": []}
    assert take_out(Shape.RESPONSES, responses(bare, USER), everything)[1] == 1
    assert take_out(Shape.RESPONSES, responses(bare, USER), only("rs_0123456789"))[1] == 0


def test_e02_gemini_takes_out_the_parts_that_go_and_no_others() -> None:
    """E02: a part may spell its signature in either way, or in both; a call is one in either spelling."""
    both = {"text": "x", "thoughtSignature": seal("a"), "thought_signature": seal("b")}
    call = {"function_call": {"name": "ls"}, "thought_signature": seal("c")}
    kept = {"text": "y", "thoughtSignature": seal("d")}
    unsigned = {"text": "z"}
    body = dumped({"contents": [{"parts": [both, unsigned, call, kept]}]})
    made, count = take_out(Shape.GEMINI, body, only(name("thought", "b"), name("thought", "c")))
    assert count == 2
    assert json.loads(made)["contents"][0]["parts"] == [
        {"text": "x"},
        unsigned,
        {"function_call": {"name": "ls"}, "thought_signature": NO_SIGNATURE},
        kept,
    ]


def test_e02_chat_takes_out_the_parts_that_go_and_no_others() -> None:
    """E02: of a list of details all go together, as one of them explains the other."""
    details = [{"data": seal("a")}, {"signature": seal("b")}, {"text": "unsigned"}]
    google = {"google": {"thought_signature": seal("d"), "x": 1}}
    calls = [{"id": "c1", "extra_content": google}, {"id": "c2"}]
    messages = [
        {"role": "assistant", "reasoning_details": details, "content": "so"},
        {"role": "assistant", "reasoning_opaque": seal("c"), "content": "and", "tool_calls": calls},
        {"role": "user", "content": "on"},
    ]
    body = dumped({"messages": messages})
    made, count = take_out(Shape.CHAT, body, only(name("sealed", "a")))
    assert (count, json.loads(made)["messages"]) == (1, [{"role": "assistant", "content": "so"}, *messages[1:]])
    made, count = take_out(Shape.CHAT, body, only(name("sealed", "c"), name("thought", "d")))
    changed = [{"id": "c1", "extra_content": {"google": {"thought_signature": NO_SIGNATURE, "x": 1}}}, {"id": "c2"}]
    assert (count, json.loads(made)["messages"][1]) == (
        2,
        {"role": "assistant", "content": "and", "tool_calls": changed},
    )
    empty = dumped({"messages": [{"role": "assistant", "reasoning_details": [{"text": "unsigned"}], "content": "so"}]})
    assert take_out(Shape.CHAT, empty, everything) == (empty, 0)
    short = dumped({"messages": [{"role": "assistant", "reasoning_opaque": "", "content": "so"}]})
    assert take_out(Shape.CHAT, short, everything)[1] == 1


@pytest.mark.parametrize(
    ("shape", "body", "parts"),
    [
        (Shape.RESPONSES, {"encrypted_content": seal("a"), "id": "rs_0123456789", "x-codex-turn-state": "s"}, 2),
        (Shape.MESSAGES, {"type": "thinking", "signature": seal("a")}, 1),
        (Shape.GEMINI, {"thoughtSignature": seal("a"), "thought_signature": seal("b")}, 2),
        (Shape.CHAT, {"reasoning_opaque": seal("a"), "thought_signature": seal("b")}, 2),
    ],
)
def test_a_request_is_searched_where_any_sign_of_a_part_is_in_it(
    shape: Shape, body: dict[str, str], parts: int
) -> None:
    """Nearly all have none, and pay for no more than that."""
    assert may_hold(shape, dumped(body)) and len(read([], dumped(body), shape).parts) == parts
    assert not may_hold(shape, dumped({"model": "m"}))


def test_what_binds_is_told_in_a_few_words() -> None:
    """An id is shown as far as people compare it."""
    assert in_words("resp_0123456789a") == "previous_response_id resp_0123456789a"
    assert in_words("resp_0123456789ab") == "previous_response_id resp_0123456789a…"
    assert in_words("file-abc123") == "file file-abc123"
    assert in_words("msg_0123456789") == "item msg_0123456789"
    assert [kind_of(each) for each in ("state x", "resp_1", "")] == ["sealed"] * 3


def test_what_a_chat_reply_leaves_is_looked_for_only_where_something_may_be() -> None:
    reply = dumped({"choices": [{"message": {"reasoning_opaque": seal("a")}}]})
    assert names_in_reply(Shape.CHAT, reply) == (name("sealed", "a"),)
    assert names_in_reply(Shape.CHAT, b'{"id": "file-0123456789"}') == ()
