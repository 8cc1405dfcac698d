"""Dumps and HARs as plain values, one flow at a time."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.test import tflow

from tests.support.decisions import NOW
from tests.support.saved_flows import MISSING, OK, dump, flow, har, noted, read, values
from understudy.flows.flow_file import FlowFileError, read_flows
from understudy.flows.saved_flow import TAIL, SavedFlow
from understudy.replies.reply import MAX_TEXT


@pytest.mark.parametrize("write", [dump, har], ids=["dump", "har"])
def test_a_dump_and_a_har_say_the_same(write: type) -> None:
    saved = read(write(flow(404, MISSING, took=2.5, path="/v1/chat/completions?beta=1"), flow(200, at=NOW + 9)))
    assert [(each.number, each.method, each.host, each.port) for each in saved] == [
        (1, "POST", "api.openai.com", 443),
        (2, "POST", "api.openai.com", 443),
    ]
    first = saved[0]
    assert (first.path, first.began) == ("/v1/chat/completions?beta=1", NOW)
    assert json.loads(first.body) == {"model": "gpt-5", "stream": False}
    assert first.header("content-type") == "application/json"
    assert first.reply is not None
    assert first.reply.status == 404
    assert json.loads(first.reply.body or b"") == MISSING
    assert first.reply.ended == pytest.approx(NOW + 2.5)


@pytest.mark.parametrize("write", [dump, har], ids=["dump", "har"])
def test_bodies_are_decoded_and_say_so(write: type) -> None:
    packed = flow(404, MISSING)
    assert packed.response is not None
    for message in (packed.request, packed.response):
        message.encode("gzip")
    (saved,) = read(write(packed))
    assert saved.reply is not None
    assert json.loads(saved.reply.body or b"") == MISSING
    assert all(name.lower() != "content-encoding" for name, _ in (*saved.headers, *saved.reply.headers))
    if write is dump:  # mitmproxy's HAR has the request body as it was on the wire, in whatever text that gives
        assert json.loads(saved.body)["model"] == "gpt-5"


def test_what_was_not_kept_is_not_empty() -> None:
    """A live stream is not kept by default: that is another thing than a reply without a body."""
    streamed, empty = flow(200), flow(200, b"")
    assert streamed.response is not None
    streamed.response.raw_content = None
    bodies = [each.reply.body for each in read(dump(streamed, empty)) if each.reply]
    assert bodies == [None, b""]
    assert [each.reply.body for each in read(har(streamed)) if each.reply] == [None]


def test_a_long_body_keeps_its_beginning_and_its_end() -> None:
    body = b"data: x\n\n" + b"y" * MAX_TEXT + b"the end"
    (saved,) = read(dump(flow(200, body)))
    assert saved.reply is not None
    assert saved.reply.body == body[:MAX_TEXT]
    assert saved.reply.tail.endswith(b"the end")
    assert len(saved.reply.tail) == TAIL


def test_flows_of_other_kinds_are_counted() -> None:
    saved = read(dump(tflow.ttcpflow(), flow(), tflow.tdnsflow(), flow(0, error="Connection refused")))
    assert [(each.number, each.error) for each in saved] == [(2, ""), (4, "Connection refused")]
    assert [each.broke for each in saved] == [0, NOW + 1]


def test_what_understudy_noted_is_read() -> None:
    (saved,) = read(dump(flow(facts={"route": "x"})))
    assert saved.facts == {"route": "x"}
    assert read(dump(flow(facts=["odd"])))[0].facts == {}


def test_a_broken_dump_gives_what_came_before() -> None:
    data = dump(flow(), flow())
    found = read_flows(io.BytesIO(data[:-30]))
    assert next(found).number == 1
    with pytest.raises(FlowFileError, match="from flow 2 on"):
        next(found)


def test_a_broken_har_gives_what_came_before() -> None:
    data = har(flow(), flow())
    found = read_flows(io.BytesIO(data[: data.rindex(b"startedDateTime")]))
    assert next(found).number == 1
    with pytest.raises(FlowFileError, match="ends in the middle"):
        next(found)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK", b'{"error": {}}', b"[]", b'{"log": {"pages": []}}'])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(FlowFileError):
        read(data)


def test_a_flow_that_claims_to_be_endless_is_refused() -> None:
    """Law 10: the length in a dump is a stranger's word."""
    with pytest.raises(FlowFileError, match="more than 512 MiB"):
        read(b"999999999999:" + b"x" * 100)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"request": {"url": 1}, "response": {"status": 200}},
        {"request": {"url": "https://[x/"}, "response": {"status": 200}},
        {"request": {"url": "https://x:99999/"}, "response": {"status": 200}},
    ],
)
def test_entries_that_are_none_are_passed_over(entry: object) -> None:
    good = json.loads(har(flow()))["log"]["entries"][0]
    saved = read(json.dumps({"log": {"entries": [entry, good]}}).encode())
    assert [each.number for each in saved] == [2]


def test_a_har_with_odd_values_is_read() -> None:
    entry = {
        "startedDateTime": "yesterday",
        "time": float("1e400"),
        "request": {"method": 7, "url": "http://h/p", "headers": "none", "postData": []},
        "response": {"status": 502, "headers": [1, {"name": "a"}], "content": {"text": "a", "encoding": "base64"}},
    }
    (saved,) = read(json.dumps({"log": {"entries": [entry]}}).encode())
    assert (saved.port, saved.began, saved.reply and saved.reply.body) == (80, 0.0, None)
    entry["response"] = {"status": 200, "content": {"text": base64.b64encode(b"\0x").decode(), "encoding": "base64"}}
    (saved,) = read(json.dumps({"log": {"entries": [entry]}}).encode())
    assert saved.reply is not None
    assert saved.reply.body == b"\0x"


def test_a_flow_is_called_by_number_id_or_beginning_of_its_id() -> None:
    (saved,) = values(flow())
    assert saved.is_called("1")
    assert saved.is_called(saved.id)
    assert saved.is_called(saved.id[:9])
    assert not saved.is_called("2")
    assert not saved.is_called("zz")


def test_the_position_is_told() -> None:
    heard: list[int] = []
    data = dump(*(flow() for _ in range(3)))
    assert len(list(read_flows(io.BytesIO(data), heard.append))) == 3
    assert heard == sorted(heard)
    assert heard[-1] in (len(data) - 1, len(data))


@pytest.mark.parametrize("write", [dump, har], ids=["dump", "har"])
def test_memory_does_not_grow_with_the_file(write: type, tmp_path: Path) -> None:
    """Law 10: 40 MiB of flows are read in a part of that, most of which is mitmproxy being loaded."""
    big = flow(200, {"text": "z" * 800_000})
    pieces: Iterator[bytes]
    if write is dump:
        pieces = (dump(big) for _ in range(50))
    else:
        head, entry, tail = json.dumps({"log": {"entries": ["@"]}}).encode().partition(b'"@"')
        entry = json.dumps(json.loads(har(big))["log"]["entries"][0]).encode()
        pieces = iter([head, *[entry + b","] * 49, entry, tail])
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.writelines(pieces)
    assert path.stat().st_size > 38 << 20
    with path.open("rb") as file:
        tracemalloc.start()
        assert sum(1 for _ in read_flows(file)) == 50
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 << 20


@given(head=st.sampled_from([b"", b"3:", b"{", b"5:ab}"]), rest=st.binary(max_size=300))
def test_whatever_is_in_a_file_there_are_flows_or_an_error(head: bytes, rest: bytes) -> None:
    with contextlib.suppress(FlowFileError):
        read(head + rest)


def test_ok_is_what_the_builders_say() -> None:
    """The builder's own reply is one: a test that trusts it must not pass by accident."""
    assert json.loads(read(dump(flow()))[0].reply.body or b"") == OK  # type: ignore[union-attr]


def damaged(data: bytes, chance: Random) -> bytes:
    """A file with a few bytes changed, lost or repeated."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at] = chance.choice(b'0123456789;,#^!~]}:{["')
            case 2:
                del changed[at : at + chance.randrange(1, 40)]
            case _:
                changed[at:at] = changed[max(0, at - 12) : at]
    return bytes(changed)


@pytest.mark.parametrize("write", [dump, har], ids=["dump", "har"])
def test_h09_a_damaged_file_is_read_or_said_to_be_damaged(write: Callable[..., bytes]) -> None:
    """H09: mitmproxy's reader raises whatever it likes on a damaged dump, KeyError for one; here it is one error."""
    whole = write(flow(404, MISSING, facts=noted(("a", "unknown"))), flow(200, OK), flow(0, error="gone"))
    chance, refused = Random(1), 0
    for _ in range(1000):
        saved: list[SavedFlow] = []
        try:
            saved = read(damaged(whole, chance))
        except FlowFileError:
            refused += 1
        assert all(isinstance(each.path, str) for each in saved)
        assert all(each.reply is None or isinstance(each.reply.status, int) for each in saved)
    assert refused > 100


@pytest.mark.parametrize("name", [b"7:headers;", b"5:error;", b"4:host;", b"11:status_code;", b"4:port;"])
def test_h09_a_dump_that_lacks_a_member_says_which_flow_is_damaged(name: bytes) -> None:
    """H09: the flows before it are good."""
    first = dump(flow(200, OK))
    second = dump(flow(200, OK, error="gone"))
    assert name in second
    broken = second.replace(name, name[:-2] + b"?;", 1)
    found: list[SavedFlow] = []
    with pytest.raises(FlowFileError, match="from flow 2 on"):
        found.extend(read_flows(io.BytesIO(first + broken)))
