"""What a dialect says of an upstream's base path and API version."""

from __future__ import annotations

import pytest

from understudy.dialects import DIALECTS

PROJECT = "/v1/projects/p/locations/l"


@pytest.mark.parametrize(
    ("dialect", "base_path", "version", "what"),
    [
        ("openai", "/v1", "", ""),
        ("openai", "/v1", "2024-10-21", "this dialect knows no `api_version`"),
        ("anthropic", "", "", ""),
        ("anthropic", "", "2023-06-01", "this dialect knows no `api_version`"),
        ("azure-openai", "/openai/v1", "", ""),
        ("azure-openai", "/openai/v1", "2024-10-21", "the v1 path takes no `api_version`"),
        ("azure-openai", "/openai", "2024-10-21", ""),
        ("azure-openai", "", "", "an azure-openai upstream has no API version"),
        ("vertex", PROJECT, "", ""),
        ("vertex", "/v1", "", ""),
        ("vertex", PROJECT, "v1", "this dialect knows no `api_version`"),
        ("vertex", "/v1/projects/p", "", "the url of an upstream on Vertex AI ends in its project and location"),
        ("anthropic-vertex", PROJECT, "", ""),
        ("anthropic-vertex", PROJECT, "v1", "this dialect knows no `api_version`"),
        (
            "anthropic-vertex",
            "/v1/projects/p",
            "",
            "the url of an upstream on Vertex AI ends in its project and location",
        ),
    ],
)
def test_what_an_upstream_lacks_or_has_too_much(dialect: str, base_path: str, version: str, what: str) -> None:
    found = DIALECTS[dialect].check(base_path, version)
    assert (found[0] if found else "") == what
    assert found is None or found[1]
