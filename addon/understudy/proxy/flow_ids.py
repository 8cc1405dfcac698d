"""The ids of mitmproxy's flows, without an object for each that is only made to be written out.

mitmproxy makes a UUID of random bytes, which checks, converts and keeps what it is made of, and takes its text. Here
the text is made of the random bytes. It looks the same (RFC 9562, version 4) and is as random.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mitmproxy import flow

_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def install() -> Callable[[], None]:
    """Put it in place, for the whole process; returns what undoes it. Where it is another module already, it stays."""
    names: dict[str, Any] = vars(flow)
    if names["uuid"] is not uuid:
        return lambda: None
    names["uuid"] = ours = SimpleNamespace(**{**vars(uuid), "uuid4": text})

    def uninstall() -> None:
        if names["uuid"] is ours:
            names["uuid"] = uuid

    return uninstall


def text() -> str:
    """What ``str(uuid.uuid4())`` gives; mitmproxy calls ``str`` for it all the same."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:]}"
