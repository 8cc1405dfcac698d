"""The load generator as a program of its own: streams with a latency per event, and a counted number of calls.

``python -m benchmark.client`` reads one task per line from standard input, a JSON object whose ``do`` names it, prints
one JSON object as its result, and ends with its standard input. Times in results are microseconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any, override

from benchmark import messages
from benchmark.figures import percentile

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STAMP = re.compile(rb'"t":(\d+)')
OPENING = 2
"""Events that the upstream sends at once."""
TASK_SECONDS = 45.0
type Result = dict[str, float]


class FailedError(Exception):
    """A reply was not the expected one."""


class Caller(asyncio.Protocol):
    """A kept-alive connection that makes one call after the other."""

    def __init__(self, request: bytes, counter: Counter) -> None:
        self.request = request
        self.counter = counter
        self.buffer = b""
        self.sent = 0
        self.transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.counter.fail("a connection was closed")

    def ask(self) -> None:
        """Send the request once more, if any are left."""
        if self.counter.take():
            self.sent = time.monotonic_ns()
            self.transport.write(self.request)

    @override
    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = LENGTH.search(self.buffer, 0, end)
        if not self.buffer.startswith(b"HTTP/1.1 200") or found is None:
            self.counter.fail(f"unexpected reply {self.buffer[:200]!r}")
        elif len(self.buffer) >= end + 4 + int(found[1]):
            self.buffer = b""
            self.counter.done((time.monotonic_ns() - self.sent) / 1000)
            self.ask()


class Counter:
    """How many calls are left, or until when they are made, and how long they took."""

    def __init__(self, count: int, seconds: float) -> None:
        self.left = count
        self.under_way = 0
        self.end = time.monotonic() + seconds if seconds else 0.0
        self.durations: list[float] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Whether another call is to be made."""
        if time.monotonic() < self.end if self.end else self.left > 0:
            self.left -= 1
            self.under_way += 1
            return True
        return False

    def done(self, duration: float) -> None:
        """A call was answered."""
        self.under_way -= 1
        self.durations.append(duration)
        over = time.monotonic() >= self.end if self.end else self.left <= 0
        if over and not self.under_way and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, why: str) -> None:
        """Something went wrong."""
        if not self.finished.done():
            self.finished.set_exception(FailedError(why))


async def calls(task: dict[str, Any]) -> Result:
    """Make ``count`` calls, or calls for ``seconds``, over ``connections`` connections."""
    loop = asyncio.get_running_loop()
    counter = Counter(task["count"], task["seconds"])
    request = messages.request(task["port"], task["body"])
    callers = []
    for _ in range(task["connections"]):
        _, caller = await loop.create_connection(lambda: Caller(request, counter), "127.0.0.1", task["port"])
        callers.append(caller)
    begun = time.monotonic()
    for caller in callers:
        caller.ask()
    try:
        await counter.finished
    finally:
        for caller in callers:
            caller.transport.close()
    took = counter.durations
    rate = len(took) / (time.monotonic() - begun)
    return {"rate": rate, "p50": percentile(took, 50), "p99": percentile(took, 99), "count": len(took)}


class Listener(asyncio.Protocol):
    """A connection that reads one stream."""

    def __init__(self) -> None:
        self.wire = b""
        self.in_body = self.complete = False
        self.text = b""
        self.asked = 0
        self.stamps: list[int] = []
        self.arrivals: list[int] = []
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self.transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(FailedError(f"a stream was cut after {len(self.stamps)} events"))

    def ask(self, request: bytes, since: int) -> None:
        """Send the request; ``since`` is when the connection was begun, in ns."""
        self.asked = since
        self.transport.write(request)

    @override
    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.wire += data
        if not self.in_body:
            head, end, rest = self.wire.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._settle(FailedError(f"unexpected reply {self.wire[:500]!r}"))
                return
            self.in_body, self.wire = True, rest
        self.text += self._chunks()
        end_at = self.text.rfind(b"\n\n") + 2
        if end_at >= 2:
            found = [int(stamp) for stamp in STAMP.findall(self.text, 0, end_at)]
            self.text = self.text[end_at:]
            self.stamps += found
            self.arrivals += [now] * len(found)
            if self.stamps and not self.opened.done():
                self.opened.set_result(None)
        if self.complete:
            self._settle(None)

    def _chunks(self) -> bytes:
        """What the whole chunks on the wire carry: proxies cut them anew, in the middle of an event as well."""
        parts = []
        at = 0
        while (line := self.wire.find(b"\r\n", at)) >= 0:
            size = int(self.wire[at:line], 16)
            after = line + 2 + size + 2
            if size == 0:
                self.complete = True
            if size == 0 or len(self.wire) < after:
                break
            parts.append(self.wire[line + 2 : line + 2 + size])
            at = after
        self.wire = self.wire[at:]
        return b"".join(parts)

    def _settle(self, error: FailedError | None) -> None:
        for future in (self.opened, self.finished):
            if not future.done() and error is not None:
                future.set_exception(error)
                future.exception()  # seen: not every task waits for both
            elif not future.done():
                future.set_result(None)


async def streams(task: dict[str, Any]) -> Result:
    """Read ``streams`` streams at a time, ``repeat`` times over; they begin ``stagger`` seconds apart.

    ``first``: from the beginning of the connection to the first event. ``event``: from the sending of an event to its
    arrival, without the events of the opening. ``rate``: those events per second, from the sending of the first to the
    arrival of the last.
    """
    loop = asyncio.get_running_loop()
    first: list[float] = []
    later: list[float] = []
    rates: list[float] = []
    request = messages.request(task["port"], task["body"])
    for _ in range(task["repeat"]):
        listeners = []
        for _ in range(task["streams"]):
            asked = time.monotonic_ns()
            _, listener = await loop.create_connection(Listener, "127.0.0.1", task["port"])
            listener.ask(request, asked)
            listeners.append(listener)
            if task["stagger"]:
                await asyncio.sleep(task["stagger"])
        await asyncio.gather(*(listener.finished for listener in listeners))
        for listener in listeners:
            listener.transport.close()
            first.append((listener.arrivals[0] - listener.asked) / 1000)
            pairs = zip(listener.stamps[OPENING:], listener.arrivals[OPENING:], strict=True)
            later += [(arrival - stamp) / 1000 for stamp, arrival in pairs]
            if len(listener.stamps) != OPENING + task["events"]:
                raise FailedError(f"{len(listener.stamps)} events came, {OPENING + task['events']} were sent")
        begun = min(listener.stamps[OPENING] for listener in listeners)
        ended = max(listener.arrivals[-1] for listener in listeners)
        rates.append(task["streams"] * task["events"] / ((ended - begun) / 1e9))
    return {
        "first50": percentile(first, 50),
        "first99": percentile(first, 99),
        "event50": percentile(later, 50),
        "event99": percentile(later, 99),
        "rate": percentile(rates, 50),
    }


HELD: list[Listener] = []
"""The streams of an ``open`` until ``close``."""


async def open_streams(task: dict[str, Any]) -> Result:
    """Open ``streams`` streams, wait for the first event of each, and leave them open."""
    loop = asyncio.get_running_loop()
    for _ in range(task["streams"]):
        _, listener = await loop.create_connection(Listener, "127.0.0.1", task["port"])
        HELD.append(listener)
        listener.ask(messages.request(task["port"], task["body"]), time.monotonic_ns())
        await listener.opened
    return {"open": len(HELD)}


async def close_streams(_task: dict[str, Any]) -> Result:
    """Close what is open."""
    for listener in HELD:
        listener.transport.close()
    HELD.clear()
    return {"open": 0}


TASKS = {"calls": calls, "streams": streams, "open": open_streams, "close": close_streams}


async def work() -> None:
    """Do one task after the other until standard input ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = json.loads(line)
        try:
            result: dict[str, Any] = dict(await asyncio.wait_for(TASKS[task["do"]](task), TASK_SECONDS))
        except (FailedError, OSError, TimeoutError) as error:
            result = {"error": f"{task['do']} at port {task['port']}: {error or type(error).__name__}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(work())
