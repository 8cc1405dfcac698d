"""The demonstration: its upstream plays its parts, and the package itself understands them as it would a vendor's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Connection, Response, request
from tests.e2e.proxy import ROOT, StartProxy
from understudy import demo
from understudy.codec.event_stream import EventReader
from understudy.config.pool_file import lint, parse
from understudy.demo.roles import Role
from understudy.dialects import DIALECTS, Progress
from understudy.model.verdict import Label
from understudy.replies.reply import Reply
from understudy.rules.folders import shipped

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
COUNT = "/v1/messages/count_tokens"
GENERATE, STREAM = "/v1beta/models/gemini-x:generateContent", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"

PLAIN = [("openai", CHAT), ("openai", RESPONSES), ("anthropic", MESSAGES), ("gemini", GENERATE)]
STREAMED = [("openai", CHAT), ("openai", RESPONSES), ("anthropic", MESSAGES), ("gemini", STREAM)]
MODELS = {"openai": "gpt-x", "anthropic": "claude-x", "gemini": "gemini-x"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a running demonstration upstream."""
    process, number = demo.start_upstream()
    yield number
    process.terminate()
    assert process.wait(10) == 0


def ask(port: int, dialect: str, path: str, role: str, *, streamed: bool = False) -> Response:
    """One call with a role's secret, sent as the dialect sends it."""
    body: dict[str, object] = {"model": MODELS[dialect]}
    if streamed:
        body["stream"] = True
    return request(None, f"http://127.0.0.1:{port}{path}", "POST", DIALECTS[dialect].credential_headers(role), body)


def judge(dialect: str, response: Response, **fields: object) -> Label:
    """What the shipped rules say about a reply."""
    reply = Reply(
        status=response.status,
        dialect=dialect,
        host="127.0.0.1",
        alias=MODELS[dialect],
        model=MODELS[dialect],
        headers=tuple(response.headers),
        **{"body": response.body, **fields},  # type: ignore[arg-type] # each field has a type of its own
    )
    return shipped().judge(reply).label


@pytest.mark.parametrize(("dialect", "path"), PLAIN)
def test_plain_calls_meet_a_refusal_an_overload_and_an_answer(port: int, dialect: str, path: str) -> None:
    refusal, failure, answer = (ask(port, dialect, path, role) for role in Role)
    assert judge(dialect, refusal) is Label.MODEL_UNSUPPORTED
    assert failure.status in (503, 529)
    assert judge(dialect, failure) is Label.OVERLOADED
    assert answer.status == 200
    assert judge(dialect, answer) is Label.OK
    assert f"not {MODELS[dialect]}: a made-up answer of the credential that works" in answer.body.decode()
    for each in (refusal, failure, answer):
        assert each.header("x-demonstration") == "made up by understudy"


@pytest.mark.parametrize(("dialect", "path"), STREAMED)
def test_a_stream_fails_after_a_lifecycle_event_and_before_output(port: int, dialect: str, path: str) -> None:
    response = ask(port, dialect, path, Role.FAILS_IN_STREAM, streamed=True)
    reader = EventReader(response.header("content-type"))
    events = reader.feed(response.body)
    *before, last = [DIALECTS[dialect].progress(event) for event in events]
    assert response.status == 200
    assert before
    assert set(before) <= {Progress.LIFECYCLE, Progress.PING}
    assert last is Progress.ERROR
    assert judge(dialect, response, body=events[-1].data, event=events[-1].name, streamed=True) is Label.OVERLOADED


@pytest.mark.parametrize(("dialect", "path"), STREAMED)
def test_a_stream_of_output_ends_with_its_terminal_event(port: int, dialect: str, path: str) -> None:
    response = ask(port, dialect, path, Role.WORKS, streamed=True)
    events = EventReader(response.header("content-type")).feed(response.body)
    progress = [DIALECTS[dialect].progress(event) for event in events]
    assert progress.count(Progress.OUTPUT) >= 15
    assert Progress.DONE in progress
    assert Progress.ERROR not in progress


def test_a_stream_is_paced_so_that_one_sees_it_live(port: int) -> None:
    """The first event can be read while the last one has not been sent: what is read at once is not the whole."""
    with Connection(None, f"http://127.0.0.1:{port}") as connection:
        headers = DIALECTS["openai"].credential_headers(Role.WORKS)
        stream = connection.send("POST", CHAT, headers, b'{"model": "gpt-x", "stream": true}')
        assert b"[DONE]" not in stream.read_until(b"data: ")
        stream.finish()
        assert len(stream.response.chunks) >= 20


def test_token_counts_play_the_same_parts(port: int) -> None:
    refusal, failure, answer = (ask(port, "anthropic", COUNT, role, streamed=True) for role in Role)
    assert (refusal.status, failure.status) == (404, 529)
    assert answer.json == {"input_tokens": 5}


@pytest.mark.parametrize(("dialect", "path"), [*PLAIN, *STREAMED, ("anthropic", COUNT)])
def test_other_credentials_are_rejected(port: int, dialect: str, path: str) -> None:
    response = ask(port, dialect, path, "sk-somebody")
    assert response.status == 401
    assert judge(dialect, response) is Label.CREDENTIAL_REJECTED
    assert b"sk-somebody" not in response.body


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/v1/embeddings", [], b"{}", 404),
        (CHAT, [], b"not json", 400),
        (CHAT, [], b"[]", 400),
        (CHAT, [("content-length", "x")], b"", 400),
        (CHAT, [("content-length", str(1 << 40))], b"", 400),
        (CHAT, [("transfer-encoding", "chunked")], b"{}", 401),
    ],
)
def test_requests_that_are_no_model_calls(
    port: int, path: str, headers: list[tuple[str, str]], body: bytes, status: int
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    if headers and headers[0][0] == "transfer-encoding":
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif not headers:
        lines = f"content-length: {len(body)}\r\n"
    answer = exchange_bytes(port, f"POST {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode() + body)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def exchange_bytes(port: int, data: bytes) -> bytes:
    """Send bytes as they are and read the status line."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(data)
        with raw.makefile("rb") as file:
            return file.readline()


def test_the_pool_file_is_one_that_we_accept_ourselves() -> None:
    """The demonstration's pool file has no error and nothing that `understudy check` would warn about."""
    text = demo.pool_yaml(4711)
    warnings: list[object] = []
    pool = parse(text, Path("pool.yaml"), demo.environment(), DIALECTS, warnings)  # type: ignore[arg-type] # only its emptiness counts
    assert warnings == []
    assert lint(pool) == []
    for dialect, model in MODELS.items():
        route = pool.route(model, dialect)
        assert route is not None
        candidates = route.candidates(model, dialect)
        assert [candidate.credential.secret.reveal() for candidate in candidates] == list(Role)
        default = pool.route("something-else", dialect)
        assert default is not None
        assert [one.credential.secret.reveal() for one in default.candidates("m", dialect)] == [Role.WORKS]
    assert {(upstream.host, upstream.port) for upstream in pool.upstreams.values()} == {("127.0.0.1", 4711)}
    assert not any(role.value in text for role in Role)


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("curl") is None, reason="the demonstration commands are curl's")
def test_h12_the_last_command_is_a_drill(port: int, mitmdump: StartProxy) -> None:
    """H12: as it is printed: the best candidate fails, the other one answers, and the sum says so."""
    folder = tempfile.mkdtemp(prefix="us-", dir="/tmp")  # sockets need a short path
    environ = {"XDG_RUNTIME_DIR": folder}
    try:
        proxy = mitmdump(pool_yaml=demo.pool_yaml(port), env={**demo.environment(), **environ})
        for _ in range(400):
            if list(Path(folder).glob("understudy/*.sock")):
                break
            time.sleep(0.05)
        title, command = demo.drill_line(proxy.port, str(proxy.ca), proxy.pid)
        run = subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": str(ROOT / "addon"), **environ},
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert run.returncode == 0, (title, run.stderr)
    assert "candidate openai-works gpt-drill: 429 (a rate limit" in run.stdout
    assert "a made-up answer of the credential that works" in run.stdout
    assert "1 call, 1 of them met the drill: rescued 1, failed 0" in run.stdout


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("curl") is None, reason="the demonstration commands are curl's")
def test_the_commands_show_failovers(port: int, mitmdump: StartProxy) -> None:
    """Each command, as it is printed, is refused once, fails once or twice, and is then answered."""
    proxy = mitmdump(pool_yaml=demo.pool_yaml(port), env=demo.environment())
    lines = demo.curl_lines(proxy.port, str(proxy.ca))
    assert len(lines) >= 4
    for title, command in lines:
        run = subprocess.run(
            shlex.split(command),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )
        assert run.returncode == 0, (title, run.stderr)
        said = "".join(re.findall(r'"(?:content|text)": "([^"]*)"', run.stdout))
        assert "a made-up answer of the credential that works" in said, (title, run.stdout)
    log = proxy.log_text()
    assert log.count("model_unsupported by") == len(lines)
    assert len(re.findall(r"\d/3 again ", log)) == len(lines)
    assert log.count(": answered") == len(lines)
