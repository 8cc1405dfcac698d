"""Which running proxies are workers of one ``understudy serve``: a command goes to all of them.

A file in the runtime folder, named after the process that has started them, lists their process ids. It is held by an
exclusive lock while that process lives, so a file that can be locked was left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence

from understudy.control.registry import runtime_folder, state_folder

SUFFIX = ".workers"
LARGEST = 64 * 1024


class Group:
    """The list of one ``understudy serve``; ``environ`` says where it goes. Raises RuntimeFolderError and OSError."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        import fcntl

        self._path = runtime_folder(environ) / f"{pid}{SUFFIX}"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def tell(self, pids: Sequence[int]) -> None:
        """These are the workers now, the first one first."""
        # At least as long as it was: whoever reads in between sees the old list or the new one.
        os.pwrite(self._file, json.dumps(pids).encode().ljust(1024), 0)

    def close(self) -> None:
        """There are none any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def groups(environ: Mapping[str, str], found: Collection[int]) -> dict[int, list[int]]:
    """By the process that has started them: the workers among these processes. Raises RuntimeFolderError."""
    told: dict[int, list[int]] = {}
    for folder in {runtime_folder(environ), state_folder(environ)}:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if not path.stem.isdecimal():
                continue
            with contextlib.suppress(OSError, ValueError, TypeError), path.open("rb") as file:
                if _is_left(file.fileno()):
                    path.unlink(missing_ok=True)
                    continue
                pids = json.loads(file.read(LARGEST))
                if members := [int(pid) for pid in pids if int(pid) in found]:
                    told[int(path.stem)] = members
    return told


def _is_left(descriptor: int) -> bool:
    """Whether no process holds the file any more."""
    from fcntl import LOCK_NB, LOCK_SH, flock  # here: not on every system

    try:
        flock(descriptor, LOCK_SH | LOCK_NB)
    except BlockingIOError:
        return False
    return True
