"""The proxy that ``understudy run`` starts where none runs: its pool file is looked at while it loads.

``background_proxy`` is the other half. Most of a start is the loading of mitmproxy and of this package. So the proxy's
process begins first, loads, and then waits for its arguments; meanwhile the pool file is read here, where a person sees
what is wrong with it. A proxy that gets no arguments ends without a trace.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from understudy.cli import tool_environment
from understudy.cli.port_check import ProbeError, probe
from understudy.control import registry
from understudy.control.registry import Running

if TYPE_CHECKING:
    import subprocess

START_SECONDS = 60.0
"""How long a proxy may take to start on a slow machine."""
POLL = 0.01
LARGEST_LOG = 5_000_000
"""Bytes after which a log is put aside when the next proxy starts."""


class RunError(Exception):
    """Why the tool was not started, with what to do. ``status`` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class PoolFileError(RunError):
    """The pool file cannot be used. The text is one line for each problem, as `understudy check` prints them."""


def start(pool: Path | None, environ: Mapping[str, str], rules: Sequence[Path] = ()) -> Running:
    """Start a proxy that lives as long as this process and what it becomes. ``rules``: rule folders on top.

    Raises PoolFileError for the pool file, and RunError when the proxy does not come up.
    """
    mode, log = _mode(environ), log_path(environ)
    begin = log.stat().st_size if log.exists() else 0
    with _loading(log, environ) as proxy:
        path = _checked(pool, environ)
        arguments = ["-p", "0", "--mode", mode, "--set", f"pool_file={path}"]
        arguments += ["--set", "flow_detail=0", "--set", "termlog_verbosity=info"]
        for folder in rules:
            arguments += ["--set", f"pool_rules={absolute(folder)}"]
        assert proxy.stdin is not None and proxy.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said is found below
            proxy.stdin.write(json.dumps(arguments))
            proxy.stdin.close()
        pid = proxy.stdout.readline().strip()
    if not pid.isdecimal():
        raise RunError(f"the proxy could not be started: see {log}")
    return _await(int(pid), log, begin, environ)


@contextlib.contextmanager
def _loading(log: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """What has started the process of a proxy, which loads; it is left to itself at the end."""
    import subprocess  # here: most often a proxy runs already

    # -P: the working directory may belong to a stranger, and must not name what is imported. -u: the log is read early.
    command = [sys.executable, "-P", "-u", "-m", "understudy.cli.background_proxy", str(log), str(os.getpid())]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in environ.items() if name not in ("HTTPS_PROXY", "https_proxy")},
    ) as proxy:
        yield proxy


def _checked(pool: Path | None, environ: Mapping[str, str]) -> Path:
    """The pool file, with which nothing is wrong. Raises PoolFileError, and RunError where there is none."""
    from understudy.codec.yaml_nodes import ConfigError  # here: only after the proxy has begun to load
    from understudy.config import default_pool_path, load, no_pool_file
    from understudy.dialects import DIALECTS

    try:
        path = (pool or default_pool_path(environ)).absolute()
        if not path.exists():
            demonstration = any(each.demonstration for each in registry.running_proxies(environ))
            beside = ". The proxy that runs is the demonstration, which answers no tool" if demonstration else ""
            raise RunError(no_pool_file(path, pool) + beside)
        for credential in load(path, environ, DIALECTS).credentials.values():
            if credential.missing:
                # The proxy says so in its log, where whoever starts a tool does not look.
                print(f"understudy: the credential {credential.name} is {credential.out_of_use}", file=sys.stderr)
    except ConfigError as error:
        raise PoolFileError(str(error)) from None
    return path


def absolute(folder: Path) -> Path:
    """A folder of rules as the proxy is told of it."""
    return folder.expanduser().absolute()


def _await(pid: int, log: Path, begin: int, environ: Mapping[str, str]) -> Running:
    """Wait until a proxy tells that it is there. Raises RunError when it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    told = registry.file_of(pid, environ)
    while time.monotonic() < deadline:
        # Cheap, for it is asked many times while another process has much to do.
        if told.exists():
            for running in registry.running_proxies(environ):
                if running.pid == pid:
                    try:
                        probe(running)
                    except ProbeError as error:
                        raise RunError(f"the proxy was started, but {error}: see {log}") from None
                    return running
        if registry.has_ended(pid):
            break
        time.sleep(POLL)
    with log.open("rb") as file:
        file.seek(begin)
        last = file.read().decode(errors="replace").strip().splitlines()[-10:]
    raise RunError("\n".join(["the proxy did not start:", *last, f"the whole log is {log}"]))


def log_path(environ: Mapping[str, str]) -> Path:
    """The log of the proxies that are started here; a long one is put aside. Raises OSError."""
    path = registry.state_folder(environ) / "run.log"
    if path.exists() and path.stat().st_size > LARGEST_LOG:
        path.replace(path.with_suffix(".log.1"))
    return path


def _mode(environ: Mapping[str, str]) -> str:
    """How the proxy itself gets out. Raises RunError for a proxy that cannot be used so."""
    way_out = tool_environment.way_out(environ)
    if not way_out:
        return "regular"
    parts = urlsplit(way_out if "://" in way_out else f"http://{way_out}")
    if parts.scheme not in ("http", "https") or parts.username or parts.password:
        raise RunError(
            "HTTPS_PROXY names a proxy of another kind or with a password, and a command line would show that: start "
            "`understudy web --mode upstream:http://HOST:PORT` with `upstream_auth: USER:PASSWORD` in "
            "~/.mitmproxy/config.yaml, then run this again"
        )
    return f"upstream:{parts.scheme}://{parts.netloc}"
