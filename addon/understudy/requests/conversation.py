"""What a request says about the conversation it belongs to, and what in it only one account knows.

A session id keeps a conversation with one candidate (P02); a *bond* is the name of something that lives in one account
and that the request cannot do without: a stored response, an uploaded file (P04); a *part* is sealed for one account,
and can be left out (``sealed``). All of it is read from the bytes with a few searches, because every request pays for
them. A quotation of such a member inside a text cannot be taken for it: there its quotes are escaped. What is read here
stays in memory; of an id its beginning is shown where it binds a call, and of a session that a drill has moved.

Sources: OpenAI's API reference ("Create a model response": ``previous_response_id``, ``prompt_cache_key``), Google's
"Files API" and "Context caching", Codex's source (``x-codex-turn-state``), and what the tools were seen to send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

from understudy.codec.abridged import Abridged
from understudy.codec.in_pieces import contains_any, find_first
from understudy.codec.record import record
from understudy.requests.sealed import TURN_STATE, Shape, bonds_in, may_hold, parts_in, state_name, states_in

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

STATE_HEADERS = frozenset({b"x-codex-turn-state"})
"""Headers, in lower case, with the state of a turn that an account gave the tool: no other account may get it (E04)."""
RETRY_COUNT = b"x-stainless-retry-count"
"""In which header the SDKs of OpenAI and Anthropic count their retries."""


@record
class Conversation:
    """The session of a request, "" without one, and what else it says of itself.

    ``bonds``: what only one account has; ``parts``: what is sealed for one, in the order of the body; ``states``: the
    states of a turn, of which the same is true. ``is_retry``: whether the tool says that it is a retry.
    """

    session: str = ""
    bonds: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    is_retry: bool = False


def read(
    fields: Iterable[tuple[bytes, bytes]],
    body: bytes,
    shape: Shape | None = None,
    *,
    marks: bool = True,
    short: Abridged | None = None,
) -> Conversation:
    """Read headers and decoded body of a request. ``marks`` False: nobody asks for bonds and parts now.

    ``short``: the body without the middle of its long strings, None where nobody has made it.
    """
    short = short or Abridged(body)
    session, is_retry = b"", False
    states: tuple[str, ...] = ()
    for name, value in fields:
        lower = name.lower()
        if lower in SESSION_HEADERS:
            session = session or value.strip()
        elif lower == RETRY_COUNT:
            is_retry = value.strip() not in (b"", b"0")
        elif lower in STATE_HEADERS:
            states += (state_name(value),)
    if shape is Shape.RESPONSES and contains_any(short.text, (TURN_STATE,)):
        states += states_in(body)
    if not marks:
        return Conversation(_short(session or _session_in(body, short)), (), (), states, is_retry)
    bonds = bonds_in(shape, short.text, body)
    parts = parts_in(shape, body) if shape is not None and may_hold(shape, short.text) else ()
    return Conversation(_short(session or _session_in(body, short)), bonds, parts, states, is_retry)


def _session_in(body: bytes, short: Abridged) -> bytes:
    for member in _SESSION_MEMBERS:
        at = find_first(short.text, member)
        match = _STRING.match(body, short.place(at + len(member))) if at >= 0 else None
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
