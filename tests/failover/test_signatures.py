"""What a signature is made of, what never gets into one, and what reads like a policy."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.failover.test_comparison import POLICIES
from understudy.failover.signatures import (
    COMMON,
    CUT,
    MOST_ASKED,
    MOST_TEXT,
    MOST_WORDS,
    identity_of,
    reads_like_policy,
    signature_of,
)
from understudy.replies.reply import Reply
from understudy.suspensions import Signature

PROMPT = "Please summarise the merger between Aldebaran Holdings and Quux, codename purple walrus, for Hans Gruber"
SECRET = "sk-live-0123456789abcdefABCDEF"
ASKED = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": PROMPT}]}).encode()


def said(message: str, status: int = 400, code: str = "", kind: str = "") -> Reply:
    """An error with this message, asked of gpt-5."""
    error = {"message": message, "code": code, "type": kind}
    return Reply(status, dialect="openai", alias="gpt-5", model="gpt-5", body=json.dumps({"error": error}).encode())


def signed(message: str, asked: bytes | None = ASKED, **more: str) -> Signature:
    """The signature of an error with this message."""
    return signature_of(said(message, **more), "up", None if asked is None else lambda: asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Seat 17 is not staffed today", "Seat 18 is not staffed today"),
        ("Channel 'abc' is closed", 'Channel "some other words" is closed'),
        ("Trace 9f8e7d6c: flux is off", "Trace 0a1b2c3d: flux is off"),
        ("The model gpt-5 has no home", "The model `gpt-5` has no home"),
        ("See https://a.example/x?y=1 for flux", "See https://b.example/z for flux"),
        ("flux of ann@example.com is off", "flux of bob@example.org is off"),
        ("flux is off (request id: 2025-x)", "flux is off (request id: 2026-y)"),
        ("/srv/models/x is odd", "/var/lib/other is odd"),
        ("当前分组 default1 无可用渠道", "当前分组 vip22 无可用渠道"),
    ],
)
def test_what_changes_from_one_request_to_the_next_does_not_count(one: str, other: str) -> None:
    """J01: numbers, ids, names in quotes, URLs, addresses, paths and the model."""
    assert signed(one).id == signed(other).id == identity_of(said(one), "up")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (said("flux is off"), said("flux is on")),
        (said("flux is off"), said("flux is off", 403)),
        (said("flux is off"), said("flux is off", code="flux")),
        (said("flux is off"), said("flux is off", kind="flux_error")),
        (said(""), Reply(400, body=b"<html><title>Not here</title></html>")),
    ],
)
def test_what_tells_errors_apart_counts(one: Reply, other: Reply) -> None:
    assert signature_of(one, "up").id != signature_of(other, "up").id
    assert signature_of(one, "up").id != signature_of(one, "down").id


ECHOES = [
    f"I cannot do this: {PROMPT}",
    f'Invalid message "{PROMPT}" was given',
    "Unknown user Hans Gruber",
    f"No such thing as {PROMPT[:60]}",
    f"bad input {json.dumps({'role': 'user', 'content': PROMPT})}",
    f"codename purple walrus is not allowed by {SECRET}",
    f"the key {SECRET} is odd, and so is Bearer {SECRET}",
    f"({PROMPT})",
    f"[{PROMPT}]",
    "Hans Gruber",
    f'cut in two: "{PROMPT[:40]}',
    f"«{PROMPT}»",
]
WORDS_OF_THE_PROMPT = ["aldebaran", "quux", "purple", "walrus", "hans", "gruber", "merger", "codename", "summarise"]


@pytest.mark.parametrize("asked", [ASKED, None, b"x" * (MOST_ASKED + 1)], ids=["known", "unknown", "too long"])
@pytest.mark.parametrize("message", ECHOES)
def test_j06_no_word_of_the_prompt_and_no_secret_is_kept(message: str, asked: bytes | None) -> None:
    """J06: wherever the error repeats it: quoted, in brackets, as JSON, bare, cut in two."""
    for found in (signed(message, asked), signed("flux", asked, code=message), signed("flux", asked, kind=message)):
        kept = repr(found).lower()
        assert [word for word in WORDS_OF_THE_PROMPT if word in kept] == []
        assert SECRET.lower()[:12] not in kept


def test_j06_a_prompt_of_common_words_is_not_kept_as_a_sentence() -> None:
    """J06: each of the words may stay, four of them in a row that stand in the request may not."""
    asked = json.dumps({"messages": [{"content": "the user is not allowed to connect to this server"}]}).encode()
    found = signed("the user is not allowed to connect to this server, try again later", asked)
    assert "user is not allowed" not in found.words
    assert found.words.endswith("try again later")


@pytest.mark.parametrize("escaped", [True, False])
def test_j06_other_scripts(escaped: bool) -> None:
    """J06: escaped or not, with spaces or without them."""
    asked = json.dumps({"content": "Расскажи про лунную станцию 紫色海象的秘密合并计划"}, ensure_ascii=escaped).encode()
    found = signed("Ошибка: лунную станцию нельзя. 紫色海象的秘密合并计划不存在", asked)
    assert found.words == f"ошибка {CUT} нельзя"
    assert signed("模型服务暂时不可用", asked).words == "模型服务暂时不可用"


def test_j06_what_is_left_can_be_read() -> None:
    """J06: a person can tell what was said, and a rule can be made of it."""
    found = signed("Seat 17 of model gpt-5 is not staffed today (req_0123)", code="seat_closed", kind="api_error")
    assert (found.status, found.code, found.type) == (400, "seat_closed", "api_error")
    assert found.words == f"seat {CUT} of model {{model}} is not staffed today"


def test_j06_the_words_of_every_error_are_plain_words() -> None:
    """J06: each is so common that it says nothing about a request in which it stands."""
    assert all(word.isascii() and word.isalpha() and word == word.lower() for word in COMMON)
    assert not COMMON & set(WORDS_OF_THE_PROMPT)


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=60), st.integers(100, 599))
def test_any_error_of_any_request_has_a_bounded_signature(message: str, prompt: str, code: str, status: int) -> None:
    """Law 10: hostile texts."""
    asked = json.dumps({"content": prompt}).encode()
    found = signature_of(said(message, status, code), "up", lambda: asked)
    assert len(found.id) == 12
    assert len(found.words.split()) <= MOST_WORDS
    assert len(found.words) < 2000
    assert found == signature_of(said(message, status, code), "up", lambda: asked)


def test_any_body_has_a_signature() -> None:
    for body in (b"", b"null", b"[]", b'{"a": 1}', b"\xff\xfe", b"<p>" * 5000, b"{" * 5000, b'"' * 5000):
        assert signature_of(Reply(400, body=body), "up").words.count(" ") < MOST_WORDS


@pytest.mark.parametrize("words", POLICIES)
def test_what_reads_like_a_policy(words: str) -> None:
    """J03: in the languages that relays use."""
    assert reads_like_policy(said(words))


@pytest.mark.parametrize(
    "words",
    [
        "No available channel for this group",
        "Your plan does not include this model",
        "このグループでは利用できる経路がありません",
        "Неправильный ключ доступа",
        "Доступ запрещён для вашей группы",
        "O seu revendedor não tem este serviço",
        "See our privacy policy",
        "no endpoint matches your data policy",
        "当前分组上游负载已饱和",
    ],
)
def test_what_does_not(words: str) -> None:
    """J07: or these would never be rescued."""
    assert not reads_like_policy(said(words))


def test_a_status_for_legal_reasons_is_no_policy_by_itself() -> None:
    """RFC 7725: it is about a country more often than about what was asked, and another vendor may be allowed to."""
    assert not reads_like_policy(Reply(451, body=b"Not available in your region"))


@pytest.mark.parametrize(
    "words", ["le café n'est pas prêt", "मॉडल उपलब्ध नहीं है", "der modèle e\u0301tait occupe\u0301", "it's odd"]
)
def test_j06_marks_and_apostrophes_are_part_of_a_word(words: str) -> None:
    """J06: or the errors of whole languages would be nothing but gaps."""
    found = signed(words, b"{}")
    assert CUT not in found.words and len(found.words.split()) == len(words.split())


@pytest.mark.parametrize(
    "words", ["โมเดลนี้ไม่พร้อม", "モデルは利用できません", "模型暂时不可用", "모델을 사용할 수 없습니다"]
)
def test_j06_scripts_without_spaces_are_kept(words: str) -> None:
    assert signed(words, b"{}").words == words


@pytest.mark.parametrize(
    ("asked", "stays"),
    [("甲乙丙丁", False), ("戊己庚辛", False), ("丙丁戊己", False), ("乙丙丁", True), ("己庚辛", True), ("", True)],
)
def test_j06_a_run_of_four_signs_that_stands_in_the_request_is_an_echo(asked: str, stays: bool) -> None:
    """J06: at its beginning, in its middle and at its end."""
    body = json.dumps({"content": asked}, ensure_ascii=False).encode()
    assert signed("甲乙丙丁戊己庚辛", body).words == ("甲乙丙丁戊己庚辛" if stays else "")
    assert signed("甲乙丙", json.dumps({"content": "甲乙丙"}).encode()).words == ""
    assert signed("甲乙丙丁戊己庚", json.dumps({"content": "戊己庚"}).encode()).words == "甲乙丙丁戊己庚"


@pytest.mark.parametrize(
    ("letters", "kept"),
    [
        ("a" * 24, True),
        ("a" * 25, False),
        ("模" * 60, True),
        ("模" * 61, False),
        ("模型¥不可", False),
        ("人々の時ー", True),
    ],
)
def test_j06_what_is_too_long_for_a_word_is_none(letters: str, kept: bool) -> None:
    """J06: a key, or a sentence without spaces."""
    assert signed(f"flux {letters} off", b"{}").words == (f"flux {letters} off" if kept else f"flux {CUT} off")


def test_j06_a_signature_has_so_many_words() -> None:
    words = [f"w{'x' * (number % 20)}{'abcdefghij'[number % 10]}" for number in range(60)]
    assert signed(" ".join(words), b"{}").words == " ".join(words[:MOST_WORDS])


def test_j06_a_message_is_looked_at_as_far_as_rules_see_it() -> None:
    """J06: what differs behind that is no difference."""
    for length, differ in ((MOST_TEXT - 1, True), (MOST_TEXT, False)):
        start = f"'{'x' * (length - 3)}' "
        assert (signed(start + "a").id != signed(start + "b").id) is differ


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("flux (a (b (c) d) e) off", f"flux {CUT} off"),
        ("flux {one [two] three} off", f"flux {CUT} off"),
        ("flux 'one two' and \"three\" off", f"flux {CUT} and {CUT} off"),
        ("flux (never closed", "flux"),
        ("(opened first) flux", "flux"),
        ("flux, flux: flux; off.", "flux flux flux off"),
        ("flux … … off …", f"flux {CUT} off"),
        ("don't 'quote me' on it", f"don't {CUT} on it"),
    ],
)
def test_j06_brackets_and_quotes_are_one_gap_each(message: str, words: str) -> None:
    """J06: also inside one another; at either end a gap says nothing."""
    assert signed(message, b"{}").words == words


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("seat_closed", "seat_closed"),
        (" seat_closed ", "seat_closed"),
        ("seat.closed-now:a", "seat.closed-now:a"),
        ("429", "429"),
        ("1234567", ""),
        ("req_0123", ""),
        ("Seat", "seat"),
        ("a" * 24, "a" * 24),
        ("a" * 25, ""),
        ("seat_" + "a" * 25, ""),
        ("seat_" * 12, "seat_" * 12),
        ("seat_" * 12 + "a", ""),
        ("seat/closed", ""),
    ],
)
def test_j06_a_code_is_words_or_a_short_number(code: str, kept: str) -> None:
    """J06: one that looks like an id could be one."""
    found = signed("flux", b"{}", code=code, kind=code)
    assert (found.code, found.type) == (kept, kept)


def test_j06_a_code_of_the_request_is_kept_only_where_all_its_words_are_common() -> None:
    """J06: where the request is not known as well."""
    for asked, kept in ((b"{}", "seat_error"), (b"my seat", ""), (None, "")):
        assert signed("flux", asked, code="seat_error").code == kept
        assert signed("flux", asked, code="seat_flux").code == ("seat_flux" if kept else "")
    for asked in (b"{}", b"invalid request error 400", None):
        assert signed("flux", asked, code="invalid_request_error").code == "invalid_request_error"
        assert signed("flux", asked, code="400").code == "400"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("the user may not use this model here", "again later"),
        ("user may not use", "the … this model here again later"),
        ("the user may not", "use this model here again later"),
        ("here again later", "the user may not use this model here again later"),
        ("model here again later", "the user may not use this"),
    ],
)
def test_j06_four_common_words_in_a_row_are_an_echo(asked: str, words: str) -> None:
    """J06: wherever they stand; three are none."""
    found = signed("the user may not use this model here again later", json.dumps({"content": asked}).encode())
    assert found.words == words


def test_j06_a_request_of_exactly_the_limit_is_searched() -> None:
    for size, kept in ((MOST_ASKED, "walrus"), (MOST_ASKED + 1, "")):
        assert signed("walrus", b"x" * size).words == kept
    assert signed("walrus", b"").words == ""
    assert signed("WALRUS", b"Walrus" + b"x").words == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><style>a { b: c }</style><h1>Seat</h1><script>let x = 1</script>closed</html>", "seat closed"),
        (b"seat is closed", "seat is closed"),
        (b'{"odd": "shape"}', ""),
        (b"[1, 2]", ""),
        (b"<html>" + b"<b>" * 2728 + b"seat closed", "se"),
    ],
)
def test_j06_of_a_page_its_text_is_read(body: bytes, words: str) -> None:
    """J06: its beginning, without its tags; JSON in which no error stands says nothing."""
    assert signature_of(Reply(400, body=body), "up", lambda: b"{}").words == words


def test_j03_a_policy_is_looked_for_where_people_would_read_of_it() -> None:
    """J03: in the beginning of a message or of a body, in its code and in its type."""
    assert reads_like_policy(said("x" * 2041 + " unsafe"))
    assert not reads_like_policy(said("x" * 2042 + " unsafe"))
    for filler, policy in ((2041, True), (2042, False)):
        assert reads_like_policy(Reply(400, body=b"[" + b"1" * (filler - 1) + b" unsafe")) is policy
    assert reads_like_policy(said("no", code="content_filter"))
    for word in ("policy_error", "usage_policy_violation", "some_violation", "unsafe_prompt"):
        assert reads_like_policy(said("no", kind=word)) and reads_like_policy(said("no", code=word))
        assert reads_like_policy(said(f"no: {word}"))
    assert not reads_like_policy(said("no: data_policy"))
    assert not reads_like_policy(said("no"))


def test_j06_a_request_of_one_byte_is_known() -> None:
    """J06: only an empty one is not."""
    assert signed("walrus", b"x").words == "walrus"
    assert signed("x", b"x").words == ""
