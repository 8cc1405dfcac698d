"""A script for mitmproxy: the wall clock is off by as many seconds as the file ``wall-clock`` in its folder says."""

from __future__ import annotations

import time
from pathlib import Path

OFF = Path("wall-clock")
_real = time.time


def _read() -> float:
    try:
        return _real() + float(OFF.read_text())
    except (OSError, ValueError):
        return _real()


time.time = _read
