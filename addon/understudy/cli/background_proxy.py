"""The proxy that ``understudy run`` starts: in the background, with its log in a file, and gone with its last user.

``python -m understudy.cli.background_proxy LOG USER`` prints the process id of the proxy and returns. ``USER`` is the
process id of the program that it is for. It loads, and then reads the arguments of mitmdump as a JSON list from its
standard input; without any it ends. It is no child of `run`, for the tool that takes the place of ``understudy run``
must not find a child that it did not start; and it has a session of its own, for Ctrl-C and a closed terminal are
meant for the tool.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from understudy.control import registry
from understudy.proxy import garbage

INTERVAL = 0.3
"""Seconds between two looks at who is still there."""
LAST = 10.0
"""Seconds that the proxy has to end in good order."""


def main() -> int:
    """Start the proxy in the background."""
    log, user = sys.argv[1:]
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os._exit(0)  # the ordinary way out would flush and close what the child still uses
    os.setsid()
    me = os.getpid()
    _redirect_output(Path(log))
    garbage.rest()
    from understudy.cli.launch import launch  # here: mitmproxy takes a second to load
    from understudy.control.presence import COMPANION

    arguments = _arguments()
    if arguments is None:
        return 1
    registry.enter(registry.runtime_folder(os.environ), me, int(user))
    threading.Thread(target=_watch, args=(me,), daemon=True).start()
    os.environ[COMPANION] = "1"
    return launch("mitmdump", arguments)


def _redirect_output(log: Path) -> None:
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for place in (1, 2):
        os.dup2(written, place)
    os.close(written)


def _arguments() -> list[str] | None:
    """What mitmdump gets, from standard input, which is then empty; None when there is to be no proxy."""
    with os.fdopen(os.dup(0), "rb") as given:
        read = given.read()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return list(map(str, json.loads(read))) if read else None


def _watch(me: int) -> None:
    """End with the last user."""
    while True:
        if not registry.users(me, os.environ) and registry.farewell(me, os.environ):
            os.kill(me, signal.SIGTERM)
            time.sleep(LAST)
            os._exit(1)  # only reached when mitmproxy could not end itself
        time.sleep(INTERVAL)


if __name__ == "__main__":
    sys.exit(main())
