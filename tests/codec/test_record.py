"""Values whose fields mypy does not let anybody assign."""

from __future__ import annotations

from dataclasses import field, fields, replace

import pytest

from understudy.codec.record import record


@record
class Pair:
    """Two fields, one of which is not shown."""

    left: int
    right: tuple[str, ...] = field(default=(), repr=False)


def test_a_record_is_its_fields() -> None:
    """Equal, hashed and shown by what it holds, and changed by making another one."""
    pair = Pair(1, ("secret",))
    assert {pair, Pair(1, ("secret",)), replace(pair, left=2)} == {pair, Pair(2, ("secret",))}
    assert [each.name for each in fields(Pair)] == ["left", "right"]
    assert repr(pair) == "Pair(left=1)"


def test_a_record_takes_no_other_field() -> None:
    """It has slots: nothing is noted on it in passing."""
    with pytest.raises(AttributeError):
        Pair(1).more = 1  # type: ignore[attr-defined]
