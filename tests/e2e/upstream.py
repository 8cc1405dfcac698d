"""A scriptable upstream: HTTP/1.1 and HTTP/2, with and without TLS, in a thread of the test process.

What it does with a request is decided by the credential the request carries, because that is what tells candidates
apart; ``Upstream.seen`` says what came in, and whether the client gave up on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, override
from weakref import WeakKeyDictionary, WeakSet

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h11
from hyperframe.frame import GoAwayFrame

from .authority import LOCAL_NAMES, Authority
from .behaviours import Behaviour, Break, Channel, Headers, Seen, json_reply

Selector = str | Callable[[Seen], bool]

BROKEN_PIPE = (OSError, ssl.SSLError, asyncio.IncompleteReadError)
MAX_REQUEST_HEAD = 1 << 20


class Upstream:
    """Runs from ``with`` to its end. ``tls_port`` and ``plain_port`` listen on 127.0.0.1.

    ``alpn``: what is offered over TLS. ``names``: the names in the certificate.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        alpn: Sequence[str] = ("h2", "http/1.1"),
        names: Sequence[str] = LOCAL_NAMES,
    ) -> None:
        self.authority = authority
        self._context = authority.server_context(names, alpn)
        self._context.sni_callback = self._named
        self._names: WeakKeyDictionary[object, str] = WeakKeyDictionary()
        self._rules: list[tuple[Selector, list[Behaviour]]] = []
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._writers: WeakSet[asyncio.StreamWriter] = WeakSet()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_report)
        self._thread = threading.Thread(target=self._loop.run_forever, name="test upstream", daemon=True)
        self._sockets: list[socket.socket] = []
        self.failures: list[BaseException] = []
        """What went wrong in the upstream itself; ``with`` raises it at its end."""

    def __enter__(self) -> Upstream:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self.tls_port, self.plain_port, self.deaf_port = started.result(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        for one in self._sockets:
            one.close()
        if self.failures and exc_info[0] is None:
            raise self.failures[0]

    # -- what a test says and asks ------------------------------------------------------------------------------

    def on(self, selector: Selector, *behaviours: Behaviour) -> None:
        """Say what to do with requests that carry this credential, or for which a predicate holds.

        With several behaviours each request takes the next one, and the last one stays. What is said later goes
        before what was said earlier. A request that nothing was said about gets a 500 that no rule should like.
        """
        if not behaviours:
            raise ValueError("say at least one behaviour")
        with self._changed:
            self._rules.insert(0, (selector, list(behaviours)))

    @property
    def seen(self) -> list[Seen]:
        """The requests so far, in the order in which they were complete."""
        with self._changed:
            return list(self._seen)

    @property
    def credentials(self) -> list[str]:
        """The credentials of the requests so far, in order."""
        return [seen.credential for seen in self.seen]

    def forget(self) -> None:
        """Forget the requests so far."""
        with self._changed:
            self._seen.clear()

    def wait(self, condition: Callable[[list[Seen]], bool], timeout: float = 30.0) -> None:
        """Wait until a condition on the requests holds. Raises TimeoutError after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._seen), timeout):
                raise TimeoutError(f"not in {timeout} s; seen: {self._seen}")

    @property
    def tls_url(self) -> str:
        """The base URL over TLS."""
        return f"https://localhost:{self.tls_port}"

    @property
    def plain_url(self) -> str:
        """The base URL without TLS."""
        return f"http://127.0.0.1:{self.plain_port}"

    @property
    def deaf_url(self) -> str:
        """The base URL of a port that accepts connections and then never says a word, not even of TLS."""
        return f"https://localhost:{self.deaf_port}"

    def refused_url(self, scheme: str = "https") -> str:
        """The base URL of a port that refuses connections, and that nobody else gets meanwhile."""
        held = socket.socket()
        held.bind(("127.0.0.1", 0))  # bound but not listening
        self._sockets.append(held)
        return f"{scheme}://127.0.0.1:{held.getsockname()[1]}"

    def mend(self, url: str) -> None:
        """Serve, from now on, a port that :meth:`refused_url` gave out for https."""
        port = int(url.rpartition(":")[2])
        held = next(one for one in self._sockets if one.getsockname()[1] == port)
        starting = asyncio.start_server(self._serve, sock=held, ssl=self._context)
        self._servers.append(asyncio.run_coroutine_threadsafe(starting, self._loop).result(10))

    # -- the server ---------------------------------------------------------------------------------------------

    async def _start(self) -> tuple[int, int, int]:
        ports = []
        for handler, context in ((self._serve, self._context), (self._serve, None), (self._ignore, None)):
            server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
            self._servers.append(server)
            ports.append(server.sockets[0].getsockname()[1])
        return ports[0], ports[1], ports[2]

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(3):  # the rounds of the loop in which aborted transports close their sockets
            await asyncio.sleep(0)

    async def _ignore(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.CancelledError, *BROKEN_PIPE):
            while await reader.read(65536):
                pass
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        number = next(self._numbers)
        tls = writer.get_extra_info("ssl_object")
        wire = Http2 if tls is not None and tls.selected_alpn_protocol() == "h2" else Http1
        try:
            await wire(self, reader, writer, number).run()
        except BROKEN_PIPE:
            pass  # the client is free to go
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's own callback would print a cancelled handler
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            writer.close()

    def _named(self, tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self._names[tls] = name or ""

    def server_name(self, writer: asyncio.StreamWriter) -> str:
        """The name a connection asked for by SNI, "" without one."""
        tls = writer.get_extra_info("ssl_object")
        return self._names.get(tls, "") if tls is not None else ""

    def received(self, seen: Seen) -> Behaviour:
        """Record a request and choose its behaviour. Called on the loop's thread."""
        seen.time = self._loop.time()
        with self._changed:
            self._seen.append(seen)
            self._changed.notify_all()
            for selector, behaviours in self._rules:
                if selector == seen.credential if isinstance(selector, str) else selector(seen):
                    return behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        return json_reply(500, {"error": {"message": f"test upstream: nothing said about {seen.credential!r}"}})

    def concluded(self, seen: Seen, *, cancelled: bool) -> None:
        """Record how a request ended."""
        with self._changed:
            seen.cancelled, seen.finished = cancelled, not cancelled
            self._changed.notify_all()


class BrokenOffError(Exception):
    """A behaviour broke the connection off; nothing more is to be done for it."""


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """That a client is gone is told to a closed connection too, which nobody asks any more."""
    if not isinstance(context.get("exception"), BROKEN_PIPE):
        loop.default_exception_handler(context)


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.transport.is_closing():
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()
    await asyncio.sleep(0)  # drain alone does not let the loop see that the client has gone


class Http1:
    """One HTTP/1.1 connection. Requests are read with h11; replies are written by hand, as they may be wrong."""

    def __init__(
        self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._upstream = upstream
        self._reader = reader
        self._writer = writer
        self._number = number
        self._rest = b""

    async def run(self) -> None:
        """Serve requests until the client goes away or a behaviour breaks off."""
        while (seen := await self._request()) is not None:
            behaviour = self._upstream.received(seen)
            channel = Http1Channel(self._writer)
            if not await self._behave(behaviour, channel, seen) or seen.header("connection").lower() == "close":
                return

    async def _request(self) -> Seen | None:
        # A fresh parser for each request: the reply does not go through it, so it cannot follow the cycle.
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_HEAD)
        if self._rest:
            parser.receive_data(self._rest)
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                if parser.they_are_waiting_for_100_continue:
                    self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                data = await self._reader.read(65536)
                if not data:
                    return None
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                self._rest, _ = parser.trailing_data
                return Seen(
                    method=request.method.decode("latin-1"),
                    path=request.target.decode("latin-1"),
                    headers=[(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw_items()],
                    body=bytes(body),
                    http_version="HTTP/" + request.http_version.decode("latin-1"),
                    connection=self._number,
                    server_name=self._upstream.server_name(self._writer),
                )
            else:
                return None

    async def _behave(self, behaviour: Behaviour, channel: Channel, seen: Seen) -> bool:
        """Run a behaviour while watching whether the client goes away; return whether the connection goes on."""
        work = asyncio.ensure_future(behaviour(channel, seen))
        try:
            while True:
                read = asyncio.ensure_future(self._reader.read(65536))
                await asyncio.wait({work, read}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    if not read.done():
                        read.cancel()
                        await asyncio.gather(read, return_exceptions=True)
                    elif read.exception() is None:
                        self._rest += read.result()
                    break
                if read.exception() is not None or not read.result():
                    self._upstream.concluded(seen, cancelled=True)
                    return False
                self._rest += read.result()
            try:
                work.result()
            except BrokenOffError:
                self._upstream.concluded(seen, cancelled=False)
                return False
            except BROKEN_PIPE:
                self._upstream.concluded(seen, cancelled=True)
                return False
            self._upstream.concluded(seen, cancelled=False)
            return True
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


class Http1Channel(Channel):
    """Writes a reply as bytes, right or wrong."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = False
        self._head_begun = False

    @override
    async def head(self, status: int, headers: Headers) -> None:
        self._chunked = not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers)
        framing = [("transfer-encoding", "chunked")] if self._chunked else []
        lines = [f"HTTP/1.1 {status} Test\r\n", *(f"{name}: {value}\r\n" for name, value in [*headers, *framing])]
        await self._write("".join(lines).encode("latin-1") + b"\r\n")

    @override
    async def data(self, chunk: bytes) -> None:
        if self._chunked and chunk:
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        await self._write(chunk)

    @override
    async def end(self) -> None:
        if self._chunked:
            await self._write(b"0\r\n\r\n")

    @override
    async def more_head(self, status: int) -> None:
        if not self._head_begun:
            self._head_begun = True
            await self._write(f"HTTP/1.1 {status} Test\r\n".encode())
        await self._write(b"x-endless: " + b"x" * 1024 + b"\r\n")

    @override
    async def verbatim(self, data: bytes) -> None:
        await self._write(data)

    @override
    async def break_off(self, how: Break) -> None:
        if how is Break.RESET:
            _reset(self._writer)
        else:
            self._writer.close()
        raise BrokenOffError

    async def _write(self, data: bytes) -> None:
        await _write(self._writer, data)


class Http2:
    """One HTTP/2 connection; each stream's behaviour runs as a task of its own."""

    def __init__(
        self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._upstream = upstream
        self._reader = reader
        self._number = number
        self._requests: dict[int, tuple[list[tuple[str, str]], bytearray]] = {}
        self._tasks: dict[int, tuple[asyncio.Task[None], Seen]] = {}
        self._last: int | None = None
        """The last stream that is served, once that has been announced."""
        self.writer = writer
        self.windows = asyncio.Condition()
        # Unchecked on the way out: replies may be wrong.
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="latin-1", validate_outbound_headers=False
        )
        self.protocol = h2.connection.H2Connection(config)

    async def run(self) -> None:
        """Serve streams until the client goes away or a behaviour breaks the connection off."""
        self.protocol.initiate_connection()
        await self.flush()
        try:
            while data := await self._reader.read(65536):
                for event in self.protocol.receive_data(data):
                    await self._handle(event)
                await self.flush()
        except h2.exceptions.ProtocolError:
            await self.flush()
        finally:
            for stream_id in list(self._tasks):
                await self._cancel(stream_id)

    async def flush(self) -> None:
        """Send what the protocol has to say."""
        if data := self.protocol.data_to_send():
            await _write(self.writer, data)

    async def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                headers = [(str(name), str(value)) for name, value in event.headers or []]
                self._requests[event.stream_id] = (headers, bytearray())
            case h2.events.DataReceived():
                if event.stream_id in self._requests:
                    self._requests[event.stream_id][1].extend(event.data or b"")
                self.protocol.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            case h2.events.StreamEnded():
                if event.stream_id in self._requests:
                    self._begin(event.stream_id)
            case h2.events.StreamReset():
                self._requests.pop(event.stream_id, None)
                await self._cancel(event.stream_id)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                async with self.windows:
                    self.windows.notify_all()

    async def goodbye(self) -> None:
        """Serve what is under way, and no request that begins from now on."""
        if self._last is None:
            self._last = self.protocol.highest_inbound_stream_id
            # The library sends nothing more behind a GOAWAY of its own.
            frame = GoAwayFrame(0, last_stream_id=self._last, error_code=h2.errors.ErrorCodes.NO_ERROR)
            await _write(self.writer, frame.serialize())

    def _begin(self, stream_id: int) -> None:
        if self._last is not None and stream_id > self._last:
            return
        headers, body = self._requests.pop(stream_id)
        pseudo = dict(header for header in headers if header[0].startswith(":"))
        seen = Seen(
            method=pseudo.get(":method", ""),
            path=pseudo.get(":path", ""),
            headers=headers,
            body=bytes(body),
            http_version="HTTP/2",
            connection=self._number,
            server_name=self._upstream.server_name(self.writer),
        )
        behaviour = self._upstream.received(seen)
        task = asyncio.ensure_future(self._behave(stream_id, behaviour, seen))
        self._tasks[stream_id] = (task, seen)

    async def _behave(self, stream_id: int, behaviour: Behaviour, seen: Seen) -> None:
        try:
            await behaviour(Http2Channel(self, stream_id), seen)
        except BrokenOffError:
            pass
        except asyncio.CancelledError:
            self._upstream.concluded(seen, cancelled=True)
            return
        except (h2.exceptions.ProtocolError, *BROKEN_PIPE):
            self._upstream.concluded(seen, cancelled=True)
            return
        except Exception as failure:
            self._upstream.failures.append(failure)
            return
        self._upstream.concluded(seen, cancelled=False)
        self._tasks.pop(stream_id, None)

    async def _cancel(self, stream_id: int) -> None:
        task, _ = self._tasks.pop(stream_id, (None, None))
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Http2Channel(Channel):
    """Writes a reply to one stream, within the client's flow control."""

    def __init__(self, connection: Http2, stream_id: int) -> None:
        self._connection = connection
        self._protocol = connection.protocol
        self._stream_id = stream_id

    @override
    async def head(self, status: int, headers: Headers) -> None:
        self._protocol.send_headers(
            self._stream_id, [(":status", str(status)), *((name.lower(), value) for name, value in headers)]
        )
        await self._connection.flush()

    @override
    async def data(self, chunk: bytes) -> None:
        while chunk:
            window = self._protocol.local_flow_control_window(self._stream_id)
            size = min(window, self._protocol.max_outbound_frame_size, len(chunk))
            if size <= 0:
                async with self._connection.windows:
                    await self._connection.windows.wait()
                continue
            self._protocol.send_data(self._stream_id, chunk[:size])
            await self._connection.flush()
            chunk = chunk[size:]

    @override
    async def end(self) -> None:
        self._protocol.end_stream(self._stream_id)
        await self._connection.flush()

    @override
    async def goodbye(self) -> None:
        await self._connection.goodbye()

    @override
    async def more_head(self, status: int) -> None:
        raise NotImplementedError("endless headers are spoken over HTTP/1.1 only")

    @override
    async def break_off(self, how: Break) -> None:
        match how:
            case Break.STREAM:
                self._protocol.reset_stream(self._stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                await self._connection.flush()
            case Break.RESET:
                _reset(self._connection.writer)
            case Break.GOAWAY:
                self._protocol.close_connection(h2.errors.ErrorCodes.INTERNAL_ERROR)
                await self._connection.flush()
                self._connection.writer.close()
            case Break.CLOSE:
                self._connection.writer.close()
        raise BrokenOffError


@contextlib.contextmanager
def upstreams(authority: Authority, count: int) -> Iterator[list[Upstream]]:
    """Several upstreams at once, each with ports of its own."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Upstream(authority)) for _ in range(count)]
