"""What rules see of a message: the model as a placeholder, no echoes of the request."""

from __future__ import annotations

import json

import pytest

from understudy.replies.reply import Reply
from understudy.replies.unwrap import ErrorInfo
from understudy.replies.wording import CUT, HEAD, TAIL, fold, repaired, spell, spell_out


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


def test_the_words_of_a_long_message_are_evened_out_before_they_are_counted() -> None:
    """480 characters of its beginning and 160 of its end: what stands between them is the request's, mostly."""
    whole = ("ab " * 300)[: HEAD + TAIL - 1] + "e"
    assert fold(whole) == whole
    cut = f"{whole[:HEAD]} {CUT} {(whole + 'f')[-TAIL:]}"
    assert fold(whole + "f") == cut
    for words in (300, 600, 1600):
        message = "Ab   " * words + "end"
        even = "ab " * words + "end"
        assert fold(message) == f"{even[:HEAD]} {CUT} {even[-TAIL:]}"
    wide = ("Ab" + " " * 19) * 300 + "end"
    head, tail = " ".join(wide[:1920].lower().split()), " ".join(wide[-640:].lower().split())
    assert (len(head), len(tail)) == (275, 93)
    assert fold(wide) == f"{head} {CUT} {tail}", "four times as much is looked at as is kept"
    for blanks, expected in ((4 * (HEAD + TAIL) - 8, "begin end"), (4 * (HEAD + TAIL) - 7, f"begin {CUT} end")):
        assert fold("Begin" + " " * blanks + "End") == expected


def test_what_an_error_quotes_of_a_request_is_left_out() -> None:
    """From a brace on, where one of 80 characters before it says what stands there."""
    for blanks, cut in ((80 - len("prompt"), True), (81 - len("prompt"), False)):
        message = f"x prompt{'-' * blanks}{{a: model gone}}"
        assert fold(message) == (message.partition("{")[0] + CUT if cut else message)
    assert fold("prompt: {a: b}") == f"prompt: {CUT}"
    assert fold("{prompt}") == "{prompt}"
    assert fold("the prompt has no brace") == "the prompt has no brace"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('said "a b" there', 'said "a b" there'),
        ('x "a b c" there', f"x {CUT} there"),
        ('"a b c" there', '"a b c" there'),
        ("it failed: 'a b c'", "it failed: 'a b c'"),
        ("x \u201ca b c\u201d y", f"x {CUT} y"),
        ("""x "a b c" `a b c` 'a b c' \u201ca b c\u201d y""", f"x {CUT} {CUT} {CUT} {CUT} y"),
        ("""x "a b `c` \u201c" isn't y""", f"x {CUT} isn't y"),
    ],
)
def test_a_quoted_passage_of_three_words_is_an_echo(message: str, expected: str) -> None:
    """Unless it is the message itself, or what a vendor is said to have said."""
    assert fold(message) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caf\u00c3\u00a9", "caf\u00c3\u00a9"),
        ("\u00c3\u00a9t\u00c3\u00a9", "\u00e9t\u00e9"),
        ("x" * 396 + "\u00c3\u00a9" * 2, "x" * 396 + "\u00e9" * 2),
        ("x" * 397 + "\u00c3\u00a9" * 2, "x" * 397 + "\u00c3\u00a9" * 2),
        ("\u00c3\u00a9\u00c3\u00a9 \u0100", "\u00c3\u00a9\u00c3\u00a9 \u0100"),
        ("\u00c3\u00a9\u00c3\u00a9 \u00e9", "\u00c3\u00a9\u00c3\u00a9 \u00e9"),
    ],
)
def test_what_may_have_been_meant_stays(text: str, expected: str) -> None:
    """Two letters may be a misread one once; twice in the first 400 characters, and nothing else, they are."""
    assert repaired(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "count"),
    [
        ("x-1 is gone", "{model} is gone", 1),
        ("no x-1", "no {model}", 1),
        ("`x-1`x-1", "{model}{model}", 2),
        ("x-1, 'x-1' and a/b/x-1.", "{model}, {model} and {model}.", 3),
        ("x-1 is not /", "{model} is not /", 1),
        ("x-1 is 'gone'", "{model} is 'gone'", 1),
        ("no `x-1", "no {model}", 1),
        ("no x-1`", "no {model}`", 1),
        ("model:x-1", "model:{model}", 1),
        ("at /v1/x-1", "at {model}", 1),
        ("at ab/x-1 and abc/x-1", "at {model} and {model}", 2),
        ("x-1-20250514 and x-1@20250514, x-1-2025-05-14 or x-1-latest", "{model} and {model}, {model} or {model}", 4),
        ("x-1x and ax-1, x-1.5, x-1-mini, _x-1", "x-1x and ax-1, x-1.5, x-1-mini, _x-1", 0),
        ("nothing", "nothing", 0),
        ("", "", 0),
    ],
)
def test_every_mention_of_a_model_is_replaced(text: str, expected: str, count: int) -> None:
    """With its folders and its quotes, and with nothing that stands beside it."""
    assert spell("acme/x-1", "").put_placeholder(text) == (expected, count)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("model auto", True),
        ("the model: auto is gone", True),
        ("model=auto", True),
        ("a model called auto", False),
        ("`auto` is gone", True),
        ("'auto', \"auto\"", True),
        ("\u201cauto\u201d", True),
        ("`auto is", False),
        ("auto` is", False),
        ("auto", False),
        ("openrouter/auto", False),
        ("x/auto`", True),
    ],
)
def test_an_ordinary_word_is_a_model_where_it_is_told(text: str, counts: bool) -> None:
    """In quotes, or right behind the word."""
    assert bool(spell("auto", "").put_placeholder(text)[1]) is counts


@pytest.mark.parametrize(
    ("model", "alias", "text", "counts"),
    [
        ("o-1", "", "o-1 is gone", True),
        ("o1", "", "o1 is gone", False),
        ("", "o-1", "o-1 is gone", True),
        ("x1" * 150, "", "x1" * 100, True),
        ("", "x1" * 150, "x1" * 100, True),
        ("acme/x-1[1m]", "", "x-1 is gone", True),
        ("acme/x-1:free", "", "x-1 is gone", True),
        ("models/x-1", "", "x-1 is gone", True),
        ("eu.x-1", "", "x-1 is gone", True),
    ],
)
def test_how_vendors_write_a_name(model: str, alias: str, text: str, counts: bool) -> None:
    """Without folders, tags or a region; of a name 200 characters, and none of two."""
    assert bool(spell(model, alias).put_placeholder(text)[1]) is counts


def test_a_code_is_spelled_out() -> None:
    for code in ("ModelNotFound", "model_not_found", "MODEL-NOT FOUND", "model.not/found"):
        assert spell_out(code) == "model not found"
    assert spell_out("HTTPError") == "http error"
    assert spell_out("x" * 300) == "x" * 200
