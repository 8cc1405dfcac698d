"""Runs one of mitmproxy's programs, and ends it when whoever holds its standard input is gone.

``python -m benchmark.program mitmdump ARGUMENTS``: the program itself, just never left behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from benchmark.counter import COUNT_FILE, count_into


def _end_with_parent() -> None:
    # Nothing is ever written: this returns when the other end is closed. Not by sys.stdin, whose lock the interpreter
    # wants at its end.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from mitmproxy.tools import main

    program = sys.argv.pop(1)
    if file := os.environ.get(COUNT_FILE):
        count_into(Path(file))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(getattr(main, program)())
