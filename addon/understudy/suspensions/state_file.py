"""The file that keeps suspensions over a restart: written whole or not at all, by one proxy at a time.

A second proxy with the same file reads it once and does not write, as two memories would overwrite each other: a lock
beside the file says whose it is, and goes with its process however that ends. A file that cannot be understood is set
aside, never deleted. What is secret is not in it, but who uses which models is private, too: mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from understudy.suspensions.snapshot import StateError

LARGEST = 128 * 1024 * 1024


class StateFile:
    """One state file. ``path``: as the pool file names it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"StateFile({self.path}{'' if self.is_ours() else ', not ours'})"

    def is_ours(self) -> bool:
        """Whether this process may write the file: it has the lock, or gets it now. Raises OSError."""
        if self._lock is not None or os.name != "posix":
            return True
        import fcntl

        lock = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock = lock
        return True

    def let_go(self) -> None:
        """Let another proxy have the file. The lock file stays: removing it would let two hold one each."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> bytes:
        """The content, empty when there is no file. Raises OSError, and StateError when it is too large."""
        try:
            with self.path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except FileNotFoundError:
            return b""
        if len(content) > LARGEST:
            raise StateError(f"this is larger than {LARGEST // 1024 // 1024} MiB")
        return content

    def write(self, content: bytes) -> None:
        """Put this in the place of what was there. Raises OSError; the old content stays then."""
        place = self.path.resolve()
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def set_aside(self, now: float) -> Path:
        """Give a file that cannot be used another name, and return it. Raises OSError."""
        aside = self._beside(f"damaged-{now:.0f}")
        os.replace(self.path.resolve(), aside)
        return aside

    def _beside(self, ending: str) -> Path:
        place = self.path.resolve()
        return place.with_name(f"{place.name}.{ending}")
