"""Who goes first among equals by what is left of their limits (Q01): order, never a suspension."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import Stage, candidate, reply, route
from understudy.failover import Attempt, Release
from understudy.failover.exchange import Exchange
from understudy.model import Candidate, Choice, Label, Route, Strategy

A, B, C = candidate("a"), candidate("b"), candidate("c")


def says(stage: Stage, who: Candidate, used: float, *, reset: float = 7200.0, window: str = "5h") -> None:
    """A reply of this candidate tells how much of a window is used."""
    name = f"anthropic-ratelimit-unified-{window}"
    headers = [(f"{name}-utilization", str(used)), (f"{name}-reset", str(int(stage.now + reset)))]
    stage.suspensions.limits.hear(who, headers, 0.0)


def tokens(stage: Stage, who: Candidate, remaining: int) -> None:
    headers = {"x-ratelimit-remaining-tokens": str(remaining), "x-ratelimit-limit-tokens": "100000"}
    stage.suspensions.limits.hear(who, headers.items(), 0.0)


def asked(stage: Stage, on: Route, **facts: object) -> Candidate:
    """Whom the next call asks."""
    _, step = stage.open(on, **facts)  # type: ignore[arg-type]
    assert isinstance(step, Attempt)
    return step.candidate


@pytest.mark.parametrize("strategy", Strategy)
def test_q01_a_candidate_nearly_used_up_goes_behind_its_equals(strategy: Strategy) -> None:
    """Q01: with less than 2 % left, whatever the strategy; and it is suspended for nothing."""
    stage, on = Stage(), route(A, B, strategy=strategy)
    says(stage, A, 0.985)
    assert [asked(stage, on) for _ in range(3)] == [B, B, B]
    assert not stage.suspended()
    says(stage, A, 0.1)  # more than the reserve is left again
    assert A in [asked(stage, on) for _ in range(2)]


def test_q01_the_sole_candidate_is_asked_all_the_same() -> None:
    """Q01: also the last one that is free, and any of several that are all nearly used up."""
    stage = Stage()
    for each in (A, B):
        says(stage, each, 1.0)
    assert asked(stage, route(A)) == A
    assert asked(stage, route(A, B)) == A
    stage.suspend(A)
    assert asked(stage, route(A, B)) == B


def test_q01_a_lower_priority_is_not_asked_because_a_higher_one_is_nearly_used_up() -> None:
    """Q01: within one priority only."""
    stage = Stage()
    on = replace(route(A, B), choices=(Choice(A.credential, A.model), Choice(B.credential, B.model, priority=2)))
    says(stage, A, 1.0)
    assert asked(stage, on) == A


def test_q01_a_window_that_has_begun_anew_orders_nothing() -> None:
    stage, on = Stage(), route(A, B)
    says(stage, A, 1.0, reset=60)
    assert asked(stage, on) == B
    stage.clock.now += 60
    assert asked(stage, on) == A


def test_q01_the_reserve_is_the_routes() -> None:
    stage = Stage()
    says(stage, A, 0.9)
    stage.suspensions.limits.use_reserve(0.15)
    assert asked(stage, replace(route(A, B), reserve=0.15)) == B
    assert asked(stage, route(A, B)) == A


def test_q01_fewer_tokens_than_the_request_needs_put_it_behind() -> None:
    """Q01: a large request goes to B, a small one to A."""
    stage, on = Stage(), route(A, B)
    tokens(stage, A, 30_000)
    assert asked(stage, on, asked=lambda: b"word " * 40_000) == B
    assert asked(stage, on, asked=lambda: b'{"max_tokens": 50000}') == B
    assert asked(stage, on, asked=lambda: b"word " * 400) == A
    assert asked(stage, on) == A  # nothing is known of the request


def test_q01_a_session_leaves_an_account_before_that_refuses() -> None:
    """Q01: to an equal with room, and not to one that has as little left."""
    stage, on = Stage(), route(A, B)
    exchange, _ = stage.open(on, session="s")
    exchange.accept()
    assert asked(stage, on, session="s") == A
    says(stage, A, 0.99)
    assert asked(stage, on, session="s") == B
    says(stage, B, 0.99)
    assert asked(stage, on, session="s") == A


def test_q01_soonest_reset_asks_whose_rest_is_lost_first() -> None:
    """Q01: of those with room; what nothing is known of comes last, in the order of the route."""
    stage, on = Stage(), route(A, B, C, strategy=Strategy.SOONEST_RESET)
    assert asked(stage, on) == A
    says(stage, C, 0.5, reset=86_400, window="7d")
    assert asked(stage, on) == C
    says(stage, B, 0.5, reset=3_600, window="7d")
    assert asked(stage, on) == B
    says(stage, B, 0.99, reset=3_600, window="7d")
    assert asked(stage, on) == C
    stage.suspend(C)
    assert asked(stage, on) == A


def test_q01_soonest_reset_goes_on_when_it_is_refused() -> None:
    stage, on = Stage(), route(A, B, strategy=Strategy.SOONEST_RESET)
    says(stage, B, 0.5)
    played = stage.answer(on, [reply(Label.QUOTA_EXHAUSTED), reply(Label.OK)])
    assert played.sent == [B, A]
    assert isinstance(played.end, Release)


def test_turns_go_on_where_they_were() -> None:
    """A pick that looks at limits takes one turn, not two."""
    stage, on = Stage(), route(A, B, C, strategy=Strategy.ROUND_ROBIN)
    says(stage, A, 0.99)
    assert [asked(stage, on) for _ in range(4)] == [B, C, B, C]
    says(stage, A, 0.0)
    says(stage, candidate("elsewhere"), 0.99)  # somebody is watched, so limits are looked at
    assert sorted(str(asked(stage, on)) for _ in range(3)) == ["a m1", "b m1", "c m1"]


def test_a_token_count_asks_whom_the_call_would_ask() -> None:
    """X04, with limits."""
    stage, on = Stage(), route(A, B)
    says(stage, A, 0.99)
    exchange = stage.exchange(on, generating=False)
    assert exchange.begin(stage.now) == Attempt(1, B)


def test_ten_thousand_used_up_accounts_are_no_loop_over_all() -> None:
    """H02: a pick looks at a bounded number of equals."""
    stage = Stage()
    members = [candidate(f"c{number}") for number in range(2_000)]
    on = route(*members)
    looked: list[str] = []
    limits = stage.suspensions.limits
    for each in members:
        says(stage, each, 1.0)
    before = limits.is_low

    def counted(who: Candidate, *rest: object) -> bool:
        looked.append(str(who))
        return before(who, *rest)  # type: ignore[arg-type]

    limits.is_low = counted  # type: ignore[method-assign, assignment]
    exchange: Exchange = stage.exchange(on)
    assert exchange.begin(stage.now) == Attempt(1, members[0])
    assert len(looked) <= 300
