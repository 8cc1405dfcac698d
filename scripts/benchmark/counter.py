"""Counts the bytecode instructions that a program runs between two signals.

Unlike seconds they are the same whatever else the machine is doing. They are no measure of what C code costs.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from threading import get_ident
from types import CodeType, CoroutineType, FrameType

COUNT_FILE = "BENCHMARK_COUNT_FILE"
"""The variable that makes ``program.py`` count, and says where the number is to go."""
# mitmproxy prints its tasks and memory at SIGUSR1 and SIGUSR2.
BEGIN, END = signal.SIGRTMIN, signal.SIGRTMIN + 1
TIMED = frozenset({"understudy rules", "understudy state"})
"""Tasks that look at files once a second. How often that falls between two signals is chance, so it is not counted."""


def count_into(file: Path) -> None:
    """From ``BEGIN`` to ``END``, of this thread and without ``TIMED``; at ``END`` the number is in the file.

    Of a call of this size nothing is done in another thread: there files are looked at, once a second.
    """
    monitoring, tool = sys.monitoring, sys.monitoring.PROFILER_ID
    events = monitoring.events
    count, own = 0, get_ident()
    stopped_at: int | None = None

    def one_more(_code: CodeType, _offset: int) -> None:
        nonlocal count
        if get_ident() == own:
            count += 1

    def timed_begins(_code: CodeType, _offset: int) -> None:
        nonlocal stopped_at
        stopped_at = count

    def timed_ends(_code: CodeType, _offset: int, _result: object) -> None:
        nonlocal count, stopped_at
        if stopped_at is not None:
            count, stopped_at = stopped_at, None

    def begin(_number: int, _frame: FrameType | None) -> None:
        nonlocal count, stopped_at
        count, stopped_at = 0, None
        for task in asyncio.all_tasks():
            coroutine = task.get_coro()
            if task.get_name() in TIMED and isinstance(coroutine, CoroutineType):
                monitoring.set_local_events(tool, coroutine.cr_code, events.PY_RESUME | events.PY_YIELD)
        monitoring.set_events(tool, events.INSTRUCTION)

    def end(_number: int, _frame: FrameType | None) -> None:
        monitoring.set_events(tool, 0)
        aside = file.with_suffix(".new")
        aside.write_text(str(count), "utf-8")
        aside.replace(file)

    monitoring.use_tool_id(tool, "understudy benchmark")
    monitoring.register_callback(tool, events.INSTRUCTION, one_more)
    monitoring.register_callback(tool, events.PY_RESUME, timed_begins)
    monitoring.register_callback(tool, events.PY_YIELD, timed_ends)
    signal.signal(BEGIN, begin)
    signal.signal(END, end)
