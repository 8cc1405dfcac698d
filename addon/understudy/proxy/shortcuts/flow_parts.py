"""Flows of mitmproxy: parts that are read as they are, and ids without an object for each.

Most parts of a message are properties that look into its ``data``, some of them a hundred times a call. Those that do
nothing else are looked up by the interpreter here. What sets a part, and what it says of itself, stays mitmproxy's.

For its id a flow makes a UUID of random bytes, which checks, converts and keeps what it is made of, and takes its text.
Here the text is made of the random bytes. It looks the same (RFC 9562, version 4) and is as random.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from mitmproxy import flow
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
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it. What another program has put there stays."""
    undo = [_install_parts(), _install_ids()]

    def uninstall() -> None:
        for each in undo:
            each()

    return uninstall


def _install_parts() -> Callable[[], None]:
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


def _install_ids() -> Callable[[], None]:
    names: dict[str, Any] = vars(flow)
    if names["uuid"] is not uuid:
        return lambda: None
    names["uuid"] = ours = SimpleNamespace(**{**vars(uuid), "uuid4": id_text})

    def uninstall() -> None:
        if names["uuid"] is ours:
            names["uuid"] = uuid

    return uninstall


def id_text() -> str:
    """What ``str(uuid.uuid4())`` gives; mitmproxy calls ``str`` for it all the same."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:]}"
