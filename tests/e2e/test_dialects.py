"""Each dialect, and each way between relatives, through one real mitmdump: refused by one, answered by the next.

Plain and streamed, over HTTP/1.1 and HTTP/2 upstreams; what the second upstream gets is checked as well, and that no
secret goes where it does not belong.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.amazon_frames import frame
from understudy.codec.amazon_frames import TYPE as FRAMES
from understudy.codec.content_encoding import decode_request

from .authority import Authority
from .behaviours import Behaviour, Gate, Seen, chunks, encoded, json_reply, raw
from .client import Connection, End, Response, path_of
from .proxy import Proxy
from .stage import CHAT, GEMINI, MESSAGES, RESPONSES, TOOL, crashes, data, filled
from .test_sdks import CHAT_EVENTS, MESSAGE_EVENTS
from .upstream import Upstream

PROJECT = "/v1/projects/p/locations/l"
UPSTREAMS = {
    "openai": ("openai", "/v1", ""),
    "azure": ("azure-openai", "/openai", ", api_version: 2024-10-21"),
    "azure-v1": ("azure-openai", "/openai/v1", ""),
    "claude": ("anthropic", "", ""),
    "claude-vertex": ("anthropic-vertex", PROJECT, ""),
    "gemini": ("gemini", "", ""),
    "vertex": ("vertex", PROJECT, ""),
    "bedrock": ("bedrock", "", ""),
    "cohere": ("cohere", "", ""),
    "ollama": ("ollama", "", ""),
}
SECRETS = {f"{name}-{number}": f"key-{name}-{number}-0123456789" for name in UPSTREAMS for number in (1, 2)}
ENVIRONMENT = {name.upper().replace("-", "_"): secret for name, secret in SECRETS.items()}
AWS = {"AWS_ID": "AKIDEXAMPLE", "AWS_KEY": "aws/secret+key-0123456789", "AWS_TOKEN": "aws/session+token-0123456789"}
MODEL = "up-model"
"""What the second candidate calls the model; the first keeps the alias."""


def ndjson(*rows: object) -> bytes:
    """Lines of JSON."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def framed(name: str, value: object) -> bytes:
    """An event in Amazon's framing."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(value).encode())


def inside(value: object) -> bytes:
    """The inside of a chunk, in Amazon's framing."""
    return framed("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode(), "p": "abc"})


def google(code: int, status: str, message: str) -> object:
    """An error of Google's."""
    return {"error": {"code": code, "message": message, "status": status}}


@dataclass(frozen=True)
class Wire:
    """How an upstream of a dialect refuses, answers and streams; ``sent``: what its stream is for the tool."""

    refusal: tuple[int, object]
    answer: object
    steps: tuple[bytes, ...]
    content_type: str = "text/event-stream"
    sent: bytes = b""

    @property
    def stream(self) -> bytes:
        """The stream as the tool of its own dialect gets it."""
        return self.sent or b"".join(self.steps)


MISSING = (
    404,
    {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
)
CLAUDE_EVENTS: tuple[dict[str, object], ...] = (
    {"type": "message_start", "message": {"id": "m-1", "model": MODEL, "content": []}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
    {"type": "message_stop"},
)
WIRES = {
    "openai": Wire(CHAT.refusal, {**CHAT.answer, "model": MODEL}, (*CHAT.lifecycle, *CHAT.events)),  # type: ignore[dict-item]
    "azure-openai": Wire(MISSING, CHAT.answer, (*CHAT.lifecycle, *CHAT.events)),
    "responses": Wire(RESPONSES.refusal, RESPONSES.answer, (*RESPONSES.lifecycle, *RESPONSES.events)),
    "anthropic": Wire(MESSAGES.refusal, MESSAGES.answer, (*MESSAGES.lifecycle, *MESSAGES.events)),
    "anthropic-vertex": Wire(
        (400, google(400, "FAILED_PRECONDITION", "Publisher Model `{m}` is not servable in region l.")),
        MESSAGES.answer,
        (*MESSAGES.lifecycle, *MESSAGES.events),
    ),
    "gemini": Wire(GEMINI.refusal, GEMINI.answer, GEMINI.events),
    "vertex": Wire(
        (404, google(404, "NOT_FOUND", "Publisher Model `projects/p/publishers/google/models/{m}` was not found.")),
        GEMINI.answer,
        GEMINI.events,
    ),
    "bedrock": Wire(
        (400, {"__type": "ValidationException", "message": "The provided model identifier is invalid."}),
        {"output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}}, "stopReason": "end_turn"},
        (
            framed("messageStart", {"role": "assistant", "p": "ab"}),
            framed("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "one"}, "p": "abcd"}),
            framed("messageStop", {"stopReason": "end_turn"}),
            framed("metadata", {"usage": {"inputTokens": 1}}),
        ),
        FRAMES,
    ),
    "bedrock-claude": Wire(
        (403, {"__type": "AccessDeniedException", "message": "You don't have access to the model with this ID."}),
        MESSAGES.answer,
        tuple(map(inside, CLAUDE_EVENTS)),
        FRAMES,
        b"".join(data(event, str(event["type"])) for event in CLAUDE_EVENTS),
    ),
    "cohere": Wire(
        (404, {"id": "1", "message": "model '{m}' not found, make sure the correct model ID was used"}),
        {"id": "1", "message": {"role": "assistant", "content": [{"text": "ok"}]}, "finish_reason": "COMPLETE"},
        (
            data({"type": "message-start", "delta": {"message": {"role": "assistant"}}}, "message-start"),
            data({"type": "content-delta", "delta": {"message": {"content": {"text": "one"}}}}, "content-delta"),
            data({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}, "message-end"),
            b"data: [DONE]\n\n",
        ),
    ),
    "ollama": Wire(
        (404, {"error": "model '{m}' not found"}),
        {"model": MODEL, "message": {"role": "assistant", "content": "ok"}, "done": True},
        (
            ndjson({"model": MODEL, "message": {"role": "assistant", "content": ""}, "done": False}),
            ndjson({"model": MODEL, "message": {"role": "assistant", "content": "one"}, "done": False}),
            ndjson({"model": MODEL, "message": {"role": "assistant", "content": ""}, "done": True}),
        ),
        "application/x-ndjson",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A tool's call, whom it is refused by and who answers.

    ``url``: with ``{m}`` for the alias, ``|`` between its plain and its streamed action. ``path`` is where the
    answering upstream gets it.
    """

    url: str
    first: str
    second: str
    path: str
    refuses: str = ""
    answers: str = ""
    header: str = "authorization"
    body: Callable[[str, bool], object] = lambda alias, stream: {"model": alias, "stream": stream, "messages": []}

    def asked(self, alias: str, stream: bool) -> tuple[str, bytes]:
        """URL and body of the call."""
        return _form(self.url, alias, stream), json.dumps(self.body(alias, stream)).encode()


def _form(text: str, model: str, stream: bool) -> str:
    """The plain or the streamed form of a URL or path: ``a/b:c`` or ``a/b:d`` of ``a/b:c|d``."""
    plain, _, streamed = text.partition("|")
    if streamed and stream:
        plain = re.sub(r"[^/:]+$", streamed, plain)
    return plain.replace("{m}", model)


def nameless(alias: str, stream: bool) -> object:
    """A body for a path that names model and streaming."""
    return {"contents": [{"role": "user", "parts": [{"text": alias}]}]}


def messages(alias: str, stream: bool) -> object:
    """A body of Anthropic's."""
    return {"model": alias, "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": alias}]}


def versioned(alias: str, stream: bool) -> object:
    """The same for Vertex AI."""
    more = {"stream": True} if stream else {}
    return {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, **more, "messages": []}


AZURE = "https://tool.openai.azure.com/openai/deployments/{m}/chat/completions?api-version=2025-01-01"
VERTEX = "https://l-aiplatform.googleapis.com/v1beta1/projects/own/locations/l/publishers"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/models/{m}:generateContent|streamGenerateContent"
CLAUDE = "https://api.anthropic.com/v1/messages"
CONVERSE = "https://bedrock-runtime.x.amazonaws.com/model/{m}/converse|converse-stream"
CASES = {
    "azure-to-openai": Case(AZURE, "azure-1", "openai-1", "/v1/chat/completions", "azure-openai", "openai", "api-key"),
    "openai-to-azure": Case(
        "https://api.openai.com/v1/chat/completions", "openai-1", "azure-1",
        "/openai/deployments/{m}/chat/completions?api-version=2024-10-21", "openai", "azure-openai",
    ),
    "openai-to-azure-v1": Case(
        "https://api.openai.com/v1/responses", "openai-1", "azure-v1-1", "/openai/v1/responses",
        "responses", "responses",
    ),
    "azure-to-azure": Case(
        AZURE, "azure-1", "azure-2", "/openai/deployments/{m}/chat/completions?api-version=2025-01-01",
        "azure-openai", "azure-openai", "api-key",
    ),
    "codex-to-openai": Case(
        "https://chatgpt.com/backend-api/codex/responses", "openai-1", "openai-2", "/v1/responses",
        "responses", "responses",
    ),
    "copilot-to-azure": Case(
        "https://api.githubcopilot.com/chat/completions", "openai-1", "azure-v1-1", "/openai/v1/chat/completions",
        "openai", "openai",
    ),
    "gemini-to-vertex": Case(
        GOOGLE, "gemini-1", "vertex-1", PROJECT + "/publishers/google/models/{m}:generateContent|streamGenerateContent",
        "gemini", "vertex", "x-goog-api-key", nameless,
    ),
    "vertex-to-gemini": Case(
        VERTEX + "/google/models/{m}:generateContent|streamGenerateContent", "vertex-1", "gemini-1",
        "/v1beta/models/{m}:generateContent|streamGenerateContent", "vertex", "gemini", body=nameless,
    ),
    "anthropic-to-vertex": Case(
        CLAUDE, "claude-1", "claude-vertex-1", PROJECT + "/publishers/anthropic/models/{m}:rawPredict|streamRawPredict",
        "anthropic", "anthropic-vertex", "x-api-key", messages,
    ),
    "vertex-to-anthropic": Case(
        VERTEX + "/anthropic/models/{m}:rawPredict|streamRawPredict", "claude-vertex-1", "claude-1", "/v1/messages",
        "anthropic-vertex", "anthropic", body=versioned,
    ),
    "anthropic-to-bedrock": Case(
        CLAUDE, "claude-1", "bedrock-1", "/model/{m}/invoke|invoke-with-response-stream",
        "anthropic", "bedrock-claude", "x-api-key", messages,
    ),
    "bedrock-to-anthropic": Case(
        CLAUDE, "bedrock-1", "claude-1", "/v1/messages", "bedrock-claude", "anthropic", "x-api-key", messages
    ),
    "bedrock": Case(
        CONVERSE, "bedrock-1", "bedrock-2", "/model/{m}/converse|converse-stream", "bedrock", "bedrock", body=nameless
    ),
    "cohere": Case("https://api.cohere.com/v2/chat", "cohere-1", "cohere-2", "/v2/chat", "cohere", "cohere"),
    "ollama": Case("https://ollama.com/api/chat", "ollama-1", "ollama-2", "/api/chat", "ollama", "ollama"),
}  # fmt: skip


def pool_yaml(main: Upstream, other: Upstream) -> str:
    """Upstreams of every dialect; credentials with a 1 live at the first upstream, the others at the second."""
    lines = ["upstreams:"]
    for name, (dialect, base_path, more) in UPSTREAMS.items():
        for number, where in ((1, main), (2, other)):
            lines.append(f"  {name}-{number}: {{dialect: {dialect}, url: '{where.tls_url}{base_path}'{more}}}")
    lines.append("credentials:")
    lines += [
        f"  {name}: {{upstream: {name}, secret: {{env: {variable}}}}}"
        for name, variable in zip(SECRETS, ENVIRONMENT, strict=True)
    ]
    lines.append(
        "  signed: {upstream: bedrock-1, secret: {aws: {access_key_id: {env: AWS_ID}, region: us-east-1, "
        "secret_access_key: {env: AWS_KEY}, session_token: {env: AWS_TOKEN}}}}"
    )
    lines.append("routes:")
    lines.append(f"  signed-*: [claude-1, {{credential: signed, model: 'acme.{MODEL}:0'}}]")
    for name, case in CASES.items():
        choices = f"[{case.first}, {{credential: {case.second}, model: {MODEL}}}]"
        lines.append(f"  {name}-*: {{candidates: {choices}, relatives: mixed}}")
        lines.append(f"  named-{name}-*: {{candidates: {choices}, relatives: mixed, restore_alias: true}}")
    lines.append("  last-*: [openai-1, azure-1, openai-2]")
    lines.append("  mixed-*: {candidates: [openai-1, azure-1], relatives: mixed}")
    lines.append("  late-*: {candidates: [openai-1, openai-2], restore_alias: true, budget: {seconds: 0.1}}")
    lines += ["  plain-alias: [openai-1]", "models: union"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority
) -> Iterator[tuple[Proxy, Upstream, Upstream]]:
    """One proxy for all of this file; the second upstream speaks HTTP/1.1 only."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        with Proxy(
            tmp_path_factory.mktemp("dialects"),
            confdir,
            trusted=authority.path,
            env={**ENVIRONMENT, **AWS},
            pool_yaml=pool_yaml(main, other),
        ) as proxy:
            yield proxy, main, other
        assert not crashes(proxy)


_numbers = itertools.count(1)


@dataclass
class Play:
    """One call of a case: what it is called, and what came of it."""

    place: tuple[Proxy, Upstream, Upstream]
    case: Case
    stream: bool
    prefix: str = ""

    def __post_init__(self) -> None:
        name = next(name for name, case in CASES.items() if case is self.case)
        self.alias = f"{self.prefix}{name}-{next(_numbers)}"
        refusing, answering = WIRES[self.case.refuses], WIRES[self.case.answers]
        self.on(self.case.first, json_reply(refusing.refusal[0], filled(refusing.refusal[1], self.alias)))
        if self.stream:
            self.on(self.case.second, chunks(200, [("content-type", answering.content_type)], *answering.steps))
        else:
            self.on(self.case.second, json_reply(200, answering.answer))

    def on(self, name: str, behaviour: object) -> None:
        """Say what the upstream of a credential does with this call."""
        for upstream in self.place[1:]:
            upstream.on(self.is_for(name), behaviour)  # type: ignore[arg-type]

    def is_for(self, name: str) -> Callable[[Seen], bool]:
        model = (self.alias if name == self.case.first else MODEL).encode()
        return lambda seen: seen.credential == SECRETS[name] and model in seen.path.encode() + seen.body

    def call(self, *, http2: bool = False) -> Response:
        """The tool's call, read to its end."""
        url, body = self.case.asked(self.alias, self.stream)
        host = "/".join(url.split("/")[:3])
        secret = TOOL if self.case.header != "authorization" else f"Bearer {TOOL}"
        with Connection(self.place[0].port, host, ca=self.place[0].ca, http2=http2) as connection:
            headers = [(self.case.header, secret), ("content-type", "application/json"), ("anthropic-beta", "a-1")]
            return connection.request("POST", path_of(url), headers, body)

    def seen(self, name: str) -> list[Seen]:
        """What the upstream of a credential got of this call."""
        return [seen for upstream in self.place[1:] for seen in upstream.seen if self.is_for(name)(seen)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_second_candidate_answers(place: tuple[Proxy, Upstream, Upstream], case: Case, stream: bool) -> None:
    """F01, R02, R03, R05: refused by one, answered by the other, in the tool's own form; then at once by the other."""
    play = Play(place, case, stream)
    wire = WIRES[case.answers]
    before = len(play.seen(case.second))
    for _ in range(2):
        response = play.call(http2=stream)
        assert (response.status, response.end) == (200, End.CLEAN)
        assert response.body == wire.stream if stream else response.json == wire.answer
    refused, answered = play.seen(case.first), play.seen(case.second)[before:]
    assert (len(refused), len(answered)) == (1, 2)
    expected = _form(case.path, MODEL, stream)
    assert {seen.path for seen in answered} == {expected}
    for seen in (*refused, *answered):
        assert TOOL not in repr((seen.path, seen.headers)) and TOOL.encode() not in seen.body
        assert sum(secret in repr((seen.path, seen.headers)) for secret in SECRETS.values()) == 1


OWN_FIRST = {
    "azure": ("last", "azure-to-openai", ["azure-1", "openai-1"]),
    "openai": ("last", "openai-to-azure", ["openai-1", "openai-2", "azure-1"]),
    "azure, mixed": ("mixed", "azure-to-openai", ["openai-1", "azure-1"]),
}


@pytest.mark.parametrize("kind", OWN_FIRST)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a09_the_tools_own_dialect_goes_first(place: tuple[Proxy, Upstream, Upstream], kind: str, stream: bool) -> None:
    """A09: all but the last refuse the model; who was asked, in what order, whatever stands first in the pool file."""
    prefix, case, expected = OWN_FIRST[kind]
    proxy, *both = place
    alias, wire = f"{prefix}-{next(_numbers)}", WIRES["openai"]

    def of(name: str) -> Callable[[Seen], bool]:
        return lambda seen: seen.credential == SECRETS[name] and alias.encode() in seen.path.encode() + seen.body

    for name in expected:
        status, error = wire.refusal
        good = (
            chunks(200, [("content-type", wire.content_type)], *wire.steps) if stream else json_reply(200, wire.answer)
        )
        for upstream in both:
            upstream.on(of(name), good if name == expected[-1] else json_reply(status, filled(error, alias)))
    url, body = CASES[case].asked(alias, stream)
    header = CASES[case].header
    with Connection(proxy.port, "/".join(url.split("/")[:3]), ca=proxy.ca) as connection:
        secret = TOOL if header != "authorization" else f"Bearer {TOOL}"
        response = connection.request(
            "POST", path_of(url), [(header, secret), ("content-type", "application/json")], body
        )
    assert (response.status, response.end) == (200, End.CLEAN)
    seen = sorted((each for upstream in both for each in upstream.seen), key=lambda each: each.time)
    asked = [name for each in seen for name in SECRETS if of(name)(each)]
    assert asked == expected


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_signed_request(place: tuple[Proxy, Upstream, Upstream], stream: bool) -> None:
    """F01, R03: the signature that reaches Bedrock is over what reaches it, and an echo of what it holds is masked."""
    alias = f"signed-{next(_numbers)}"
    proxy, main, _ = place
    wire = WIRES["bedrock-claude"]
    headers = [("content-type", wire.content_type)]
    main.on(
        lambda seen: seen.credential.startswith("AWS4") and alias.encode() in seen.body,
        chunks(200, headers, *wire.steps) if stream else json_reply(200, wire.answer),
        json_reply(400, {"__type": "ValidationException", "message": f"odd: {AWS['AWS_TOKEN']} {AWS['AWS_KEY']}"}),
    )
    main.on(
        lambda seen: seen.credential == SECRETS["claude-1"] and alias.encode() in seen.body,
        json_reply(404, filled(MESSAGES.refusal[1], alias)),
    )
    with Connection(proxy.port, "https://api.anthropic.com", ca=proxy.ca) as connection:
        body = json.dumps(messages(alias, stream)).encode()
        first, second = (connection.request("POST", "/v1/messages", [("x-api-key", TOOL)], body) for _ in range(2))
    assert first.body == wire.stream if stream else first.json == wire.answer
    assert b"odd: <understudy:signed> <understudy:signed>" in second.body
    (seen, _) = [seen for seen in main.seen if seen.credential.startswith("AWS4") and alias.encode() in seen.body]
    assert seen.path.startswith(f"/model/acme.{MODEL}%3A0/invoke")
    assert seen.header("authorization").endswith(f"Signature={signature(main, seen)}")
    assert not [value for value in AWS.values() if value in proxy.log_text()]


def signature(upstream: Upstream, seen: Seen) -> str:
    """The signature that AWS would expect."""
    request = AWSRequest(method=seen.method, url=f"https://localhost:{upstream.tls_port}{seen.path}", data=seen.body)
    for name in ("content-type", "x-amz-date", "x-amz-security-token"):
        if value := seen.header(name):
            request.headers[name] = value
    request.context["timestamp"] = seen.header("x-amz-date")
    auth = SigV4Auth(Credentials(AWS["AWS_ID"], AWS["AWS_KEY"], AWS["AWS_TOKEN"]), "bedrock", "us-east-1")
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


LIVE = [
    "openai-to-azure",
    "gemini-to-vertex",
    "anthropic-to-vertex",
    "anthropic-to-bedrock",
    "bedrock",
    "cohere",
    "ollama",
]


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("prefix", ["", "named-"], ids=["as-it-is", "named"])
def test_a_stream_is_live(place: tuple[Proxy, Upstream, Upstream], name: str, prefix: str) -> None:
    """S01: each event reaches the tool while the upstream still holds the next one, edited or not."""
    play = Play(place, CASES[name], True, prefix)
    wire, gate = WIRES[play.case.answers], Gate()
    headers = [("content-type", wire.content_type)]
    play.on(play.case.second, chunks(200, headers, *wire.steps[:-1], gate, wire.steps[-1]))
    url, body = play.case.asked(play.alias, True)
    with Connection(place[0].port, "/".join(url.split("/")[:3]), ca=place[0].ca) as connection:
        sent = connection.send("POST", path_of(url), [("authorization", f"Bearer {TOOL}")], body)
        try:
            sent.read_until(b"one")
            assert sent.end is None
        finally:
            gate.open()
        response = sent.finish()
    assert response.end is End.CLEAN
    assert response.body == wire.stream.replace(MODEL.encode(), play.alias.encode() if prefix else MODEL.encode())


@pytest.mark.parametrize("name", ["azure-to-openai", "ollama", "anthropic-to-bedrock"])
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_stream_with_a_length_is_edited(place: tuple[Proxy, Upstream, Upstream], name: str, http2: bool) -> None:
    """The length that an upstream announced does not hold for what the tool gets."""
    play = Play(place, CASES[name], True, "named-")
    wire = WIRES[play.case.answers]
    play.on(play.case.second, raw(200, [("content-type", wire.content_type)], b"".join(wire.steps)))
    response = play.call(http2=http2)
    assert (response.status, response.end, response.header("content-length")) == (200, End.CLEAN, "")
    assert response.body == wire.stream.replace(MODEL.encode(), play.alias.encode())


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_stream_that_is_released_inside_an_event(place: tuple[Proxy, Upstream, Upstream], http2: bool) -> None:
    """Law 10: when the hold ends before an event is whole, nothing goes to the tool yet, and nothing ends either."""
    proxy, main, _ = place
    alias, gate = f"late-{next(_numbers)}", Gate()
    one = data({"model": MODEL, "choices": [{"index": 0, "delta": {"content": "one"}}]})
    headers = [("content-type", "text/event-stream")]
    main.on(
        lambda seen: alias.encode() in seen.body, chunks(200, headers, one[:12], gate, one[12:], b"data: [DONE]\n\n")
    )
    with Connection(proxy.port, "https://api.openai.com", ca=proxy.ca, http2=http2) as connection:
        asked = json.dumps({"model": alias, "stream": True, "messages": []}).encode()
        sent = connection.send("POST", "/v1/chat/completions", [("authorization", f"Bearer {TOOL}")], asked)
        assert sent.response.status == 200
        gate.open()
        response = sent.finish()
    assert response.end is End.CLEAN
    assert response.body == one.replace(MODEL.encode(), alias.encode()) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("name", ["azure-to-openai", "ollama"])
def test_a_plain_answer_names_the_alias(place: tuple[Proxy, Upstream, Upstream], name: str) -> None:
    """restore_alias: only the model's name changes, and the upstream is asked for what can be read."""
    play = Play(place, CASES[name], False, "named-")
    response = play.call()
    wire = WIRES[play.case.answers]
    assert response.body == json.dumps(wire.answer).replace(MODEL, play.alias).encode()
    assert response.header("content-length") == str(len(response.body))
    assert play.seen(play.case.second)[-1].header("accept-encoding") == "identity"


@pytest.mark.parametrize(
    ("name", "content_type", "steps"),
    [
        (
            "bedrock-to-anthropic",
            FRAMES,
            [
                inside(CLAUDE_EVENTS[0]),
                frame(
                    {":exception-type": "throttlingException", ":message-type": "exception"},
                    b'{"message":"Too many requests, please wait before trying again."}',
                ),
            ],
        ),
        ("ollama", "application/x-ndjson", [ndjson({"error": "an error was encountered while running the model"})]),
        (
            "cohere",
            "text/event-stream",
            [
                WIRES["cohere"].steps[0],
                data({"type": "message-end", "delta": {"finish_reason": "ERROR"}}, "message-end"),
            ],
        ),
    ],
)
def test_an_error_in_the_stream(
    place: tuple[Proxy, Upstream, Upstream], name: str, content_type: str, steps: list[bytes]
) -> None:
    """S02: an error before any output counts like one with a status, in every framing."""
    play = Play(place, CASES[name], True)
    play.on(play.case.first, chunks(200, [("content-type", content_type)], *steps))
    response = play.call()
    assert (response.status, response.body) == (200, WIRES[play.case.answers].stream)
    assert play.seen(play.case.first)


def test_the_end_of_a_stream_in_frames_is_seen(place: tuple[Proxy, Upstream, Upstream]) -> None:
    """S03: an exception after output reaches the tool as an error event, and the candidate pays for it."""
    play = Play(place, CASES["bedrock-to-anthropic"], True)
    failure = frame(
        {":exception-type": "modelStreamErrorException", ":message-type": "exception"}, b'{"message":"broke down"}'
    )
    steps = [*WIRES["bedrock-claude"].steps[:2], failure]
    play.on(play.case.first, chunks(200, [("content-type", FRAMES)], *steps))
    response = play.call()
    error = {"type": "modelStreamErrorException", "message": "broke down"}
    assert response.body.endswith(data({"type": "error", "error": error}, "error"))
    assert play.call().body == WIRES["anthropic"].stream
    assert len(play.seen(play.case.first)) == 1


LISTS = {
    "plain": json_reply(200, {"object": "list", "data": [{"id": "m-1", "object": "model"}]}, [("etag", "x")]),
    "gzip": encoded(200, {"object": "list", "data": [{"id": "m-1", "object": "model"}]}, "gzip"),
    "zstd": encoded(200, {"object": "list", "data": [{"id": "m-1", "object": "model"}]}, "zstd"),
}


@pytest.mark.parametrize("behaviour", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_the_list_of_models(place: tuple[Proxy, Upstream, Upstream], behaviour: Behaviour, http2: bool) -> None:
    """models: union: the upstream's own list for the tool's own credential, with the pool's aliases behind it."""
    proxy, main, _ = place
    main.on(lambda seen: seen.path == "/v1/models", behaviour)
    with Connection(proxy.port, main.tls_url, ca=proxy.ca, http2=http2) as connection:
        response = connection.request("GET", "/v1/models", [("authorization", f"Bearer {TOOL}")])
    assert (response.status, response.end, response.header("etag")) == (200, End.CLEAN, "")
    decoded = decode_request(response.body, response.header("content-encoding"))
    assert [each["id"] for each in json.loads(decoded or b"")["data"]] == ["m-1", "plain-alias"]
    assert [seen.credential for seen in main.seen if seen.path == "/v1/models"][-1] == TOOL


def test_a_list_that_is_refused_passes(place: tuple[Proxy, Upstream, Upstream]) -> None:
    """R10: understudy does not answer for an upstream, and the key in the query stays out of sight."""
    proxy, main, _ = place
    main.on(lambda seen: seen.path.startswith("/v1beta/models"), json_reply(403, {"error": {"message": "no"}}))
    with Connection(proxy.port, main.tls_url, ca=proxy.ca) as connection:
        response = connection.request("GET", f"/v1beta/models?key={TOOL}")
    assert (response.status, response.json) == (403, {"error": {"message": "no"}})
    main.on(lambda seen: seen.path.startswith("/v1beta/models"), json_reply(200, {"models": []}))
    with Connection(proxy.port, main.tls_url, ca=proxy.ca) as connection:
        assert connection.request("GET", f"/v1beta/models?key={TOOL}").json == {"models": []}
    assert TOOL not in proxy.log_text()


CLIENTS = """
import json, sys
import anthropic, google.auth.credentials, google.genai, google.oauth2.credentials, openai
azure, bedrock, vertex, google_vertex = sys.argv[1:5]
ask = [{"role": "user", "content": "hi"}]
said = []
there = dict(azure_endpoint="https://tool.openai.azure.com", api_version="2025-01-01", max_retries=0)
with openai.AzureOpenAI(**there) as client:
    stream = client.chat.completions.create(model=azure, messages=ask, stream=True)
    said.append("".join(chunk.choices[0].delta.content or "" for chunk in stream))
for client, model in (
    (anthropic.Anthropic(max_retries=0), bedrock),
    (anthropic.AnthropicVertex(region="l", project_id="own", access_token="t", max_retries=0), vertex),
):
    with client, client.messages.stream(model=model, max_tokens=9, messages=ask) as stream:
        said.append("".join(stream.text_stream))
token = google.oauth2.credentials.Credentials("t")
client = google.genai.Client(vertexai=True, project="own", location="l", credentials=token)
said.append("".join(chunk.text for chunk in client.models.generate_content_stream(model=google_vertex, contents="hi")))
print(json.dumps(said))
"""


@pytest.mark.tools
def test_the_vendors_own_clients(place: tuple[Proxy, Upstream, Upstream]) -> None:
    """F01: unmodified clients of Azure, Anthropic and Vertex AI read what a relative answered, its frames included."""
    plays = [
        Play(place, CASES[name], True)
        for name in ("azure-to-openai", "anthropic-to-bedrock", "vertex-to-anthropic", "vertex-to-gemini")
    ]
    inner = [json.loads(event.partition(b"data: ")[2]) for event in MESSAGE_EVENTS]
    steps = [CHAT_EVENTS, list(map(inside, inner)), MESSAGE_EVENTS, list(GEMINI.events)]
    for play, events in zip(plays, steps, strict=True):
        content_type = WIRES[play.case.answers].content_type
        play.on(play.case.second, chunks(200, [("content-type", content_type)], *events))
    done = subprocess.run(
        [sys.executable, "-c", CLIENTS, *(play.alias for play in plays)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={
            "HTTPS_PROXY": f"http://127.0.0.1:{place[0].port}",
            "SSL_CERT_FILE": str(place[0].ca),
            "PATH": "",
            "HOME": str(place[0].directory),
            "AZURE_OPENAI_API_KEY": TOOL,
            "ANTHROPIC_API_KEY": TOOL,
        },
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["onetwo"] * 4
    assert all(len(play.seen(play.case.first)) == 1 for play in plays)
