"""Gemini on Vertex AI: the bodies of the Gemini API below a project and a location, with a token of Google Cloud."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import quote

from understudy.dialects.base import Asked, Endpoint, Written, path_model
from understudy.dialects.gemini import Gemini, credential_of, without_model
from understudy.model import Upstream

HOSTS = ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com")
PROJECT = r"(?:/v1(?:beta1)?(?:/projects/[^/?#\s]+/locations/[^/?#\s]+)?)?"
"""What may stand before ``/publishers``: everything, nothing where it belongs to the base path, or no project with a
key in express mode."""
_BASE = re.compile(r"(?:/[^/]+)*/v1(?:beta1)?(?:/projects/[^/]+/locations/[^/]+)?")
_PATH = re.compile(PROJECT + r"/publishers/google/models/(?P<name>[^/:?#\s]+?)(?::|%3[Aa])(?P<action>[A-Za-z]+)")


class Vertex(Gemini):
    """Sources: Google Cloud, "Generate content with the Gemini API in Vertex AI" (REST), "Vertex AI in express mode"
    and, for the hosts, "Generative AI on Vertex AI locations".
    """

    name = "vertex"
    sites = ()
    wide_sites = tuple((host, "") for host in HOSTS)
    relatives = frozenset({Gemini.name})
    written_per_upstream = True
    path = _PATH
    model_list = None
    _endpoints: ClassVar[dict[str, Endpoint]] = {
        action: Gemini._endpoints[action] for action in ("generateContent", "streamGenerateContent", "countTokens")
    }

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        action = asked.endpoint.name
        if action not in self._endpoints or b'"generateContentRequest"' in asked.body:
            raise ValueError(f"{self.name} takes no {action} in the form of the Gemini API")
        tail = f"/publishers/google/models/{quote(model.removeprefix('models/'), safe='')}:{action}"
        return Written(tail, asked.query, without_model(asked.body))

    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        return credential_of(secret, otherwise="bearer")

    def check(self, base_path: str, api_version: str) -> tuple[str, str] | None:
        return super().check(base_path, api_version) or check_project(base_path)


def check_project(base_path: str) -> tuple[str, str] | None:
    """What is wrong with the base path of an upstream on Vertex AI, and what to write instead."""
    if _BASE.fullmatch(base_path):
        return None
    url = "https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION"
    return "the url of an upstream on Vertex AI ends in its project and location", f"write `url: {url}`"


def publisher_model(match: re.Match[str] | None) -> str | None:
    """The model that a path names; None without a path, or for one that could be taken for more than a name."""
    return path_model(match["name"]) if match else None
