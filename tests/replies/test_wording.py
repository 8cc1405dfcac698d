"""What rules see of a message: the model as a placeholder, no echoes of the request."""

from __future__ import annotations

import json

import pytest

from understudy.replies.reply import Reply


def reply(body: object, status: int = 400, **fields: object) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return Reply(status=status, body=text.encode(), **fields)  # type: ignore[arg-type]


def test_longer_quoted_passages_are_left_out_of_what_rules_see() -> None:
    said = reply({"error": {"message": 'Invalid text: "the model does not exist" and `x y`'}}).said
    assert said[0].message == "invalid text: ... and `x y`"


def test_what_stands_between_two_quoted_names_stays() -> None:
    message = "Project `123` is not allowed to use the model `acme-1`"
    assert (
        reply({"error": message}, model="acme-1").said[0].message
        == "project `123` is not allowed to use the model {model}"
    )


def test_messages_are_bounded_and_keep_their_end() -> None:
    said = reply({"error": "The Model " + "x " * 2000 + "Is Gone"}).said[0].message
    assert said.startswith("the model x")
    assert said.endswith("is gone")
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ("The model `gpt-4o` does not exist", "gpt-4o"),
        ("models/gemini-pro is not found", "gemini-pro"),
        ("gemini-pro is not found", "models/gemini-pro"),
        ("Publisher Model `projects/1/locations/x/publishers/openai/models/gpt-oss` was not found", "openai/gpt-oss"),
        ("acme/x-1.5 is not a valid model ID", "acme/x-1.5:free"),
        ("unknown model: GPT-4O.", "gpt-4o"),
        ("no access to gpt-5-2025-08-07", "gpt-5"),
        ("当前订阅套餐暂未开放GLM-5权限", "glm-5"),
        ('model "ollama" not found', "ollama"),
        ("Model auto not found", "auto"),
        ("model claude-x-20250514-v1:0 denied", "us.claude-x-20250514-v1:0"),
    ],
)
def test_the_model_is_recognised_as_vendors_write_it(message: str, model: str) -> None:
    found = reply({"error": {"message": message}}, model=model)
    assert found.names_model()
    assert "{model}" in found.said[0].message


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ("The model gpt-4o does not exist", "gpt-4"),
        ("gpt-4.1 does not exist", "gpt-4"),
        ("my-gpt-4 does not exist", "gpt-4"),
        ("please use auto mode", "auto"),
        ("The model does not exist", "gpt-4"),
        ("The model does not exist", ""),
        ("The model does not exist", "x"),
    ],
)
def test_another_model_is_not_taken_for_the_requested_one(message: str, model: str) -> None:
    found = reply({"error": {"message": message}}, model=model)
    assert not found.names_model()
    assert "{model}" not in found.said[0].message


def test_the_alias_counts_as_well() -> None:
    assert reply({"error": "fast-1 not found"}, model="gpt-5", alias="fast-1").names_model()
