"""Which candidate is next."""

from __future__ import annotations

import gc
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.decisions import OTHER, Stage, candidate, credential, reply, route
from understudy.failover import selection as module
from understudy.failover.selection import DrilledLineup, Selector
from understudy.failover.steps import Attempt, Wait
from understudy.model.pool import Candidate, Choice, Relatives, Route, Strategy, Upstream
from understudy.model.suspension import Key, Suspension, key_of, keys_of
from understudy.model.verdict import Label, Scope

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
    again = stage.lineup(on, "alias-4")
    stage.lineup(on, "other")
    assert stage.lineup(on, "alias-4") is again, "it was asked for a moment ago"
    stage.suspend(candidate("a", "first"))
    assert str(held.pick()) == "b first"


@pytest.mark.parametrize("kept", [1, 2, 3, 100])
def test_a_lineup_that_was_not_asked_for_long_knows_how_things_are(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """However many of the changes since are still kept."""
    monkeypatch.setattr(module, "CHANGES", kept)
    stage = Stage()
    rested, followed = stage.lineup(route(A, B, C)), stage.lineup(route(A, B, C, strategy=Strategy.ROUND_ROBIN))
    for number in range(5):
        stage.suspend(A, scope=Scope.CREDENTIAL)
        stage.suspend(candidate(f"another-{number}"))
        stage.suspensions.resume(key_of(A, Scope.CREDENTIAL))
        stage.suspend(B, 5)
        assert followed.members_of(followed.available()) == [A, C]
        stage.suspensions.resume(key_of(B, Scope.CANDIDATE))
        stage.suspend(C)
        assert followed.members_of(followed.available()) == [A, B]
        assert rested.members_of(rested.available()) == [A, B] if number % 2 else True
        stage.suspensions.resume(key_of(C, Scope.CANDIDATE))
    assert rested.available() == followed.available() == rested.everyone


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
        if strategy not in (Strategy.ORDERED, Strategy.SOONEST_RESET):  # of equal weights, in turn
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


def weighted(*weights: int, priorities: tuple[int, ...] = ()) -> tuple[Route, list[Candidate]]:
    """A weighted route, and its candidates in order."""
    members = [candidate(f"w{number}") for number in range(len(weights))]
    ranks = priorities or (1,) * len(weights)
    choices = [
        Choice(member.credential, member.model, priority=rank, weight=weight)
        for member, rank, weight in zip(members, ranks, weights, strict=True)
    ]
    return Route("gpt-5", tuple(choices), Strategy.WEIGHTED), members


@pytest.mark.parametrize("weights", [(5, 1, 1), (3, 1), (1, 2, 3, 4), (7,), (2, 2, 2)])
def test_p01_weights_are_met_exactly_and_spread_out(weights: tuple[int, ...]) -> None:
    """P01: over 10,000 picks each has its share, exactly so in every round, and nobody waits longer than need be."""
    on, members = weighted(*weights)
    lineup, total = Stage().lineup(on), sum(weights)
    rounds = 10_000 // total
    picks = [lineup.pick() for _ in range(rounds * total)]
    for start in range(0, len(picks), total):
        once = picks[start : start + total]
        assert [once.count(member) for member in members] == list(weights)
    for member, weight in zip(members, weights, strict=True):
        places = [place for place, picked in enumerate(picks) if picked == member]
        longest = max(after - before for before, after in pairwise(places)) if len(places) > 1 else 1
        assert longest <= 2 * total / weight


def test_p01_weights_hold_among_those_that_are_left() -> None:
    """P01: one is suspended: the others share in proportion, and it gets no arrears when it is back."""
    on, members = weighted(4, 2, 1)
    stage = Stage()
    lineup = stage.lineup(on)
    stage.suspend(members[0], 60)
    picks = [lineup.pick() for _ in range(300)]
    assert [picks.count(member) for member in members] == [0, 200, 100]
    stage.clock.now += 60
    stage.suspensions.expire()
    picks = [lineup.pick() for _ in range(700)]
    shares = [picks.count(member) for member in members]
    assert all(abs(share - wanted) <= 3 for share, wanted in zip(shares, (400, 200, 100), strict=True)), shares


@pytest.mark.parametrize("strategy", Strategy)
def test_p01_a_tier_is_asked_only_while_the_one_before_has_nobody(strategy: Strategy) -> None:
    """P01: priority goes before strategy, whatever the order in the file."""
    on, members = weighted(1, 1, 1, 1, priorities=(2, 1, 2, 1))
    stage = Stage()
    lineup = stage.lineup(replace(on, strategy=strategy))
    first, second = {members[1], members[3]}, {members[0], members[2]}
    assert {lineup.pick() for _ in range(4)} <= first
    stage.suspend(members[1])
    assert {lineup.pick() for _ in range(4)} == {members[3]}
    stage.suspend(members[3])
    assert {lineup.pick() for _ in range(4)} <= second
    stage.suspensions.resume(key_of(members[1], Scope.CANDIDATE))
    assert lineup.pick() == members[1]


def test_p01_turns_are_right_when_exchanges_overlap() -> None:
    """P01: 10,000 picks by exchanges that are under way at the same time, some of which go on to the next."""
    on, members = weighted(3, 2, 1)
    stage, counts = Stage(), dict.fromkeys(members, 0)
    open_now = [stage.open(on) for _ in range(60)]
    for _ in range(9_940):
        exchange, step = open_now.pop(0)
        assert isinstance(step, Attempt)
        counts[step.candidate] += 1
        exchange.judge(reply(Label.OK), stage.now)
        open_now.append(stage.open(on))
    for _, step in open_now:
        assert isinstance(step, Attempt)
        counts[step.candidate] += 1
    assert [round(counts[member] / 10_000 * 6, 2) for member in members] == [3.0, 2.0, 1.0]


def relative(name: str, dialect: str, *relatives: str) -> Candidate:
    at = Upstream(f"at-{name}", dialect, "https", f"{name}.example", 443, "/v1", relatives=frozenset(relatives))
    return candidate(name, at=at)


VENDOR, AZURE = relative("vendor", "openai", "azure-openai"), relative("azure", "azure-openai", "openai")
SPARE = relative("spare", "azure-openai", "openai")


@pytest.mark.parametrize("strategy", [Strategy.ORDERED, Strategy.ROUND_ROBIN])
def test_a09_the_tools_own_dialect_goes_before_its_relatives(strategy: Strategy) -> None:
    """A09: within one priority; a lower number still goes first, and `relatives: mixed` leaves the order alone."""
    on = route(VENDOR, AZURE, SPARE, strategy=strategy)
    selector = Stage().selector
    assert selector.lineup(on, "gpt-5", "azure-openai").members == (AZURE, SPARE, VENDOR)
    assert selector.lineup(on, "gpt-5", "openai").members == (VENDOR, AZURE, SPARE)
    picks = [selector.lineup(on, "gpt-5", "azure-openai").pick() for _ in range(3)]
    assert picks == ([AZURE] * 3 if strategy is Strategy.ORDERED else [AZURE, SPARE, AZURE])
    mixed = replace(on, relatives=Relatives.MIXED)
    assert selector.lineup(mixed, "gpt-5", "azure-openai").members == (VENDOR, AZURE, SPARE)
    first = replace(on, choices=(on.choices[0], *(replace(each, priority=2) for each in on.choices[1:])))
    assert selector.lineup(first, "gpt-5", "azure-openai").members == (VENDOR, AZURE, SPARE)


def test_a09_a_relative_of_a_better_priority_goes_before_the_own_dialect_of_a_worse_one() -> None:
    """A09: whatever the order in the file; they are no equals, and no turn is taken between them."""
    on = route(VENDOR, AZURE, SPARE, strategy=Strategy.ROUND_ROBIN)
    choices = (replace(on.choices[1], priority=2), replace(on.choices[2], priority=2), on.choices[0])
    lineup = Stage().selector.lineup(replace(on, choices=choices), "gpt-5", "azure-openai")
    assert lineup.members == (VENDOR, AZURE, SPARE)
    assert [lineup.pick() for _ in range(3)] == [VENDOR] * 3
    assert lineup.members_of(lineup.equals(VENDOR)) == [VENDOR]
    assert lineup.members_of(lineup.equals(SPARE)) == [AZURE, SPARE]


@pytest.mark.parametrize("strategy", Strategy)
def test_equals_are_those_of_one_priority_whatever_they_weigh(strategy: Strategy) -> None:
    on, members = weighted(1, 3, 1, 2, priorities=(1, 1, 2, 1))
    lineup = Stage().lineup(replace(on, strategy=strategy))
    assert lineup.members_of(lineup.equals(members[1])) == [members[0], members[1], members[3]]
    assert lineup.members_of(lineup.equals(members[2])) == [members[2]]


def test_p01_weights_are_for_the_weighted_strategy_only() -> None:
    on, members = weighted(5, 1)
    lineup = Stage().lineup(replace(on, strategy=Strategy.ROUND_ROBIN))
    assert [lineup.pick() for _ in range(4)] == [*members, *members]


def test_p01_of_those_that_are_owed_the_same_the_first_of_the_route_goes_first() -> None:
    """P01: two of weight 1 are owed together what one of weight 2 is."""
    on, members = weighted(1, 1, 2)
    assert Stage().lineup(on).pick() == members[0]
    on, members = weighted(2, 1, 1)
    assert Stage().lineup(on).pick() == members[0]


def test_x04_a_token_count_takes_no_turn_of_a_weighted_route() -> None:
    """X04: it asks whom the next generating call asks, as often as it comes."""
    on, members = weighted(3, 2, 1)
    lineup = Stage().lineup(on)
    picks = []
    for _ in range(12):
        counted = [lineup.pick(advance=False) for _ in range(3)]
        picks.append(lineup.pick())
        assert counted == [picks[-1]] * 3
    assert [picks.count(member) for member in members] == [6, 4, 2]


def test_turns_go_on_in_a_lineup_of_the_same_members() -> None:
    """Of a drill: the other calls have taken turns meanwhile. What is taken there does not count here."""
    on, _ = weighted(2, 1, 1)
    stage = Stage()
    one, other = stage.lineup(on), stage.lineup(replace(on))
    expected = [one.pick() for _ in range(8)]
    for _ in range(3):
        one.pick()
    other.take_turns_of(one)
    assert [other.pick() for _ in range(5)] == expected[3:]
    assert [one.pick() for _ in range(5)] == expected[3:]


def test_h12_a_lineup_of_a_drill_knows_what_is_suspended_for_real_as_well() -> None:
    """H12: in each scope; and a real lineup knows nothing of a drill."""
    stage = Stage()
    on = route(A, candidate("a", "m2"), B, C)
    real = stage.lineup(on)
    drilled = Selector(stage.suspensions, DrilledLineup)
    beside = drilled.lineup_like(real)
    assert drilled.lineup_like(real) is beside
    assert (drilled.is_drilled, stage.selector.is_drilled) == (True, False)
    left = {Scope.CANDIDATE: 3, Scope.CREDENTIAL: 2, Scope.UPSTREAM: 1}
    for scope, count in left.items():
        for drill in (True, False):
            key = key_of(A, scope, drill=drill)
            stage.suspensions.suspend(Suspension(key, stage.now, stage.now + 60, Label.OVERLOADED, "test"))
            assert beside.available().bit_count() == count
            assert real.available().bit_count() == (4 if drill else count)
            assert [each.key for each in drilled.suspensions_of(A)] == [key]
            assert [each.key for each in stage.selector.suspensions_of(A)] == ([] if drill else [key])
            later = Selector(stage.suspensions, DrilledLineup).lineup_like(real)
            assert later.available() == beside.available()
            stage.suspensions.resume(key)
            assert beside.available().bit_count() == real.available().bit_count() == 4


def test_a_candidate_is_probed_by_one_attempt_and_not_by_itself() -> None:
    """F14: whichever of its keys is half-open."""
    for scope in Scope:
        stage = Stage()
        stage.suspend(A, 5, scope=scope)
        stage.clock.now += 5
        stage.suspensions.expire()
        assert not stage.selector.is_probed(A)
        ticket = stage.suspensions.ticket()
        stage.suspensions.begin_probe(A, ticket)
        assert stage.selector.is_probed(A) and not stage.selector.is_probed(A, ticket)
        assert not stage.selector.is_probed(C)


def test_a_lineup_of_one_that_can_be_sent_is_single() -> None:
    """Law 6: a member without its secret is none; and of several credentials only those that can be sent count."""
    out = replace(B, credential=replace(B.credential, missing="not set"))
    stage = Stage()
    facts = [
        (lineup.is_single, lineup.has_several_credentials)
        for members in ((A,), (A, out), (A, B), (M1, M2), (out,))
        for lineup in [stage.lineup(route(*members))]
    ]
    assert facts == [(True, False), (True, False), (False, True), (False, False), (False, False)]


def test_a_lineup_shows_the_keys_that_concern_it() -> None:
    lineup = Stage().lineup(route(A, C))
    assert set(lineup.keys) == {*keys_of(A), *keys_of(C)}
    assert lineup.bit(B) == 0
    assert lineup.bit(C) == 0b10
