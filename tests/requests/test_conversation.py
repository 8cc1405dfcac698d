"""What a request says about its conversation, and what a reply leaves in one account."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.requests.conversation import SESSION_HEADERS, Conversation, read, short_session
from understudy.requests.sealed import Shape, names_in_reply

SESSION = "5f0c1a52-8f3e-4b8e-9d3f-2b8f6f0f7a11"


def body(**members: object) -> bytes:
    return json.dumps({"model": "m", "input": "hi", **members}).encode()


@pytest.mark.parametrize("header", sorted(SESSION_HEADERS))
def test_p02_the_headers_of_the_common_tools_name_the_session(header: bytes) -> None:
    """P02: Claude Code, Codex, opencode, Copilot."""
    fields = [(b"Host", b"x"), (header.title(), SESSION.encode())]
    assert read(fields, body(prompt_cache_key="other")).session == SESSION


def claude_code_id() -> str:
    return json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": SESSION})


@pytest.mark.parametrize(
    ("members", "known"),
    [
        ({"prompt_cache_key": SESSION}, True),
        ({"metadata": {"user_id": claude_code_id()}}, True),
        ({"metadata": {"user_id": f"user_{'0' * 64}_account__session_{SESSION}"}}, True),
        ({"session_id": SESSION}, True),
        ({"metadata": {"user_id": "user-17"}}, False),
        ({"user": "user-17"}, False),
        ({"prompt_cache_key": ""}, False),
        ({"prompt_cache_key": None}, False),
        ({"input": f'my "prompt_cache_key": "{SESSION}" is a quotation'}, False),
        ({"input": json.dumps({"prompt_cache_key": SESSION})}, False),
    ],
)
def test_p02_the_body_names_the_session(members: dict[str, object], known: bool) -> None:
    """P02: a user is no session, and what is quoted in a text is not said."""
    found = read([], body(**members)).session
    assert bool(found) is known
    assert len(found) <= 64
    assert found == read([], body(**members)).session


def test_the_same_body_member_of_two_sessions_differs() -> None:
    one, two = (read([], body(metadata={"user_id": claude_code_id() + tail})).session for tail in ("", " "))
    assert one != two


@pytest.mark.parametrize(("value", "is_retry"), [(b"0", False), (b"1", True), (b"2", True), (b"", False)])
def test_the_sdks_count_their_retries(value: bytes, is_retry: bool) -> None:
    assert read([(b"X-Stainless-Retry-Count", value)], b"{}").is_retry is is_retry


SEAL = "gAAAAABm" + "x" * 80 + "TheEndOfThisSealedPiece12345678=="


@pytest.mark.parametrize(
    ("shape", "text", "bonds", "parts"),
    [
        (Shape.RESPONSES, body(previous_response_id="resp_0123456789abcdef"), {"resp_0123456789abcdef"}, set()),
        (Shape.RESPONSES, body(conversation={"id": "conv_0123456789"}), {"conv_0123456789"}, set()),
        (Shape.CHAT, body(input=[{"type": "input_file", "file_id": "file-0123456789"}]), {"file-0123456789"}, set()),
        (Shape.MESSAGES, body(messages=[{"source": {"file_id": "file_011CabcDEF"}}]), {"file_011CabcDEF"}, set()),
        (Shape.MESSAGES, body(container="container_011CabcDEF"), {"container_011CabcDEF"}, set()),
        (Shape.GEMINI, body(fileUri="https://x.example/v1beta/files/abc-123"), {"files/abc-123"}, set()),
        (Shape.GEMINI, body(cachedContent="cachedContents/abc123"), {"cachedContents/abc123"}, set()),
        (None, body(file="file-0123456789", cachedContent="cachedContents/abc123"), {"file-0123456789"}, set()),
        (Shape.RESPONSES, body(input=[{"type": "reasoning", "id": "rs_0123456789"}]), set(), {"rs_0123456789"}),
        (
            Shape.RESPONSES,
            body(input=[{"type": "reasoning", "encrypted_content": SEAL}]),
            set(),
            {f"sealed {SEAL[-32:]}"},
        ),
        (
            Shape.RESPONSES,
            body(input="resp_ is how they begin", resp_0123456789="a member", tools=[{"type": "file_search"}]),
            set(),
            set(),
        ),
        (Shape.RESPONSES, body(input=[{"type": "reasoning", "encrypted_content": None}]), set(), set()),
        (Shape.RESPONSES, b"", set(), set()),
    ],
)
def test_p04_what_lives_in_one_account_is_found(
    shape: Shape | None, text: bytes, bonds: set[str], parts: set[str]
) -> None:
    """P04: stored responses, conversations, files, containers and cached contents bind; what is sealed can be left."""
    found = read([], text, shape)
    assert set(found.bonds) - {"cachedContents/abc123"} == bonds - {"cachedContents/abc123"}
    assert bonds <= set(found.bonds)
    assert set(found.parts) == parts
    assert read([], text, shape, marks=False) == Conversation()


def test_e04_the_state_of_a_turn_is_found_in_its_header() -> None:
    """E04: Codex sends back what its account gave it."""
    found = read([(b"X-Codex-Turn-State", b" gAAAAAB-turn ")], b"{}")
    assert found.states == ("state gAAAAAB-turn",)


def test_p04_the_end_of_a_stream_is_enough() -> None:
    """P04: only the last bytes of a stream are kept, and a long piece of reasoning is cut at its beginning."""
    whole = body(output=[{"id": "rs_0123456789", "encrypted_content": "y" * 20_000 + SEAL}, {"id": "msg_1"}])
    request = body(input=[{"type": "reasoning", "encrypted_content": "y" * 20_000 + SEAL}])
    found = names_in_reply(Shape.RESPONSES, whole)
    assert set(read([], request, Shape.RESPONSES).parts) <= set(found)


@given(st.binary(max_size=400), st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=80)), max_size=5))
def test_nothing_a_stranger_sends_raises(text: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    pieces = [b'"prompt_cache_key"', b'"encrypted_content"', b'"resp_', b"files/", b'"user_id":"']
    for piece in (b"", *pieces):
        found = read(fields, piece + text + piece, Shape.RESPONSES)
        assert isinstance(found, Conversation)
        assert len(found.session) <= 64
        assert all(len(mark) <= 130 for mark in (*found.bonds, *found.parts))


@pytest.mark.parametrize(("length", "short"), [(64, True), (65, False), (2000, False)])
def test_p02_a_long_id_of_a_session_is_known_by_its_hash(length: int, short: bool) -> None:
    """Law 10: and a person who names it finds the same one."""
    value = "s" * length
    found = read([(b"session-id", f" {value} ".encode())], b"{}", marks=False).session
    assert (found == value) is short and len(found) <= 64
    assert short_session(f" {value} ") == found
    assert read([], body(session_id=value)).session == found


def test_p02_the_first_header_that_names_a_session_counts() -> None:
    """P02: an empty one names none; and where nobody asks for marks the body still names the session."""
    fields = [(b"session-id", b" "), (b"thread-id", b"one"), (b"x-session-id", b"two")]
    assert read(fields, b"{}").session == "one"
    for marks in (True, False):
        assert read([], body(prompt_cache_key="of-the-body"), marks=marks).session == "of-the-body"
        assert read(fields, body(prompt_cache_key="of-the-body"), marks=marks).session == "one"
    assert read([], b'"prompt_cache_key":"at the very beginning"').session == "at the very beginning"
