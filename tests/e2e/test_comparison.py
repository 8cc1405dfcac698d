"""Whose fault a reply is, through a real mitmdump over TLS: promises J01 to J07."""

from __future__ import annotations

import json
import shutil
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.suspensions.ladder import HOUR

from .authority import Authority
from .behaviours import Behaviour, Gate, json_reply, sse
from .client import End
from .proxy import Proxy
from .stage import CHAT, MESSAGES, RESPONSES, ROUTES, TOOL, Api, Stage, data, pool_yaml, refusal, whole
from .test_commands import Shell, wait_for_state
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
MINE = f"""{ROUTES}
  three-*: [a, b, c]
  wide-*: [a, {{credential: a, model: m2}}, b]
"""
PROMPT = "Tell me about the Aldebaran takeover, codename purple walrus"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where sockets can be: they need a short path."""
    made = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def shell(folder: Path) -> Shell:
    """A user's shell in the session of the proxy."""
    return Shell(folder)


@pytest.fixture(scope="module")
def play(
    tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority, shell: Shell, folder: Path
) -> Iterator[Stage]:
    """One mitmdump with a state file."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        pool = pool_yaml(main, other, MINE, extra=f"state: {{file: {folder / 'state.json'}}}")
        with Proxy(
            tmp_path_factory.mktemp("comparison"),
            confdir,
            trusted=authority.path,
            env=shell.environment,
            pool_yaml=pool,
        ) as proxy:
            yield Stage(proxy, main, other)


def word(alias: str) -> str:
    """A word that no other test has in its errors: numbers do not tell signatures apart."""
    return "flux" + "".join(string.ascii_lowercase[int(digit)] for digit in alias.rpartition("-")[2])


def odd(alias: str, number: int = 1, status: int = 400) -> Behaviour:
    """An error that no rule knows; its number changes from one to the next."""
    return json_reply(status, {"error": {"message": f"Seat {number} has no {word(alias)} today", "type": "seat_error"}})


def odd_in_stream(alias: str) -> Behaviour:
    """The same as the first event of a stream."""
    return sse(data({"error": {"message": f"Seat 1 has no {word(alias)} today", "type": "invalid_request_error"}}))


@both_forms
@both_versions
def test_j01_the_other_one_answers(play: Stage, stream: bool, http2: bool) -> None:
    """J01: the tool sees only that; the first is out for the short step, and its next such reply is not compared."""
    alias = play.alias("far")
    play.play(alias, {"a": odd(alias), "x": whole(CHAT, stream=stream)})
    for _ in range(2):
        response = play.call(CHAT, alias, stream=stream, http2=http2)
        assert response.status == 200
        assert response.end is End.CLEAN
        assert word(alias).encode() not in response.body
    assert play.order(alias) == ["a", "x", "x"]
    play.proxy.wait_for_log(f"second opinion: x {alias} answers the same request, so a {alias} is suspended 30s")


@pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.ask("m", False)[0])
def test_j01_an_error_as_the_first_event(play: Stage, api: Api) -> None:
    """J01: in a stream that has not shown anything yet."""
    alias = play.alias()
    play.play(alias, {api.first: odd_in_stream(alias), api.second: whole(api, stream=True)})
    response = play.call(api, alias, stream=True)
    assert response.status == 200
    assert word(alias).encode() not in response.body
    assert play.order(alias) == [api.first, api.second]


def test_j01_the_answer_streams_live(play: Stage) -> None:
    """J01: its first event is with the tool before its second one is sent."""
    alias = play.alias("far")
    gate = Gate()
    play.play(alias, {"a": odd(alias), "x": sse(CHAT.events[0], gate, *CHAT.events[1:])})
    connection = play.connect(CHAT)
    stream = play.send(connection, CHAT, alias, stream=True)
    assert stream.read_until(b"one")
    gate.open()
    assert b"two" in stream.finish().body
    connection.close()


@both_forms
@both_versions
def test_j02_both_refuse(play: Stage, stream: bool, http2: bool) -> None:
    """J02: the first reply byte for byte, nobody is out, and the next time nobody else is asked."""
    alias = play.alias("pair")
    play.play(alias, {"a": odd(alias, 1), "b": odd(alias, 2)})
    expected = f'{{"error": {{"message": "Seat 1 has no {word(alias)} today", "type": "seat_error"}}}}'.encode()
    for _ in range(2):
        response = play.call(CHAT, alias, stream=stream, http2=http2)
        assert (response.status, response.body) == (400, expected)
        assert "x-should-retry" not in dict(response.headers)
    assert play.order(alias) == ["a", "b", "a"]
    play.proxy.wait_for_log(f"second opinion: b {alias} refuses too, so it is the request's fault")
    play.play(alias, {"a": whole(CHAT, stream=stream)})
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.order(alias)[3:] == ["a"]


@both_forms
@pytest.mark.parametrize("answers", [True, False], ids=["answers", "refuses"])
def test_j02_many_at_once_cost_one_extra_call(play: Stage, stream: bool, answers: bool) -> None:
    """J01, J02, H01: while one call compares, the others wait with their reply in hand; it is theirs, or b answers."""
    alias = play.alias("pair")
    gate, message = Gate(), f"Seat 2 has no {word(alias)} today"
    refuses = json_reply(400, {"error": {"message": message, "type": "seat_error"}}, gate=gate)
    opened = sse(gate, *CHAT.events) if stream else json_reply(200, CHAT.answer, gate=gate)
    first = opened if answers else refuses
    play.play(alias, {"a": odd(alias), "b": [first, whole(CHAT, stream=stream)]})
    with play.connect(CHAT, http2=True) as connection:
        streams = [play.send(connection, CHAT, alias, stream=stream) for _ in range(6)]
        play.main.wait(lambda _: play.order(alias).count("a") == 6 and "b" in play.order(alias))
        assert play.order(alias).count("b") == 1
        gate.open()
        for each in streams:
            response = each.finish()
            assert (response.status, response.end) == (200 if answers else 400, End.CLEAN)
            assert answers or json.loads(response.body)["error"]["message"].startswith("Seat 1 ")
    assert play.order(alias).count("b") == (6 if answers else 1)
    assert "internal error" not in play.proxy.log_text()


def test_j02_a_second_opinion_that_fails_is_not_the_tools_business(play: Stage) -> None:
    """J02: the other one is at its limit: the tool gets the first reply, and the limit is the other one's own."""
    alias = play.alias("pair")
    limit = json_reply(429, {"error": {"message": "Rate limit reached"}}, [("retry-after", "20")])
    play.play(alias, {"a": odd(alias), "b": limit})
    response = play.call(CHAT, alias)
    assert response.status == 400
    assert word(alias).encode() in response.body
    assert play.order(alias) == ["a", "b"]


@both_forms
def test_j03_a_filter_is_not_led_round(play: Stage, stream: bool) -> None:
    """J03: in words that no rule knows."""
    alias = play.alias("pair")
    said = json_reply(403, {"error": {"message": f"Stopped by our trust and safety system, {word(alias)}"}})
    play.play(alias, {"a": said, "b": whole(CHAT, stream=stream)})
    response = play.call(CHAT, alias, stream=stream)
    assert response.status == 403
    assert play.order(alias) == ["a"]


def test_j03_never_where_it_must_not_be(play: Stage) -> None:
    """J03: a token count, a certain verdict, a route that does not want it."""
    counted = play.alias()
    play.play(counted, {"claude-a": odd(counted), "claude-b": json_reply(200, {"input_tokens": 1})})
    assert play.call(MESSAGES, counted, path="/v1/messages/count_tokens").status == 400
    assert play.order(counted) == ["claude-a"]
    certain = play.alias("pair")
    said = json_reply(400, {"error": {"message": "Unknown parameter: 'x'.", "code": "unknown_parameter"}})
    play.play(certain, {"a": said, "b": CHAT.answers()})
    assert play.call(CHAT, certain).status == 400
    assert play.order(certain) == ["a"]
    unwanted = play.alias("sure")
    play.play(unwanted, {"a": odd(unwanted), "b": CHAT.answers()})
    assert play.call(CHAT, unwanted).status == 400
    assert play.order(unwanted) == ["a"]


ALIKE = {
    "a foreign file": (403, {"error": {"message": "{w}: you do not own this file", "type": "permission_error"}}),
    "a too large prompt": (402, {"error": {"message": "{w}: this prompt costs too much"}}),
    "an MCP server": (424, {"error": {"message": "{w}: the tool server did not answer"}}),
}


@both_forms
@pytest.mark.parametrize(("status", "body"), ALIKE.values(), ids=ALIKE)
def test_j04_all_refuse_alike(play: Stage, status: int, body: object, stream: bool) -> None:
    """J04: the next other request is asked at once, and its success frees all of them."""
    alias = play.alias("three")
    said = json_reply(status, json.loads(json.dumps(body).replace("{w}", word(alias))))
    play.play(alias, {"a": said, "b": said, "c": said})
    assert play.call(CHAT, alias, stream=stream).status in (status, 400)  # W07: a 403 is told in our words
    seen = len(play.order(alias))
    assert len(set(play.order(alias))) >= 2
    play.play(alias, {name: whole(CHAT, stream=stream) for name in "abc"})
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert len(play.order(alias)) == seen + 2


@both_forms
def test_j05_another_model_answers_on_that_credential(play: Stage, stream: bool) -> None:
    """J05: 402 for one model takes out that candidate, and the other model of the credential goes on."""
    alias = play.alias("wide")
    play.play("m2", {"a": whole(CHAT, stream=stream)})
    play.play(alias, {"a": whole(CHAT, stream=stream)})
    assert play.call(CHAT, "m2", stream=stream).status == 200
    play.play(alias, {"a": json_reply(402, {"error": {"message": f"{word(alias)} costs more than is left"}})})
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.order(alias) == ["a"]
    assert play.order("m2")[-1] == "a"


def test_j06_learned_signatures_by_command(play: Stage, shell: Shell, folder: Path) -> None:
    """J06: listed, explained, drafted as a rule, in the state file, deleted; no word of the prompt, no secret."""
    alias = play.alias("pair")
    echo = f"Seat 471108154711 has no {word(alias)} for {PROMPT} of {TOOL} and sk-test-a-0123456789abcdef, see https://x.example/y"
    play.play(alias, {name: json_reply(400, {"error": {"message": echo, "type": "seat_error"}}) for name in "ab"})
    asked = json.dumps({"model": alias, "messages": [{"role": "user", "content": PROMPT}]}).encode()
    assert play.call(CHAT, alias, body=asked).status == 400
    assert play.order(alias) == ["a", "b"]
    status, said = shell("learned")
    assert status == 0
    [line] = [each for each in said.splitlines() if word(alias) in each]
    identity = line.split()[0]
    assert "main HTTP 400 seat_error" in line
    assert "the request's fault" in line
    status, shown = shell("learned", "show", identity[:6])
    assert (status, "b refused the same request too" in shown) == (0, True)
    status, draft = shell("learned", "draft", identity)
    assert (status, "label: request_invalid" in draft) == (0, True)
    status, text = shell("status")
    assert (status, "second opinions: " in text) == (0, True)
    state = wait_for_state(folder / "state.json", identity)
    listed = json.dumps(shell.json("learned"))
    assert abs(next(each for each in json.loads(state)["learned"] if each["id"] == identity)["until"]) > HOUR
    for kept in (said, shown, draft, text, state, listed):
        assert [
            each for each in ("aldebaran", "walrus", "purple", "takeover", "471108154711") if each in kept.lower()
        ] == []
        assert not any(secret in kept for secret in (TOOL, "sk-test"))
    status, gone = shell("learned", "forget", identity)
    assert (status, gone.startswith(f"forgotten: {identity}")) == (0, True)
    assert identity not in shell("learned")[1]
    assert play.call(CHAT, alias, body=asked).status == 400
    assert play.order(alias) == ["a", "b", "a", "b"]


RELAYS = {
    "japanese": (400, {"error": {"message": "このグループでは利用できる経路がありません {w}", "type": "relay"}}),
    "russian": (403, {"error": {"message": "Для этой группы нет доступных каналов {w}"}}),
    "portuguese": (400, {"erro": {"mensagem": "Nenhum fornecedor disponível neste plano {w}"}}),
}


@both_forms
@pytest.mark.parametrize(("status", "body"), RELAYS.values(), ids=RELAYS)
def test_j07_relays_in_other_languages(play: Stage, status: int, body: object, stream: bool) -> None:
    """J07: rescued without any rule."""
    alias = play.alias("far")
    said = json_reply(status, json.loads(json.dumps(body).replace("{w}", word(alias))))
    play.play(alias, {"a": said, "x": whole(CHAT, stream=stream)})
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.order(alias) == ["a", "x"]


def test_a_refused_model_is_no_comparison(play: Stage) -> None:
    """A certain verdict goes on as ever."""
    alias = play.alias("pair")
    play.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    assert play.call(CHAT, alias).status == 200
    assert play.order(alias) == ["a", "b"]
