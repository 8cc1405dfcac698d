"""When the state file is read and written: read when a pool names it, written once a second while something changes.

The event loop collects a few hundred suspensions at a time; encoding and writing is done by a thread of its own, one
write after the other. At the end of the proxy the last state is written at once. Trouble with the file is told once,
and costs nothing but the memory: it is never a reason not to serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from understudy.codec.steady_clock import ahead_of
from understudy.model import Key, Pool, Suspension, counted
from understudy.suspensions.cache import Suspensions
from understudy.suspensions.snapshot import Remembered, StateError, decode, encode, restore, urls_of
from understudy.suspensions.state_file import StateFile

logger = logging.getLogger("understudy")

INTERVAL = 1.0
"""Seconds between two writes."""
AT_ONCE = 250
"""How many suspensions are collected before others get their turn."""


class Section(Protocol):
    """Something else that is kept in the state file: a list of rows under a name."""

    @property
    def name(self) -> str:
        """The member of the file."""
        ...

    @property
    def version(self) -> int:
        """Changes when there is something to be written."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """What is to be written; nothing of it changes afterwards."""
        ...

    def restore(self, rows: Sequence[Any]) -> None:
        """Take back what was written. Raises ValueError for what is damaged."""
        ...


class StateKeeper:
    """Keeps the suspensions of one engine in the state file of its pool, if that names one, and further sections."""

    def __init__(self, suspensions: Suspensions, sections: Sequence[Section] = ()) -> None:
        self.suspensions = suspensions
        self._sections = sections
        self._file: StateFile | None = None
        self._pool = Pool()
        self._urls = urls_of(self._pool)
        self._written: int | None = None
        """The version of the suspensions that the file has, None: it has to be written."""
        self._told = ""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="understudy state")

    def use(self, pool: Pool) -> None:
        """Keep what is learnt in this pool's state file from now on; a file that was not in use yet is read first."""
        path = Path(pool.state) if pool.state else None
        before = self._file.path if self._file else None
        if path != before:
            self.write_now()
        self._pool, self._urls = pool, urls_of(pool)
        if path == before:
            return
        if self._file is not None:
            self._file.let_go()
        self._file, self._written, self._told = StateFile(path) if path else None, None, ""
        if self._file is not None:
            self._read(self._file)

    async def keep(self) -> None:
        """Write whenever something has changed, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.write_changes()

    async def write_changes(self) -> None:
        """Write if something has changed since the last time."""
        file, version = self._file, self._version
        if file is None or version == self._written or not self._may_write(file):
            return
        running: list[Suspension] = []
        keys = self.suspensions.known()
        for start in range(0, len(keys), AT_ONCE):
            running += self._running(keys[start : start + AT_ONCE])
            await asyncio.sleep(0)
        if self._file is file:
            self._wrote(version, await asyncio.wrap_future(self._begin(file, running)))

    def write_now(self) -> None:
        """Write, and return when it is done."""
        if self._file is not None and self._may_write(self._file):
            running = self._running(self.suspensions.known())
            self._wrote(self._version, self._begin(self._file, running).result())

    def close(self) -> None:
        """The proxy ends: write for the last time."""
        self.write_now()
        self._thread.shutdown()
        if self._file is not None:
            self._file.let_go()
            self._file = None

    @property
    def _version(self) -> int:
        """Changes with what is to be written. That a lesson was seen again is written with the next change."""
        suspensions = self.suspensions
        own = suspensions.version + suspensions.learned.version + suspensions.limits.version
        return own + sum(section.version for section in self._sections)

    def _running(self, keys: list[Key]) -> list[Suspension]:
        return [found for key in keys if (found := self.suspensions.get(key)) is not None]

    def _begin(self, file: StateFile, running: list[Suspension]) -> Future[str]:
        """Have the thread write; it gets nothing that changes meanwhile, and says what went wrong."""
        ladders, urls, now = list(self.suspensions.ladders), self._urls, self.suspensions.clock()
        ahead = ahead_of(self.suspensions.clock)
        learned, limits = list(self.suspensions.learned), list(self.suspensions.limits.stored())
        sections = {section.name: section.rows() for section in self._sections}

        def write() -> str:
            try:
                file.write(encode(running, ladders, urls, now, learned, ahead, limits, sections))
            except OSError as error:
                return f"{file.path} cannot be written ({error.strerror}), so suspensions will not outlive this proxy"
            return ""

        return self._thread.submit(write)

    def _wrote(self, version: int, trouble: str) -> None:
        if trouble:
            self._tell(trouble)
        else:
            self._written, self._told = version, ""

    def _read(self, file: StateFile) -> None:
        ours = self._may_write(file)
        try:
            content = file.read()
            with _uncollected():
                remembered = decode(content) if content else Remembered()
                if ours:
                    # What another proxy counts is its own to tell.
                    self._restore_sections(remembered)
                count = restore(remembered, self._pool, self.suspensions)
        except OSError as error:
            self._tell(f"{file.path} cannot be read ({error.strerror}): suspensions start empty")
        except StateError as error:
            kept = self._set_aside(file) if ours else "it stays as it is"
            logger.warning(f"understudy: {file.path}: {error}: suspensions start empty, and {kept}")
        else:
            if count:
                logger.info(f"understudy: {counted(count, 'suspension')} read from {file.path}")

    def _restore_sections(self, remembered: Remembered) -> None:
        for section in self._sections:
            try:
                section.restore(remembered.sections.get(section.name, ()))
            except (ValueError, TypeError, OverflowError):
                raise StateError(f"an entry of `{section.name}` is damaged") from None

    def _set_aside(self, file: StateFile) -> str:
        clock = self.suspensions.clock
        try:
            return f"it is called {file.set_aside(clock() + ahead_of(clock))} now"
        except OSError as error:
            return f"it cannot be set aside ({error.strerror})"

    def _may_write(self, file: StateFile) -> bool:
        try:
            if file.is_ours():
                return True
            self._tell(
                f"{file.path} belongs to another proxy, so this one does not write it: give it a file of its own"
            )
        except OSError as error:
            self._tell(
                f"{file.path} cannot be locked ({error.strerror}), so it is not written: let its folder be yours"
            )
        return False

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            logger.warning(f"understudy: {trouble}")


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Tens of thousands of small objects are made here, and all of them stay: to look at them now is for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
