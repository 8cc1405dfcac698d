"""A stage for the tests of promises: one real mitmdump over two upstreams, shared by many tests.

Starting a proxy takes a second, so tests share one. They do not get in each other's way because each plays under an
alias of its own: suspensions are keyed by the upstream model, and an alias without a model of its own keeps its name.
Tests that suspend a credential or an upstream start a proxy for themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .behaviours import Behaviour, Seen, json_reply, raw, sse
from .client import TIMEOUT, Connection, Response, Stream, Via
from .proxy import Proxy
from .upstream import Upstream

SECRETS = {
    "a": "sk-test-a-0123456789abcdef",
    "b": "sk-test-b-0123456789abcdef",
    "c": "sk-test-c-0123456789abcdef",
    "x": "sk-test-x-0123456789abcdef",
    "x2": "sk-test-x2-0123456789abcdef",
    "claude-a": "sk-ant-api03-a-0123456789abcdef",
    "claude-b": "sk-ant-api03-b-0123456789abcdef",
    "gemini-a": "AIza-test-a-0123456789abcdef",
    "gemini-b": "AIza-test-b-0123456789abcdef",
}
TOOL = "sk-tool-own-0123456789abcdef"
"""What the tool itself sends."""
ENVIRONMENT = {"SECRET_" + name.replace("-", "_").upper(): value for name, value in SECRETS.items()}

HOSTS = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}


def pool_yaml(main: Upstream, other: Upstream, routes: str = "", *, plain: bool = False, extra: str = "") -> str:
    """A pool of three OpenAI credentials on one upstream and one on another, and two of the other dialects each."""
    here, there = (main.plain_url, other.plain_url) if plain else (main.tls_url, other.tls_url)
    secrets = {name: "{env: " + variable + "}" for name, variable in zip(SECRETS, ENVIRONMENT, strict=True)}
    return f"""
upstreams:
  main: {{dialect: openai, url: "{here}/v1"}}
  other: {{dialect: openai, url: "{there}/v1"}}
  claude: {{dialect: anthropic, url: "{here}"}}
  gemini: {{dialect: gemini, url: "{here}"}}
credentials:
  a: {{upstream: main, secret: {secrets["a"]}, headers: {{openai-organization: org-a}}}}
  b: {{upstream: main, secret: {secrets["b"]}}}
  c: {{upstream: main, secret: {secrets["c"]}}}
  x: {{upstream: other, secret: {secrets["x"]}}}
  x2: {{upstream: other, secret: {secrets["x2"]}}}
  claude-a: {{upstream: claude, secret: {secrets["claude-a"]}}}
  claude-b: {{upstream: claude, secret: {secrets["claude-b"]}}}
  gemini-a: {{upstream: gemini, secret: {secrets["gemini-a"]}}}
  gemini-b: {{upstream: gemini, secret: {secrets["gemini-b"]}}}
routes:
{routes or ROUTES}
{extra}
"""


def faulty_pool(faulty: Mapping[str, str], good: Upstream) -> str:
    """A pool for faults that suspend an upstream: each of these base URLs is an upstream, a credential (with the secret
    of ``a``) and an alias of its own, with ``x`` on a good upstream as the second candidate."""
    lines = [
        "upstreams:",
        *(f"  {name}: {{dialect: openai, url: {url}/v1}}" for name, url in faulty.items()),
        f"  other: {{dialect: openai, url: {good.tls_url}/v1}}",
        "credentials:",
        *(f"  {name}: {{upstream: {name}, secret: {{env: SECRET_A}}}}" for name in faulty),
        "  x: {upstream: other, secret: {env: SECRET_X}}",
        "routes:",
        *(f"  {name}: [{name}, x]" for name in faulty),
    ]
    return "\n".join(lines)


ROUTES = """
  default: [a, b, c, claude-a, claude-b, gemini-a, gemini-b]
  pair-*: [a, b]
  far-*: [a, x]
  h1-*: [x, x2]
  solo-*: [a]
  sure-*: {candidates: [a, b], second_opinion: false}
  only-*: [x]
  sub-*: [a, {credential: b, model: substitute}]
"""


@dataclass(frozen=True)
class Api:
    """How one dialect looks on the wire. ``ask`` gives path and body of a call."""

    dialect: str
    first: str
    second: str
    ask: Callable[[str, bool], tuple[str, dict[str, object]]]
    header: Callable[[str], tuple[str, str]]
    refusal: tuple[int, object]
    answer: object
    events: tuple[bytes, ...]
    lifecycle: tuple[bytes, ...]
    error_event: bytes

    def refuses(self, status: int | None = None) -> Behaviour:
        """The vendor's refusal of the model."""
        return json_reply(status or self.refusal[0], self.refusal[1])

    def answers(self) -> Behaviour:
        """A plain answer."""
        return json_reply(200, self.answer)

    def streams(self) -> Behaviour:
        """A streamed answer."""
        return sse(*self.lifecycle, *self.events)

    def fails_in_stream(self) -> Behaviour:
        """A 200 stream that turns into an error before any output."""
        return sse(*self.lifecycle, self.error_event)


def data(value: object, event: str = "") -> bytes:
    """One event of a stream."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


MISSING = "The model `{m}` does not exist or you do not have access to it."
CHAT = Api(
    dialect="openai",
    first="a",
    second="b",
    ask=lambda alias, stream: (
        "/v1/chat/completions",
        {"model": alias, "messages": [{"role": "user", "content": "hi"}], "stream": stream},
    ),
    header=lambda secret: ("authorization", f"Bearer {secret}"),
    refusal=(
        400,
        {"error": {"message": MISSING, "type": "invalid_request_error", "param": None, "code": "model_not_found"}},
    ),
    answer={"id": "c-1", "object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "ok"}}]},
    events=(
        data({"choices": [{"index": 0, "delta": {"content": "one"}}]}),
        data({"choices": [{"index": 0, "delta": {"content": "two"}, "finish_reason": "stop"}]}),
        b"data: [DONE]\n\n",
    ),
    lifecycle=(b": ping\n\n", data({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})),
    error_event=data({"error": {"message": "The server is overloaded", "type": "server_error", "code": "overloaded"}}),
)
RESPONSES = Api(
    dialect="openai",
    first="a",
    second="b",
    ask=lambda alias, stream: ("/v1/responses", {"model": alias, "input": "hi", "stream": stream}),
    header=CHAT.header,
    refusal=CHAT.refusal,
    answer={
        "id": "r-1",
        "object": "response",
        "status": "completed",
        "error": None,
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "ok"}]}],
    },
    events=(
        data({"type": "response.output_text.delta", "delta": "one"}, "response.output_text.delta"),
        data({"type": "response.completed", "response": {"id": "r-1", "status": "completed"}}, "response.completed"),
    ),
    lifecycle=(
        data({"type": "response.created", "response": {"id": "r-1"}}, "response.created"),
        data({"type": "response.in_progress", "response": {"id": "r-1"}}, "response.in_progress"),
    ),
    error_event=data(
        {
            "type": "response.failed",
            "response": {
                "id": "r-1",
                "error": {"code": "server_is_overloaded", "message": "Our servers are overloaded"},
            },
        },
        "response.failed",
    ),
)
MESSAGES = Api(
    dialect="anthropic",
    first="claude-a",
    second="claude-b",
    ask=lambda alias, stream: (
        "/v1/messages?beta=true",
        {"model": alias, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": stream},
    ),
    header=lambda secret: ("x-api-key", secret),
    refusal=(404, {"type": "error", "error": {"type": "not_found_error", "message": "model: {m}"}}),
    answer={"type": "message", "id": "m-1", "role": "assistant", "content": [{"type": "text", "text": "ok"}]},
    events=(
        data(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
            "content_block_delta",
        ),
        data({"type": "message_stop"}, "message_stop"),
    ),
    lifecycle=(
        data({"type": "message_start", "message": {"id": "m-1", "content": []}}, "message_start"),
        data({"type": "ping"}, "ping"),
    ),
    error_event=data(
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        "error",
    ),
)
GEMINI = Api(
    dialect="gemini",
    first="gemini-a",
    second="gemini-b",
    ask=lambda alias, stream: (
        f"/v1beta/models/{alias}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"),
        {"contents": [{"parts": [{"text": "hi"}]}]},
    ),
    header=lambda secret: ("x-goog-api-key", secret),
    refusal=(
        404,
        {
            "error": {
                "code": 404,
                "message": "models/{m} is not found for API version v1beta, or is not supported for generateContent.",
                "status": "NOT_FOUND",
            }
        },
    ),
    answer={"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}]},
    events=(
        data({"candidates": [{"content": {"parts": [{"text": "one"}]}}]}),
        data({"candidates": [{"content": {"parts": [{"text": "two"}]}, "finishReason": "STOP"}]}),
    ),
    lifecycle=(),
    error_event=data({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}),
)
APIS = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES, "gemini": GEMINI}


class Stage:
    """What a test plays on."""

    _numbers = itertools.count(1)

    def __init__(self, proxy: Proxy, main: Upstream, other: Upstream) -> None:
        self.proxy = proxy
        self.main = main
        self.other = other
        self._idle: dict[tuple[str, bool], list[Connection]] = {}
        proxy.before_stop.callback(self._go_away)

    def alias(self, prefix: str = "model") -> str:
        """An alias that no other test uses."""
        return f"{prefix}-{next(Stage._numbers)}"

    def play(self, model: str, parts: Mapping[str, Behaviour | Sequence[Behaviour]]) -> None:
        """Say what each credential's upstream does when it is asked for this model; ``{m}`` stands for the model."""
        for name, part in parts.items():
            behaviours = [part] if callable(part) else list(part)
            for upstream in (self.main, self.other):
                upstream.on(_asked(SECRETS[name], model), *behaviours)

    def seen(self, model: str) -> list[Seen]:
        """The requests for this model at both upstreams, in order."""
        both = [*self.main.seen, *self.other.seen]
        return sorted((one for one in both if _names(one, model)), key=lambda one: one.time)

    def order(self, model: str) -> list[str]:
        """Whose credential each request for this model carried, in order."""
        names = {secret: name for name, secret in SECRETS.items()}
        return [names.get(one.credential, one.credential) for one in self.seen(model)]

    def connect(
        self,
        api: Api,
        *,
        http2: bool = False,
        via: Via = Via.CONNECT,
        url: str = "",
        timeout: float = TIMEOUT,
        h2_second: bool = False,
    ) -> Connection:
        """A tool's connection through the proxy, to the vendor's own name unless ``url`` says another."""
        url = url or HOSTS[api.dialect]
        return Connection(
            self.proxy.port, url, ca=self.proxy.ca, http2=http2, h2_second=h2_second, via=via, timeout=timeout
        )

    def call(
        self,
        api: Api,
        alias: str,
        *,
        stream: bool = False,
        http2: bool = False,
        headers: Sequence[tuple[str, str]] = (),
        path: str = "",
        body: bytes | None = None,
        anew: bool = False,
    ) -> Response:
        """One call of a tool, read to its end.

        On a connection that an earlier call has left, as most tools do; making one is most of the proxy's work.
        ``anew``: on one of its own, where it matters that neither side is kept.
        """
        idle = self._idle.setdefault((api.dialect, http2), [])
        connection = (None if anew else _usable(idle)) or self.connect(api, http2=http2)
        try:
            sent = self.send(connection, api, alias, stream=stream, headers=headers, path=path, body=body)
            response = sent.finish()
        except BaseException:
            connection.close()
            raise
        if anew or not connection.is_reusable:
            connection.close()
        else:
            idle.append(connection)
        return response

    def send(
        self,
        connection: Connection,
        api: Api,
        alias: str,
        *,
        stream: bool = False,
        headers: Sequence[tuple[str, str]] = (),
        path: str = "",
        body: bytes | None = None,
    ) -> Stream:
        """One call of a tool on a connection that it has already, not waited for."""
        own, asked = api.ask(alias, stream)
        content = json.dumps(asked).encode() if body is None else body
        all_headers = [("content-type", "application/json"), api.header(TOOL), *headers]
        return connection.send("POST", path or own, all_headers, content)

    def _go_away(self) -> None:
        for connections in self._idle.values():
            while connections:
                connections.pop().close()


def _usable(idle: list[Connection]) -> Connection | None:
    """Take one that is still good from the kept connections. Calls may be made by several threads."""
    with contextlib.suppress(IndexError):
        while not (connection := idle.pop()).is_reusable:
            connection.close()
        return connection
    return None


CRASHES = (
    *("mitmproxy has crashed", "Traceback", "understudy: internal error", "Unhandled error"),
    *("an attempt cannot be shown", "an exchange cannot be counted"),
)


def crashes(proxy: Proxy, since: int = 0) -> list[str]:
    """The lines of the log, from this character on, that tell of a crash of the proxy or of understudy."""
    return [line for line in proxy.log_text()[since:].splitlines() if any(mark in line for mark in CRASHES)]


def filled(value: object, model: str) -> object:
    """A JSON value with the model's name in its texts."""
    return json.loads(json.dumps(value).replace("{m}", model))


def refusal(api: Api, model: str, status: int | None = None) -> Behaviour:
    """The vendor's refusal of this model."""
    return json_reply(status or api.refusal[0], filled(api.refusal[1], model))


def whole(api: Api, *, stream: bool) -> Behaviour:
    """A good answer."""
    return api.streams() if stream else api.answers()


def text(status: int, body: bytes, content_type: str = "text/html") -> Behaviour:
    """A reply that is not JSON."""
    return raw(status, [("content-type", content_type)], body)


def _asked(secret: str, model: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.credential == secret and _names(seen, model)


def _names(seen: Seen, model: str) -> bool:
    if f"/models/{model}:" in seen.path:
        return True
    try:
        return seen.json.get("model") == model
    except ValueError:
        return f'"{model}"'.encode() in seen.body or f"\r\n{model}\r\n".encode() in seen.body
