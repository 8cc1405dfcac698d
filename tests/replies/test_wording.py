"""What rules see of a message: the model as a placeholder, no echoes of the request."""

from __future__ import annotations

import json

import pytest

from understudy.replies.reply import Reply
from understudy.replies.unwrap import ErrorInfo
from understudy.replies.wording import fold


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


@pytest.mark.parametrize("charset", ["latin-1", "cp1252"])
def test_a_text_in_a_wrong_charset_is_read(charset: str) -> None:
    """A gateway decoded UTF-8 as something else; rules see what was meant."""
    meant = "该模型不存在"
    misread = "".join(bytes((byte,)).decode(charset, "replace") for byte in meant.encode())
    if "\ufffd" in misread:  # five bytes are undefined in Windows-1252; decoders let them through
        misread = "".join(
            bytes((byte,)).decode(charset) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
            for byte in meant.encode()
        )
    assert misread != meant
    assert fold(misread) == meant
    for fine in ("café déjà vu", "naïve Ünïcödé", "模型", "Ã", "plain"):
        assert fold(fine) == fine.lower()


def test_gbk_that_is_called_utf_8_is_read() -> None:
    """Some Chinese gateways send GBK; a cut UTF-8 text is not taken for it."""
    assert Reply(400, body='{"error": "该模型不存在"}'.encode("gbk")).error == ErrorInfo(message="该模型不存在")
    cut = Reply(400, body="模型不存在".encode()[:-1])
    assert cut.text.startswith("模型不存")
    assert Reply(400, body=b"caf\xe9 is closed").text == "caf\ufffd is closed"


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = fold("Begin " + "word  " * 3000 + "END")
    assert text.startswith("begin word word")
    assert text.endswith("word wo")  # of what is looked at, which ends before the message does
    assert len(text) < 700
