"""``understudy run`` and ``understudy env``: a tool in an environment that leads it through the proxy.

``run`` finds the proxy, or starts one, and then *becomes* the tool: same process, so terminal, streams, signals, job
control and exit status are the tool's own, with nothing in between. A proxy that was started for it watches the
tool's process and ends after the last tool that uses it (``background_proxy``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from understudy.cli import known_tools, placeholder_keys, remote_proxy, tool_environment
from understudy.cli.port_check import ProbeError, probe
from understudy.cli.remote_proxy import RemoteError
from understudy.codec.yaml_nodes import ConfigError
from understudy.config import default_pool_path, load, no_pool_file
from understudy.control import Running, registry

START_SECONDS = 60.0
"""How long a proxy may take to start on a slow machine."""
POLL = 0.05
LARGEST_LOG = 5_000_000
"""Bytes after which a log is put aside when the next proxy starts."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit status when a command cannot be started, as shells and env(1) have it."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A proxy on another machine, as a person names it. ``ca``, ``fingerprint``: see :func:`remote_proxy.remote`."""

    url: str = field(repr=False)
    ca: Path | None = None
    fingerprint: str = ""

    def find(self, environ: Mapping[str, str]) -> Running:
        """The proxy, proven to be there. Raises RemoteError and OSError."""
        accept = remote_proxy.ask_person(remote_proxy.place_of(self.url))
        return remote_proxy.remote(self.url, self.ca, self.fingerprint, environ, accept)


class RunError(Exception):
    """Why the tool was not started, with what to do. ``status`` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def run(
    pool: Path | None, command: Sequence[str], elsewhere: Elsewhere | None = None, rules: Sequence[Path] = ()
) -> int:
    """Become the tool; returns an exit status only when that is not possible. ``pool``: a pool file that was named.

    ``elsewhere``: the proxy on another machine to use. ``rules``: rule folders for a proxy that is started.
    """
    try:
        program = _program(command[0])
        if elsewhere is not None:
            running = elsewhere.find(os.environ)
        else:
            running = running_proxy(pool, os.environ, rules=rules) or start(pool, os.environ, rules)
        given = placeholder_keys.made_up(Path(program), command[1:], running.dialects, os.environ, Path.cwd())
        environ = {**environment(running, os.environ), **given.environ}
        environ |= known_tools.own_timeouts(Path(program), running.holds, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (RunError, RemoteError, OSError) as error:
        print(f"understudy run: {error}", file=sys.stderr)
        return error.status if isinstance(error, RunError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    # Python ignores these for itself, and what is ignored stays so in the program that takes its place.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execve(program, [command[0], *given.arguments, *command[1:]], environ)
    except OSError as error:
        print(f"understudy run: {command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE


def env(pool: Path | None, elsewhere: Elsewhere | None = None) -> int:
    """Print the lines that make a shell do the same."""
    try:
        if elsewhere is not None:
            running: Running | None = elsewhere.find(os.environ)
        else:
            running = running_proxy(pool, os.environ, companions=False)
        if running is None:
            raise RunError(f"{no_proxy_for_a_shell(os.environ)}: start one with `understudy web` or `understudy dump`")
        changes = tool_environment.variables(running, os.environ, registry.runtime_folder(os.environ))
    except (RunError, RemoteError, OSError) as error:
        print(f"understudy env: {error}", file=sys.stderr)
        return 1
    print("\n".join(tool_environment.shell_lines(changes)))
    return 0


def environment(running: Running, environ: Mapping[str, str]) -> dict[str, str]:
    """The tool's environment."""
    return tool_environment.applied(
        tool_environment.variables(running, environ, registry.runtime_folder(environ)), environ
    )


def _program(command: str) -> str:
    """Where the tool is, before a proxy is started for nothing. Raises RunError."""
    if found := shutil.which(command):
        return os.path.abspath(found) if os.sep in found else found
    if os.sep in command and Path(command).exists():
        raise RunError(f"{command} cannot be executed: run `chmod +x` on it, or name its interpreter", NOT_EXECUTABLE)
    raise RunError(f"there is no command {command}: install it, or say where it is", NOT_FOUND)


def running_proxy(
    pool: Path | None, environ: Mapping[str, str], *, companions: bool = True, rules: Sequence[Path] = ()
) -> Running | None:
    """The last proxy started that is proven to be there, with this pool file if one is named; None without one.

    Never a demonstration: a tool must not take its made-up answers for a model's. ``companions``: also one that ends
    with its users; this very process is then entered as one of them. ``rules``: folders that it must use; one that ends
    with its users must use no other.
    """
    wanted = [str(_absolute(folder)) for folder in rules]
    for running in registry.running_proxies(environ):
        if running.demonstration or running.why_not:
            continue
        if (pool is not None and running.pool != str(pool.absolute())) or (running.companion and not companions):
            continue
        if wanted != list(running.rules) if running.companion else not set(wanted) <= set(running.rules):
            continue
        with contextlib.suppress(ProbeError):
            probe(running)
            if not running.companion or registry.join(running, os.getpid()):
                return running
    return None


def no_proxy_for_a_shell(environ: Mapping[str, str]) -> str:
    """Why a shell cannot be led to a proxy: what runs, if anything does, is not for that."""
    proxies = registry.running_proxies(environ)
    for each in proxies:
        if each.why_not:
            return f"the proxy of process {each.pid} cannot be used, because {each.why_not}. Or"
    if any(each.demonstration for each in proxies):
        return "the proxy that runs is the demonstration, whose answers are made up"
    if any(each.companion for each in proxies):
        return "the proxy that runs was started by `understudy run` and ends with its tool"
    return "no proxy is running"


def start(pool: Path | None, environ: Mapping[str, str], rules: Sequence[Path] = ()) -> Running:
    """Start a proxy that lives as long as this process and what it becomes. ``rules``: rule folders on top.

    Raises ConfigError for the pool file, and RunError when the proxy does not come up.
    """
    from understudy.dialects import DIALECTS  # here: not needed where a proxy runs already

    path = (pool or default_pool_path(environ)).absolute()
    if not path.exists():
        demonstration = any(each.demonstration for each in registry.running_proxies(environ))
        beside = ". The proxy that runs is the demonstration, which answers no tool" if demonstration else ""
        raise RunError(no_pool_file(path, pool) + beside)
    for credential in load(path, environ, DIALECTS).credentials.values():
        if credential.missing:
            # The proxy says so in its log, where whoever starts a tool does not look.
            print(f"understudy: the credential {credential.name} is {credential.out_of_use}", file=sys.stderr)
    log = log_path(environ)
    begin = log.stat().st_size if log.exists() else 0
    # -P: the working directory may belong to a stranger, and must not name what is imported. -u: the log is read early.
    command = [sys.executable, "-P", "-u", "-m", "understudy.cli.background_proxy", str(log), str(os.getpid())]
    command += ["-p", "0", "--mode", _mode(environ), "--set", f"pool_file={path}"]
    command += ["--set", "flow_detail=0", "--set", "termlog_verbosity=info"]
    for folder in rules:
        command += ["--set", f"pool_rules={_absolute(folder)}"]
    started = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        env={name: value for name, value in environ.items() if name not in ("HTTPS_PROXY", "https_proxy")},
    )
    if not started.stdout.strip().isdecimal():
        raise RunError(f"the proxy could not be started: see {log}")
    return _await(int(started.stdout), log, begin, environ)


def _absolute(folder: Path) -> Path:
    return folder.expanduser().absolute()


def _await(pid: int, log: Path, begin: int, environ: Mapping[str, str]) -> Running:
    """Wait until a proxy tells that it is there. Raises RunError when it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
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
