"""What the demonstration upstream says: answers, refusals and failures in each dialect's own shape and wording.

Shapes and wordings follow the vendors' public documentation. A stream is a list of events; it is framed and paced by
``upstream``.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import override

Json = dict[str, object]

PIECES = 20
"""How many small pieces a streamed answer comes in."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; ``name`` "" for dialects without event names."""

    data: Json | str
    name: str = ""

    def encode(self) -> bytes:
        """As server-sent event."""
        data = self.data if isinstance(self.data, str) else json.dumps(self.data)
        return (f"event: {self.name}\n" if self.name else "").encode() + f"data: {data}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Failure:
    """An error reply."""

    status: int
    body: Json


def text_of(model: str) -> str:
    """The answer's text: that it is made up, for which model it is, and enough words to watch it stream."""
    return (
        f"This is the demonstration of understudy, not {model}: a made-up answer of the credential that works. Those "
        "before it refused or failed, and the tool did not notice."
    )


def pieces(text: str) -> list[str]:
    """The text in at most ``PIECES`` pieces."""
    size = -(-len(text) // PIECES)
    return [text[start : start + size] for start in range(0, len(text), size)]


class Answers(ABC):
    """One endpoint's way of speaking. ``counts``: it counts tokens and generates nothing."""

    counts = False

    @abstractmethod
    def plain(self, model: str, text: str) -> Json:
        """A whole answer."""

    @abstractmethod
    def stream(self, model: str, text: str) -> list[Event]:
        """A streamed answer."""

    @abstractmethod
    def broken_stream(self, model: str) -> list[Event]:
        """A stream that begins and then fails before any output."""

    @abstractmethod
    def refusal(self, model: str) -> Failure:
        """The model is not there for this credential."""

    @abstractmethod
    def overload(self) -> Failure:
        """Too much to do at the moment."""

    @abstractmethod
    def unauthorized(self) -> Failure:
        """The credential is not known."""


def _openai_error(message: str, kind: str, code: str | None) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class OpenAI(Answers):
    """What both OpenAI endpoints have in common."""

    @override
    def refusal(self, model: str) -> Failure:
        message = f"The model `{model}` does not exist or you do not have access to it."
        return Failure(404, _openai_error(message, "invalid_request_error", "model_not_found"))

    @override
    def overload(self) -> Failure:
        message = "The server is currently overloaded with other requests. Sorry about that! Please try again later."
        return Failure(503, _openai_error(message, "server_error", None))

    @override
    def unauthorized(self) -> Failure:
        return Failure(401, _openai_error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"))


class ChatCompletions(OpenAI):
    """POST /v1/chat/completions."""

    @override
    def plain(self, model: str, text: str) -> Json:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": PIECES, "total_tokens": 5 + PIECES}
        head: Json = {"id": "chatcmpl-demo", "object": "chat.completion", "created": 1767225600, "model": model}
        return {**head, "choices": [choice], "usage": usage}

    def _chunk(self, model: str, delta: Json, finish: str | None = None) -> Event:
        head: Json = {"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 1767225600, "model": model}
        return Event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    @override
    def stream(self, model: str, text: str) -> list[Event]:
        return [
            self._chunk(model, {"role": "assistant", "content": ""}),
            *(self._chunk(model, {"content": piece}) for piece in pieces(text)),
            self._chunk(model, {}, "stop"),
            Event("[DONE]"),
        ]

    @override
    def broken_stream(self, model: str) -> list[Event]:
        return [self._chunk(model, {"role": "assistant", "content": ""}), Event(self.overload().body)]


class Responses(OpenAI):
    """POST /v1/responses."""

    def _response(self, model: str, status: str, output: list[Json], error: Json | None = None) -> Json:
        head: Json = {"id": "resp_demo", "object": "response", "created_at": 1767225600, "model": model}
        return {**head, "status": status, "output": output, "error": error}

    def _message(self, text: str, status: str = "completed") -> Json:
        content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
        return {"id": "msg_demo", "type": "message", "role": "assistant", "status": status, "content": content}

    @override
    def plain(self, model: str, text: str) -> Json:
        usage = {"input_tokens": 5, "output_tokens": PIECES, "total_tokens": 5 + PIECES}
        return {**self._response(model, "completed", [self._message(text)]), "incomplete_details": None, "usage": usage}

    def _events(self, datas: list[Json]) -> list[Event]:
        return [Event({**data, "sequence_number": number}, str(data["type"])) for number, data in enumerate(datas)]

    def _opening(self, model: str) -> list[Json]:
        response = self._response(model, "in_progress", [])
        return [{"type": f"response.{name}", "response": response} for name in ("created", "in_progress")]

    @override
    def stream(self, model: str, text: str) -> list[Event]:
        place: Json = {"item_id": "msg_demo", "output_index": 0, "content_index": 0}
        part: Json = {"type": "output_text", "text": "", "annotations": []}
        whole: Json = {**part, "text": text}
        item, done = self._message("", "in_progress"), self._message(text)
        return self._events(
            [
                *self._opening(model),
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.content_part.added", **place, "part": part},
                *({"type": "response.output_text.delta", **place, "delta": piece} for piece in pieces(text)),
                {"type": "response.output_text.done", **place, "text": text},
                {"type": "response.content_part.done", **place, "part": whole},
                {"type": "response.output_item.done", "output_index": 0, "item": done},
                {"type": "response.completed", "response": self.plain(model, text)},
            ]
        )

    @override
    def broken_stream(self, model: str) -> list[Event]:
        error: Json = {"code": "server_error", "message": "The server had an error while processing your request."}
        failed = self._response(model, "failed", [], error)
        return self._events([*self._opening(model), {"type": "response.failed", "response": failed}])


class Messages(Answers):
    """POST /v1/messages."""

    def _error(self, kind: str, message: str) -> Json:
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_demo"}

    def _message(self, model: str, content: list[Json], reason: str | None) -> Json:
        head: Json = {"id": "msg_demo", "type": "message", "role": "assistant", "model": model, "content": content}
        return {**head, "stop_reason": reason, "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}}

    def _event(self, kind: str, **fields: object) -> Event:
        return Event({"type": kind, **fields}, kind)

    @override
    def plain(self, model: str, text: str) -> Json:
        return self._message(model, [{"type": "text", "text": text}], "end_turn")

    @override
    def stream(self, model: str, text: str) -> list[Event]:
        deltas = ({"type": "text_delta", "text": piece} for piece in pieces(text))
        return [
            self._event("message_start", message=self._message(model, [], None)),
            self._event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            self._event("ping"),
            *(self._event("content_block_delta", index=0, delta=delta) for delta in deltas),
            self._event("content_block_stop", index=0),
            self._event(
                "message_delta",
                delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage={"output_tokens": PIECES},
            ),
            self._event("message_stop"),
        ]

    @override
    def broken_stream(self, model: str) -> list[Event]:
        return [
            self._event("message_start", message=self._message(model, [], None)),
            self._event("ping"),
            Event(self.overload().body, "error"),
        ]

    @override
    def refusal(self, model: str) -> Failure:
        return Failure(404, self._error("not_found_error", f"model: {model}"))

    @override
    def overload(self) -> Failure:
        return Failure(529, self._error("overloaded_error", "Overloaded"))

    @override
    def unauthorized(self) -> Failure:
        return Failure(401, self._error("authentication_error", "invalid x-api-key"))


class CountTokens(Messages):
    """POST /v1/messages/count_tokens."""

    counts = True

    @override
    def plain(self, model: str, text: str) -> Json:
        return {"input_tokens": 5}


class GenerateContent(Answers):
    """POST /v1beta/models/NAME:generateContent and :streamGenerateContent."""

    def _error(self, code: int, message: str, status: str) -> Failure:
        return Failure(code, {"error": {"code": code, "message": message, "status": status}})

    def _chunk(self, model: str, text: str, finish: str | None = None) -> Json:
        candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 5, "totalTokenCount": 5}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "demo"}

    @override
    def plain(self, model: str, text: str) -> Json:
        return self._chunk(model, text, "STOP")

    @override
    def stream(self, model: str, text: str) -> list[Event]:
        *first, last = pieces(text)
        return [*(Event(self._chunk(model, piece)) for piece in first), Event(self._chunk(model, last, "STOP"))]

    @override
    def broken_stream(self, model: str) -> list[Event]:
        return [Event(self._chunk(model, "")), Event(self.overload().body)]

    @override
    def refusal(self, model: str) -> Failure:
        message = (
            f"models/{model} is not found for API version v1beta, or is not supported for generateContent. "
            "Call ListModels to see the list of available models and their supported methods."
        )
        return self._error(404, message, "NOT_FOUND")

    @override
    def overload(self) -> Failure:
        return self._error(503, "The model is overloaded. Please try again later.", "UNAVAILABLE")

    @override
    def unauthorized(self) -> Failure:
        return self._error(401, "API keys are not supported by this API.", "UNAUTHENTICATED")
