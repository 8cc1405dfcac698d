"""A released stream from socket to socket: the tool gets what it would get through the layers; every end is seen."""

from __future__ import annotations

import gc
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.layer import STREAM_HEAD, Core
from understudy.model.pool import Budget
from understudy.proxy import splice
from understudy.proxy.shortcuts import value_checks
from understudy.proxy.splice import whole_chunks

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"The server had an error","type":"server_error","code":null}}\n\n'


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def dechunked(wire: bytes) -> tuple[bytes, bool]:
    """The content of a chunked body, and whether it has ended."""
    parts: list[bytes] = []
    while wire:
        size, _, wire = wire.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert wire == b"\r\n"
            return b"".join(parts), True
        assert wire[length : length + 2] == b"\r\n"
        parts.append(wire[:length])
        wire = wire[length + 2 :]
    return b"".join(parts), False


chunks = st.lists(st.binary(min_size=1, max_size=300), max_size=6)


@given(chunks)
def test_whole_chunks_are_read(parts: list[bytes]) -> None:
    """As many as stand whole, and where they end; the last chunk is none of them."""
    wire = b"".join(map(chunk, parts))
    assert whole_chunks(wire) == (parts, len(wire))
    if parts:
        assert whole_chunks(wire[:-1]) == (parts[:-1], len(wire) - len(chunk(parts[-1])))
    assert whole_chunks(b"xy" + wire + b"0\r\n\r\n", 2) == (parts, len(wire) + 2)


UNUSUAL = (
    b"4;ext=1\r\nabcd\r\n",
    b"-4\r\nabcd\r\n",
    b"0x4\r\nabcd\r\n",
    b" 4\r\nabcd\r\n",
    b"4\nabcd\r\n",
    b"4\r\nabcdXX",
    b"123456789\r\nabcd\r\n",
    b"4_0\r\nabcd\r\n",
    b"\r\n",
)


@pytest.mark.parametrize("wire", UNUSUAL)
def test_anything_unusual_is_for_the_layers(wire: bytes) -> None:
    """Extensions, and all that other readers of chunks could read in another way."""
    assert whole_chunks(wire) == ([], 0)


def play(wire: bytes, cuts: list[int], *, cut_off: bool, spliced: bool) -> tuple[object, ...]:
    """A released stream that comes in these pieces; returns what the tool got and what was learnt."""
    core = Core(Budget())
    passed: list[bytes] = []
    send = splice._send
    try:
        with pytest.MonkeyPatch.context() as patch:
            if spliced:
                patch.setattr(splice, "_send", lambda client, data: (passed.append(data), send(client, data))[1])  # type: ignore[func-returns-value]
            else:
                patch.setattr(splice, "begin", lambda *_: None)
            core.ask(stream=True)
            server = core.opened()
            core.receive(server, STREAM_HEAD + chunk(EVENT))
            at = 0
            for place in sorted({*(each % (len(wire) + 1) for each in cuts), len(wire)}):
                if place > at:
                    core.receive(server, wire[at:place])
                at = place
            if cut_off:
                core.cut(server)
        head, _, body = core.to_client.partition(b"\r\n\r\n")
        out = [(str(each.key), each.label) for each in core.engine.suspensions]
        ended = [core.journal.over, core.journal.told]
        return head, dechunked(body), out, ended, core.names(), bool(passed)
    finally:
        core.uninstall()


@given(
    st.lists(st.sampled_from([EVENT, b": ping\n\n", EVENT * 3, ERROR]), max_size=5),
    st.sampled_from([DONE, ERROR, b""]),
    st.lists(st.integers(0, 3000), max_size=6),
    st.booleans(),
)
def test_the_tool_gets_what_it_would_get_through_the_layers(
    parts: list[bytes], last: bytes, cuts: list[int], cut_off: bool
) -> None:
    """However the upstream's bytes are cut, and however the stream ends."""
    wire = b"".join(map(chunk, [*parts, *([last] if last else [])])) + (b"" if cut_off else b"0\r\n\r\n")
    ours = play(wire, cuts, cut_off=cut_off, spliced=True)
    assert ours[:-1] == play(wire, cuts, cut_off=cut_off, spliced=False)[:-1]


INSIDE = chunk(EVENT + b"3\r\nabc")
"""Cut after the event, the rest of this chunk reads as a chunk of its own."""
FILLER = b"abc\r\n" + chunk(b"x" * (0x53 - 5 - 4))[:-2]
ACROSS = chunk(FILLER)
"""Cut in the middle of its size, 53, the rest reads as two chunks, the first one of 3 bytes."""


@pytest.mark.parametrize(("wire", "cut"), [(INSIDE, len(chunk(EVENT)) - 2), (ACROSS, 1)], ids=["inside", "across"])
def test_a_part_that_looks_like_a_chunk_is_none(wire: bytes, cut: int) -> None:
    """Where the layers have something left of what came before, they get the rest as well."""
    assert len(FILLER) == 0x53
    assert whole_chunks(wire[cut:])[0] != []
    wire += b"0\r\n\r\n"
    ours = play(wire, [cut, len(wire) - 5], cut_off=False, spliced=True)
    assert ours[-1] is False
    assert ours[:-1] == play(wire, [cut, len(wire) - 5], cut_off=False, spliced=False)[:-1]


def test_whole_chunks_pass_as_they_came() -> None:
    """A chunk that comes whole goes past the layers, and its content is in the tail: the end is read from it."""
    wire = chunk(EVENT) + chunk(ERROR)
    spliced = play(wire + b"0\r\n\r\n", [len(chunk(EVENT)), len(wire)], cut_off=False, spliced=True)
    assert spliced[-1] is True
    assert spliced[1] == (EVENT + EVENT + ERROR, True)
    assert spliced[2] != []


SECRET = b"sk-secret-0-0123456789"
"""Of the first credential of a ``Core``."""


def test_h03_chunks_that_repeat_the_secret_take_the_way_of_the_mask() -> None:
    """H03: in one chunk, across two of them, and across two reads; whatever stands around it arrives."""
    for first, second in ((SECRET, b""), (SECRET[:7], SECRET[7:])):
        wire = chunk(EVENT) + chunk(b"a " + first) + (chunk(second) if second else b"") + chunk(b" z\n\n" + DONE)
        for cut in range(1, len(wire)):
            head, body, *_ = play(wire + b"0\r\n\r\n", [cut], cut_off=False, spliced=True)
            assert body == (EVENT + EVENT + b"a <understudy:c0>******* z\n\n" + DONE, True), cut
            assert isinstance(head, bytes)
            assert SECRET not in head


def test_a_call_leaves_nothing_for_the_garbage_collector() -> None:
    """Neither a plain call nor a stream: what is left of one is freed when it ends, once mitmproxy makes no errors."""
    core, leave = Core(Budget()), value_checks.install()
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}}]}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    stream = STREAM_HEAD + chunk(EVENT)
    try:
        core.ask(stream=False)
        server = core.opened()
        core.receive(server, answer)
        core.hooks.clear()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(3):
                core.ask(stream=False)
                core.receive(server, answer)
                core.ask(stream=True)
                core.receive(server, stream)
                core.receive(server, chunk(EVENT))
                core.receive(server, chunk(DONE) + b"0\r\n\r\n")
                core.hooks.clear()
            gc.collect()
            left = sorted({type(each).__name__ for each in gc.garbage if "understudy" in type(each).__module__})
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    finally:
        leave()
        core.uninstall()
    assert core.to_client.count(DONE) == 3
    assert left == []
