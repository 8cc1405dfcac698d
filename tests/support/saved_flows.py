"""Saved flows for tests: dumps and HARs as mitmproxy writes them, with and without understudy's notes."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping
from typing import Any

from mitmproxy import connection, http
from mitmproxy import flow as mflow
from mitmproxy import io as flows
from mitmproxy.addons.savehar import SaveHar

from tests.support.decisions import NOW
from understudy.flows.flow_file import flow_values, read_flows
from understudy.flows.masks import Masks
from understudy.flows.saved_flow import SavedFlow
from understudy.model.pool import Pool, Route
from understudy.rules.folders import shipped
from understudy.rules.ruleset import Ruleset
from understudy.whatif.recorder import Recorder

SECRET = "sk-live-0123456789abcdefABCDEF+/"
"""What the tool really sent, with characters that URL encoding changes."""
OK = {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}
MISSING = {"error": {"message": "The model `gpt-5` does not exist", "code": "model_not_found"}}
LIMITED = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
ODD = {"error": {"message": "Seat 17 is not staffed today"}}
STREAM = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@functools.cache
def rules() -> Ruleset:
    """The shipped rules, loaded once."""
    return shipped()


def flow(
    status: int = 200,
    body: object = None,
    *,
    at: float = NOW,
    took: float = 1.0,
    model: str = "gpt-5",
    streamed: bool = False,
    host: str = "api.openai.com",
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
    sent: Mapping[str, str] | None = None,
    facts: object = None,
    error: str = "",
    connected: bool = True,
) -> http.HTTPFlow:
    """A model call and its reply; ``status`` 0: there was none. ``body``: bytes are sent as they are, else as JSON."""
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=at)
    server = connection.Server(address=(host, 443))
    server.timestamp_start = at
    server.timestamp_tcp_setup = at if connected else None
    made = http.HTTPFlow(client, server)
    asked = json.dumps({"model": model, "stream": streamed}).encode()
    fields = {"content-type": "application/json", "authorization": f"Bearer {SECRET}", **(sent or {})}
    named = http.Headers((name.encode(), value.encode()) for name, value in fields.items())
    made.request = http.Request.make("POST", f"https://{host}{path}", asked, named)
    made.request.timestamp_start = at
    made.request.timestamp_end = at
    if status:
        live = isinstance(body, bytes) and body.startswith(b"data:")
        content = body if isinstance(body, bytes) else json.dumps(OK if body is None else body).encode()
        kind = "text/event-stream" if live else "application/json"
        made.response = http.Response.make(status, content, {"content-type": kind, **(headers or {})})
        made.response.timestamp_start = made.response.timestamp_end = at + took
    if error:
        made.error = mflow.Error(error, at + took)
    if facts is not None:
        made.metadata["understudy"] = facts
    return made


def noted(*tried: tuple[str, str], exchange: str = "abc", answer: int | None = None, **more: object) -> dict[str, Any]:
    """understudy's notes on a tool's flow; ``tried`` are credentials with labels."""
    return {
        "exchange": exchange,
        "route": "gpt-5",
        "alias": "gpt-5",
        "dialect": "openai",
        "endpoint": "chat/completions",
        "streamed": False,
        "attempts": len(tried),
        "tried": [note(number, *each) for number, each in enumerate(tried, 1)],
        "answer": len(tried) if answer is None else answer,
        "credential": tried[-1][0],
        "model": "m1",
        **more,
    }


def note(number: int, credential: str, label: str) -> dict[str, Any]:
    """understudy's notes on one attempt."""
    rule = "builtin/output" if label == "ok" else f"general/{label}"
    return {"number": number, "credential": credential, "model": "m1", "label": label, "rule": rule, "status": 0}


def attempt(number: int, credential: str, label: str, status: int, body: object, **options: Any) -> http.HTTPFlow:
    """An attempt of the exchange "abc" as a flow of its own."""
    exchange = options.pop("exchange", "abc")
    head = {"exchange": exchange, "attempt": number, "alias": "gpt-5", "dialect": "openai", "streamed": False}
    facts = {**head, "endpoint": "chat/completions", **note(number, credential, label)}
    options = {"host": "openai.example", "model": "m1", **options}
    return flow(status, body, facts=facts, **options)


def dump(*saved: mflow.Flow) -> bytes:
    """As mitmproxy's ``-w`` writes them."""
    output = io.BytesIO()
    writer = flows.FlowWriter(output)
    for each in saved:
        writer.add(each)
    return output.getvalue()


def har(*saved: mflow.Flow) -> bytes:
    """As mitmproxy's ``save.har`` writes them."""
    return json.dumps(SaveHar().make_har(list(saved)), indent=2).encode()


def values(*saved: http.HTTPFlow) -> list[SavedFlow]:
    """As they are read from a dump."""
    return [flow_values(each, number) for number, each in enumerate(saved, 1)]


def read(data: bytes) -> list[SavedFlow]:
    """The flows of a file."""
    return list(read_flows(io.BytesIO(data)))


def pool_of(*routes: Route, path: str = "pool.yaml") -> Pool:
    """A pool with these routes and what they need."""
    credentials = {choice.credential.name: choice.credential for each in routes for choice in each.choices}
    upstreams = {each.upstream.name: each.upstream for each in credentials.values()}
    return Pool(upstreams, credentials, {each.pattern: each for each in routes}, path=path)


def recorder(pool: Pool | None = None) -> Recorder:
    """Makes recorded calls by the shipped rules."""
    return Recorder(pool or Pool(), rules(), Masks())
