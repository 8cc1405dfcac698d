"""What a run plays on: the upstreams, the load generator, and the two proxies between them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import messages
from benchmark.caller import Caller
from benchmark.counter import COUNT_FILE
from benchmark.processes import ROOT, BenchmarkError, Processes, cpu_microseconds, free_ports, resident_kib

ADDON = ROOT / "addon" / "understudy" / "main.py"
"""Runs mitmdump and ends it when this process is gone, however that came about."""

BARE_SCRIPT = '''"""Lets event streams through as they come. Without this a bare mitmproxy buffers them whole."""


def responseheaders(flow):
    if flow.response.headers.get("content-type", "").startswith("text/event-stream"):
        flow.response.stream = True
'''
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    client_max_body_size 0; access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
    client_body_temp_path {folder}/nginx; proxy_temp_path {folder}/nginx; fastcgi_temp_path {folder}/nginx;
    uwsgi_temp_path {folder}/nginx; scgi_temp_path {folder}/nginx;
    server {{
        listen 127.0.0.1:{port}; default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""
POOL = """
upstreams:
  calls: {{dialect: openai, url: "http://127.0.0.1:{calls}/v1"}}
  streams: {{dialect: openai, url: "http://127.0.0.1:{streams}/v1"}}
  refusing: {{dialect: openai, url: "http://127.0.0.1:{refusing}/v1"}}
credentials:
  calls-1: {{upstream: calls, secret: {{env: BENCHMARK_SECRET_1}}}}
  calls-2: {{upstream: calls, secret: {{env: BENCHMARK_SECRET_2}}}}
  streams-1: {{upstream: streams, secret: {{env: BENCHMARK_SECRET_1}}}}
  streams-2: {{upstream: streams, secret: {{env: BENCHMARK_SECRET_2}}}}
  refusing: {{upstream: refusing, secret: {{env: BENCHMARK_SECRET_1}}}}
routes:
  {messages.JSON_ALIAS}: [calls-1, calls-2]
  {messages.STREAM_ALIAS}: [streams-1, streams-2]
  {messages.PAIR_PREFIX}*: [refusing, streams-1]
  {messages.SOLO_PREFIX}*: [streams-1]
"""
SECRETS = {
    "BENCHMARK_SECRET_1": "sk-benchmark-1-0123456789abcdef",
    "BENCHMARK_SECRET_2": "sk-benchmark-2-0123456789abcdef",
}


@dataclass(frozen=True)
class Ports:
    """Where calls and streams are answered, and where every call is refused."""

    calls: int
    streams: int
    refusing: int


@dataclass(frozen=True)
class Proxy:
    """A running mitmdump and its two reverse listeners."""

    name: str
    process: subprocess.Popen[str]
    calls: int
    streams: int

    @property
    def cpu(self) -> float:
        """The microseconds of CPU time that it has used."""
        return cpu_microseconds(self.process.pid)

    @property
    def resident(self) -> float:
        """Its resident memory in KiB."""
        return resident_kib(self.process.pid)


@dataclass(frozen=True)
class Pair:
    """The two that are compared."""

    bare: Proxy
    ours: Proxy

    def __iter__(self) -> Iterator[Proxy]:
        return iter((self.bare, self.ours))


class Stage:
    """The upstreams and the load generator are started at once, proxies when asked for."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.folder = processes.folder
        server = processes.start_module("upstream")
        assert server.stdout is not None
        ports = server.stdout.readline().split()
        if len(ports) != 2:
            raise BenchmarkError(f"the upstream did not start: {processes.log_text('upstream.log')}")
        streams, refusing = map(int, ports)
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        self.calls_by = "nginx" if nginx else "own asyncio server"
        self.ports = Ports(self._start_nginx(nginx) if nginx else streams, streams, refusing)
        self._client = processes.start_module("client")
        (self.folder / "stream.py").write_text(BARE_SCRIPT, "utf-8")
        pool = self.folder / "pool.yaml"
        pool.touch(mode=0o600)
        pool.write_text(_pool_text(self.ports), "utf-8")

    def _start_nginx(self, program: str) -> int:
        (port,) = free_ports(1)
        folder = self.folder
        (folder / "nginx").mkdir(mode=0o700)
        text = NGINX.format(folder=folder, port=port, answer=messages.ANSWER)
        (folder / "nginx.conf").write_text(text, "utf-8")
        command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
        self.processes.wait_for_port(self.processes.start(command, log="nginx.log"), port, "nginx.log")
        return port

    def start_pair(self, *, counted: bool = False) -> Pair:
        """Start a bare mitmdump and one with the addon; ``counted``: see ``counter.py``.

        Raises BenchmarkError when one does not do what it is to.
        """
        addon = ("-s", str(ADDON), "--set", f"pool_file={self.folder / 'pool.yaml'}")
        pair = Pair(
            self._start_proxy("bare", "-s", str(self.folder / "stream.py"), counted=counted),
            self._start_proxy("understudy", *addon, counted=counted),
        )
        # A proxy without its addon would be measured just as well.
        for proxy, alias in ((pair.bare, messages.JSON_ALIAS), (pair.ours, messages.PAIR_PREFIX + "check")):
            try:
                with Caller(proxy.calls) as caller:
                    caller.call(alias, b"200")
            except (BenchmarkError, OSError) as error:
                self.processes.stop(proxy.process)  # so that all it had to say is written
                printed = self.processes.log_text(f"{proxy.name}.log")
                raise BenchmarkError(f"{proxy.name}: {error}. It printed: {printed}") from None
        return pair

    def stop_pair(self, pair: Pair) -> None:
        """End both."""
        for proxy in pair:
            self.processes.stop(proxy.process)

    def count_file(self, name: str) -> Path:
        """Where a proxy that counts leaves the number."""
        return self.folder / f"{name}.count"

    def _start_proxy(self, name: str, *arguments: str, counted: bool) -> Proxy:
        calls, streams = free_ports(2)
        command = [sys.executable, "-m", "benchmark.program", "mitmdump", "--listen-host", "127.0.0.1"]
        for listener, target in ((calls, self.ports.calls), (streams, self.ports.streams)):
            command += ["--mode", f"reverse:http://127.0.0.1:{target}@{listener}"]
        settings = {
            "confdir": str(self.folder / "confdir"),
            "flow_detail": "0",
            "termlog_verbosity": "error",
            "store_streamed_bodies": "false",
        }
        for option, value in settings.items():
            command += ["--set", f"{option}={value}"]
        log = f"{name}.log"
        environment = {**SECRETS, "PYTHONPATH": str(ROOT / "scripts")}
        if counted:
            environment[COUNT_FILE] = str(self.count_file(name))
        process = self.processes.start([*command, *arguments], log=log, environment=environment)
        for port in (calls, streams):
            self.processes.wait_for_port(process, port, log)
        return Proxy(name, process, calls, streams)

    def ask_client(self, **task: Any) -> dict[str, float]:
        """Give the load generator a task. Raises BenchmarkError when it went wrong."""
        client = self._client
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(json.dumps(task) + "\n")
        client.stdin.flush()
        answer = client.stdout.readline()
        if not answer:
            raise BenchmarkError(f"the load generator ended. It printed: {self.processes.log_text('client.log')}")
        result: dict[str, Any] = json.loads(answer)
        if "error" in result:
            raise BenchmarkError(str(result["error"]))
        return result


def _pool_text(ports: Ports) -> str:
    return POOL.format(calls=ports.calls, streams=ports.streams, refusing=ports.refusing, messages=messages)


def temporary_parent() -> Path | None:
    """Where the run keeps its files: memory, where there is such a folder."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None
