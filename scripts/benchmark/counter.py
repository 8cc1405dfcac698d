"""Counts the bytecode instructions that a program runs between two signals.

Unlike seconds they are the same whatever else the machine is doing. They are no measure of what C code costs.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import CodeType, FrameType

COUNT_FILE = "BENCHMARK_COUNT_FILE"
"""The variable that makes ``program.py`` count, and says where the number is to go."""
# mitmproxy prints its tasks and memory at SIGUSR1 and SIGUSR2.
BEGIN, END = signal.SIGRTMIN, signal.SIGRTMIN + 1


def count_into(file: Path) -> None:
    """From ``BEGIN`` to ``END``, of all threads; at ``END`` the number is in the file."""
    monitoring, tool = sys.monitoring, sys.monitoring.PROFILER_ID
    count = 0

    def one_more(_code: CodeType, _offset: int) -> None:
        nonlocal count
        count += 1

    def begin(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count = 0
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)

    def end(_number: int, _frame: FrameType | None) -> None:
        monitoring.set_events(tool, 0)
        aside = file.with_suffix(".new")
        aside.write_text(str(count), "utf-8")
        aside.replace(file)

    monitoring.use_tool_id(tool, "understudy benchmark")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, one_more)
    signal.signal(BEGIN, begin)
    signal.signal(END, end)
