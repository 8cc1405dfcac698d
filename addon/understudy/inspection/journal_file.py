"""The journal for machines: one JSON object per exchange and line (``pool_journal``).

Keeping the file small is the system's business. Both ways in which logrotate works are fine: the file is opened for
appending, so a copied and truncated one goes on at its beginning, and it is opened anew when its name leads elsewhere.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from mitmproxy import http

from understudy.proxy.exchange_facts import Facts

logger = logging.getLogger("understudy")

STDOUT = "-"


class JournalFile:
    """Writes facts to a file of mode 600, or to standard output. Raises OSError when it cannot be opened at first."""

    def __init__(self, written: str) -> None:
        self.path = None if written == STDOUT else Path(written).expanduser().absolute()
        self._descriptor: int | None = None
        self._failed = ""
        if self.path is not None:
            self._descriptor = _open(self.path)

    def __call__(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """Write one exchange. A problem is logged once, until it is over or another one comes."""
        try:
            self._write(line(flow, facts))
            self._failed = ""
        except OSError as error:
            problem = error.strerror or str(error)
            if problem != self._failed:
                logger.error(f"understudy: pool_journal {self.path or 'standard output'} cannot be written: {problem}")
            self._failed = problem

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, text: str) -> None:
        if self.path is None:
            print(text, flush=True)
            return
        data = text.encode() + b"\n"
        while data:
            # Mostly one call, so that lines of several processes do not mix.
            data = data[os.write(self._current(self.path), data) :]

    def _current(self, path: Path) -> int:
        """The descriptor of what the name leads to now."""
        if self._descriptor is not None:
            own = os.fstat(self._descriptor)
            try:
                there = path.stat()
            except OSError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
                return self._descriptor
            self.close()
        self._descriptor = _open(path)
        return self._descriptor


def _open(path: Path) -> int:
    # O_NONBLOCK: a named pipe without a reader must not hang the proxy.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o600)


def line(flow: http.HTTPFlow, facts: Facts) -> str:
    """One exchange as JSON on one line: its facts, with the time in words and the id of the tool's flow."""
    when = datetime.fromtimestamp(facts["time"], UTC).isoformat(timespec="milliseconds")
    written = {**facts, "time": when, "flow": flow.id}
    if flow.response is not None:
        written["status"] = flow.response.status_code
    if flow.error is not None:
        written["error"] = flow.error.msg
    return json.dumps(written, separators=(",", ":"))
