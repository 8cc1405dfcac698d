"""Runs the benchmark and prints its table.

scripts/bench [--quick] [--only PART ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from benchmark import peers as gateways
from benchmark.calls import calls, generator
from benchmark.effort import FULL, QUICK, Effort
from benchmark.failover import failover
from benchmark.figures import Row, markdown
from benchmark.memory import memory
from benchmark.picking import picking
from benchmark.processes import BenchmarkError, Processes
from benchmark.stage import Stage, temporary_parent
from benchmark.start import start
from benchmark.state import state
from benchmark.streams import streams
from benchmark.work import work

PARTS = ("calls", "streams", "failover", "work", "picking", "state", "memory", "start")
LONGEST = 600
"""Seconds after which a run that hangs is ended."""


def main() -> int:
    """Returns 0 when every bar is reached, 1 when one is not, 2 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer and shorter rounds")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--peers", action="store_true", help="install LiteLLM and Portkey, and compare with them only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table with the figures of every round")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _end)
    try:
        if options.peers:
            gateways.install()
    except BenchmarkError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2
    signal.alarm(LONGEST)
    begun = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="understudy-bench-", dir=temporary_parent()) as folder:
        try:
            with Processes(Path(folder)) as processes:
                stage = Stage(processes)
                lines = _conditions(stage, effort)
                print("\n".join(lines), flush=True)
                measured = gateways.peers(stage, stage.start_pair()) if options.peers else None
                for row in measured or _measure(stage, options.only or PARTS, effort):
                    rows.append(row)
                    print(f"{time.monotonic() - begun:5.0f} s  " + " | ".join(row.cells()), file=sys.stderr)
        except BenchmarkError as error:
            print(f"scripts/bench: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("scripts/bench: ended early", file=sys.stderr)
            return 130
    print()
    print(markdown(rows, gateways.COLUMNS) if options.peers else markdown(rows))
    print(f"\n{time.monotonic() - begun:.0f} s in all.")
    if options.json:
        document = {"conditions": lines, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return int(any(row.reached is False for row in rows))


def _measure(stage: Stage, parts: list[str] | tuple[str, ...], effort: Effort) -> Iterator[Row]:
    if {"calls", "streams", "failover"} & set(parts):
        pair = stage.start_pair()
        if "calls" in parts:
            yield from calls(stage, pair, effort)
        if "streams" in parts:
            yield from streams(stage, pair, effort)
        if "failover" in parts:
            yield from failover(stage, pair, effort.failovers)
        stage.stop_pair(pair)
    if "work" in parts:
        yield from work(stage, effort.work_rounds)
    if "picking" in parts:
        yield from picking(effort.pick_rounds)
    if "state" in parts:
        yield from state(effort.pick_rounds)
    if "memory" in parts:
        yield from memory(stage, effort)
    if "start" in parts:
        yield from start(stage.processes.folder, effort.starts)


def _conditions(stage: Stage, effort: Effort) -> list[str]:
    """What has to be known to read the table."""
    return [
        f"mitmproxy {metadata.version('mitmproxy')}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores.",
        f"Bare and understudy took turns: {effort.call_rounds} rounds per point of JSON calls, "
        f"{effort.stream_rounds} of streams. Figures are medians of the rounds, a ratio (understudy / bare) "
        "is the median of the rounds' ratios.",
        f"Both are mitmdump in reverse mode on loopback with the same options. JSON calls: {generator()} against "
        f"{stage.calls_by}. The bare one has a script that sets flow.response.stream for event streams, as otherwise "
        "it would buffer them whole.",
    ]


def _end(number: int, _frame: object) -> None:
    raise BenchmarkError(f"ended by {signal.Signals(number).name}")


if __name__ == "__main__":
    sys.exit(main())
