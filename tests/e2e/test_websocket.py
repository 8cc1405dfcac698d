"""WebSockets through a real mitmdump: O07, E07."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from mitmproxy import http
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from .behaviours import Break, Gate, Seen, drop_before_headers, json_reply, sse, verbatim
from .conftest import Perform
from .stage import RESPONSES, SECRETS, TOOL, Stage, data, refusal, whole

HANDSHAKE = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("user-agent", "codex_exec/0.171.0"),
    ("authorization", f"Bearer {TOOL}"),
]
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TEXT = b"\x81\x05hello"
"""A WebSocket message from a server: one frame of text."""


def item(text: str) -> dict[str, Any]:
    """A message of the model."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def events(response: str, text: str) -> list[bytes]:
    """A streamed answer."""
    head = {"id": response, "object": "response", "output": []}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**head, "status": "in_progress"}},
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "item_id": "msg_1",
            "delta": text,
        },
        {"type": "response.output_item.done", "output_index": 0, "item": item(text)},
        {"type": "response.completed", "response": {**head, "status": "completed", "output": [item(text)]}},
    ]
    return [data({**each, "sequence_number": number}, each["type"]) for number, each in enumerate(told)]


@contextlib.contextmanager
def socket(stage: Stage, url: str = "", **headers: str) -> Iterator[Connection]:
    """A tool's socket through the proxy, as the `websockets` library opens it: with compression."""
    context = ssl.create_default_context(cafile=str(stage.proxy.ca))
    with connect(
        url or "wss://api.openai.com/v1/responses",
        proxy=f"http://127.0.0.1:{stage.proxy.port}",
        ssl=context,
        additional_headers={"Authorization": f"Bearer {TOOL}", **headers},
        max_size=1 << 24,
    ) as opened:
        yield opened


def create(tool: Connection, alias: str, text: str = "hi", **members: Any) -> None:
    """Send a request."""
    asked = {"type": "response.create", "model": alias, "input": [{"role": "user", "content": text}], **members}
    tool.send(json.dumps(asked))


def answer(tool: Connection) -> list[dict[str, Any]]:
    """The messages of one response, up to its last."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] not in ("response.completed", "response.failed", "error"):
        found.append(json.loads(tool.recv(timeout=20)))
    return found


def test_e07_requests_on_a_socket_are_rescued_and_go_on_from_each_other(stage: Stage) -> None:
    """E07, F01, S01: one connection; a refusal, a dropped connection and a broken stream are not seen by the tool.

    The answer is live, pings are answered, a large request arrives whole, and no secret shows anywhere.
    """
    alias, live, logged = stage.alias(), Gate(), len(stage.proxy.log_text())
    first, *rest = events("resp_1", "one")
    shown, *later = rest
    stage.play(
        alias,
        {
            "a": refusal(RESPONSES, alias),
            "b": [sse(first, shown, live, *later), sse(*events("resp_2", "two"))],
        },
    )
    with socket(stage) as tool:
        create(tool, alias, "long " * 100_000, store=False)
        begun = [json.loads(tool.recv(timeout=20)) for _ in range(2)]
        assert [each["type"] for each in begun] == ["response.created", "response.output_text.delta"]
        assert tool.ping().wait(10)
        live.open()
        assert answer(tool)[-1]["response"]["id"] == "resp_1"
        create(tool, alias, "more", store=False, previous_response_id="resp_1")
        assert answer(tool)[-1]["response"]["id"] == "resp_2"
        dropping, broken = stage.alias(), stage.alias()
        stage.play(dropping, {"a": drop_before_headers(Break.RESET), "b": sse(*events("resp_3", "three"))})
        stage.play(broken, {"a": RESPONSES.fails_in_stream(), "b": sse(*events("resp_4", "four"))})
        for name, response in ((dropping, "resp_3"), (broken, "resp_4")):
            create(tool, name, stream_id="lane")
            found = answer(tool)
            assert found[-1]["response"]["id"] == response
            assert {each["stream_id"] for each in found} == {"lane"}
    assert stage.order(alias) == ["a", "b", "b"]
    sent = [json.loads(seen.body) for seen in stage.seen(alias)]
    assert [len(each["input"]) for each in sent] == [1, 1, 3]
    assert sent[2]["input"][1] == item("one")
    assert all(seen.method == "POST" and not seen.header("upgrade") for seen in stage.seen(alias))
    stage.proxy.wait_for_log("WebSocket accepted", since=logged)
    log = stage.proxy.log_text()[logged:]
    assert not [secret for secret in (TOOL, *SECRETS.values()) if secret in log]


def test_e07_errors_and_ends_on_a_socket(stage: Stage) -> None:
    """E07, S04, L12: an error of all, a cut after output and a tool that leaves; the others go on."""
    refused, cut, held = stage.alias(), stage.alias("solo"), stage.alias("solo")
    stage.play(refused, {name: refusal(RESPONSES, refused) for name in "abc"})
    stage.play(cut, {"a": sse(*events("resp_1", "one")[:2], ending=Break.CLOSE)})
    gate = Gate()
    stage.play(held, {"a": sse(*events("resp_1", "one")[:1], gate)})
    with socket(stage) as tool:
        create(tool, refused)
        [error] = answer(tool)
        assert (error["status"], error["error"]["code"]) == (400, "model_not_found")
        tool.send("no JSON")
        assert answer(tool)[-1]["error"]["code"] == "invalid_request"
        create(tool, cut)
        *_, last = answer(tool)
        assert (last["status"], last["error"]["code"]) == (502, "stream_disconnected")
        create(tool, held)
        gate.wait_reached()
    stage.main.wait(lambda seen: any(each.cancelled for each in seen if held in each.body.decode("latin-1")))
    assert stage.order(held) == ["a"]
    with socket(stage) as tool:
        tool.send(b"bytes")
        with pytest.raises(ConnectionClosed) as closed:
            tool.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


def test_e07_the_pool_file_says_what_happens_to_sockets(perform: Perform) -> None:
    """E07, O07, O10, R07: `websocket:`; a page from elsewhere is refused; saved flows have a flow for each call."""
    stage = perform(extra="websocket: refuse")
    with pytest.raises(InvalidStatus) as refused, socket(stage):
        pass
    assert refused.value.response.status_code == 426
    stage.proxy.stop()
    stage = perform(extra="websocket: serve", mode="reverse:https://api.openai.com")
    url = f"ws://127.0.0.1:{stage.proxy.port}/v1/responses"
    own = {"Authorization": f"Bearer {TOOL}", "User-Agent": "codex_exec/0.171.0"}
    with (
        pytest.raises(InvalidStatus) as page,
        connect(url, proxy=None, additional_headers={**own, "Origin": "https://evil.example"}, user_agent_header=None),
    ):
        pass
    assert page.value.response.status_code == 400
    assert b"https://evil.example" in page.value.response.body
    alias = stage.alias()
    stage.play(alias, {"a": json_reply(503, {"error": {"message": "overloaded"}}), "b": sse(*events("resp_1", "one"))})
    with connect(url, proxy=None, additional_headers=own, user_agent_header=None) as tool:
        create(tool, alias)
        assert answer(tool)[-1]["response"]["id"] == "resp_1"
    stage.proxy.stop()
    flows = [each for each in stage.proxy.flows() if isinstance(each, http.HTTPFlow)]
    told = [(each.request.method, each.response and each.response.status_code) for each in flows]
    assert ("GET", 101) in told
    assert ("POST", 200) in told
    assert not [secret for secret in (TOOL, *SECRETS.values()) if secret.encode() in stage.proxy.flow_path.read_bytes()]


def test_o07_the_tool_goes_to_http_at_once(stage: Stage) -> None:
    """O07: an upgrade where calls are made gets a 426 and costs no upstream anything; the call then just works."""
    alias = stage.alias()
    stage.play(alias, {"a": whole(RESPONSES, stream=True)})
    before, logged = len(stage.main.seen) + len(stage.other.seen), len(stage.proxy.log_text())
    with stage.connect(RESPONSES) as tool:
        answer = tool.request("GET", "/v1/responses", HANDSHAKE)
        assert answer.status == 426
        assert answer.header("upgrade") == "HTTP/1.1"
        assert "plain HTTP" in json.dumps(answer.json)
        assert len(stage.main.seen) + len(stage.other.seen) == before
        assert stage.send(tool, RESPONSES, alias, stream=True).finish().status == 200
    assert stage.order(alias) == ["a"]
    stage.proxy.wait_for_log("api.openai.com/v1/responses: WebSocket answered with 426", since=logged)
    assert TOOL not in stage.proxy.log_text()[logged:]


def opened(stage: Stage, path: str) -> Seen:
    """Open a WebSocket at the first upstream, hear it speak, and return what that has seen."""
    stage.main.on(lambda seen: seen.path == path, verbatim(ACCEPTED, TEXT))
    with stage.connect(RESPONSES, url=stage.main.tls_url) as tool:
        lines = [f"GET {path} HTTP/1.1", "host: localhost", *(f"{name}: {value}" for name, value in HANDSHAKE)]
        tool.send_raw("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while TEXT not in received and (data := tool.receive_raw()):
            received += data
    assert received.startswith(b"HTTP/1.1 101 ")
    assert TEXT in received
    [seen] = [seen for seen in stage.main.seen if seen.path == path]
    return seen


def test_o07_realtime_passes_untouched(stage: Stage) -> None:
    """O07: a WebSocket that carries no such calls is opened with the tool's own credential, and speaks."""
    assert opened(stage, f"/v1/realtime?model={stage.alias()}").credential == TOOL


def test_o07_observing_touches_no_websocket(perform: Perform) -> None:
    """O07: where routes only observe and advise, also one that carries calls is opened as the tool asked for it."""
    stage = perform(routes="  gpt-*: {candidates: [a, b], mode: advise}\n  default: {candidates: [a], mode: observe}")
    assert opened(stage, "/v1/responses").credential == TOOL
    assert "WebSocket answered" not in stage.proxy.log_text()
