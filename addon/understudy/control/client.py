"""Finding the control socket of a running proxy, and asking it something. Nothing here imports mitmproxy.

The sockets are in the user's runtime folder, each named after its process. One without a listener was left behind
by a proxy that was killed, and is removed by whoever finds it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.control.registry import runtime_folder, state_folder

SUFFIX = ".sock"
LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of a socket's path: the system's limit."""
SECONDS = 10.0
LONGEST_REPLY = 16 * 1024 * 1024


class ControlClientError(Exception):
    """The proxy cannot be asked. Says why, and what to do."""


def place_of(folder: Path, pid: int) -> Path:
    """The socket of a process. Raises OSError when the system cannot have a socket there."""
    path = folder / f"{pid}{SUFFIX}"
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise OSError(
            f"{path} is too long for a socket ({length} bytes, at most {LONGEST_PATH}): "
            "set XDG_RUNTIME_DIR to a folder of yours with a shorter path"
        )
    return path


def is_served(path: Path) -> bool:
    """Whether a program listens on a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # busy, or not ours to ask: a program is there
        return True


def running(environ: Mapping[str, str]) -> dict[int, Path]:
    """The sockets that are served, by process id; others are removed. Raises RuntimeFolderError.

    Looked at are both folders: one of the two may have been started without XDG_RUNTIME_DIR, by cron for example.
    """
    found = {}
    for folder in (state_folder(environ), runtime_folder(environ)):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if not path.stem.isdecimal():
                continue
            if is_served(path):
                found[int(path.stem)] = path
            else:
                path.unlink(missing_ok=True)
    return found


def ask(path: Path, command: str, words: Sequence[str]) -> Mapping[str, Any]:
    """Send one command and return the reply. Raises ControlClientError."""
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps({"command": command, "words": list(words)}).encode() + b"\n")
            while not received.endswith(b"\n") and len(received) < LONGEST_REPLY:
                if not (data := connection.recv(65536)):
                    break
                received += data
        reply = json.loads(received)
    except OSError as error:
        reason = "it is too busy" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ControlClientError(f"the proxy with process id {path.stem} does not answer: {reason}") from None
    except ValueError:
        raise ControlClientError(f"the proxy with process id {path.stem} broke off: look at its log") from None
    if not isinstance(reply, dict):
        raise ControlClientError(
            f"the proxy with process id {path.stem} answers with something else: is it understudy?"
        )
    return reply
