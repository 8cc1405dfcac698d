"""``understudy run`` and ``understudy env``: a tool in an environment that leads it through the proxy.

``run`` finds the proxy, or starts one, and then *becomes* the tool: same process, so terminal, streams, signals, job
control and exit status are the tool's own, with nothing in between. A proxy that was started for it watches the
tool's process and ends after the last tool that uses it (``background_proxy``).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.cli import remote_proxy, tool_environment
from understudy.cli.new_proxy import PoolFileError, RunError, absolute, start
from understudy.cli.port_check import ProbeError, probe
from understudy.cli.remote_proxy import RemoteError
from understudy.control import registry
from understudy.control.registry import Running

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


def run_command(arguments: argparse.Namespace) -> int:
    """``understudy run [--pool FILE] -- COMMAND ...``: become the command, with the proxy in its environment."""
    if not arguments.tool:
        print("understudy run: which tool? write `understudy run -- COMMAND ...`", file=sys.stderr)
        return 2
    try:
        elsewhere = _elsewhere(arguments)
    except ValueError as error:
        print(f"understudy run: {error}", file=sys.stderr)
        return 2
    return run(arguments.pool, arguments.tool, elsewhere, arguments.rules)


def env_command(arguments: argparse.Namespace) -> int:
    """``understudy env [--pool FILE]``: the same as lines for a shell."""
    try:
        return env(arguments.pool, _elsewhere(arguments))
    except ValueError as error:
        print(f"understudy env: {error}", file=sys.stderr)
        return 2


def _elsewhere(arguments: argparse.Namespace) -> Elsewhere | None:
    """The proxy on another machine that was named. Raises ValueError when the options do not go together."""
    if arguments.proxy is None:
        if arguments.ca is not None or arguments.fingerprint:
            raise ValueError("--ca and --fingerprint are about a proxy on another machine: name it with --proxy URL")
        return None
    if arguments.pool is not None or getattr(arguments, "rules", []):
        raise ValueError("a proxy on another machine has its own pool file and rules: leave out --pool and --rules")
    return Elsewhere(arguments.proxy, arguments.ca, arguments.fingerprint)


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
        from understudy.cli import known_tools, placeholder_keys  # here: only what is asked for is loaded

        given = placeholder_keys.made_up(Path(program), command[1:], running.dialects, os.environ, Path.cwd())
        environ = {**environment(running, os.environ), **given.environ}
        environ |= known_tools.own_timeouts(Path(program), running.holds, os.environ)
    except PoolFileError as error:
        print(error, file=sys.stderr)
        return error.status
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
    wanted = [str(absolute(folder)) for folder in rules]
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
