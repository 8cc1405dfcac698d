"""Gateways that do a similar job, beside a bare mitmproxy and understudy: same upstream, same calls, in turns.

``scripts/bench --peers`` installs LiteLLM's proxy (PyPI) and Portkey's gateway (npm) into ``.peers``, at the versions
below. Each has one process, its quietest log level and no database; what it was set to stands beside its figures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from benchmark import messages
from benchmark.calls import Point, wrk
from benchmark.figures import Row, Unit, compare
from benchmark.processes import ROOT, BenchmarkError, free_ports
from benchmark.stage import Pair, Proxy, Stage

PLACE = ROOT / ".peers"
LITELLM = "litellm[proxy]==1.108.7"
PORTKEY = "@portkey-ai/gateway@1.15.2"
POINT = Point("1 KB, 8 connections", 1_000, 8, 3)
ROUNDS = 4
START_SECONDS = 90.0
COLUMNS = ("measurement", "bare", "peer", "ratio to bare")
SECRET = "sk-benchmark-1-0123456789abcdef"


@dataclass(frozen=True)
class Peer:
    """A gateway that runs. ``headers``: further ones that it wants of each call. ``settings``: in words."""

    name: str
    proxy: Proxy
    settings: str
    headers: Mapping[str, str] = field(default_factory=dict)


def install() -> None:
    """Put both into ``.peers``, unless they are there. Raises BenchmarkError when that fails."""
    if shutil.which("wrk") is None or shutil.which("npm") is None:
        raise BenchmarkError("--peers needs wrk and npm: install both, for example with `apt-get install wrk npm`")
    stamp = PLACE / "installed"
    wanted = f"{LITELLM} {PORTKEY} {sys.version_info[:2]}"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    venv.create(PLACE / "venv", with_pip=True)
    (PLACE / "package.json").write_text('{"private": true}\n', "utf-8")
    for command in (
        [str(PLACE / "venv" / "bin" / "pip"), "install", "-qq", LITELLM],
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", PORTKEY],
    ):
        print(f"==> {' '.join(command)}", file=sys.stderr)
        done = subprocess.run(command, cwd=PLACE, capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"`{' '.join(command)}` failed: {done.stderr[-2000:]}")
    stamp.write_text(wanted, "utf-8")


def peers(stage: Stage, pair: Pair) -> Iterator[Row]:
    """Calls per second, p50 and CPU time of a call; each is a ratio to the bare mitmproxy."""
    found = [
        Peer("understudy", pair.ours, "reverse mode, pool of two credentials"),
        _start(stage, "LiteLLM proxy", _litellm),
        _start(stage, "Portkey gateway", _portkey),
    ]
    bare = Peer("bare mitmproxy", pair.bare, "reverse mode")
    rounds: dict[str, list[dict[str, float]]] = {each.name: [] for each in (bare, *found)}
    for peer in (bare, *found):
        wrk(stage, peer.proxy, Point("warm-up", 1_000, 8, 2), peer.headers)
    for _ in range(ROUNDS):
        for peer in (bare, *found):
            before = peer.proxy.cpu
            result = wrk(stage, peer.proxy, POINT, peer.headers)
            rounds[peer.name].append({**result, "cpu": (peer.proxy.cpu - before) / result["count"]})
            time.sleep(0.2)
    for figure, label, unit in (
        ("rate", "calls", Unit.PER_SECOND),
        ("p50", "p50", Unit.MILLISECONDS),
        ("cpu", "CPU time of a call", Unit.MILLISECONDS),
    ):
        base = [each[figure] for each in rounds[bare.name]]
        for peer in found:
            figures = [each[figure] for each in rounds[peer.name]]
            yield compare(f"{peer.name} ({peer.settings}): {label}", unit, base, figures)


def _start(stage: Stage, name: str, begin: Callable[[Stage, int], Peer]) -> Peer:
    """Start one, and wait until a call through it is answered."""
    (port,) = free_ports(1)
    peer = begin(stage, port)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and peer.proxy.process.poll() is None:
        try:
            wrk(stage, peer.proxy, Point("first", 1_000, 1), peer.headers)
        except BenchmarkError:
            time.sleep(0.5)
        else:
            return peer
    raise BenchmarkError(f"{name} does not answer: {stage.processes.log_text(f'{peer.proxy.name}.log')}")


def _litellm(stage: Stage, port: int) -> Peer:
    config = {
        "model_list": [
            {
                "model_name": messages.JSON_ALIAS,
                "litellm_params": {
                    "model": f"openai/{messages.JSON_ALIAS}",
                    "api_base": f"http://127.0.0.1:{stage.ports.calls}/v1",
                    "api_key": SECRET,
                },
            }
        ],
        "litellm_settings": {"telemetry": False},
        # Its clients need no key here either: the listener is on loopback.
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    }
    file = stage.folder / "litellm.yaml"
    file.write_text(json.dumps(config), "utf-8")
    command = [str(PLACE / "venv" / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    # It would otherwise fetch a list of prices from the network.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = stage.processes.start(command, log="litellm.log", environment=environment)
    return Peer("LiteLLM proxy", Proxy("litellm", process, port, port), f"{LITELLM}, 1 worker, no database")


def _portkey(stage: Stage, port: int) -> Peer:
    script = PLACE / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    environment = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    process = stage.processes.start(
        ["node", str(script), f"--port={port}", "--headless"], log="portkey.log", environment=environment
    )
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{stage.ports.calls}/v1",
    }
    return Peer("Portkey gateway", Proxy("portkey", process, port, port), f"{PORTKEY}, headless", headers)
