"""What goes over the wire in the benchmark: small requests and replies in the shape of the OpenAI chat API."""

from __future__ import annotations

import json

PATH = "/v1/chat/completions"
JSON_ALIAS = "json-model"
STREAM_ALIAS = "stream-model"
PAIR_PREFIX = "pair-"
"""Aliases that start with this have a refusing candidate and then a working one; each is a model of its own."""
SOLO_PREFIX = "solo-"
"""Aliases that start with this have the working candidate only."""
TOOL_SECRET = "sk-tool-own-0123456789abcdef"

WORDS = "It was said that the proxy works, and nothing else was said. "

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "json-model",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "It works."}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    },
    separators=(",", ":"),
)
REFUSAL = json.dumps(
    {
        "error": {
            "message": "The model `gpt-next` does not exist or you do not have access to it.",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }
)


def call_body(alias: str, size: int = 0) -> str:
    """A call that is not streamed; its prompt has ``size`` bytes, or says a few words."""
    # Words, as a prompt has: one letter again and again would be scanned faster than any text.
    prompt = (WORDS * (size // len(WORDS) + 1))[:size] if size else "Does it work?"
    return json.dumps({"model": alias, "messages": [{"role": "user", "content": prompt}]})


def stream_body(events: int, rate: float, group: str = "", size: int = 0) -> str:
    """A streamed call. The upstream opens with two events and then sends ``events`` more.

    ``rate``: events per second, 0 for as fast as they are taken. ``group`` and ``size``: go on after the opening only
    when that many streams of the group are open.
    """
    wanted = {"events": events, "rate": rate, "group": group, "size": size}
    messages = [{"role": "user", "content": "Does it work?"}]
    return json.dumps({"model": STREAM_ALIAS, "stream": True, "messages": messages, "benchmark": wanted})


def request(port: int, body: str) -> bytes:
    """A whole HTTP/1.1 request to a server on loopback."""
    content = body.encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOOL_SECRET}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
