"""How wide a refusal of a credential is (J05)."""

from __future__ import annotations

import pytest

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
