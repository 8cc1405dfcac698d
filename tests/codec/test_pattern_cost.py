"""What a search can cost is known before it runs: the bound is never below what is really tried."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.support.counted_search import CountedSearch
from understudy.codec import patterns
from understudy.codec.pattern_cost import Cost, TooManyWaysError


def cost(expression: str) -> Cost:
    tree: Any = patterns._tree(expression)
    return Cost(tree, tree.state.flags)


ATOMS = st.sampled_from(
    ["a", "b", "ab", "aa", "aba", "c", " ", r"\w", "[ab]", "[^a]", ".", r"\b", "^", "$", r"(?=ab)", r"(?!b)"]
)
REPEATED = st.sampled_from(["?", "*", "+", "{2}", "{1,3}", "{0,9}", "*?", "{1,4}?"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda branches: f"(?:{'|'.join(branches)})"),
        st.builds(lambda body, how: f"(?:{body}){how}", inner, REPEATED),
        inner.map(lambda body: f"(?>{body})"),
    )


EXPRESSIONS = st.recursive(ATOMS, _larger, max_leaves=8)
TEXTS = st.one_of(
    st.text("abc ", max_size=14),
    st.builds(
        lambda part, times, end: part * times + end,
        st.text("ab ", min_size=1, max_size=4),
        st.integers(1, 5),
        st.text("abc ", max_size=2),
    ),
)


@settings(max_examples=300)
@given(EXPRESSIONS, TEXTS)
@example(".*x", "a" * 14)
@example("ab.*ab.*c", "ababababababab")
@example("(?:[ab]{0,3}aba)c", "aaabaabaab")
@example("(?:a{1,3}b)+c", "aabaaabaab")
@example("(?:ab|a)(?:c|bc)", "abab")
@example(r"(?:\w+ ){0,3}?x", "ab ab ab ab")
@example(r"\w+(?=.*c) b", "aaaaaaaaa")
def test_h02_no_search_tries_more_than_its_bound(expression: str, text: str) -> None:
    """H02: counted on an engine that is written out, part by part, not measured in seconds."""
    try:
        bound = cost(expression).steps(len(text))
    except TooManyWaysError:
        assume(False)
    search = CountedSearch(expression, text)
    assert search.steps <= bound
    assert search.found is (re.search(expression, text) is not None)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(?:a{1,9}){1,9}b", "a{}"),
        ("(?:x[a-z]{0,10}){0,60}!", "x{}"),
        ("(?:aa|a)*b", "a{}"),
        ("(?:.* ){0,6}x", " {}"),
    ],
)
def test_what_is_refused_does_grow_without_end(expression: str, text: str) -> None:
    """The steps more than double with two more characters; no text is long enough to be of use then."""
    steps = [CountedSearch(expression, text[0] * length).steps for length in (4, 6, 8)]
    assert steps[1] > 1.8 * steps[0] or steps[2] > 1.8 * steps[1]
    with pytest.raises(ValueError, match=r"too many ways|repetition inside"):
        patterns.compile_pattern(expression)


@pytest.mark.parametrize(
    ("expression", "degree"),
    [
        (r"model not found", 1),
        (r"[a-z]+ [a-z]+ [a-z]+", 2),
        (r".*x", 2),
        (r"a.*b.*c", 3),
        (r"^.*x", 1),
        (r".{0,80}x", 1),
        (r"(?:is|was)+x", 2),
        (r"(?>.*)x", 2),
        (r".*+x", 2),
    ],
)
def test_the_bound_grows_with_the_choices(expression: str, degree: int) -> None:
    """Twice the text, 2^degree times the steps."""
    growth = cost(expression).steps(80_000) / cost(expression).steps(40_000)
    assert 2**degree * 0.98 < growth < 2**degree * 1.02


def test_words_thin_out_what_is_tried() -> None:
    plain, words, knocking = (
        cost(expression).steps(3000) for expression in ("m.*n.*f", "model.*not.*found", "mmmm.*nnn.*fffff")
    )
    assert words < plain / 6
    assert knocking > plain / 2, "letters that repeat stand everywhere"


def test_sets_that_meet_in_rare_characters_are_no_border() -> None:
    """Case is ignored as ``re`` ignores it, and characters beyond the basic plane are not gone through."""
    for expression in ("[k]+\u212ax", "[\U0001f600-\U0001f64f]+[^a]x", "(?a:\\w+)[^a-z]x", "(?s).+\nx"):
        assert cost(expression).steps(40_000) > 3e8, expression
    for expression in ("[k]+x", r"\w+\W", r"\d+[a-z]", r"[^.]+\."):
        assert cost(expression).longest(patterns.STEPS, 8192) > 1000, expression


def test_the_longest_text_is_the_longest() -> None:
    found = cost(".*x").longest(10_000, 8192)
    assert cost(".*x").steps(found) <= 10_000 < cost(".*x").steps(found + 1)
    assert cost("x").longest(1e9, 500) == 500
    assert cost("x").longest(0, 500) == 0


def test_many_alternatives_and_deep_groups_are_counted_quickly() -> None:
    """The count itself is bounded: its work is compared, not timed."""
    assert patterns.searched("|".join(f"word{number}" for number in range(400))) == patterns.MOST_SEARCHED
    assert patterns.searched("(?:" * 40 + "a" + ")?" * 40) > 0
    assert patterns.searched("(?:" * 30 + "a|b" + "){1,2}" * 30) == 0
