"""Attempts as flows: what mitmproxy's flow list, its dumps and its filters show of a call with replays; O05."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flowfilter, http, io

from .authority import Authority
from .behaviours import Break, encoded, json_reply, silent, sse
from .client import End, request
from .proxy import Proxy, StartProxy
from .stage import APIS, CHAT, ENVIRONMENT, GEMINI, SECRETS, TOOL, Stage, crashes, data, pool_yaml, refusal
from .test_secrets import free_port, leaks
from .upstream import Upstream

SCRIPT = """
import json
HOOKS = ("requestheaders", "request", "responseheaders", "response", "error", "update")

class Counts:
    def __init__(self):
        for name in HOOKS:
            setattr(self, name, lambda flow, name=name: self.note(name, flow))

    def note(self, name, flow):
        with open("hooks.jsonl", "a") as file:
            flows = flow if isinstance(flow, list) else [flow]
            file.write(json.dumps([name, [each.id for each in flows]]) + "\\n")

addons = [Counts()]
"""
"""A user's script that sees every hook there is for flows."""
LIMITED = json_reply(
    429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, [("retry-after", "45")]
)


class Room:
    """A proxy of its own, its flow file read while it runs."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.directory = stage.proxy.directory

    def flows(self, alias: str, count: int) -> list[http.HTTPFlow]:
        """The flows that concern this alias, once there are so many of them, in the order of the file."""
        found: list[http.HTTPFlow] = []

        def there(_: object) -> bool:
            with self.stage.proxy.flow_path.open("rb") as file:
                saved = [each for each in io.FlowReader(file).stream() if isinstance(each, http.HTTPFlow)]
            found[:] = [each for each in saved if facts(each).get("alias") == alias]
            return len(found) >= count

        self.stage.main.wait(there)
        return found

    def journal(self, alias: str) -> dict[str, Any]:
        """The line of the journal about this alias, once it is there."""
        found: list[dict[str, Any]] = []

        def there(_: object) -> bool:
            lines = (self.directory / "journal.jsonl").read_text().splitlines()
            found[:] = [each for each in map(json.loads, lines) if each["alias"] == alias]
            return bool(found)

        self.stage.main.wait(there)
        (line,) = found
        return line

    def hooks(self) -> list[tuple[str, list[str]]]:
        """Which hooks the user's script saw, with the ids of their flows."""
        return [tuple(json.loads(line)) for line in (self.directory / "hooks.jsonl").read_text().splitlines()]


def facts(flow: http.HTTPFlow) -> dict[str, Any]:
    """What we have noted in a flow."""
    return dict(flow.metadata.get("understudy") or {})


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Room]:
    """A mitmdump that saves each flow at once, with a user's script beside the addon."""
    directory = tmp_path_factory.mktemp("room")
    script = tmp_path_factory.mktemp("script") / "counts.py"
    script.write_text(SCRIPT)
    with Upstream(authority) as main, Upstream(authority) as other:
        options: dict[str, Any] = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other)}
        settings = {"pool_journal": "journal.jsonl"}
        with Proxy(directory, confdir, extra_args=["-s", str(script)], settings=settings, **options) as proxy:
            yield Room(Stage(proxy, main, other))


def matching(flows: list[http.HTTPFlow], expression: str) -> list[int]:
    """The places of the flows that one of mitmproxy's filters matches."""
    matches = flowfilter.parse(expression)
    return [place for place, flow in enumerate(flows) if matches(flow)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
def test_o05_an_attempt_is_a_flow(room: Room, api: Any, stream: bool) -> None:
    """O05: the refused attempt beside the tool's flow: request as sent, reply, time, marker, one line, and the link."""
    stage = room.stage
    alias = stage.alias()
    stage.play(alias, {api.first: refusal(api, alias), api.second: api.streams() if stream else api.answers()})
    assert stage.call(api, alias, stream=stream).status == 200
    attempt, tool = room.flows(alias, 2)
    upstream = stage.seen(alias)[0]
    # The request as it was sent, but for the secret.
    sent = {name.lower(): value for name, value in upstream.headers if not name.startswith(":")}
    shown = {name.lower(): value for name, value in attempt.request.headers.items()}
    name, value = api.header(f"<understudy:{api.first}>")
    assert shown.pop(name) == value
    assert sent.pop(name) == api.header(SECRETS[api.first])[1]
    assert shown == sent
    assert (attempt.request.method, attempt.request.path) == (upstream.method, upstream.path)
    assert attempt.request.raw_content == upstream.body
    assert (attempt.request.host, attempt.request.port) == ("localhost", stage.main.tls_port)
    # What came back.
    assert attempt.response is not None
    assert attempt.response.status_code == api.refusal[0]
    assert alias.encode() in (attempt.response.content or b"")
    assert attempt.error is None
    # When, and where.
    assert tool.response is not None
    times = [
        tool.request.timestamp_start,
        attempt.request.timestamp_start,
        attempt.request.timestamp_end or 0.0,
        attempt.response.timestamp_start,
        attempt.response.timestamp_end or 0.0,
        tool.response.timestamp_end or 0.0,
    ]
    assert sorted(times) == times
    assert attempt.server_conn.address == ("localhost", stage.main.tls_port)
    assert attempt.server_conn.timestamp_start is not None
    assert not attempt.live
    # What it was, and whose.
    noted, whole = facts(attempt), facts(tool)
    assert (noted["exchange"], noted["attempt"], noted["flow"]) == (whole["exchange"], 1, tool.id)
    assert (noted["credential"], noted["label"], noted["status"]) == (api.first, "model_unsupported", api.refusal[0])
    # The numbers are places among those of the route that speak the dialect.
    of = whole["of"]
    assert attempt.comment.startswith(f"1/{of} {api.first} {alias}: model_unsupported by ")
    assert re.search(r", suspended (10m|11m)(\d+s)?$", attempt.comment)  # with up to 10 % on top
    assert attempt.marked == "M"
    # The tool's flow has the summary.
    assert tool.marked == ":arrow_right_hook:"
    assert tool.comment.startswith(attempt.comment)
    assert tool.comment.endswith(f"→ 2/{of} {api.second} {alias}: answered")
    assert [(each["number"], each["label"]) for each in whole["tried"]] == [(1, "model_unsupported"), (2, "ok")]
    assert (whole["answer"], whole["credential"], whole["attempts"]) == (2, api.second, 2)
    # Scripts see the call once, and nothing of the attempt.
    seen = [hook for hook, ids in room.hooks() if attempt.id in ids]
    assert seen == []
    calls = [hook for hook, ids in room.hooks() if tool.id in ids and hook != "update"]
    assert calls == ["requestheaders", "request", "responseheaders", "response"]


def test_o05_mitmproxys_own_filters_find_attempts(room: Room) -> None:
    """O05: by exchange, by being an attempt, by label, marker and credential."""
    stage = room.stage
    alias = stage.alias()
    stage.play(alias, {"a": LIMITED, "b": sse(), "c": CHAT.streams()})
    assert stage.call(CHAT, alias, stream=True).status == 200
    # The first one might have been released in the end, so it was written after the second.
    flows = sorted(room.flows(alias, 3), key=lambda flow: facts(flow).get("attempt", 9))
    exchange = facts(flows[-1])["exchange"]
    assert matching(flows, f"~meta {exchange}") == [0, 1, 2]
    assert matching(flows, "~meta \"'attempt':\"") == [0, 1]
    assert matching(flows, f"~meta {exchange} & !~meta \"'attempt':\"") == [2]
    assert matching(flows, "~comment ^1/3.*rate_limited") == [0, 2]
    assert matching(flows, "~marker ^R$") == [0]
    assert matching(flows, "~marker ^F$ & ~e") == [1]
    assert matching(flows, "~marker arrow_right_hook") == [2]
    assert matching(flows, "~hq understudy:b") == [1]
    assert flows[0].comment == f"1/3 a {alias}: rate_limited by general/rate_limited, suspended 45s"
    assert facts(flows[0])["suspended"]["what"] == f"candidate a {alias}"


def test_o05_a_fault_is_the_flows_error(room: Room) -> None:
    """O05: no reply, but the reason, and what had come of one that broke off in the middle."""
    stage = room.stage
    alias = stage.alias("pair")
    stage.play(alias, {"a": sse(CHAT.lifecycle[1]), "b": CHAT.streams()})
    assert stage.call(CHAT, alias, stream=True).status == 200
    attempt, tool = room.flows(alias, 2)
    assert attempt.error is not None
    assert attempt.error.msg == "empty: the stream ended before any output"
    assert attempt.response is not None
    assert attempt.response.content == CHAT.lifecycle[1]
    assert tool.error is None


def test_o05_an_attempt_that_never_got_there(room: Room, mitmdump: StartProxy) -> None:
    """O05: a refused connection: the request that would have been sent, and the address that did not answer."""
    stage = room.stage
    main, other = stage.main, stage.other
    refused = main.refused_url()
    pool = f"""
upstreams:
  gone: {{dialect: openai, url: "{refused}/v1"}}
  main: {{dialect: openai, url: "{main.tls_url}/v1"}}
credentials:
  a: {{upstream: gone, secret: {{env: SECRET_A}}}}
  b: {{upstream: main, secret: {{env: SECRET_B}}}}
routes: {{default: [{{credential: a, model: up}}, b]}}
"""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool)
    own = Stage(proxy, main, other)
    alias = own.alias()
    own.play(alias, {"b": CHAT.answers()})
    assert own.call(CHAT, alias).status == 200
    attempt, _ = (each for each in proxy.flows() if isinstance(each, http.HTTPFlow))
    assert attempt.error is not None
    assert attempt.error.msg.startswith("connect: ")
    assert attempt.response is None
    assert json.loads(attempt.request.content or b"")["model"] == "up"
    assert attempt.server_conn.address == (attempt.request.host, attempt.request.port)
    assert refused.endswith(f":{attempt.request.port}")
    assert attempt.server_conn.timestamp_start is None


def test_o05_what_is_released_in_the_end_is_no_attempt_beside_it(room: Room) -> None:
    """O05: the first refusal goes to the tool: it is shown once, and the others as attempts."""
    stage = room.stage
    alias = stage.alias()
    stage.play(alias, {name: refusal(CHAT, alias) for name in "abc"})
    assert stage.call(CHAT, alias).status == 400
    *attempts, tool = room.flows(alias, 3)
    assert [facts(each)["credential"] for each in attempts] == ["b", "c"]
    assert facts(tool)["answer"] == 1
    assert tool.comment.endswith(f"→ 1/3 a {alias}: released: model_unsupported")


def test_o05_a_better_reply_frees_the_one_held_back(room: Room) -> None:
    """O05: of two refusals the more hopeful one is released, and the other one is shown."""
    stage = room.stage
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": LIMITED})
    assert stage.call(CHAT, alias).status == 429
    attempt, tool = room.flows(alias, 2)
    assert facts(attempt)["credential"] == "a"
    assert facts(tool)["answer"] == 2


def test_o05_an_attempt_that_the_tool_did_not_wait_for(room: Room) -> None:
    """O05, L12: the attempt that was under way is shown as cancelled."""
    stage = room.stage
    alias = stage.alias("pair")
    stage.play(alias, {"a": silent()})
    with stage.connect(CHAT) as tool:
        stage.send(tool, CHAT, alias, stream=True)
        stage.main.wait(lambda _: bool(stage.seen(alias)))
    attempt, call = room.flows(alias, 2)
    assert attempt.comment == f"1/2 a {alias}: cancelled, the tool went away"
    assert attempt.error is not None
    assert facts(attempt)["label"] == "cancelled"
    assert call.error is not None
    assert call.comment == attempt.comment
    assert facts(call)["cancelled"] == f"a {alias}"


# -- the journal for machines ----------------------------------------------------------------------------------------


def test_every_end_of_a_call_is_one_line(room: Room) -> None:
    """One JSON object per exchange: answered, replayed and streamed, cut, answered by ourselves, left by the tool."""
    stage = room.stage
    plain, streamed, cut, gone = (stage.alias("pair") for _ in range(4))
    own = stage.alias("sure")
    stage.play(plain, {"a": CHAT.answers()})
    assert stage.call(CHAT, plain).status == 200
    stage.play(streamed, {"a": refusal(CHAT, streamed), "b": CHAT.streams()})
    assert stage.call(CHAT, streamed, stream=True).status == 200
    stage.play(cut, {"a": sse(CHAT.events[0], ending=Break.CLOSE)})
    assert stage.call(CHAT, cut, stream=True).end is End.CUT
    forbidden = json_reply(403, {"error": {"message": "You are not allowed", "code": "forbidden"}})
    stage.play(own, {"a": forbidden})
    assert stage.call(CHAT, own).status == 400
    stage.play(gone, {"a": silent()})
    with stage.connect(CHAT) as tool:
        stage.send(tool, CHAT, gone, stream=True)
        stage.main.wait(lambda _: bool(stage.seen(gone)))
    answers = {
        "plain": (1, 1, 200),
        "streamed": (2, 2, 200),
        "cut": (1, 1, 200),
        "own": (0, 1, 400),
        "gone": (None, 0, None),
    }
    for name, alias in {"plain": plain, "streamed": streamed, "cut": cut, "own": own, "gone": gone}.items():
        line = room.journal(alias)
        assert (line["answer"], line["attempts"], line.get("status")) == answers[name], name
        assert line["seconds"] >= line.get("released", 0) >= 0
    assert room.journal(streamed)["failing"] <= room.journal(streamed)["released"]
    assert room.journal(cut)["ended"]["label"] == "overloaded"
    assert room.journal(gone)["cancelled"] == f"a {gone}"
    assert (room.directory / "journal.jsonl").stat().st_mode & 0o777 == 0o600


ECHOES: Mapping[str, Any] = {
    "body": json_reply(429, {"error": {"message": f"slow down {SECRETS['a']}", "code": "rate_limit_exceeded"}}),
    "gzip": encoded(429, {"error": {"message": f"slow down {SECRETS['a']}", "code": "rate_limit_exceeded"}}, "gzip"),
    "header": json_reply(429, {"error": {"code": "rate_limit_exceeded"}}, [("x-you-sent", f"Bearer {SECRETS['a']}")]),
    "stream": sse(
        CHAT.lifecycle[1],
        data({"error": {"message": f"busy, {SECRETS['a']}", "type": "server_error", "code": "overloaded"}}),
    ),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_r06_an_attempt_that_echoes_is_masked(room: Room, echo: str) -> None:
    """R06: wherever the upstream of an abandoned attempt repeats the secret, its flow shows the placeholder."""
    stage = room.stage
    alias = stage.alias("pair")
    stage.play(alias, {"a": ECHOES[echo], "b": CHAT.streams() if echo == "stream" else CHAT.answers()})
    assert stage.call(CHAT, alias, stream=echo == "stream").status == 200
    attempt, *_, tool = room.flows(alias, 3 if echo == "stream" else 2)
    assert attempt.response is not None
    text = f"{attempt.response.headers}{attempt.response.get_text(strict=False)}"
    assert "<understudy:a>" in text
    for flow in (attempt, tool):
        assert leaks(f"{flow.get_state()}{flow.comment}", {**SECRETS, "tool": TOOL}) == []


def test_r06_a_reply_that_cannot_be_masked_is_an_attempt(room: Room) -> None:
    """R06, O05: a compressed stream with an echo goes to nobody; the attempt is shown with the placeholder."""
    stage = room.stage
    alias = stage.alias("solo")
    echo = data({"choices": [{"index": 0, "delta": {"content": SECRETS["a"]}}]})
    stage.play(alias, {"a": sse(CHAT.lifecycle[1], echo, encoding="gzip")})
    response = stage.call(CHAT, alias, stream=True)
    assert response.status == 400
    attempt, tool = room.flows(alias, 2)
    assert attempt.response is not None
    assert b"<understudy:a>" in (attempt.response.content or b"")
    assert facts(tool)["answer"] == 0
    for flow in (attempt, tool):
        assert leaks(f"{flow.get_state()}", SECRETS) == []


def test_an_attempt_that_is_replayed_shows_no_placeholder_to_an_upstream(
    room: Room, mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """Law 8: an attempt's flow that is sent again is a call like any other, or is not sent at all."""
    stage = room.stage
    routed, unrouted = stage.alias("pair"), stage.alias("pair")
    attempts = []
    for alias in (routed, unrouted):
        stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
        assert stage.call(CHAT, alias).status == 200
        attempts.append(room.flows(alias, 2)[0])
    file = tmp_path / "attempts.mitm"
    with file.open("wb") as saved:
        for attempt in attempts:
            attempt.request.port = upstream.tls_port
            io.FlowWriter(saved).add(attempt)
    upstream.on(SECRETS["b"], CHAT.answers())
    proxy = mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool_yaml(upstream, other_upstream, f"  {routed}: [b]"),
        settings={"keepserving": "true"},
        extra_args=["-C", str(file)],
    )
    proxy.wait_for_log("carries the placeholder of a saved flow")
    upstream.wait(lambda seen: len(seen) == 1)
    again = [each for each in proxy.flows() if isinstance(each, http.HTTPFlow)]
    assert [each.response.status_code for each in again if each.response] == [200, 400]
    (seen,) = upstream.seen
    assert seen.credential == SECRETS["b"]
    assert "understudy" not in f"{seen.path}{seen.headers}"


def test_attempts_can_be_left_out(mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream) -> None:
    """``pool_attempt_flows=false``: the tool's flow alone, with its summary."""
    proxy = mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool_yaml(upstream, other_upstream),
        settings={"pool_attempt_flows": "false"},
    )
    stage = Stage(proxy, upstream, other_upstream)
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    (flow,) = proxy.flows()
    assert isinstance(flow, http.HTTPFlow)
    assert facts(flow)["attempts"] == 2


def test_o05_mitmweb_and_har_show_attempts(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """O05: in mitmweb's flow list beside the tool's flow, updated before the answer is there, and in the HAR file."""
    har = tmp_path / "all.har"
    proxy = mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool_yaml(upstream, other_upstream),
        program="mitmweb",
        settings={"web_password": "open", "web_port": str(free_port()), "hardump": str(har)}
        | {"pool_keep_streams": "100000"},
    )
    stage = Stage(proxy, upstream, other_upstream)
    alias = stage.alias()
    stage.play(alias, {"gemini-a": refusal(GEMINI, alias), "gemini-b": GEMINI.answers()})
    assert stage.call(GEMINI, alias, anew=True).status == 200
    web = proxy.web_url.partition("?")[0].rstrip("/")
    headers = [("authorization", "Bearer open")]
    listed = json.loads(request(None, f"{web}/flows", "GET", headers).body)
    comments = sorted(each["comment"].partition(":")[0] for each in listed)
    assert comments == [f"1/2 gemini-a {alias}"] * 2
    assert sorted(each["marked"] for each in listed) == ["M", "↪"]
    # The reply as text, below the story.
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.streams()})
    assert stage.call(CHAT, alias, stream=True, anew=True).status == 200
    listed = json.loads(request(None, f"{web}/flows", "GET", headers).body)
    (tool,) = [each for each in listed if each["marked"] == "↪" and alias in each["comment"]]
    shown = json.loads(request(None, f"{web}/flows/{tool['id']}/response/content/auto.json", "GET", headers).body)
    assert shown["view_name"] == "understudy"
    lines = shown["text"].splitlines()
    assert f"1  a {alias}  400 model_unsupported by " in shown["text"]
    assert f"2  b {alias}  200 ok by builtin/output" in shown["text"]
    assert "onetwo" in lines
    proxy.stop()
    assert not crashes(proxy)
    entries = json.loads(har.read_text())["log"]["entries"]
    assert [entry["response"]["status"] for entry in entries] == [404, 200, 400, 200]
    # Comments and metadata have no place in mitmproxy's HAR files; whose credential it was tells them apart.
    keys = [{each["name"]: each["value"] for each in entry["request"]["headers"]} for entry in entries]
    assert [each["x-goog-api-key"] for each in keys[:2]] == ["<understudy:gemini-a>", "<understudy:client>"]
