"""Hearing all phrases in one pass: the same as looking for each by itself, and never more than the text is worth."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.rules import listening
from understudy.rules.folders import shipped_vocabulary
from understudy.rules.listening import Listener, find
from understudy.rules.phrases import expand, parse

NAMES = {"m": parse("[the|this] model [<a-name>]"), "gone": parse("(is|was) [now] (not (found|here)|gone)")}


@pytest.mark.parametrize(
    ("phrase", "hits", "misses"),
    [
        (
            "<m> <gone>",
            ["sorry, the model gpt-5 is not found", "model was now gone"],
            ["model of x is gone", "model is"],
        ),
        ("not found $", ["it was not found."], ["not found here"]),
        ("^ not found", ["not found here"], ["it was not found"]),
        ("a ... b", ["a b", "a x y z b"], ["a. b", "b a"]),
        ("a * b", ["a x b"], ["a b", "a x y b", "a. b"]),
        ("a [*] b", ["a b", "a x b"], ["a x y b"]),
        ("<a-number> tokens", ["30,000 tokens", "8k tokens"], ["gpt-4 tokens", "many tokens"]),
        ("<a-name> is", ["'x' is", "gpt-4 is", "top_p is"], ["x is", "4 is"]),
        ("<a-parameter> is", ["top_p is", "'top_p' is"], ["model_id is", "gpt_4 is", "x is"]),
        ("*_key is", ["api_key is", "nvidia_api_key is"], ["key is", "keyring is"]),
        ("not !(with) $", ["not for"], ["not with"]),
        ("not !(with)", ["not for", "it is not", "not. with"], ["not with"]),
        ("not ~(with)", ["not for"], ["not with", "it is not", "not. for"]),
        ("!(not) here", ["is here", "here", "so. here"], ["not here"]),
        ("model(s) gone", ["model gone", "models gone"], ["modeled gone"]),
        ("模型 ... 不存在", ["模型gpt不存在", "该模型不存在"], ["模型。不存在", "模型存在"]),
        ("is not set", ["isn't set"], ["is set"]),
    ],
)
def test_phrases(phrase: str, hits: list[str], misses: list[str]) -> None:
    node = expand(parse(phrase), NAMES)
    listener = Listener()
    bit = listener.add(node)
    assert listener.add(node) == bit
    for text in hits:
        assert listener.hears(text) == bit, text
        assert find(node, text)
    for text in misses:
        assert listener.hears(text) == 0, text
        assert not find(node, text)


def test_the_passage_is_the_longest_of_the_first() -> None:
    node = expand(parse("<m> [<gone>]"), NAMES)
    assert find(node, "and this model gpt-5 was gone. model") == "this model gpt-5 was gone"
    assert find(parse("^ a"), "a b") == "a"


def test_another_phrase_can_be_added_at_any_time() -> None:
    listener = Listener()
    first = listener.add(parse("a b"))
    assert listener.hears("a b c") == first
    second = listener.add(parse("b c"))
    assert listener.hears("a b c") == first | second


WORDS = ["a", "b", "c", "gpt-4", "4", "'q'", "top_p", ".", "模"]
ATOMS = st.sampled_from(["a", "b", "c", "*", "...", "<a-name>", "<a-number>", "模", "!(a|b)", "~(c)", "^", "$", "*_p"])
PHRASES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: f"[{'|'.join(parts)}]"),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    phrases=st.lists(st.one_of(PHRASES.map("a {}".format), PHRASES.map("{} b".format)), min_size=1, max_size=4),
    text=st.lists(st.sampled_from(WORDS), max_size=8),
)
def test_all_at_once_is_the_same_as_each_by_itself(phrases: list[str], text: list[str]) -> None:
    said = " ".join(text)
    nodes = [expand(parse(phrase), {}) for phrase in phrases]
    listener = Listener()
    bits = [listener.add(node) for node in nodes]
    heard = listener.hears(said)
    for node, bit in zip(nodes, bits, strict=True):
        alone = Listener()
        only = alone.add(node)
        assert bool(heard & bit) == (alone.hears(said) == only)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that makes ever new sets of open phrases makes them be forgotten, and nothing is misheard."""
    monkeypatch.setattr(listening, "MOST_SETS", 5)
    monkeypatch.setattr(listening, "MOST_CHUNKS", 5)
    listener = Listener()
    bits = [listener.add(parse(f"w{n} ... w{n + 1}")) for n in range(20)]
    words = [f"w{n}" for n in range(21)]
    for _ in range(2):
        listener._short.clear()
        assert listener.hears(" ".join(words)) == sum(bits)
        assert listener.hears(" ".join(reversed(words))) == 0
        assert len(listener._sets) <= 7
        for word in words:
            listener.hears(word)
            assert len(listener._chunks) <= 5


def test_a_phrase_that_comes_later_is_heard_as_well() -> None:
    """Whatever was worked out for those before it."""
    listener = Listener()
    first = listener.add(parse("w1 w2"))
    assert listener.hears("w1 w2 w3") == first
    second = listener.add(parse("w1 ... w3"))
    assert listener.hears("w1 w2 w3") == first | second
    third = listener.add(parse("[w1] (w2|w4) w3"))
    assert listener.hears("w1 w2 w3") == first | second | third


def test_short_texts_are_remembered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes in words come again and again; who sends others all the time finds no more room than that."""
    monkeypatch.setattr(listening, "MOST_SHORT", 3)
    listener = Listener()
    bit = listener.add(parse("model not found"))
    for number in range(10):
        assert listener.hears(f"error {number}") == 0
        assert len(listener._short) <= 3
    long = "the model not found " * listening.LONGEST_SHORT
    for text in ("model not found", "model not found", long, "not found", long):
        assert listener.hears(text) == (bit if "model" in text else 0)
    assert long not in listener._short


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted({word for entry in shipped_vocabulary().entries for phrase in entry.phrases
                                        for word in phrase.replace("(", " ").replace("|", " ").split()})),
                min_size=100, max_size=150))  # fmt: skip
def test_the_shipped_phrases_hear_any_salad_of_their_own_words(words: list[str]) -> None:
    """H02: the worst that a peer can write is the words of the phrases themselves; the sets stay bounded."""
    listener = shipped_vocabulary().listener
    listener.hears(" ".join(words).lower())
    assert len(listener._sets) <= listening.MOST_SETS + 1
