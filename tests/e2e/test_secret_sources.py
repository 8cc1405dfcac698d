"""Secrets that a command prints, and the tool's own credential as a candidate: L06, W07, R05, R06, R07.

One proxy for all of it. Each test has an alias and a credential of its own, as a rejected credential is suspended.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import Behaviour, Gate, Seen, echo_credential, json_reply
from .client import Connection, Response, Stream
from .proxy import Proxy, StartProxy
from .stage import CHAT, ENVIRONMENT, GEMINI, MESSAGES, SECRETS, TOOL, Api, refusal, whole
from .test_secrets import leaks, recorded
from .upstream import Upstream

COMMANDS = (
    "renews",
    "renews-live",
    "repeats",
    "gives-up",
    "many",
    "fails",
    "alone",
    "absent",
    "slow",
    "structured",
    "noisy",
)
"""Credentials whose secret comes from ``./helper NAME``."""
OWN = ("own", "own-429", "own-401", "own-403", "own-two", "own-none", "own-model", "own-echo", "own-far", "own-alone")
"""Credentials that are the tool's own, for the first upstream."""
APART = ("alone", "own-alone", "own-model", "own-401", "own-403")
"""Those of them whose routes look otherwise."""
HELPER = """\
#!/bin/sh
echo run >> "$1.runs"
. "./$1.script"
"""
REJECTED: tuple[int, object] = (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
FORBIDDEN: tuple[int, object] = (
    403,
    {"error": {"message": "Your account is not active", "code": "account_deactivated"}},
)
OTHER_TOOL = "sk-tool-of-somebody-else-0123456789"
B = SECRETS["b"]


def pool_of(main: Upstream, other: Upstream) -> str:
    """The pool: each credential above is the first candidate of its own route, with ``b`` behind it."""
    lines = [
        "upstreams:",
        f"  main: {{dialect: openai, url: {main.tls_url}/v1}}",
        f"  base: {{dialect: openai, url: {main.tls_url}/elsewhere/v1}}",
        f"  other: {{dialect: openai, url: {other.tls_url}/v1}}",
        f"  claude: {{dialect: anthropic, url: {main.tls_url}}}",
        f"  gemini: {{dialect: gemini, url: {main.tls_url}}}",
        "credentials:",
        "  b: {upstream: main, secret: {env: SECRET_B}}",
        *(f"  {name}: {{upstream: main, secret: {{env: SECRET_{name.upper()}}}}}" for name in "ac"),
        "  claude-b: {upstream: claude, secret: {env: SECRET_CLAUDE_B}}",
        *(f"  {name}: {{upstream: main, secret: {{command: [./helper, {name}]}}}}" for name in COMMANDS[:-3]),
        "  slow: {upstream: main, secret: {command: [./helper, slow], timeout: 0.2}}",
        "  structured: {upstream: main, secret: {command: [./helper, structured], ttl: 600}}",
        "  noisy: {upstream: main, secret: {command: [./helper, noisy, sk-written-in-the-pool-file-0123]}}",
        "  absent: {upstream: main, secret: {command: [no-such-program]}}",
        *(f"  {name}: {{upstream: main, secret: client}}" for name in OWN),
        "  away: {upstream: other, secret: client}",
        "  beside: {upstream: base, secret: client}",
        "  own-claude: {upstream: claude, secret: client}",
        "  own-gemini: {upstream: gemini, secret: client}",
        "routes:",
        *(f"  {name}-*: [{name}, b]" for name in (*COMMANDS, *OWN) if name not in APART),
        "  alone-*: [alone]",
        "  own-alone-*: [own-alone]",
        "  own-401-*: [own-401, a]",
        "  own-403-*: [own-403, c]",
        "  own-model-*: [{credential: own-model, model: real-model}, b]",
        "  away-*: [away, beside, b]",
        "  far-*: [away, beside]",
        "  claude-*: [own-claude, claude-b]",
        "  gemini-*: [own-gemini]",
    ]
    text = "\n".join(lines).replace("  absent: {upstream: main, secret: {command: [./helper, absent]}}\n", "")
    return text + "\n"


class Play:
    """A proxy over two upstreams, and the programs that print secrets."""

    _numbers = itertools.count(1)

    def __init__(self, proxy: Proxy, main: Upstream, other: Upstream) -> None:
        self.proxy, self.main, self.other = proxy, main, other
        self.folder = proxy.directory

    def prints(self, name: str, *scripts: str) -> None:
        """What this credential's command does at its first run, its second, ...; the last stays."""
        cases = "".join(f"{number}) {script};; " for number, script in enumerate(scripts[:-1], 1))
        (self.folder / f"{name}.script").write_text(
            f'case $(wc -l < "$1.runs" | tr -d " ") in {cases}*) {scripts[-1]};; esac\n'
        )

    def runs(self, name: str) -> int:
        """How often it was run."""
        path = self.folder / f"{name}.runs"
        return len(path.read_text().split()) if path.exists() else 0

    def alias(self, name: str) -> str:
        """An alias of this credential's route that no other test uses."""
        return f"{name}-{next(Play._numbers)}"

    def on(self, secret: str, alias: str, *behaviours: Behaviour) -> None:
        """What the first upstream does with this secret and alias."""
        self.main.on(lambda seen: seen.credential == secret and alias.encode() in seen.body, *behaviours)

    def send(
        self,
        tool: Connection,
        alias: str,
        *,
        api: Api = CHAT,
        stream: bool = False,
        headers: Sequence[tuple[str, str]] | None = None,
    ) -> Stream:
        """A tool's call on a connection, not waited for."""
        path, body = api.ask(alias, stream)
        sent = [("content-type", "application/json"), *([api.header(TOOL)] if headers is None else headers)]
        return tool.send("POST", path, sent, json.dumps(body).encode())

    def call(
        self,
        alias: str,
        *,
        api: Api = CHAT,
        stream: bool = False,
        headers: Sequence[tuple[str, str]] | None = None,
        at: Upstream | None = None,
        http2: bool = False,
    ) -> Response:
        """A tool's call to the first upstream by its own name, or to another."""
        with Connection(self.proxy.port, (at or self.main).tls_url, ca=self.proxy.ca, http2=http2) as tool:
            return self.send(tool, alias, api=api, stream=stream, headers=headers).finish()

    def seen(self, alias: str) -> list[Seen]:
        """The requests with this alias at both upstreams, in order."""
        both = [one for one in (*self.main.seen, *self.other.seen) if alias.encode() in one.body]
        return sorted(both, key=lambda one: one.time)

    def secrets(self, alias: str) -> list[str]:
        """The secrets of these requests."""
        return [one.credential for one in self.seen(alias)]


def written_pool(directory: Path, main: Upstream, other: Upstream) -> str:
    """The text of the pool file, with the program that it names beside it."""
    (directory / "helper").write_text(HELPER)
    (directory / "helper").chmod(0o700)
    return pool_of(main, other)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Play]:
    """One proxy for the module."""
    directory = tmp_path_factory.mktemp("sources")
    with Upstream(authority) as main, Upstream(authority) as other:
        pool = written_pool(directory, main, other)
        with Proxy(
            directory, confdir, trusted=authority.path, env=ENVIRONMENT, pool_yaml=pool, verbosity="debug"
        ) as proxy:
            yield Play(proxy, main, other)


# -- a command ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "stream"), [("renews", False), ("renews-live", True)])
def test_l06_a_rejected_secret_is_fetched_anew_once(play: Play, name: str, stream: bool) -> None:
    """L06: 401: the command is run once more and the same candidate is tried again; the new secret stays in use."""
    alias, first, second = play.alias(name), f"sk-first-of-{name}-0123", f"sk-second-of-{name}-0123"
    play.prints(name, f"echo {first}", f"echo {second}")
    play.on(first, alias, json_reply(*REJECTED))
    play.on(second, alias, whole(CHAT, stream=stream))
    assert play.call(alias, stream=stream).status == 200
    assert play.secrets(alias) == [first, second]
    assert play.call(alias, stream=stream).status == 200
    assert play.secrets(alias) == [first, second, second]
    assert play.runs(name) == 2


def test_l06_the_same_secret_again_is_not_sent_again(play: Play) -> None:
    """L06: a command with nothing new to say: the next credential, and the rejected one is out of rotation."""
    alias, secret = play.alias("repeats"), "sk-always-the-same-0123"
    play.prints("repeats", f"echo {secret}")
    play.on(secret, alias, json_reply(*REJECTED))
    play.on(B, alias, CHAT.answers())
    assert [play.call(alias).status for _ in range(3)] == [200] * 3
    assert play.secrets(alias) == [secret, B, B, B]
    assert play.runs("repeats") == 2
    play.proxy.wait_for_log("printed the same secret again, which was rejected")


def test_l06_a_second_rejection_is_the_last(play: Play) -> None:
    """L06, law 2: a new secret that is rejected as well: twice and no more, then the next credential."""
    alias = play.alias("gives-up")
    play.prints("gives-up", "echo sk-gives-up-1-0123", "echo sk-gives-up-2-0123", "echo sk-gives-up-3-0123")
    for secret in ("sk-gives-up-1-0123", "sk-gives-up-2-0123"):
        play.on(secret, alias, json_reply(*REJECTED))
    play.on(B, alias, CHAT.answers())
    assert [play.call(alias).status for _ in range(2)] == [200] * 2
    assert play.secrets(alias) == ["sk-gives-up-1-0123", "sk-gives-up-2-0123", B, B]
    assert play.runs("gives-up") == 2


def test_l06_many_requests_share_each_run(play: Play) -> None:
    """L06: twenty requests at once that have no secret yet, and then twenty rejections at once: one run each."""
    alias, first, second = play.alias("many"), "sk-first-of-many-0123", "sk-second-of-many-0123"
    os.mkfifo(play.folder / "gate")
    play.prints("many", f"read line < gate; echo {first}", f"echo {second}")
    rejected = Gate()
    play.on(first, alias, json_reply(*REJECTED, gate=rejected))
    play.on(second, alias, CHAT.answers())
    tools = [Connection(play.proxy.port, play.main.tls_url, ca=play.proxy.ca) for _ in range(20)]
    try:
        streams = [play.send(tool, alias) for tool in tools]
        (play.folder / "gate").write_text("go\n")
        play.main.wait(lambda seen: sum(one.credential == first for one in seen) == 20)
        assert play.runs("many") == 1
        rejected.open()
        assert [stream.finish().status for stream in streams] == [200] * 20
    finally:
        for tool in tools:
            tool.close()
    assert sorted(play.secrets(alias)) == [first] * 20 + [second] * 20
    assert play.runs("many") == 2


def test_l06_a_failing_command_costs_no_attempt(play: Play) -> None:
    """A command that fails: the next credential, the reason in the log, and nothing of what it printed."""
    alias = play.alias("fails")
    play.prints("fails", "echo sk-before-it-failed-0123; echo sk-on-its-way-out-0123 >&2; exit 3")
    play.on(B, alias, CHAT.answers())
    assert play.call(alias).status == 200
    assert play.runs("fails") == 1
    assert play.call(alias).status == 200
    assert play.secrets(alias) == [B] * 2
    play.proxy.wait_for_log(rf"fails {alias}: not sent: the command '.*' ended with status 3: run it by hand")
    assert "sk-before-it-failed-0123" not in play.proxy.log_text()
    assert "sk-on-its-way-out-0123" not in play.proxy.log_text()


@pytest.mark.parametrize(("name", "reason"), [("absent", "could not be started"), ("slow", r"took longer than 0\.2 s")])
def test_a_command_that_is_missing_or_late_is_passed_over(play: Play, name: str, reason: str) -> None:
    alias = play.alias(name)
    play.prints(name, "sleep 600")
    play.on(B, alias, CHAT.answers())
    assert play.call(alias).status == 200
    assert play.secrets(alias) == [B]
    play.proxy.wait_for_log(f"{name} {alias}: not sent: the command .* {reason}")


def test_w03_when_the_command_is_all_there_is_its_failure_is_told(play: Play) -> None:
    """W03: nothing was sent, so the answer is ours, with the candidate and the reason."""
    play.prints("alone", "exit 4")
    response = play.call(play.alias("alone"))
    assert response.status == 400
    assert b"ended with status 4: run it by hand" in response.body
    assert response.header("x-understudy")


def test_json_with_an_expiry_is_kept_until_then(play: Play) -> None:
    """L06: the secret stands inside JSON, as credential helpers print it, and the command is not run per request."""
    alias = play.alias("structured")
    play.prints(
        "structured",
        """echo '{"status": {"token": "sk-in-json-0123456789", "expirationTimestamp": "2999-01-01T00:00:00Z"}}'""",
    )
    play.on("sk-in-json-0123456789", alias, CHAT.answers())
    assert [play.call(alias).status for _ in range(3)] == [200] * 3
    assert play.secrets(alias) == ["sk-in-json-0123456789"] * 3
    assert play.runs("structured") == 1


# -- the tool's own ----------------------------------------------------------------------------------------------------

SENT = [
    ("Authorization", f"Bearer {TOOL}"),
    ("openai-organization", "org-of-the-tool"),
    ("OpenAI-Project", "proj-of-the-tool"),
    ("User-Agent", "tool/1.0"),
    ("Cookie", "session=a-session-of-the-tool-0123; theme=dark"),
    ("x-stainless-lang", "python"),
]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_the_tools_own_goes_out_as_it_was_sent(play: Play, http2: bool) -> None:
    """R05: to the very host that it was meant for, with everything that belongs to it, and to the byte."""
    alias = play.alias("own")
    play.on(TOOL, alias, CHAT.answers())
    assert play.call(alias, headers=SENT, http2=http2).status == 200
    (seen,) = play.seen(alias)
    received = {name.lower(): value for name, value in seen.headers}
    assert {name.lower(): value for name, value in SENT}.items() <= received.items()
    assert json.loads(seen.body) == CHAT.ask(alias, False)[1]


def test_only_the_model_changes(play: Play) -> None:
    """R01: where the candidate names an upstream model."""
    alias = play.alias("own-model")
    play.main.on(TOOL, CHAT.answers())
    assert play.call(alias, headers=SENT).status == 200
    seen = play.main.seen[-1]
    assert seen.body == json.dumps(CHAT.ask("real-model", False)[1]).encode()
    assert seen.credential == TOOL


def test_flags_and_login_of_a_subscription_stay(play: Play) -> None:
    """The tool's bearer token and its flag go together; the pool's credential behind it gets neither."""
    alias, token = play.alias("claude"), "sk-ant-oat01-of-the-tool-0123456789"
    headers = [("authorization", f"Bearer {token}"), ("anthropic-beta", "oauth-2025-04-20,tools-x")]
    play.on(token, alias, json_reply(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}))
    play.on(SECRETS["claude-b"], alias, MESSAGES.answers())
    assert play.call(alias, api=MESSAGES, headers=headers).status == 200
    own, pooled = play.seen(alias)
    assert (own.header("authorization"), own.header("anthropic-beta")) == (
        f"Bearer {token}",
        "oauth-2025-04-20,tools-x",
    )
    assert (pooled.header("authorization"), pooled.header("anthropic-beta")) == ("", "tools-x")
    assert leaks(f"{pooled.headers}", {"tool": token}) == []


def test_r04_a_key_in_the_query_stays_in_the_query(play: Play) -> None:
    """R04: it reaches its own host in its place, and the log shows none of it."""
    alias = play.alias("gemini")
    play.main.on(lambda seen: f"/{alias}:" in seen.path, GEMINI.answers())
    path, body = GEMINI.ask(alias, False)
    with Connection(play.proxy.port, play.main.tls_url, ca=play.proxy.ca) as tool:
        response = tool.request("POST", f"{path}?alt=json&key={TOOL}", [], json.dumps(body).encode())
    assert response.status == 200
    assert play.main.seen[-1].path == f"{path}?alt=json&key={TOOL}"
    assert TOOL not in play.proxy.log_text()


def test_the_pool_takes_over_where_the_tools_own_cannot_go_on(play: Play) -> None:
    """R03, R05: a limit of the tool's own account: the pool answers, and gets nothing of the tool's."""
    alias = play.alias("own-429")
    limited = json_reply(
        429, {"error": {"message": "Rate limit", "code": "rate_limit_exceeded"}}, [("retry-after", "60")]
    )
    play.on(TOOL, alias, limited)
    play.on(B, alias, CHAT.answers())
    assert [play.call(alias, headers=SENT).status for _ in range(2)] == [200] * 2
    assert play.secrets(alias) == [TOOL, B, B]
    for pooled in play.seen(alias)[1:]:
        assert "of-the-tool" not in f"{pooled.headers}"


def test_r05_the_tools_own_never_goes_elsewhere(play: Play) -> None:
    """R05: neither to another host nor below another path; there it is passed over, and used where it was meant for."""
    alias = play.alias("away")
    play.on(B, alias, CHAT.answers())
    play.other.on(lambda seen: alias.encode() in seen.body, CHAT.answers())
    assert play.call(alias).status == 200
    assert play.secrets(alias) == [B]
    assert play.call(alias, at=play.other).status == 200
    assert [(one.credential, one in play.other.seen) for one in play.seen(alias)] == [(B, False), (TOOL, True)]


def test_r05_where_it_cannot_go_is_told(play: Play) -> None:
    """W03, R05: with nothing else to send, the answer is ours and names the place that it was meant for."""
    alias = play.alias("far")
    response = play.call(alias)
    assert response.status == 400
    assert (
        f"the tool meant its own credential for {play.main.tls_url}/v1, and it goes nowhere else"
        in response.body.decode()
    )
    assert play.seen(alias) == []


def test_a_tool_without_a_credential_gets_the_pools(play: Play) -> None:
    alias = play.alias("own-none")
    play.on(B, alias, CHAT.answers())
    for headers in ([], [("authorization", "Bearer")], [("cookie", "theme=dark")]):
        assert play.call(alias, headers=headers).status == 200
    assert play.secrets(alias) == [B] * 3


@pytest.mark.parametrize(("name", "behind", "refused"), [("own-401", "a", REJECTED), ("own-403", "c", FORBIDDEN)])
def test_w07_a_rejection_of_the_tools_own_reaches_the_tool(
    play: Play, name: str, behind: str, refused: tuple[int, object]
) -> None:
    """W07: it is about the tool's own login, so with nothing else to give the tool gets it as it is."""
    alias = play.alias(name)
    play.on(TOOL, alias, json_reply(*refused))
    play.on(SECRETS[behind], alias, json_reply(*REJECTED))
    response = play.call(alias)
    assert (response.status, response.json) == refused
    assert play.secrets(alias) == [TOOL, SECRETS[behind]]


def test_w07_an_only_candidate_that_is_the_tools_own_passes_its_401(play: Play) -> None:
    """W07, W06: and so does the one of a route that has no other."""
    alias = play.alias("own-alone")
    play.on(TOOL, alias, json_reply(*REJECTED))
    responses = [play.call(alias) for _ in range(2)]
    assert [(each.status, each.json) for each in responses] == [REJECTED] * 2


def test_tools_are_suspended_each_for_itself(play: Play) -> None:
    """A refusal of one tool's credential says nothing about another tool's."""
    alias = play.alias("own-two")
    play.on(TOOL, alias, json_reply(*REJECTED))
    play.on(OTHER_TOOL, alias, CHAT.answers())
    play.on(B, alias, CHAT.answers())
    one, two = [CHAT.header(TOOL)], [CHAT.header(OTHER_TOOL)]
    assert [play.call(alias, headers=headers).status for headers in (one, two, one, two)] == [200] * 4
    assert play.secrets(alias) == [TOOL, B, OTHER_TOOL, B, OTHER_TOOL]
    play.proxy.wait_for_log(rf"own-two {alias}: credential_rejected by ")


def test_r06_an_upstream_that_echoes_the_tools_own(play: Play) -> None:
    """R06: the tool sees the placeholder, and so does every record."""
    alias = play.alias("own-echo")
    echo = {"error": {"message": f"bad request with {TOOL}", "type": "invalid_request_error", "param": None}}
    play.on(TOOL, alias, json_reply(400, echo))
    response = play.call(alias)
    assert response.status == 400
    assert TOOL.encode() not in response.body
    assert b"<understudy:client>" in response.body


def test_a_tool_that_leaves_while_the_command_runs_costs_nobody_anything(play: Play) -> None:
    """L12: nothing is sent for it, and the secret is there for the next."""
    alias = play.alias("noisy")
    os.mkfifo(play.folder / "noisy.gate")
    play.prints("noisy", "read line < noisy.gate; echo sk-after-it-left-0123")
    play.on("sk-after-it-left-0123", alias, CHAT.answers())
    with Connection(play.proxy.port, play.main.tls_url, ca=play.proxy.ca) as tool:
        play.send(tool, alias)
        with (play.folder / "noisy.gate").open("w") as gate:  # opens when the command reads
            tool.close()
            play.proxy.wait_for_log("client disconnect")
            gate.write("go\n")
    assert play.call(alias).status == 200
    assert play.secrets(alias) == ["sk-after-it-left-0123"]
    assert play.runs("noisy") == 1
    assert "sk-written-in-the-pool-file-0123" not in play.proxy.log_text()


# -- records -----------------------------------------------------------------------------------------------------------


def test_r07_no_record_holds_a_secret_of_either_kind(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """R07: after runs, refreshes, echoes and fail-overs neither kind of secret is in the log, the flows or the HAR."""
    program = tmp_path / "helper"
    program.write_text(HELPER)
    program.chmod(0o700)
    pool = pool_of(upstream, other_upstream).replace("./helper", f'"{program}"')
    run = recorded(mitmdump, tmp_path, env=ENVIRONMENT, pool_yaml=pool)
    play = Play(run.proxy, upstream, other_upstream)
    printed = {f"printed {n}": f"sk-printed-{n}-0123456789abcdef" for n in range(3)}
    bearer = f"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.{'s' * 20}"
    play.prints("renews", *(f'echo \'{{"access_token": "{secret}"}}\'' for secret in printed.values()))
    play.prints("fails", f"echo {printed['printed 2']}; echo {printed['printed 2']} >&2; exit 1")
    rejected = (printed["printed 0"], printed["printed 1"], TOOL, bearer)
    upstream.on(lambda seen: seen.credential in rejected, echo_credential(401))
    upstream.on(B, refusal(CHAT, "m"), CHAT.answers())
    for stream in (False, True):
        for name in ("renews", "fails", "own", "own-alone", "far"):
            for token in (TOOL, bearer):
                headers = [("authorization", f"Bearer {token}"), ("cookie", f"session={token}"), ("x-api-key", token)]
                play.call(play.alias(name), stream=stream, headers=headers)
    assert {TOOL, bearer, printed["printed 0"], printed["printed 1"], B} <= set(upstream.credentials)
    assert run.leaks({**printed, **SECRETS, "tool": TOOL, "bearer": bearer}) == []
