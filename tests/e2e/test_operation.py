"""What goes wrong inside, and who may use the pool: O02, O08, O09, O10, and the 401 without a route."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import Gate, Seen, json_reply, silent, sse
from .client import CUT, Connection, End, ProxyRefusedError, Response, Via, request
from .proxy import Proxy, StartProxy
from .sabotage import TARGETS
from .stage import CHAT, ENVIRONMENT, HOSTS, SECRETS, TOOL, Stage, pool_yaml, refusal
from .upstream import Upstream

SCRIPT = Path(__file__).with_name("sabotage.py")

# -- exceptions of our own -------------------------------------------------------------------------------------------


SABOTAGED = """
  pair-*: [a, b]
  solo-*: [a]
  gemini-*: [gemini-a]
  looks-*: {candidates: [a], mode: advise}
"""


@dataclass
class Sabotaged:
    """A stage with a saboteur."""

    stage: Stage
    tool: Connection | None = None
    """The tool's connection, kept as long as it lives, as tools do: most of a call's cost is in making one."""

    def arm(self, label: str) -> None:
        """From now on this function raises; "" for none. Written aside, for the proxy may be reading it."""
        wish = self.stage.proxy.directory / "sabotage"
        aside = wish.with_suffix(".new")
        aside.write_text(label)
        aside.replace(wish)

    def send(self, path: str, body: bytes, headers: Sequence[tuple[str, str]], *, http2: bool) -> Response | None:
        """A request of the tool; None when it was cut before its reply. Raises TimeoutError when nothing happens."""
        kept, proxy = self.tool, self.stage.proxy
        response = None
        try:
            if self.tool is None:
                # To the upstream's own name, so that what goes out as the tool sent it arrives somewhere.
                self.tool = Connection(proxy.port, self.stage.main.tls_url, ca=proxy.ca, http2=http2)
            response = self.tool.request("POST", path, [("content-type", "application/json"), *headers], body)
        except CUT as cut:
            if kept is None and not isinstance(cut, ConnectionError):
                raise
        if response is None or response.end is End.CUT or response.header("connection") == "close":
            self.hang_up()
        if response is None and kept is not None:
            # What came before may have ended the connection. The request is to have its own chance.
            return self.send(path, body, headers, http2=http2)
        return response

    def hang_up(self) -> None:
        """The tool closes its connection."""
        if self.tool is not None:
            self.tool.close()
            self.tool = None

    def call(self, alias: str, *, stream: bool, http2: bool) -> Response | None:
        """A call of the tool."""
        path, body = CHAT.ask(alias, stream)
        return self.send(path, json.dumps(body).encode(), [CHAT.header(TOOL)], http2=http2)


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Sabotaged]:
    """One proxy whose addon can be made to raise anywhere."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        main.on(TOOL, json_reply(401, {"error": {"message": "own"}}))
        with Proxy(
            tmp_path_factory.mktemp("sabotaged"),
            confdir,
            trusted=authority.path,
            env=ENVIRONMENT,
            pool_yaml=pool_yaml(main, other, SABOTAGED),
            extra_args=["-s", str(SCRIPT)],
            verbosity="debug",
        ) as proxy:
            sabotaged = Sabotaged(Stage(proxy, main, other))
            main.on(SECRETS["a"], CHAT.answers())
            # mitmproxy ends when an error is logged while it starts. It has started when it serves.
            assert sabotaged.call("pair-first", stream=False, http2=False) is not None
            yield sabotaged
            sabotaged.hang_up()


ANSWER = json.dumps(CHAT.answer).encode()
STREAM = b"".join((*CHAT.lifecycle, *CHAT.events))


def is_own_error(response: Response) -> bool:
    """Whether this is a clear error in the tool's dialect."""
    document = response.json
    assert isinstance(document, dict)
    return response.header("x-understudy") == "answer" and "understudy" in document["error"]["message"]


def check_outcome(response: Response | None, expected: bytes) -> None:
    """The right answer, whole; or a clear error; or a cut that is seen as one. Never something in between."""
    if response is None:
        return
    if response.status == 200:
        whole = response.body in (expected, b'{"own": true}')
        assert whole or (response.end is End.CUT and expected.startswith(response.body)), response
    elif response.status == 401:
        assert response.json == {"error": {"message": "own"}}
    else:
        assert response.status == 502 or is_own_error(response), response


def check_request(seen: Seen, sent: list[tuple[str, bytes]]) -> None:
    """One pool secret and nothing of the tool's, or exactly what the tool sent."""
    wire = f"{seen.path} {seen.headers}"
    secrets = [name for name, secret in SECRETS.items() if secret in wire]
    assert "understudy" not in wire
    assert len(secrets) + (TOOL in wire) == 1, wire
    assert (seen.path, seen.body) in sent


both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
GOING_AWAY = [
    "understudy.failover.exchange:Exchange.cancelled",
    "understudy.proxy.stream:ReplayStream.client_gone",
    "understudy.inspection.journal:FlowJournal.left",
    "understudy.proxy.stream:ReplayStream.cancel",
    "understudy.proxy.stream:ReplayStream.finish",
    "understudy.proxy.attempt:AttemptLayer.cancel",
    "understudy.proxy.attempt:AttemptLayer.forget",
    "understudy.proxy.timeouts:Timeout.stop",
    "understudy.proxy.timeouts:Watch.disarm",
]
"""What runs when the tool goes away in the middle."""


@both_versions
@pytest.mark.parametrize("label", [label for label in TARGETS if label not in GOING_AWAY[:4]])
def test_o08_an_exception_anywhere(sabotaged: Sabotaged, label: str, http2: bool) -> None:
    """O08: every request ends in a clear error or goes out as the tool sent it; the next one works again."""
    stage = sabotaged.stage
    before = len(stage.main.seen)
    sent: list[tuple[str, bytes]] = []

    def play(prefix: str, *, stream: bool) -> str:
        alias = stage.alias(prefix)
        path, body = CHAT.ask(alias, stream)
        sent.append((path, json.dumps(body).encode()))
        return alias

    def send(path: str, body: bytes, *headers: tuple[str, str]) -> Response | None:
        sent.append((path, body))
        return sabotaged.send(path, body, headers, http2=http2)

    sabotaged.hang_up()
    sabotaged.arm(label)
    # A refuses, B answers.
    alias = play("pair", stream=False)
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    check_outcome(sabotaged.call(alias, stream=False, http2=http2), ANSWER)
    # An error inside a stream: once more after a pause, then B.
    alias = play("pair", stream=True)
    stage.play(alias, {"a": CHAT.fails_in_stream(), "b": CHAT.streams()})
    check_outcome(sabotaged.call(alias, stream=True, http2=http2), STREAM)
    # An error after output.
    alias = play("pair", stream=True)
    stage.play(alias, {"a": sse(CHAT.events[0], CHAT.error_event)})
    check_outcome(sabotaged.call(alias, stream=True, http2=http2), CHAT.events[0] + CHAT.error_event)
    # Nothing left: an answer of our own.
    alias = play("solo", stream=False)
    stage.play(alias, {"a": json_reply(403, {"error": {"message": "You are not allowed", "code": "forbidden"}})})
    check_outcome(sabotaged.call(alias, stream=False, http2=http2), b"")
    # The tool's own: a route that only observes; no route, with the key in a header and in the query.
    check_unrouted(sabotaged.call(play("looks", stream=True), stream=True, http2=http2))
    unrouted = b'{"model": "other"}'
    # A target with a query is looked up anew each time.
    check_unrouted(send("/v1/chat/completions?tool=1", unrouted, CHAT.header(TOOL)))
    check_unrouted(send(f"/v1beta/models/other:generateContent?key={TOOL}", unrouted))

    sabotaged.arm("")
    sabotaged.hang_up()
    alias = play("pair", stream=False)
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    response = sabotaged.call(alias, stream=False, http2=http2)
    assert response is not None
    assert (response.status, response.body) == (200, ANSWER)
    stage.proxy.wait_for_log(f"sabotaged {label}\n")
    for seen in stage.main.seen[before:]:
        check_request(seen, sent)


def check_unrouted(response: Response | None) -> None:
    """The host's own 401, mitmproxy's error or our own."""
    assert (
        response is None or response.status in (401, 502) or (response.status == 400 and b"understudy" in response.body)
    )


@both_versions
@pytest.mark.parametrize("label", GOING_AWAY)
def test_o08_an_exception_while_the_tool_goes_away(sabotaged: Sabotaged, label: str, http2: bool) -> None:
    """O08, L12: the attempt ends at the upstream although what should end it raises; the next call works."""
    stage, proxy = sabotaged.stage, sabotaged.stage.proxy
    alias = stage.alias("pair")
    stage.play(alias, {"a": silent()})
    path, body = CHAT.ask(alias, True)
    with Connection(proxy.port, stage.main.tls_url, ca=proxy.ca, http2=http2) as tool:
        tool.send("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode())
        stage.main.wait(lambda _: bool(stage.seen(alias)))
        sabotaged.arm(label)
    stage.main.wait(lambda _: stage.seen(alias)[0].cancelled)
    proxy.wait_for_log(f"sabotaged {label}\n")
    sabotaged.arm("")
    stage.play(alias, {"a": CHAT.answers()})
    response = sabotaged.call(alias, stream=False, http2=http2)
    assert response is not None
    assert (response.status, response.body) == (200, ANSWER)


def test_o08_no_trace_holds_a_secret(sabotaged: Sabotaged) -> None:
    """O08, R07: whatever was raised above, with whatever text: no secret is in the log."""
    log = sabotaged.stage.proxy.log_text()
    assert "internal error" in log
    assert [name for name, secret in {**SECRETS, "tool": TOOL}.items() if secret in log] == []


# -- the tool's own 401 ----------------------------------------------------------------------------------------------


def test_a_401_without_a_route_names_the_line_to_add(sabotaged: Sabotaged) -> None:
    """W07: the tool's own 401 passes as it is, and the log says how to have the call served (docs/inspection.md)."""
    proxy = sabotaged.stage.proxy
    body = b'{"model": "gpt-\\u00e4.1", "stream": true}'
    response = sabotaged.send("/v1/chat/completions", body, [CHAT.header(TOOL)], http2=False)
    assert response is not None
    assert (response.status, response.json) == (401, {"error": {"message": "own"}})
    proxy.wait_for_log(rf'add `"gpt-\\u00e4.1": \[a\]` to the routes in {proxy.pool_path}')


def test_other_401s_are_not_commented(sabotaged: Sabotaged) -> None:
    """R10: a 401 on something that is no call, or that has no alias, is the host's business."""
    proxy = sabotaged.stage.proxy
    before = proxy.log_text().count("rejected (401)")
    for path, body in (("/v1/settings", b'{"model": "gpt-5"}'), ("/v1/chat/completions", b"{}")):
        response = sabotaged.send(path, body, [CHAT.header(TOOL)], http2=False)
        assert response is not None
        assert response.status == 401
    assert proxy.log_text().count("rejected (401)") == before


# -- reload ----------------------------------------------------------------------------------------------------------

REMOTE_CONTROL = """
import asyncio, logging
from pathlib import Path
from mitmproxy import ctx

async def obey():
    done = 0
    while True:
        lines = Path("commands").read_text().splitlines() if Path("commands").exists() else []
        for number, line in enumerate(lines[done:], done):
            try:
                logging.warning(f"done {number}: {ctx.master.commands.execute(line)}")
            except Exception as error:
                logging.warning(f"failed {number}: {error}")
        done = len(lines)
        await asyncio.sleep(0.02)

def running():
    global task
    task = asyncio.ensure_future(obey())
"""
"""A script that does what its folder's file ``commands`` says, line by line: there is no other way into mitmdump."""


def test_o01_o02_reload(mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path) -> None:
    """O01, O02: a broken file changes nothing and is shown with its line; a running stream ends on its own pool."""
    script = tmp_path / "control.py"
    script.write_text(REMOTE_CONTROL)
    good = pool_yaml(upstream, other_upstream)
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=good, extra_args=["-s", str(script)])
    stage = Stage(proxy, upstream, other_upstream)
    alias, gate = stage.alias("pair"), Gate()
    stage.play(alias, {"a": sse(CHAT.events[0], gate, *CHAT.events[1:]), "b": CHAT.answers()})

    def tell(line: str, outcome: str) -> None:
        file = proxy.directory / "commands"
        lines = [*(file.read_text().splitlines() if file.exists() else []), line]
        aside = file.with_suffix(".new")
        aside.write_text("\n".join(lines) + "\n")
        aside.replace(file)
        proxy.wait_for_log(outcome.format(len(lines) - 1))

    with stage.connect(CHAT) as tool:
        path, body = CHAT.ask(alias, True)
        stream = tool.send("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode())
        stream.read_until(b"one")
        proxy.write_pool(good.replace("upstreams:", "upstrams:", 1))
        tell(
            "pool.reload", r"failed {}: understudy: the pool file cannot be used\n.*pool.yaml:2: unknown key 'upstrams'"
        )
        proxy.write_pool(good.replace("pair-*: [a, b]", "pair-*: [b]"))
        tell("pool.reload", "done {}: .*are in use")
        tell("set pool_file /nowhere/pool.yaml", r"failed {}: .*\n/nowhere/pool.yaml:1: this file cannot be read")
        gate.open()
        assert stream.finish().body == b"".join(CHAT.events)
        assert stream.end is End.CLEAN
    assert stage.call(CHAT, alias).status == 200
    assert stage.order(alias) == ["a", "b"]


# -- the pool file ---------------------------------------------------------------------------------------------------


def one_pool(upstream: Upstream, *, plain: bool = False) -> str:
    """A pool of one credential."""
    url = upstream.plain_url if plain else upstream.tls_url
    return f"""
upstreams: {{main: {{dialect: openai, url: "{url}/v1"}}}}
credentials: {{a: {{upstream: main, secret: {{env: SECRET_A}}}}}}
routes: {{default: [a]}}
"""


def private(path: Path, text: str) -> None:
    """Write a file as its owner should."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


@pytest.mark.parametrize("variable", [{}, {"XDG_CONFIG_HOME": "."}, {"XDG_CONFIG_HOME": ""}])
def test_o09_the_working_directory_is_not_searched(
    tmp_path: Path, confdir: Path, authority: Authority, upstream: Upstream, variable: dict[str, str]
) -> None:
    """O09: a pool file in the working directory is not picked up, whatever the variables say."""
    for place in ("pool.yaml", "understudy.yaml", "understudy/pool.yaml"):
        private(tmp_path / place, one_pool(upstream))
    upstream.on(TOOL, CHAT.answers())
    with Proxy(tmp_path, confdir, trusted=authority.path, env={**ENVIRONMENT, **variable}) as proxy:
        assert "no pool file at /" in proxy.log_text()
        url = f"{upstream.tls_url}/v1/chat/completions"
        body = json.dumps(CHAT.ask("gpt-5", False)[1]).encode()
        assert request(proxy.port, url, headers=[CHAT.header(TOOL)], body=body, ca=authority.path).status == 200
    assert upstream.credentials == [TOOL]


def test_o09_the_configuration_folder_is(
    tmp_path: Path, confdir: Path, authority: Authority, upstream: Upstream
) -> None:
    """O09: the one place that is looked in."""
    private(tmp_path / "config" / "understudy" / "pool.yaml", one_pool(upstream))
    upstream.on(SECRETS["a"], CHAT.answers())
    with Proxy(tmp_path, confdir, trusted=authority.path, env=ENVIRONMENT) as proxy:
        assert call(proxy).status == 200


def test_o09_a_file_that_others_can_write_is_refused(
    tmp_path: Path, confdir: Path, authority: Authority, upstream: Upstream
) -> None:
    """O09: the program says what to run, and ends."""
    path = tmp_path / "shared.yaml"
    private(path, one_pool(upstream))
    path.chmod(0o666)
    settings = {"pool_file": str(path)}
    with Proxy(tmp_path, confdir, trusted=authority.path, env=ENVIRONMENT, settings=settings) as proxy:
        proxy.wait_for_log(f"chmod go-w {path}")
        proxy.wait_for_log("Error logged during startup, exiting")
    assert upstream.seen == []


# -- who may spend the pool ------------------------------------------------------------------------------------------


def call(
    proxy: Proxy,
    url: str = "",
    headers: Sequence[tuple[str, str]] = (CHAT.header(TOOL),),
    *,
    via: Via = Via.CONNECT,
    proxy_headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """One call of a tool."""
    path, body = CHAT.ask("gpt-5", False)
    with Connection(proxy.port, url or HOSTS["openai"], ca=proxy.ca, via=via, proxy_headers=proxy_headers) as tool:
        return tool.request("POST", path, headers, json.dumps(body).encode())


ANYWHERE = ("--listen-host", "0.0.0.0")
PASSWORD = f"Basic {base64.b64encode(b'me:pass').decode()}"


def test_o10_a_remote_listener_without_a_password(mitmdump: StartProxy, upstream: Upstream) -> None:
    """O10: no pool credential, and the error and the log name what to set."""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=one_pool(upstream), extra_args=ANYWHERE)
    proxy.wait_for_log("listens beyond loopback")
    response = call(proxy)
    assert response.status == 400
    for name in (b"proxyauth", b"pool_allow_remote", b"--listen-host 127.0.0.1"):
        assert name in response.body
    assert upstream.seen == []


def test_o10_a_remote_listener_that_is_meant(mitmdump: StartProxy, upstream: Upstream) -> None:
    """O10: with ``pool_allow_remote`` the pool is used."""
    upstream.on(SECRETS["a"], CHAT.answers())
    settings = {"pool_allow_remote": "true"}
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=one_pool(upstream), extra_args=ANYWHERE, settings=settings)
    assert call(proxy).status == 200


def test_o10_a_remote_listener_with_a_password(mitmdump: StartProxy, upstream: Upstream) -> None:
    """O10: with ``proxyauth`` the pool is used by those who know the password, and by nobody else."""
    upstream.on(SECRETS["a"], CHAT.answers())
    settings = {"proxyauth": "me:pass"}
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=one_pool(upstream, plain=True), extra_args=ANYWHERE, settings=settings)
    password = ("Proxy-Authorization", PASSWORD)
    assert call(proxy, proxy_headers=[password]).status == 200
    with pytest.raises(ProxyRefusedError, match="407"):
        call(proxy)
    # Without a tunnel the password is in the request itself.
    assert call(proxy, upstream.plain_url, [CHAT.header(TOOL), password]).status == 200
    assert call(proxy, upstream.plain_url).status == 407
    assert upstream.credentials == [SECRETS["a"]] * 2
    assert PASSWORD not in str([seen.headers for seen in upstream.seen])


def test_o10_a_reverse_proxy_with_a_password(mitmdump: StartProxy, upstream: Upstream) -> None:
    """O10: in reverse mode mitmproxy asks for the password in ``authorization``; it gets it, and no upstream does."""
    upstream.on(SECRETS["a"], CHAT.answers())
    settings, mode = {"proxyauth": "me:pass"}, f"reverse:{upstream.tls_url}"
    pool = one_pool(upstream)
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool, extra_args=ANYWHERE, settings=settings, mode=mode)
    url = f"http://127.0.0.1:{proxy.port}"
    assert call(proxy, url, [("authorization", PASSWORD), ("x-api-key", TOOL)], via=Via.DIRECT).status == 200
    assert call(proxy, url, via=Via.DIRECT).status == 401
    (seen,) = upstream.seen
    assert PASSWORD not in str(seen.headers)
    assert TOOL.encode() not in proxy.directory.joinpath("flows.mitm").read_bytes()


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0, reason="only root can make another user's socket"
)
@pytest.mark.parametrize(("settings", "status"), [({}, 400), ({"pool_users": "65534"}, 200)], ids=["unnamed", "named"])
def test_o10_another_user_of_this_machine(
    mitmdump: StartProxy, upstream: Upstream, settings: dict[str, str], status: int
) -> None:
    """O10, law 12: a loopback port is open to every user; only those that are named get pool credentials."""
    upstream.on(SECRETS["a"], CHAT.answers())
    proxy = mitmdump(
        env=ENVIRONMENT, pool_yaml=one_pool(upstream), settings=settings, mode=f"reverse:{upstream.tls_url}"
    )
    url = f"http://127.0.0.1:{proxy.port}"
    os.seteuid(65534)
    try:
        response = call(proxy, url, via=Via.DIRECT)
    finally:
        os.seteuid(0)
    assert response.status == status
    assert upstream.credentials == [SECRETS["a"]] * (status == 200)
    if status == 400:
        assert b"65534" in response.body
        assert b"pool_users" in response.body
    assert call(proxy, url, via=Via.DIRECT).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 200),
        ([("Origin", "https://evil.example")], 400),
        ([("Origin", "null")], 400),
        ([("Sec-Fetch-Site", "cross-site")], 400),
        ([("Sec-Fetch-Site", "same-site")], 400),
        ([("Sec-Fetch-Site", "none")], 200),
        ([("Origin", "http://127.0.0.1:{port}"), ("Sec-Fetch-Site", "same-origin")], 200),
        ([("Origin", "http://127.0.0.1:1")], 400),
        ([("Origin", "http://127.0.0.1:no-port")], 400),
        ([("Origin", "http://[127.0.0.1")], 400),
    ],
)
def test_o10_web_pages_in_reverse_mode(reverse: Stage, headers: list[tuple[str, str]], status: int) -> None:
    """O10: a page from elsewhere that calls the proxy gets no pool credential, but a clear error."""
    before = len(reverse.main.seen)
    port = reverse.proxy.port
    filled = [(name, value.format(port=port)) for name, value in headers]
    response = call(reverse.proxy, f"http://127.0.0.1:{port}", [CHAT.header(TOOL), *filled], via=Via.DIRECT)
    assert response.status == status
    assert len(reverse.main.seen) - before == (status == 200)
    if status == 400:
        assert b"web page" in response.body


@pytest.fixture(scope="module")
def reverse(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A proxy in reverse mode."""
    with Upstream(authority) as main:
        main.on(SECRETS["a"], CHAT.answers())
        directory, mode = tmp_path_factory.mktemp("reverse"), f"reverse:{main.tls_url}"
        pool = one_pool(main)
        with Proxy(directory, confdir, trusted=authority.path, env=ENVIRONMENT, pool_yaml=pool, mode=mode) as proxy:
            yield Stage(proxy, main, main)


def test_o02_a_changed_pool_file_is_read_by_itself(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """O02, O03: whole and valid or not at all; rules that it names are part of it; what is suspended stays so."""
    good = pool_yaml(upstream, other_upstream)
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=good)
    stage = Stage(proxy, upstream, other_upstream)
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    proxy.write_pool(good.replace("upstreams:", "upstrams:", 1))
    proxy.wait_for_log(
        r"has changed and is read again\n(.*\n)*?.*unknown key 'upstrams'(.*\n)+?.*last good pool stays in use"
    )
    (tmp_path / "rules" / "acme").mkdir(parents=True, mode=0o700)
    (tmp_path / "rules").chmod(0o700)
    rule = tmp_path / "rules" / "acme" / "broken.yaml"
    rule.touch(mode=0o600)
    rule.write_text("label: nonsense\n")
    proxy.write_pool(f"rules: [{tmp_path / 'rules'}]\n{good}")
    proxy.wait_for_log(r"the rule folders cannot be used\n(.*\n)*?.*last good pool stays in use")
    assert stage.call(CHAT, alias).status == 200
    rule.unlink()
    proxy.write_pool(f"rules: [{tmp_path / 'rules'}]\n{good.replace('pair-*', 'twin-*')}")
    proxy.wait_for_log(r"\d+ routes over \d+ credentials from .*pool\.yaml(.*\n)+?.*\d+ routes over")
    twin = alias.replace("pair", "twin")
    stage.play(twin, {"a": CHAT.answers(), "b": CHAT.answers()})
    assert stage.call(CHAT, twin).status == 200
    assert (stage.order(alias), stage.order(twin)) == (["a", "b", "b"], ["a"])


def call_when_it_listens(proxy: Proxy) -> Response:
    """A call, made again as long as its connection is reset: those before it are let go one after another."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return call(proxy)
        except ConnectionError:
            assert time.monotonic() < deadline, "the proxy does not come back"
            time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux changes the limits of another process")
def test_h10_file_descriptors_are_used_up(mitmdump: StartProxy, upstream: Upstream) -> None:
    """H10: a hundred connections at once and descriptors for a dozen: one line, no traceback, and then it goes on."""
    upstream.on(SECRETS["a"], CHAT.answers())
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=one_pool(upstream))
    assert call(proxy).status == 200
    room = len(os.listdir(f"/proc/{proxy.pid}/fd")) + 12
    before = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (room, before[1]))
    with contextlib.ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", proxy.port), 20)))
        proxy.wait_for_log("no file descriptors left")
    assert call_when_it_listens(proxy).status == 200
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, before)
    assert call(proxy).status == 200
    text = proxy.log_text()
    assert text.count("no file descriptors left") == 1
    assert "Traceback" not in text
    assert "suspended" not in text
