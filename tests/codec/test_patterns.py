"""Which expressions a rule may hold, and which words they cannot do without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.codec.patterns import LEAST_SEARCHED, MOST_SEARCHED, compile_pattern, needles, searched


@pytest.mark.parametrize(
    "expression",
    [
        r"(a+)+b",
        r"(?:a*)*",
        r"(?:\w+ )+x",
        r"(a|b+)*",
        r"((?:x{1,500})y)+",
        r"(?=(a+)+)b",
        r"(?:a+){2,}",
        r"(?:(?>a+)b)*",
        r"(?:a{1,60}){1,60}b",
        r"(?:x[a-z]{0,10}){0,60}!",
        r".*.*.*b",
        r"(unclosed",
        "x" * 5000,
    ],
)
def test_dangerous_or_broken_expressions_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"repetition|too many ways|not a regular|more than"):
        compile_pattern(expression)


@pytest.mark.parametrize(
    "expression", [r"a+b*", r"(?:a{1,3}b)+", r"(?:\w+ ){0,3}?x", r"[^.]{0,60}", r"(?<!a )\bmodel\b"]
)
def test_harmless_expressions_are_compiled(expression: str) -> None:
    assert compile_pattern(expression).pattern == expression


def test_capitals_in_an_expression_do_not_matter() -> None:
    assert compile_pattern(r"Model \S+").search("the model x")


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (r"\bmodels? (?:is|was) not found", [{" not found"}, {"model"}, {"is", "was"}]),
        (r"(?:余额不足|欠费)", [{"余额不足", "欠费"}]),
        (r"a.b", []),
        (r"(?:model)?.*", []),
        (r"\b(?:unknown|no such) (?:model|engine)", [{"unknown", "no such"}, {"model", "engine"}]),
    ],
)
def test_necessary_words(expression: str, words: list[set[str]]) -> None:
    assert list(needles(expression)) == words


EXPRESSIONS = st.lists(
    st.sampled_from(["model", "no ", r"\b", "(?:is|was) ", "(?:a|b)?", "[xy]", r"\d{1,3}", "不", "not"]), max_size=5
).map("".join)


@settings(deadline=None)
@given(
    EXPRESSIONS, st.lists(st.sampled_from(["model", "no ", "is ", "was ", "a", "x", "12", "不", "not"])).map("".join)
)
def test_necessary_words_never_hide_a_match(expression: str, text: str) -> None:
    """Leaving an expression out because its words are missing is never a wrong answer."""
    if not all(any(word in text for word in words) for words in needles(expression)):
        assert re.search(expression, text) is None


def test_a_costly_expression_is_searched_in_less_of_a_text() -> None:
    """H02: the square or the cube of the length is what decides; everyday expressions see a whole message."""
    assert searched(r"\bmodels?\b.{0,80}\b(?:is|was) not (?:found|there)") == MOST_SEARCHED
    assert LEAST_SEARCHED < searched("model.*not.*found") < searched(".*x") < MOST_SEARCHED


def test_the_shipped_expressions_are_searched_in_a_whole_message() -> None:
    """None of the rules of the package is cut short."""
    written: list[str] = []

    def look(value: object) -> None:
        match value:
            case dict():
                for key, inner in value.items():
                    if str(key).endswith("|re"):
                        written.extend([inner] if isinstance(inner, str) else inner)
                    look(inner)
            case list():
                for inner in value:
                    look(inner)

    for path in sorted((Path(__file__).parents[2] / "rules").rglob("*.yaml")):
        look(yaml.safe_load(path.read_text("utf-8")))
    assert len(written) > 30
    assert [expression for expression in written if searched(expression) < MOST_SEARCHED] == []


def test_of_many_words_the_rarest_are_looked_for() -> None:
    """Four sets: the longest words, and of equal sets the one with the longer word first."""
    expression = r"no .* model .* deployment .* is .* unavailable .* temporary"
    words = (" unavailable ", " deployment ", " temporary", " model ")
    assert needles(expression) == tuple(frozenset({word}) for word in words)
    assert needles(r"(?:alpha|gamma) \d+ (?:nine|ten!)$") == (
        frozenset({"alpha", "gamma"}),
        frozenset({"nine", "ten!"}),
    )


def test_a_branch_without_a_word_needs_none() -> None:
    """Otherwise a text that takes this branch would be passed over."""
    assert needles(r"(?:model|[xy])\d") == ()
    assert needles(r"(?:model|engine)\d") == (frozenset({"model", "engine"}),)
