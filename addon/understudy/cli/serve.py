"""``understudy serve``: several worker processes behind one port, and the configuration of a HAProxy before them."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.model import Pool

BACKLOG = 1024
NO_STORE = (
    "several workers share what they learn through a Valkey or Redis server, and the pool file names none: "
    "add `state: {url: redis://127.0.0.1:6379, prefix: team}`, or use one worker"
)


def run(arguments: argparse.Namespace) -> int:
    """Serve, or print the configuration. ``arguments.tool``: what mitmdump gets besides."""
    options: Sequence[str] = arguments.tool
    if arguments.haproxy:
        from understudy.cli import haproxy  # here: only what the command needs is loaded

        return haproxy.show(arguments, options)
    from understudy.codec.yaml_nodes import ConfigError  # here, too
    from understudy.config import no_pool_file

    try:
        path = _pool_path(arguments, options)
        if not path.exists():
            print(f"understudy serve: {no_pool_file(path, arguments.pool)}", file=sys.stderr)
            return 2
        pool = _load(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.workers > 1 and pool.store is None:
        print(f"understudy serve: {NO_STORE}", file=sys.stderr)
        return 1
    try:
        listening = sockets(arguments.listen_host, arguments.port, arguments.workers, each=arguments.each_port)
    except OSError as error:
        where = f"{arguments.listen_host}:{arguments.port}"
        print(f"understudy serve: {where} cannot be listened on: {error.strerror or error}", file=sys.stderr)
        return 1
    return serve(arguments, path, listening, options)


def serve(arguments: argparse.Namespace, path: Path, listening: Sequence[socket.socket], options: Sequence[str]) -> int:
    """Start the workers, and everything around them."""
    import asyncio  # here: only what the command needs is loaded

    from understudy.cli.status_page import StatusPage
    from understudy.cli.supervisor import Supervisor

    make_ca(options)
    for each in listening:
        each.listen(BACKLOG)
    ports = sorted({each.getsockname()[1] for each in listening})
    say(f"{len(listening)} workers on {arguments.listen_host}, port {', '.join(map(str, ports))}")

    async def main() -> int:
        supervisor = Supervisor(
            worker_command(arguments.listen_host, path, options),
            os.environ,
            listening,
            grace=arguments.grace,
            drain=arguments.drain,
            say=say,
        )
        page = None
        if arguments.status_port is not None:
            page = StatusPage(supervisor, arguments.status_port, os.environ)
            say(f"the workers together: {page.url}")
        try:
            return await supervisor.run()
        finally:
            if page is not None:
                page.close()

    try:
        return asyncio.run(main())
    except OSError as error:
        print(f"understudy serve: {error}", file=sys.stderr)
        return 1
    finally:
        for each in listening:
            each.close()


def say(text: str) -> None:
    """A line for the log, among those of the workers."""
    print(f"understudy serve: {text}", flush=True)


def worker_command(host: str, path: Path, options: Sequence[str]) -> list[str]:
    """What starts a worker. The port is that of its socket, which it learns from its environment."""
    # -P: the working directory may belong to a stranger, and must not name what is imported.
    ours = [sys.executable, "-P", "-m", "understudy.cli", "dump", "--listen-host", host, "--set", f"pool_file={path}"]
    return [*ours, "--set", "flow_detail=0", *options]


def sockets(host: str, port: int, count: int, *, each: bool) -> list[socket.socket]:
    """A bound socket for each worker: the same one for all, or with ``each`` those from ``port + 1`` on.

    Port 0 is any that are free. Raises OSError.
    """
    if not each:
        return [_bound(host, port)] * count
    found: list[socket.socket] = []
    try:
        for number in range(1, count + 1):
            found.append(_bound(host, port + number if port else 0))
    except OSError:
        for bound in found:
            bound.close()
        raise
    return found


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise OSError(getattr(error, "errno", None) or 22, getattr(error, "strerror", None) or str(error)) from None
    return bound


def make_ca(options: Sequence[str]) -> None:
    """Make mitmproxy's CA if there is none yet: workers that begin at once would each make one."""
    from mitmproxy import certs  # here: mitmproxy takes a second to load

    confdir = Path("~/.mitmproxy")
    for option in options:
        if option.removeprefix("--set=").startswith("confdir="):
            confdir = Path(option.partition("confdir=")[2])
    certs.CertStore.from_store(confdir.expanduser(), "mitmproxy", 2048)


def _pool_path(arguments: argparse.Namespace, options: Sequence[str]) -> Path:
    for option in options:
        if option.removeprefix("--set=").startswith("pool_file="):
            return Path(option.partition("pool_file=")[2]).expanduser().absolute()
    from understudy.config import default_pool_path  # here, too

    path: Path = arguments.pool or default_pool_path(os.environ)
    return path.absolute()


def _load(path: Path) -> Pool:
    from understudy.config import load  # here, too
    from understudy.dialects import DIALECTS

    return load(path, os.environ, DIALECTS)
