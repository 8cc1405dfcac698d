"""Starts the real mitmdump (or mitmweb) with the addon, as a user would, and never leaves it behind."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import select
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mitmproxy import certs, flow
from mitmproxy.io import FlowReader

from .authority import Authority
from .launch import BARE, launcher

ROOT = Path(__file__).resolve().parents[2]
ADDON = ROOT / "addon" / "understudy" / "main.py"

START_SECONDS = 20.0
STOP_SECONDS = 10.0
LONGEST_MATCH = 1 << 16
"""How much of the log is searched again when there is more of it: what a pattern looks for may have begun before."""

LISTENING = re.compile(r"listening at .*?:(\d+)")
WEB = re.compile(r"Web server listening at (\S+)")


class NotStartedError(AssertionError):
    """The program ended, or kept silent, instead of listening. Its text is what the program said."""


def make_confdir(directory: Path) -> Path:
    """Fill a mitmproxy configuration folder with a CA. Making the key is slow: once a session is enough."""
    directory.mkdir(parents=True, exist_ok=True)
    certs.CertStore.create_store(directory, "mitmproxy", 2048)
    return directory


def make_place(folder: Path) -> tuple[Authority, Path]:
    """What a run of one proxy needs outside of pytest: a CA for its upstreams, its configuration folder, and an empty
    ``folder / "proxy"`` for the rest.
    """
    for name in ("authority", "proxy"):
        (folder / name).mkdir()
    return Authority(folder / "authority"), make_confdir(folder / "confdir")


class Proxy:
    """A running mitmproxy program. To be used in a ``with``, or stopped by hand.

    ``directory``: where pool file, log and flows go. ``confdir``: see ``make_confdir``. ``trusted``: the CA that
    the upstreams' certificates are verified against. ``pool_yaml``: the pool file's text; None: no pool file is
    named. ``addon`` False: mitmproxy alone. ``mode``: as for ``--mode``. ``settings``: more options for ``--set``.
    ``verbosity``: of the log. ``env``: variables on top of a bare environment, as the tests' own must not decide
    anything. ``program``: "mitmdump" or "mitmweb".

    Raises NotStartedError when it does not listen within 20 s.
    """

    def __init__(
        self,
        directory: Path,
        confdir: Path,
        *,
        trusted: Path | None = None,
        pool_yaml: str | None = None,
        mode: str = "regular",
        settings: Mapping[str, str] | None = None,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        addon: bool = True,
        verbosity: str = "info",
        program: str = "mitmdump",
    ) -> None:
        self.directory = directory
        self.confdir = confdir
        self.ca = confdir / "mitmproxy-ca-cert.pem"
        self.pool_path = directory / "pool.yaml"
        self.flow_path = directory / "flows.mitm"
        self.log_path = directory / "proxy.log"
        arguments = ["--listen-host", "127.0.0.1", "-p", "0", "--mode", mode, "-w", str(self.flow_path)]
        values = {"confdir": str(confdir), "termlog_verbosity": verbosity}
        if program == "mitmdump":
            values["flow_detail"] = "0"
        else:
            values |= {"web_open_browser": "false", "web_host": "127.0.0.1", "web_port": "0"}
        if trusted is not None:
            values["ssl_verify_upstream_trusted_ca"] = str(trusted)
        if pool_yaml is not None:
            self.write_pool(pool_yaml)
            values["pool_file"] = str(self.pool_path)
        for name, value in {**values, **(settings or {})}.items():
            arguments += ["--set", f"{name}={value}"]
        if addon:
            arguments += ["-s", str(ADDON)]
        self.before_stop = contextlib.ExitStack()
        """What its tools have to do before it ends."""
        self._output: list[str] = []
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        self._rest = ""  # a line that has begun
        self._ended = False
        self._changed = threading.Condition()
        self._log = self.log_path.open("w", encoding="utf-8")
        self._process = launcher().start(program, [*arguments, *extra_args], self._environment(env or {}), directory)
        self._reader = threading.Thread(target=self._read, name="proxy output", daemon=True)
        self._reader.start()
        try:
            self.port = int(self._await_start(LISTENING))
            self.web_url = self._await_start(WEB) if program == "mitmweb" else ""
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        own = {"HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory / "config")}
        return {**BARE, **own, **extra}

    def _read(self) -> None:
        while not self._ended:
            self._has_printed(None)
            with self._changed:
                self._take()

    def _has_printed(self, timeout: float | None) -> bool:
        """Whether there is something to take, its end included, after so many milliseconds; None: however long."""
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        return bool(poll.poll(timeout))

    def _take(self) -> bool:
        """Take what the program has printed since, if it has; to be called with the lock, so that all find it whole."""
        if self._ended or not self._has_printed(0):
            return False
        data = self._process.stdout.read1(1 << 16)
        # As many whole lines as there are at once, as each telling wakes those who search the log.
        lines, end, begun = (self._rest + self._decoder.decode(data, final=not data)).rpartition("\n")
        self._rest, self._ended = begun if data else "", not data
        if printed := lines + end + ("" if data else begun):
            self._output.append(printed)
            self._log.write(printed)
            self._log.flush()
        if self._ended:
            self._log.close()
        self._changed.notify_all()
        return True

    def _text(self) -> str:
        if len(self._output) > 1:
            self._output[:] = ["".join(self._output)]
        return self._output[0] if self._output else ""

    def _await_start(self, pattern: re.Pattern[str]) -> str:
        try:
            return self.wait_for_log(pattern, START_SECONDS).group(1)
        except TimeoutError as silence:
            raise NotStartedError(self.log_text()) from silence

    def write_pool(self, text: str) -> None:
        """(Over)write the pool file, readable by its owner only."""
        self.pool_path.touch(mode=0o600)
        self.pool_path.write_text(text, encoding="utf-8")

    def log_text(self) -> str:
        """Everything the program has printed so far, both outputs: whole lines, up to this very moment."""
        with self._changed:
            while self._take():
                pass
            return self._text()

    def wait_for_log(self, pattern: str | re.Pattern[str], timeout: float = 30.0, *, since: int = 0) -> re.Match[str]:
        """Wait until the output matches. Raises TimeoutError after ``timeout`` seconds, or when the program ended.

        ``since``: characters of the output that are not looked at.
        """
        regex = re.compile(pattern)
        searched = since

        def found() -> re.Match[str] | None:
            nonlocal searched
            text, start = self._text(), max(since, searched - LONGEST_MATCH)
            searched = len(text)
            return regex.search(text, start)

        with self._changed:
            match = self._changed.wait_for(lambda: found() or self._ended, timeout) or None
            if isinstance(match, bool):  # the program ended, perhaps between the search and its last lines
                match = found()
            if match is None:
                raise TimeoutError(f"nothing like {regex.pattern!r} in:\n{self._text()}")
            return match

    @property
    def is_running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> int:
        """End the process, politely first; return its exit code. May be called again."""
        self.before_stop.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except TimeoutError:
            self._process.send_signal(signal.SIGKILL)
        code = self._process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        self._process.close()
        return code

    def flows(self) -> list[flow.Flow]:
        """Stop, and return the saved flows."""
        self.stop()
        with self.flow_path.open("rb") as file:
            return list(FlowReader(file).stream())


StartProxy = Callable[..., Proxy]
"""The type of the ``mitmdump`` fixture: takes the options of ``Proxy``, and ends what it started."""
