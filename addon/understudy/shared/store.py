"""The server: what is kept there, and how it is asked. Every question ends in time, or in an error.

    understudy:PREFIX:until   a sorted set: a name, and its deadline in milliseconds of the server's clock
    understudy:PREFIX:held    a hash: a name, and its revision, deadline and record
    understudy:PREFIX:meta    a hash: birth (another one after the server was emptied), version, epoch
    understudy:PREFIX:owners  a hash: the hash of what only one account knows, and which credential's account that is
    understudy:PREFIX:recent  a sorted set: the same hashes by age, so that the oldest go first
    understudy:PREFIX:probe:NAME   whose turn it is to probe; expires by itself
    understudy:PREFIX:news    the channel on which every change is told

A deadline only ever grows (``ZADD GT``), whatever the order of arrival. The version counts the changes, and a name's
revision is the version of its last one: who misses a message sees it by the gap. A success clears the revision that it
has disproved and no later one. "Resume all" is an epoch: what was learnt before it and arrives after it is dropped.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from understudy.failover.ledger import ENTRIES, SECONDS
from understudy.model import SecretError, Store, printable

CONNECT = 1.0
"""Seconds for a connection, TLS and password included, unless an answer has more. No call waits for it."""
CLOSE = 0.1
"""Seconds to let go of a connection in good order."""
LIMIT = 100_000
"""The most suspensions of a pool that are stored."""
LEASE = 5.0
"""Seconds for which a probe is one process's own, unless it asks for more: so long others wait for a killed one."""
KEPT = 3600
"""Seconds for which a suspension that has expired is kept: it is half-open for a process that starts then."""
LONGEST_KEY = 400 * 24 * 3600
"""Seconds after the last change for which anything is kept at all."""
PAGE = 250
"""About how many records are read at once."""
LONGEST_MESSAGE = 32 * 1024

_BEGIN = """
local until_, held, meta = KEYS[1], KEYS[2], KEYS[3]
local channel, worker, birth = ARGV[1], ARGV[2], ARGV[3]
redis.call('HSETNX', meta, 'birth', birth)
local function changed(message)
  message.v = redis.call('HINCRBY', meta, 'version', 1)
  message.w = worker
  message.b = redis.call('HGET', meta, 'birth')
  return message.v
end
local function tell(message)
  redis.call('PUBLISH', channel, cjson.encode(message))
end
local function last()
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, LONGEST_KEY) end
end
""".replace("LONGEST_KEY", str(LONGEST_KEY))
_SUSPEND = (
    (
        _BEGIN
        + """
local name, deadline, record, epoch = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
if epoch < tonumber(redis.call('HGET', meta, 'epoch') or '0') then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', until_, '-inf', now - KEPT, 'LIMIT', 0, 20)) do
  redis.call('ZREM', until_, old)
  redis.call('HDEL', held, old)
end
local before = redis.call('ZSCORE', until_, name)
if not before and redis.call('ZCARD', until_) >= LIMIT_ then return -1 end
redis.call('ZADD', until_, 'GT', deadline, name)
if before and tonumber(before) >= tonumber(deadline) then
  local was = redis.call('HGET', held, name)
  if was then
    deadline = before
    record = string.match(was, '^%S+ %S+ (.*)$')
  end
end
local message = {o = 's', m = name, u = deadline, r = record}
local revision = changed(message)
redis.call('HSET', held, name, string.format('%d', revision) .. ' ' .. deadline .. ' ' .. record)
tell(message)
last()
return revision
"""
    )
    .replace("KEPT", str(KEPT * 1000))
    .replace("LIMIT_", str(LIMIT))
)
_CLEAR = (
    _BEGIN
    + """
local name, proven = ARGV[4], tonumber(ARGV[5])
local was = redis.call('HGET', held, name)
if not was or tonumber(string.match(was, '^%S+')) > proven then return 0 end
redis.call('ZREM', until_, name)
redis.call('HDEL', held, name)
local message = {o = 'c', m = name}
local version = changed(message)
tell(message)
last()
return version
"""
)
_CLEAR_ALL = (
    _BEGIN
    + """
local message = {o = 'a', e = redis.call('HINCRBY', meta, 'epoch', 1)}
redis.call('DEL', until_, held)
changed(message)
tell(message)
last()
return message.e
"""
)
_BIND = """
local owners, recent, channel, worker, mark, owner = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
redis.call('HSET', owners, mark, owner)
redis.call('ZADD', recent, time[1], mark)
local old = redis.call('ZRANGEBYSCORE', recent, '-inf', time[1] - BOUND_SECONDS, 'LIMIT', 0, 20)
local more = redis.call('ZCARD', recent) - BOUND_MOST
if more > 0 then
  for _, each in ipairs(redis.call('ZRANGE', recent, 0, more - 1)) do table.insert(old, each) end
end
for _, each in ipairs(old) do
  redis.call('ZREM', recent, each)
  redis.call('HDEL', owners, each)
end
redis.call('EXPIRE', owners, BOUND_SECONDS)
redis.call('EXPIRE', recent, BOUND_SECONDS)
redis.call('PUBLISH', channel, cjson.encode({o = 'b', w = worker, m = mark, r = owner}))
return 1
""".replace("BOUND_SECONDS", str(int(SECONDS))).replace("BOUND_MOST", str(ENTRIES))
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], cjson.encode({o = 'f', w = ARGV[2], m = ARGV[3]}))
return 1
"""


class StoreError(Exception):
    """The server cannot be used. Says why, in a few words and without anything secret."""


@dataclass(frozen=True, slots=True)
class Meta:
    """Where the server stands. ``now``: its clock, in seconds. ``birth``: "" while nothing was ever stored."""

    birth: str
    version: int
    epoch: int
    now: float


class Entry(NamedTuple):
    """A stored suspension. ``until``: milliseconds of the server's clock."""

    name: str
    revision: int
    until: float
    record: str


@dataclass(frozen=True, slots=True)
class News:
    """A change that was told. ``kind``: "s" suspended, "c" cleared, "a" all cleared, "f" a probe is free again,
    "w" a probe is wanted, "b" an account knows something.

    ``version``: 0 for what does not count as a change. ``own``: it comes from this process.
    """

    kind: str
    own: bool
    version: int = 0
    name: str = ""
    until: float = 0.0
    record: str = ""
    epoch: int = 0
    birth: str = ""


class Link:
    """The connections of this process to one server: one for questions, one to listen. Used once; see ``open``."""

    def __init__(self, store: Store, worker: str) -> None:
        self.store = store
        self.worker = worker
        self._base = f"understudy:{store.prefix}"
        self._keys = [f"{self._base}:until", f"{self._base}:held", f"{self._base}:meta"]
        self._channel = f"{self._base}:news"
        self._asking: Any = None
        self._listening: Any = None
        self._news: Any = None

    async def open(self) -> None:
        """Connect, and listen from now on. Raises StoreError."""
        from redis.asyncio import Redis  # here: an extra, and it takes a while to load

        try:
            options = _options(self.store)
        except SecretError as error:
            raise StoreError(f"there is no password for it ({error})") from None
        self._asking = Redis(**options, socket_timeout=self.store.timeout)
        self._listening = Redis(**options, socket_timeout=None)
        self._news = self._listening.pubsub(ignore_subscribe_messages=False)
        connect = max(CONNECT, self.store.timeout)
        await self._within(connect, self._asking.ping())
        await self._within(connect, self._news.subscribe(self._channel))
        # Only what comes after the server's own word is sure to come.
        confirmed = await self._within(connect, self._news.get_message(timeout=connect))
        if confirmed is None:
            raise StoreError(_SILENT)

    async def close(self) -> None:
        """Let go of both connections, whatever state they are in."""
        for each in (self._news, self._asking, self._listening):
            if each is not None:
                try:
                    async with asyncio.timeout(CLOSE):
                        await each.aclose()
                except Exception:  # noqa: S110,BLE001,RUF100 (it is over either way)
                    pass

    async def meta(self) -> Meta:
        """Where the server stands. Raises StoreError."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys[2], ["birth", "version", "epoch"])
        pipe.time()
        (birth, version, epoch), (seconds, micros) = await self._within(self.store.timeout, pipe.execute())
        try:
            return Meta((birth or b"").decode(), int(version or 0), int(epoch or 0), seconds + micros / 1_000_000)
        except ValueError:
            raise StoreError("what it holds under this prefix was not written by understudy") from None

    async def suspend(self, changes: Sequence[tuple[str, float, str, int]]) -> list[int]:
        """Store suspensions: name, deadline in milliseconds of the server, record, and the epoch they were learnt in.

        Returns their revisions; 0 where everything was resumed since, -1 where there is no room. Raises StoreError.
        """
        return await self._run(
            _SUSPEND,
            [
                [self._channel, self.worker, _birth(), name, f"{until:.0f}", record, epoch]
                for name, until, record, epoch in changes
            ],
        )

    async def clear(self, changes: Sequence[tuple[str, int]]) -> list[int]:
        """Clear names, each up to a revision; 0 where a later one holds. Raises StoreError."""
        return await self._run(
            _CLEAR, [[self._channel, self.worker, _birth(), name, revision] for name, revision in changes]
        )

    async def clear_all(self) -> int:
        """Begin a new epoch, and return it. Raises StoreError."""
        return (await self._run(_CLEAR_ALL, [[self._channel, self.worker, _birth()]]))[0]

    async def bind(self, owners: Sequence[tuple[str, str]]) -> None:
        """Store which account knows what: hash, and name of the key of the credential. Raises StoreError."""
        keys = [f"{self._base}:owners", f"{self._base}:recent"]
        await self._run(_BIND, [[self._channel, self.worker, *each] for each in owners], [keys for _ in owners])

    async def owners(self) -> AsyncIterator[list[tuple[str, str]]]:
        """All of that, page by page. Raises StoreError."""
        async for page in self._pages(f"{self._base}:owners"):
            yield [(mark.decode("utf-8", "replace"), owner.decode("utf-8", "replace")) for mark, owner in page]

    async def lease(self, names: Sequence[str]) -> list[bool]:
        """Whether the probes of these names are ours from now on. Raises StoreError."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.set(self._probe(name), self.worker, nx=True, px=int(LEASE * 1000))
        return [bool(each) for each in await self._within(self.store.timeout, pipe.execute())]

    async def ask_for(self, names: Sequence[str]) -> None:
        """Tell those that have the lease of these names that it is wanted. Raises StoreError."""
        if not names:
            return
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.publish(self._channel, json.dumps({"o": "w", "w": self.worker, "m": name}))
        await self._within(self.store.timeout, pipe.execute())

    async def renew(self, names: Sequence[str]) -> list[bool]:
        """Keep probes for longer; whether they were ours still. Raises StoreError."""
        found = await self._run(
            _RENEW, [[self._channel, self.worker, int(LEASE * 1000)] for _ in names], [[self._probe(n)] for n in names]
        )
        return [bool(each) for each in found]

    async def release(self, names: Sequence[str]) -> None:
        """Let others probe. Raises StoreError."""
        await self._run(_RELEASE, [[self._channel, self.worker, n] for n in names], [[self._probe(n)] for n in names])

    async def entries(self) -> AsyncIterator[list[Entry]]:
        """Everything that is stored, page by page; what changes meanwhile may be missed. Raises StoreError."""
        async for page in self._pages(self._keys[1]):
            yield [entry for name, value in page if (entry := _entry(name, value)) is not None]

    async def _pages(self, key: str) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        cursor: Any = 0
        while True:
            cursor, page = await self._within(self.store.timeout, self._client.hscan(key, cursor, count=PAGE))
            yield list(page.items())
            if not cursor:
                return

    async def hear(self) -> News | None:
        """The next change that is told; None for what is none. Waits as long as it takes. Raises StoreError."""
        message = await self._within(None, self._news.get_message(timeout=60.0))
        if message is None or message.get("type") != "message":
            return None
        return _news(message["data"], self.worker)

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        assert self._asking is not None, "open() first"
        return self._asking

    def _probe(self, name: str) -> str:
        return f"{self._base}:probe:{name}"

    async def _run(self, script: str, calls: Sequence[Sequence[Any]], keys: Sequence[list[str]] = ()) -> list[int]:
        """Run a script for each of these arguments, in one go."""
        if not calls:
            return []
        pipe = self._client.pipeline(transaction=False)
        for position, call in enumerate(calls):
            own = keys[position] if keys else self._keys
            pipe.eval(script, len(own), *own, *call)
        return [int(each) for each in await self._within(self.store.timeout, pipe.execute())]

    async def _within[T](self, seconds: float | None, asked: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await asked
        except Exception as error:
            raise StoreError(_reason(error)) from None


_SILENT = "it does not answer in time"


def _birth() -> str:
    """A mark for a server that has none yet."""
    return secrets.token_hex(8)


def _options(store: Store) -> dict[str, Any]:
    """How the client connects. It does not try again by itself: what hangs would hang several times as long."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    parts = urlsplit(store.url)
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": max(CONNECT, store.timeout),
        "protocol": 2,
        "username": store.user or None,
        "password": store.password.reveal() if store.password is not None else None,
    }
    if parts.scheme == "unix":
        return {**options, "unix_socket_path": unquote(parts.path)}
    options |= {"host": parts.hostname, "port": parts.port or 6379, "db": int(parts.path.strip("/") or 0)}
    if parts.scheme == "rediss":
        options |= {"ssl": True, "ssl_ca_certs": store.ca or None, "ssl_check_hostname": True}
    return options


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error that the client has met, which it wraps in an error of its own; None without one."""
    found: BaseException | None = error
    for _ in range(8):
        if found is None or isinstance(found, ssl.SSLError):
            return found
        found = found.__cause__ or found.__context__
    return None


def _reason(error: Exception) -> str:
    """What is wrong, in a few words of our own: what server and client say may hold what should not be told."""
    from redis import exceptions

    if isinstance(cause := error.__cause__, exceptions.AuthenticationError):
        error = cause  # newer clients wrap it in a lost connection
    if (of_tls := _tls_error(error)) is not None:
        error = of_tls
    match error:
        case TimeoutError() | exceptions.TimeoutError():
            return _SILENT
        case ssl.SSLCertVerificationError():
            said = printable(error.verify_message, 200).rstrip(".")
            return f"its certificate is not accepted ({said}): name its CA with `ca`, and write its own name into `url`"
        case ssl.SSLError():
            return "no TLS connection can be made: check the port, and that it has TLS there"
        case exceptions.OutOfMemoryError():
            return "it is full: give it more memory (maxmemory)"
        case exceptions.ReadOnlyError():
            return "it is a replica that cannot be written to"
        case exceptions.AuthenticationError() | exceptions.NoPermissionError() | exceptions.AuthorizationError():
            return "it refuses the user or the password, or does not let the user do what is needed"
        case exceptions.BusyLoadingError():
            return "it is still loading its data"
        case exceptions.ConnectionError() | OSError():
            return "it cannot be reached"
        case exceptions.ResponseError():
            said = str(error)
            if said.startswith("OOM"):
                return "it is full: give it more memory (maxmemory)"
            if said.startswith(("NOAUTH", "NOPERM", "WRONGPASS")):
                return "it refuses the user or the password, or does not let the user do what is needed"
            if "READONLY" in said[:200]:
                return "it is a replica that cannot be written to"
            return f"it refuses a command ({printable(said.partition(' ')[0], 40)})"
        case _:
            return f"it cannot be used ({type(error).__name__})"


def _entry(name: bytes, value: bytes) -> Entry | None:
    try:
        revision, until, record = value.decode().split(" ", 2)
        return Entry(name.decode(), int(revision), float(until), record)
    except ValueError:
        return None


def _news(data: object, worker: str) -> News | None:
    """Read a message; None for one that is not ours."""
    if not isinstance(data, bytes) or len(data) > LONGEST_MESSAGE:
        return None
    try:
        said = json.loads(data)
        return News(
            str(said["o"]),
            said["w"] == worker,
            int(said.get("v", 0)),
            str(said.get("m", "")),
            float(said.get("u", 0)),
            str(said.get("r", "")),
            int(said.get("e", 0)),
            str(said.get("b", "")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
