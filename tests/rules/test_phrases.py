"""The language of phrases: what can be written, and what a text sounds like."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.replies.wording import spell_out
from understudy.rules.phrases import DEEPEST, Choice, PhraseError, Plain, Word, expand, hear, kinds_of, parse, size
from understudy.rules.phrases import Sequence as InTurn


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the model gpt-5.1 isn't found.", ["the", "model", "gpt-5.1", "is", "not", "found"]),
        ("rate-limited, can't: won't", ["rate", "limited", "can", "not", "will", "not"]),
        ("model 'x' and \"y/z\"", ["model", "'x'", "and", '"y/z"']),
        ("max_tokens is 30,000. stop", ["max_tokens", "is", "30", "000", ".", "stop"]),
        ("see https://a.example/b?c for more", ["see", "https://a.example/b?c", "for", "more"]),
        ("模型gpt-4在,不存在。", ["模", "型", "gpt-4", "在", "不", "存", "在"]),
        ("in /v1/chat/completions", ["in", "v1", "chat", "completions"]),
        ("{model} model's end-of-life", ["{model}", "model's", "end", "of", "life"]),
        ("модель не найдена", ["модель", "не", "найдена"]),
        ("não está disponível", ["não", "está", "disponível"]),
        ("指定されたモデルが見つかりません", ["指", "定", "された", "モデル", "が", "見", "つかりません"]),
        ("apiキーgpt模型", ["api", "キー", "gpt", "模", "型"]),
        ("", []),
    ],
)
def test_what_a_text_sounds_like(text: str, words: list[str]) -> None:
    assert hear(text) == words


@pytest.mark.parametrize(
    ("heard", "kinds"),
    [
        ("word", ("word", False, False)),
        ("'word'", ("word", True, False)),
        ("gpt-5", ("gpt-5", True, False)),
        ("128k", ("128k", False, True)),
        ("30.5", ("30.5", False, True)),
        ("{model}", ("{model}", True, False)),
    ],
)
def test_kinds_of_words(heard: str, kinds: tuple[str, bool, bool]) -> None:
    assert kinds_of(heard) == kinds


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ModelNotFound", "model not found"),
        ("model_not_found", "model not found"),
        ("MODEL_NOT_FOUND", "model not found"),
        ("InvalidEndpointOrModel.NotFound", "invalid endpoint or model not found"),
        ("APIError", "api error"),
        ("429", "429"),
        ("", ""),
    ],
)
def test_codes_are_spelled_out(code: str, words: str) -> None:
    assert spell_out(code) == words


@pytest.mark.parametrize(
    ("phrase", "what"),
    [
        ("", "the phrase is empty"),
        ("[a] ... [b]", "the phrase is empty, or may be"),
        ("a (b", "a `)` is missing"),
        ("a [b)", "a `]` is missing"),
        ("a|b", "`|` stands outside brackets"),
        ("a (b|)", "an alternative is empty"),
        ("a ()", "an alternative is empty"),
        ("Model", "`Model` is no word"),
        ("a , b", "`,` is no word"),
        ("a <B>", "`<B>` is no name"),
        ("!(a b) c", "holds more than single words"),
        ("a" * 301, "longer than 300 characters"),
        ("a <" + "b" * 40, f"`<{'b' * 19}` cannot stand in a phrase"),
        ("X" * 41, f"`{'X' * 40}` is no word"),
        (f"<{'B' * 41}>", f"`<{'B' * 39}` is no name"),
    ],
)
def test_a_mistake_is_told(phrase: str, what: str) -> None:
    with pytest.raises(PhraseError) as told:
        parse(phrase)
    assert what in str(told.value)
    assert told.value.write


@pytest.mark.parametrize(("phrase", "parts"), [("a", 1), ("a b", 2), ("a (b|c d) e", 6), ("[a] b", 3)])
def test_how_much_a_phrase_stands_for(phrase: str, parts: int) -> None:
    """Law 10: what counts against the bound are its words, and the places where it has a choice."""
    assert size(parse(phrase)) == parts


def test_a_phrase_may_have_300_characters() -> None:
    assert parse("a" * 300) == Word("a" * 300)


def test_names_stand_for_their_meaning() -> None:
    names = {"who": parse("(a|b)"), "what": parse("<who> c"), "itself": parse("x <itself>")}
    assert expand(parse("<what>"), names) == InTurn((expand(parse("(a|b)"), names), Word("c")))
    for phrase, what in (("<none>", "has no <none>"), ("<itself>", "is defined by itself")):
        with pytest.raises(PhraseError, match=what):
            expand(parse(phrase), names)
    chain = {"p0": parse("a")} | {f"p{n}": parse(f"<p{n - 1}> b") for n in range(1, DEEPEST + 2)}
    known: dict[str, Plain] = {}
    for n in range(DEEPEST + 1):
        # Whether the names were expanded before, one after the other, makes no difference.
        assert expand(parse(f"<p{n}>"), chain, known) == expand(parse(f"<p{n}>"), chain)
    for before in (known, None):
        with pytest.raises(PhraseError, match="too many others"):
            expand(parse(f"<p{DEEPEST + 1}>"), chain, before)
    wide = {"p0": parse("(a b|c d)")} | {f"p{n}": parse(f"<p{n - 1}> <p{n - 1}>") for n in range(1, 12)}
    wide |= {f"q{n}": Choice((parse(f"<p{n}>"), parse("x"))) for n in range(12)}
    with pytest.raises(PhraseError, match=r"for more than|for too many"):
        expand(parse("<p11> " * 20), wide)


@given(st.text(max_size=60))
def test_no_text_makes_reading_or_hearing_raise(text: str) -> None:
    assert all(hear(text.lower()))
    with contextlib.suppress(PhraseError):
        parse(text)


@pytest.mark.parametrize("piece", ["a", "a-", "'a", "_", "1.", "n't", "模", "https://", "{model}", "<", "a_1@"])
def test_hearing_takes_time_in_proportion_to_the_text(piece: str) -> None:
    """H02: twice the text costs about twice the time, whatever a peer writes; a bound, not a measurement."""

    def cost(length: int) -> float:
        text = (piece * length)[:length]
        begun = time.thread_time()
        for _ in range(3):
            hear(text)
        return time.thread_time() - begun

    assert cost(40_000) < 40 * cost(4_000) + 0.05
