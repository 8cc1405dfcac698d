"""Whether a file has changed since it was read, asked once a second. A file that is being written is left alone."""

from __future__ import annotations

import os
from enum import Enum, auto
from pathlib import Path

type _Stamp = tuple[int, int, int] | None


class FileChange(Enum):
    """What has become of the file since the last look."""

    NONE = auto()
    CHANGED = auto()
    GONE = auto()


class WatchedFile:
    """One file. ``wanted`` False: its changes are of no interest."""

    def __init__(self) -> None:
        self.path = Path()
        self.wanted = True
        self._read: _Stamp = None
        self._last: _Stamp = None

    def read(self, path: Path) -> None:
        """The file is about to be read."""
        self.path = path
        self._read = self._last = _stamp(path)

    def look(self) -> FileChange:
        """What has happened. A change is told once, when the file has been the same for two looks."""
        now, before = _stamp(self.path), self._last
        self._last = now
        if not self.wanted or now == self._read or now != before:
            return FileChange.NONE
        self._read = now
        return FileChange.CHANGED if now is not None else FileChange.GONE


def _stamp(path: Path) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
