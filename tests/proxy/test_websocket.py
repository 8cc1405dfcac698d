"""Sockets inside mitmproxy's HTTP layer: E07 and law 12, as a script of events in and commands out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import wsproto.events as ws
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHeadersHook, HttpResponseHook
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketStartHook
from wsproto.connection import Connection, ConnectionType

from tests.sockets.test_session import message, stream, user
from tests.support.layer import STREAM_HEAD, Core, chunk
from understudy.model import WebSocket
from understudy.model.pool import Budget
from understudy.proxy import websocket
from understudy.proxy.engine import NO_REMOTE, NO_USER
from understudy.proxy.listener import UnderstudyAsideHook
from understudy.proxy.stream import ReplayStream
from understudy.proxy.websocket import LARGE, SocketCall, request_of
from understudy.proxy.worker import Drain
from understudy.sockets import Frames, Turn
from understudy.sockets.turn import Create

OPENING = {
    "Host": "api.openai.com",
    "Authorization": "Bearer tool-own-secret",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "OpenAI-Beta": "responses_websockets=2026-02-06",
    "User-Agent": "sdk/1.0",
}
REFUSED = (
    b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 84\r\n\r\n"
    + b'{"error": {"message": "The model `gpt-x` does not exist", "code": "model_not_found"}}'[:84]
)


class Tool:
    """A tool with a socket, in front of a core."""

    def __init__(self, core: Core, path: str = "/v1/responses", **headers: str) -> None:
        self.core = core
        lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in {**OPENING, **headers}.items() if v), "", ""]
        core.feed(events.DataReceived(core.client, "\r\n".join(lines).encode()))
        self.head, _, rest = core.to_client.partition(b"\r\n\r\n")
        core.to_client = rest
        self.connection = Connection(ConnectionType.CLIENT)

    @property
    def status(self) -> int:
        """That of the answer to the handshake."""
        return int(self.head.split()[1])

    def send(self, event: ws.Event) -> None:
        """A frame."""
        self.core.feed(events.DataReceived(self.core.client, self.connection.send(event)))

    def create(self, text: str = "hi", **members: Any) -> None:
        """A request."""
        asked = {"type": "response.create", "model": "gpt-x", "input": [user(text)], **members}
        self.send(ws.TextMessage(json.dumps(asked)))

    def read(self) -> list[ws.Event]:
        """What has come."""
        data, self.core.to_client = self.core.to_client, b""
        self.connection.receive_data(data)
        return list(self.connection.events())

    def messages(self) -> list[dict[str, Any]]:
        """The messages that have come."""
        read = self.read()
        assert all(isinstance(each, ws.TextMessage) for each in read), read
        return [json.loads(each.data) for each in read if isinstance(each, ws.TextMessage)]

    def leave(self) -> None:
        """Close the connection without a word."""
        self.core.client.state = ConnectionState.CLOSED
        self.core.feed(events.ConnectionClosed(self.core.client))


@pytest.fixture
def cores() -> Iterator[list[Core]]:
    """Cores that are taken apart after the test."""
    made: list[Core] = []
    yield made
    for core in made:
        core.uninstall()


def ready(cores: list[Core], how: WebSocket = WebSocket.AUTO, budget: Budget | None = None) -> Core:
    """A core whose pool file says this of sockets."""
    core = Core(budget or Budget())
    cores.append(core)
    core.engine.use(replace(core.pool, websocket=how))
    return core


def asked(core: Core, host: str = "u0.test") -> tuple[str, dict[str, Any]]:
    """The head of the last request to an upstream, in lower case, and its body."""
    head, _, body = core.sent[host].rpartition(b"\r\n\r\n")
    return head.decode().lower(), json.loads(body)


def streamed(*items: dict[str, Any], response: str = "resp_1") -> bytes:
    """A whole reply in chunks."""
    return STREAM_HEAD + chunk(b"".join(stream(response, *items))) + chunk(b"")


@pytest.mark.parametrize(
    ("how", "headers", "path", "status"),
    [
        (WebSocket.AUTO, {}, "/v1/responses", 101),
        (WebSocket.AUTO, {"User-Agent": "codex_cli_rs/0.171.0"}, "/v1/responses", 426),
        (WebSocket.AUTO, {"originator": "Codex Desktop"}, "/v1/responses", 426),
        (WebSocket.AUTO, {"originator": "my_client"}, "/v1/responses", 101),
        (WebSocket.AUTO, {}, "/v1/chat/completions", 426),
        (WebSocket.SERVE, {"User-Agent": "codex_cli_rs/0.171.0"}, "/v1/responses", 101),
        (WebSocket.REFUSE, {}, "/v1/responses", 426),
        (WebSocket.SERVE, {"Sec-WebSocket-Version": "8"}, "/v1/responses", 400),
        (WebSocket.SERVE, {"Sec-WebSocket-Key": "short"}, "/v1/responses", 400),
        (WebSocket.SERVE, {"Sec-WebSocket-Key": ""}, "/v1/responses", 400),
    ],
)
def test_e07_o07_which_sockets_are_served(
    cores: list[Core], how: WebSocket, headers: dict[str, str], path: str, status: int
) -> None:
    """E07, O07: served, or refused with 426 where the tool is known to go on over HTTP at once, or the file says so."""
    core = ready(cores, how)
    tool = Tool(core, path, **headers)
    assert tool.status == status
    assert (core.opening, core.sent) == ([], {})
    assert core.journal.told == [each for each in (status,) if each != 400]
    if status == 101:
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in tool.head


def test_e07_without_mitmproxys_own_support_nothing_is_served(cores: list[Core]) -> None:
    """`websocket=false` of mitmproxy is somebody's wish: 426."""
    core = ready(cores, WebSocket.SERVE)
    core.options.update(websocket=False)
    assert Tool(core).status == 426


@pytest.mark.parametrize("why", ["remote", "stranger", "page"])
def test_o10_law_12_is_checked_before_a_socket_is_accepted(cores: list[Core], why: str) -> None:
    """O10: who may not spend the pool gets no socket either, but the reason; nothing is sent anywhere."""
    core = ready(cores)
    headers = {}
    match why:
        case "remote":
            core.engine.is_remote = lambda client: True
        case "stranger":
            core.engine.stranger = lambda client: "another user"
        case _:
            core.context.server.address = core.client.sockname  # a proxy that is called like a server
            headers = {"Origin": "https://evil.example"}
    tool = Tool(core, **headers)
    assert tool.status == 400
    words = {"remote": NO_REMOTE, "stranger": NO_USER.format(who="another user"), "page": "https://evil.example"}
    assert words[why] in json.loads(core.to_client)["error"]["message"]
    assert (core.opening, core.sent) == ([], {})


def test_e07_each_request_is_a_call_of_its_own(cores: list[Core]) -> None:
    """E07: over HTTP, with the candidate's secret, without what is a socket's; a flow for each, and the socket's."""
    core = ready(cores)
    tool = Tool(core)
    tool.create(store=False)
    server = core.opened()
    head, body = asked(core)
    assert head.startswith("post /v1/responses http/1.1\r\n")
    assert "authorization: bearer sk-secret-0-0123456789" in head
    assert not [word for word in ("upgrade", "websocket", "tool-own-secret", "openai-beta") if word in head]
    assert "\r\naccept: text/event-stream" in head
    assert body == {"stream": True, "model": "gpt-x", "input": [user("hi")], "store": False}
    first, *rest = stream("resp_1", message("one"))
    core.receive(server, STREAM_HEAD + chunk(first))
    assert tool.messages() == []  # held: it may still be replayed
    core.receive(server, chunk(rest[0]))
    assert [each["type"] for each in tool.messages()] == ["response.created", "response.output_item.done"]
    core.receive(server, chunk(b"".join(rest[1:])) + chunk(b""))
    assert [each["type"] for each in tool.messages()] == ["response.completed"]
    tool.create("more", previous_response_id="resp_1")
    assert core.opening == []  # on the same connection
    assert asked(core)[1]["input"] == [user("hi"), message("one"), user("more")]
    core.receive(server, streamed(message("two"), response="resp_2"))
    assert tool.messages()[-1]["response"]["id"] == "resp_2"
    assert core.journal.told == [101, 1, 1]
    assert core.journal.over == 2
    flows = [hook.args()[0] for hook in core.hooks if isinstance(hook, HttpResponseHook)]
    assert [(flow.request.method, flow.response.status_code) for flow in flows] == [
        ("GET", 101),
        ("POST", 200),
        ("POST", 200),
    ]
    assert not any("tool-own-secret" in str(flow.get_state()) for flow in flows)
    assert not any("sk-secret" in str(flow.get_state()) for flow in flows)


def test_e07_f01_another_candidate_answers_unseen(cores: list[Core]) -> None:
    """E07, F01: the second one's answer is all that the tool sees of a refusal."""
    core = ready(cores)
    tool = Tool(core)
    tool.create()
    core.receive(core.opened(), REFUSED)
    core.receive(core.opened(), streamed(message("b")))
    assert [each["type"] for each in tool.messages()][-1] == "response.completed"
    assert core.journal.told == [101, 2]
    tool.create()
    assert core.opening == []
    assert asked(core, "u1.test")[1]["input"] == [user("hi")]  # the first is out of rotation


def test_e07_when_all_refuse_the_error_has_the_sockets_form(cores: list[Core]) -> None:
    """E07: the vendor's own, with its status; the connection goes on."""
    core = ready(cores)
    tool = Tool(core)
    tool.create(stream_id="lane")
    core.receive(core.opened(), REFUSED)
    core.receive(core.opened(), REFUSED)
    [error] = tool.messages()
    assert (error["type"], error["status"], error["stream_id"]) == ("error", 404, "lane")
    assert core.journal.told == [101, 1]


def test_w03_an_answer_of_our_own_has_the_sockets_form(cores: list[Core]) -> None:
    """W03 on a socket: what understudy says itself, with a time to come back."""
    core = ready(cores, budget=Budget(wait=0))
    tool = Tool(core)
    told = []
    for text in ("one", "two", "two"):
        tool.create(text)
        while core.opening:
            core.opened("Connection refused")
        core.pass_time(2)
        told.append(tool.messages()[-1])
    assert [(each["type"], each["status"]) for each in told] == [("error", 503)] * 3
    assert all("understudy" in each["error"]["message"] for each in told)
    # Not where the tool tries again: it does that by its own schedule (A10).
    assert [0 < int(each["headers"].get("retry-after", 0)) <= 60 for each in told] == [True, True, False]


@pytest.mark.parametrize("how", ["close", "leave", "cancel"])
def test_l12_who_goes_away_ends_the_attempts(cores: list[Core], how: str) -> None:
    """L12: a close, a connection that is gone and a cancel end what is under way upstream; nobody is suspended."""
    core = ready(cores)
    tool = Tool(core)
    tool.create()
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(stream("resp_1")[0]))
    match how:
        case "close":
            tool.send(ws.CloseConnection(1000, "bye"))
            [closed] = tool.read()
            assert isinstance(closed, ws.CloseConnection)
        case "leave":
            tool.leave()
        case _:
            tool.send(ws.TextMessage(json.dumps({"type": "response.cancel"})))
            [cancelled] = tool.messages()
            assert cancelled["type"] == "response.cancelled"
    assert core.closed == [server]
    assert core.journal.told == [101, -2]
    assert list(core.engine.suspensions) == []
    assert not [each for each in core.layer.streams.values() if isinstance(each, SocketCall)]
    if how != "cancel":
        assert [type(hook) for hook in core.hooks][-1] is WebsocketEndHook
        assert len(core.engine.transcripts) == 0


def test_lanes_use_connections_of_their_own(cores: list[Core]) -> None:
    """E07: HTTP/1 has room for one call at a time; their replies do not get mixed up."""
    core = ready(cores)
    tool = Tool(core)
    tool.create("a", stream_id="a")
    first = core.opened()
    tool.create("b", stream_id="b")
    second = core.opened()
    assert first is not second
    core.receive(second, streamed(message("b"), response="resp_b"))
    core.receive(first, streamed(message("a"), response="resp_a"))
    said = tool.messages()
    ids = {each["stream_id"]: each["response"]["id"] for each in said if each["type"] == "response.completed"}
    assert ids == {"a": "resp_a", "b": "resp_b"}


def test_e07_a_call_without_a_route_passes_with_its_own_credential(cores: list[Core]) -> None:
    """E07, law 9: over HTTP as well, to the host that the tool meant; two at a time on connections of their own."""
    core = ready(cores)
    routes = {"other-*": replace(core.pool.routes["default"], pattern="other-*")}
    core.engine.use(replace(core.pool, routes=routes, websocket=WebSocket.SERVE))
    tool = Tool(core)
    tool.create("a", stream_id="a")
    first = core.opened()
    tool.create("b", stream_id="b")
    second = core.opened()
    assert first is not second
    assert first.address == ("192.0.2.1", 443)
    assert b"Bearer tool-own-secret" in core.sent["192.0.2.1"]
    core.receive(second, streamed(message("b"), response="resp_b"))
    core.receive(first, streamed(message("a"), response="resp_a"))
    assert [each["response"]["id"] for each in tool.messages() if each["type"] == "response.completed"] == [
        "resp_b",
        "resp_a",
    ]


def test_s04_a_stream_that_is_cut_is_no_clean_end(cores: list[Core]) -> None:
    """S04: after output nothing is replayed; the tool gets an error, and the connection goes on."""
    core = ready(cores)
    tool = Tool(core)
    tool.create()
    server = core.opened()
    core.receive(server, STREAM_HEAD + chunk(b"".join(stream("resp_1", message("a"))[:2])))
    core.cut(server)
    *_, last = tool.messages()
    assert (last["type"], last["status"]) == ("error", 502)
    assert last["error"]["code"] == "stream_disconnected"
    assert core.journal.told == [101, 1, -1]
    tool.create()
    assert core.opening or asked(core)


def test_a_reply_that_does_not_end_holds_up_nobody(cores: list[Core]) -> None:
    """The next request goes out at the last event; what lingers is ended, and was a success."""
    core = ready(cores)
    tool = Tool(core)
    for number in (1, 2):
        tool.create(previous_response_id=None if number == 1 else f"resp_{number - 1}")
        core.receive(
            core.opened(),
            STREAM_HEAD + chunk(b"".join(stream(f"resp_{number}", message("a")))[: -len("data: [DONE]\n\n")]),
        )
        assert tool.messages()[-1]["type"] == "response.completed"
    assert len(core.closed) == 1
    assert list(core.engine.suspensions) == []
    assert core.journal.told == [101, 1, 1]


def test_h03_an_echoed_secret_is_masked_in_messages(cores: list[Core]) -> None:
    """H03, law 8: in the events of a stream, and in the headers and the body of an error."""
    core = ready(cores)
    tool = Tool(core)
    tool.create()
    secret = "sk-secret-0-0123456789"
    core.receive(core.opened(), streamed(message(secret)))
    raw = core.to_client
    assert secret.encode() not in raw
    assert tool.messages()[-1]["type"] == "response.completed"
    core.engine.use(
        replace(
            core.pool,
            routes={"default": replace(core.pool.routes["default"], choices=core.pool.routes["default"].choices[:1])},
        )
    )
    tool.create()
    body = json.dumps({"error": {"message": f"bad key {secret}", "type": "invalid_request_error"}}).encode()
    server = next(each for each in core.layer.connections if isinstance(each, Server))
    core.receive(
        server,
        b"HTTP/1.1 400 Bad Request\r\nx-echo: "
        + secret.encode()
        + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body,
    )
    assert secret.encode() not in core.to_client
    [error] = tool.messages()
    assert "<understudy:c0>" in error["error"]["message"]


def test_o08_an_exception_ends_the_socket_and_its_calls(cores: list[Core], monkeypatch: pytest.MonkeyPatch) -> None:
    """O08: an exception of ours anywhere: 1011, and nothing goes on."""
    core = ready(cores)
    tool = Tool(core)
    tool.create()
    server = core.opened()
    monkeypatch.setattr(Turn, "head", lambda *args: 1 / 0)
    core.receive(server, streamed(message("a")))
    [closed] = tool.read()
    assert isinstance(closed, ws.CloseConnection)
    assert closed.code == 1011
    assert core.names()[-1] is WebsocketEndHook


def test_o08_an_exception_in_a_call_is_an_answer(cores: list[Core], monkeypatch: pytest.MonkeyPatch) -> None:
    """O08: one call ends in a clear error, the socket goes on."""
    core = ready(cores)
    tool = Tool(core)
    with monkeypatch.context() as broken:
        broken.setattr(ReplayStream, "first_step", lambda *args: 1 / 0)
        tool.create()
    [error] = tool.messages()
    assert error["status"] == 400
    assert "internal error" in error["error"]["message"]
    tool.create()
    core.receive(core.opened(), streamed(message("a")))
    assert tool.messages()[-1]["type"] == "response.completed"


def test_a_killed_call_is_an_error_of_that_call(cores: list[Core]) -> None:
    """Somebody kills the flow of one call: its lane goes on."""
    core = ready(cores)
    tool = Tool(core)
    core.slow_hooks = (HttpRequestHook,)
    tool.create()
    [hook] = core.held
    hook.args()[0].kill()
    core.feed(events.HookCompleted(hook, None))
    [error] = tool.messages()
    assert error["error"]["code"] == "stream_disconnected"
    core.slow_hooks = ()
    tool.create()
    core.receive(core.opened(), streamed(message("a")))
    assert tool.messages()[-1]["type"] == "response.completed"


def do_asides(core: Core, aside: list[str]) -> None:
    """Do what waits to be done aside, while ``aside`` has something in it, until nothing waits."""
    while core.held:
        hook = core.held.pop()
        assert isinstance(hook, UnderstudyAsideHook)
        aside.append("here")
        hook.aside.do()
        aside.clear()
        core.feed(events.HookCompleted(hook, None))


@pytest.mark.parametrize(("size", "there"), [(10, []), (LARGE + 1, ["read_message", "request_of"])])
def test_h02_a_large_message_is_read_and_written_aside(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch, size: int, there: list[str]
) -> None:
    """H02: it is scanned and made into a call in a thread, a small one at once; what is sent is the same."""
    core = ready(cores)
    tool = Tool(core)
    core.slow_hooks = (UnderstudyAsideHook,)
    aside: list[str] = []
    found: list[str] = []
    for name in ("read_message", "request_of"):
        real = getattr(websocket, name)

        def watched(*args: object, real: Any = real, name: str = name) -> object:
            found.extend([name] if aside else [])
            return real(*args)

        monkeypatch.setattr(websocket, name, watched)
    tool.create("x" * size)
    do_asides(core, aside)
    assert found == there
    core.opened()
    assert asked(core)[1]["input"] == [user("x" * size)]


@pytest.mark.parametrize(("size", "there"), [(10, set()), (LARGE + 1, {"data", "text"})])
def test_h02_a_large_event_of_an_upstream_is_read_and_written_aside(
    cores: list[Core], monkeypatch: pytest.MonkeyPatch, size: int, there: set[str]
) -> None:
    """H02: a peer chooses what is in it. It is searched, and made into a frame, in a thread, a small one at once."""
    core = ready(cores)
    tool = Tool(core)
    tool.create()
    server = core.opened()
    core.slow_hooks = (UnderstudyAsideHook,)
    aside: list[str] = []
    found: set[str] = set()
    for owner, name in ((Turn, "data"), (Frames, "text")):
        real = getattr(owner, name)

        def watched(*args: object, real: Any = real, name: str = name) -> object:
            found.update([name] if aside else [])
            return real(*args)

        monkeypatch.setattr(owner, name, watched)
    parts = stream("resp_1", message("a"), message("x" * size))
    core.receive(server, STREAM_HEAD + chunk(b"".join(parts[:2])))
    core.receive(server, chunk(b"".join(parts[2:])) + chunk(b""))
    do_asides(core, aside)
    assert found == there
    said = tool.messages()
    assert [each["type"].removeprefix("response.") for each in said] == [
        "created",
        *["output_item.done"] * 2,
        "completed",
    ]
    assert said[2]["item"] == message("x" * size)


def test_another_addon_may_answer_in_the_place_of_the_socket(cores: list[Core]) -> None:
    """A response that a script sets goes out as it is."""
    core = ready(cores)
    core.slow_hooks = (HttpResponseHeadersHook,)
    Tool(core)
    [hook] = core.held
    flow = hook.args()[0]
    flow.response = http.Response.make(403, b"no")
    core.feed(events.HookCompleted(hook, None))
    assert core.to_client.startswith(b"HTTP/1.1 403 ")
    assert WebsocketStartHook not in core.names()


def test_a_worker_that_ends_does_not_wait_for_an_idle_socket(cores: list[Core]) -> None:
    """M06: the calls of a served socket are under way, the socket itself is not."""
    core = ready(cores)
    tool = Tool(core)
    drain = Drain(Proxyserver(), lambda: None, lambda: None, clock=lambda: 1000.0)
    [opening] = {id(hook.args()[0]): hook.args()[0] for hook in core.hooks}.values()
    drain.requestheaders(opening)
    drain.response(opening)
    assert not drain._under_way
    tool.create()
    core.receive(core.opened(), streamed(message("a")))
    flow = core.hooks[-1].args()[0]
    drain.requestheaders(flow)
    assert drain._under_way
    drain.response(flow)
    assert not drain._under_way


def test_the_headers_of_a_call_are_those_that_the_tool_would_have_sent() -> None:
    """What a message tells of its headers in `client_metadata` stands in the head, but nothing else."""
    metadata = {
        "ws_request_header_x_openai_internal_codex_responses_lite": "true",
        "ws_request_header_traceparent": "00-1",
        "ws_request_header_authorization": "Bearer other",
        "x-codex-turn-metadata": "newer",
        "x-codex-installation-id": "not sent as a header",
        "x-codex-window-id": "two\r\nlines",
        "number": 7,
    }
    text = json.dumps({"type": "response.create", "model": "m", "input": [], "client_metadata": metadata}).encode()
    opening = http.Request.make(
        "GET",
        "https://api.openai.com/v1/responses",
    )
    opened_with = {**OPENING, "OpenAI-Beta": "responses_websockets=1, other=2", "x-codex-turn-metadata": "old"}
    for name, value in opened_with.items():
        opening.headers[name] = value
    opening.headers["x-codex-window-id"] = "window"
    request = request_of(opening, Turn(Create(None, text, b""), b""))
    assert (request.method, request.url) == ("POST", "https://api.openai.com/v1/responses")
    kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
    assert kept == {
        "Authorization": "Bearer tool-own-secret",
        "OpenAI-Beta": "other=2",
        "User-Agent": "sdk/1.0",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "traceparent": "00-1",
        "x-codex-turn-metadata": "newer",
        "x-codex-window-id": "window",
        "x-openai-internal-codex-responses-lite": "true",
    }
    assert request.headers["content-length"] == str(len(request.data.content or b""))
    assert json.loads(request.content or b"")["client_metadata"] == metadata
