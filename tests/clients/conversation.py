"""A conversation of a real program: it calls a tool twice, with sealed reasoning; its first account fails in between.

The first account answers the first call with a call of a tool, and fails from then on. The second one goes on: it calls
the tool again, and then says the word that the program has to print. Each account refuses what the other one has
sealed, and what its API demands and does not get (``tests/support/sealing.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.clients.vendors import NOT_HERE, Call, Failure, call_of
from tests.e2e.behaviours import Behaviour, Channel, Seen, drop_before_headers, json_reply, sse
from tests.support.sealing import Account, Gemini, Json, Messages, RefusedError, Responses
from understudy.demo import answers as demo

TOOLS: dict[str, Json] = {
    "exec": {"custom": "text('hello')"},
    "exec_command": {"cmd": "echo hello"},
    "shell_command": {"command": "echo hello"},
    "shell": {"command": ["sh", "-c", "echo hello"]},
    "Bash": {"command": "echo hello", "description": "Say hello"},
    "bash": {"command": "echo hello", "description": "Say hello"},
    "list_directory": {"dir_path": "."},
    "run_shell_command": {"command": "echo hello", "description": "Say hello"},
    "say_hello": {"name": "you"},
}
"""The tools that programs offer, each with arguments that do no harm; the first one that is there is called."""
ROUNDS = 2
"""How often the tool is called."""
SCHEMAS = ("parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema")
"""Where a tool says what it takes; the last one is Google's SDK for Python."""
RESULTS = ("function_call_output", "custom_tool_call_output", "tool_result", "functionResponse")


def _quota(call: Call) -> Behaviour:
    message = "You exceeded your current quota, please check your plan and billing details."
    body: Json
    match call.answers:
        case demo.Messages():
            text = "Your credit balance is too low to access the Anthropic API."
            body = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
            return json_reply(400, body)
        case demo.GenerateContent():
            body = {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED"}}
        case _:
            body = {"error": {"message": message, "type": "insufficient_quota", "code": "insufficient_quota"}}
    return json_reply(429, body)


def faults(failures: dict[str, Failure]) -> dict[str, Failure]:
    """How the first account fails in the second turn."""
    wanted = {"429": "429, retry-after 5", "401": "401", "model gone": "404 model"}
    found = {name: failures[whose] for name, whose in wanted.items()}
    return {"quota": _quota, **found, "drop": lambda call: drop_before_headers()}


def dicts_in(value: object) -> Iterator[Json]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from dicts_in(each)


def tool_of(body: Json) -> tuple[str, Json, str] | None:
    """The tool to call: its name, arguments, and namespace ("" without one); None where none of ours is offered."""
    offered: dict[str, str] = {}
    for each in dicts_in(body):
        if each.get("type") == "namespace":
            offered |= {str(tool.get("name")): str(each.get("name")) for tool in each.get("tools", ())}
        elif each.get("type") == "custom":
            offered.setdefault(str(each.get("name")), "")
    for each in dicts_in([body.get("tools"), body.get("input")]):
        name = (each.get("function") or each).get("name")
        if isinstance(name, str) and any(schema in each for schema in SCHEMAS):
            offered.setdefault(name, "")
    return next(((name, TOOLS[name], offered[name]) for name in TOOLS if name in offered), None)


def rounds_of(body: Json) -> int:
    """How many results of tools a conversation holds."""
    return sum(each.get("type") in RESULTS or "functionResponse" in each for each in dicts_in(body))


class Vendor:
    """An account of every API, under one name. ``failure``: what it does from its second turn on."""

    def __init__(self, name: str, failure: Failure | None = None) -> None:
        self.name = name
        self.word = f"SAID-BY-{name.upper()}"
        self.failure = failure
        self.accounts: dict[str, Account] = {
            "/responses": Responses(name),
            "/messages": Messages(name),
            "Content": Gemini(name),
        }
        self.turns = 0
        """Calls of the conversation that were answered."""
        self.refused: list[Json] = []
        """What it could not read."""

    async def behave(self, channel: Channel, seen: Seen) -> None:
        """Answer a request."""
        call = call_of(seen)
        path = seen.path.partition("?")[0]
        account = next((each for end, each in self.accounts.items() if path.endswith(end)), None)
        if call is None or account is None:
            await NOT_HERE(channel, seen)
            return
        body = seen.json
        tool, rounds = tool_of(body), rounds_of(body)
        if tool is not None and self.failure is not None and self.turns:
            await self.failure(call)(channel, seen)
            return
        try:
            account.take(body)
        except RefusedError as refused:
            self.refused.append(refused.body)
            await json_reply(400, refused.body)(channel, seen)
            return
        output = account.says([], self.text(body))
        if tool is not None:
            self.turns += 1
            if rounds < ROUNDS:
                output = account.says([tool[:2]], "")
        if tool is not None and tool[2]:
            output = [
                {**each, "namespace": tool[2]} if str(each.get("type")).endswith("_call") else each for each in output
            ]
        if call.streamed:
            await sse(*account.stream(call.model, output))(channel, seen)
        else:
            await json_reply(200, account.plain(call.model, output))(channel, seen)

    def text(self, body: Json) -> str:
        """The last word; for Gemini CLI, which asks how hard a turn is, JSON of a schema."""
        choice: dict[str, Any] = {"complexity_reasoning": self.word, "complexity_score": 60}
        return json.dumps(choice) if "responseJsonSchema" in json.dumps(body) else self.word


def judged(first: Vendor, second: Vendor, output: str) -> str:
    """What is wrong with a conversation, "" when nothing is."""
    if second.word not in output:
        return "no answer"
    if not first.turns:
        return "the first account was not asked"
    if second.turns < ROUNDS:
        return f"{second.turns} turns with the second account"
    return ""
