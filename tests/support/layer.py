"""mitmproxy's HTTP layer with ours in it, without a network: events in, commands out, and a clock that is set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

from mitmproxy import connection, http, options
from mitmproxy.addons import proxyserver
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode

from understudy.failover.exchange import Exchange
from understudy.failover.memory import Plan
from understudy.failover.steps import Attempt, Outcome
from understudy.model.pool import Budget, Choice, Credential, Pool, Route, SecretSource, Upstream
from understudy.proxy.engine import Engine
from understudy.proxy.exchange_facts import Facts
from understudy.proxy.install import install
from understudy.proxy.listener import Measured, UnderstudySecretHook
from understudy.proxy.pooled_call import PooledCall
from understudy.proxy.timeouts import Alarm
from understudy.rules.folders import shipped

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Known:
    """A secret that is just there."""

    is_client = False
    refreshable = False

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret."""
        return self._value


class Silent:
    """A journal that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.named: list[tuple[int, str]] = []
        self.taken: list[Measured] = []
        self.over = 0

    def began(self, flow: http.HTTPFlow, exchange: Exchange, plan: Plan) -> None:
        """Nothing to remember."""

    def observing(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """Nothing to remember."""

    def observed(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """Nothing to remember."""

    def waited(self, flow: http.HTTPFlow, exchange: Exchange, seconds: float, reason: str) -> None:
        """Nothing to remember."""

    def left(self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, record: http.HTTPFlow | None) -> None:
        """Remember that the tool went away."""
        self.told.append(-2)

    def served_by(self, flow: http.HTTPFlow, exchange: Exchange, number: int, model: str) -> None:
        """Remember which other model was named."""
        self.named.append((number, model))

    def measured(self, flow: http.HTTPFlow, exchange: Exchange, measured: Measured) -> None:
        """Remember what replies took."""
        self.taken.append(measured)

    def finished(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Count the ends."""
        self.over += 1

    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        """Remember which attempt was released."""
        self.told.append(number)

    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        """Remember that a stream ended badly."""
        self.told.append(-1)

    def sent_to_http(self, flow: http.HTTPFlow) -> None:
        """Remember that a WebSocket was refused."""
        self.told.append(426)

    def served(self, flow: http.HTTPFlow) -> None:
        """Remember that a WebSocket was accepted."""
        self.told.append(101)


class Core:
    """mitmproxy's HTTP layer for one HTTP/1.1 client, with hooks that complete at once and a clock that is set."""

    def __init__(self, budget: Budget, credentials: int = 2, first: SecretSource | None = None) -> None:
        self.now = 1000.0
        upstreams = [Upstream(f"u{n}", "openai", "http", f"u{n}.test", 80, "/v1") for n in range(credentials)]
        owned = [
            Credential(f"c{n}", upstream, Known(f"sk-secret-{n}-0123456789")) for n, upstream in enumerate(upstreams)
        ]
        if first is not None:
            owned[0] = replace(owned[0], secret=first)
        self.pool = Pool(
            {each.name: each for each in upstreams},
            {each.name: each for each in owned},
            {"default": Route("default", tuple(Choice(each) for each in owned), budget=budget)},
        )
        self.engine = Engine(shipped(), clock=lambda: self.now, random=Random(1))
        self.engine.use(self.pool)
        self.journal = Silent()
        self.uninstall = install(self.engine, self.journal)
        opts = options.Options()
        proxyserver.Proxyserver().load(_Loader(opts))
        opts.update(connection_strategy="lazy")
        client = connection.Client(
            peername=("127.0.0.1", 1),
            sockname=("127.0.0.1", 8080),
            timestamp_start=0.0,
            proxy_mode=ProxyMode.parse("transparent"),
            state=ConnectionState.OPEN,
        )
        self.client = client
        self.options = opts
        self.opening: list[commands.OpenConnection] = []
        self.alarms: list[tuple[float, Alarm]] = []
        self.hooks: list[commands.StartHook] = []
        self.closed: list[Server] = []
        self.held: list[commands.StartHook] = []
        """Hooks that end when a test says so."""
        self.slow_hooks: tuple[type[commands.StartHook], ...] = (UnderstudySecretHook,)
        """Which ones do; by default those for secrets."""
        self.to_client = b""
        self.sent: dict[str, bytes] = {}
        self.come_in()

    def come_in(self) -> None:
        """The tool's connection is there."""
        self.context = context.Context(self.client, self.options)
        self.context.server.address = ("192.0.2.1", 443)
        self.client.sni = "api.openai.com"
        self.layer = HttpLayer(self.context, HTTPMode.transparent)
        self.feed(events.Start())

    def come_back(self) -> None:
        """The tool has left, and is there again on another connection."""
        self.client = connection.Client(
            peername=("127.0.0.1", 2),
            sockname=("127.0.0.1", 8080),
            timestamp_start=self.now,
            proxy_mode=self.client.proxy_mode,
            state=ConnectionState.OPEN,
        )
        self.to_client = b""
        self.alarms.clear()  # they are those of the layer that ended with the old connection
        self.come_in()

    def feed(self, event: events.Event) -> None:
        """Hand the layer an event and do what it then wants."""
        self.carry_out(self.layer.handle_event(event))

    def carry_out(self, wanted: Iterator[commands.Command]) -> None:
        """Do what the layer wants, and whatever it wants next."""
        todo = [wanted]
        while todo:
            for command in todo.pop(0):
                match command:
                    case commands.OpenConnection():
                        self.opening.append(command)
                    case Alarm():
                        self.alarms.append((self.now + command.delay, command))
                    case commands.StartHook() if isinstance(command, self.slow_hooks):
                        self.hooks.append(command)
                        self.held.append(command)
                    case commands.StartHook():
                        self.hooks.append(command)
                        if command.blocking:
                            todo.append(self.layer.handle_event(events.HookCompleted(command, None)))
                    case commands.SendData(connection=Server() as server):
                        assert server.address is not None
                        self.sent[server.address[0]] = self.sent.get(server.address[0], b"") + command.data
                    case commands.SendData():
                        self.to_client += command.data
                    case commands.CloseConnection(connection=Server() as server):
                        self.closed.append(server)
                        server.state = ConnectionState.CLOSED
                    case _:
                        pass

    def ask(self, *, stream: bool) -> None:
        """The tool's request."""
        self.post("/v1/chat/completions", {"model": "gpt-x", "stream": stream, "messages": []})

    def post(self, path: str, asked: Mapping[str, object]) -> None:
        """A request of the tool's choice."""
        body = json.dumps(asked).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: api.openai.com\r\nauthorization: Bearer tool\r\n".encode()
        self.feed(events.DataReceived(self.client, head + b"content-length: %d\r\n\r\n" % len(body) + body))

    def opened(self, error: str | None = None) -> Server:
        """The connection that is being opened is there, or failed."""
        command = self.opening.pop(0)
        server = command.connection
        assert isinstance(server, Server)
        if error is None:
            server.state = ConnectionState.OPEN
        else:
            server.error = error
        self.feed(events.OpenConnectionCompleted(command, error))
        return server

    def receive(self, server: Server, data: bytes) -> None:
        """Bytes from an upstream."""
        self.feed(events.DataReceived(server, data))

    def cut(self, server: Server) -> None:
        """An upstream closes the connection."""
        server.state = ConnectionState.CLOSED
        self.feed(events.ConnectionClosed(server))

    def pass_time(self, seconds: float) -> None:
        """Let the clock run and ring what is due then."""
        self.now += seconds
        due = [alarm for at, alarm in self.alarms if at <= self.now]
        self.alarms = [(at, alarm) for at, alarm in self.alarms if at > self.now]
        for alarm in due:
            self.feed(events.Wakeup(alarm))

    def names(self) -> list[type[commands.StartHook]]:
        """The hooks so far."""
        return [type(hook) for hook in self.hooks]


class ToolStream(Layer):
    """In the place of the tool's stream: remembers what it is told, and does what a test wants."""

    def __init__(self, core: Core, stream_id: int) -> None:
        super().__init__(core.context.fork())
        self.core = core
        self.stream_id = stream_id
        self.wanted: CommandGenerator[None] | None = None
        self.seen: list[events.Event] = []
        core.layer.streams[stream_id] = self  # type: ignore[assignment] # the layer only hands events to it

    def act(self, wanted: CommandGenerator[None]) -> None:
        """Have these commands come from this stream."""
        self.wanted = wanted
        self.core.carry_out(self.core.layer.event_to_child(self, events.Start()))

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self.wanted is not None:
            wanted, self.wanted = self.wanted, None
            yield from wanted
        else:
            self.seen.append(event)


def pooled_call(core: Core, *, stream: bool = False, credential: str = "tool") -> PooledCall:
    """A call whose exchange has not begun; ``credential``: what the tool sent as its own."""
    content = json.dumps({"model": "gpt-x", "stream": stream, "messages": []}).encode()
    headers = [(b"authorization", f"Bearer {credential}".encode()), (b"content-length", str(len(content)).encode())]
    request = http.Request.make("POST", "https://api.openai.com/v1/chat/completions", content, headers)
    flow = http.HTTPFlow(core.client, Server(address=("192.0.2.1", 443)))
    flow.request, flow.live = request, True
    intake = core.engine.take(request, "api.openai.com", 443)
    assert intake is not None
    plan = core.engine.plan(intake, request)
    assert plan is not None
    exchange = core.engine.exchange(intake, plan, request, {})
    return PooledCall(flow, core.engine, intake, plan, exchange, lambda: core.journal)


class _Loader:
    def __init__(self, opts: options.Options) -> None:
        self.add_option = opts.add_option


def chunk(data: bytes) -> bytes:
    """A part of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)
