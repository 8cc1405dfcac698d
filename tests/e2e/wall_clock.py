"""A script for mitmproxy: the wall clock is off by as many seconds as the file ``wall-clock`` in its folder says.

Once it was read while it was off, the file ``wall-clock-read`` is there.
"""

from __future__ import annotations

import time
from pathlib import Path

OFF = Path("wall-clock")
READ = Path("wall-clock-read")
_real = time.time


def _read() -> float:
    try:
        off = float(OFF.read_text())
        READ.touch()
        return _real() + off
    except (OSError, ValueError):
        return _real()


time.time = _read
