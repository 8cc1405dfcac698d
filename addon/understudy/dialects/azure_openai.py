"""Azure OpenAI: the bodies of OpenAI's API, with the model's deployment in the path or, on the v1 path, in the body."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import ClassVar
from urllib.parse import quote

from understudy.dialects.base import (
    Asked,
    Call,
    Endpoint,
    Written,
    bearer,
    path_model,
    with_parameter,
    without_parameters,
)
from understudy.dialects.openai import OpenAI, put_model, read_body_model, write_body_model
from understudy.model import Upstream

_VERSION = frozenset({"api-version"})
_PATH = re.compile(r"(?:/openai)?(?:/(?P<v1>v1)|/deployments/(?P<name>[^/?#\s]+))?/(?P<endpoint>[a-z][a-z_/]*)")
_IN_THE_BODY = frozenset({"responses", "responses/compact", "responses/input_tokens"})
"""Endpoints that have no deployment in the path, also below ``/openai``."""
_ABSENT = frozenset({"moderations", "images/variations"})
"""What OpenAI has and Azure has not."""


class AzureOpenAI(OpenAI):
    """Sources: Microsoft Learn, "Azure OpenAI in Azure AI Foundry Models REST API reference", "Azure OpenAI v1 API" and
    "Authentication"; the hosts are those of "Endpoints for Azure AI services".

    The base path of an upstream says which form it takes: one that ends in ``/v1`` has the model in the body, any other
    the deployment in the path and a dated ``api-version``.
    """

    name = "azure-openai"
    sites = ()
    wide_sites = tuple(
        (host, "/openai") for host in ("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com")
    )
    relatives = frozenset({OpenAI.name})
    written_per_upstream = True
    names_deployments = True
    model_list = None  # Azure lists what could be deployed, not deployments
    _known: ClassVar[dict[str, Endpoint]] = {
        tail.removeprefix("/"): endpoint for tail, endpoint in OpenAI._endpoints.items() if endpoint.name not in _ABSENT
    }

    def endpoint(self, method: str, tail: str) -> Endpoint | None:
        match = _PATH.fullmatch(tail) if method == "POST" else None
        if match is None or (match["name"] and (match["endpoint"] in _IN_THE_BODY or not path_model(match["name"]))):
            return None
        return self._known.get(match["endpoint"])

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        match = _PATH.fullmatch(tail)
        if match is None:
            return None
        in_body, streamed = read_body_model(content_type, body)
        alias = path_model(match["name"]) if match["name"] else in_body
        return Call(alias, streamed) if alias else None

    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        match = _PATH.fullmatch(tail)
        if match is None or not match["name"]:
            return super().write_model(tail, content_type, body, model)
        return tail[: match.start("name")] + quote(model, safe="") + tail[match.end("name") :], _named(
            content_type, body, model
        )

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        name = asked.endpoint.name
        if name in _ABSENT:
            raise ValueError(f"{self.name} has no {name}")
        own = _PATH.fullmatch(asked.tail) if asked.dialect == self.name else None
        query, rest = asked.query, without_parameters(asked.query, _VERSION)
        if upstream.base_path.endswith("/v1"):
            # A dated version is refused there; one that a tool sent to this very path is not dated.
            query = query if own is not None and own["v1"] else rest
            return Written(f"/{name}", query, put_model(asked.content_type, asked.body, model))
        lead = "" if upstream.base_path.endswith("/openai") else "/openai"
        if own is None or own["v1"] or rest == query:
            query = with_parameter(rest, "api-version", upstream.api_version)
        if name in _IN_THE_BODY:
            return Written(f"{lead}/{name}", query, put_model(asked.content_type, asked.body, model))
        body = _named(asked.content_type, asked.body, model)
        return Written(f"{lead}/deployments/{quote(model, safe='')}/{name}", query, body)

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        # A token of Entra ID is a JWT; a key of the resource is hexadecimal or base62.
        return bearer(secret) if secret.startswith("eyJ") else (("api-key", secret),)

    def check(self, base_path: str, api_version: str) -> tuple[str, str] | None:
        if base_path.endswith("/v1"):
            return ("the v1 path takes no `api_version`", "remove it") if api_version else None
        if api_version:
            return None
        return (
            "an azure-openai upstream has no API version",
            "write `api_version: 2024-10-21`, or a url that ends in /openai/v1",
        )


def _named(content_type: str, body: bytes, model: str) -> bytes:
    """The body with its model replaced where it names one: the path names it already."""
    with suppress(ValueError):
        return write_body_model(content_type, body, model)
    return body
