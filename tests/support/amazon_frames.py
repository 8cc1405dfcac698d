"""Amazon's event stream framing for tests: the other direction of ``understudy.codec.amazon_frames``."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32


def frame(headers: Mapping[str, str], payload: bytes = b"", *, more: bytes = b"") -> bytes:
    """One message; ``more``: further headers as bytes."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    head += more
    start = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = start + struct.pack(">I", crc32(start)) + head + payload
    return message + struct.pack(">I", crc32(message))
