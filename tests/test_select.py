"""Which candidate is next."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions import OTHER, Stage, candidate, credential, route
from understudy import select as module
from understudy.keys import Key, key_of
from understudy.pool import Choice, Route, Strategy
from understudy.rules import Label, Scope
from understudy.select import Selector
from understudy.steps import Attempt, Wait

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
M1, M2, M3 = (candidate("one", model) for model in ("m1", "m2", "m3"))


def test_ordered_takes_the_first_that_is_free() -> None:
    """P01: ordered keeps to the first candidate while it is healthy."""
    stage, on = Stage(), route(A, B, C)
    lineup = stage.lineup(on)
    assert [lineup.pick() for _ in range(3)] == [A, A, A]
    stage.suspend(A)
    assert [lineup.pick() for _ in range(3)] == [B, B, B]
    stage.clock.now += 600
    assert stage.lineup(on).pick() == A


def test_round_robin_skips_what_is_suspended() -> None:
    """F05: round_robin over [M1, M2, M3] with M2 suspended: M1, M3, M1, M3."""
    stage = Stage()
    stage.suspend(M2)
    lineup = stage.lineup(route(M1, M2, M3, strategy=Strategy.ROUND_ROBIN))
    assert [lineup.pick() for _ in range(4)] == [M1, M3, M1, M3]


def test_round_robin_shares_ten_thousand_picks_evenly() -> None:
    """P01: round_robin over 10,000 picks."""
    lineup = Stage().lineup(route(M1, M2, M3, A, strategy=Strategy.ROUND_ROBIN))
    picks = [lineup.pick() for _ in range(10_000)]
    assert [picks.count(member) for member in (M1, M2, M3, A)] == [2500] * 4


def test_a_token_count_does_not_turn_the_round() -> None:
    """X04: the count goes to the candidate that the next generating call would use."""
    lineup = Stage().lineup(route(M1, M2, M3, strategy=Strategy.ROUND_ROBIN))
    assert [lineup.pick(advance=False) for _ in range(3)] == [M1, M1, M1]
    assert [lineup.pick(), lineup.pick(advance=False), lineup.pick()] == [M1, M2, M2]


def test_excluded_members_are_not_picked() -> None:
    lineup = Stage().lineup(route(A, B, C))
    assert lineup.pick(0b001) == B
    assert lineup.pick(0b011) == C
    assert lineup.pick(0b111) is None


@pytest.mark.parametrize(
    ("scope", "left"),
    [(Scope.CANDIDATE, ["a m2", "b m1", "c m1"]), (Scope.CREDENTIAL, ["b m1", "c m1"]), (Scope.UPSTREAM, ["c m1"])],
)
def test_a_scope_takes_out_what_it_covers(scope: Scope, left: list[str]) -> None:
    """L04, L05: a quota of the account takes all its models out, one of a model leaves its siblings free."""
    stage = Stage()
    lineup = stage.lineup(route(A, candidate("a", "m2"), B, C))
    stage.suspend(A, scope=scope)
    assert [str(member) for member in lineup.members_of(lineup.available())] == left


def test_scopes_do_not_free_each_other() -> None:
    """A credential that comes back does not bring back its candidate, nor the other way round."""
    stage = Stage()
    lineup = stage.lineup(route(A, B))
    stage.suspend(A, scope=Scope.CANDIDATE)
    stage.suspend(A, scope=Scope.CREDENTIAL)
    stage.suspensions.resume(key_of(A, Scope.CREDENTIAL))
    assert lineup.pick() == B
    stage.suspensions.resume(key_of(A, Scope.CANDIDATE))
    assert lineup.pick() == A


def test_the_alias_makes_no_difference_to_a_suspension() -> None:
    """F06: another alias on the same upstream model and credential skips it too; another upstream model does not."""
    stage = Stage()
    same, other = candidate("a", "m1"), candidate("a", "m2")
    x, y, z = route(same, B, pattern="x"), route(same, B, pattern="y"), route(other, B, pattern="z")
    before = stage.lineup(y, "y")
    assert before.pick() == same
    stage.lineup(x, "x")
    stage.suspend(same)
    assert stage.lineup(x, "x").pick() == B
    assert before.pick() == B
    assert stage.lineup(y, "y") is before
    assert stage.lineup(z, "z").pick() == other


def test_an_alias_that_keeps_its_name_has_a_lineup_of_its_own() -> None:
    """F06: without a model in the route the alias is the upstream model, and only that one is suspended."""
    stage = Stage()
    on = Route("gpt-*", (Choice(credential("a")), Choice(credential("b"))))
    stage.suspend(candidate("a", "gpt-5"))
    assert str(stage.lineup(on, "gpt-5").pick()) == "b gpt-5"
    assert str(stage.lineup(on, "gpt-4").pick()) == "a gpt-4"


def test_a_lineup_made_later_knows_what_is_suspended() -> None:
    stage = Stage()
    stage.suspend(A, scope=Scope.UPSTREAM)
    assert stage.lineup(route(A, C)).pick() == C


def test_a_route_of_a_new_pool_gets_a_new_lineup() -> None:
    stage = Stage()
    old, new = route(A, B), route(B, A)
    assert stage.lineup(old).pick() == A
    assert stage.lineup(new).pick() == B


def test_same_model_is_by_upstream_and_upstream_model() -> None:
    """F10: the same upstream model behind another credential or alias is the same; at another upstream it is not."""
    lineup = Stage().lineup(route(candidate("a"), candidate("b"), candidate("b", "m2"), candidate("c", at=OTHER)))
    assert lineup.same_model(A) == 0b0011
    assert lineup.same_model(candidate("b", "m2")) == 0b0100
    assert lineup.same_model(C) == 0b1000


def test_the_longest_suspension_explains_a_candidate() -> None:
    stage = Stage()
    stage.suspend(A, 600)
    stage.suspend(A, 30, scope=Scope.CREDENTIAL, label=Label.RATE_LIMITED, hint="retry-after")
    longest, stated = stage.selector.suspension_of(A), stage.selector.suspension_of(A, stated=True)
    assert longest is not None
    assert longest.label is Label.OVERLOADED
    assert stated is not None
    assert stated.label is Label.RATE_LIMITED
    assert stage.selector.suspension_of(B) is None


def test_a_lineup_of_a_replaced_pool_still_hears_of_changes() -> None:
    """O01: a request that waits while the pool is reloaded must see its candidate come back, or it waits for ever."""
    stage = Stage()
    stage.suspend(A, 5)
    stage.suspend(B, 60)
    exchange, step = stage.open(route(A, B))
    assert step == Wait(5.0, "every candidate is suspended")
    stage.selector = Selector(stage.suspensions)  # the reload; what was in use is kept by its exchange only
    gc.collect()
    stage.clock.now += 5
    assert exchange.resume(stage.now) == Attempt(1, A)


def test_a_forgotten_lineup_that_is_in_use_hears_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINEUPS", 2)
    stage, on = Stage(), Route("*", (Choice(credential("a")), Choice(credential("b"))))
    held = stage.lineup(on, "first")
    for number in range(5):
        stage.lineup(on, f"alias-{number}")
    assert stage.lineup(on, "first") is not held
    stage.suspend(candidate("a", "first"))
    assert str(held.pick()) == "b first"


@pytest.mark.parametrize("strategy", Strategy)
def test_the_right_one_among_ten_thousand(strategy: Strategy) -> None:
    """Picking stays right in the large: 5,000 of 10,000 suspended, as whole credentials and one by one."""
    stage = Stage()
    members = [candidate(f"c{number // 10}", f"m{number % 10}") for number in range(10_000)]
    lineup = stage.lineup(route(*members, strategy=strategy))
    for number in range(0, 4000, 10):
        stage.suspend(members[number], scope=Scope.CREDENTIAL)
    for number in range(4001, 6001, 2):
        stage.suspend(members[number])
    for number in range(4000, 4002):
        stage.suspensions.resume(key_of(members[number], Scope.CANDIDATE))
    assert lineup.available().bit_count() == 5001
    assert lineup.pick() == members[4000]
    second = lineup.pick(1 << 4000 | 1 << 4001)
    assert second == members[4002]
    if strategy is not Strategy.ORDERED:
        assert lineup.pick(lineup.everyone ^ 1 << 9999) == members[9999]
        assert lineup.pick() == members[4000]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12, unique=True),
    st.lists(st.tuples(st.sampled_from(Scope), st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=20),
    st.integers(0, 1 << 12),
    st.sampled_from(Strategy),
)
def test_a_pick_is_what_a_plain_loop_would_find(
    members: list[tuple[int, int]], changes: list[tuple[Scope, int, int, bool]], excluded: int, strategy: Strategy
) -> None:
    """P01: the bits say the same as the definition, whatever comes and goes."""
    stage = Stage()
    all_members = [candidate(f"c{who}", f"m{model}", OTHER if who == 3 else A.upstream) for who, model in members]
    lineup = stage.lineup(route(*all_members, strategy=strategy))
    cursor = 0
    for scope, who, model, comes in changes:
        about = candidate(f"c{who}", f"m{model}", OTHER if who == 3 else A.upstream)
        if comes:
            stage.suspend(about, scope=scope)
        else:
            stage.suspensions.resume(key_of(about, scope))
        order = list(range(len(all_members)))
        if strategy is not Strategy.ORDERED:  # of equal weights, in turn
            order = order[cursor:] + order[:cursor]
        free = [at for at in order if not excluded >> at & 1 and stage.selector.suspension_of(all_members[at]) is None]
        assert lineup.pick(excluded) == (all_members[free[0]] if free else None)
        if free:
            cursor = (free[0] + 1) % len(all_members)


def test_a_lineup_shows_who_is_free() -> None:
    stage = Stage()
    stage.suspend(A)
    assert repr(stage.lineup(route(A, B))) == "Lineup(gpt-5: b m1)"
    assert stage.lineup(route(A, B)).mask(Key(Scope.CREDENTIAL, "nobody")) == 0
