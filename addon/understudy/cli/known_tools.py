"""What is known of single tools, as they were measured: what they read, and what no variable can mend.

Only what differs from "honours ``HTTPS_PROXY`` and trusts ``SSL_CERT_FILE``" is written down here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NODE_WITH_PROXY = ((22, 21), (24, 0))
"""The releases of Node.js from which on NODE_USE_ENV_PROXY works, in the 22 and in the 24 line."""


@dataclass(frozen=True, slots=True)
class Tool:
    """``trusts``: any one of these variables makes it trust the CA. ``own_proxy``: it reads ``HTTPS_PROXY`` itself,
    whatever its runtime does. ``hopeless``: why nothing can be done. ``advice``: what its user should know. ``daemon``:
    a word in the command of the process that it leaves behind, which keeps the environment that it was started with."""

    trusts: tuple[str, ...] = ("SSL_CERT_FILE",)
    own_proxy: bool = True
    hopeless: str = ""
    advice: str = ""
    daemon: str = ""


DAEMON = "it leaves a daemon that keeps the environment it was started with"
NODE, ANY = ("NODE_EXTRA_CA_CERTS",), ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
TOOLS: Mapping[str, Tool] = {
    "claude": Tool(ANY),
    "codex": Tool(
        ("SSL_CERT_FILE", "CODEX_CA_CERTIFICATE"),
        advice=f"in a terminal, {DAEMON}; `codex --no-daemon` works without",
        daemon="app-server",
    ),
    "gemini": Tool(NODE),
    "opencode": Tool(ANY),
    "copilot": Tool(ANY),
    "qwen": Tool(NODE, advice="it ignores NO_PROXY, so that its calls on this machine go through the proxy as well"),
    "cn": Tool(NODE),
    "cline": Tool(ANY, advice=DAEMON, daemon="cline"),
    "pi": Tool(NODE),
    "aider": Tool(("SSL_CERT_FILE",)),
    "curl": Tool(("SSL_CERT_FILE", "CURL_CA_BUNDLE")),
    "amp": Tool(hopeless="its model calls are made on its vendor's server, where no proxy of yours can see them"),
    "node": Tool(NODE, own_proxy=False),
}


def tool_of(program: Path) -> Tool:
    """What is known of a program; of one in JavaScript that is not listed, what its runtime does."""
    known = TOOLS.get(program.name.removesuffix(".js").removesuffix(".exe"))
    if known is not None:
        return known
    return TOOLS["node"] if interpreter(program) == "node" else Tool()


def own_timeouts(program: Path, holds: float, environ: Mapping[str, str]) -> dict[str, str]:
    """The tool's own time-out, raised where the pool may hold a call for so many seconds (``until_reset``).

    Claude Code gives up a request after ``API_TIMEOUT_MS`` (600,000 when it is not set); what its user has set stays.
    Gemini CLI, which gives up after a minute without headers, gets them at once; for the others no variable is known.
    """
    if not holds or program.name != "claude" or "API_TIMEOUT_MS" in environ:
        return {}
    return {"API_TIMEOUT_MS": f"{(holds + 600) * 1000:.0f}"}


def interpreter(program: Path) -> str:
    """The name of the interpreter that a script asks for, "" for what is no script."""
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    if not first.startswith(b"#!"):
        return ""
    words = [word for word in first[2:].decode("latin-1").split() if not word.startswith("-") and "=" not in word]
    names = [Path(word).name for word in words]
    return next((name for name in names if name != "env"), "")


def node_version(program: Path, environ: Mapping[str, str]) -> tuple[int, int] | None:
    """Which Node.js runs this program; None when it is not run by one, or does not say."""
    if program.name == "node":
        node = str(program)
    elif interpreter(program) == "node":
        node = shutil.which("node", path=environ.get("PATH")) or ""
    else:
        return None
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, env=dict(environ)).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"v(\d+)\.(\d+)\.", said)
    return (int(match[1]), int(match[2])) if match else None


def reads_proxies(version: tuple[int, int]) -> bool:
    """Whether this Node.js honours proxies with NODE_USE_ENV_PROXY."""
    return any(version >= first and version[0] == first[0] for first in NODE_WITH_PROXY) or version[0] > 24


def stale_processes(name: str, running_url: str, root: Path = Path("/proc"), *, word: str = "") -> list[int]:
    """This user's processes of a tool that were started without the proxy. Empty where the system does not tell.

    ``word``: what must be in the command besides.
    """
    found = []
    for folder in root.glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environ = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # another user's, or gone
        ours = any(Path(part.decode(errors="replace")).name == name for part in command[:2])
        ours = ours and any(word.encode() in part for part in command)
        if ours and f"HTTPS_PROXY={running_url}".encode() not in environ:
            found.append(int(folder.name))
    return sorted(found)
