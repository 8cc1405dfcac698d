"""Routes that observe or advise: the tool's call and its reply pass as they came, and the flow says what it meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http, io

from .authority import Authority
from .behaviours import Behaviour, Gate, drop_before_headers, encoded, json_reply, silent, sse
from .client import Connection, End, Response, Stream, request
from .proxy import Proxy, StartProxy
from .stage import APIS, CHAT, ENVIRONMENT, GEMINI, SECRETS, TOOL, Api, Stage, data, pool_yaml, refusal
from .test_attempt_flows import facts
from .test_secrets import FORMS, leaks
from .upstream import Upstream

ROUTES = """
  obs-*: {candidates: [a, b], mode: observe}
  adv-*: {candidates: [a, b], mode: advise}
  turn-*: {candidates: [a, b], mode: advise, strategy: round_robin}
  pair-*: [a, b]
  warm-*: [{credential: a, model: shared}, {credential: b, model: shared}]
  cold-*: {candidates: [{credential: a, model: shared}, {credential: b, model: shared}], mode: advise}
  default: {candidates: [a, claude-a, gemini-a], mode: observe}
"""
LIMITED: dict[str, Any] = {"error": {"message": f"{TOOL} is too fast", "code": "rate_limit_exceeded"}}
EDIT = """
def response(flow):
    if flow.request.headers.get("x-edit"):
        flow.response.text = "edited " + flow.response.text
"""


class Room:
    """A proxy whose routes observe, over an upstream that knows the tool's own credential."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.main = stage, stage.main

    def play(self, alias: str, behaviour: Behaviour) -> None:
        """What the upstream says to the tool's own credential."""
        self.main.on(
            lambda seen: seen.credential == TOOL and alias.encode() in seen.path.encode() + seen.body, behaviour
        )

    def connect(self, *, http2: bool = False) -> Connection:
        """A tool's connection to the upstream that it means."""
        return Connection(self.stage.proxy.port, self.main.tls_url, ca=self.stage.proxy.ca, http2=http2)

    def send(self, tool: Connection, alias: str, *, stream: bool = False, api: Api = CHAT, query: str = "") -> Stream:
        """One call with the tool's own credential."""
        path, body = api.ask(alias, stream)
        header = [] if query else [api.header(TOOL)]
        return tool.send(
            "POST", path + query, [("content-type", "application/json"), *header], json.dumps(body).encode()
        )

    def call(self, alias: str, **options: Any) -> Response:
        """The same, read to its end."""
        with self.connect(http2=options.pop("http2", False)) as tool:
            return self.send(tool, alias, **options).finish()

    def flow(self, alias: str) -> http.HTTPFlow:
        """The only flow about this alias, once it is saved."""
        found: list[http.HTTPFlow] = []

        def there(_: object) -> bool:
            with self.stage.proxy.flow_path.open("rb") as file:
                saved = [each for each in io.FlowReader(file).stream() if isinstance(each, http.HTTPFlow)]
            found[:] = [each for each in saved if facts(each).get("alias") == alias]
            return bool(found)

        self.main.wait(there)
        (flow,) = found
        assert leaks(f"{flow.get_state()}", {**SECRETS, "tool": TOOL}) == []
        return flow

    def log_line(self, alias: str) -> str:
        """What the log says of it."""
        return self.stage.proxy.wait_for_log(rf"(observe|advise) {alias} by .*").group()


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Room]:
    """One proxy for the module."""
    script = tmp_path_factory.mktemp("script") / "edit.py"
    script.write_text(EDIT)
    with Upstream(authority) as main, Upstream(authority) as other:
        options: dict[str, Any] = {"trusted": authority.path, "env": ENVIRONMENT, "extra_args": ["-s", str(script)]}
        options["pool_yaml"] = pool_yaml(main, other, ROUTES)
        options["settings"] = {"pool_journal": "journal.jsonl", "pool_keep_streams": "100000"}
        with Proxy(tmp_path_factory.mktemp("room"), confdir, **options) as proxy:
            yield Room(Stage(proxy, main, other))


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
def test_a_call_passes_as_the_tool_sent_it(room: Room, api: Api, http2: bool) -> None:
    """observe: own credential and model to where the tool meant them; the flow shows the placeholder (R07)."""
    alias = room.stage.alias()
    room.play(alias, api.answers())
    path, body = api.ask(alias, False)
    content = json.dumps(body).encode()
    headers = [("Content-Type", "application/json"), api.header(TOOL), ("x-mine", "1"), FORMS["cookie"]]
    with room.connect(http2=http2) as tool:
        response = tool.request("POST", path, headers, content)
    assert response.body == json.dumps(api.answer).encode()
    (seen,) = [one for one in room.main.seen if alias in f"{one.path}{one.body!r}"]
    assert (seen.path, seen.body) == (path, content)
    got = {name.lower(): value for name, value in seen.headers}
    assert {name.lower(): value for name, value in headers}.items() <= got.items()
    flow = room.flow(alias)
    assert "<understudy:client>" in str(flow.request.headers)
    noted = facts(flow)
    assert (noted["mode"], noted["route"], noted["tried"]) == ("observe", "default", [])
    assert noted["observed"] == {"status": 200, "label": "ok", "rule": "builtin/ok", "evidence": "HTTP 200"}
    assert flow.comment == ""
    assert flow.marked == ""


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_an_error_passes_untouched_and_is_judged(room: Room, encoding: str, http2: bool) -> None:
    """observe, R06: the tool gets the bytes and headers as they came; the record of an echo is masked."""
    alias = room.stage.alias("obs")
    headers = [("retry-after", "90"), ("x-you-sent", f"Bearer {TOOL}")]
    room.play(alias, encoded(429, LIMITED, encoding, headers) if encoding else json_reply(429, LIMITED, headers))
    response = room.call(alias, http2=http2)
    assert response.status == 429
    assert (response.header("retry-after"), response.header("x-you-sent")) == ("90", f"Bearer {TOOL}")
    assert response.header("content-encoding") == encoding
    assert response.end is End.CLEAN
    assert response.header("content-length") == str(len(response.body))
    if not encoding:
        assert response.body == json.dumps(LIMITED).encode()
    flow = room.flow(alias)
    assert flow.response is not None
    assert "<understudy:client> is too fast" in (flow.response.text or "")
    assert facts(flow)["observed"]["label"] == "rate_limited"
    assert "<understudy:client>" in facts(flow)["observed"]["evidence"]
    assert f"observe {alias} by route obs-*: rate_limited by general/rate_limited: HTTP 429" in room.log_line(alias)
    assert "advice" not in facts(flow)
    # Nothing was suspended, and nobody of the pool was asked.
    assert room.stage.order(alias) == [TOOL]


def test_a_stream_passes_live(room: Room) -> None:
    """observe, S01: the first event is there before the second is sent; what was kept of it is masked."""
    alias, gate = room.stage.alias("obs"), Gate()
    echo = data({"choices": [{"index": 0, "delta": {"content": TOOL}}]})
    room.play(alias, sse(*CHAT.lifecycle, CHAT.events[0], gate, echo, *CHAT.events[1:]))
    with room.connect() as tool:
        stream = room.send(tool, alias, stream=True)
        stream.read_until(b"one")
        gate.open()
        response = stream.finish()
    assert response.body == b"".join([*CHAT.lifecycle, CHAT.events[0], echo, *CHAT.events[1:]])
    flow = room.flow(alias)
    assert facts(flow)["observed"]["label"] == "ok"
    assert flow.response is not None
    assert b"<understudy:client>" in (flow.response.content or b"")


@pytest.mark.parametrize("late", [False, True], ids=["before output", "after output"])
def test_an_error_inside_a_stream_is_judged(room: Room, late: bool) -> None:
    """observe, S02, S03: judged after the fact, wherever it stood."""
    alias = room.stage.alias("adv")
    room.play(alias, sse(*CHAT.lifecycle, *([CHAT.events[0]] if late else []), CHAT.error_event))
    assert CHAT.error_event in room.call(alias, stream=True).body
    noted = facts(room.flow(alias))
    assert noted["observed"]["label"] == "overloaded"
    assert noted.get("late", False) is late
    assert ("then" in noted["advice"]) is not late


def test_advice(room: Room) -> None:
    """advise: who would have been asked, what a reply like this leads to; nothing is suspended for real."""
    alias = room.stage.alias("adv")
    room.play(alias, json_reply(429, LIMITED, [("retry-after", "20")]))
    for _ in range(2):  # the second one is told the same
        assert room.call(alias).status == 429
    advice = {"asks": f"a {alias}", "suspends": f"candidate a {alias} for 20s", "then": f"replayed to b {alias}"}
    lines = (room.stage.proxy.directory / "journal.jsonl").read_text().splitlines()
    assert [line["advice"] for line in map(json.loads, lines) if line["alias"] == alias] == [advice] * 2
    line = room.log_line(alias)
    said = (
        f"asked a {alias}, and after a reply like this suspended candidate a {alias} for 20s and replayed to b {alias}"
    )
    assert line.endswith(f"(enforce would have {said})")
    with room.stage.proxy.flow_path.open("rb") as file:
        flows = [each for each in io.FlowReader(file).stream() if facts(each).get("alias") == alias]  # type: ignore[arg-type]
    assert [each.comment for each in flows] == [line] * 2
    assert [each.marked for each in flows] == [":arrow_right_hook:"] * 2


def test_advice_knows_what_is_suspended(room: Room) -> None:
    """advise: suspensions that other routes have earned count, and are not lifted by a good reply."""
    for _ in range(2):
        warm, cold = room.stage.alias("warm"), room.stage.alias("cold")
        room.stage.play("shared", {"a": refusal(CHAT, "shared"), "b": CHAT.answers()})
        room.play(cold, CHAT.answers())
        assert room.stage.call(CHAT, warm).status == 200
        assert room.call(cold).status == 200
        noted = facts(room.flow(cold))
        assert noted["advice"] == {"asks": "b shared"}
        assert noted["skipped"][0]["credential"] == "a"
        assert noted["skipped"][0]["why"].startswith("suspended for model_unsupported by ")
    assert room.stage.order("shared") == ["a", "b", "b"]


def test_advice_turns_no_wheel(room: Room) -> None:
    """advise: a round robin stays where it is, as nobody was asked."""
    alias = room.stage.alias("turn")
    room.play(alias, CHAT.answers())
    for _ in range(2):
        assert room.call(alias).status == 200
    lines = (room.stage.proxy.directory / "journal.jsonl").read_text().splitlines()
    asked = [line["advice"]["asks"] for line in map(json.loads, lines) if line["alias"] == alias]
    assert asked == [f"a {alias}"] * 2


def test_a_fault_is_judged(room: Room) -> None:
    """observe: the tool sees mitmproxy's own answer, the journal a fault."""
    alias = room.stage.alias("obs")
    room.play(alias, drop_before_headers())
    assert room.call(alias).status == 502
    flow = room.flow(alias)
    assert flow.error is not None
    assert facts(flow)["observed"]["label"] == "overloaded"
    assert facts(flow)["observed"]["evidence"].startswith("closed: ")


def test_the_tool_goes_away(room: Room) -> None:
    """observe, L12: nothing is judged, and the journal says so."""
    alias = room.stage.alias("obs")
    room.play(alias, silent())
    with room.connect() as tool:
        room.send(tool, alias, stream=True)
        room.main.wait(lambda seen: any(alias.encode() in one.body for one in seen))
    noted = facts(room.flow(alias))
    assert noted["cancelled"] == "client"
    assert "observed" not in noted


def test_a_key_in_the_query(room: Room) -> None:
    """observe, R04: it reaches its host and no record."""
    alias = room.stage.alias()
    room.play(alias, GEMINI.answers())
    assert room.call(alias, api=GEMINI, query=f"?key={TOOL}&alt=json").status == 200
    (seen,) = [one for one in room.main.seen if alias in one.path]
    assert seen.path.endswith(f"?key={TOOL}&alt=json")
    assert "key=%3Cunderstudy%3Aclient%3E&alt=json" in room.flow(alias).request.path


def test_a_script_of_the_users_still_works(room: Room) -> None:
    """observe: what another addon makes of a reply is what the tool gets, as without understudy."""
    alias = room.stage.alias("obs")
    room.play(alias, json_reply(429, LIMITED))
    path, body = CHAT.ask(alias, False)
    with room.connect() as tool:
        response = tool.request("POST", path, [CHAT.header(TOOL), ("x-edit", "1")], json.dumps(body).encode())
    assert response.body.startswith(b"edited {")
    assert response.header("content-length") == str(len(response.body))


def test_a_saved_flow_is_not_sent(room: Room, mitmdump: StartProxy, tmp_path: Path) -> None:
    """Law 8: a placeholder never leaves, and a route that only observes has nothing else to send."""
    alias = room.stage.alias("obs")
    room.play(alias, CHAT.answers())
    assert room.call(alias).status == 200
    file = tmp_path / "saved.mitm"
    with file.open("wb") as saved:
        io.FlowWriter(saved).add(room.flow(alias))
    before = len(room.main.seen)
    pool = pool_yaml(room.main, room.stage.other, ROUTES)
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool, settings={"keepserving": "true"}, extra_args=["-C", str(file)])
    proxy.wait_for_log("its route only observes")
    (flow,) = proxy.flows()
    assert isinstance(flow, http.HTTPFlow)
    assert flow.response is not None
    assert flow.response.status_code == 400
    assert len(room.main.seen) == before


def test_other_routes_are_served_as_ever(room: Room) -> None:
    """Modes are a route's own: beside those that observe, one that enforces replays."""
    alias = room.stage.alias("pair")
    room.stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    assert room.stage.call(CHAT, alias).status == 200
    assert room.stage.order(alias) == ["a", "b"]
    target = f"{room.main.tls_url}{CHAT.ask(alias, False)[0]}"
    body = json.dumps(CHAT.ask(alias, False)[1]).encode()
    assert (
        request(room.stage.proxy.port, target, headers=[CHAT.header(TOOL)], body=body, ca=room.stage.proxy.ca).status
        == 200
    )
    assert room.stage.order(alias) == ["a", "b", "b"]
