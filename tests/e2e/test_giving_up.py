"""Nothing is left: a tool gives up no later than without understudy, and reads why (A10).

The tools are scripted: how often each tries an error again, after how many seconds, and which headers it obeys was
measured with the real ones (``scripts/test --clients --nothing-left``). They do not sleep; what they would have slept
is added up. Without understudy they meet the same replies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import Behaviour, drop_before_headers, json_reply, sse
from .proxy import Proxy
from .stage import CHAT, ENVIRONMENT, MESSAGES, RESPONSES, Api, Stage, crashes
from .upstream import Upstream


@dataclass(frozen=True)
class Answer:
    """What a tool gets; ``status`` 0: its connection breaks."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def kind(self) -> str:
        """What it is to a tool that decides whether to try again."""
        if self.status == 200:
            return "event"
        if b"overloaded_error" in self.body:
            return "overload"
        return "5xx" if not self.status or self.status >= 500 else str(self.status)


@dataclass(frozen=True)
class Tool:
    """``pauses``: the seconds before each further try, by kind of answer; what is not there is not tried again.

    ``obeys_time``: it sleeps for a Retry-After instead. ``obeys_word``: it stops at ``x-should-retry: false``.
    ``session``: a header for its session; its body then has a number of the try.
    """

    api: Api
    pauses: Mapping[str, Sequence[float]]
    obeys_time: bool = False
    obeys_word: bool = False
    session: str = ""


TWICE, FIVE = (0.5, 1.0), (0.2, 0.4, 0.8, 1.6, 3.2)
LONG = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0, 32.0, 32.0)
DOUBLING = tuple(0.25 * 2**power for power in range(9))
SLOW = (2.0, 4.0, 8.0, 16.0, 30.0)
CODEX = tuple(pause for outer in FIVE for pause in (*FIVE[:4], outer)) + FIVE[:4]
TOOLS = {
    "sdk": Tool(CHAT, dict.fromkeys(("429", "5xx"), TWICE), obeys_time=True, obeys_word=True),
    "aider": Tool(CHAT, dict.fromkeys(("429", "5xx", "event"), DOUBLING)),
    "codex": Tool(RESPONSES, {"5xx": CODEX, "event": FIVE, "401": FIVE}, obeys_time=True, session="session-id"),
    "opencode": Tool(RESPONSES, dict.fromkeys(("429", "5xx", "404", "event"), SLOW), obeys_time=True),
    "claude": Tool(
        MESSAGES, {**dict.fromkeys(("429", "5xx", "401"), LONG), "overload": TWICE}, obeys_time=True, obeys_word=True
    ),
}


def error(api: Api, kind: str, message: str, code: str) -> dict[str, object]:
    """An error in the vendor's shape."""
    if api is MESSAGES:
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def stated(api: Api) -> Answer:
    """What the vendor's limit says; the time is beyond what understudy waits for."""
    document = error(api, "rate_limit_error", "Rate limit reached", "rate_limit_exceeded")
    return Answer(429, {"retry-after": "120"}, json.dumps(document).encode())


def quota(api: Api) -> Answer:
    """The account has nothing left."""
    if api is MESSAGES:
        document = error(
            api, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", ""
        )
        return Answer(400, {}, json.dumps(document).encode())
    document = error(api, "insufficient_quota", "You exceeded your current quota.", "insufficient_quota")
    return Answer(429, {}, json.dumps(document).encode())


def overloaded(api: Api) -> Answer:
    """The vendor has too much to do."""
    document = error(api, "overloaded_error" if api is MESSAGES else "server_error", "The server is overloaded", "")
    return Answer(529 if api is MESSAGES else 503, {}, json.dumps(document).encode())


def rejected(api: Api) -> Answer:
    """The key is not known."""
    document = error(api, "authentication_error", "invalid x-api-key", "invalid_api_key")
    return Answer(401, {}, json.dumps(document).encode())


def missing(api: Api) -> Answer:
    """The model is not there."""
    document = error(api, "not_found_error", "The model does not exist or you do not have access", "model_not_found")
    return Answer(404, {}, json.dumps(document).encode())


MODES: dict[str, tuple[Callable[[Api], Answer], str]] = {
    "404": (missing, "does not exist"),
    "429": (stated, "Rate limit reached"),
    "quota": (quota, "credit balance is too low|exceeded your current quota"),
    "503": (overloaded, "overloaded"),
    "401": (rejected, "rejects the secret: name another one in the pool file"),
    "drop": (lambda api: Answer(0), "closed or reset the connection"),
    "event": (lambda api: Answer(200, {}, b"".join((*api.lifecycle, api.error_event))), "overloaded|Overloaded"),
}
"""How every account answers, and what the person must read at the end."""


def behaviour(answer: Answer) -> Behaviour:
    """The upstream that answers so."""
    if not answer.status:
        return drop_before_headers()
    if answer.status == 200:
        return sse(answer.body)
    return json_reply(answer.status, json.loads(answer.body), list(answer.headers.items()))


def give_up(tool: Tool, ask: Callable[[int], Answer]) -> tuple[int, float, Answer]:
    """Let a tool try until it gives up: its tries, the seconds that it sleeps in between, the last answer."""
    slept, tries = 0.0, 0
    while True:
        answer = ask(tries)
        pauses = tool.pauses.get(answer.kind, ())
        if tries >= len(pauses) or (tool.obeys_word and answer.headers.get("x-should-retry") == "false"):
            return tries + 1, slept, answer
        stated_time = answer.headers.get("retry-after") if tool.obeys_time else None
        slept += float(stated_time) if stated_time else pauses[tries]
        tries += 1


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """Two accounts for each tool and mode, so that what suspends an account or an upstream concerns no other test."""
    with Upstream(authority) as main, Upstream(authority) as other:
        upstreams, credentials, routes = list[str](), list[str](), list[str]()
        for name, tool in TOOLS.items():
            for mode in (mode.replace(" ", "-") for mode in MODES):
                alias = f"{name}-{mode}"
                base = "" if tool.api is MESSAGES else "/v1"
                for number, variable in enumerate(("SECRET_A", "SECRET_B"), 1):
                    own = f"{alias}-{number}"
                    upstreams.append(f'  {own}: {{dialect: {tool.api.dialect}, url: "{main.tls_url}{base}"}}')
                    credentials.append(f"  {own}: {{upstream: {own}, secret: {{env: {variable}}}}}")
                routes.append(f"  {alias}: [{alias}-1, {alias}-2]")
        pool = "\n".join(["upstreams:", *upstreams, "credentials:", *credentials, "routes:", *routes, ""])
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool}
        with Proxy(tmp_path_factory.mktemp("giving-up"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TOOLS)
def test_a10_a_tool_gives_up_no_later_than_without(stage: Stage, name: str, mode: str) -> None:
    """A10: no more tries, no more sleep, no wait of ours, fewer calls of each account, and the reason is read."""
    tool, (vendor, reason) = TOOLS[name], MODES[mode]
    alias, reply = f"{name}-{mode}", vendor(TOOLS[name].api)
    tries, slept, _ = give_up(tool, lambda _: reply)
    stage.play(alias, {"a": behaviour(reply), "b": behaviour(reply)})
    path, body = tool.api.ask(alias, True)

    def ask(number: int) -> Answer:
        numbered = {**body, "metadata": {"try": str(number)}} if tool.session else body
        session = [(tool.session, "one")] if tool.session else []
        sent = json.dumps(numbered).encode()
        response = stage.call(tool.api, alias, stream=True, headers=session, path=path, body=sent)
        return Answer(response.status, {key.lower(): value for key, value in response.headers}, response.body)

    with_it, slept_with_it, last = give_up(tool, ask)
    assert with_it <= tries
    assert slept_with_it <= slept
    order = stage.order(alias)
    assert max(order.count("a"), order.count("b")) <= 2 * tries  # one more for a request, where that may cure it
    assert last.status not in (0, 401, 403)
    assert any(each.encode() in last.body for each in reason.split("|")), last.body


def test_a10_no_try_waits_for_a_suspended_candidate(stage: Stage) -> None:
    """A10: only the first of a tool's tries may wait for a candidate to come back; the others have its own pauses."""
    tool, alias = TOOLS["codex"], "codex-503"
    reply = overloaded(tool.api)
    stage.play(alias, {"a": behaviour(reply), "b": behaviour(reply)})
    waits = []
    for number in range(8):
        body = json.dumps({"model": alias, "input": "hello", "stream": True, "metadata": {"try": str(number)}}).encode()
        assert stage.call(tool.api, alias, stream=True, headers=[("session-id", "two")], body=body).status == 503
        waits.append(stage.proxy.log_text().count("every candidate is suspended"))
    assert set(waits[1:]) == {waits[0]}
