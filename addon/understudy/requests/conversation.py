"""What a request says about the conversation it belongs to, and what only the account of a reply will know later.

A session id keeps a conversation with one candidate (P02); a *mark* is the name of something that lives in one account:
a stored response, an uploaded file, a piece of encrypted reasoning (P04). Both are read from the bytes with a few
searches, because every request pays for them. A quotation of such a member inside a text cannot be taken for it: there
its quotes are escaped. What is read here stays in memory and is written nowhere, but for how the id of a session begins
that a drill has moved.

Sources: OpenAI's API reference ("Create a model response": ``previous_response_id``, ``prompt_cache_key``,
``reasoning.encrypted_content``), Google's "Files API" and "Context caching", and what the tools were seen to send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

SESSION_HEADERS = frozenset(
    {
        b"x-claude-code-session-id",  # Claude Code
        b"session-id",  # Codex
        b"session_id",  # Codex, older
        b"thread-id",  # Codex
        b"conversation_id",  # Codex, older
        b"x-session-id",  # several
        b"x-session-affinity",  # opencode
        b"x-client-session-id",  # Copilot CLI
    }
)
"""Headers, in lower case, whose value is the id of a conversation."""
_SESSION_MEMBERS = (b'"prompt_cache_key"', b'"session_id"', b'"user_id"')
"""Members of a body that can name a conversation; Claude Code's ``metadata.user_id`` has the session's id inside."""
_STRING = re.compile(rb'\s*:\s*"((?:[^"\\]|\\.){1,2000})"')

_MARKS = (b'"resp_', b'"conv_', b'"rs_', b'"file-', b'"file_', b"files/", b"cachedContents/")
"""How names begin of which other accounts know nothing."""
# A whole string with a digit in it: names of members and of tools ("file_id", "file_search") begin like ids.
_NAME = re.compile(rb'((?=[A-Za-z_/-]*[0-9])[A-Za-z0-9_/-]{8,120})"(?!\s*:)')
_MOST = 64  # marks of one kind that are looked at in one body
_SEALED = b'"encrypted_content"'
_SEAL = 32
"""So many last characters stand for a piece of encrypted reasoning."""
RETRY_COUNT = b"x-stainless-retry-count"
"""In which header the SDKs of OpenAI and Anthropic count their retries."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The session of a request, "" without one, what it refers to, and whether the tool says that it is a retry."""

    session: str = ""
    marks: tuple[str, ...] = ()
    is_retry: bool = False


def read(fields: Iterable[tuple[bytes, bytes]], body: bytes, *, marks: bool = True) -> Conversation:
    """Read headers and decoded body of a request. ``marks`` False: they are not needed now."""
    session, is_retry = b"", False
    for name, value in fields:
        lower = name.lower()
        if lower in SESSION_HEADERS:
            session = session or value.strip()
        elif lower == RETRY_COUNT:
            is_retry = value.strip() not in (b"", b"0")
    return Conversation(_short(session or _session_in(body)), marks_in(body) if marks else (), is_retry)


def _session_in(body: bytes) -> bytes:
    for member in _SESSION_MEMBERS:
        at = body.find(member)
        match = _STRING.match(body, at + len(member)) if at >= 0 else None
        # A user has many conversations: the id of one is no session, unless it names the session as well.
        if match and (member != b'"user_id"' or b"session" in match[1]):
            return match[1]
    return b""


def short_session(session: str) -> str:
    """The session that an id stands for, as :class:`Conversation` has it."""
    return _short(session.strip().encode("latin-1", "replace"))


def _short(session: bytes) -> str:
    if len(session) <= 64:
        return session.decode("latin-1")
    return blake2b(session, digest_size=16).hexdigest()


def marks_in(body: bytes) -> tuple[str, ...]:
    """The names in a body of what lives in one account, the latest piece of encrypted reasoning first."""
    found: dict[str, None] = {}
    if (seal := _seal(body)) is not None:
        found[seal] = None
    for beginning in _MARKS:
        at, count = body.find(beginning), 0
        while at >= 0 and count < _MOST:
            if match := _NAME.match(body, at + beginning.startswith(b'"')):
                found[match[1].decode()] = None
            at, count = body.find(beginning, at + len(beginning)), count + 1
    return tuple(found)


def _seal(body: bytes) -> str | None:
    """The end of the last piece of encrypted reasoning; its beginning may have been cut off."""
    at = body.rfind(_SEALED)
    if at < 0:
        return None
    start = body.find(b'"', at + len(_SEALED))
    end = body.find(b'"', start + 1) if start >= 0 else -1
    piece = body[start + 1 : end] if end >= 0 else b""
    return f"sealed {piece[-_SEAL:].decode('latin-1')}" if len(piece) >= _SEAL else None
