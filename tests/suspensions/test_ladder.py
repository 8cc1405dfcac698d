"""How long a failure lasts, step by step."""

from __future__ import annotations

from random import Random

import pytest

from understudy.failover.default_actions import DEFAULTS
from understudy.failover.penalties import spread
from understudy.model.verdict import Label
from understudy.suspensions import ladder as module
from understudy.suspensions.ladder import JITTER, Ladders, Rung, doubling, seconds_of


def test_steps_double_up_to_their_cap() -> None:
    assert doubling(1, 5) == (1, 2, 4, 5)
    assert doubling(5, 30) == (5, 10, 20, 30)
    assert doubling(7, 7) == (7,)


def test_the_last_step_holds_for_all_that_follow() -> None:
    assert [seconds_of((1, 2, 4), step) for step in (0, 1, 2, 3, 99)] == [1, 2, 4, 4, 4]
    assert seconds_of((), 3) == 0


@pytest.mark.parametrize(
    ("label", "steps"),
    [
        (Label.MODEL_UNSUPPORTED, [600, 3600, 43200, 43200]),
        (Label.RATE_LIMITED, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800]),
        (Label.OVERLOADED, [3, 6, 12, 12, 12]),
        (Label.QUOTA_EXHAUSTED, [3600, 3600]),
        (Label.CREDENTIAL_REJECTED, [1800, 1800]),
        (Label.REQUEST_INVALID, [0]),
    ],
)
def test_the_ladders_are_those_of_the_documentation(label: Label, steps: list[float]) -> None:
    """L02 and the table of default actions."""
    assert [seconds_of(DEFAULTS[label].steps, step) for step in range(len(steps))] == steps


@pytest.mark.parametrize("label", [each for each in Label if DEFAULTS[each].steps])
def test_l08_chance_never_goes_beyond_the_last_step(label: Label) -> None:
    """L08: a tenth at most, upwards where there is room, downwards where there is none."""
    steps, chance = DEFAULTS[label].steps, Random(7)
    for step in range(len(steps) + 2):
        exact = seconds_of(steps, step)
        lengths = [spread(steps, step, JITTER * chance.random()) for _ in range(200)]
        assert max(lengths) <= min(exact * (1 + JITTER), steps[-1])
        assert min(lengths) >= exact * (1 - JITTER)
        assert len(set(lengths)) > 100


def test_a_step_is_counted_once_per_window() -> None:
    """F15: whatever began before the last step was set, or fails inside its window, says nothing new."""
    ladders: Ladders[str] = Ladders()
    assert ladders.next_step("a", Label.OVERLOADED, ticket=1, now=100.0) == 0
    ladders.climb("a", Label.OVERLOADED, Rung(0, order=5, until=105.0))
    assert ladders.next_step("a", Label.OVERLOADED, ticket=4, now=200.0) is None
    assert ladders.next_step("a", Label.OVERLOADED, ticket=6, now=104.9) is None
    assert ladders.next_step("a", Label.OVERLOADED, ticket=6, now=105.0) == 1
    assert ladders.next_step("a", Label.RATE_LIMITED, ticket=6, now=105.0) == 0
    assert ladders.next_step("b", Label.OVERLOADED, ticket=6, now=105.0) == 0


def test_a_success_takes_all_labels_back_to_their_first_step() -> None:
    ladders: Ladders[str] = Ladders()
    for label in (Label.OVERLOADED, Label.RATE_LIMITED):
        ladders.climb("a", label, Rung(3, order=1, until=0.0))
    ladders.climb("b", Label.OVERLOADED, Rung(3, order=1, until=0.0))
    ladders.forget("a")
    assert ladders.standing("a") == {}
    assert ladders.standing("b") == {Label.OVERLOADED: Rung(3, 1, 0.0)}


def test_ladders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool may ask for any number of models: the ladder that was climbed longest ago is forgotten first."""
    monkeypatch.setattr(module, "LIMIT", 2)
    ladders: Ladders[str] = Ladders()
    for key in ("a", "b", "a", "c"):
        ladders.climb(key, Label.OVERLOADED, Rung(0, 1, 0.0))
    assert [bool(ladders.standing(key)) for key in "abc"] == [True, False, True]
