"""The harness itself: what the e2e tests say about understudy is worth what this file says about the harness."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import brotli
import pytest
import zstandard
from mitmproxy import http

from .authority import Authority
from .behaviours import (
    Behaviour,
    Break,
    Gate,
    drop_after_headers,
    drop_before_headers,
    echo_credential,
    encoded,
    endless_body,
    endless_headers,
    json_reply,
    raw,
    redirect,
    silent,
    silent_after,
    sse,
    wrong_length,
)
from .client import Connection, End, ProxyRefusedError, Via, request
from .launch import BARE, Process, launcher
from .proxy import NotStartedError, StartProxy
from .upstream import Upstream, upstreams

KEY = ("authorization", "Bearer secret-a")
PATH = "/v1/chat/completions"

both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])


def connect(upstream: Upstream, *, http2: bool = False) -> Connection:
    """A connection straight to the upstream."""
    return Connection(None, upstream.tls_url, ca=upstream.authority.path, http2=http2)


@both_versions
def test_a_request_is_recorded_as_it_came(upstream: Upstream, http2: bool) -> None:
    upstream.on("secret-a", json_reply(201, {"a": 1}, [("x-one", "1")]))
    with connect(upstream, http2=http2) as connection:
        response = connection.request("POST", PATH + "?b=2", [KEY, ("X-Odd", "Case")], b'{"model": "m"}')
        again = connection.request("GET", "/", [KEY])
    assert (response.status, response.json, response.header("x-one")) == (201, {"a": 1}, "1")
    assert (response.end, again.end) == (End.CLEAN, End.CLEAN)
    first, second = upstream.seen
    assert (first.method, first.path, first.body, first.credential) == (
        "POST",
        PATH + "?b=2",
        b'{"model": "m"}',
        "secret-a",
    )
    assert ("x-odd" if http2 else "X-Odd", "Case") in first.headers
    assert first.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert first.server_name == "localhost"
    assert first.json == {"model": "m"}
    assert first.connection == second.connection
    assert first.time <= second.time
    upstream.wait(lambda seen: all(one.finished for one in seen))


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([("Authorization", "Bearer secret-a")], "/"),
        ([("x-api-key", "secret-a")], "/"),
        ([("x-goog-api-key", "secret-a")], "/"),
        ([("api-key", "secret-a")], "/"),
        ([], "/v1beta/models/m:generateContent?alt=sse&key=secret-a"),
    ],
)
def test_a_credential_is_found_wherever_a_dialect_puts_it(
    upstream: Upstream, headers: list[tuple[str, str]], path: str
) -> None:
    upstream.on("secret-a", json_reply(200, {}))
    assert request(None, upstream.plain_url + path, "POST", headers).status == 200
    assert upstream.credentials == ["secret-a"]


def test_behaviours_come_in_turn_and_the_last_one_stays(upstream: Upstream) -> None:
    upstream.on("secret-a", json_reply(400, {}), json_reply(200, {}))
    upstream.on(lambda seen: seen.path == "/special", json_reply(418, {}))
    with connect(upstream) as connection:
        paths = ["/", "/special", "/", "/"]
        assert [connection.request("POST", path, [KEY]).status for path in paths] == [400, 418, 200, 200]
        assert connection.request("POST", "/", [("x-api-key", "unheard-of")]).status == 500


@both_versions
def test_a_stream_stops_at_a_gate_until_it_is_opened(upstream: Upstream, http2: bool) -> None:
    gate = Gate()
    upstream.on("secret-a", sse(b"data: 1\n\n", gate, b"data: 2\n\n"))
    with connect(upstream, http2=http2) as connection:
        stream = connection.send("POST", PATH, [KEY])
        assert stream.next_chunk() == b"data: 1\n\n"
        gate.wait_reached()
        assert not upstream.seen[0].finished
        gate.open()
        assert stream.next_chunk() == b"data: 2\n\n"
        assert stream.next_chunk() is None
        assert stream.end is End.CLEAN
        assert stream.response.header("content-type") == "text/event-stream"


@pytest.mark.parametrize("how", list(Break))
@both_versions
def test_a_drop_before_headers_is_no_reply(upstream: Upstream, http2: bool, how: Break) -> None:
    upstream.on("secret-a", drop_before_headers(how))
    with connect(upstream, http2=http2) as connection:
        stream = connection.send("POST", PATH, [KEY])
        with pytest.raises(ConnectionError):
            _ = stream.response


@pytest.mark.parametrize("how", list(Break))
@both_versions
def test_a_drop_in_mid_stream_is_a_cut(upstream: Upstream, http2: bool, how: Break) -> None:
    gate = Gate()
    upstream.on("secret-a", sse(b"data: 1\n\n", gate, ending=how))
    with connect(upstream, http2=http2) as connection:
        stream = connection.send("POST", PATH, [KEY])
        assert stream.next_chunk() == b"data: 1\n\n"
        gate.open()  # only now: a TCP reset takes away what has not been read yet
        assert stream.next_chunk() is None
        assert stream.end is End.CUT


@both_versions
def test_a_drop_after_headers_and_a_wrong_length_are_cuts(upstream: Upstream, http2: bool) -> None:
    upstream.on("secret-a", drop_after_headers(200, [("content-length", "5")]), wrong_length(200, b"12", 9))
    for _ in range(2):
        with connect(upstream, http2=http2) as connection:
            response = connection.request("POST", PATH, [KEY])
            assert (response.status, response.end) == (200, End.CUT)


@both_versions
@pytest.mark.parametrize("late", [False, True], ids=["before headers", "after headers"])
def test_a_client_that_gives_up_is_recorded(upstream: Upstream, http2: bool, late: bool) -> None:
    upstream.on("secret-a", silent_after(200, [], b"x") if late else silent())
    with connect(upstream, http2=http2) as connection:
        stream = connection.send("POST", PATH, [KEY])
        upstream.wait(lambda seen: len(seen) == 1)
        if late:
            assert stream.next_chunk() == b"x"
        connection.cancel(stream)
        upstream.wait(lambda seen: seen[0].cancelled)
        assert not upstream.seen[0].finished


def test_one_cancelled_stream_leaves_the_others_alone(upstream: Upstream) -> None:
    gate = Gate()
    upstream.on("secret-a", silent())
    upstream.on("secret-b", json_reply(200, {"b": True}, gate=gate))
    with connect(upstream, http2=True) as connection:
        lost = connection.send("POST", PATH, [KEY])
        kept = connection.send("POST", PATH, [("x-api-key", "secret-b")])
        upstream.wait(lambda seen: len(seen) == 2)
        connection.cancel(lost)
        upstream.wait(lambda seen: [one.cancelled for one in seen] == [True, False])
        gate.open()
        assert kept.finish().json == {"b": True}


@both_versions
def test_bodies_beyond_the_flow_control_window_arrive(upstream: Upstream, http2: bool) -> None:
    body = bytes(range(256)) * 2048
    upstream.on("secret-a", raw(200, [], body))
    with connect(upstream, http2=http2) as connection:
        assert connection.request("POST", PATH, [KEY], body).body == body
    assert upstream.seen[0].body == body


@both_versions
def test_an_endless_body_ends_with_the_client(upstream: Upstream, http2: bool) -> None:
    upstream.on("secret-a", endless_body())
    with connect(upstream, http2=http2) as connection:
        stream = connection.send("POST", PATH, [KEY])
        assert stream.next_chunk()
    upstream.wait(lambda seen: seen[0].cancelled)


def test_endless_headers_end_with_the_client(upstream: Upstream) -> None:
    upstream.on("secret-a", endless_headers())
    with connect(upstream) as connection:
        stream = connection.send("POST", PATH, [KEY])
        with pytest.raises(ConnectionError):  # h11 gives up at 100 KiB
            _ = stream.response
    upstream.wait(lambda seen: seen[0].cancelled)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_encoded_replies_decode(upstream: Upstream, encoding: str) -> None:
    upstream.on(
        "secret-a", encoded(400, {"error": "x"}, encoding), sse(b"data: 1\n\n", b"data: 2\n\n", encoding=encoding)
    )
    whole, streamed = (request(None, upstream.plain_url + PATH, "POST", [KEY]) for _ in range(2))
    assert whole.header("content-encoding") == streamed.header("content-encoding") == encoding
    assert json.loads(decode(whole.body, encoding)) == {"error": "x"}
    assert decode(streamed.body, encoding) == b"data: 1\n\ndata: 2\n\n"
    assert len(streamed.chunks) >= 2


def decode(body: bytes, encoding: str) -> bytes:
    """By the reference implementations."""
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "br":
            return bytes(brotli.decompress(body))
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


def test_an_echo_and_a_redirect(upstream: Upstream) -> None:
    upstream.on("secret-a", echo_credential(), redirect("https://elsewhere.test/"))
    echo, moved = (request(None, upstream.plain_url + PATH, "POST", [KEY]) for _ in range(2))
    assert echo.status == 401
    assert b"secret-a" in echo.body
    assert (moved.status, moved.header("location")) == (307, "https://elsewhere.test/")


def test_deaf_and_refusing_ports(upstream: Upstream) -> None:
    with pytest.raises(ConnectionRefusedError):
        Connection(None, upstream.refused_url())
    with pytest.raises(TimeoutError):
        Connection(None, upstream.deaf_url, ca=upstream.authority.path, timeout=0.2)


def test_upstreams_have_their_own_ports_and_requests(authority: Authority) -> None:
    with upstreams(authority, 2) as (one, two):
        one.on("secret-a", json_reply(200, {}))
        assert request(None, one.tls_url, "POST", [KEY], ca=authority.path).status == 200
        assert (len(one.seen), len(two.seen)) == (1, 0)


def test_a_broken_behaviour_fails_the_test(authority: Authority) -> None:
    async def broken(channel: object, seen: object) -> None:
        raise ZeroDivisionError

    behaviour: Behaviour = broken

    def use() -> None:
        with Upstream(authority) as upstream:
            upstream.on("secret-a", behaviour)
            with pytest.raises(ConnectionError):
                request(None, upstream.plain_url, "POST", [KEY])

    with pytest.raises(ZeroDivisionError):
        use()


@pytest.mark.e2e
@both_versions
def test_through_mitmdump_by_connect(upstream: Upstream, mitmdump: StartProxy, http2: bool) -> None:
    upstream.on("secret-a", sse(b"data: 1\n\n", b"data: 2\n\n"))
    proxy = mitmdump(addon=False, verbosity="debug")
    response = request(proxy.port, upstream.tls_url + PATH, "POST", [KEY], {"model": "m"}, ca=proxy.ca, http2=http2)
    assert (response.status, response.body, response.end) == (200, b"data: 1\n\ndata: 2\n\n", End.CLEAN)
    assert response.http_version == upstream.seen[0].http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert "client connect" in proxy.log_text()
    (flow,) = proxy.flows()
    assert isinstance(flow, http.HTTPFlow)
    assert flow.request.path == PATH
    assert not proxy.is_running


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("mode", "via"),
    [("regular", Via.CONNECT), ("socks5", Via.SOCKS5), ("reverse", Via.DIRECT)],
    ids=["regular", "socks5", "reverse"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_through_mitmdump_in_other_modes(
    upstream: Upstream, mitmdump: StartProxy, mode: str, via: Via, scheme: str
) -> None:
    upstream.on("secret-a", json_reply(200, {"ok": True}))
    url = {"http": upstream.plain_url, "https": upstream.tls_url}[scheme]
    proxy = mitmdump(addon=False, mode=f"reverse:{url}" if mode == "reverse" else mode)
    with Connection(proxy.port, url, ca=proxy.ca, via=via) as connection:
        for _ in range(2):
            assert connection.request("POST", PATH, [KEY]).json == {"ok": True}
        if scheme == "https":
            assert "mitmproxy" in str(connection.certificate["issuer"])


@pytest.mark.e2e
def test_a_cancel_travels_through_mitmdump(upstream: Upstream, mitmdump: StartProxy) -> None:
    upstream.on("secret-a", silent())
    proxy = mitmdump(addon=False)
    with Connection(proxy.port, upstream.tls_url, ca=proxy.ca) as connection:
        connection.send("POST", PATH, [KEY])
        upstream.wait(lambda seen: len(seen) == 1)
    upstream.wait(lambda seen: seen[0].cancelled)


@pytest.mark.e2e
def test_a_proxy_that_refuses_to_connect_is_told_apart(upstream: Upstream, mitmdump: StartProxy) -> None:
    proxy = mitmdump(addon=False, mode="socks5", extra_args=["--set", "connection_strategy=eager"])
    with pytest.raises(ProxyRefusedError):
        Connection(proxy.port, upstream.refused_url(), via=Via.SOCKS5)


@pytest.mark.e2e
def test_mitmweb_starts_as_well(mitmdump: StartProxy) -> None:
    proxy = mitmdump(addon=False, program="mitmweb")
    assert proxy.web_url.startswith("http://127.0.0.1:")


@pytest.mark.e2e
def test_a_program_that_does_not_start_says_why(mitmdump: StartProxy) -> None:
    with pytest.raises(NotStartedError, match="no_such_mode"):
        mitmdump(addon=False, mode="no_such_mode")


@pytest.mark.e2e
def test_a_pool_file_is_the_owners_alone(mitmdump: StartProxy) -> None:
    proxy = mitmdump(addon=False, settings={"flow_detail": "1"})  # settings of the harness itself can be changed
    proxy.write_pool("routes: {}\n")
    assert proxy.pool_path.stat().st_mode & 0o777 == 0o600
    assert proxy.stop() == 0


REPORT = """
import json, os, random, sys
from mitmproxy import ctx

facts = {
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "group": os.getpgid(0),
    "script": sys.argv[-1],
    "understudy": [each for each in ctx.master.addons.lookup if each.startswith("understudy")],
}
print("facts", json.dumps([facts, random.random()]), flush=True)
print("an error", file=sys.stderr, flush=True)
"""


TALKS = """
import logging

from mitmproxy import http


def request(flow):
    logging.info(f"asked {flow.request.path}")
    flow.response = http.Response.make(200)
"""


@pytest.mark.e2e
def test_what_is_printed_is_looked_at_by_several_at_once(mitmdump: StartProxy, tmp_path: Path) -> None:
    """Each finds whole lines, all that was printed before, and keeps nobody from reading on."""
    script = tmp_path / "talks.py"
    script.write_text(TALKS)
    with mitmdump(addon=False, extra_args=["-s", str(script)]) as proxy:
        looking, seen = [True], list[str]()

        def look() -> None:
            while looking[0]:
                seen.append(proxy.log_text())

        threads = [threading.Thread(target=look) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            for number in range(100):
                request(proxy.port, f"http://nowhere.test/{number}", "GET")
                assert f"asked /{number}\n" in proxy.log_text()
        finally:
            looking[0] = False
            for each in threads:
                each.join(10)
        assert not any(each.is_alive() for each in threads)
        assert all(text == "" or text.endswith("\n") for text in seen)


@pytest.mark.e2e
def test_each_program_is_one_of_its_own(mitmdump: StartProxy, tmp_path: Path) -> None:
    """Although they are forked from one process: nothing is theirs but what they were given, and no chance repeats."""
    script = tmp_path / "report.py"
    script.write_text(REPORT)
    chances = set()
    for number in "12":
        proxy = mitmdump(addon=False, env={"ONE": number}, extra_args=["-s", str(script)])
        facts, chance = json.loads(proxy.wait_for_log("facts (.*)")[1])
        proxy.wait_for_log("an error")
        place = proxy.directory
        assert facts == {
            "environment": {**BARE, "HOME": str(place), "XDG_CONFIG_HOME": str(place / "config"), "ONE": number},
            "folder": str(place),
            "group": os.getpgid(0),
            "script": str(script),
            "understudy": [],
        }
        chances.add(chance)
    assert len(chances) == 2


@pytest.mark.e2e
def test_exit_codes_are_the_programs_own(tmp_path: Path, confdir: Path) -> None:
    """Those of an end by itself, of one by a mistake, and of one by each signal."""

    def start(*arguments: str) -> Process:
        environment = {**BARE, "HOME": str(tmp_path)}
        options = ["--set", f"confdir={confdir}", "--listen-host", "127.0.0.1", "-p", "0", *arguments]
        return launcher().start("mitmdump", options, environment, tmp_path)

    for argument, said, code in (("--version", "Mitmproxy: ", 0), ("--no-such-option", "unrecognized arguments", 1)):
        process = start(argument)
        assert said.encode() in process.stdout.read()
        assert process.wait(10) == code
        assert process.poll() == code
        process.close()
    for number, code in ((signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        process = start()
        assert any(b"listening" in line for line in process.stdout)
        assert process.poll() is None
        with pytest.raises(TimeoutError):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(10) == code
        process.send_signal(number)  # to nobody
        process.close()
        process.close()


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE", "PYTHONWARNINGS", "LC_ALL"])
def test_a_variable_that_would_come_too_late_is_refused(mitmdump: StartProxy, name: str) -> None:
    """What is read when mitmproxy is imported cannot be set for one program."""
    with pytest.raises(NotStartedError, match=f"tool.py: {name} is read when mitmproxy is imported"):
        mitmdump(addon=False, env={name: "other"})


RUN = """
import pathlib, sys
from tests.e2e.launch import launcher
from tests.e2e.proxy import Proxy

proxies = [Proxy(pathlib.Path(directory), pathlib.Path(sys.argv[1]), addon=False) for directory in sys.argv[2:]]
print(launcher().pid, *(proxy.pid for proxy in proxies), flush=True)
sys.stdin.read()
"""


@pytest.mark.e2e
@pytest.mark.parametrize("end", ["it ends", "it is killed", "what started them is killed"])
def test_the_end_of_a_test_run_leaves_nothing_behind(tmp_path: Path, confdir: Path, end: str) -> None:
    """Neither a proxy nor what they are started from, whatever comes to its end first."""
    directories = [tmp_path / name for name in ("one", "two")]
    for directory in directories:
        directory.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, [confdir, *directories])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    with run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        if end == "what started them is killed":
            os.kill(pids[0], signal.SIGKILL)
        if end != "it ends":
            run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)  # nobody can be asked to tell: their parent is gone
    assert not any(map(is_alive, pids))


def is_alive(pid: int) -> bool:
    """Whether there is such a process, zombies aside: who reaps an orphan is not our business."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"
