"""``understudy serve``: real workers behind one port, over a real server, and behind a real HAProxy (M06)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.support.store_server import StoreServer, executable, free_port

from .behaviours import Gate, json_reply
from .client import Connection
from .home import UNDERSTUDY, Home
from .proxy import ROOT
from .stage import CHAT, SECRETS, TOOL
from .upstream import Upstream

SECONDS = 180.0
PAUSE = 0.05
"""Seconds between a tool's new connections, which otherwise take most of the time that the workers need to start."""
GOOD = {"id": "c", "object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "ok"}}]}


class Serve:
    """A running ``understudy serve``."""

    def __init__(self, home: Home, *words: str) -> None:
        self.home = home
        self._said: list[str] = []
        self.process = home.begin(["serve", *words], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.append(line.decode(errors="replace"))

    @property
    def log(self) -> str:
        """What was said so far."""
        return "".join(self._said)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so. Raises TimeoutError, with the log."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(self.log)
            time.sleep(0.02)

    def wait_for_log(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until that many lines match, and return what they say."""
        self.wait_for(lambda: len(re.findall(pattern, self.log)) >= count)
        return re.findall(pattern, self.log)

    def serving(self, count: int) -> None:
        """Wait until that many workers serve, and share."""
        self.wait_for_log(r"worker \d+ serves", count)
        self.wait_for_log("what is learnt is shared", count)

    @property
    def ports(self) -> list[int]:
        """Where the workers listen."""
        [found] = self.wait_for_log(r"workers on [^,]+, port ([0-9, ]+)")[:1]
        return [int(each) for each in found.split(", ")]

    def pids(self) -> dict[int, int]:
        """The process of each worker, as it was told last."""
        return {int(number): int(pid) for number, pid in re.findall(r"worker (\d+) serves \(process (\d+)\)", self.log)}

    def stop(self) -> int:
        """End it, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


@pytest.fixture
def server() -> Iterator[StoreServer]:
    """A server of the test's own."""
    if executable() is None:
        pytest.skip("no valkey-server or redis-server is installed")
    running = StoreServer()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def home(tmp_path: Path, confdir: Path, upstream: Upstream, server: StoreServer) -> Home:
    """A home with a pool that is shared. The control sockets are elsewhere: the path of one must not be long."""
    runtime = server.folder / "run"
    runtime.mkdir(mode=0o700)
    extra = {"SECRET_A": SECRETS["a"], "SECRET_B": SECRETS["b"], "XDG_RUNTIME_DIR": str(runtime)}
    made = Home(tmp_path / "home", confdir, extra)
    made.write_pool(
        f"""
upstreams: {{main: {{dialect: openai, url: "{upstream.plain_url}/v1"}}}}
credentials:
  a: {{upstream: main, secret: {{env: SECRET_A}}}}
  b: {{upstream: main, secret: {{env: SECRET_B}}}}
routes: {{default: [a, b]}}
state: {{url: '{server.url}', prefix: team, timeout: 3}}
"""
    )
    return made


@pytest.fixture
def serve(home: Home) -> Iterator[Callable[..., Serve]]:
    """Start one; ended with the test."""
    begun: list[Serve] = []

    def begin(*words: str) -> Serve:
        begun.append(Serve(home, *words))
        return begun[-1]

    yield begin
    for each in begun:
        each.stop()


def call(port: int, home: Home, model: str = "m") -> tuple[int, bytes]:
    """One call on a connection of its own."""
    with connect(port, home) as connection:
        return ask(connection, model)


def connect(port: int, home: Home) -> Connection:
    """A tool's connection."""
    return Connection(port, "https://api.openai.com", ca=home.confdir / "mitmproxy-ca-cert.pem")


def ask(connection: Connection, model: str = "m") -> tuple[int, bytes]:
    """One call on a connection."""
    path, body = CHAT.ask(model, False)
    headers = [("content-type", "application/json"), CHAT.header(TOOL)]
    response = connection.send("POST", path, headers, json.dumps(body).encode()).finish()
    return response.status, response.body


def plain(text: str) -> list[str]:
    """The lines of a log without its times, numbers, servers and folders."""
    text = re.sub(r"(?:redis|unix)://\S+ as \S+", "SERVER", text)
    text = re.sub(r"/\S+/pool\.yaml", "POOL", text)
    return [re.sub(r"routes\b", "route", re.sub(r"[\d:.]+", "N", line)) for line in text.splitlines()]


def test_workers_share_a_port_and_answer_commands_together(
    serve: Callable[..., Serve], home: Home, upstream: Upstream, server: StoreServer
) -> None:
    """Each line of their log has their number; status and reload are asked of all; the page shows them together."""
    upstream.on(SECRETS["a"], json_reply(200, GOOD))
    running = serve("--workers", "2", "--port", "0", "--status-port", "0")
    running.serving(2)
    [port] = running.ports
    with contextlib.ExitStack() as held:
        # Connections that come one after the other and stay, on a machine that has nothing else to do.
        for _ in range(8):
            assert ask(held.enter_context(connect(port, home)))[0] == 200
        pids = list(running.pids().values())
        statuses = [json.loads(home.understudy("status", "--json", "--pid", str(pid)).stdout) for pid in pids]
        answered = [
            sum(each["tally"]["answered"] for route in status["routes"] for each in route["lineups"][0]["candidates"])
            for status in statuses
        ]
        assert sum(answered) == 8
        assert min(answered) > 0, "one worker has all the connections"
    assert re.search(r"^\[1\] ", running.log, re.MULTILINE) and re.search(r"^\[2\] ", running.log, re.MULTILINE)

    sample = (ROOT / "docs" / "scale-out.md").read_text("utf-8").partition("$ understudy serve --workers 4\n")[2]
    said = plain(running.log)
    assert [line for line in plain(sample.partition("```")[0]) if line not in said] == [], "the sample of the page"

    told = home.understudy("suspend", "credential", "a", "5m")
    assert told.returncode == 0, told.stderr
    status = json.loads(home.understudy("status", "--json").stdout)
    assert [each["pid"] for each in status["workers"]] == sorted(running.pids().values()) or len(status["workers"]) == 2
    assert all(each["result"]["entries"][0]["name"] == "a" for each in status["workers"])
    assert all(each["result"]["shared"]["connected"] for each in status["workers"])
    one = home.understudy("status", "--json", "--pid", str(running.pids()[1]))
    assert json.loads(one.stdout)["entries"][0]["name"] == "a"
    assert home.understudy("resume", "all").returncode == 0
    assert home.understudy("reload").returncode == 0
    assert len(running.wait_for_log(r"\[\d\] .*1 route over 2 credentials", 4)) == 4

    [url] = running.wait_for_log(r"the workers together: (\S+)")
    page = urllib.request.urlopen(url, timeout=20).read().decode()
    assert all(str(pid) in page for pid in running.pids().values())
    base = url.partition("?")[0]
    assert urllib.request.urlopen(f"{base}health", timeout=20).status == 200
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(base, timeout=20)
    assert refused.value.code == 403
    foreign = urllib.request.Request(url, headers={"Host": "evil.example:80"})
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(foreign, timeout=20)
    assert refused.value.code == 403
    assert running.stop() == 0
    assert not list((server.folder / "run").rglob("*.workers"))


def test_a_killed_worker_loses_only_what_it_was_carrying(
    serve: Callable[..., Serve], home: Home, upstream: Upstream
) -> None:
    """kill -9: the other one serves meanwhile, and the killed one comes back."""
    upstream.on(SECRETS["a"], json_reply(200, GOOD))
    running = serve("--workers", "2", "--port", "0")
    running.serving(2)
    [port] = running.ports
    os.kill(running.pids()[1], signal.SIGKILL)
    assert [call(port, home)[0] for _ in range(6)] == [200] * 6
    running.wait_for_log(r"worker 1 ended \(signal 9\), and starts again")
    running.wait_for_log(r"worker 1 serves", 2)
    assert call(port, home)[0] == 200


def test_the_end_waits_for_calls_under_way(serve: Callable[..., Serve], home: Home, upstream: Upstream) -> None:
    """SIGTERM: what was begun is answered, and nothing runs afterwards."""
    gate = Gate()
    upstream.on(SECRETS["a"], json_reply(200, GOOD, gate=gate))
    running = serve("--workers", "2", "--port", "0")
    running.serving(2)
    [port] = running.ports
    answers: list[tuple[int, bytes]] = []
    caller = threading.Thread(target=lambda: answers.append(call(port, home)))
    caller.start()
    upstream.wait(lambda seen: len(seen) == 1)
    running.process.send_signal(signal.SIGTERM)
    running.wait_for_log("takes no more connections", 2)
    gate.open()
    caller.join(SECONDS)
    assert [status for status, _ in answers] == [200]
    assert running.process.wait(SECONDS) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in running.pids().values())


def test_workers_end_with_who_has_started_them(serve: Callable[..., Serve], home: Home) -> None:
    """kill -9 of the process above: no worker is left behind."""
    running = serve("--workers", "2", "--port", "0")
    running.serving(2)
    running.process.kill()
    for pid in running.pids().values():
        home.wait_ended(pid)


def test_without_a_store_several_workers_do_not_begin(home: Home) -> None:
    """Each would ask what the others have been refused: said with the line to add."""
    home.write_pool(re.sub(r"state:.*\n", "", home.pool_path.read_text()))
    refused = home.understudy("serve", "--workers", "2", "--port", "0")
    assert refused.returncode == 1
    assert b"state: {url: redis://127.0.0.1:6379, prefix: team}" in refused.stderr


def test_a_worker_that_cannot_start_ends_all_of_it(home: Home) -> None:
    """With its own words, and no loop of restarts."""
    ended = home.understudy("serve", "--workers", "2", "--port", "0", "--", "--no-such-flag")
    assert ended.returncode == 1
    assert b"--no-such-flag" in ended.stdout


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Start a HAProxy with this configuration."""
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("no haproxy is installed")
    begun: list[subprocess.Popen[bytes]] = []

    def begin(configuration: str) -> None:
        file = tmp_path / "haproxy.cfg"
        file.write_text(configuration)
        checked = subprocess.run([program, "-c", "-f", str(file)], capture_output=True, timeout=30, check=False)
        assert checked.returncode == 0, checked.stderr
        begun.append(subprocess.Popen([program, "-db", "-f", str(file)], stderr=subprocess.DEVNULL))

    yield begin
    for each in begun:
        each.terminate()
        each.wait(20)


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> int:
    """A port that is free, with as many free ones behind it."""
    for _ in range(100):
        first = free_port()
        taken: list[socket.socket] = []
        try:
            for port in range(first, first + count + 1):
                probe = socket.socket()
                taken.append(probe)
                probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        finally:
            for probe in taken:
                probe.close()
        return first
    raise AssertionError("no free ports")


def test_m06_a_rolling_restart_behind_haproxy_loses_no_call(
    serve: Callable[..., Serve], home: Home, upstream: Upstream, haproxy: Callable[[str], None]
) -> None:
    """M06: 4 workers, all replaced while tools call on connections that they keep and on new ones."""
    upstream.on(SECRETS["a"], json_reply(200, GOOD))
    port = free_ports(4)
    words = ("--workers", "4", "--port", str(port))
    printed = subprocess.run(
        [*UNDERSTUDY, "serve", "--haproxy", *words], env=home.environ, capture_output=True, timeout=60, check=True
    )
    running = serve(*words, "--each-port")
    running.serving(4)
    haproxy(printed.stdout.decode())
    running.wait_for(lambda: accepts(port))
    before = running.pids()
    over = threading.Event()
    statuses: list[int] = []
    failures: list[str] = []

    def tool(*, keeps: bool) -> None:
        connection: Connection | None = None
        while not over.is_set():
            try:
                if connection is None:
                    connection = Connection(port, "https://api.openai.com", ca=home.confdir / "mitmproxy-ca-cert.pem")
                statuses.append(ask(connection)[0])
            except Exception as error:
                failures.append(repr(error))
                return
            if not keeps or not connection.is_reusable:
                connection.close()
                connection = None
                over.wait(PAUSE)
        if connection is not None:
            connection.close()

    tools = [threading.Thread(target=tool, kwargs={"keeps": number % 2 == 0}) for number in range(6)]
    for each in tools:
        each.start()
    try:
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_log("all workers are replaced")
    finally:
        over.set()
        for each in tools:
            each.join(SECONDS)
    assert failures == []
    assert set(statuses) == {200}
    assert len(statuses) > 20
    workers = json.loads(home.understudy("status", "--json").stdout)["workers"]
    assert len(workers) == 4
    assert not set(before.values()) & {each["pid"] for each in workers}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--listen-host", "0.0.0.0"], 1, "proxyauth"),
        (["--server", "nonsense"], 2, "HOST:PORT"),
    ],
)
def test_a_configuration_that_would_open_the_pool_is_not_printed(
    home: Home, words: Sequence[str], status: int, said: str
) -> None:
    """Law 12: behind a balancer every call comes from this machine."""
    refused = home.understudy("serve", "--haproxy", *words)
    assert refused.returncode == status
    assert said in refused.stderr.decode()
    assert refused.stdout == b""


def test_a_configuration_for_several_machines_sticks_by_source(home: Home) -> None:
    printed = home.understudy(
        "serve", "--haproxy", "--listen-host", "0.0.0.0", "--server", "one.example:8080", "--server", "[::1]:8080",
        "--", "--set", "proxyauth=any",
    )  # fmt: skip
    text = printed.stdout.decode()
    assert printed.returncode == 0
    assert "balance source" in text
    assert "server worker2 [::1]:8080" in text
