"""A drill through a real mitmdump over TLS: what tools, upstreams, the shell and every record see of it (H12)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flowfilter, http, io

from understudy.control.client import ask

from .authority import Authority
from .behaviours import Gate, sse
from .client import End, request
from .proxy import Proxy
from .stage import CHAT, ENVIRONMENT, GEMINI, MESSAGES, RESPONSES, SECRETS, TOOL, Api, Stage, pool_yaml, whole
from .test_commands import Shell
from .test_secrets import free_port, leaks
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
ROUTES = """
  default: {candidates: [a, x, claude-a, claude-b, gemini-a, gemini-b], budget: {hedge_after: 0.3, silence: 0.3}}
  whole-*: {candidates: [a, x], hold: complete}
  solo-*: [a]
"""


class Room:
    """A proxy that keeps all records there are, and its shell."""

    def __init__(self, stage: Stage, shell: Shell, metrics: int) -> None:
        self.stage, self.shell, self.metrics = stage, shell, metrics
        self.directory = stage.proxy.directory
        self.state = shell.runtime / "state.json"

    @property
    def socket(self) -> Path:
        """That of the proxy, once it is there."""
        found: list[Path] = []

        def there(_: object) -> bool:
            found[:] = (self.shell.runtime / "understudy").glob("*.sock")
            return bool(found)

        self.stage.main.wait(there)
        return found[0]

    def drill(self, *words: str) -> dict[str, Any]:
        """What the command comes to, over the proxy's own socket; a shell takes a second for it."""
        reply = ask(self.socket, "drill", words)
        assert "error" not in reply, reply
        return dict(reply["result"]["drill"])

    def stop(self) -> dict[str, Any]:
        """End the drill; the sum of it."""
        return dict(self.drill("stop")["summary"])

    def status(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return dict(ask(self.socket, "status", [])["result"])

    def flows(self, alias: str, count: int) -> list[http.HTTPFlow]:
        """The saved flows about an alias, once there are so many."""
        found: list[http.HTTPFlow] = []

        def there(_: object) -> bool:
            with self.stage.proxy.flow_path.open("rb") as file:
                saved = [each for each in io.FlowReader(file).stream() if isinstance(each, http.HTTPFlow)]
            found[:] = [each for each in saved if (each.metadata.get("understudy") or {}).get("alias") == alias]
            return len(found) >= count

        self.stage.main.wait(there)
        return found

    def journal(self, alias: str) -> list[dict[str, Any]]:
        """The lines about an alias, once there is one."""
        found: list[dict[str, Any]] = []

        def there(_: object) -> bool:
            lines = (self.directory / "journal.jsonl").read_text().splitlines()
            found[:] = [each for each in map(json.loads, lines) if each["alias"] == alias]
            return bool(found)

        self.stage.main.wait(there)
        return found


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Room]:
    """One mitmdump with a state file, a journal and metrics; sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    shell, port = Shell(folder), free_port()
    settings = {"pool_journal": "journal.jsonl", "pool_metrics_port": str(port), "pool_connect_timeout": "0.5"}
    try:
        with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
            pool = pool_yaml(main, other, ROUTES, extra=f"state: {{file: {folder / 'state.json'}}}")
            with Proxy(
                tmp_path_factory.mktemp("drill"),
                confdir,
                trusted=authority.path,
                env=shell.environment,
                pool_yaml=pool,
                settings=settings,
            ) as proxy:
                yield Room(Stage(proxy, main, other), shell, port)
    finally:
        shutil.rmtree(folder)


def lively(room: Room, api: Api, alias: str, *, stream: bool) -> None:
    """Both candidates of an alias answer well."""
    second = "x" if api.dialect == "openai" else api.second
    room.stage.play(alias, {api.first: whole(api, stream=stream), second: whole(api, stream=stream)})


@both_forms
@pytest.mark.parametrize(
    "kind",
    [
        "dead",
        "timeout",
        "silent",
        "429",
        "429:30",
        "quota",
        "model_unsupported",
        "401",
        "overloaded",
        "error-event",
        "empty",
    ],
)
def test_h12_the_target_fails_and_another_one_answers(room: Room, kind: str, stream: bool) -> None:
    """H12: the tool sees a good answer, the target's upstream sees nothing; then everything is as it was before."""
    stage, alias = room.stage, room.stage.alias()
    lively(room, CHAT, alias, stream=stream)
    room.drill("a", alias, kind)
    for _ in range(2):
        response = stage.call(CHAT, alias, stream=stream)
        assert (response.status, response.end) == (200, End.CLEAN)
        assert b"drill" not in response.body
    assert stage.order(alias) == ["x", "x"]
    summary = room.stop()
    assert (summary["calls"], summary["met"], summary["rescued"], summary["failed"]) == (2, 2, 2, {})
    assert summary["made_up"] >= 1
    assert summary["extra"] == 0
    assert summary["added"][0] <= summary["added"][2]
    assert (summary["hedged"] > 0) is (kind == "silent")
    told = room.status()
    assert [each for each in told["entries"] if each["drill"]] == []
    assert told["drill"] is None
    assert stage.call(CHAT, alias, stream=stream).status == 200
    assert stage.order(alias) == ["x", "x", "a"]


@both_versions
@both_forms
@pytest.mark.parametrize("api", [RESPONSES, MESSAGES, GEMINI], ids=lambda api: api.dialect)
def test_h12_in_every_dialect(room: Room, api: Api, stream: bool, http2: bool) -> None:
    """H12: an error as the first event of a stream, or in its place, of other vendors; also on HTTP/2."""
    stage, alias = room.stage, room.stage.alias()
    lively(room, api, alias, stream=stream)
    room.drill("credential", api.first, "error-event")
    response = stage.call(api, alias, stream=stream, http2=http2)
    room.stop()
    assert (response.status, response.end) == (200, End.CLEAN)
    assert stage.order(alias) == ["x" if api.dialect == "openai" else api.second]


@both_forms
@both_versions
def test_h12_slow_holds_a_real_answer_back(room: Room, stream: bool, http2: bool) -> None:
    """H12: the real upstream is asked and its answer comes late, unless the hedge is faster: then it is cancelled."""
    stage, alias = room.stage, room.stage.alias("solo")
    lively(room, CHAT, alias, stream=stream)
    room.drill("credential", "a", "slow:0.2")
    response = stage.call(CHAT, alias, stream=stream, http2=http2)
    summary = room.stop()
    assert (response.status, response.end) == (200, End.CLEAN)
    assert stage.order(alias) == ["a"]
    assert (summary["late"], summary["made_up"], summary["failed"]) == (1, 0, {})
    assert summary["added"][0] >= 0.2
    alias = stage.alias()
    stage.play(alias, {"a": sse(CHAT.events[0], Gate()), "x": whole(CHAT, stream=True)})
    room.drill("credential", "a", "slow:30")
    response = stage.call(CHAT, alias, stream=True, http2=http2)
    summary = room.stop()
    assert (response.status, response.end) == (200, End.CLEAN)
    assert (summary["rescued"], summary["hedged"], summary["extra"]) == (1, 1, 1)
    stage.main.wait(lambda _: stage.seen(alias)[0].cancelled)


@both_versions
def test_h12_cut_in_the_middle(room: Room, http2: bool) -> None:
    """H12, S04, S12: the tool sees a cut, never a clean end; with `hold: complete` another one answers."""
    stage, alias = room.stage, room.stage.alias("solo")
    stage.play(alias, {"a": sse(*CHAT.events[:1], Gate())})
    room.drill("upstream", "main", "cut")
    response = stage.call(CHAT, alias, stream=True, http2=http2, anew=True)
    assert response.status == 200
    assert response.end is not End.CLEAN
    assert b"one" in response.body
    stage.main.wait(lambda _: stage.seen(alias)[0].cancelled)
    summary = room.stop()
    assert summary["failed"] == {"the reply broke off after its release (overloaded)": 1}
    for stream in (False, True):
        alias = stage.alias("whole")
        lively(room, CHAT, alias, stream=stream)
        room.drill("upstream", "main", "cut")
        response = stage.call(CHAT, alias, stream=stream, http2=http2, anew=True)
        summary = room.stop()
        assert (response.status, response.end) == (200, End.CLEAN)
        assert stage.order(alias)[-1] == "x"
        assert summary["rescued"] == 1


@both_forms
def test_h12_it_is_visible_everywhere(room: Room, stream: bool) -> None:
    """H12, R07: log, status, shell, flows, journal and metrics say so, and nowhere is a secret of it."""
    stage, alias = room.stage, room.stage.alias()
    lively(room, CHAT, alias, stream=stream)
    status, said = room.shell("drill", "upstream", "main", "429", "10m")
    assert status == 0
    assert said.startswith("drill: upstream main: 429 (a rate limit")
    stage.proxy.wait_for_log("a drill begins, for 10m, by .* in a shell: upstream main: 429")
    assert stage.call(CHAT, alias, stream=stream).status == 200
    told = room.status()
    assert (told["drill"]["name"], told["drill"]["summary"]["rescued"]) == ("upstream main: 429", 1)
    assert [(each["scope"], each["drill"]) for each in told["entries"] if each["name"] == "a"] == [("candidate", True)]
    [exchange] = [each for each in told["exchanges"] if each["alias"] == alias]
    assert [(each["credential"], each["drill"]) for each in exchange["tried"]] == [("a", True), ("x", False)]
    attempt, tool = room.flows(alias, 2)
    assert all("drill: upstream main: 429" in each.comment for each in (tool,))
    assert "(drill): rate_limited by" in attempt.comment
    assert [bool(flowfilter.match("~marker ^D$", each)) for each in (attempt, tool)] == [True, True]
    assert attempt.response is not None
    assert attempt.response.headers["x-understudy-drill"] == "429"
    [line] = room.journal(alias)
    assert line["drill"] is True
    assert [each.get("drill") for each in line["tried"]] == ["429", None]
    counted = request(None, f"http://127.0.0.1:{room.metrics}/metrics", "GET").body.decode()
    wanted = 'understudy_attempts_total{credential="a",drill="true",label="rate_limited"}'
    assert wanted in counted
    status, said = room.shell("drill", "--json", "stop")
    assert status == 0
    assert json.loads(said)["drill"]["ended"] > 0
    stage.proxy.wait_for_log("the drill is over after .*, ended by hand: upstream main: 429: 1 call, 1 of them met")
    assert leaks(stage.proxy.log_text() + counted + json.dumps([line, told]), {**SECRETS, "tool": TOOL}) == []
    assert leaks(room.stage.proxy.flow_path.read_bytes(), {**SECRETS, "tool": TOOL}) == []


def test_h12_it_ends_by_itself_and_the_state_file_has_nothing_of_it(room: Room) -> None:
    """H12: after its time it is over, said so, and let go of; neither suspensions nor ladders nor lessons are kept."""
    stage = room.stage
    kept = stage.alias()
    for name, kind in (("credential a", "model_unsupported"), ("credential a", "empty"), ("upstream main", "dead")):
        alias = stage.alias()
        lively(room, CHAT, alias, stream=False)
        room.drill(*name.split(), kind, "0.6")
        assert stage.call(CHAT, alias).status == 200
        stage.proxy.wait_for_log(f"the drill is over after .*: {name}: {kind}: ")
        assert room.status()["entries"] == []
        assert room.drill()["ended"] > 0
    # What is written after it, for another reason, has nothing of it.
    ask(room.socket, "suspend", ["x", kept, "10m"])
    stage.main.wait(lambda _: room.state.exists() and kept in room.state.read_text())
    state = json.loads(room.state.read_text())
    ask(room.socket, "resume", ["x", kept])
    assert [each["name"] for each in state["suspensions"]] == ["x"]
    assert state["ladders"] == []
    assert [each for each in state["learned"] if "drill" in json.dumps(each)] == []


@pytest.mark.parametrize("stream", [True], ids=["streamed"])
def test_h12_a_share_a_session(room: Room, stream: bool) -> None:
    """H12: one call in two, or one session; the others go on at the target as if nothing was."""
    stage = room.stage
    alias = stage.alias()
    lively(room, CHAT, alias, stream=stream)
    room.drill("a", alias, "quota", "--for", "50%")
    for _ in range(4):
        assert stage.call(CHAT, alias, stream=stream).status == 200
    assert room.stop()["calls"] == 2
    assert stage.order(alias) == ["a", "x", "a", "x"]
    alias = stage.alias()
    lively(room, CHAT, alias, stream=stream)
    sessions: Sequence[str] = ("session-of-mine-0001", "session-of-others-2")
    for session in sessions:
        stage.call(CHAT, alias, stream=stream, headers=[("x-session-id", session)])
    room.drill("a", alias, "overloaded", "--session", sessions[0])
    for session in sessions:
        assert stage.call(CHAT, alias, stream=stream, headers=[("x-session-id", session)]).status == 200
    summary = room.stop()
    assert stage.order(alias) == ["a", "a", "x", "a"]
    assert summary["calls"] == 1
    assert summary["moved"] == [{"session": "session-…", "before": f"a {alias}", "now": f"x {alias}"}]
    # Afterwards the session is where it was.
    stage.call(CHAT, alias, stream=stream, headers=[("x-session-id", sessions[0])])
    assert stage.order(alias)[-1] == "a"


def test_h12_what_cannot_be_drilled_is_said(room: Room) -> None:
    """H12: each with what to write instead."""
    for words, expected in (
        (("upstream", "nowhere", "dead"), "there is no upstream `nowhere`"),
        (("upstream", "main"), "how does it fail?"),
        (("upstream", "main", "sad"), "no way to fail: write one of dead, timeout"),
        (("upstream", "main", "dead", "2h"), "an hour at most"),
        (("upstream", "main", "dead", "--for", "0%"), "write `--for 10%`"),
        (("stop",), "no drill runs"),
    ):
        status, said = room.shell("drill", *words)
        assert status == 1
        assert expected in said
    assert "no drill" not in room.shell("drill")[1]  # the last one is told


def test_nothing_of_the_environment_is_needed() -> None:
    """The stage's own secrets are those that are looked for."""
    assert set(ENVIRONMENT.values()) == set(SECRETS.values())
