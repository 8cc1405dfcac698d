"""Which proxies run, told by themselves: one small file for each in a folder that only its user can write to.

``understudy run``, ``env`` and ``doctor`` find a running proxy here. The file says where it listens and what it looks
into, never a secret. It is locked as long as its proxy lives, so one that a crash left behind is told apart for
certain, whatever has become of its process id and port; that the listener is really this proxy is then proven with
its CA (``cli/port_check.py``). Nothing here imports mitmproxy.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import stat
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

SUFFIX = ".proxy"
"""What the files of running proxies end in; before it stands the process id."""
LARGEST = 1024 * 1024
NOT_TOLD = ("folder", "userinfo")
"""What of a proxy is not written into its file."""
OWN_PROXY = "UNDERSTUDY_PROXY"
"""Variable of the proxy that we have set: what tells it from one that the user needs to get out."""


class RuntimeFolderError(OSError):
    """The folder cannot be used. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that runs: where it listens, the CA that it signs with, its pool file, and the hosts it looks into.

    ``hosts``: as ``Sites.hosts`` names them, so the last ones may be patterns with a ``*``.

    ``dialects``: those that it has a route for.

    ``companion``: it was started by ``understudy run`` and ends with the last program that uses it.

    ``demonstration``: its answers are made up, so no tool is ever led to it. ``host``: where it is reached; ``port`` 0:
    nowhere as an HTTP proxy. ``why_not``: why ``run`` and ``env`` do not lead tools to it, "" when they do. ``rules``:
    the folders of its option ``pool_rules``. ``userinfo``: ``user:password``, percent-encoded, for one that a person
    named; no file ever has it. ``credentials``: the names of those whose secret it has. ``holds``: the seconds for
    which a route of it may hold a call until a reset.
    """

    pid: int
    port: int
    ca: str
    pool: str = ""
    hosts: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()
    companion: bool = False
    demonstration: bool = False
    rules: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    why_not: str = ""
    holds: float = 0.0
    userinfo: str = field(default="", compare=False, repr=False)
    folder: str = field(default="", compare=False)
    """Where its file was found."""

    @property
    def url(self) -> str:
        """Where it is, as a proxy variable says it: with the password, if it wants one. See :attr:`place`."""
        return f"http://{f'{self.userinfo}@' if self.userinfo else ''}{self._address}"

    @property
    def place(self) -> str:
        """The same for people to read: without the password."""
        return f"http://{self._address}"

    @property
    def login(self) -> str:
        """The value of ``Proxy-Authorization``, "" without a password."""
        return f"Basic {b64encode(unquote(self.userinfo).encode()).decode()}" if self.userinfo else ""

    @property
    def _address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def state_folder(environ: Mapping[str, str]) -> Path:
    """``understudy`` in ``$XDG_STATE_HOME``, else in ``~/.local/state``, made if need be. Raises RuntimeFolderError."""
    configured = Path(environ.get("XDG_STATE_HOME", ""))
    home = Path(environ.get("HOME", ""))
    if configured.is_absolute():
        return private_folder(configured / "understudy")
    if not home.is_absolute():
        raise RuntimeFolderError("there is no home folder: set HOME, or XDG_STATE_HOME")
    return private_folder(home / ".local" / "state" / "understudy")


def runtime_folder(environ: Mapping[str, str]) -> Path:
    """``understudy`` in ``$XDG_RUNTIME_DIR``, else the state folder, made if need be. Raises RuntimeFolderError.

    A folder in XDG_RUNTIME_DIR that is not there is not made: it is the session's to make (XDG base directories).
    """
    configured = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if configured.is_absolute() and configured.is_dir():
        return private_folder(configured / "understudy")
    return state_folder(environ)


def private_folder(path: Path) -> Path:
    """The folder, made for its user alone. Raises RuntimeFolderError when another user could write into it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise RuntimeFolderError(f"{path} cannot be made ({error.strerror}): see that its parent is yours") from None
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeFolderError(f"{path} is not a folder: move it away")
    if status.st_uid != os.getuid():
        raise RuntimeFolderError(f"{path} belongs to another user: move it away")
    if status.st_mode & 0o077:
        raise RuntimeFolderError(f"others can get into {path}: run `chmod 700` on it")
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Put a whole file, readable by its owner only, in the place of what was there."""
    with _new_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when it has been written."""
    descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


class Announcement:
    """A proxy's own file. It is there from the first :meth:`tell` to :meth:`withdraw`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._told: Running | None = None
        self._lock: int | None = None
        self._path: Path | None = None

    def tell(self, running: Running | None) -> None:
        """Say what is true now; None: there is nothing to be used here. Raises OSError, as RuntimeFolderError does."""
        if running == self._told or os.name != "posix":
            return
        self._told = running
        if running is None:
            self.withdraw()
            return
        import fcntl

        path = file_of(running.pid, self._environ)
        with contextlib.ExitStack() as undo:
            with _new_file(path) as file:
                # Locked before it can be seen under its name; the lock goes with the file, not with the name.
                lock = os.dup(file.fileno())
                undo.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
                told = {name: value for name, value in asdict(running).items() if name not in NOT_TOLD}
                file.write(json.dumps(told).encode())
            undo.pop_all()
        if self._lock is not None:
            os.close(self._lock)
        self._lock, self._path = lock, path

    @property
    def is_told(self) -> bool:
        """Whether the file is there."""
        return self._path is not None

    def withdraw(self) -> None:
        """Take the file away."""
        self._told = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def file_of(pid: int, environ: Mapping[str, str]) -> Path:
    """The file of the proxy with this process id, started in this environment. Raises RuntimeFolderError."""
    return runtime_folder(environ) / f"{pid}{SUFFIX}"


def running_proxies(environ: Mapping[str, str]) -> list[Running]:
    """The proxies that run, the last one started first. Files of dead ones are removed. Raises RuntimeFolderError.

    Looked at are both folders: one of the two may have been started without XDG_RUNTIME_DIR, by cron for example.
    """
    found = []
    for folder in {runtime_folder(environ), state_folder(environ)}:
        for path in folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                if (running := _read(path)) is not None:
                    found.append((path.stat().st_mtime_ns, running))
    return [running for _, running in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _read(path: Path) -> Running | None:
    """The proxy of a file; None when it is dead, and its file then removed. Raises OSError, ValueError and the like."""
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            document: dict[str, Any] = json.loads(file.read(LARGEST))
            return Running(
                pid=int(document["pid"]),
                port=int(document["port"]),
                ca=str(document["ca"]),
                pool=str(document.get("pool", "")),
                hosts=tuple(map(str, document.get("hosts", ()))),
                dialects=tuple(map(str, document.get("dialects", ()))),
                companion=document.get("companion") is True,
                demonstration=document.get("demonstration") is True,
                rules=tuple(map(str, document.get("rules", ()))),
                credentials=tuple(map(str, document.get("credentials", ()))),
                host=str(document.get("host", "127.0.0.1")),
                why_not=str(document.get("why_not", "")),
                holds=float(document.get("holds", 0.0)),
                folder=str(path.parent),
            )
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            for left in (path, *path.parent.glob(f"{path.stem}.user.*")):
                left.unlink()
        return None


# -- who uses a companion --------------------------------------------------------------------------------------------


def enter(folder: Path, pid: int, user: int) -> Path:
    """Note in a companion's folder that a program uses the companion with this process id."""
    path = folder / f"{pid}.user.{user}"
    path.touch(mode=0o600)
    return path


def join(running: Running, user: int) -> bool:
    """Use a companion that another process started; False when it is about to end."""
    mine = enter(Path(running.folder), running.pid, user)
    # A companion that ends takes its file away first, and looks for users once more after that.
    if mine.with_name(f"{running.pid}{SUFFIX}").exists():
        return True
    mine.unlink(missing_ok=True)
    return False


def users(pid: int, environ: Mapping[str, str]) -> list[int]:
    """The programs that use the companion with this process id and are still running."""
    alive = []
    for path in runtime_folder(environ).glob(f"{pid}.user.*"):
        user = path.suffix.removeprefix(".")
        if user.isdecimal() and not has_ended(int(user)):
            alive.append(int(user))
        else:
            path.unlink(missing_ok=True)
    return alive


def has_ended(pid: int) -> bool:
    """Whether a process has ended, also when its parent has not collected it yet."""
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, 0)
            return False
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's, or too many open files: not known to have ended
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)


def farewell(pid: int, environ: Mapping[str, str]) -> bool:
    """End a companion without users: take its file away, then look once more. False: another came in between."""
    file_of(pid, environ).unlink(missing_ok=True)
    return not users(pid, environ)
