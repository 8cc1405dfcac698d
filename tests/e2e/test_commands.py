"""Commands against real proxies: from the shell and over mitmweb's API; what a reload and a restart keep (O03, O04)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .authority import Authority
from .behaviours import Gate, json_reply, sse
from .client import request
from .proxy import ROOT, Proxy, StartProxy
from .stage import (
    CHAT,
    ENVIRONMENT,
    GEMINI,
    MESSAGES,
    SECRETS,
    TOOL,
    Api,
    Stage,
    data,
    filled,
    pool_yaml,
    refusal,
    whole,
)
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@dataclass
class Shell:
    """A user's shell: its folder for running proxies, and the command."""

    runtime: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {**ENVIRONMENT, "XDG_RUNTIME_DIR": str(self.runtime)}

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit status, and everything that was said, of `understudy WORDS`."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.runtime),
            "PYTHONPATH": str(ROOT / "addon"),
            **self.environment,
        }
        code = "import sys; from understudy.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=environment,
            cwd=self.runtime,
            capture_output=True,
            text=True,
            timeout=60,
        )
        said = done.stdout + done.stderr
        assert [name for name, secret in SECRETS.items() if secret in said] == []
        return done.returncode, said

    def json(self, command: str, *words: str) -> Any:
        """What a command says in JSON."""
        status, said = self(command, "--json", *words)
        assert status == 0, said
        return json.loads(said)


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """One shell; sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    yield Shell(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def play(
    tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority, shell: Shell
) -> Iterator[Stage]:
    """One mitmdump in that shell's session."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        with Proxy(
            tmp_path_factory.mktemp("commands"),
            confdir,
            trusted=authority.path,
            env=shell.environment,
            pool_yaml=pool_yaml(main, other),
        ) as proxy:
            yield Stage(proxy, main, other)
        assert list((shell.runtime / "understudy").glob("*.sock")) == []


def test_o04_list_explain_suspend_and_resume_from_the_shell(play: Stage, shell: Shell) -> None:
    """O04: what a refusal has suspended is shown with its reason; resumed, the candidate is asked again."""
    alias = play.alias("pair")
    play.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    assert play.call(CHAT, alias).status == 200
    status, said = shell("status")
    assert status == 0
    assert re.search(rf"candidate a {alias}: model_unsupported by general/\w+, for another (1[01]m|9m\d+s)", said), said
    explained = shell.json("explain", alias, "openai")["results"][0]
    assert [(each["credential"], each["state"]) for each in explained["candidates"]] == [
        ("a", "suspended"),
        ("b", "free"),
    ]
    assert explained["candidates"][0]["because"][0]["label"] == "model_unsupported"
    assert shell("pick", alias, "openai") == (0, f"{alias} (openai): b {alias} would be asked (route pair-*)\n")
    told = shell.json("status")
    assert [each["pattern"] for each in told["routes"]][:2] == ["default", "pair-*"]
    (exchange,) = [each for each in told["exchanges"] if each["alias"] == alias]
    assert [(tried["credential"], tried["label"]) for tried in exchange["tried"]] == [
        ("a", "model_unsupported"),
        ("b", "ok"),
    ]
    assert "answered 1 (last " in shell("explain", alias, "openai")[1]
    assert shell("probe", "a", alias)[1].startswith(f"candidate a {alias} will be probed by the next request")
    status, said = shell("resume", "a", alias)
    assert (status, f"candidate a {alias} is back in rotation; it was suspended: model_unsupported" in said) == (
        0,
        True,
    )
    play.play(alias, {"a": CHAT.answers(), "b": CHAT.answers()})
    assert play.call(CHAT, alias).status == 200
    assert play.order(alias) == ["a", "b", "a"]


@both_forms
def test_o04_a_probe_by_hand_that_fails_costs_one_call(play: Stage, shell: Shell, stream: bool) -> None:
    """O04, F14: the next call asks the candidate; refused, it is out again, as long as before and no rung up."""
    alias = play.alias("pair")
    play.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.streams() if stream else CHAT.answers()})

    def held() -> dict[str, Any]:
        (entry,) = [each for each in shell.json("status")["entries"] if each["model"] == alias]
        return dict(entry)

    assert play.call(CHAT, alias, stream=stream).status == 200
    before = held()
    assert shell("probe", "a", alias)[0] == 0
    assert held()["state"] == "half-open"
    for _ in range(4):
        assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.order(alias) == ["a", "b", "a", "b", "b", "b", "b"]
    after = held()
    assert (after["state"], after["step"]) == ("suspended", before["step"])
    assert after["until"] >= before["until"] - 1


def test_o04_suspended_by_hand_is_skipped(play: Stage, shell: Shell) -> None:
    """O04: also where it is the only candidate: then the tool is told who wanted it."""
    alias, only = play.alias("pair"), play.alias("solo")
    play.play(alias, {"a": CHAT.answers(), "b": CHAT.answers()})
    assert shell("suspend", f"a/{alias}", "20m")[0] == 0
    assert play.call(CHAT, alias).status == 200
    assert play.order(alias) == ["b"]
    assert shell("suspend", "a", only, "20m")[0] == 0
    response = play.call(CHAT, only)
    assert response.status == 400
    assert b"by hand, suspended for another 20m: set by" in response.body
    assert play.order(only) == []
    assert shell("resume", "credential", "a")[0] == 0
    assert alias not in shell("status")[1]


@both_forms
def test_f16_a_late_refusal_undoes_no_resume(play: Stage, shell: Shell, stream: bool) -> None:
    """F16: A is resumed by hand while an attempt is under way; that A refuses it is older, and suspends nobody."""
    alias, gate = play.alias("pair"), Gate()
    refusing = json_reply(CHAT.refusal[0], filled(CHAT.refusal[1], alias), gate=gate)
    good = whole(CHAT, stream=stream)
    play.play(alias, {"a": [refusing, good], "b": good})
    with play.connect(CHAT) as tool:
        sent = play.send(tool, CHAT, alias, stream=stream)
        gate.wait_reached()
        for command in (("suspend", "a", alias, "20m"), ("resume", "a", alias)):
            assert shell(*command)[0] == 0
        gate.open()
        assert sent.finish().status == 200
    assert f"candidate a {alias}" not in shell("status")[1]
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.order(alias) == ["a", "b", "a"]


@both_forms
def test_f16_a_late_success_undoes_no_suspension(play: Stage, shell: Shell, stream: bool) -> None:
    """F16: A is suspended by hand while an attempt is under way; that it succeeds proves nothing newer."""
    alias, gate = play.alias("pair"), Gate()
    good = whole(CHAT, stream=stream)
    slow = sse(*CHAT.lifecycle, gate, *CHAT.events) if stream else json_reply(200, CHAT.answer, gate=gate)
    play.play(alias, {"a": [slow, good], "b": good})
    with play.connect(CHAT) as tool:
        sent = play.send(tool, CHAT, alias, stream=stream)
        gate.wait_reached()
        assert shell("suspend", "a", alias, "20m")[0] == 0
        gate.open()
        assert sent.finish().status == 200
    assert f"candidate a {alias}: by hand" in shell("status")[1]
    assert play.call(CHAT, alias, stream=stream).status == 200
    assert play.order(alias) == ["a", "b"]


def test_o04_errors_from_the_shell(play: Stage, shell: Shell) -> None:
    """O04: exit status 1, and what exists."""
    assert shell("suspend", "aa", "gpt-5") == (1, "understudy: there is no credential `aa`: did you mean `a`?\n")
    assert shell("explain", "gpt-5", "opnai")[0] == 1


def test_o02_o03_reload_from_the_shell(play: Stage, shell: Shell) -> None:
    """O02, O03: a broken file is shown with its line and changes nothing; suspensions survive a good one."""
    alias = play.alias("pair")
    assert shell("suspend", "a", alias)[0] == 0
    good = play.proxy.pool_path.read_text()
    play.proxy.write_pool(good.replace("upstreams:", "upstrams:", 1))
    status, said = shell("reload")
    assert (status, "pool.yaml:2: unknown key 'upstrams'" in said) == (1, True)
    play.proxy.write_pool(good)
    status, said = shell("reload")
    assert (status, "are in use" in said) == (0, True)
    assert shell.json("explain", alias, "openai")["results"][0]["candidates"][0]["state"] == "suspended"


def test_the_option_switches_it_off_and_one_of_several_has_to_be_named(
    play: Stage, shell: Shell, mitmdump: StartProxy
) -> None:
    """`pool_control=false`: no socket. With two proxies the shell asks which."""

    def sockets() -> list[Path]:
        return sorted((shell.runtime / "understudy").glob("*.sock"))

    (own,) = sockets()
    assert own.name == f"{play.proxy.pid}.sock"
    quiet = mitmdump(
        env=shell.environment, settings={"pool_control": "false"}, pool_yaml=play.proxy.pool_path.read_text()
    )
    assert sockets() == [own]
    quiet.stop()
    second = mitmdump(env=shell.environment, pool_yaml=play.proxy.pool_path.read_text())
    status, said = shell("status")
    assert status == 2
    assert f"  --pid {play.proxy.pid}  {play.proxy.pool_path}" in said
    assert f"  --pid {second.pid}  {second.pool_path}" in said
    assert shell("status", "--pid", str(second.pid)) == (0, "nothing is suspended\n")
    os.kill(second.pid, signal.SIGKILL)
    second.stop()
    # What it left behind is not taken for a proxy, and is cleaned up.
    assert shell("status")[0] == 0
    assert sockets() == [own]


# -- restart ---------------------------------------------------------------------------------------------------------


def wait_for_state(path: Path, text: str) -> str:
    """Wait until the state file says this."""
    for _ in range(400):
        if path.exists() and text in (said := path.read_text()):
            return said
        time.sleep(0.05)
    raise AssertionError(f"nothing like {text} in {path}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_o03_suspensions_survive_a_restart(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path, number: int
) -> None:
    """O03: after an end, and after a kill; what is written holds no secret (R06)."""
    state = tmp_path / "state.json"
    options: Mapping[str, Any] = {
        "env": ENVIRONMENT,
        "pool_yaml": pool_yaml(upstream, other_upstream, extra=f"state: {{file: {state}}}"),
    }
    first = mitmdump(**options)
    stage = Stage(first, upstream, other_upstream)
    alias = stage.alias("pair")
    echo = f"The model `{alias}` does not exist for {SECRETS['a']}."
    body = {"error": {"message": echo, "type": "invalid_request_error", "param": None, "code": "model_not_found"}}
    stage.play(alias, {"a": json_reply(400, body), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    if number == signal.SIGKILL:
        wait_for_state(state, alias)
    os.kill(first.pid, number)
    first.stop()
    said = wait_for_state(state, alias)
    assert [name for name, secret in {**SECRETS, "tool": TOOL}.items() if secret in said] == []
    assert state.stat().st_mode & 0o777 == 0o600
    second = mitmdump(**options)
    second.wait_for_log(f"1 suspension read from {state}")
    stage.proxy = second
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a", "b", "b"]


PRICES = "prices: {'*': {input: 1, cached: 0.1, output: 10}}"
SESSION = "session-0123456789abcdef-of-a-person"


def taken(model: str, input_tokens: int) -> dict[str, object]:
    """A chat that says what it took, and who made it."""
    usage = {"prompt_tokens": input_tokens, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 50}}
    return {"model": model, "usage": usage}


def answered(api: Api, more: Mapping[str, object]) -> dict[str, object]:
    """A plain answer of an API that says more."""
    assert isinstance(api.answer, dict)
    return {**api.answer, **more}


def test_q03_usage_from_the_shell_and_over_a_restart(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path, shell: Shell
) -> None:
    """Q03, Q04, R07: tokens of plain and streamed calls of three dialects by candidate, day and session, with costs.

    What a replay cost stands apart, the journal says the same, a restart keeps it, and no secret or session is in it.
    """
    state, journal = tmp_path / "state.json", tmp_path / "journal.jsonl"
    pool = pool_yaml(upstream, other_upstream, extra=f"state: {{file: {state}}}")
    pool = pool.replace("  main: {dialect: openai,", f"  main: {{dialect: openai, {PRICES},")
    settings = {"pool_journal": str(journal)}
    proxy = mitmdump(env=shell.environment, pool_yaml=pool, settings=settings)
    stage = Stage(proxy, upstream, other_upstream)
    chat, claude, gemini = (stage.alias(name) for name in ("pair", "claude", "gemini"))
    text = {"choices": [{"index": 0, "delta": {"content": "one"}}]}
    chunks = (data({**text, "model": chat}), data({"choices": [], **taken(chat, 200)}), b"data: [DONE]\n\n")
    empty = json_reply(200, {"choices": [], **taken(chat, 7)})
    stage.play(chat, {"a": [json_reply(200, answered(CHAT, taken("other-2", 100))), sse(*chunks), empty],
                      "b": json_reply(200, answered(CHAT, taken(chat, 300)))})  # fmt: skip
    session = [("x-session-id", SESSION)]
    for stream in (False, True, False):
        assert stage.call(CHAT, chat, stream=stream, headers=session).status == 200
    start = {"type": "message_start", "message": {"model": claude, "usage": {"input_tokens": 40}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
    stop = {"type": "message_stop"}
    stage.play(claude, {"claude-a": sse(*(data(each, str(each["type"])) for each in (start, delta, end, stop)))})
    assert stage.call(MESSAGES, claude, stream=True).status == 200
    counts = {"promptTokenCount": 60, "candidatesTokenCount": 5, "thoughtsTokenCount": 1}
    stage.play(gemini, {"gemini-a": json_reply(200, answered(GEMINI, {"usageMetadata": counts}))})
    assert stage.call(GEMINI, gemini).status == 200

    def usage(*words: str) -> Any:
        return shell.json("usage", "--pid", str(proxy.pid), *words)

    def totals(found: Any) -> dict[tuple[str, str], tuple[int, int, int]]:
        return {
            (row["credential"], row["model"]): (row["spent"]["calls"], row["spent"]["input"], row["spent"]["output"])
            for row in found["rows"]
        }

    expected = {
        ("a", chat): (2, 300, 20),
        ("b", chat): (1, 300, 10),
        ("claude-a", claude): (1, 40, 4),
        ("gemini-a", gemini): (1, 60, 6),
    }
    found = usage()
    assert totals(found) == expected
    (first,) = [row["spent"] for row in found["rows"] if row["credential"] == "a"]
    assert (first["cached"], first["another"], first["lost"], first["lost_input"]) == (100, 1, 1, 7)
    assert first["cost"] == pytest.approx((200 + 100 * 0.1 + 20 * 10) / 1e6)
    sessions = usage("--by", "session", "--since", "today")["rows"]
    assert [row["spent"]["calls"] for row in sessions] == [3]
    status, table = shell("usage", "--pid", str(proxy.pid), "--by", "day", "--since", "1d")
    assert (status, "1 reply that no tool got" in table) == (0, True)
    assert shell("usage", "--pid", str(proxy.pid), "--since", "soon")[0] == 1
    [line] = [each for each in map(json.loads, journal.read_text().splitlines()) if "served_model" in each]
    assert (line["served_model"], line["usage"]["input"], line["usage"]["cached"]) == ("other-2", 100, 50)
    *_, replayed = [each for each in map(json.loads, journal.read_text().splitlines()) if each["alias"] == chat]
    assert [(each["usage"]["input"], each.get("lost", False)) for each in replayed["tried"]] == [
        (7, True),
        (300, False),
    ]
    proxy.stop()
    kept = state.read_text()
    for written in (kept, journal.read_text(), table):
        assert [name for name, secret in {**SECRETS, "tool": TOOL, "s": SESSION}.items() if secret in written] == []
    proxy = mitmdump(env=shell.environment, pool_yaml=pool, settings=settings)
    assert totals(usage()) == expected
    assert [row["session"] for row in usage("--by", "session")["rows"]] == [sessions[0]["session"]]
    proxy.stop()


# -- mitmweb ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody listens on: mitmweb does not say which one it got."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def test_o04_over_mitmwebs_api(mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream) -> None:
    """O04: the commands as mitmweb's page calls them, with its token."""
    pool = pool_yaml(upstream, other_upstream)
    proxy = mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool,
        program="mitmweb",
        settings={"web_password": "open", "web_port": str(free_port())},
    )
    web = proxy.web_url.partition("?")[0].rstrip("/")
    token = ("authorization", "Bearer open")
    # A browser sends the page's cookie in a header as well, to prove that it can read it; the value is its own affair.
    xsrf = "0123456789abcdef" * 2

    def execute(command: str, *words: str) -> Any:
        headers = [token, ("cookie", f"_mitmproxy_xsrf={xsrf}"), ("x-xsrftoken", xsrf)]
        body: dict[str, object] = {"arguments": list(words)}
        response = request(None, f"{web}/commands/{command}", "POST", headers, body)
        assert response.status == 200, response
        return response.json

    listed = request(None, f"{web}/commands", "GET", [token]).json
    assert isinstance(listed, dict)
    assert {
        "pool.status",
        "pool.explain",
        "pool.pick",
        "pool.suspend",
        "pool.resume",
        "pool.probe",
        "pool.reload",
        "pool.json",
    } <= set(listed)
    assert execute("pool.suspend", "a", "pair-web")["value"][0].startswith("candidate a pair-web is suspended by hand")
    assert "candidate a pair-web: by hand" in execute("pool.status")["value"][0]
    assert execute("pool.pick", "pair-web", "openai")["value"] == [
        "pair-web (openai): b pair-web would be asked (route pair-*)"
    ]
    assert "1. a pair-web" in execute("pool.explain", "pair-web", "openai")["value"][1]
    assert json.loads(execute("pool.json", "status")["value"])["entries"][0]["name"] == "a"
    assert execute("pool.resume", "all")["value"] == [
        "candidate a pair-web is back in rotation; it was suspended: by hand"
    ]
    assert execute("pool.reload")["value"][0].endswith("are in use")
    assert execute("pool.resume", "nobody", "x") == {"error": "there is no credential `nobody`: " + (
        "write one of a, b, c, claude-a, claude-b, gemini-a, gemini-b, x, x2"
    )}  # fmt: skip


def test_o04_status_can_be_watched(play: Stage, shell: Shell) -> None:
    """O04: what changes is said when it does, until the proxy or somebody ends it."""
    alias = play.alias("pair")
    code = "import sys; from understudy.cli import main; sys.exit(main())"
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(shell.runtime), "PYTHONPATH": str(ROOT / "addon")}
    with subprocess.Popen(
        [sys.executable, "-c", code, "status", "--watch"],
        env={**environment, **shell.environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline()
            assert shell("suspend", f"a/{alias}", "20m")[0] == 0
            line = next(line for line in watching.stdout if f"candidate a {alias}" in line)
            assert "by hand, for another" in line
        finally:
            watching.terminate()
    assert shell("resume", "a", alias)[0] == 0
