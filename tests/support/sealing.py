"""Vendors that seal: an account of each API that reads what it has sealed itself, refuses what another one has, and
keeps to the rules of its API about what may be missing. Plain and as a stream; used by the e2e tests and the matrix of
real programs.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

SEAL = re.compile(r"sealed-by-([a-z0-9]+)-(\d{4})-end")
"""How a sealed part ends."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{60,}")
_STANDARD = str.maketrans("-_", "+/")

type Json = dict[str, Any]


def sealed_by(text: str) -> list[str]:
    """Who has sealed the parts in a text, one name a part. What is sealed may be base64, of either alphabet."""
    found = [each[1] for each in SEAL.finditer(text)]
    for each in _BASE64.finditer(text):
        word = each[0][: len(each[0]) // 4 * 4].translate(_STANDARD)
        found += [each[1] for each in SEAL.finditer(base64.b64decode(word).decode("latin-1"))]
    return found


def event(value: Json, name: str = "") -> bytes:
    """One event of a stream."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {json.dumps(value)}\n\n".encode()


class RefusedError(Exception):
    """The account refuses a request, with status 400 and this body."""

    def __init__(self, body: Json) -> None:
        super().__init__(json.dumps(body))
        self.body = body


class Account(ABC):
    """An account of one API. ``name``: lower-case letters and digits."""

    _numbers = itertools.count(1)  # no two parts of a session are the same

    def __init__(self, name: str) -> None:
        self.name = name
        self.read: list[set[str]] = []
        """Of each request that was not refused, who had sealed the parts in it."""

    def seal(self) -> str:
        """A new sealed part."""
        return f"{'gAAAAABm' * 12}sealed-by-{self.name}-{next(Account._numbers):04d}-end"

    def take(self, body: Json) -> None:
        """Read a request. Raises RefusedError."""
        sealed = set(sealed_by(json.dumps(body)))
        if sealed - {self.name}:
            raise RefusedError(self.cannot_read())
        self.check(body)
        self.read.append(sealed)

    @abstractmethod
    def cannot_read(self) -> Json:
        """The refusal of what another account has sealed."""

    @abstractmethod
    def check(self, body: Json) -> None:
        """Raise RefusedError for a request that lacks what the API demands."""

    @abstractmethod
    def says(self, calls: Sequence[tuple[str, Json]], text: str) -> list[Json]:
        """The output of an answer: sealed reasoning, and calls of tools (name, arguments) or a text."""

    @abstractmethod
    def plain(self, model: str, output: list[Json]) -> Json:
        """The answer as a whole."""

    @abstractmethod
    def stream(self, model: str, output: list[Json]) -> list[bytes]:
        """The answer as events."""


class Responses(Account):
    """OpenAI's Responses API, with ``store: false``."""

    def cannot_read(self) -> Json:
        why = "Encrypted content organization_id did not match the target organization."
        message = f"The encrypted content gAAA...end could not be verified. Reason: {why}"
        code = {"type": "invalid_request_error", "param": None, "code": "invalid_encrypted_content"}
        return {"error": {"message": message, **code}}

    def check(self, body: Json) -> None:
        items = [each for each in body["input"] if isinstance(each, dict)] if isinstance(body["input"], list) else []
        for item in items:
            if item.get("type") == "reasoning" and not item.get("encrypted_content"):
                message = f"Item with id '{item.get('id')}' not found. Items are not persisted."
                raise RefusedError({"error": {"message": message, "type": "invalid_request_error", "code": None}})
        known = {item.get("call_id") for item in items if str(item.get("type", "")).endswith("_call")}
        for item in items:
            if str(item.get("type", "")).endswith("_call_output") and item["call_id"] not in known:
                message = f"No tool call found for function call output with call_id {item['call_id']}."
                raise RefusedError({"error": {"message": message, "type": "invalid_request_error", "code": None}})

    def says(self, calls: Sequence[tuple[str, Json]], text: str) -> list[Json]:
        seal = self.seal()
        number = seal[-8:-4]
        thought = {"type": "reasoning", "id": f"rs_{self.name}0000{number}", "summary": [], "encrypted_content": seal}
        made: list[Json] = [
            {
                "type": "function_call",
                "id": f"fc_{self.name}{at:04d}{number}",
                "call_id": f"call_{self.name}{at:04d}{number}",
                "name": name,
                "arguments": json.dumps(arguments),
                "status": "completed",
            }
            for at, (name, arguments) in enumerate(calls)
        ]
        for at, (_, arguments) in enumerate(calls):
            if "custom" in arguments:  # a tool whose input is a text
                made[at] |= {
                    "type": "custom_tool_call",
                    "id": f"ctc_{made[at]['id'][3:]}",
                    "input": arguments["custom"],
                }
                del made[at]["arguments"]
        said = {
            "type": "message",
            "id": f"msg_{self.name}0000{number}",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
        return [thought, *(made or [said])]

    def plain(self, model: str, output: list[Json]) -> Json:
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 1}}
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, **details}
        head = {"id": f"resp_{output[0]['id'][3:]}", "object": "response", "created_at": 1, "status": "completed"}
        rest = {"error": None, "incomplete_details": None, "store": False, "usage": usage}
        return {**head, "model": model, "output": output, **rest}

    def stream(self, model: str, output: list[Json]) -> list[bytes]:
        whole = self.plain(model, output)
        events: list[Json] = [
            {"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}}
        ]
        for at, item in enumerate(output):
            place = {"output_index": at, "item_id": item["id"]}
            events.append({"type": "response.output_item.added", "output_index": at, "item": _begun(item)})
            if item["type"] == "message":
                text, inside = item["content"][0]["text"], {**place, "content_index": 0}
                part = {"type": "output_text", "text": "", "annotations": []}
                events += [
                    {"type": "response.content_part.added", **inside, "part": part},
                    {"type": "response.output_text.delta", **inside, "delta": text},
                    {"type": "response.output_text.done", **inside, "text": text},
                    {"type": "response.content_part.done", **inside, "part": {**part, "text": text}},
                ]
            elif item["type"] == "function_call":
                done = {**place, "arguments": item["arguments"]}
                events += [
                    {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]},
                    {"type": "response.function_call_arguments.done", **done},
                ]
            events.append({"type": "response.output_item.done", "output_index": at, "item": item})
        events.append({"type": "response.completed", "response": whole})
        return [event({**each, "sequence_number": number}, each["type"]) for number, each in enumerate(events)]


def _begun(item: Json) -> Json:
    empty: Json = {"encrypted_content": "", "content": [], "arguments": "", "input": "", "status": "in_progress"}
    return {key: empty.get(key, value) for key, value in item.items()}


class Messages(Account):
    """Anthropic's Messages API with thinking."""

    def cannot_read(self) -> Json:
        message = "messages.1.content.0: Invalid `signature` in `thinking` block"
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}

    def check(self, body: Json) -> None:
        turn: list[Json] = []
        for message in reversed(body["messages"]):
            blocks = message["content"] if isinstance(message["content"], list) else []
            if message["role"] == "assistant":
                turn = blocks
            elif message["role"] == "user" and {each.get("type") for each in blocks} != {"tool_result"}:
                break
        enabled = isinstance(body.get("thinking"), dict) and body["thinking"].get("type") == "enabled"
        if enabled and turn and turn[0]["type"] not in ("thinking", "redacted_thinking"):
            message = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
            raise RefusedError({"type": "error", "error": {"type": "invalid_request_error", "message": message}})

    def says(self, calls: Sequence[tuple[str, Json]], text: str) -> list[Json]:
        seal = self.seal()
        thought = {"type": "thinking", "thinking": "I think.", "signature": seal}
        made = [
            {"type": "tool_use", "id": f"toolu_{self.name}{at:04d}{seal[-8:-4]}", "name": name, "input": arguments}
            for at, (name, arguments) in enumerate(calls)
        ]
        return [thought, *(made or [{"type": "text", "text": text}])]

    def plain(self, model: str, output: list[Json]) -> Json:
        reason = "tool_use" if output[-1]["type"] == "tool_use" else "end_turn"
        usage = {"input_tokens": 1, "output_tokens": 1}
        head = {"id": f"msg_{self.name}", "type": "message", "role": "assistant", "model": model}
        return {**head, "content": output, "stop_reason": reason, "stop_sequence": None, "usage": usage}

    def stream(self, model: str, output: list[Json]) -> list[bytes]:
        whole = self.plain(model, output)
        events: list[Json] = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}]
        for at, block in enumerate(output):
            match block["type"]:
                case "thinking":
                    begun: Json = {**block, "thinking": "", "signature": ""}
                    deltas: list[Json] = [
                        {"type": "thinking_delta", "thinking": block["thinking"]},
                        {"type": "signature_delta", "signature": block["signature"]},
                    ]
                case "tool_use":
                    begun = {**block, "input": {}}
                    deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
                case _:
                    begun = {**block, "text": ""}
                    deltas = [{"type": "text_delta", "text": block["text"]}]
            events.append({"type": "content_block_start", "index": at, "content_block": begun})
            events += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": at})
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]
        return [event(each, each["type"]) for each in events]


class Gemini(Account):
    """Gemini's generateContent, with thought signatures: bytes, which JSON has as base64 of the standard alphabet."""

    def seal(self) -> str:
        text = super().seal()
        return base64.b64encode(b"\xfb\xff\xbf" * 20 + text.encode() + b"\xfb\xff\xbf" * 2).decode()

    def cannot_read(self) -> Json:
        return {"error": {"code": 400, "message": "Corrupted thought signature.", "status": "INVALID_ARGUMENT"}}

    def check(self, body: Json) -> None:
        for content in body["contents"]:
            calls = [part for part in content["parts"] if "functionCall" in part]
            if calls and not calls[0].get("thoughtSignature"):
                message = "Function call is missing a thought_signature in functionCall parts."
                raise RefusedError({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})

    def says(self, calls: Sequence[tuple[str, Json]], text: str) -> list[Json]:
        made: list[Json] = [{"functionCall": {"name": name, "args": arguments}} for name, arguments in calls]
        parts = made or [{"text": text}]
        parts[0]["thoughtSignature"] = self.seal()
        return parts

    def plain(self, model: str, output: list[Json]) -> Json:
        candidate = {"content": {"role": "model", "parts": output}, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}

    def stream(self, model: str, output: list[Json]) -> list[bytes]:
        chunks = [self.plain(model, [part]) for part in output]
        for chunk in chunks[:-1]:
            del chunk["candidates"][0]["finishReason"]
        return [event(chunk) for chunk in chunks]
