"""Sealed parts of a conversation through a real mitmdump: it moves when its account cannot go on, and comes back.

Each account reads what it has sealed itself and refuses all else, as the vendors do (``tests/support/sealing.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.sealing import Account, Gemini, Json, Messages, RefusedError, Responses, sealed_by

from .authority import Authority
from .behaviours import Behaviour, Channel, Seen, json_reply, sse
from .client import End, Response
from .conftest import Perform
from .proxy import Proxy
from .stage import ENVIRONMENT, GEMINI, MESSAGES, RESPONSES, SECRETS, Api, Stage, crashes, data, pool_yaml
from .test_ends import limited, overloaded
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
ROUTES = """
  default: {candidates: [a, b, claude-a, claude-b, gemini-a, gemini-b], budget: {patience: 0}}
  vendors-*: [claude-x, claude-b]
  stay-*: {candidates: [a, b], sealed: bind, budget: {wait: 0}, actions: {overloaded: {retry_same: 0}}}
  bound-*: {candidates: [a, b], budget: {wait: 0}, actions: {overloaded: {retry_same: 0}}}
"""
OTHER_VENDOR = """
upstreams:
  claude-other: {{dialect: anthropic, url: "{url}"}}
credentials:
  claude-x: {{upstream: claude-other, secret: {{env: SECRET_X}}}}
"""


@pytest.fixture(scope="module")
def sealing(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage with routes for conversations."""
    with Upstream(authority) as main, Upstream(authority) as other:
        pool = pool_yaml(main, other, ROUTES)
        upstreams, credentials = OTHER_VENDOR.format(url=other.tls_url).split("credentials:\n")
        pool = pool.replace("upstreams:\n", upstreams.lstrip("\n"), 1)
        pool = pool.replace("credentials:\n", f"credentials:\n{credentials}", 1)
        options: dict[str, Any] = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool}
        with Proxy(tmp_path_factory.mktemp("sealing"), confdir, **options) as proxy:
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


def answers(account: Account, *calls: tuple[str, Json], text: str = "") -> Behaviour:
    """The account answers: with calls of tools, or with a text, which is its name by default."""

    async def behave(channel: Channel, seen: Seen) -> None:
        try:
            account.take(seen.json)
        except RefusedError as refused:
            await json_reply(400, refused.body)(channel, seen)
            return
        output = account.says(calls, text or f"said by {account.name}")
        streamed = seen.json.get("stream") is True or "alt=sse" in seen.path
        if streamed:
            await sse(*account.stream("m", output), headers=turn_state(account))(channel, seen)
        else:
            await json_reply(200, account.plain("m", output), headers=turn_state(account))(channel, seen)

    return behave


def turn_state(account: Account) -> Sequence[tuple[str, str]]:
    """What Codex' own vendor gives a tool to send back in the same turn."""
    return [("x-codex-turn-state", f"state-of-{account.name}")] if isinstance(account, Responses) else []


@dataclass
class Tool:
    """A tool with a conversation: it sends back all that it was told, as it came, in JSON of its own spacing."""

    stage: Stage
    api: Api
    alias: str
    stream: bool

    def __post_init__(self) -> None:
        self.history: list[Json] = []
        self.sent = b""
        self.state = ""

    def ask(self, text: str) -> Response:
        """A new turn of its user."""
        role = {"role": "user"}
        said: Json = {**role, "parts": [{"text": text}]} if self.api is GEMINI else {**role, "content": text}
        self.history.append(said)
        return self.send()

    def send(self) -> Response:
        """Send the conversation, and take the answer into it."""
        path, asked = self.api.ask(self.alias, self.stream)
        name = {"responses": "input", "gemini": "contents"}.get(self.kind, "messages")
        asked = {**asked, name: self.history}
        if self.kind == "messages":
            asked |= {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
        self.sent = json.dumps(asked, separators=(" , ", " :")).encode()
        headers = [("x-codex-turn-state", self.state)] if self.state else []
        response = self.stage.call(self.api, self.alias, stream=self.stream, path=path, body=self.sent, headers=headers)
        if response.status == 200:
            assert response.end is End.CLEAN
            self.take(response)
            self.state = response.header("x-codex-turn-state")
        return response

    @property
    def kind(self) -> str:
        return "responses" if self.api is RESPONSES else "gemini" if self.api is GEMINI else "messages"

    def take(self, response: Response) -> None:
        """Remember the answer, and do what it asks for."""
        output = self.output(response)
        match self.kind:
            case "responses":
                self.history += output
                calls = [each for each in output if each["type"] == "function_call"]
                self.history += [
                    {"type": "function_call_output", "call_id": each["call_id"], "output": "done"} for each in calls
                ]
            case "messages":
                self.history.append({"role": "assistant", "content": output})
                results = [
                    {"type": "tool_result", "tool_use_id": each["id"], "content": "done"}
                    for each in output
                    if each["type"] == "tool_use"
                ]
                self.history += [{"role": "user", "content": results}] if results else []
            case _:
                # As Google's SDK for Python does it: as bytes, and then in the other alphabet of base64.
                for part in output:
                    if "thoughtSignature" in part:
                        part["thoughtSignature"] = part["thoughtSignature"].translate(str.maketrans("+/", "-_"))
                self.history.append({"role": "model", "parts": output})
                done = [
                    {"functionResponse": {"name": each["functionCall"]["name"], "response": {"ok": True}}}
                    for each in output
                    if "functionCall" in each
                ]
                self.history += [{"role": "user", "parts": done}] if done else []

    def output(self, response: Response) -> list[Json]:
        """What the answer holds."""
        if not self.stream:
            whole: Json = json.loads(response.body)
        else:
            lines = response.body.decode().splitlines()
            said = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
            match self.kind:
                case "responses":
                    return list(said[-1]["response"]["output"])
                case "gemini":
                    return [part for each in said for part in each["candidates"][0]["content"]["parts"]]
            return _blocks(said)
        match self.kind:
            case "responses":
                return list(whole["output"])
            case "gemini":
                return list(whole["candidates"][0]["content"]["parts"])
        return list(whole["content"])


def _blocks(said: Sequence[Json]) -> list[Json]:
    blocks: list[Json] = []
    for each in said:
        match each["type"]:
            case "content_block_start":
                blocks.append(dict(each["content_block"]))
            case "content_block_delta":
                for key, value in each["delta"].items():
                    if key == "partial_json":
                        blocks[-1]["input"] = json.loads(value)
                    elif key != "type":
                        blocks[-1][key] += value
    return blocks


def is_cut_out_of(sent: bytes, body: bytes) -> bool:
    """Whether a body is what the tool sent with some of it missing, and nothing added."""
    left = iter(sent)
    return all(byte in left for byte in body)


LIMIT = 1.0
"""Seconds: the route has no patience, so that the next candidate is asked at once."""
APIS = {
    "responses": (RESPONSES, Responses, "a", "b"),
    "messages": (MESSAGES, Messages, "claude-a", "claude-b"),
    "gemini": (GEMINI, Gemini, "gemini-a", "gemini-b"),
}


@both_forms
@pytest.mark.parametrize("api", APIS)
def test_e01_e02_a_conversation_moves_goes_on_and_comes_back(sealing: Stage, api: str, stream: bool) -> None:
    """E01, E02, E06: A is limited in the middle of a turn with parallel tool calls: B answers without what A sealed,
    and goes on; then B is limited, and A has its own parts back. Nobody gets what it cannot read, the rest is whole."""
    spoken, kind, first, second = APIS[api]
    alias = sealing.alias("move")
    a, b = kind("a"), kind("b")
    calls = [("ls", {"path": "."}), ("cat", {"path": "x"})]
    sealing.play(
        alias,
        {
            first: [answers(a, *calls), limited(LIMIT), answers(a)],
            second: [
                *([answers(b)] if api != "messages" else [answers(b), answers(b)]),
                *(answers(b, ("ls", {"path": "/"})), answers(b), limited(60)),
            ],
        },
    )
    tool = Tool(sealing, spoken, alias, stream)
    assert tool.ask("look around").status == 200
    moved = tool.send()
    assert (moved.status, "said by b" in moved.body.decode()) == (200, True)
    if api != "messages":  # the same upstream is taken to read it, and says that it cannot
        body = sealing.seen(alias)[-1].body
        assert is_cut_out_of(tool.sent, body) or api == "gemini"  # there a word stands in the place of a signature
        assert sealed_by(body.decode()) == []
    assert tool.ask("go on").status == 200
    assert tool.send().status == 200
    back = tool.ask("and now?")
    assert (back.status, "said by a" in back.body.decode()) == (200, True)
    # Thinking is taken to be read within one upstream, so each account is asked once before it is known better.
    refused = ([second], [first]) if api == "messages" else ([], [])
    assert sealing.order(alias) == [first, first, *refused[0], *[second] * 4, *refused[1], first]
    assert (a.read, b.read[0], b.read[-1]) == ([set(), {"a"}], set(), {"b"})
    last = sealing.seen(alias)[-1].body
    assert set(sealed_by(tool.sent.decode())) == {"a", "b"}
    assert sealed_by(last.decode()).count("a") == sealed_by(tool.sent.decode()).count("a")
    if api == "responses":
        assert is_cut_out_of(tool.sent, last)


@both_forms
def test_e01_the_account_of_a_conversation_has_used_up_its_quota(perform: Perform, stream: bool) -> None:
    """E01: what the issue is about: the quota ends in turn 2, B answers, turn 3 goes on with B; log, comment, journal
    and metrics count one move, and hold neither a seal nor a secret."""
    stage = perform(routes="  default: [a, b]", settings={"pool_journal": "journal.jsonl"})
    alias = stage.alias()
    a, b = Responses("a"), Responses("b")
    quota = json_reply(
        429,
        {
            "error": {
                "message": "You exceeded your current quota.",
                "type": "insufficient_quota",
                "code": "insufficient_quota",
            }
        },
    )
    stage.play(alias, {"a": [answers(a, ("ls", {})), quota], "b": answers(b)})
    tool = Tool(stage, RESPONSES, alias, stream)
    assert tool.ask("look").status == 200
    assert tool.send().status == 200
    assert tool.ask("more").status == 200
    assert stage.order(alias) == ["a", "a", "b", "b"]
    assert b.read == [set(), {"b"}]
    stage.proxy.wait_for_log("the conversation moves from a without 1 sealed part")
    stage.proxy.wait_for_log("without 1 sealed part that it cannot read")  # the last call's, after its answer
    log = stage.proxy.log_text()
    assert log.count("the conversation moves from a") == 1
    journal = (stage.proxy.directory / "journal.jsonl").read_text()
    noted = [json.loads(line) for line in journal.splitlines()]
    assert [each.get("moved") for each in noted] == [None, {"from": "a", "to": "b"}, None]
    assert [tried.get("left_out") for each in noted for tried in each["tried"]] == [None, None, 1, 1]
    # Law 8: what was sealed is for the account alone, and a secret stands nowhere.
    for written in (log, journal):
        assert "sealed-by" not in written
        assert not [name for name, secret in SECRETS.items() if secret in written]
    # E04: the state of A's turn did not reach B, and B's own came back to it.
    states = [seen.header("x-codex-turn-state") for seen in stage.seen(alias)]
    assert states == ["", "state-of-a", "", "state-of-b"]


@both_forms
def test_e02_thinking_of_another_vendor_does_not_reach_anthropics_account(sealing: Stage, stream: bool) -> None:
    """E02: an upstream of another vendor has signed it: it goes without being refused first, and thinking with it."""
    alias = sealing.alias("vendors")
    x, b = Messages("x"), Messages("b")
    sealing.play(alias, {"x": [answers(x, ("ls", {})), limited(60)], "claude-b": answers(b)})
    tool = Tool(sealing, MESSAGES, alias, stream)
    assert tool.ask("look").status == 200
    assert tool.send().status == 200
    assert sealing.order(alias) == ["x", "x", "claude-b"]
    body = json.loads(sealing.seen(alias)[-1].body)
    assert body["thinking"] == {"type": "disabled"}
    assert [each["type"] for each in body["messages"][1]["content"]] == ["tool_use"]


@both_forms
@pytest.mark.parametrize("api", APIS)
def test_e03_a_refusal_of_sealed_state_is_repeated_without_it(sealing: Stage, api: str, stream: bool) -> None:
    """E03: the account refuses what it is sent: the same one is asked once more without, nobody is suspended, and the
    next turn goes without at once."""
    spoken, kind, first, _ = APIS[api]
    alias = sealing.alias("move")
    a = kind("a")
    sealing.play(alias, {first: answers(a)})
    tool = Tool(sealing, spoken, alias, stream)
    foreign = kind("zz").says([], "said by nobody here")
    tool.ask("hello")
    role: Json = {"role": "model", "parts": foreign} if api == "gemini" else {"role": "assistant", "content": foreign}
    tool.history += foreign if api == "responses" else [role]
    assert tool.ask("go on").status == 200
    assert sealing.order(alias) == [first] * 3
    assert tool.ask("go on").status == 200
    assert sealing.order(alias) == [first] * 4
    assert all(owners <= {"a"} for owners in a.read)
    assert sealing.call(spoken, alias, stream=stream).status == 200
    assert sealing.order(alias)[-1] == first


def test_e05_a_route_can_keep_a_call_with_its_account(sealing: Stage) -> None:
    """E05, P04: `sealed: bind`: the tool gets the account's own error, and is told what binds the call."""
    alias = sealing.alias("stay")
    a, b = Responses("a"), Responses("b")
    sealing.play(alias, {"a": [answers(a), overloaded(), limited(60)], "b": answers(b)})
    tool = Tool(sealing, RESPONSES, alias, False)
    assert tool.ask("hello").status == 200
    assert tool.ask("go on").status == 503
    assert sealing.order(alias) == ["a", "a"]
    assert b.read == []


def test_p04_what_cannot_move_says_so(sealing: Stage) -> None:
    """P04: the account is suspended: the answer of understudy names what binds the call, and to whom."""
    alias = sealing.alias("bound")
    known = f"resp_{alias.replace('-', '')}0123456789abcdef"
    good = json_reply(200, {**dict(RESPONSES.answer), "id": known})  # type: ignore[call-overload]
    sealing.play(alias, {"a": [good, limited(60)], "b": RESPONSES.answers()})
    assert sealing.call(RESPONSES, alias).status == 200
    path, asked = RESPONSES.ask(alias, False)
    body = json.dumps({**asked, "previous_response_id": known}).encode()
    assert sealing.call(RESPONSES, alias, path=path, body=body).status == 429
    refused = sealing.call(RESPONSES, alias, path=path, body=body)
    told = f"b {alias}: not asked: previous_response_id {known[:16]}… belongs to a"
    assert told in json.loads(refused.body)["error"]["message"]
    assert sealing.order(alias) == ["a", "a"]


def test_an_error_in_a_stream_can_refuse_sealed_state(sealing: Stage) -> None:
    """E03: the Responses API may say so in an event, after `response.created`."""
    alias = sealing.alias("move")
    a = Responses("a")
    error = {"code": "invalid_encrypted_content", "message": "The encrypted content gAAA could not be verified."}
    failed = sse(*RESPONSES.lifecycle, data({"type": "response.failed", "response": {"id": "r", "error": error}}))
    sealing.play(alias, {"a": [answers(a), failed, answers(a)]})
    tool = Tool(sealing, RESPONSES, alias, True)
    assert tool.ask("hello").status == 200
    assert tool.ask("go on").status == 200
    assert sealing.order(alias) == ["a", "a", "a"]
    assert a.read == [set(), set()]
