"""The table of an exchange: a person reads it and knows who refused and why."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.inspection import exchange_table

FACTS: dict[str, Any] = {
    "exchange": "3f9a1c2b4d5e",
    "time": 1_700_000_000.0,
    "route": "gpt-*",
    "alias": "gpt-5",
    "dialect": "openai",
    "endpoint": "chat/completions",
    "streamed": True,
    "mode": "enforce",
    "candidates": ["work gpt-5", "home gpt-5", "old gpt-5", "router openai/gpt-5", "spare gpt-5"],
    "of": 7,
    "attempts": 3,
    "tried": [
        {"number": 1, "place": 1, "credential": "work", "model": "gpt-5", "status": 429, "label": "rate_limited"}
        | {"rule": "fallback/rate_limited", "evidence": "HTTP 429: slow down", "open": True},
        {"number": 2, "place": 1, "credential": "work", "model": "gpt-5", "status": 0, "label": "overloaded"}
        | {"rule": "builtin/closed", "evidence": "closed: reset", "again": True}
        | {"suspended": {"what": "upstream openai", "seconds": 5.0}},
        {"number": 3, "place": 4, "credential": "router", "model": "openai/gpt-5", "status": 200, "label": "ok"}
        | {"rule": "builtin/output"},
    ],
    "waits": [{"before": 2, "seconds": 2.0, "why": "work gpt-5: rate_limited, tried once more"}],
    "skipped": [
        {"credential": "old", "model": "gpt-5", "why": "credential suspended for overloaded by x/y, for another 9m"}
    ],
    "answer": 3,
    "credential": "router",
    "model": "openai/gpt-5",
    "failing": 0.5,
    "released": 3.456,
}  # fmt: skip


def test_the_whole_exchange() -> None:
    """Candidates, attempts with verdict, rule and evidence, waits, who was skipped and why, and what was released."""
    assert (
        exchange_table.table(FACTS)
        == """\
understudy: exchange 3f9a1c2b4d5e, gpt-5 by route gpt-* (openai chat/completions, streamed)

    1  work gpt-5           429 rate_limited by fallback/rate_limited (open): HTTP 429: slow down
                            waited 2.0s: work gpt-5: rate_limited, tried once more
    2  work gpt-5 (again)   overloaded by builtin/closed, upstream suspended 5s: closed: reset
    3  router openai/gpt-5  200 ok by builtin/output
    -  old gpt-5            skipped: credential suspended for overloaded by x/y, for another 9m
    -  home gpt-5           not asked
    -  spare gpt-5          not asked
       and 2 more

the tool got the reply of attempt 3, router openai/gpt-5 after 3.46s"""
    )


def test_one_attempt() -> None:
    """The flow of an attempt says whose it is."""
    tried = {key: value for key, value in FACTS["tried"][0].items() if key != "number"}
    assert (
        exchange_table.table({**FACTS, **tried, "attempt": 1})
        == """\
understudy: attempt 1 of exchange 3f9a1c2b4d5e, gpt-5 by route gpt-* (openai chat/completions, streamed)

    1  work gpt-5  429 rate_limited by fallback/rate_limited (open): HTTP 429: slow down"""
    )


def test_a_second_opinion() -> None:
    """J01, J02: which attempt it was, and what it came to."""
    first = {"number": 1, "credential": "work", "model": "m", "label": "unknown", "rule": "r", "compared": "request"}
    second = {"number": 2, "credential": "home", "model": "m", "label": "unknown", "rule": "r", "second_opinion": True}
    told = exchange_table.table({"exchange": "x", "tried": [first, second], "answer": 1})
    assert "work m" in told
    assert "unknown by r, another candidate refuses it too" in told
    assert "home m (second opinion)" in told


def test_every_end() -> None:
    """What the tool got, when it got something else than a good reply."""
    ended = {**FACTS["tried"][1], "again": False}
    ends: dict[str, tuple[dict[str, Any], str]] = {
        "own": ({"answer": 0}, "understudy answered itself after 3.46s"),
        "cancelled": (
            {"answer": None, "released": 0, "cancelled": "home gpt-5", "seconds": 4.0},
            "the tool got no reply",
        ),
        "under way": ({"answer": None, "released": 0}, "under way"),
        "cut": (
            {"ended": ended},
            "the stream ended in an error: overloaded by builtin/closed, upstream suspended 5s: closed: reset",
        ),
    }
    for change, said in ends.values():
        text = exchange_table.table({**FACTS, **change})
        assert text.endswith(said), text
    cancelled = exchange_table.table({**FACTS, "cancelled": "home gpt-5"})
    assert "home gpt-5           cancelled, the tool went away" in cancelled
    assert "home gpt-5           not asked" not in cancelled


def test_a_wait_after_the_last_attempt_is_told() -> None:
    """The tool may go away while everybody waits."""
    text = exchange_table.table(
        {**FACTS, "waits": [{"before": 4, "seconds": 30, "why": "every candidate is suspended"}]}
    )
    assert "waited 30.0s: every candidate is suspended" in text


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FACTS, *FACTS["tried"][1], "why", "before", "attempt"]), inner, max_size=6)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*FACTS, "attempt", "number", "suspended", "ended"]), anything))
def test_facts_that_anybody_wrote(facts: dict[str, Any]) -> None:
    """Saved flows come from anywhere: looking at one does not raise."""
    assert exchange_table.table({**FACTS, **facts})
    assert exchange_table.table({"exchange": "x", **facts})


def test_e01_p04_what_was_left_out_and_what_binds() -> None:
    """E01, P04: the table of an exchange names what a candidate went without, and what kept others from being asked."""
    tried = {
        "number": 1,
        "credential": "home",
        "model": "m",
        "label": "ok",
        "rule": "r",
        "left_out": 2,
        "moved_from": "work",
    }
    shown = exchange_table.table(
        {"exchange": "e", "tried": [tried], "answer": 1, "bound": {"to": "work", "by": "file file-1"}}
    )
    assert "ok by r, without 2 sealed parts, moved from work" in shown
    assert "only work could be asked: file file-1 belongs to it" in shown
    assert "only  could be asked" in exchange_table.table({"exchange": "e", "tried": [], "bound": {"to": 5}})
