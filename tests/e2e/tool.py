"""Runs one of mitmproxy's programs, and ends it when the test process that holds its standard input is gone.

``python tool.py mitmdump ARGUMENTS``: the program itself, in a process of its own, just never left behind: not even
when the test run is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    # Nothing is ever written: this returns when the other end is closed. Not by sys.stdin, whose lock the interpreter
    # wants at its end.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from mitmproxy.tools import main

    program = sys.argv.pop(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(getattr(main, program)())
