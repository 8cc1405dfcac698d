"""What the tests of relatives share: upstreams, and what one of them gets of a tool's request."""

from __future__ import annotations

from dataclasses import dataclass

from mitmproxy import http

from tests.support.decisions import Source
from understudy.dialects import DIALECTS
from understudy.model.pool import Candidate, Choice, Credential, Pool, Route, Upstream
from understudy.requests import rewrite
from understudy.requests.sites import Sites

OWN = "sk-own-of-the-tool-0123"
SECRET = "sk-secret-0123456789"


def upstream(dialect: str, host: str, base_path: str = "", api_version: str = "") -> Upstream:
    """An upstream as the pool file's reader makes it."""
    relatives = DIALECTS[dialect].relatives
    return Upstream(dialect, dialect, "https", host, 443, base_path, api_version=api_version, relatives=relatives)


OPENAI = upstream("openai", "api.openai.com", "/v1")
AZURE = upstream("azure-openai", "res.openai.azure.com", "/openai", "2024-10-21")
AZURE_BARE = upstream("azure-openai", "res.openai.azure.com", "", "2024-10-21")
AZURE_V1 = upstream("azure-openai", "res.openai.azure.com", "/openai/v1")


def pool_of(*upstreams: Upstream) -> Pool:
    """A pool whose default route has a credential at each of these."""
    choices = tuple(Choice(Credential(each.name, each, Source())) for each in upstreams)
    return Pool({each.name: each for each in upstreams}, {}, {"default": Route("default", choices)})


@dataclass
class Sent:
    """What an upstream gets."""

    path: str
    headers: http.Headers
    body: bytes


def sent(
    at: Upstream,
    url: str,
    body: bytes,
    *,
    model: str = "",
    secret: str = SECRET,
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
    own: tuple[tuple[str, str], ...] = (),
) -> Sent:
    """A tool's request as this upstream gets it; without a model the alias keeps its name. Raises ValueError."""
    asked = http.Request.make("POST", url, b"")
    for name, value in {"content-type": content_type, **(headers or {})}.items():
        asked.headers[name] = value
    asked.data.content, asked.headers["content-length"] = body, str(len(body))
    recognised = Sites(pool_of(at)).recognise(asked.host, 443, "POST", asked.path)
    assert recognised is not None
    call = rewrite.read_call(asked, recognised, rewrite.decoded_body(asked))
    assert call is not None
    candidate = Candidate(Credential("a", at, Source(secret), own), model or call.alias)
    made = rewrite.build(asked, recognised, call, candidate, secret)
    assert made.host == at.host and OWN not in repr((made.path, made.headers.fields, made.data.content))
    return Sent(made.path, made.headers, made.data.content or b"")


GEMINI = upstream("gemini", "generativelanguage.googleapis.com")
PROJECT = "/v1/projects/p-1/locations/us-central1"
VERTEX = upstream("vertex", "us-central1-aiplatform.googleapis.com", PROJECT)
EXPRESS = upstream("vertex", "aiplatform.googleapis.com", "/v1")
CLAUDE = upstream("anthropic", "api.anthropic.com")
CLAUDE_VERTEX = upstream("anthropic-vertex", "us-east5-aiplatform.googleapis.com", PROJECT)
MESSAGES = "https://api.anthropic.com/v1/messages"
MESSAGE = b'{"model": "claude-a","max_tokens": 1, "stream": true, "messages": [{"content": "claude-a"}]}'
HELD_BACK = {"x-api-key": OWN, "anthropic-version": "2023-06-01", "anthropic-beta": "a-1,oauth-2025-04-20"}
