"""The vendors of the matrix, on this machine: enough of each API for a turn of a program, and every way to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.behaviours import Behaviour, Channel, Seen, drop_before_headers, json_reply, silent, sse
from understudy.demo.answers import (
    PIECES,
    Answers,
    ChatCompletions,
    CountTokens,
    GenerateContent,
    Json,
    Messages,
    Responses,
)

ANSWERS: tuple[tuple[str, Answers], ...] = (
    ("/chat/completions", ChatCompletions()),
    ("/responses", Responses()),
    ("/messages", Messages()),
    ("/messages/count_tokens", CountTokens()),
    (":generateContent", GenerateContent()),
    (":streamGenerateContent", GenerateContent()),
)
NOT_HERE = json_reply(404, {"error": {"message": "not here", "type": "not_found", "code": "not_found"}})
FIRST, SECOND = "FIRST-CANDIDATE", "SECOND-CANDIDATE"
"""What the two vendors answer, once in every piece of a stream, for curl shows those as they come."""
UNSUPPORTED = "The '{}' model is not supported when using this account."


@dataclass(frozen=True)
class Call:
    """A model call as a vendor understands it."""

    answers: Answers
    model: str
    streamed: bool


def call_of(seen: Seen) -> Call | None:
    """The model call in a request; None for anything else."""
    path, _, query = seen.path.partition("?")
    answers = next((answers for tail, answers in ANSWERS if path.endswith(tail)), None)
    if answers is None or seen.method != "POST":
        return None
    try:
        body = seen.json
    except ValueError:
        body = {}
    model = body.get("model") or path.rpartition("/")[2].partition(":")[0]
    return Call(answers, str(model), body.get("stream") is True or "alt=sse" in query)


def speaks(word: str) -> Behaviour:
    """A vendor that answers every model call with this word, and nothing else."""
    text = f"{word}. " * PIECES

    async def behave(channel: Channel, seen: Seen) -> None:
        call = call_of(seen)
        if call is None:
            await NOT_HERE(channel, seen)
        elif call.streamed:
            events = call.answers.stream(call.model, text)
            await sse(*(event.encode() for event in events))(channel, seen)
        else:
            await json_reply(200, call.answers.plain(call.model, _fitting(seen, text)))(channel, seen)

    return behave


def _fitting(seen: Seen, text: str) -> str:
    """What Gemini CLI wants to hear when it asks how hard a turn is: JSON of a schema."""
    choice = {"complexity_reasoning": text, "complexity_score": 60}
    return json.dumps(choice) if b"responseJsonSchema" in seen.body else text


def fails(failure: Failure) -> Behaviour:
    """A vendor that fails every model call in this way, and answers nothing else."""

    async def behave(channel: Channel, seen: Seen) -> None:
        call = call_of(seen)
        await (NOT_HERE if call is None else failure(call))(channel, seen)

    return behave


Failure = Callable[[Call], Behaviour]


def _refused_404(call: Call) -> Behaviour:
    refusal = call.answers.refusal(call.model)
    return json_reply(refusal.status, refusal.body)


def _refused_400(call: Call) -> Behaviour:
    text = UNSUPPORTED.format(call.model)
    body: Json
    match call.answers:
        case Messages():
            body = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
        case GenerateContent():
            body = {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}
        case _:
            body = {"detail": text}
    return json_reply(400, body)


def _limited(call: Call) -> Behaviour:
    body: Json
    match call.answers:
        case Messages():
            error = {"type": "rate_limit_error", "message": "Number of requests has exceeded your rate limit."}
            body = {"type": "error", "error": error}
        case GenerateContent():
            body = {"error": {"code": 429, "message": "Quota exceeded per minute.", "status": "RESOURCE_EXHAUSTED"}}
        case _:
            body = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
    return json_reply(429, body, [("retry-after", "5")])


def _overloaded(call: Call) -> Behaviour:
    overload = call.answers.overload()
    return json_reply(overload.status, overload.body)


def _unauthorized(call: Call) -> Behaviour:
    rejection = call.answers.unauthorized()
    return json_reply(rejection.status, rejection.body)


def _error_first(call: Call) -> Behaviour:
    if not call.streamed:
        return _overloaded(call)
    return sse(*(event.encode() for event in call.answers.broken_stream(call.model)))


NONE = "none"
FAILURES: dict[str, Failure] = {
    NONE: lambda call: speaks(FIRST),
    "404 model": _refused_404,
    "400 unsupported": _refused_400,
    "429, retry-after 5": _limited,
    "529/503": _overloaded,
    "401": _unauthorized,
    "error first": _error_first,
    "dropped": lambda call: drop_before_headers(),
    "silent": lambda call: silent(),
}
"""What the first candidate does with every model call; `NONE` for comparison. 529 is Anthropic's, 503 the others'."""
