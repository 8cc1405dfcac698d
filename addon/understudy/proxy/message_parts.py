"""Parts of mitmproxy's requests and responses that are read as they are, without a call of Python for each.

Most parts of a message are properties that look into its ``data``, some of them a hundred times a call. Those that do
nothing else are looked up by the interpreter here. What sets a part, and what it says of itself, stays mitmproxy's.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from mitmproxy.http import Message, Request, Response

PARTS: tuple[tuple[type[Message], str, str], ...] = (
    (Message, "headers", "headers"),
    (Message, "trailers", "trailers"),
    (Message, "raw_content", "content"),
    (Message, "timestamp_start", "timestamp_start"),
    (Message, "timestamp_end", "timestamp_end"),
    (Request, "host", "host"),
    (Request, "port", "port"),
    (Response, "status_code", "status_code"),
)
"""Class, the property's name, and the name of what it returns in ``data``."""


_OWN = {(kind, name): vars(kind)[name] for kind, name, _ in PARTS}
"""mitmproxy's properties."""


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it. What another program has put there stays."""
    put: list[tuple[type[Message], str, property]] = []
    for kind, name, part in PARTS:
        if vars(kind)[name] is (own := _OWN[kind, name]):
            ours = property(attrgetter(f"data.{part}"), own.fset, own.fdel, own.__doc__)
            ours.__set_name__(kind, name)  # type: ignore[attr-defined]  # for the texts of its errors
            setattr(kind, name, ours)
            put.append((kind, name, ours))

    def uninstall() -> None:
        for kind, name, ours in put:
            if vars(kind)[name] is ours:
                setattr(kind, name, _OWN[kind, name])

    return uninstall
