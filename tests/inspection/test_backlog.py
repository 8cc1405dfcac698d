"""What is counted later: in order, at once when much has come together, and never at the cost of a call."""

from __future__ import annotations

import logging

import pytest

from understudy.inspection.backlog import MOST, Backlog


def test_counts_wait_until_somebody_asks() -> None:
    """They are made once, in the order in which things happened."""
    backlog, made = Backlog(), list[int]()
    for number in range(3):
        backlog.add(made.append, number)
    assert made == []
    for _ in range(2):
        backlog.settle()
        assert made == [0, 1, 2]


def test_not_more_wait_than_the_bound() -> None:
    """Nobody may ever ask."""
    backlog, made = Backlog(), list[int]()
    for number in range(3 * MOST - 1):
        backlog.add(made.append, number)
    assert made == list(range(2 * MOST))


def test_one_that_fails_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """Law 8 holds for an error's text, and the others are counted all the same."""
    caplog.set_level(logging.ERROR, "understudy")
    backlog, made = Backlog(), list[int]()

    def fail(secret: str) -> None:
        raise RuntimeError(secret)

    backlog.add(fail, "sk-secret")
    backlog.add(made.append, 1)
    backlog.settle()
    assert made == [1]
    assert "an exchange cannot be counted: RuntimeError" in caplog.text
    assert "sk-secret" not in caplog.text


def test_what_is_counted_meanwhile_is_counted_next() -> None:
    """A count that adds another one neither loses it nor goes round for ever."""
    backlog, made = Backlog(), list[str]()
    backlog.add(lambda: backlog.add(made.append, "second"))
    backlog.settle()
    assert made == []
    backlog.settle()
    assert made == ["second"]
