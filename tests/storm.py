"""Agents whose account ends at once: how the load comes to the next ones, with steps after the switch and without.

Each agent makes one streamed call after the other on one account until that is used up. The next two accounts take
some calls a second, and refuse more of them with a limit per minute, as vendors do. Printed is what each account saw
and what the agents got. A real proxy, real connections; the times are those of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path

from tests.e2e.behaviours import Channel, Seen, json_reply, sse
from tests.e2e.client import Connection
from tests.e2e.proxy import Proxy, make_place
from tests.e2e.stage import CHAT, ENVIRONMENT, HOSTS, SECRETS, TOOL, pool_yaml
from tests.e2e.upstream import Upstream

CALL_SECONDS = 2.0
"""How long an answer takes."""
PAUSE = 8
"""Seconds between two calls of an agent, while its tools run: together they ask for less than one account takes."""
A_SECOND = 6
"""Calls that begin on a further account in a second; one more is refused."""
ENDED = {
    "error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
}
LIMITED = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
NAMES = {secret: name for name, secret in SECRETS.items()}


class Vendor:
    """Three accounts: ``a`` ends when it is told to, the others take so many calls a second."""

    def __init__(self) -> None:
        self.has_ended = threading.Event()
        self.begun: dict[str, list[float]] = {"a": [], "b": [], "c": []}
        self.refused: Counter[str] = Counter()
        self._last: dict[str, deque[float]] = {"b": deque(), "c": deque()}

    async def __call__(self, channel: Channel, seen: Seen) -> None:
        name, now = NAMES[seen.credential], time.monotonic()
        if name == "a":
            if not self.has_ended.is_set():
                for _ in range(int(CALL_SECONDS / 0.1)):
                    await asyncio.sleep(0.1)
                    if self.has_ended.is_set():
                        break
            if self.has_ended.is_set():
                self.refused[name] += 1
                await json_reply(429, ENDED, [("retry-after", "3600")])(channel, seen)
                return
        else:
            last = self._last[name]
            while last and now - last[0] > 1:
                last.popleft()
            if len(last) >= A_SECOND:
                self.refused[name] += 1
                await json_reply(429, LIMITED, [("retry-after", "20")])(channel, seen)
                return
            last.append(now)
            self.begun[name].append(now)
            await asyncio.sleep(CALL_SECONDS)
        await sse(*CHAT.events)(channel, seen)


def most_within(times: list[float], seconds: float) -> int:
    """The most beginnings in any span of so many seconds."""
    return max((sum(first <= each < first + seconds for each in times) for first in times), default=0)


def storm(ramp: str, agents: int, seconds: float) -> dict[str, object]:
    """Run it once; ``ramp``: the line of the pool file."""
    vendor, told = Vendor(), Counter[str]()
    first_after: list[float] = []
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="storm-") as made:
        folder = Path(made)
        authority, confdir = make_place(folder)
        with Upstream(authority) as main_, Upstream(authority, alpn=["http/1.1"]) as other:
            main_.on(lambda seen: True, vendor)
            pool = pool_yaml(main_, other, "  storm: [a, b, c]", extra=ramp)
            with Proxy(folder / "proxy", confdir, trusted=authority.path, env=ENVIRONMENT, pool_yaml=pool) as proxy:

                def agent(number: int) -> None:
                    body = json.dumps(
                        {"model": "storm", "stream": True, "messages": [{"role": "user", "content": "x"}]}
                    )
                    headers = [CHAT.header(TOOL), ("x-session-id", f"agent-{number}")]
                    was_first = True
                    with Connection(proxy.port, HOSTS["openai"], ca=proxy.ca, timeout=90) as tool:
                        while not stop.is_set():
                            begun_after = vendor.has_ended.is_set()
                            response = tool.request("POST", "/v1/chat/completions", headers, body.encode())
                            told["answered" if response.status == 200 else f"HTTP {response.status}"] += 1
                            if was_first and (begun_after or vendor.has_ended.is_set()) and response.status == 200:
                                was_first = False
                                first_after.append(time.monotonic())
                            stop.wait(PAUSE + number % 5 if response.status == 200 else 1)

                threads = [threading.Thread(target=agent, args=(number,)) for number in range(agents)]
                for thread in threads:
                    thread.start()
                main_.wait(lambda seen: len(seen) >= agents, 120)
                ended_at = time.monotonic()
                vendor.has_ended.set()
                stop.wait(seconds)
                stop.set()
                for thread in threads:
                    thread.join(120)
                log = proxy.log_text()
    assert "Traceback" not in log and "internal error" not in log
    return {
        "refused by a": vendor.refused["a"],
        "begun on b": len(vendor.begun["b"]),
        "most within 1 s on b": most_within(vendor.begun["b"][:agents], 1.0),
        "refused by b": vendor.refused["b"],
        "begun on c": len(vendor.begun["c"]),
        "refused by c": vendor.refused["c"],
        "agents answered after the end": len(first_after),
        "last of them after, s": round(max(first_after, default=ended_at) - ended_at, 1),
        "errors that agents saw": sum(count for what, count in told.items() if what != "answered"),
        "calls answered": told["answered"],
    }


def main() -> int:
    """Print both runs beside each other."""
    parser = argparse.ArgumentParser(prog="scripts/storm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    runs = {
        name: storm(line, arguments.agents, arguments.seconds) for name, line in (("steps", ""), ("none", "ramp: 0"))
    }
    print(
        f"{arguments.agents} agents, {arguments.seconds:g} s after the end; "
        f"each further account takes {A_SECOND} calls a second"
    )
    print("| | with steps | `ramp: 0` |\n|---|---|---|")
    for what in runs["steps"]:
        print(f"| {what} | {runs['steps'][what]} | {runs['none'][what]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
