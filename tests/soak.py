"""H11: a proxy under load for minutes: faults, a sound candidate, connections that end, tools that leave, reloads.

Every reply is checked: it has to be the one to its own call, whole and in order. The sound candidate can answer every
call, so a call that gets anything but an answer is lost. At the end the process must be as it was: as many tasks as
before the first call, descriptors as after the first seconds, and no request that has neither been answered nor failed;
and no line about an internal error in its log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.e2e.behaviours import Behaviour, Break, Channel, Seen, drop_before_headers, json_reply
from tests.e2e.client import CUT, TIMEOUT, Connection, End
from tests.e2e.proxy import Proxy, make_place
from tests.e2e.stage import ENVIRONMENT, HOSTS, SECRETS, TOOL, pool_yaml
from tests.e2e.upstream import Upstream

PIECES = 5
FAULTY = 0.3
"""The share of the faulty candidates' replies that are faults."""
GOODBYES = 0.02
"""The share of the replies over HTTP/2 with which the upstream ends the connection in order."""
LEAVING = 0.05
"""The share of calls whose tool goes away."""
TASKS = 3
"""Tasks that may be there at the end beyond those at the beginning: timers of the proxy itself."""
LONG = 9
"""Minutes after which memory has settled: a leak then shows."""
GROWTH = 1.25
"""By how much it may be more at the end than after a third of the time."""
WARM = 5.0
"""Seconds after which descriptors and memory are taken for the first time."""
ROUTES = "  soak: {candidates: [a, b, x], budget: {wait: 5, patience: 0}, actions: {rate_limited: {seconds: 1}}}"


def faults() -> list[Behaviour]:
    """What a faulty candidate does, all of it before any output."""
    return [
        json_reply(429, {"error": {"message": "Rate limit reached"}}, [("retry-after", "1")]),
        json_reply(500, {"error": {"message": "Internal error"}}),
        json_reply(503, {"error": {"message": "The server is overloaded"}}),
        drop_before_headers(Break.CLOSE),
        drop_before_headers(Break.RESET),
    ]


class Vendor:
    """Answers each call with its own id, in pieces."""

    def __init__(self, chance: Random) -> None:
        self._chance, self._faults = chance, faults()

    async def __call__(self, channel: Channel, seen: Seen) -> None:
        if seen.credential != SECRETS["x"] and self._chance.random() < FAULTY:
            await self._chance.choice(self._faults)(channel, seen)
            return
        if seen.http_version == "HTTP/2" and self._chance.random() < GOODBYES:
            await channel.goodbye()
        messages = seen.json["messages"]
        assert isinstance(messages, list)
        name = messages[0]["content"]
        texts = [f"{name}/{number} " for number in range(PIECES)]
        if not seen.json.get("stream"):
            answer = {"choices": [{"message": {"role": "assistant", "content": "".join(texts)}}]}
            await json_reply(200, answer)(channel, seen)
            return
        await channel.head(200, [("content-type", "text/event-stream")])
        for text in texts:
            await channel.data(b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n")
        await channel.data(b"data: [DONE]\n\n")
        await channel.end()


class Soak:
    """The tools, and what became of their calls."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        self.proxy, self.seed = proxy, seed
        self.counts: Counter[str] = Counter()
        self.why: Counter[str] = Counter()
        """What the tools saw of calls that were lost."""
        self.ended = threading.Event()
        self._lock = threading.Lock()

    def tool(self, number: int) -> None:
        """Call until the end, on connections that are kept for some calls."""
        chance, calls = Random(f"{self.seed}-{number}"), 0
        while not self.ended.is_set():
            try:
                with Connection(self.proxy.port, HOSTS["openai"], ca=self.proxy.ca, http2=chance.random() < 0.5) as own:
                    for _ in range(chance.randrange(1, 20)):
                        if self.ended.is_set():
                            return
                        calls += 1
                        outcome = self.call(own, f"{number}-{calls}", chance)
                        with self._lock:
                            self.counts[outcome] += 1
                        if outcome not in ("answered", "left") or not own.is_reusable:
                            break
            except TimeoutError:
                with self._lock:
                    self.counts["hung"] += 1
            except CUT as cut:
                with self._lock:
                    self.counts["lost"] += not self.ended.is_set()
                    self.why[f"cut: {cut!r}"[:200]] += 1

    def call(self, own: Connection, name: str, chance: Random) -> str:
        """One call: what became of it."""
        stream = chance.random() < 0.5
        body = json.dumps({"model": "soak", "stream": stream, "messages": [{"role": "user", "content": name}]}).encode()
        headers = [("authorization", f"Bearer {TOOL}"), ("content-type", "application/json")]
        sent = own.send("POST", "/v1/chat/completions", headers, body)
        if chance.random() < LEAVING:
            own.cancel(sent)
            return "left"
        reply = sent.finish()
        if reply.status != 200 or reply.end is not End.CLEAN:
            with self._lock:
                self.why[f"{reply.status}, {reply.end}: {reply.body[:160]!r}"] += 1
            return "lost"
        text = reply.body.decode()
        if stream:
            lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
            text = "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in lines)
        else:
            text = json.loads(text)["choices"][0]["message"]["content"]
        return "answered" if text == "".join(f"{name}/{number} " for number in range(PIECES)) else "mixed"

    def hands(self) -> None:
        """Reload the pool, and suspend and resume the faulty ones, once a second."""
        turns = [["reload"], ["suspend", "credential", "a", "1"], ["resume", "all"]]
        at = 0
        while not self.ended.wait(1.0):
            command, *words = turns[at % len(turns)]
            at += 1
            answered = self.command(f"pool.{command}", words)
            with self._lock:
                self.counts["commands"] += 1
                self.counts["unanswered"] += not answered

    def command(self, command: str, words: list[str]) -> bool:
        """Tell the proxy, as the shell does; whether it has answered."""
        path = next(self.proxy.directory.rglob("*.sock"))
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(TIMEOUT)
            asked.connect(str(path))
            asked.sendall(json.dumps({"command": command, "words": words}).encode() + b"\n")
            return bool(asked.makefile("rb").readline())
        return False

    def size(self) -> tuple[int, int]:
        """Descriptors of the proxy, and its memory in MiB."""
        folder = Path(f"/proc/{self.proxy.pid}")
        memory = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return len(os.listdir(folder / "fd")), int(memory.split()[1]) >> 10

    def open(self) -> tuple[int, int]:
        """Tasks of the proxy's event loop a moment ago, and requests that had neither been answered nor failed."""
        file = self.proxy.directory / "open.json"
        deadline = time.monotonic() + 20
        while not file.exists() and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        counted = json.loads(file.read_text())
        return counted["tasks"], counted["flows"]

    def is_at_rest(self, tasks: int) -> bool:
        """Whether the proxy is as it was before the first call, when it had so many tasks."""
        now, flows = self.open()
        return now <= tasks and not flows and self.size()[0] <= 60


def main() -> int:
    """Run it and print what was found; exit status 1 when anything was lost, mixed, hung or leaked."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        folder = Path(made)
        authority, confdir = make_place(folder)
        with Upstream(authority) as main_, Upstream(authority, alpn=["http/1.1"]) as other:
            for upstream in (main_, other):
                upstream.on(lambda seen: True, Vendor(Random(arguments.seed)))
            settings = {"pool_attempt_flows": "false"}
            pool = pool_yaml(main_, other, ROUTES)
            counting = ("-s", str(Path(__file__).parent / "e2e" / "open_count.py"))
            with Proxy(
                folder / "proxy",
                confdir,
                trusted=authority.path,
                env=ENVIRONMENT,
                pool_yaml=pool,
                settings=settings,
                extra_args=counting,
            ) as proxy:
                return _run(Soak(proxy, arguments.seed), arguments.clients, arguments.minutes * 60, (main_, other))


def _run(soak: Soak, clients: int, seconds: float, upstreams: tuple[Upstream, ...]) -> int:
    threads = [threading.Thread(target=soak.tool, args=(number,)) for number in range(clients)]
    threads.append(threading.Thread(target=soak.hands))
    rest, _ = soak.open()
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    first: tuple[int, int] | None = None
    minutes = 0
    memory = [0]  # by minutes
    while (left := begun + seconds - time.monotonic()) > 0:
        soak.ended.wait(min(left, 1.0))
        if first is None and time.monotonic() - begun > min(WARM, seconds / 2):
            first = soak.size()
        for upstream in upstreams:
            upstream.forget()
        if time.monotonic() - begun > (minutes + 1) * 60:
            minutes += 1
            descriptors, now = soak.size()
            memory.append(now)
            print(
                f"minute {minutes}: {soak.counts['answered']} answered, {descriptors} descriptors, {now} MiB",
                flush=True,
            )
    soak.ended.set()
    for thread in threads:
        thread.join(60)
    hung = sum(thread.is_alive() for thread in threads)
    deadline = time.monotonic() + 20
    while not soak.is_at_rest(rest) and time.monotonic() < deadline:
        threading.Event().wait(0.2)
    last, (tasks, flows) = soak.size(), soak.open()
    log = soak.proxy.log_text()
    errors = log.count("internal error") + log.count("Traceback")
    counts = soak.counts
    print(f"seed {soak.seed}, {clients} clients, {seconds:g} s")
    print(f"calls: {counts['answered']} answered, {counts['left']} left, {counts['commands']} commands")
    print(
        f"lost {counts['lost']}, mixed {counts['mixed']}, hung {counts['hung'] + hung}, "
        f"commands without an answer {counts['unanswered']}, internal errors {errors}"
    )
    print(
        f"descriptors {first[0] if first else '?'} -> {last[0]}, memory {first[1] if first else '?'} -> {last[1]} MiB, "
        f"tasks {rest} -> {tasks}, requests without an end {flows}"
    )
    for reason, number in soak.why.most_common(10):
        print(f"  {number} times {reason}")
    bad = counts["lost"] + counts["mixed"] + counts["hung"] + hung + counts["unanswered"] + errors + flows
    leaked = minutes >= LONG and memory[-1] > GROWTH * memory[minutes // 3]
    grown = leaked or tasks > rest + TASKS or (first is not None and last[0] > first[0] + 20)
    return int(bad > 0 or not counts["answered"] or grown)


if __name__ == "__main__":
    sys.exit(main())
