"""Anthropic's messages on Vertex AI: the same bodies and events, with the model and the version in other places."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import quote

from understudy.codec.json_edit import read_json_model, set_json_members, write_json_model
from understudy.dialects.anthropic import Anthropic
from understudy.dialects.base import Asked, Call, Endpoint, Written, bearer, without_parameters
from understudy.dialects.gemini import GOOGLE_IDENTITY, GOOGLE_QUERY
from understudy.dialects.vertex import HOSTS, PROJECT, check_project, publisher_model
from understudy.model import Upstream

VERSION = "vertex-2023-10-16"
_COUNT = "count-tokens"
_PATH = re.compile(
    PROJECT + r"/publishers/anthropic/models/(?P<name>[^/:?#\s]+?)(?::|%3[Aa])(?P<action>rawPredict|streamRawPredict)"
)


class AnthropicVertex(Anthropic):
    """Sources: Anthropic, "Claude on Vertex AI"; Google Cloud, "Request predictions with Claude models" and
    "Count tokens for Claude models"; Anthropic's own client for Vertex.
    """

    name = "anthropic-vertex"
    sites = ()
    wide_sites = tuple((host, "") for host in HOSTS)
    relatives = frozenset({Anthropic.name})
    written_per_upstream = True
    model_list = None
    identity_headers = Anthropic.identity_headers | GOOGLE_IDENTITY
    auth_query = GOOGLE_QUERY
    _messages: ClassVar[Endpoint] = Anthropic._endpoints["/v1/messages"]
    _count: ClassVar[Endpoint] = Anthropic._endpoints["/v1/messages/count_tokens"]

    def endpoint(self, method: str, tail: str) -> Endpoint | None:
        match = _PATH.fullmatch(tail) if method == "POST" else None
        name = publisher_model(match)
        if match is None or name is None:
            return None
        if name == _COUNT:
            return self._count if match["action"] == "rawPredict" else None
        return self._messages

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        match = _PATH.fullmatch(tail)
        alias, streamed = publisher_model(match), match is not None and match["action"] == "streamRawPredict"
        if alias == _COUNT:
            alias, streamed = read_json_model(body)
        return Call(alias, streamed) if alias else None

    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        match = _PATH.fullmatch(tail)
        name = publisher_model(match)
        if match is None or name is None:
            raise ValueError("no model name in the path")
        if name == _COUNT:
            return tail, write_json_model(body, model)
        return tail[: match.start("name")] + quote(model, safe="@") + tail[match.end("name") :], body

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        query = without_parameters(asked.query, frozenset({"beta"}))  # Google refuses parameters that it does not know
        own = asked.dialect == self.name
        if asked.endpoint.name == self._count.name:
            body = write_json_model(asked.body, model)
            return Written(f"/publishers/anthropic/models/{_COUNT}:rawPredict", query, body)
        body = asked.body if own else set_json_members(asked.body, {"model": None, "anthropic_version": VERSION})
        action = "streamRawPredict" if asked.call.streamed else "rawPredict"
        return Written(f"/publishers/anthropic/models/{quote(model, safe='@')}:{action}", query, body)

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return bearer(secret)

    def check(self, base_path: str, api_version: str) -> tuple[str, str] | None:
        return super().check(base_path, api_version) or check_project(base_path)
