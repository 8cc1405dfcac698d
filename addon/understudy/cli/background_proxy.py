"""The proxy that ``understudy run`` starts: in the background, with its log in a file, and gone with its last user.

``python -m understudy.companion LOG USER [ARGUMENTS]`` prints the process id of the proxy and returns. ``USER`` is the
process id of the program that it is for, ``ARGUMENTS`` go to mitmdump. It is no child of `run`, for the tool that takes
the place of ``understudy run`` must not find a child that it did not start; and it has a session of its own, for
Ctrl-C and a closed terminal are meant for the tool.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from understudy.control import registry

INTERVAL = 0.3
"""Seconds between two looks at who is still there."""
LAST = 10.0
"""Seconds that the proxy has to end in good order."""


def main() -> int:
    """Start the proxy in the background."""
    log, user, *arguments = sys.argv[1:]
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os._exit(0)  # the ordinary way out would flush and close what the child still uses
    os.setsid()
    me = os.getpid()
    registry.enter(registry.runtime_folder(os.environ), me, int(user))
    _redirect(Path(log))
    threading.Thread(target=_watch, args=(me,), daemon=True).start()
    from understudy.cli.launch import launch  # here: mitmproxy takes a second to load
    from understudy.control.presence import COMPANION

    os.environ[COMPANION] = "1"
    return launch("mitmdump", arguments)


def _redirect(log: Path) -> None:
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, place)


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
