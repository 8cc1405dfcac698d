"""How a person writes the way to fail."""

from __future__ import annotations

import pytest

from understudy.drill.behaviour import USUAL_DELAY, Behaviour, BehaviourError, Kind, read_behaviour


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_h12_every_kind_reads_back_and_has_a_meaning(kind: Kind) -> None:
    """H12: as written in the command, with what it stands for."""
    found = read_behaviour(kind.value)
    assert found == Behaviour(kind, USUAL_DELAY if kind is Kind.SLOW else 0.0)
    assert read_behaviour(str(found)) == found
    assert kind.meaning


@pytest.mark.parametrize(
    ("written", "kind", "seconds"),
    [("429:20", Kind.LIMITED, 20.0), ("slow:0.5s", Kind.SLOW, 0.5), ("429", Kind.LIMITED, 0.0)],
)
def test_a_kind_can_have_a_time(written: str, kind: Kind, seconds: float) -> None:
    assert read_behaviour(written) == Behaviour(kind, seconds)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("sad", "write one of dead, timeout"),
        ("", "write one of dead"),
        ("dead:5", "takes no time: write `dead`"),
        ("slow:0", "between a moment and an hour"),
        ("429:7200", "between a moment and an hour"),
        ("x" * 500, "no way to fail"),
    ],
)
def test_anything_else_is_answered_with_what_to_write(written: str, expected: str) -> None:
    with pytest.raises(BehaviourError, match=expected) as raised:
        read_behaviour(written)
    assert len(str(raised.value)) < 400
