"""What is known of vendors: whose models are called like an alias."""

from __future__ import annotations

import pytest

from understudy.config import dialects_named


@pytest.mark.parametrize(
    ("alias", "dialects"),
    [
        ("claude-opus-4-5", {"anthropic"}),
        ("deepseek-chat", {"openai"}),
        ("gemini-2.5-pro", {"gemini"}),
        ("llama3", set()),
        ("meta/llama-3", set()),
    ],
)
def test_the_name_of_a_model_may_tell_its_vendor(alias: str, dialects: set[str]) -> None:
    """One with a folder is in use at many gateways, and tells none."""
    assert dialects_named(alias) == dialects
