"""Starts mitmweb or mitmdump with the addon: on loopback, and on the demonstration when there is no pool file yet."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mitmproxy.tools import main as tools

from understudy import demo
from understudy.cli import trust
from understudy.codec.yaml_nodes import ConfigError
from understudy.config import default_pool_path, load
from understudy.control import presence, registry
from understudy.dialects import DIALECTS
from understudy.proxy.worker import share_socket

PACKAGE = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
PORT, WEB_PORT = 8080, 8081
"""mitmproxy's own defaults."""
TRUSTED = "ssl_verify_upstream_trusted"
"""How mitmproxy's options for the roots of upstreams begin."""
INFORMATION = {"--options", "--commands", "--version", "-h", "--help"}
KEEP_STREAMS = 1024 * 1024
"""Bytes of each stream that mitmweb can show."""

PROGRAMS: dict[str, Callable[[Sequence[str]], object]] = {"mitmweb": tools.mitmweb, "mitmdump": tools.mitmdump}


def launch(program: str, arguments: Sequence[str]) -> int:
    """Run a program of mitmproxy with the addon until it ends; ``arguments`` go on top of ours. Returns its status."""
    # mitmweb reads a leading "--" as the end of its options.
    own = [argument for position, argument in enumerate(arguments) if (position, argument) != (0, "--")]
    ours = ["-s", str(PACKAGE / "main.py"), "--listen-host", LOOPBACK, *_roots(own)]
    if program == "mitmweb":
        ours += ["--set", f"pool_keep_streams={KEEP_STREAMS}", *_free("--web-port", WEB_PORT, own, "web_port=")]
    with contextlib.ExitStack() as stack:
        named = _pool_file(own)
        if named is not None and not _is_fine(named):
            return 1
        if named is None and not _only_informs(own):
            ours += [*stack.enter_context(_demonstration()), *_free("-p", PORT, own, "listen_port=", "--listen-port")]
        # Before mitmproxy begins: it listens before it loads a script.
        undo, port = share_socket(os.environ)
        stack.callback(undo)
        if port is not None:
            own = [*own, "-p", str(port)]
        try:
            PROGRAMS[program]([*ours, *own])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
    return 0


def _only_informs(arguments: Sequence[str]) -> bool:
    """Whether the program only prints something about itself."""
    return bool(INFORMATION & set(arguments))


def _pool_file(arguments: Sequence[str]) -> Path | None:
    """The pool file that the proxy will read, None when there is none or it will not be read."""
    if _only_informs(arguments):
        return None
    for argument in arguments:
        if argument.removeprefix("--set=").startswith("pool_file="):
            return Path(argument.partition("pool_file=")[2]).expanduser()
    with contextlib.suppress(ConfigError):
        if (path := default_pool_path(os.environ)).exists():
            return path
    return None


def _is_fine(path: Path) -> bool:
    """Say what is wrong with a pool file before mitmproxy is started, which would bury it under its own words."""
    try:
        load(path, os.environ, DIALECTS)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return False
    return True


@contextlib.contextmanager
def _demonstration() -> Iterator[list[str]]:
    """The arguments for a demonstration: a pool file of its own over an upstream that lives as long as this does."""
    os.environ.update({**demo.environment(), presence.DEMONSTRATION: "1"})
    upstream, port = demo.start_upstream()
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-demo-") as folder:
            pool = Path(folder) / "pool.yaml"
            pool.touch(mode=0o600)
            pool.write_text(demo.pool_yaml(port), encoding="utf-8")
            yield ["--set", f"pool_file={pool}", "-s", str(PACKAGE / "demo" / "announce.py")]
    finally:
        upstream.terminate()
        upstream.wait()


def _roots(arguments: Sequence[str]) -> list[str]:
    """Arguments that make upstreams trusted whose root this system knows, unless the user has said whom to trust."""
    confdir = next((each.partition("confdir=")[2] for each in arguments if "confdir=" in each), "~/.mitmproxy")
    if any(TRUSTED in argument or "--upstream-trusted" in argument for argument in arguments):
        return []
    with contextlib.suppress(OSError, registry.RuntimeFolderError):
        settings = Path(confdir).expanduser() / "config.yaml"
        if settings.is_file() and TRUSTED in settings.read_text(errors="replace"):
            return []
    with contextlib.suppress(OSError, registry.RuntimeFolderError):
        if path := trust.upstream_roots(os.environ, registry.runtime_folder(os.environ)):
            return ["--set", f"{TRUSTED}_ca={path}"]
    return []


def _free(flag: str, port: int, arguments: Sequence[str], option: str, *more: str) -> list[str]:
    """Arguments that choose another port when the usual one is taken and the user named none."""
    if any(argument.startswith((flag, option, *more)) for argument in arguments):
        return []
    with socket.socket() as probe:
        # As asyncio binds: a port that is only waiting out its last connection is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            probe.bind((LOOPBACK, 0))
        return [flag, str(probe.getsockname()[1])]
