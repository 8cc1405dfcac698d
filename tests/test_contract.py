"""Which of mitmproxy's internals the layer uses, and with what signatures.

This is the one place that says it. It runs on the oldest and on the newest supported mitmproxy (``scripts/test``): a
release that moves one of these fails here with its name, before anything fails in a user's proxy.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version

import pytest
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h11._readers import ChunkedReader, ContentLengthReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import addonmanager, connection, http, options
from mitmproxy.addons import dumper, proxyserver, save, savehar, tlsconfig, view
from mitmproxy.proxy import commands, context, events, layer, mode_servers, server, tunnel
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpLayer, HTTPMode, HttpStream
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Client, Http2Server
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler, ServerInstance

from understudy.inspection.journal import FlowJournal
from understudy.model.pool import Upstream
from understudy.proxy.attempt import context_below
from understudy.proxy.early_reset import read_request_event
from understudy.proxy.engine import Engine
from understudy.proxy.install import install
from understudy.proxy.listener import UnderstudyAttemptHook, UnderstudySecretHook
from understudy.proxy.stream import ReplayStream
from understudy.proxy.upstream_connection import HEAD_LIMIT, PooledHttp2Client, PooledHttpConnection, is_taken, tame
from understudy.rules.folders import shipped

HTTP = "mitmproxy.proxy.layers.http"
SIGNATURES = {
    # replaced by install.py
    f"{HTTP}:HttpLayer.make_stream": "self, stream_id",
    f"{HTTP}:HttpLayer._handle_event": "self, event",
    f"{HTTP}._http1:Http1Server.read_headers": "self, event",
    f"{HTTP}._http2:Http2Server.handle_h2_event": "self, event",
    # replaced by hook_table.py
    "mitmproxy.addonmanager:AddonManager.trigger_event": "self, event",
    "mitmproxy.proxy.server:ConnectionHandler.handle_client": "self",
    "mitmproxy.proxy.layer:Layer.handle_event": "self, event",
    # replaced by value_checks.py
    "mitmproxy.utils.typecheck:check_option_type": "name, value, typeinfo",
    "mitmproxy.optmanager:_Option.current": "self",
    "mitmproxy.net.http.url:parse_authority": "authority, check",
    # replaced by http2_fields.py
    "hpack.huffman_table:decode_huffman": "huffman_string",
    "hpack.huffman:HuffmanEncoder.encode": "self, bytes_to_encode",
    # replaced by tls_records.py
    "mitmproxy.proxy.tunnel:TunnelLayer.event_to_child": "self, event",
    "mitmproxy.proxy.tunnel:TunnelLayer._handle_command": "self, command",
    "mitmproxy.proxy.layers.tls:TLSLayer.send_data": "self, data",
    # replaced by header_lookup.py
    "mitmproxy.coretypes.multidict:_MultiDict.__getitem__": "self, key",
    "mitmproxy.coretypes.multidict:_MultiDict.__setitem__": "self, key, value",
    "mitmproxy.http:Headers.__init__": "self, fields, headers",
    # replaced by http1_messages.py
    "mitmproxy.net.http.http1:read_request_head": "lines",
    "mitmproxy.net.http.http1:read_response_head": "lines",
    "mitmproxy.net.http.http1:assemble_request_head": "request",
    "mitmproxy.net.http.http1:assemble_response_head": "response",
    f"{HTTP}._http1:Http1Connection.read_body": "self, event",
    f"{HTTP}._http1:Http1Connection.mark_done": "self, request, response",
    f"{HTTP}._http1:Http1Server.mark_done": "self, request, response",
    # replaced by event_handling.py
    "mitmproxy.proxy.server:ConnectionHandler.drain_writers": "self",
    # its fields are read by header_lookup.py
    "mitmproxy.http:Headers.get_all": "self, name",
    # done at once by hook_table.py
    "mitmproxy.addonmanager:AddonManager.handle_lifecycle": "self, event",
    "mitmproxy.addonmanager:AddonManager._iter_hooks": "self, addon, event",
    "mitmproxy.proxy.mode_servers:ProxyConnectionHandler.handle_hook": "self, hook",
    "mitmproxy.proxy.server:ConnectionHandler.hook_task": "self, hook",
    "mitmproxy.utils.asyncio_utils:create_task": "coro, name, keep_ref, client",
    # called
    f"{HTTP}:HttpLayer.event_to_child": "self, child, event",
    f"{HTTP}._http2:Http2Client.is_open_for_us": "self, stream_id",
    f"{HTTP}:HttpStream.check_killed": "self, emit_error_hook",
    f"{HTTP}:HttpStream.state_wait_for_response_headers": "self, event",
    f"{HTTP}:HttpStream.state_consume_response_body": "self, event",
    f"{HTTP}:HttpStream.state_stream_response_body": "self, event",
    # overridden
    f"{HTTP}:HttpStream.__init__": "self, context, stream_id",
    f"{HTTP}:HttpStream._handle_event": "self, event",
    f"{HTTP}:HttpStream.state_wait_for_request_headers": "self, event",
    f"{HTTP}:HttpStream.state_consume_request_body": "self, event",
    f"{HTTP}:HttpStream.start_request_stream": "self",
    f"{HTTP}:HttpStream.check_body_size": "self, request",
    f"{HTTP}:HttpStream.handle_protocol_error": "self, event",
    f"{HTTP}:HttpStream.flow_done": "self",
    f"{HTTP}:HttpStream.send_response": "self, already_streamed",
    f"{HTTP}:GetHttpConnection.connection_spec_matches": "self, connection",
    f"{HTTP}._http2:Http2Client.handle_h2_event": "self, event",
    f"{HTTP}._http2:Http2Client.close_connection": "self, msg",
    # made
    f"{HTTP}:GetHttpConnection.__init__": "self, address, tls, via, transport_protocol",
    f"{HTTP}:SendHttp.__init__": "self, event, connection",
    f"{HTTP}:DropStream.__init__": "self, stream_id",
    f"{HTTP}._base:ReceiveHttp.__init__": "self, event",
    f"{HTTP}._base:HttpEvent.__init__": "self, stream_id",
    f"{HTTP}._events:RequestHeaders.__init__": "self, stream_id, request, end_stream, replay_flow",
    f"{HTTP}._events:RequestData.__init__": "self, stream_id, data",
    f"{HTTP}._events:RequestTrailers.__init__": "self, stream_id, trailers",
    f"{HTTP}._events:RequestEndOfMessage.__init__": "self, stream_id",
    f"{HTTP}._events:RequestProtocolError.__init__": "self, stream_id, message, code",
    f"{HTTP}._events:ResponseHeaders.__init__": "self, stream_id, response, end_stream",
    f"{HTTP}._events:ResponseData.__init__": "self, stream_id, data",
    f"{HTTP}._events:ResponseEndOfMessage.__init__": "self, stream_id",
    f"{HTTP}._events:ResponseProtocolError.__init__": "self, stream_id, message, code",
    f"{HTTP}._hooks:HttpRequestHook.__init__": "self, flow",
    f"{HTTP}._hooks:HttpResponseHeadersHook.__init__": "self, flow",
    f"{HTTP}._hooks:HttpErrorHook.__init__": "self, flow",
    # proxy/websocket.py
    f"{HTTP}:HttpStream.passthrough": "self, event",
    "mitmproxy.proxy.layers.websocket:WebsocketStartHook.__init__": "self, flow",
    "mitmproxy.proxy.layers.websocket:WebsocketEndHook.__init__": "self, flow",
    "mitmproxy.websocket:WebSocketData.__init__": (
        "self, messages, closed_by_client, close_code, close_reason, timestamp_end"
    ),
    "wsproto.connection:Connection.__init__": "self, connection_type, extensions, trailing_data",
    "wsproto.connection:Connection.send": "self, event",
    "wsproto.connection:Connection.receive_data": "self, data",
    "wsproto.extensions:Extension.frame_inbound_header": "self, proto, opcode, rsv, payload_length",
    "wsproto.extensions:Extension.frame_inbound_payload_data": "self, proto, data",
    "wsproto.extensions:Extension.frame_inbound_complete": "self, proto, fin",
    "wsproto.extensions:Extension.frame_outbound": "self, proto, opcode, rsv, data, fin",
    "mitmproxy.proxy.commands:RequestWakeup.__init__": "self, delay",
    "mitmproxy.proxy.commands:CloseConnection.__init__": "self, connection",
    "mitmproxy.proxy.layers.tcp:TCPLayer.__init__": "self, context, ignore",
    "mitmproxy.proxy.layers.udp:UDPLayer.__init__": "self, context, ignore",
    "mitmproxy.proxy.layers.tls:parse_client_hello": "data",
    "mitmproxy.net.tls:starts_like_tls_record": "d",
    "mitmproxy.net.http.validate:validate_headers": "message",
    "mitmproxy.net.http.url:hostport": "scheme, host, port",
    "mitmproxy.addons.tlsconfig:TlsConfig.tls_start_server": "self, tls_start",
    # proxy/worker.py
    "mitmproxy.proxy.mode_servers:AsyncioServerInstance.listen": "self, host, port",
    "mitmproxy.proxy.mode_servers:ServerInstance.handle_stream": "self, reader, writer",
    # inspection/flow_list.py
    "mitmproxy.addons.view:View.add": "self, flows",
    "mitmproxy.addons.view:View.update": "self, flows",
    **{
        f"mitmproxy.addons.{recorder}.{hook}": f"self, {flow}"
        for recorder, flow in (("save:Save", "flow"), ("savehar:SaveHar", "flow"), ("dumper:Dumper", "f"))
        for hook in ("response", "error")
    },
}


def test_the_recorders_have_the_names_we_ask_for() -> None:
    """inspection/flow_list.py finds mitmproxy's flow list and recorders by name."""
    names = {save.Save: "save", savehar.SaveHar: "savehar", dumper.Dumper: "dumper", view.View: "view"}
    assert {kind: addonmanager._get_name(kind()) for kind in names} == names


def resolve(name: str) -> Callable[..., object]:
    """The object behind ``module:dotted.name``."""
    module, _, path = name.partition(":")
    found: object = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found)
    return found


@pytest.mark.parametrize(("name", "parameters"), SIGNATURES.items(), ids=SIGNATURES)
def test_signature(name: str, parameters: str) -> None:
    """What is called, made, overridden or replaced has the parameters we know."""
    assert ", ".join(inspect.signature(resolve(name)).parameters) == parameters, version("mitmproxy")


def make_context() -> context.Context:
    """A context as a client connection has it."""
    opts = options.Options()
    proxyserver.Proxyserver().load(_Loader(opts))
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0.0)
    return context.Context(client, opts)


class _Loader:
    def __init__(self, opts: options.Options) -> None:
        self.add_option = opts.add_option


def test_stream_attributes() -> None:
    """The state that the layer reads and sets is where it was."""
    parent = HttpLayer(make_context(), HTTPMode.regular)
    stream = HttpStream(parent.context.fork(), 1)
    for name in ("request_body_buf", "response_body_buf", "client_state", "server_state", "stream_id", "context"):
        assert hasattr(stream, name), name
    assert stream.mode is HTTPMode.regular
    assert isinstance(parent.streams, dict)
    assert isinstance(parent.connections, dict)
    assert isinstance(parent.command_sources, dict)
    assert hasattr(parent.waiting_for_establishment, "items")
    assert {"state_done", "state_errored", "passthrough"} <= set(dir(HttpStream))


def test_our_stream_finds_its_parent() -> None:
    """A stream's layer stack ends with its HTTP layer and itself."""
    parent = HttpLayer(make_context(), HTTPMode.transparent)
    stream = ReplayStream(parent.context.fork(), 1)
    assert stream.parent is parent


def test_hooks_are_called_as_we_call_them() -> None:
    """hook_table.py does what these do: a new step in one of them has to be made there as well."""
    steps: dict[Callable[..., object], list[str]] = {
        server.ConnectionHandler.hook_task: ["self.handle_hook(hook)", "hook.blocking", "HookCompleted(hook)"],
        ProxyConnectionHandler.handle_hook: ["disarm()", "handle_lifecycle(hook)", "flow.Flow", "wait_for_resume()"],
        addonmanager.AddonManager.handle_lifecycle: ["trigger_event(event)", "flow.Flow", "UpdateHook([message])"],
        addonmanager.AddonManager.trigger_event: ["self.chain", "safecall()", "invoke_addon(i, event)", "AddonHalt"],
        addonmanager.AddonManager.invoke_addon: ["_iter_hooks(addon, event)", "func(*event.args())", "await res"],
        addonmanager.AddonManager._iter_hooks: ["traverse([addon])", "getattr(a, event.name, None)", "ModuleType"],
    }
    for function, expected in steps.items():
        at, source = 0, inspect.getsource(function)
        for step in expected:
            at = source.index(step, at)
    handled = inspect.getsource(server.ConnectionHandler.server_event)
    assert handled.index("async with self._server_event_lock") < handled.index("self.layer.handle_event(event)")
    assert "handler.layer = self.make_top_layer" in inspect.getsource(ServerInstance.handle_stream)


class Beside(layer.Layer):
    """A layer beside the streams, as an attempt is one: asks for a connection, and passes on what it gets."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseEndOfMessage):
            reply = yield GetHttpConnection(("llm.test", 80), False, None, "tcp")
            assert reply == (None, "refused")
            yield ReceiveHttp(ResponseData(8, b"went on"))
        elif isinstance(event, ResponseData):
            yield ReceiveHttp(ResponseData(8, event.data))


class Asking(layer.Layer):
    """A stream that passes an event on to the layer beside it, and remembers what comes back."""

    def __init__(self, context: context.Context) -> None:
        super().__init__(context)
        self.seen: list[bytes] = []

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData):
            self.seen.append(event.data)
        else:
            yield ReceiveHttp(ResponseEndOfMessage(-2))


def test_a_layer_beside_the_streams_gets_its_events_and_waits_alone() -> None:
    """An attempt is handed its events by stream id, has streams told by theirs, and what it waits for is its own."""
    parent = HttpLayer(make_context(), HTTPMode.regular)
    parent.context.server.address = ("elsewhere.test", 80)
    asking, beside = Asking(parent.context.fork()), Beside(parent.context.fork())
    parent.streams = {8: asking, -2: beside}  # type: ignore[dict-item]
    commands_ = list(parent.event_to_child(asking, ResponseEndOfMessage(8)))
    [opening] = [each for each in commands_ if isinstance(each, commands.OpenConnection)]
    assert beside._paused is not None
    assert asking._paused is None
    # Nested, as an HTTP client hands out what it read.
    list(parent.event_to_child(asking, ResponseData(8, b"not held up")))
    assert asking.seen == [b"not held up"]
    list(parent.event_to_child(beside, ResponseData(-2, b"later")))
    list(parent.handle_event(events.OpenConnectionCompleted(opening, "refused")))
    assert beside._paused is None
    assert asking.seen == [b"not held up", b"went on", b"later"]
    parent.streams.pop(-2)
    list(parent.event_to_child(asking, ResponseEndOfMessage(8)))  # goes nowhere, and raises nothing


def test_a_context_has_what_an_attempt_copies() -> None:
    """proxy/attempt.py makes one without the server connection that ``fork`` makes and throws away."""
    parent = HttpLayer(make_context(), HTTPMode.regular)
    made, forked = context_below(parent), parent.context.fork()
    assert vars(made) == vars(forked)
    assert made.layers is not parent.context.layers


def test_an_http1_client_tells_whether_it_is_taken() -> None:
    """proxy/upstream_connection.py asks it, so that two attempts of one request do not share a connection."""
    client = Http1Client(make_context())
    assert not is_taken(client)
    client.stream_id = -2
    assert is_taken(client)
    assert not is_taken(None)


def test_a_reader_of_chunks_tells_where_it_stands() -> None:
    """splice.py passes chunks on only where the layers have nothing left of what came before."""
    reader, buffer = ChunkedReader(), ReceiveBuffer()
    assert (reader._bytes_in_chunk, reader._bytes_to_discard, reader._reading_trailer) == (0, b"", False)
    buffer += b"4\r\nab"
    reader(buffer)
    assert reader._bytes_in_chunk == 2
    buffer += b"cd"
    reader(buffer)
    assert (reader._bytes_in_chunk, reader._bytes_to_discard) == (0, b"\r\n")
    buffer += b"\r\n0\r\n"
    reader(buffer)
    assert reader._reading_trailer
    assert {"body_reader", "buf", "conn"} <= set(vars(Http1Client(make_context()))) | set(
        Http1Client.__annotations__
    ) | {name for kind in Http1Client.__mro__ for name in getattr(kind, "__annotations__", {})}


def test_every_http_stream_is_made_by_make_stream() -> None:
    """Streams are made in one place, so replacing it reaches every mode and client replay."""
    source = inspect.getsource(import_module(HTTP))
    assert source.count("= HttpStream(") == 1
    assert "HttpStream(ctx, stream_id)" in inspect.getsource(HttpLayer.make_stream)


class Tamed(Http2Server):
    """A tool's connection, read as it is while the addon is installed."""

    handle_h2_event = read_request_event


@pytest.mark.parametrize(("kind", "hears"), [(Http2Server, False), (Tamed, True)], ids=["mitmproxy", "ours"])
@pytest.mark.parametrize("goodbye", [False, True], ids=["reset", "goaway"])
def test_a_reset_in_the_packet_of_its_request_is_not_heard(kind: type[Http2Server], hears: bool, goodbye: bool) -> None:
    """proxy/early_reset.py is there because of this. A reset that comes later is heard by both."""
    for packets in (1, 2):
        ctx = make_context()
        reading, tool = kind(ctx), H2Connection()
        list(reading.handle_event(events.Start()))
        tool.initiate_connection()
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", "llm.test"), (":path", "/v1")]
        tool.send_headers(1, pseudo)
        tool.send_data(1, b"{}", end_stream=True)
        data = [tool.data_to_send()]
        if goodbye:
            tool.close_connection()
        else:
            tool.reset_stream(1, ErrorCodes.CANCEL)
        data.append(tool.data_to_send())
        if packets == 1:
            data = [b"".join(data)]
        done = [command for part in data for command in reading.handle_event(events.DataReceived(ctx.client, part))]
        heard = [type(command.event) for command in done if isinstance(command, ReceiveHttp)]
        expected = [RequestHeaders, RequestData, RequestEndOfMessage]
        assert heard == (expected if packets == 1 and not hears else [*expected, RequestProtocolError])


def test_what_is_replaced_is_put_back() -> None:
    """Without the addon mitmproxy is as it was; a second installation replaces nothing."""
    replaced = (
        *((HttpLayer, name) for name in ("make_stream", "_handle_event")),
        *((Http1Server, name) for name in ("read_headers", "read_body")),
        (Http2Server, "handle_h2_event"),
    )

    def now() -> list[object]:
        return [vars(owner).get(name) for owner, name in replaced]

    before = now()
    uninstall = install(Engine(shipped()), FlowJournal())
    ours = now()
    assert all(mine is not its for mine, its in zip(ours, before, strict=True))
    install(Engine(shipped()), FlowJournal())()
    assert now() == ours
    uninstall()
    assert now() == before


def test_a_wakeup_comes_back_with_its_command() -> None:
    """An alarm is recognised by the command that asked for it."""
    command = commands.RequestWakeup(1.0)
    assert events.Wakeup(command).command is command
    assert issubclass(events.Wakeup, events.CommandCompleted)
    assert not command.blocking


def test_paused_layers_queue_events_for_check_killed() -> None:
    """``check_killed`` finds out that the client left by looking at the queue of a paused layer."""
    assert "_paused_event_queue" in inspect.getsource(HttpStream.check_killed)
    assert hasattr(layer.Layer(make_context()), "_paused_event_queue")  # type: ignore[abstract]


def test_a_cancelled_connect_is_reported_as_closed_by_command() -> None:
    """The only way to tell a connection that was given up from one that failed."""
    assert 'cancel("closed by command")' in inspect.getsource(server.ConnectionHandler.close_connection)
    assert "asyncio.CancelledError" in inspect.getsource(server.ConnectionHandler.open_connection)


def test_the_limit_of_connections_is_where_it_was() -> None:
    """proxy/connection_limit.py lifts it by replacing the semaphore of one address before the connection is opened."""
    opening = inspect.getsource(server.ConnectionHandler.open_connection)
    assert opening.index("ServerConnectHook") < opening.index("self.max_conns[command.connection.address]")
    assert "register_connection(handler.layer.context.client.id, handler)" in inspect.getsource(
        import_module("mitmproxy.proxy.mode_servers")
    )


def test_a_closed_connection_is_where_it_was() -> None:
    """proxy/connection_limit.py closes the socket of a handler that was cancelled before it came to do so itself."""
    assert "self.transports.pop(connection)" in inspect.getsource(server.ConnectionHandler.handle_connection)
    opening = inspect.getsource(server.ConnectionHandler.open_connection)
    assert opening.index("finally") < opening.index("ServerDisconnectedHook")
    assert {"reader", "writer", "handler"} <= set(inspect.signature(server.ConnectionIO).parameters)


def replies(data: list[bytes]) -> list[object]:
    """What an HTTP/1 client of ours makes of these bytes."""
    ctx = make_context()
    ctx.server = connection.Server(address=("upstream", 80))
    client = Http1Client(ctx)
    list(client.handle_event(events.Start()))
    tame(client)
    client.request, client.stream_id = http.Request.make("GET", "http://upstream/"), 1
    seen = [command for part in data for command in client.handle_event(events.DataReceived(ctx.server, part))]
    assert len(client.buf) < HEAD_LIMIT + 2048
    return [command.event for command in seen if isinstance(command, ReceiveHttp)]


def test_messages_of_http1_are_read_as_we_read_them() -> None:
    """A new step in one of these has to be made in http1_messages.py or event_handling.py as well."""
    steps: dict[Callable[..., object], list[str]] = {
        Http1Client.read_headers: ["maybe_extract_lines()", "http1.read_response_head(", "make_body_reader("],
        Http1Server.read_headers: ["maybe_extract_lines()", "http1.read_request_head(", "make_body_reader("],
        Http1Client.send: ["http1.assemble_request_head(request)", "self.mark_done(request=True)"],
        Http1Server.send: ["http1.assemble_response_head(response)", "self.mark_done(response=True)"],
        Http1Server.mark_done: ["super().mark_done(", "not self.response_done", "self.state = self.wait"],
        server.ConnectionHandler.drain_writers: ["self._drain_lock", "self.transports.values()", "writer.drain()"],
    }
    for function, expected in steps.items():
        at, source = 0, inspect.getsource(function)
        for step in expected:
            at = source.index(step, at)
    assert ReceiveBuffer()._data == b""
    assert ContentLengthReader(5)._remaining == 5


def test_an_http1_client_is_tamed() -> None:
    """An endless head reads as a malformed one, interim responses are passed over, and so are trailers."""
    assert isinstance(Http1Client(make_context()).buf, ReceiveBuffer)
    (error,) = replies([b"x-more: " + b"y" * 1014 + b"\r\n"] * (HEAD_LIMIT // 1024 + 1))
    assert isinstance(error, ResponseProtocolError)
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\nlink: </y>\r\n\r\n"
    chunks = b"2\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n"
    reply = interim + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    for parts in ([reply], [reply[at : at + 1] for at in range(len(reply))]):
        head, *rest = replies(parts)
        assert isinstance(head, ResponseHeaders)
        assert head.response.status_code == 200
        assert [type(event) for event in rest[-1:]] == [ResponseEndOfMessage]
        assert b"".join(event.data for event in rest if isinstance(event, ResponseData)) == b"{}"
    endless = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *[b"1" * 1024] * (HEAD_LIMIT // 1024 + 1)]
    assert isinstance(replies(endless)[-1], ResponseProtocolError)


def test_an_http2_client_is_tamed() -> None:
    """It goes on to be read after a GOAWAY, and knows which requests wait and whose streams are whose."""
    client = Http2Client(make_context())
    goodbye = (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY)
    assert client.h2_conn.state_machine._transitions[goodbye] == (None, ConnectionState.CLOSED)
    tame(client)
    assert type(client) is PooledHttp2Client
    assert client.h2_conn.state_machine._transitions[goodbye] == (None, ConnectionState.CLIENT_OPEN)
    assert H2ConnectionStateMachine._transitions[goodbye] == (None, ConnectionState.CLOSED)
    assert (client.streams, client.their_stream_id, dict(client.stream_queue)) == ({}, {}, {})
    assert "their_stream_id[cmd.event.stream_id]" in inspect.getsource(Http2Client._handle_event)
    # A connection that takes no more requests is taken for one that is half closed.
    server = connection.Server(address=("llm.test", 443), state=connection.ConnectionState.CAN_READ)
    assert not server.connected
    assert "connection.connected" in inspect.getsource(HttpLayer.get_connection)


def test_pooled_connections_match_by_name_and_check() -> None:
    """A connection is used for a secret only when it goes to that very name, was checked, and has not failed."""
    upstream = Upstream("u", "openai", "https", "llm.test", 443)
    command = PooledHttpConnection(("llm.test", 443), True, None, "tcp")
    command.upstream, command.unverified = upstream, set()
    known = connection.Server(address=("llm.test", 443), tls=True, sni="llm.test")
    assert isinstance(command, GetHttpConnection)
    assert command.connection_spec_matches(known)
    known.sni = "other.test"
    assert not command.connection_spec_matches(known)
    known.sni = "llm.test"
    known.error = "refused"
    assert not command.connection_spec_matches(known)
    known.error = None
    command.unverified.add(known.id)
    assert not command.connection_spec_matches(known)
    command.unverified.clear()
    # All that mitmproxy's own test compares.
    other = {
        "address": ("llm.test", 444),
        "tls": False,
        "via": ("https", ("proxy.test", 1)),
        "transport_protocol": "udp",
    }
    assert [each.name for each in dataclasses.fields(GetHttpConnection)] == list(other)
    for name, value in other.items():
        assert command.connection_spec_matches(known)
        own = getattr(known, name)
        setattr(known, name, value)
        assert not command.connection_spec_matches(known), name
        setattr(known, name, own)


def test_the_hooks_have_the_documented_names() -> None:
    """Addons implement ``understudy_attempt``; ours implements ``understudy_secret``."""
    assert UnderstudyAttemptHook.name == "understudy_attempt"
    assert UnderstudySecretHook.name == "understudy_secret"


def test_a_given_ssl_connection_is_left_alone() -> None:
    """mitmproxy's TLS addon does not touch a connection that another addon has made."""
    source = inspect.getsource(tlsconfig.TlsConfig.tls_start_server)
    assert "if tls_start.ssl_conn is not None:\n            return" in source


def test_tunnels_have_an_outer_connection() -> None:
    """What has to be closed to give up a connection that is being made."""
    assert "tunnel_connection" in tunnel.TunnelLayer.__annotations__
    assert issubclass(modes.TransparentProxy, modes.DestinationKnown)
    assert issubclass(modes.Socks5Proxy, modes.DestinationKnown)


def test_error_codes() -> None:
    """CANCEL resets one stream on HTTP/2."""
    assert ErrorCode.CANCEL.http_status_code() is None


def test_a_request_is_its_data() -> None:
    """rewrite.py makes the copy for an upstream by copying the data of a request."""
    request = http.Request.make("POST", "https://llm.test/v1")
    assert list(vars(request)) == ["data"]
    assert {"scheme", "host", "port", "authority", "path", "headers", "content"} <= set(vars(request.data))


def test_a_worker_can_tell_which_connections_are_idle() -> None:
    """proxy/worker.py: handlers are listed with their client, and note when something happened last."""
    assert proxyserver.Proxyserver().connections == {}
    watchdog = server.TimeoutWatchdog(600, lambda: None)  # type: ignore[arg-type,return-value]
    before = watchdog.last_activity
    watchdog.register_activity()
    assert watchdog.last_activity >= before
    # proxy/shortcuts/idle_timer.py: what watches a connection, and how mitmproxy begins and ends it
    assert list(vars(watchdog)) == ["timeout", "callback", "last_activity", "can_timeout", "blocker"]
    assert watchdog.can_timeout.is_set() and inspect.iscoroutinefunction(server.TimeoutWatchdog.watch)
    handle = inspect.getsource(server.ConnectionHandler.handle_client)
    assert "watch = asyncio_utils.create_task(\n            self.timeout_watchdog.watch()," in handle
    assert handle.count(" watch.cancel()") == handle.count(" watch ") == 1
    assert "stop" in vars(mode_servers.ServerInstance) and "is_running" in vars(mode_servers.ServerInstance)
