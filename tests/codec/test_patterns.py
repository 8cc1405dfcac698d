"""Which expressions a rule may hold, and which words they cannot do without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.codec import patterns
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
    ("inner", "outer", "refused"),
    [("+", "+", True), ("{0,65}", "+", True), ("{0,64}", "+", False), ("+", "{65}", True), ("+", "{64}", False)],
)
@pytest.mark.parametrize("shape", ["(?:a{}b){}", "(?:(?>a{}b)){}c", "((?:a{}b)){}", "(?:(?=a{}b)b){}"])
def test_a_repetition_of_more_than_64_is_in_no_other(shape: str, inner: str, outer: str, refused: bool) -> None:
    """H02: this is told as such, whatever stands between the two."""
    expression = shape.format(inner, outer)
    if refused:
        with pytest.raises(ValueError, match="a repetition inside a repetition"):
            compile_pattern(expression)
    else:
        assert compile_pattern(expression).pattern == expression


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
        (r"(?:model)*\d", []),
        (r"(?:model)+\d", [{"model"}]),
        (r"(?:model){2}?\d", [{"model"}]),
        (r"(?>model)\d", [{"model"}]),
        (r"(model)\d", [{"model"}]),
        (r"(?:alpha\d+xy|gamma)\d", [{"alpha", "gamma"}]),
        (r"(?:ab|cdefghi)\d(?:klmn|pqrst)", [{"klmn", "pqrst"}, {"ab", "cdefghi"}]),
        ("|".join(chr(0x4E00 + at) * 2 for at in range(40)), [{chr(0x4E00 + at) * 2 for at in range(40)}]),
        ("|".join(chr(0x4E00 + at) * 2 for at in range(41)), []),
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


def test_the_bounds_of_an_expression_are_the_last_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "LONGEST", 20)
    assert compile_pattern("x" * 20).pattern == "x" * 20
    with pytest.raises(ValueError, match="more than 20 characters"):
        compile_pattern("x" * 21)
    least = searched(".*x")
    monkeypatch.setattr(patterns, "LEAST_SEARCHED", least)
    assert compile_pattern(".*x").pattern == ".*x"
    monkeypatch.setattr(patterns, "LEAST_SEARCHED", least + 1)
    with pytest.raises(ValueError, match="too many ways"):
        compile_pattern(".*x")


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


def test_a_set_is_as_rare_as_its_shortest_word() -> None:
    """So of five sets this one is not among the four."""
    expression = r"(?:ab|cdefghijk)\d(?:klm|pqr)\d(?:stu|vwx)\d(?:yza|bcd)\d(?:efg|hij)"
    assert {min(words) for words in needles(expression)} == {"klm", "stu", "bcd", "efg"}


def test_a_branch_without_a_word_needs_none() -> None:
    """Otherwise a text that takes this branch would be passed over."""
    assert needles(r"(?:model|[xy])\d") == ()
    assert needles(r"(?:model|engine)\d") == (frozenset({"model", "engine"}),)
