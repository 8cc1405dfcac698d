"""How wide a refusal of a credential is (J05)."""

from __future__ import annotations

import pytest

from understudy.suspensions import refusal_width as module
from understudy.suspensions.refusal_width import MODELS, WINDOW, Answers

OWNER = ("a", 0)


@pytest.mark.parametrize(
    ("heard", "whole"),
    [
        ([], True),
        ([("m1", True, 0)], True),  # the model itself proves nothing about others
        ([("m2", True, 0)], False),
        ([("m2", True, -WINDOW - 1)], True),
        ([("m2", True, -10), ("m2", False, -5)], True),
        ([("m2", False, -10), ("m2", True, -5)], False),
        ([("m2", True, -10), ("m3", False, -5)], True),  # a second model is refused
        ([("m2", True, -10), ("m3", False, -5), ("m2", True, -1)], False),  # an answer since then speaks against it
        ([("m2", False, -5)], True),
        ([("m2", True, -10), ("m3", False, -15), ("m4", False, -5)], True),  # the newest of each counts
        ([("m2", True, -15), ("m3", False, -10), ("m4", True, -5)], False),
        ([("m2", True, 30)], False),  # a clock that was set back
    ],
)
def test_j05_who_speaks_against_it(heard: list[tuple[str, bool, float]], whole: bool) -> None:
    """J05: another model's answer within ten minutes, unless a second one was refused since."""
    answers = Answers()
    for model, good, at in heard:
        (answers.answered if good else answers.refused)(OWNER, model, 1000.0 + at)
    assert answers.is_whole(OWNER, "m1", 1000.0) is whole


def test_j05_another_secret_is_another_owner() -> None:
    """J05, F16."""
    answers = Answers()
    answers.answered(OWNER, "m2", 0.0)
    assert not answers.is_whole(OWNER, "m1", 0.0)
    assert answers.is_whole(("a", 1), "m1", 0.0)


def test_what_is_remembered_is_bounded() -> None:
    """Law 10: a tool may ask for any number of models."""
    answers = Answers()
    for number in range(MODELS + 5):
        answers.answered(OWNER, f"m{number}", float(number))
    assert len(answers._heard[OWNER]) == MODELS
    assert not answers.is_whole(OWNER, "other", 70.0)


def test_credentials_that_were_heard_of_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: of any number that a pool may have had."""
    monkeypatch.setattr(module, "CREDENTIALS", 2)
    answers = Answers()
    for name in ("a", "b", "a", "c"):
        answers.answered((name, 0), "m1", 1.0)
    assert [name for name in "abc" if answers.answered_since((name, 0), 0.0)] == ["a", "c"]


def test_j05_an_answer_counts_for_ten_minutes_and_no_longer() -> None:
    """J05: to the second, whichever way the clock goes; of two at the same instant the refusal is believed."""
    for seconds, counts in ((WINDOW, True), (-WINDOW, True), (WINDOW + 1, False), (-WINDOW - 1, False)):
        answers = Answers()
        answers.answered(OWNER, "m2", 1000.0)
        assert answers.is_whole(OWNER, "m1", 1000.0 + seconds) is not counts
    answers = Answers()
    answers.answered(OWNER, "m2", 1000.0)
    answers.refused(OWNER, "m3", 1000.0)
    assert answers.is_whole(OWNER, "m1", 1000.0)
    late = Answers()
    late.answered(OWNER, "m2", 1000.0)
    late.refused(OWNER, "m3", 1000.0 - WINDOW)
    assert not late.is_whole(OWNER, "m1", 1000.0 + 1)


def test_j05_a_refusal_and_an_answer_of_one_model_are_both_remembered() -> None:
    """J05: in either order; the newer one of a kind takes the place of the older."""
    answers = Answers()
    answers.answered(OWNER, "m2", 10.0)
    answers.refused(OWNER, "m2", 5.0)
    assert not answers.is_whole(OWNER, "m1", 10.0)
    answers.refused(OWNER, "m2", 11.0)
    assert answers.is_whole(OWNER, "m1", 11.0)
    answers.answered(OWNER, "m2", 12.0)
    assert not answers.is_whole(OWNER, "m1", 12.0)


def test_j05_what_another_has_heard_counts_too() -> None:
    """H12: in a drill the real answers and the drill's own."""
    real, drilled = Answers(), Answers()
    real.answered(OWNER, "m2", 10.0)
    assert not drilled.is_whole(OWNER, "m1", 10.0, real)
    assert drilled.is_whole(OWNER, "m1", 10.0)
    drilled.refused(OWNER, "m3", 11.0)
    assert drilled.is_whole(OWNER, "m1", 11.0, real)


def test_q02_whether_a_credential_has_answered_since() -> None:
    """Q02: at that time or later, with any model; a refusal is no answer."""
    answers = Answers()
    assert not answers.answered_since(OWNER, 0.0)
    answers.refused(OWNER, "m1", 50.0)
    assert not answers.answered_since(OWNER, 0.0)
    answers.answered(OWNER, "m1", 10.0)
    answers.answered(OWNER, "m2", 20.0)
    assert [answers.answered_since(OWNER, since) for since in (10.0, 20.0, 20.1)] == [True, True, False]
    assert not answers.answered_since(("b", 0), 0.0)


def test_of_many_models_the_one_that_was_heard_of_least_recently_is_forgotten() -> None:
    """Law 10: whether it answered or refused."""
    answers = Answers()
    answers.answered(OWNER, "first", 1.0)
    for number in range(MODELS - 1):
        answers.refused(OWNER, f"m{number}", 2.0)
    assert answers.answered_since(OWNER, 0.0)
    answers.answered(OWNER, "first", 3.0)
    answers.refused(OWNER, "one more", 4.0)
    assert answers.answered_since(OWNER, 0.0), "it was heard of a moment ago"
    for number in range(MODELS):
        answers.refused(OWNER, f"n{number}", 5.0)
    assert len(answers._heard[OWNER]) == MODELS
    assert not answers.answered_since(OWNER, 0.0)
