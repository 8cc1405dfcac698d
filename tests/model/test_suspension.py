"""What can be taken out of rotation, and how it is told."""

from __future__ import annotations

import pytest

from tests.support.decisions import NOW, candidate
from understudy.model import Label, Scope, Suspension, Verdict, fingerprint, key_of, keys_of
from understudy.model.suspension import BY_HAND

A = candidate("a", "m\n1")


def test_a_key_says_what_it_is_about() -> None:
    """H12: one of a drill says so; a model's name is fit for one line."""
    assert [str(key) for key in keys_of(A)] == [r"candidate a m\n1", "credential a", "upstream openai"]
    assert [str(key) for key in keys_of(A, drill=True)] == [
        *(r"candidate a m\n1 (drill)", "credential a (drill)", "upstream openai (drill)")
    ]


@pytest.mark.parametrize("label", Label)
@pytest.mark.parametrize("hint", ["", "retry-after"])
@pytest.mark.parametrize("rule", ["test/rule", BY_HAND])
def test_law_6_which_windows_are_stated(label: Label, hint: str, rule: str) -> None:
    """Law 6: a limit that names its time, and whatever a hand asked for."""
    made = Suspension(key_of(A, Scope.CANDIDATE), NOW, NOW + 5, label, rule, "", hint)
    limit = label in (Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED)
    assert made.by_hand is (rule == BY_HAND)
    assert made.stated is (rule == BY_HAND or (limit and bool(hint)))
    assert made.reason == (BY_HAND if rule == BY_HAND else f"{label} by test/rule")


def test_a_verdict_that_no_words_make_certain_is_open_and_says_so() -> None:
    sure, unsure = Verdict(Label.UNKNOWN, "test/rule"), Verdict(Label.UNKNOWN, "test/rule", certain=False)
    assert (sure.is_open, sure.in_words) == (False, "unknown by test/rule")
    assert (unsure.is_open, unsure.in_words) == (True, "unknown by test/rule (open)")


def test_law_8_a_fingerprint_tells_secrets_apart_and_none_away() -> None:
    """Law 8: it is the same for the same secret, within this process."""
    one, other = fingerprint("sk-one-0123456789"), fingerprint("sk-other-0123456789")
    assert one == fingerprint("sk-one-0123456789") != other
    assert b"sk-one" not in one and len(one) == 16
