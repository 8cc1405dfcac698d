"""WebSockets through a real mitmdump: O07."""

from __future__ import annotations

import json

from .behaviours import Seen, verbatim
from .conftest import Perform
from .stage import RESPONSES, TOOL, Stage, whole

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
    log = stage.proxy.log_text()[logged:]
    assert "api.openai.com/v1/responses: WebSocket answered with 426" in log
    assert TOOL not in log


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
