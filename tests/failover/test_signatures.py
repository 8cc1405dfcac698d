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
