"""Where flows are looked at and saved: putting an attempt's flow there so that no addon takes it for a call of a tool.

mitmproxy's own recorders are asked by name: the flow list of mitmproxy and mitmweb, the stream to a file, the HAR dump,
and mitmdump's printer from ``flow_detail`` 2 on. None of the hooks of other addons fires, so that a script sees the
released exchange exactly once.
"""

from __future__ import annotations

import logging
from typing import Any

from mitmproxy import http
from mitmproxy.master import Master

logger = logging.getLogger("understudy")

RECORDERS = ("save", "savehar", "dumper")
"""Addons of mitmproxy that write a flow down when it is over, by their names."""
PRINTED_FROM = 2
"""From this ``flow_detail`` on mitmdump prints attempts; below it prints one line per flow, and the log has that."""


def show(master: Master, attempt: http.HTTPFlow | None, tool: http.HTTPFlow) -> None:
    """Show and save an attempt's flow, and show that the comment of the tool's has changed. Never raises."""
    try:
        if (view := master.addons.get("view")) is not None:
            if attempt is not None:
                view.add([attempt])
            view.update([tool])
        if attempt is None:
            return
        for recorder in _recorders(master):
            # Both end the same way; a flow without a response has to be told as an error.
            (recorder.response if attempt.response is not None else recorder.error)(attempt)
    except Exception as error:
        # To look at a call must never cost it.
        logger.error(f"understudy: an attempt cannot be shown: {error!r}")


def is_recorded(master: Master) -> bool:
    """Whether there is anything that would show or save an attempt's flow, so that it has to be made. Never raises."""
    try:
        return master.addons.get("view") is not None or bool(_recorders(master))
    except Exception:
        return True  # whatever is wrong is logged when the flow is shown


def _recorders(master: Master) -> list[Any]:
    """The addons that write a flow down as they are set now."""
    found = []
    for name in RECORDERS:
        recorder = master.addons.get(name)
        if recorder is not None and not _is_idle(name, recorder, master):
            found.append(recorder)
    return found


def _is_idle(name: str, recorder: Any, master: Master) -> bool:
    match name:
        case "save":
            return getattr(recorder, "stream", recorder) is None
        case "savehar":
            return not master.options.hardump
        case _:
            return bool(master.options.flow_detail < PRINTED_FROM)
