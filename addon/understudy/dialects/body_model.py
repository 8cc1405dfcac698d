"""Dialects whose paths are fixed and whose model is a member of the JSON body."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

from understudy.codec.json_edit import read_json_model, write_json_model
from understudy.dialects.base import Call, Dialect, Endpoint


class BodyModelDialect(Dialect, ABC):
    """A dialect that names the endpoint in the path alone, and the model in the body's ``model``."""

    _endpoints: ClassVar[dict[str, Endpoint]]
    """The endpoints by their path below the base path."""

    def endpoint(self, method: str, tail: str) -> Endpoint | None:
        return self._endpoints.get(tail) if method == "POST" else None

    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        alias, streamed = read_json_model(body)
        return Call(alias, streamed) if alias else None

    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        return tail, write_json_model(body, model)
