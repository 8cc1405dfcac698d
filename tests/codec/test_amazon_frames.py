"""Amazon's event stream: any chunking gives the same messages, and what does not add up is not read."""

from __future__ import annotations

import json
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.amazon_frames import frame
from understudy.codec.amazon_frames import LARGEST, Message, MessageReader, last_messages
from understudy.dialects import StreamEvent

ONE = frame({":event-type": "messageStart", ":message-type": "event"}, b'{"role":"assistant"}')
OTHER = b"\x01a\x00\x01b\x01\x01c\x02\x07\x01d\x03\x00\x07\x01e\x04\x00\x00\x00\x07\x01f\x05" + bytes(8)
OTHER += b"\x01g\x06\x00\x02xy\x01h\x08" + bytes(8) + b"\x01i\x09" + bytes(16)
"""A header of each type that is no text."""


@given(cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_chunking(cuts: list[int]) -> None:
    """S05"""
    stream = ONE + frame({"x": "é"}, b"\x00\xff", more=OTHER) + ONE
    edges = sorted(min(each, len(stream)) for each in cuts)
    reader = MessageReader()
    found = [
        message
        for start, end in zip([0, *edges], [*edges, len(stream)], strict=True)
        for message in reader.feed(stream[start:end])
    ]
    start = Message({":event-type": "messageStart", ":message-type": "event"}, b'{"role":"assistant"}')
    assert found == [start, Message({"x": "é"}, b"\x00\xff"), start]
    assert not reader.failed and not reader.overflow


@given(at=st.integers(0, len(ONE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(at: int, bit: int) -> None:
    """Bad input: the checksums are there to be checked."""
    broken = bytearray(ONE)
    broken[at] ^= 1 << bit
    reader = MessageReader()
    assert reader.feed(bytes(broken)) == [] and reader.failed
    assert reader.feed(ONE) == []


@given(data=st.binary(max_size=64))
def test_hostile_bytes(data: bytes) -> None:
    """Bad input: never raises."""
    MessageReader().feed(data)
    last_messages(data)
    head = struct.pack(">II", 16 + len(data), len(data))
    MessageReader().feed(frame({}, b"", more=data))
    assert last_messages(head + data + ONE)[-1:] == last_messages(ONE)


def test_a_message_beyond_the_limit() -> None:
    """Law 10"""
    reader = MessageReader()
    assert reader.feed(frame({}, bytes(LARGEST))[:100]) == [] and reader.overflow
    assert reader.feed(ONE) == []


def test_the_limit_is_the_longest_message() -> None:
    """Law 10: one of just this length is read; a longer one is not, not even when it comes in one piece."""
    assert len(MessageReader(len(ONE)).feed(ONE)) == 1
    reader = MessageReader(len(ONE) - 1)
    assert reader.feed(ONE) == [] and reader.overflow and not reader.failed


@pytest.mark.parametrize(("total", "headers"), [(0, 0), (0, 16), (0, 100), (15, 0), (16, 1), (99, 84)])
def test_lengths_that_cannot_be_are_known_by_the_prelude(total: int, headers: int) -> None:
    """Bad input: with its checksum right, a message of no bytes would otherwise be read for ever."""
    start = struct.pack(">II", total, headers)
    reader = MessageReader()
    assert reader.feed(start + struct.pack(">I", crc32(start))) == [] and reader.failed


def test_the_shortest_message() -> None:
    """Neither headers nor payload: 16 bytes."""
    shortest = frame({}, b"")
    assert len(shortest) == 16
    assert MessageReader().feed(shortest) == [Message({}, b"")]
    assert last_messages(b"x" * 20 + shortest) == [Message({}, b"")]


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"", True), (ONE, True), (ONE + ONE[:5], False), (ONE[:20], False), (b"\0" * 12, False), (ONE * 2, True)],
)
def test_whole_is_what_was_not_cut(data: bytes, whole: bool) -> None:
    reader = MessageReader()
    reader.feed(data)
    assert reader.whole is whole


def test_whole_is_not_what_is_too_long() -> None:
    reader = MessageReader(len(ONE))
    reader.feed(frame({}, bytes(100)))
    assert not reader.whole


def test_the_end_of_a_stream() -> None:
    """F14: only the last bytes are kept of a released stream."""
    stream = ONE * 5 + frame({":event-type": "messageStop"}, b"{}")
    for at in range(len(ONE) * 4 + 1):
        assert last_messages(stream[at:])[-1].headers == {":event-type": "messageStop"}
    assert last_messages(stream[-10:]) == []


@pytest.mark.parametrize(
    ("headers", "payload", "expected"),
    [
        ({":event-type": "metadata"}, b'{"usage":{}}', StreamEvent("metadata", b'{"usage":{}}')),
        ({":event-type": "chunk"}, b'{"bytes":"e30="}', StreamEvent("chunk", b"{}")),
        ({":event-type": "chunk"}, b'{"bytes":"?"}', StreamEvent("chunk", b'{"bytes":"?"}')),
        ({":event-type": "chunk"}, b"[]", StreamEvent("chunk", b"[]")),
    ],
)
def test_what_a_message_means(headers: dict[str, str], payload: bytes, expected: StreamEvent) -> None:
    assert Message(headers, payload).event == expected


@pytest.mark.parametrize(
    ("headers", "payload", "kind", "message"),
    [
        ({":exception-type": "throttlingException"}, b'{"message":"slow"}', "throttlingException", "slow"),
        ({":message-type": "error", ":error-code": "Bad", ":error-message": "m"}, b"", "Bad", "m"),
        ({":message-type": "exception"}, b"", "exception", ""),
    ],
)
def test_an_exception_is_an_error(headers: dict[str, str], payload: bytes, kind: str, message: str) -> None:
    event = Message(headers, payload).event
    assert (event.name, json.loads(event.data)) == ("exception", {"__type": kind, "message": message})
