"""Sealed parts: what a vendor has encrypted or signed for the account that asked, and how a request goes on without it.

A tool sends such parts back in every turn: OpenAI's encrypted reasoning, Anthropic's thinking, Gemini's thought
signatures. A part has a *name*, by which it is known again: a word for its kind and its last characters, because of a
long stream only the end is kept. Names are read from the bytes with a few searches, for every request pays for them. A
quotation of such a member inside a text is not taken for it: there its quotes are escaped.

What is taken out, and what has to go with it, follows the rules of each API:

- Responses: the whole ``reasoning`` item, because one without its content is looked up in the account, and the ``id``
  of the items that it led to, because the API asks for "its required 'reasoning' item" where it knows their ids. A
  compaction stands for the history before it, so it stays (``bonds_in`` names it). OpenAI's API reference, "Create a
  model response" and "Conversation state"; openai/codex issues 8119 and 13724.
- Messages: the ``thinking`` or ``redacted_thinking`` block. Where thinking is ``enabled`` and the turn goes on after a
  tool, its first message has to begin with thinking ("Expected `thinking` or `redacted_thinking`"), so such a request
  goes without thinking, and without the ``clear_thinking`` edit that needs it. ``adaptive`` thinking asks for nothing.
  Anthropic, "Extended thinking".
- Gemini: the signature of a part; that of a function call is required, so there stands the word that Google documents
  for history from elsewhere. Google, "Thought signatures".
- Chat completions: OpenRouter's ``reasoning_details``, Copilot's ``reasoning_opaque``, and Gemini's signature inside a
  tool call's ``extra_content``, where the same word stands instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum

from understudy.codec.abridged import find_last
from understudy.codec.body_text import contains_any
from understudy.codec.json_edit import JsonEdit, Member, Span, member_of

END = 32
"""So many last characters of a part stand for it."""
_WRITTEN = 6 * END
"""Bytes that hold them, however they are escaped."""
_SHORTEST = 8
_MOST = 256
"""Parts of one kind that are looked at in one body, the latest first."""
NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents to stand in the place of a signature that a function call needs and that there is none of."""


class Shape(StrEnum):
    """The bodies that hold sealed parts."""

    RESPONSES = "responses"
    MESSAGES = "messages"
    GEMINI = "gemini"
    CHAT = "chat"


_OPENAI = {
    "chat/completions": Shape.CHAT,
    **dict.fromkeys(("responses", "responses/compact", "responses/input_tokens"), Shape.RESPONSES),
}
_ANTHROPIC = dict.fromkeys(("messages", "messages/count_tokens"), Shape.MESSAGES)
_GOOGLE = dict.fromkeys(("generateContent", "streamGenerateContent", "countTokens"), Shape.GEMINI)
_SHAPES = {
    **dict.fromkeys(("openai", "azure-openai"), _OPENAI),
    **dict.fromkeys(("anthropic", "anthropic-vertex"), _ANTHROPIC),
    **dict.fromkeys(("gemini", "vertex"), _GOOGLE),
    "bedrock": {"invoke": Shape.MESSAGES},
}


def shape_of(dialect: str, endpoint: str) -> Shape | None:
    """The shape of the bodies at an endpoint of a dialect; None where nothing in them is sealed."""
    found = _SHAPES.get(dialect)
    return found.get(endpoint) if found is not None else None


_SIGNS: dict[Shape, tuple[bytes, ...]] = {
    Shape.RESPONSES: (b'"encrypted_content"', b'"rs_', b'"x-codex-turn-state"'),
    Shape.MESSAGES: (b'thinking"',),
    Shape.GEMINI: (b'"thoughtSignature"', b'"thought_signature"'),
    Shape.CHAT: (b'"reasoning_', b'"thought_signature"'),
}


def may_hold(shape: Shape, body: bytes) -> bool:
    """Whether a request could have sealed parts: nearly all have none, and nothing more is done for them."""
    return contains_any(body, _SIGNS[shape])


REASONING, THINKING, THOUGHT = "sealed", "thinking", "thought"
"""The kinds of parts, as their names begin."""
KINDS = {
    REASONING: "encrypted reasoning",
    THINKING: "thinking",
    THOUGHT: "a thought signature",
}
"""The same in words."""
_MEMBERS: dict[Shape, tuple[tuple[bytes, str], ...]] = {
    Shape.RESPONSES: ((b'"encrypted_content"', REASONING),),
    Shape.MESSAGES: ((b'"signature"', THINKING), (b'"data"', THINKING)),
    Shape.GEMINI: ((b'"thoughtSignature"', THOUGHT), (b'"thought_signature"', THOUGHT)),
    Shape.CHAT: (
        *((b'"reasoning_opaque"', REASONING), (b'"thought_signature"', THOUGHT)),
        *((b'"data"', REASONING), (b'"signature"', REASONING)),
    ),
}
_NEEDED = {
    Shape.MESSAGES: {b'"data"': b'"redacted_thinking"'},
    Shape.CHAT: {b'"data"': b'"reasoning_details"', b'"signature"': b'"reasoning_details"'},
}
"""Members that are looked for only in a body with these bytes: alone they mean too much."""
_VALUE = re.compile(rb'\s*:\s*"')
_PLAIN = re.compile(rb"\\u00(3d|2b|2f)|\\(/)", re.IGNORECASE)
"""How some servers write the ``=``, ``+`` and ``/`` of base64, which their clients then send back as they are."""
_STANDARD = bytes.maketrans(b"-_", b"+/")
"""Google's SDK for Python reads a signature into bytes and sends it back in the other alphabet of base64."""

TURN_STATE = b'"x-codex-turn-state"'
"""A member of ``client_metadata``, beside the header of the same name: the state of a turn (E04)."""
_REASONING_ID = b'"rs_'
_OPENAI_BONDS = (b'"resp_', b'"conv_', b'"file-', b'"file_', b'"cntr_', b'"vs_')
_BONDS: dict[Shape, tuple[bytes, ...]] = {
    Shape.RESPONSES: _OPENAI_BONDS,
    Shape.MESSAGES: (b'"file_', b'"container_'),
    Shape.GEMINI: (b"files/", b"cachedContents/"),
    Shape.CHAT: _OPENAI_BONDS,
}
"""How names begin of what only its account has, and no request can do without."""
_ALL_BONDS = tuple(dict.fromkeys(each for found in _BONDS.values() for each in found))
# A whole string with a digit in it: names of members and of tools ("file_id", "file_search") begin like ids.
_NAME = re.compile(rb'((?=[A-Za-z_/-]*[0-9])[A-Za-z0-9_/-]{8,120})"(?!\s*:)')
_REFERENCE = b'"item_reference"'
_REFERRED = re.compile(rb'"id"\s*:\s*"((?!rs_)[A-Za-z0-9_-]{8,120})"')
_STORED = (b'"msg_', b'"fc_', b'"ctc_', b'"ws_', b'"fs_', b'"ci_', b'"ig_', b'"mcp_')
"""How the ids of items begin that an account stores, unless it is told not to."""
COMPACTIONS = ("compaction", "compaction_summary", "context_compaction")
_UNSTORED = re.compile(rb'"store"\s*:\s*false')
_WORDS = (
    ("resp_", "previous_response_id"),
    ("conv_", "conversation"),
    ("file", "file"),
    ("cntr_", "container"),
    ("container_", "container"),
    ("vs_", "vector store"),
    ("cachedContents/", "cached content"),
    (REASONING, "a compaction"),
)
_SHOWN = 16
"""Characters of an id that are shown."""


# -- names -----------------------------------------------------------------------------------------------------------


def parts_in(shape: Shape, body: bytes) -> tuple[str, ...]:
    """The names of the sealed parts in a request or reply, in their order; the last 256 of a kind."""
    found: list[tuple[int, str]] = []
    for member, kind in _MEMBERS[shape]:
        needed = _NEEDED.get(shape, {}).get(member)
        if needed is not None and needed not in body:
            continue
        at, count = find_last(body, member, len(body)), 0
        while at >= 0 and count < _MOST:
            if (name := _name_at(body, at + len(member), kind)) is not None:
                found.append((at, name))
            at, count = find_last(body, member, at), count + 1
    if shape is Shape.RESPONSES:
        found += _named(body, _REASONING_ID)
    return tuple(dict.fromkeys(name for _, name in sorted(found)))


def _named(body: bytes, beginning: bytes) -> list[tuple[int, str]]:
    """The whole strings that begin like this, each with its place; the latest first."""
    found = []
    at, count = find_last(body, beginning, len(body)), 0
    while at >= 0 and count < _MOST:
        if match := _NAME.match(body, at + beginning.startswith(b'"')):
            found.append((at, match[1].decode()))
        at, count = find_last(body, beginning, at), count + 1
    return found


def _name_at(body: bytes, at: int, kind: str) -> str | None:
    """The name of the part whose value stands behind this place; its end is enough, and it may be without one."""
    match = _VALUE.match(body, at)
    if match is None:
        return None
    end = body.find(b'"', match.end())
    return _name(body[match.end() : end], kind) if end >= 0 else None


def _name(value: bytes | str | None, kind: str) -> str | None:
    if value is None:
        return None
    piece = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    piece = piece[-_WRITTEN:]
    if b"\\" in piece:
        piece = _PLAIN.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"/", piece)
    if len(piece) < _SHORTEST or piece == NO_SIGNATURE.encode():
        return None
    if kind == THOUGHT:
        piece = piece.translate(_STANDARD)
    return f"{kind} {piece[-END:].decode('latin-1')}"


def state_name(value: bytes) -> str:
    """By what the state of a turn is known again, in a header or in a body."""
    return f"state {value.strip()[-END:].decode('latin-1')}"


def states_in(body: bytes) -> tuple[str, ...]:
    """The states of a turn that a request of the Responses API has in its body."""
    found: list[str] = []
    at = body.find(TURN_STATE)
    while at >= 0 and len(found) < _MOST:
        if (match := _VALUE.match(body, at + len(TURN_STATE))) and (end := body.find(b'"', match.end())) >= 0:
            found.append(state_name(body[match.end() : end]))
        at = body.find(TURN_STATE, at + len(TURN_STATE))
    return tuple(found)


def bonds_in(shape: Shape | None, body: bytes, whole: bytes = b"") -> tuple[str, ...]:
    """The names in a request of what only one account has and the request cannot do without.

    ``shape`` None: of all shapes, as a reply to an upload may have them. ``whole``: all of a body of which
    ``body`` has not the middle of its long strings.
    """
    found: dict[str, None] = {}
    for beginning in _BONDS[shape] if shape is not None else _ALL_BONDS:
        found.update(dict.fromkeys(name for _, name in _named(body, beginning)))
    if shape is Shape.RESPONSES:
        at, count = body.find(_REFERENCE), 0
        while at >= 0 and count < _MOST:
            # An item that refers to another one is flat: its braces are the next ones on either side.
            begin, end = body.rfind(b"{", 0, at), body.find(b"}", at)
            if match := _REFERRED.search(body, begin, end if end >= 0 else len(body)):
                found[match[1].decode()] = None
            at, count = body.find(_REFERENCE, at + len(_REFERENCE)), count + 1
        if b'compaction"' in body or b'compaction_summary"' in body:
            found.update(dict.fromkeys(_compactions(whole or body)))
    return tuple(found)


def _compactions(body: bytes) -> list[str]:
    """The names of the compactions in a request."""
    try:
        edit = JsonEdit(body)
        spans = [span for span in edit.items(_at(edit.top, "input")) if edit.holds(span, b"compaction")]
        items = [edit.members(span) for span in spans]
    except ValueError:
        return []
    texts = [edit.text(member_of(each, "encrypted_content")) for each in items if _type(edit, each) in COMPACTIONS]
    return [name for text in texts if (name := _name(text, REASONING)) is not None]


def names_in_reply(shape: Shape | None, reply: bytes) -> tuple[str, ...]:
    """Everything that a later request may name and only the account of this good reply will know.

    ``reply``: its decoded body, or the end of its stream.
    """
    if shape is None or (shape is Shape.CHAT and not may_hold(shape, reply)):
        return ()
    parts = parts_in(shape, reply)
    if shape is not Shape.RESPONSES:
        return parts
    stored = () if _UNSTORED.search(reply) else (name for each in _STORED for _, name in _named(reply, each))
    return tuple(dict.fromkeys((*parts, *bonds_in(shape, reply), *stored)))


def in_words(bond: str) -> str:
    """What binds a call, for people: ``previous_response_id resp_0123456789a…``. An id is no secret, but shortened."""
    for beginning, word in _WORDS:
        if bond.startswith(beginning):
            return word if beginning == REASONING else f"{word} {_shortened(bond)}"
    return f"item {_shortened(bond)}"


def _shortened(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"


def kind_of(part: str) -> str:
    """The kind of a part, by its name: ``sealed``, ``thinking`` or ``thought``."""
    kind = part.partition(" ")[0]
    return kind if kind in KINDS else REASONING


NOWHERE: Span = (-1, -1)


# -- without them ----------------------------------------------------------------------------------------------------

type Goes = Callable[[str], bool]
"""Whether the part of this name is to be taken out."""


def take_out(shape: Shape, body: bytes, goes: Goes) -> tuple[bytes, int]:
    """A request without the parts that are to go, and how many went. All other bytes stay.

    A part that has no name (a signature that is empty or missing) goes if ``goes("")`` says so.
    Raises ValueError for a body that is no JSON object, or takes too many steps to be read.
    """
    edit = JsonEdit(body)
    match shape:
        case Shape.RESPONSES:
            count = _from_responses(edit, goes)
        case Shape.MESSAGES:
            count = _from_messages(edit, goes)
        case Shape.GEMINI:
            count = _from_gemini(edit, goes)
        case Shape.CHAT:
            count = _from_chat(edit, goes)
    return (edit.result(), count) if count else (body, 0)


def _at(members: Sequence[Member], name: str) -> Span:
    """The value of a member, an empty place without one."""
    return member_of(members, name) or NOWHERE


def _type(edit: JsonEdit, members: Sequence[Member]) -> str:
    return edit.text(member_of(members, "type")) or ""


def _of(edit: JsonEdit, members: Sequence[Member], name: str, kind: str) -> str:
    """The name of the part that is a member, "" when it has none."""
    return _name(edit.text(member_of(members, name)), kind) or ""


def _from_responses(edit: JsonEdit, goes: Goes) -> int:
    items = edit.items(_at(edit.top, "input"))
    out: set[int] = set()
    orphaned = False  # whether the reasoning that led to an item is among what goes
    for place, span in enumerate(items):
        reasons = edit.holds(span, b'"reasoning"') or edit.holds(span, _REFERENCE)
        if not (reasons or orphaned):
            continue
        members = edit.members(span)
        kind, identity = _type(edit, members), edit.text(member_of(members, "id")) or ""
        if kind == "reasoning" or (kind == "item_reference" and identity.startswith("rs_")):
            names = {_of(edit, members, "encrypted_content", REASONING), identity} - {""}
            orphaned = any(map(goes, names or {""}))
            if orphaned:
                out.add(place)
        elif orphaned:
            orphaned = kind in ("function_call", "custom_tool_call") or (
                kind == "message" and edit.text(member_of(members, "role")) == "assistant"
            )
            if orphaned and identity:
                edit.take_members_out(members, [at for at, each in enumerate(members) if each.name == "id"])
    edit.take_out(items, out)
    metadata = edit.members(_at(edit.top, "client_metadata")) if TURN_STATE in edit.body else []
    states = {at: edit.text(each.value) for at, each in enumerate(metadata) if f'"{each.name}"'.encode() == TURN_STATE}
    leaving = [at for at, text in states.items() if text is not None and goes(state_name(text.encode()))]
    edit.take_members_out(metadata, leaving)
    return len(out) + len(leaving)


def _from_messages(edit: JsonEdit, goes: Goes) -> int:
    messages = edit.items(_at(edit.top, "messages"))
    read: dict[int, _Message] = {}
    empty: set[int] = set()
    count = 0
    for place, span in enumerate(messages):
        if not edit.holds(span, b'thinking"'):
            continue
        message = read[place] = _Message(edit, span)
        thinking = {at for at, block in enumerate(message.blocks) if _is_thinking(edit, block)}
        out = {at for at in thinking if goes(_signed(edit, message.blocks[at]))}
        message.without = out
        count += len(out)
        if out and len(out) == len(message.blocks):
            empty.add(place)
        else:
            edit.take_out(message.spans, out)
    edit.take_out(messages, empty)
    if count and edit.text(member_of(edit.members(_at(edit.top, "thinking")), "type")) == "enabled":
        first = _first_of_turn(edit, messages, read)
        if first is not None and first.lacks_thinking(edit):
            edit.replace(_at(edit.top, "thinking"), {"type": "disabled"})
            edits = edit.items(_at(edit.members(_at(edit.top, "context_management")), "edits"))
            edit.take_out(edits, [at for at, span in enumerate(edits) if edit.holds(span, b'"clear_thinking_')])
    return count


class _Message:
    """A message of Anthropic's with its blocks; ``without``: the places of those that go."""

    def __init__(self, edit: JsonEdit, span: Span) -> None:
        members = edit.members(span)
        self.role = edit.text(member_of(members, "role")) or ""
        self.spans = edit.items(_at(members, "content"))
        self.blocks = [edit.members(each) for each in self.spans]
        self.without: set[int] = set()

    def types(self, edit: JsonEdit) -> list[str]:
        return [_type(edit, block) for at, block in enumerate(self.blocks) if at not in self.without]

    def lacks_thinking(self, edit: JsonEdit) -> bool:
        """Whether it calls a tool and has lost the thinking that it began with."""
        left = self.types(edit)
        return 0 in self.without and "tool_use" in left and left[0] not in ("thinking", "redacted_thinking")


def _first_of_turn(edit: JsonEdit, messages: Sequence[Span], read: dict[int, _Message]) -> _Message | None:
    """The first message of the assistant in the turn that goes on: behind it there are tools and their results only."""
    first = None
    for place in reversed(range(len(messages))):
        message = read.get(place) or _Message(edit, messages[place])
        if message.role == "assistant":
            first = message
        elif message.role == "user" and (not message.blocks or set(message.types(edit)) != {"tool_result"}):
            break
    return first


def _is_thinking(edit: JsonEdit, block: Sequence[Member]) -> bool:
    return _type(edit, block) in ("thinking", "redacted_thinking")


def _signed(edit: JsonEdit, block: Sequence[Member]) -> str:
    return _of(edit, block, "data" if _type(edit, block) == "redacted_thinking" else "signature", THINKING)


_SIGNATURES = ("thoughtSignature", "thought_signature")
_CALLS = ("functionCall", "function_call")


def _from_gemini(edit: JsonEdit, goes: Goes) -> int:
    count = 0
    for content in edit.items(_at(edit.top, "contents")):
        if not any(edit.holds(content, f'"{each}"'.encode()) for each in _SIGNATURES):
            continue
        for part in edit.items(_at(edit.members(content), "parts")):
            members = edit.members(part)
            out = [at for at, each in enumerate(members) if each.name in _SIGNATURES]
            names = {_name(edit.text(members[at].value), THOUGHT) or "" for at in out}
            if not out or not any(map(goes, names)) or edit.text(members[out[-1]].value) == NO_SIGNATURE:
                continue
            count += 1
            if any(each.name in _CALLS for each in members) or len(out) == len(members):
                for at in out:
                    edit.replace(members[at].value, NO_SIGNATURE)
            else:
                edit.take_members_out(members, out)
    return count


def _from_chat(edit: JsonEdit, goes: Goes) -> int:
    count = 0
    for message in edit.items(_at(edit.top, "messages")):
        if not any(edit.holds(message, word) for word in _CHAT_WORDS):
            continue
        members = edit.members(message)
        out = []
        for at, each in enumerate(members):
            names: set[str] = set()
            if each.name == "reasoning_opaque":
                names = {_name(edit.text(each.value), REASONING) or ""}
            elif each.name == "reasoning_details":
                details = [edit.members(span) for span in edit.items(each.value)]
                sealed = {_of(edit, detail, name, REASONING) for detail in details for name in ("data", "signature")}
                names = sealed - {""}
            if any(map(goes, names)):
                out.append(at)
        edit.take_members_out(members, out)
        count += len(out)
        for call in edit.items(_at(members, "tool_calls")):
            google = edit.members(_at(edit.members(_at(edit.members(call), "extra_content")), "google"))
            signature = member_of(google, "thought_signature")
            name = _name(edit.text(signature), THOUGHT)
            if signature is not None and name is not None and goes(name):
                edit.replace(signature, NO_SIGNATURE)
                count += 1
    return count


_CHAT_WORDS = (b'"reasoning_opaque"', b'"reasoning_details"', b'"thought_signature"')
