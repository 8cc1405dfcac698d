"""A streamed reply as a person would read it: the text, the thinking and the tool calls that its events add up to.

Which dialect an event belongs to follows from its shape, so that a saved stream can be read without knowing where it
came from. What is not recognised is counted and shown as it is, never dropped without a word. Nothing here raises on
any input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from understudy.codec.event_stream import EventReader
from understudy.dialects import StreamEvent, read_json

SHOWN_OTHERS = 20
"""How many events that are not recognised are shown as they are."""
LONGEST_OTHER = 300
"""Characters of one of them."""
SILENT = frozenset(
    {"ping", "keepalive", "message_start", "message_stop", "content_block_stop", "response.in_progress"}
    | {"response.created", "response.queued", "response.content_part.added", "response.content_part.done"}
    | {"response.output_text.done", "response.output_item.done", "response.function_call_arguments.done"}
    | {"response.reasoning_summary_part.added", "response.reasoning_summary_part.done", "response.reasoning_text.done"}
    | {"response.reasoning_summary_text.done", "response.refusal.done", "response.output_text.annotation.added"}
)
"""Events that say nothing which other events do not say as well."""


@dataclass
class Part:
    """One piece of the reply: ``title`` says what it is, "" is the answer itself."""

    title: str
    pieces: list[str] = field(default_factory=list)


@dataclass
class Transcript:
    """What a stream adds up to."""

    parts: dict[object, Part] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """How it ended, what it cost, what went wrong."""
    others: list[str] = field(default_factory=list)
    """The first events of an unknown kind, as they are."""
    unknown: int = 0
    unread: str = ""
    """Why the rest could not be read as events."""

    def add(self, key: object, title: str, text: object) -> None:
        """Go on with a part, or begin it. Without a title it begins with its first text."""
        piece = text if isinstance(text, str) else ""
        if piece or title:
            self.parts.setdefault(key, Part(title)).pieces.append(piece)

    def note(self, name: str, value: object) -> None:
        """Say something about the whole; the last word on a name counts."""
        if value not in (None, "", {}, []):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            self.notes = [note for note in self.notes if not note.startswith(f"{name}: ")]
            self.notes.append(f"{name}: {text}")

    def __str__(self) -> str:
        blocks = [
            f"[{part.title}]\n{''.join(part.pieces)}" if part.title else "".join(part.pieces)
            for part in self.parts.values()
        ]
        if self.notes:
            blocks.append("\n".join(self.notes))
        if self.others:
            more = [f"and {self.unknown - len(self.others)} more"] if self.unknown > len(self.others) else []
            blocks.append("\n".join(["other events:", *self.others, *more]))
        if self.unread:
            blocks.append(self.unread)
        return "\n\n".join(blocks)


def read(data: bytes, content_type: str) -> Transcript:
    """Read a whole stream, or the beginning of one; without content encoding."""
    found = Transcript()
    reader = EventReader(content_type)
    for event in (*reader.feed(data), *reader.finish()):
        for document in _documents(event):
            if not _take(found, event.name, document):
                found.unknown += 1
                if len(found.others) < SHOWN_OTHERS:
                    found.others.append(_as_it_is(event))
    if reader.overflow or reader.failed:
        found.unread = "(an event is too large to be read)" if reader.overflow else "(the rest is no stream of events)"
    return found


def _as_it_is(event: StreamEvent) -> str:
    text = event.data.decode("utf-8", "replace")
    name = f"{event.name}: " if event.name else ""
    return f"{name}{text[:LONGEST_OTHER]}{'…' * (len(text) > LONGEST_OTHER)}"


def _documents(event: StreamEvent) -> Iterator[object]:
    if event.data.strip() == b"[DONE]":
        return
    document = read_json(event.data)
    yield from document if isinstance(document, list) else [document]


def _take(found: Transcript, name: str, document: object) -> bool:
    """Add one event; False when its kind is unknown."""
    if not isinstance(document, dict):
        return False
    stated = document.get("type")
    kind = stated if isinstance(stated, str) and stated else name
    if document.get("error") or kind == "error":
        found.note("error", document.get("error") or document)
        return True
    if isinstance(document.get("choices"), list):
        return _chat(found, document)
    if "candidates" in document or "promptFeedback" in document or "usageMetadata" in document:
        return _gemini(found, document)
    if kind.startswith("response."):
        return _responses(found, kind, document)
    return _anthropic(found, kind, document)


def _chat(found: Transcript, document: dict[str, Any]) -> bool:
    """OpenAI's chat completions, and completions."""
    for choice in _dicts(document["choices"]):
        at = choice.get("index", 0)
        which = f" {at}" if at else ""
        delta = choice.get("delta") if isinstance(choice.get("delta"), dict) else {}
        assert isinstance(delta, dict)
        for key in ("reasoning_content", "reasoning"):
            if isinstance(delta.get(key), str) and delta[key]:
                found.add(("thinking", str(at)), f"thinking{which}", delta[key])
        found.add(("text", str(at)), f"choice{which}" if at else "", delta.get("content") or choice.get("text"))
        if delta.get("refusal"):
            found.add(("refusal", str(at)), f"refusal{which}", delta["refusal"])
        for call in _dicts(delta.get("tool_calls")):
            function = call.get("function") if isinstance(call.get("function"), dict) else {}
            assert isinstance(function, dict)
            found.add(
                ("tool", str(at), str(call.get("index", 0))),
                f"tool call {function.get('name', '')}".rstrip(),
                function.get("arguments"),
            )
        found.note("ended", choice.get("finish_reason"))
    found.note("usage", document.get("usage"))
    return True


def _responses(found: Transcript, kind: str, document: dict[str, Any]) -> bool:
    """OpenAI's responses."""
    item = str(document.get("item_id") or document.get("output_index"))
    match kind:
        case "response.output_text.delta":
            found.add(("text", item, str(document.get("content_index"))), "", document.get("delta"))
        case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
            found.add(("thinking", item, str(document.get("summary_index"))), "thinking", document.get("delta"))
        case "response.refusal.delta":
            found.add(("refusal", item), "refusal", document.get("delta"))
        case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
            found.add(("tool", item), "tool call", document.get("delta"))
        case "response.output_item.added":
            added = document.get("item")
            if isinstance(added, dict) and str(added.get("type", "")).endswith("_call"):
                title = f"tool call {added.get('name') or added['type']}"
                found.add(("tool", str(added.get("id") or document.get("output_index"))), title, "")
        case "response.completed" | "response.incomplete" | "response.failed" | "response.done":
            whole = document.get("response")
            if isinstance(whole, dict):
                found.note("ended", whole.get("status") or kind.removeprefix("response."))
                found.note("because", whole.get("incomplete_details"))
                found.note("error", whole.get("error"))
                found.note("usage", whole.get("usage"))
            else:
                found.note("ended", kind.removeprefix("response."))
        case _:
            return kind in SILENT
    return True


def _anthropic(found: Transcript, kind: str, document: dict[str, Any]) -> bool:
    """Anthropic's messages."""
    at = ("block", str(document.get("index")))
    match kind:
        case "content_block_start":
            block = document.get("content_block")
            block = block if isinstance(block, dict) else {}
            name = str(block.get("type", ""))
            title = "" if name == "text" else f"tool call {block.get('name')}" if block.get("name") else name
            found.add(at, title, block.get("text") or block.get("thinking"))
        case "content_block_delta":
            delta = document.get("delta")
            delta = delta if isinstance(delta, dict) else {}
            found.add(at, "", delta.get("text") or delta.get("thinking") or delta.get("partial_json"))
        case "message_delta":
            delta = document.get("delta")
            found.note("ended", delta.get("stop_reason") if isinstance(delta, dict) else None)
            found.note("usage", document.get("usage"))
        case _:
            return kind in SILENT
    return True


def _gemini(found: Transcript, document: dict[str, Any]) -> bool:
    """Gemini's generateContent, as server-sent events or as one array."""
    for candidate in _dicts(document.get("candidates")):
        at = candidate.get("index", 0)
        content = candidate.get("content")
        for part in _dicts(content.get("parts") if isinstance(content, dict) else None):
            if isinstance(call := part.get("functionCall"), dict):
                title = f"tool call {call.get('name', '')}".rstrip()
                arguments = json.dumps(call.get("args"), ensure_ascii=False)
                found.add(("tool", len(found.parts)), title, arguments)
            elif part.get("thought"):
                found.add(("thinking", str(at)), "thinking", part.get("text"))
            elif isinstance(part.get("text"), str):
                found.add(("text", str(at)), f"candidate {at}" if at else "", part["text"])
            else:
                found.add(("other", len(found.parts)), ", ".join(map(str, part)) or "empty part", "")
        found.note("ended", candidate.get("finishReason"))
    found.note("blocked", document.get("promptFeedback"))
    found.note("usage", document.get("usageMetadata"))
    return True


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
