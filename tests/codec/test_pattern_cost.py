"""What a search can cost is known before it runs: the bound is never below what is really tried."""

from __future__ import annotations

import math
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.support.counted_search import CountedSearch
from understudy.codec import pattern_cost, patterns
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


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        # letters: a word is found in as few places as its letters allow
        ("a", {1: 1}),
        ("aa", {1: 2}),
        ("abc", {1: 2.5}),
        ("aaab", {1: 4}),
        (".", {1: 1}),
        ("[ab]c", {1: 2}),
        ("a.b", {1: 3}),
        (r"a\b", {1: 2}),
        # branches: they exclude each other where their first characters, or words, do
        ("a|b", {1: 1}),
        ("ab|cd", {1: 4}),
        ("ab|ac", {1: 2}),
        ("a|ab", {1: 2}),
        ("ab|a", {1: 2}),
        ("(?:ab|cd)e", {1: 4.5}),
        ("(?:ab|a)e", {1: 3.5}),
        ("(?:[ab]|[bc])e", {1: 2}),
        ("(?:[ab]|[cd])e", {1: 2}),
        ("(?:a|b?)e", {1: 6}),
        ("(?:a+|b+)c", {1: 1, 2: 4}),
        ("(?:a+|b+|[bc]+)d", {1: 3, 2: 6}),
        ("(?:a+|b+|a+)d", {1: 3, 2: 6}),
        ("(?:.*a|b)c", {1: 1, 2: 4}),
        ("(?:a|b.*)c.*d", {1: 2, 2: 2, 3: 2}),
        ("(?:ab|abc|cd)e", {1: 7 + 5 / 6}),
        # a choice without end
        ("a*", {2: 2}),
        ("a+b", {1: 1, 2: 2}),
        ("a*a", {2: 2}),
        (".*x", {2: 2}),
        (".*ab", {2: 3}),
        (".*aa", {2: 3}),
        ("x.*ab.*c", {1: 1, 2: 3, 3: 1}),
        ("(?:ab)*c", {1: 1, 2: 3}),
        ("(?:ab)*ab", {2: 4}),
        ("(?:(?:a|b)*c)*d", {1: 1, 2: 2, 3: 2}),
        # a choice with an end: up to 4,096 characters
        ("a{2}b", {1: 3}),
        ("a{1,3}b", {1: 7}),
        ("a{1,3}ab", {1: 9}),
        ("[ab]{0,5}abc", {1: 20}),
        (".{0,4096}x", {1: 8193}),
        (".{0,4097}x", {2: 2}),
        (".{3,4098}x", {2: 2}),
        ("(?:ab){0,4096}c", {1: 12290}),
        ("(?:ab){0,4097}c", {1: 1, 2: 3}),
        ("(?:ab){2}c", {1: 5}),
        ("(?:ab){1,3}c", {1: 10}),
        ("(?:a|ab){2}c", {1: 8}),
        ("(?:a|ab){0,2}c", {1: 10.5}),
        ("(?:x|y|){2}z", {1: 17}),
        # what can be left out
        ("(?:a?b?)c", {1: 11}),
        ("a?b?c", {1: 11}),
        ("a*b*c", {1: 1, 2: 6}),
        ("a*b?c", {1: 4, 2: 4}),
        ("a*(?:b?)(?:c?)d", {1: 11, 2: 6}),
        ("a*(?:b?)a", {2: 5}),
        # groups that are referred to
        (r"(a)\1b", {1: 2, 2: 1}),
        (r"(a)\1.*b", {1: 1, 2: 3}),
        ("(a)?(?(1)b|c)d", {1: 7}),
        ("(a)?(?(1)b)c", {1: 7}),
        # what looks ahead, and what is not come back to
        ("(?=ab)c", {1: 3}),
        ("(?!a.*)b", {1: 2, 2: 2}),
        ("(?>a*)b", {1: 1, 2: 2}),
        ("(?>a*b)b", {1: 2, 2: 2}),
        ("a*+b", {1: 1, 2: 2}),
        ("a{1,3}+b", {1: 7}),
        # anchors
        ("^a.*b", {0: 1, 1: 3}),
        (r"\Aa.*b", {0: 1, 1: 3}),
        ("a^.*b", {1: 2, 2: 2}),
        ("(?m)^a", {1: 2}),
        ("$", {1: 1}),
        # borders: sets of characters that have none in common
        ("[a-c]*[d-f]", {1: 1, 2: 2}),
        ("[a-c]*[c-f]", {2: 2}),
        ("[^a]*a", {1: 1, 2: 2}),
        ("[^a]*[^b]", {2: 2}),
        (r"\w+ ", {1: 1, 2: 2}),
        (r"\w+\W", {1: 1, 2: 2}),
        (r"\w+\d", {2: 2}),
        (r"\s*\S", {1: 1, 2: 2}),
        (r"[\d.]*[\s,]", {1: 1, 2: 2}),
        (r"[\d.]*[\w,]", {2: 2}),
        (r"[\d-]*-", {2: 2}),
        (r"\d*\D", {1: 1, 2: 2}),
        ("a*A", {2: 2}),
        (r"[k]+\u212a", {2: 2}),
        ("[\U0001f600-\U0001f64f]+[^a]x", {2: 3}),
        ("[^a]+[\U0001f600-\U0001f64f]x", {2: 3}),
        # borders further behind
        ("a*(?=b)c", {2: 3}),
        ("a*$", {1: 1, 2: 3}),
        ("a*(?:b|c)d", {1: 2, 2: 2}),
        ("a*(?>b)c", {1: 2, 2: 2}),
        ("a*(?:b{1,2})c", {1: 5, 2: 3}),
        ("a*(b)c", {1: 2, 2: 2}),
        # no borders where a flag gives characters another meaning
        ("(?a:[a-c])*d", {2: 2}),
        ("(?:(?a:b)|c)a*d", {1: 2, 2: 4}),
        ("(?s:.)*a", {2: 2}),
        ("(?s)a*b", {2: 2}),
        ("(?-i:a)*b", {1: 1, 2: 2}),
    ],
)
def test_the_bound_of_each_construct(expression: str, terms: dict[int, float]) -> None:
    """H02: by it an expression is refused, or searched in less of a text: so it is no higher than it has to be either.

    ``terms``: by number of choices, how often each place in the text is paid for.
    """
    for length in (0, 7, 500):
        places = {choices: (length + 8 * choices) ** choices / math.factorial(choices) for choices in terms}
        expected = sum(number * places[choices] for choices, number in terms.items())
        assert cost(expression).steps(length) == pytest.approx(expected, rel=1e-12)


def test_more_ways_than_can_be_counted_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """H02: the last number that is counted is the bound itself."""
    monkeypatch.setattr(pattern_cost, "_TOO_MANY", 4.0)
    assert cost("a{0,3}a").steps(10) > 0
    with pytest.raises(TooManyWaysError):
        cost("a{0,4}a")


def test_of_forty_branches_each_two_are_compared() -> None:
    """H02: of more it is not asked whether they exclude each other, as that takes the square of their number."""
    few, many = (
        cost(f"(?:{'|'.join(f'{chr(0x4E00 + at)}+' for at in range(number))})x.*y").steps(4000) for number in (40, 41)
    )
    assert many > 1.5 * few


def test_a_long_word_is_found_in_an_eighth_of_the_places() -> None:
    """Each further letter counts for as much as the word before it can repeat, and never for less than that."""
    for letters in range(1, 12):
        word = "abcdefghijkl"[:letters]
        thinned = 1 + sum(1 / min(8, length) for length in range(1, letters))
        assert cost(word).steps(100) == pytest.approx(108 * thinned)
    repeated = {"aba": 2, "abab": 2, "abcab": 3, "aabaab": 3, "abacabad": 8}
    for word, apart in repeated.items():
        assert cost(f"{word}x").steps(100) - cost(word).steps(100) == pytest.approx(108 / apart)


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


def test_the_sets_of_an_expression_take_little_memory() -> None:
    """All characters are looked at, and not one by one: what is free again afterwards stays with the process."""
    pattern_cost.forget()
    tracemalloc.start()
    try:
        cost(r"(?:\w+|[^a]+)\S+[a-z]+")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pattern_cost.forget()
    assert 300_000 < most < 1_500_000


def test_the_members_of_a_set_are_all_its_characters() -> None:
    """Also those in the other case, and halves of characters beyond the basic plane."""
    assert pattern_cost._members(r"[\s\S]") == "".join(map(chr, range(1 << 16)))
    assert pattern_cost._members(r"[a-c]") == "ABCabc"
    assert pattern_cost._members(r"[^\u0000-\uffef]") == "".join(map(chr, range(0xFFF0, 0x10000)))
    pattern_cost.forget()
