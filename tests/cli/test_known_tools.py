"""What is known of single tools, and how their runtime is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.cli import known_tools
from understudy.cli.known_tools import TOOLS


def script(path: Path, first: str) -> Path:
    """A script that can be executed."""
    path.write_text(f"{first}\n")
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("#!/usr/bin/env node", "node"),
        ("#!/usr/bin/env -S node --no-warnings=x", "node"),
        ("#!/usr/bin/env -S A=b node", "node"),
        ("#!/opt/bin/node", "node"),
        ("#!/bin/sh", "sh"),
        ("#!", ""),
        ("\x7fELF", ""),
    ],
)
def test_interpreters(tmp_path: Path, first: str, name: str) -> None:
    assert known_tools.interpreter(script(tmp_path / "x", first)) == name
    assert known_tools.interpreter(tmp_path / "nowhere") == ""


def test_tools_are_known_by_name_else_by_their_runtime(tmp_path: Path) -> None:
    assert known_tools.tool_of(Path("/x/claude")) is TOOLS["claude"]
    assert known_tools.tool_of(Path("/x/gemini.js")) is TOOLS["gemini"]
    assert known_tools.tool_of(script(tmp_path / "mine", "#!/usr/bin/env node")) is TOOLS["node"]
    assert known_tools.tool_of(script(tmp_path / "other", "#!/bin/sh")).trusts == ("SSL_CERT_FILE",)


@pytest.mark.parametrize(
    ("said", "version", "proxies"),
    [
        ("v20.20.2", (20, 20), False),
        ("v22.20.0", (22, 20), False),
        ("v22.21.0", (22, 21), True),
        ("v23.11.0", (23, 11), False),
        ("v24.0.0", (24, 0), True),
        ("v25.1.0", (25, 1), True),
    ],
)
def test_versions_of_node(tmp_path: Path, said: str, version: tuple[int, int], proxies: bool) -> None:
    """NODE_USE_ENV_PROXY came with 24.0.0 and with 22.21.0 (the documentation of Node.js, "Command-line API")."""
    node = script(tmp_path / "node", f"#!/bin/sh\necho {said}")
    environ = {"PATH": str(tmp_path) + os.pathsep + "/bin"}
    assert known_tools.node_version(node, environ) == version
    assert known_tools.node_version(script(tmp_path / "x.js", "#!/usr/bin/env node"), environ) == version
    assert known_tools.reads_proxies(version) is proxies


def test_what_is_no_node_has_no_version(tmp_path: Path) -> None:
    for name, first in {"a": "#!/bin/sh", "node": "#!/bin/sh\necho nonsense", "node.js": "#!/usr/bin/env node"}.items():
        assert known_tools.node_version(script(tmp_path / name, first), {"PATH": "/nowhere"}) is None


def test_processes_that_know_nothing_of_the_proxy(tmp_path: Path) -> None:
    for pid, command, environ in [
        ("10", b"/usr/bin/cline\0serve\0", b"HOME=/\0HTTPS_PROXY=http://127.0.0.1:1\0"),
        ("11", b"/usr/bin/node\0/usr/bin/cline\0", b"HOME=/\0HTTPS_PROXY=http://127.0.0.1:2\0"),
        ("12", b"/usr/bin/cline\0", b"HOME=/\0"),
        ("13", b"/bin/grep\0-r\0cline\0", b""),
    ]:
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(command)
        (tmp_path / pid / "environ").write_bytes(environ)
    (tmp_path / "14").mkdir()
    assert known_tools.stale_processes("cline", "http://127.0.0.1:1", tmp_path) == [11, 12]
    assert known_tools.stale_processes("cline", "http://127.0.0.1:1", tmp_path, word="node") == [11]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not tell")
def test_this_very_process_is_seen() -> None:
    """The folders of the real system are read as they are."""
    name, program = "understudy-stale-test", "print('here', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([name, "-c", program], executable=sys.executable, stdin=pipe, stdout=pipe) as stale:
        try:
            # Popen returns while the kernel still puts the new program in place, and its variables cannot be seen.
            assert stale.stdout is not None
            assert stale.stdout.readline() == b"here\n"
            assert known_tools.stale_processes(name, "http://127.0.0.1:1") == [stale.pid]
        finally:
            stale.kill()


def test_claude_codes_own_timeout_is_raised_where_a_call_may_be_held() -> None:
    """``until_reset``: the hours of the route and ten minutes; never where its user has said otherwise."""
    claude = Path("/usr/bin/claude")
    assert known_tools.own_timeouts(claude, 3600.0, {}) == {"API_TIMEOUT_MS": "4200000"}
    assert known_tools.own_timeouts(claude, 3600.0, {"API_TIMEOUT_MS": "1000"}) == {}
    assert known_tools.own_timeouts(claude, 0.0, {}) == {}
    assert known_tools.own_timeouts(Path("/usr/bin/codex"), 3600.0, {}) == {}
