"""Keeps what is out of rotation here and at the server alike, beside the calls and never in their way.

A request is decided by the memory of its own process. What changes there is noted as a key, and written by one task; a
second one listens; a third asks for the version every second, and has everything read again where a message was
missed. As long as the server does not answer, this process is alone: it notes on (a key is noted once, so the notes are
bounded), no call waits, and all of it is written when the server is back.

What has expired is probed by one process at a time. While the server answers, it stays blocked in all of them until a
request could use it; the process of that request asks for a lease, and only who has it lets its requests go there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any

from understudy.failover.ledger import Ledger
from understudy.model import Key, Pool, Scope, Store, Suspension
from understudy.shared.members import LONGEST, Members, RecordError, decode, encode
from understudy.shared.store import KEPT, LEASE, LIMIT, Entry, Link, Meta, News, StoreError
from understudy.suspensions import Rung, Suspensions

logger = logging.getLogger("understudy")

INTERVAL = 1.0
"""Seconds between two looks at the version."""
AT_ONCE = 25
"""How many changes are written in one go."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds between two tries to reach the server."""
TICK = 0.25
"""Seconds between two looks at the leases, while there are any or some are wanted."""
UNUSED = 1.0
"""Seconds after which a lease that no request uses is given back, if another process asks for it."""
MOST_OWNERS = 10_000
"""How much of what only one account knows is noted while the server is away."""
LONGEST_MARK = 64
WANTED = 60.0
"""Seconds for which a lease is tried for after a request could have used it."""


@dataclass(frozen=True, slots=True)
class SharingState:
    """How this process stands with the others. ``server``: its URL, which holds nothing secret.

    ``connected``: what is learnt is shared. ``since``: a reading of the clock, when that became so or ended.
    ``reason``: why it is not.
    """

    server: str
    prefix: str
    connected: bool
    since: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Change:
    """A key that the server does not know the truth about yet: cleared up to a revision, or else suspended.

    ``epoch``: that in which it was learnt.
    """

    cleared: bool
    revision: int
    epoch: int


class Sharing:
    """Shares the suspensions of one process with the others of its pool. ``interval``: seconds between two looks."""

    def __init__(
        self,
        suspensions: Suspensions,
        ledger: Ledger | None = None,
        *,
        interval: float = INTERVAL,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.suspensions = suspensions
        self.ledger = ledger
        self.interval = interval
        self.monotonic = monotonic
        self.worker = secrets.token_hex(8)
        self._random = Random()
        self._store: Store | None = None
        self._members = Members(Pool())
        self._state: SharingState | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        """Set where the server has to be read again as a whole."""
        self._applying = False
        """What changes now comes from the others."""
        self._told_alone = False
        self._forget_server()
        self._generations: dict[str, int] = {}
        self._changes: dict[Key, _Change] = {}
        self._all_cleared = False
        self._owners: dict[str, str] = {}
        """What only one account knows, and was learnt here: to be written."""
        self._connected = False

    def __repr__(self) -> str:
        return f"Sharing({self._state}, {len(self._changes)} to be written)"

    @property
    def state(self) -> SharingState | None:
        """How this process stands with the others, None where the pool shares nothing."""
        return self._state

    # -- life ----------------------------------------------------------------------------------------------------

    def use(self, pool: Pool) -> None:
        """Share by this pool from now on. What was learnt before is not told: it may have been resumed elsewhere."""
        before, self._store = self._store, pool.store
        self._members = Members(pool)
        self.suspensions.peers = self if self._store is not None else None
        if self.ledger is not None:
            self.ledger.learnt = self.bound if self._store is not None else None
        if self._store == before:
            # A name may stand for something else by now: what the server has of it is read again.
            self._forget_revisions()
            self._look.set()
            return
        self._end()
        self._changes.clear()
        self._owners.clear()
        self._all_cleared = False
        self._forget_server()
        if self._store is None:
            self._state = None
            return
        now = self.suspensions.clock()
        self._state = SharingState(self._store.url, self._store.prefix, False, now, "no connection was made yet")
        self._begin()

    def open(self) -> None:
        """Begin, inside a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._begin()

    def close(self) -> None:
        """The process ends."""
        self._end()
        self._loop = None
        self.suspensions.peers = None
        if self.ledger is not None:
            self.ledger.learnt = None

    def _begin(self) -> None:
        if self._loop is not None and self._store is not None and self._task is None:
            self._task = self._loop.create_task(self._share(self._store), name="understudy sharing")

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._part()

    # -- what this process learns (understudy.suspensions.Peers) ---------------------------------------------------

    def suspended(self, suspension: Suspension) -> None:
        """To be written, if it is of a kind that is shared."""
        if not self._applying and self._members.name(suspension):
            self._note(suspension.key, _Change(False, 0, self._epoch))

    def cleared(self, key: Key) -> None:
        """To be written, if the server may have it: up to the revision that was known here."""
        if self._applying or not self._members.name_of(key):
            return
        if key in self._revisions or key in self._under_way:
            self._note(key, _Change(True, self._revisions.get(key, 0), self._epoch))
        else:
            self._changes.pop(key, None)

    def all_cleared(self) -> None:
        """To be written first, and nothing that was noted before."""
        self._changes.clear()
        self._all_cleared = True
        self._wake.set()

    def grant(self, key: Key) -> bool:
        """Whether this process may probe without asking: it is alone, or the others do not know of it."""
        due = self.suspensions.half_open(key)
        return not self._connected or due is None or not self._members.name(due)

    def wants(self, key: Key) -> None:
        """A request could probe this."""
        if key not in self._wanted:
            self._wake.set()
        self._wanted[key] = self.monotonic()

    def bound(self, mark: str, credential: str) -> None:
        """An account knows something that others do not; of the tools' own accounts each process has its own names."""
        if (name := self._members.name_of(Key(Scope.CREDENTIAL, credential))) and len(self._owners) < MOST_OWNERS:
            self._owners[mark] = name
            self._wake.set()

    def _note(self, key: Key, change: _Change) -> None:
        if key in self._changes or len(self._changes) < LIMIT:
            self._changes[key] = change
            self._wake.set()

    # -- the connection --------------------------------------------------------------------------------------------

    async def _share(self, store: Store) -> None:
        """Connect, share, and connect again, for ever."""
        pause, missed = 0.0, 0
        while True:
            link = Link(store, self.worker)
            reason = ""
            try:
                await link.open()
                await self._meet(link)
                self._met()
                pause, missed = 0.0, 0
                await _first_to_fail(self._write(link), self._listen(link), self._watch(link))
            except StoreError as error:
                reason = str(error)
            except Exception as error:
                logger.exception("understudy: sharing failed, and begins again")
                reason = f"sharing failed ({type(error).__name__})"
            finally:
                self._part()
                await link.close()
            missed += 1
            # A connection that broke once may be there again at once; what fails twice is told.
            if missed > 1 or not self._ever_met:
                self._tell_alone(reason)
            await asyncio.sleep(pause * (1 + self._random.random() / 4))
            pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))

    async def _meet(self, link: Link) -> None:
        """Bring both sides together: first what is new here, then what is new there."""
        meta = await link.meta()
        self._note_meta(meta)
        self._connected = True
        await self._write_changes(link)
        await self._read(link)
        await self._write_owners(link)
        async for page in link.owners():
            for mark, name in page:
                self._bound_there(mark, name)

    def _bound_there(self, mark: str, name: str) -> None:
        key = self._members.key_of(name)
        if self.ledger is not None and key is not None and len(mark) <= LONGEST_MARK:
            self.ledger.take(mark, key.name)

    def _met(self) -> None:
        assert self._store is not None
        self._ever_met = True
        before, now = self._state, self.suspensions.clock()
        if before is not None and before.connected:
            return  # it was gone too briefly to be worth a line
        self._state = SharingState(self._store.url, self._store.prefix, True, now)
        where = f"{self._store.url} as {self._store.prefix}"
        if self._told_alone:
            lasted = f" after {round(now - before.since)} s" if before is not None else ""
            logger.info(f"understudy: {where} is back{lasted}: what is learnt is shared again")
        else:
            logger.info(f"understudy: what is learnt is shared through {where}")
        self._told_alone = False

    def _part(self) -> None:
        """The server does not answer: no call waits for it, and each process probes by itself."""
        self._connected = False
        self._wanted.clear()
        self._denied.clear()
        self._leases.clear()
        self._asked.clear()
        for key in list(self.suspensions.withheld):
            self.suspensions.permit(key)

    def _tell_alone(self, reason: str) -> None:
        assert self._store is not None
        now = self.suspensions.clock()
        before = self._state
        since = before.since if before is not None and not before.connected and self._told_alone else now
        self._state = SharingState(self._store.url, self._store.prefix, False, since, reason)
        if not self._told_alone:
            self._told_alone = True
            at = datetime.fromtimestamp(since).strftime("%H:%M:%S")
            logger.warning(
                f"understudy: alone since {at}: {self._store.url}: {reason}. "
                "What this proxy learns stays here until the server is back"
            )

    def _forget_server(self) -> None:
        """Nothing is known of the server: it is another one."""
        self._birth = ""
        self._version = 0
        self._epoch = 0
        self._offset = 0.0
        self._ever_met = False
        self._told_alone = False
        self._revisions: dict[Key, int] = {}
        """The revision that was last heard or written, by key."""
        self._written: dict[Key, int] = {}
        """The revision that this process has written itself."""
        self._gone: dict[Key, int] = {}
        """The version with which a key was cleared: an older word of it comes too late."""
        self._under_way: set[Key] = set()
        """What is being written right now."""
        self._wanted: dict[Key, float] = {}
        self._denied: dict[Key, float] = {}
        self._leases: dict[Key, tuple[float, float]] = {}
        """The probes that are ours: when they were last used, and renewed."""
        self._asked: set[Key] = set()
        """Those of them that another process asks for."""

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _write(self, link: Link) -> None:
        while True:
            busy = self._leases or self._wanted
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK if busy else None):
                    await self._wake.wait()
            self._wake.clear()
            await self._ask_for_leases(link)
            await self._write_changes(link)
            await self._keep_leases(link)
            await self._write_owners(link)

    async def _write_owners(self, link: Link) -> None:
        while self._owners:
            batch = [(mark, self._owners.pop(mark)) for mark in list(self._owners)[:AT_ONCE]]
            try:
                await link.bind(batch)
            except BaseException:
                self._owners = dict(batch) | self._owners
                raise

    async def _write_changes(self, link: Link) -> None:
        if self._all_cleared:
            self._epoch = await link.clear_all()
            self._all_cleared = False
            self._revisions.clear()
            self._written.clear()
            # All of these were learnt after it.
            self._changes = {key: replace(change, epoch=self._epoch) for key, change in self._changes.items()}
        while self._changes:
            batch = {key: self._changes.pop(key) for key in list(self._changes)[:AT_ONCE]}
            self._under_way = set(batch)
            try:
                await self._write_batch(link, batch)
            except BaseException:
                # Newer notes of the same keys stay; these come back as they are.
                for key, change in batch.items():
                    self._changes.setdefault(key, change)
                raise
            finally:
                self._under_way = set()

    async def _write_batch(self, link: Link, batch: dict[Key, _Change]) -> None:
        cleared = [
            (key, name, max(change.revision, self._written.get(key, 0)))
            for key, change in batch.items()
            if change.cleared and (name := self._members.name_of(key))
        ]
        running = [
            (key, found, change.epoch)
            for key, change in batch.items()
            if not change.cleared and (found := self.suspensions.get(key)) is not None
        ]
        suspended = [
            (key, name, (found.until + self._offset) * 1000, encode(found, self.suspensions.ladders, self._offset), at)
            for key, found, at in running
            if (name := self._members.name(found))
        ]
        if suspended:
            revisions = await link.suspend([each[1:] for each in suspended])
            for (key, *_), revision in zip(suspended, revisions, strict=True):
                if revision > 0:
                    self._revisions[key] = max(revision, self._revisions.get(key, 0))
                    self._written[key] = revision
                elif revision == 0:
                    with self._silently():
                        self.suspensions.resume(key)
        if cleared:
            for (key, *_), version in zip(
                cleared, await link.clear([(name, revision) for _, name, revision in cleared]), strict=True
            ):
                if version:
                    self._forget(key, version)

    # -- probes ----------------------------------------------------------------------------------------------------

    async def _ask_for_leases(self, link: Link) -> None:
        now = self.monotonic()
        asked: dict[Key, str] = {}
        for key, since in list(self._wanted.items()):
            if key not in self.suspensions.withheld or now - since > WANTED:
                del self._wanted[key]
                self._denied.pop(key, None)
            elif now - self._denied.get(key, -TICK) >= TICK and (name := self._members.name_of(key)):
                asked[key] = name
        if not asked:
            return
        taken = await link.lease(list(asked.values()))
        await link.ask_for([name for name, ours in zip(asked.values(), taken, strict=True) if not ours])
        for key, ours in zip(asked, taken, strict=True):
            if ours:
                self._leases[key] = (now, now)
                self._wanted.pop(key, None)
                self._denied.pop(key, None)
                self.suspensions.permit(key)
            else:
                self._denied[key] = now

    async def _keep_leases(self, link: Link) -> None:
        """Keep those that a request may still need, and give back the others."""
        now = self.monotonic()
        kept: list[Key] = []
        done: list[Key] = []
        for key, (used, renewed) in list(self._leases.items()):
            if self.suspensions.half_open(key) is None:
                done.append(key)
                continue
            if self.suspensions.is_probed(key):
                used = now
            elif key in self._asked and now - used > UNUSED:
                self.suspensions.withhold(key)
                done.append(key)
                continue
            self._leases[key] = (used, renewed)
            if now - renewed > LEASE / 3:
                kept.append(key)
        for key in done:
            del self._leases[key]
        self._asked &= self._leases.keys()
        await link.release([name for key in done if (name := self._members.name_of(key))])
        await link.renew([name for key in kept if (name := self._members.name_of(key))])
        for key in kept:
            self._leases[key] = (self._leases[key][0], now)

    # -- hearing ---------------------------------------------------------------------------------------------------

    async def _listen(self, link: Link) -> None:
        while True:
            if (news := await link.hear()) is not None:
                self.hear(news)

    def hear(self, news: News) -> None:
        """Something was told."""
        if news.version:
            if news.version > self._version + 1:
                self._look.set()  # something was missed
            self._version = max(self._version, news.version)
            self._birth = self._birth or news.birth
        if news.kind == "a":
            if news.epoch > self._epoch and not news.own:
                self._clear_everything(news.epoch, news.version)
            return
        if news.kind == "b":
            if not news.own:
                self._bound_there(news.name, news.record)
            return
        key = self._members.key_of(news.name)
        if key is None:
            return
        match news.kind:
            case "s":
                self._suspended_there(key, Entry(news.name, news.version, news.until, news.record), own=news.own)
            case "c" if not news.own and news.version > self._revisions.get(key, 0):
                self._cleared_there(key, news.version)
            case "w" if not news.own and key in self._leases:
                self._asked.add(key)
            case "f" if not news.own and key in self._wanted:
                self._denied.pop(key, None)
                self._wake.set()

    def _suspended_there(self, key: Key, entry: Entry, *, own: bool = False) -> None:
        known = self._revisions.get(key, 0)
        if entry.revision < known or entry.revision <= self._gone.get(key, 0) or (entry.revision == known and not own):
            return
        change = self._changes.get(key)
        if change is not None and change.cleared and entry.revision <= max(change.revision, self._written.get(key, 0)):
            return  # it was cleared here since
        self._revisions[key] = max(known, entry.revision)
        try:
            record = decode(entry.record, key, entry.until, self._offset)
        except RecordError:
            return
        now = self.suspensions.clock()
        if not now - KEPT <= record.suspension.until <= now + LONGEST:
            return
        if own and ((running := self.suspensions.get(key)) is None or running.until >= record.suspension.until - 0.05):
            return  # it says what was written, and nothing longer
        with self._silently():
            if record.suspension.until > now:
                held = self.suspensions.suspend(record.suspension)
            else:
                held = None
                self.suspensions.recall(record.suspension)
            if record.rung is not None:
                rung = Rung(record.rung.step, held.order if held else 0, record.rung.until)
                self.suspensions.ladders.climb(key, record.suspension.label, rung)

    def _cleared_there(self, key: Key, version: int) -> None:
        self._forget(key, version)
        change = self._changes.get(key)
        if (change is not None and not change.cleared) or key in self._under_way:
            return  # it was suspended here since
        with self._silently():
            self.suspensions.resume(key)

    def _clear_everything(self, epoch: int, version: int) -> None:
        """A hand has resumed everything somewhere: what was learnt before that is void."""
        self._epoch = epoch
        self._changes.clear()
        for key in list(self._revisions):
            self._forget(key, version)
        with self._silently():
            for key in self.suspensions.known():
                if self._members.name_of(key):
                    self.suspensions.resume(key)

    def _forget_revisions(self) -> None:
        for known in (self._revisions, self._written, self._gone):
            known.clear()

    def _forget(self, key: Key, version: int) -> None:
        self._revisions.pop(key, None)
        self._written.pop(key, None)
        self._gone.pop(key, None)
        self._gone[key] = version
        for known in (self._gone, self._revisions, self._written):
            if len(known) > LIMIT:
                del known[next(iter(known))]

    @contextlib.contextmanager
    def _silently(self) -> Iterator[None]:
        """What changes inside comes from the others, and is not told back."""
        before, self._applying = self._applying, True
        try:
            yield
        finally:
            self._applying = before

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _watch(self, link: Link) -> None:
        """Ask for the version, and read everything where a message was missed or the server was emptied."""
        expected = self._version
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval * (0.9 + self._random.random() / 5)):
                    await self._look.wait()
            renewed = self._look_at_secrets()
            meta = await link.meta()
            missed = self._version < expected
            changed = self._note_meta(meta)
            if changed or missed or renewed or self._look.is_set():
                self._look.clear()
                await self._read(link)
            expected = meta.version

    def _look_at_secrets(self) -> bool:
        """Whether a credential has become another one, so that other names are its own."""
        generations = dict(self.suspensions.generations)
        before, self._generations = self._generations, generations
        changed = [name for name, count in generations.items() if before.get(name, 0) != count]
        renewed = {name for name in changed if self._members.look(name)}
        for known in (self._revisions, self._written, self._gone):
            for key in [key for key in known if key.name in renewed]:
                del known[key]
        return bool(renewed)

    def _note_meta(self, meta: Meta) -> bool:
        """Take note of where the server stands; returns whether it is not the one that it was."""
        self._offset = meta.now - self.suspensions.clock()
        lost = meta.version < self._version or (bool(self._birth) and meta.birth != self._birth)
        if lost:
            # It was emptied, or a replica took over that had not got everything: it gets what this process knows.
            self._forget_revisions()
            self._version = meta.version
            for suspension in self.suspensions:
                if self._members.name(suspension):
                    self._note(suspension.key, _Change(False, 0, meta.epoch))
        elif meta.epoch > self._epoch and self._birth:
            self._clear_everything(meta.epoch, meta.version)
        self._birth, self._epoch = meta.birth, meta.epoch
        return lost

    async def _read(self, link: Link) -> None:
        """Read everything that is stored, and drop what has been cleared there since."""
        before = (await link.meta()).version
        seen: set[Key] = set()
        async for page in link.entries():
            for entry in page:
                if (key := self._members.key_of(entry.name)) is not None:
                    seen.add(key)
                    self._suspended_there(key, entry)
        for key, revision in list(self._revisions.items()):
            if key not in seen and revision <= before:
                self._forget_if_cleared(key, before)
        self._version = max(self._version, before)

    def _forget_if_cleared(self, key: Key, version: int) -> None:
        due = self.suspensions.half_open(key)
        if due is not None and due.until < self.suspensions.clock() - KEPT / 2:
            self._revisions.pop(key, None)  # it was kept there long enough
        else:
            self._cleared_there(key, version)


async def _first_to_fail(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs that never end, until one fails; the others are ended. Raises what it raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
