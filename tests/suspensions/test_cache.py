"""What is out of rotation, and for how long."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.decisions import NOW, OTHER, Clock, Stage, candidate
from understudy.model.suspension import BY_HAND, Key, Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.suspensions import cache as module
from understudy.suspensions.cache import PROBED, Suspensions
from understudy.suspensions.ladder import Rung

A = candidate("a")
KEY = key_of(A, Scope.CANDIDATE)


def suspension(
    seconds: float, *, key: Key = KEY, since: float = NOW, label: Label = Label.RATE_LIMITED, hint: str = ""
) -> Suspension:
    return Suspension(key, since, NOW + seconds, label, "test/rule", f"for {seconds}", hint)


class Ear:
    """Hears what comes and goes."""

    def __init__(self) -> None:
        self.heard: list[tuple[Key, bool]] = []

    def changed(self, key: Key, suspended: bool) -> None:
        self.heard.append((key, suspended))


def test_a_key_is_the_concrete_upstream_model() -> None:
    """F06: the key says credential and upstream model; the other scopes leave the model out."""
    assert key_of(A, Scope.CANDIDATE) == Key(Scope.CANDIDATE, "a", "m1")
    assert key_of(A, Scope.CREDENTIAL) == Key(Scope.CREDENTIAL, "a")
    assert key_of(candidate("a", at=OTHER), Scope.UPSTREAM) == Key(Scope.UPSTREAM, "other")
    assert str(KEY) == "candidate a m1"
    assert str(key_of(A, Scope.CREDENTIAL)) == "credential a"


def test_a_suspension_ends_by_itself() -> None:
    clock = Clock()
    kept = Suspensions(clock)
    kept.suspend(suspension(10))
    clock.now += 9.9
    assert kept.get(KEY) is not None
    assert len(kept) == 1
    clock.now = NOW + 10
    assert kept.get(KEY) is None
    assert len(kept) == 0
    assert list(kept) == []


def test_a_shorter_suspension_never_shortens_a_running_one() -> None:
    """F15: the later end wins, in either order, and keeps its evidence."""
    kept = Suspensions(Clock())
    kept.suspend(suspension(600))
    held = kept.suspend(suspension(5))
    assert held is not None
    assert (held.until, held.evidence) == (NOW + 600, "for 600")
    assert kept.get(KEY) == held
    longer = kept.suspend(suspension(700))
    assert kept.get(KEY) == longer == suspension(700)


def test_what_is_due_already_suspends_nothing_and_ends_nothing() -> None:
    kept = Suspensions(Clock())
    assert kept.suspend(suspension(0)) is None
    assert kept.suspend(suspension(-5)) is None
    assert len(kept) == 0
    kept.suspend(suspension(5))
    kept.suspend(suspension(-5))
    assert len(kept) == 1


def test_running_suspensions_come_earliest_first() -> None:
    kept = Suspensions(Clock())
    for name, seconds in (("a", 30), ("b", 10), ("c", 20)):
        kept.suspend(suspension(seconds, key=Key(Scope.CREDENTIAL, name)))
    assert [each.key.name for each in kept] == ["b", "c", "a"]


def test_a_resumed_key_is_back_at_once() -> None:
    kept = Suspensions(Clock())
    kept.suspend(suspension(600))
    assert kept.resume(KEY) == suspension(600)
    assert kept.get(KEY) is None
    assert kept.resume(KEY) is None


def test_a_late_success_does_not_undo_a_newer_refusal() -> None:
    """F16: only what was set before the successful attempt began is lifted, whatever the clock says meanwhile."""
    clock = Clock()
    kept = Suspensions(clock)
    before = kept.ticket()
    kept.suspend(suspension(600))
    clock.now -= 1000
    assert kept.prove(A, before) is None
    assert kept.get(KEY) is not None
    assert kept.prove(A, kept.ticket()) is not None
    assert kept.get(KEY) is None


def test_a_newer_refusal_counts_even_where_it_does_not_last_longer() -> None:
    """F16: a refusal inside a longer window is newer than an attempt that began before it."""
    kept = Suspensions(Clock())
    kept.suspend(suspension(600))
    between = kept.ticket()
    kept.suspend(suspension(30))
    assert kept.prove(A, between) is None
    assert kept.get(KEY) == suspension(600)


@pytest.mark.parametrize(
    ("label", "hint", "stated"),
    [
        (Label.RATE_LIMITED, "retry-after", True),
        (Label.QUOTA_EXHAUSTED, "resets_at", True),
        (Label.RATE_LIMITED, "", False),
        (Label.OVERLOADED, "retry-after", False),
        (Label.MODEL_UNSUPPORTED, "", False),
    ],
)
def test_only_a_limit_that_names_its_window_is_stated(label: Label, hint: str, stated: bool) -> None:
    assert suspension(5, label=label, hint=hint).stated is stated


def test_listeners_hear_of_everything_that_comes_and_goes_once() -> None:
    clock, ear = Clock(), Ear()
    kept = Suspensions(clock)
    kept.listeners[ear] = None
    kept.suspend(suspension(10))
    kept.suspend(suspension(20))
    kept.suspend(suspension(5))
    clock.now += 20
    kept.expire()
    kept.expire()
    kept.suspend(suspension(60))
    kept.resume(KEY)
    assert ear.heard == [(KEY, True), (KEY, False), (KEY, True), (KEY, False)]


def test_a_listener_that_nobody_needs_any_more_is_forgotten() -> None:
    kept, ear = Suspensions(Clock()), Ear()
    kept.listeners[ear] = None
    assert len(kept.listeners) == 1
    del ear
    gc.collect()
    assert len(kept.listeners) == 0


def test_an_entry_that_falls_due_between_two_looks_at_the_clock_is_announced() -> None:
    """The cache drops due entries by itself whenever it looks at the time: none of them may go unheard."""
    ear, other = Ear(), Key(Scope.CREDENTIAL, "b")
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return NOW + looks  # every look finds a later time

    kept = Suspensions(clock)
    kept.listeners[ear] = None
    for lasting in [2, 3, 4, 5, 6] * 4:
        kept.suspend(suspension(looks + lasting))
        kept.suspend(suspension(looks + lasting, key=other))
        len(kept), list(kept), kept.resume(other)
        kept.suspend(suspension(looks + lasting, key=other))
    looks += 60
    kept.expire()
    assert ear.heard.count((KEY, True)) > 1
    for key in (KEY, other):
        heard = [suspended for each, suspended in ear.heard if each == key]
        assert heard == [True, False] * (len(heard) // 2)


def test_at_the_limit_nothing_live_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trap of the cache: a finite size evicts a live suspension. Here the new one finds no room instead."""
    monkeypatch.setattr(module, "LIMIT", 2)
    clock = Clock()
    kept = Suspensions(clock)
    keys = [Key(Scope.CREDENTIAL, name) for name in "abc"]
    for key in keys[:2]:
        kept.suspend(suspension(10, key=key))
    assert kept.suspend(suspension(20, key=keys[2])) is None
    assert {each.key for each in kept} == set(keys[:2])
    assert kept.suspend(suspension(30, key=keys[0])) is not None  # one that is there may still grow
    clock.now += 10
    assert kept.suspend(suspension(20, key=keys[2])) is not None


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30))
def test_the_latest_end_holds_whatever_the_order(all_seconds: list[float]) -> None:
    """F15: the property behind it."""
    kept = Suspensions(Clock())
    for seconds in all_seconds:
        kept.suspend(suspension(seconds))
    held = kept.get(KEY)
    assert held is not None
    assert held.until == NOW + max(all_seconds)


def test_a_suspension_without_end_is_possible() -> None:
    """One set by hand lasts until it is resumed by hand."""
    stage = Stage()
    stage.suspend(A, math.inf)
    stage.clock.now += 1e9
    assert stage.suspensions.resume(KEY) is not None


def test_what_is_made_due_is_half_open_and_not_free() -> None:
    """O04: it can be picked, one probe at a time, and a success clears it."""
    clock, ear = Clock(), Ear()
    kept = Suspensions(clock)
    kept.listeners[ear] = None
    assert kept.make_due(KEY) is None
    kept.suspend(suspension(600, label=Label.OVERLOADED))
    clock.now += 10
    due = kept.make_due(KEY)
    assert due is not None and due.until == clock.now
    assert (kept.get(KEY), kept.half_open(KEY)) == (None, due)
    assert ear.heard == [(KEY, True), (KEY, False)]
    assert kept.make_due(KEY) is None
    first, second = kept.ticket(), kept.ticket()
    kept.begin_probe(A, first)
    assert kept.is_probed(KEY, second)
    kept.end_probe(first)
    kept.prove(A, second)
    assert kept.half_open(KEY) is None


def test_a_probe_that_is_refused_suspends_anew_after_being_made_due() -> None:
    """Law 3: what was made due is not remembered as longer than it is."""
    clock = Clock()
    kept = Suspensions(clock)
    kept.suspend(suspension(600))
    kept.make_due(KEY)
    again = kept.suspend(suspension(5, since=clock.now))
    assert again is not None and again.until == NOW + 5
    assert kept.half_open(KEY) is None


def test_what_is_confirmed_is_the_same_but_for_its_order() -> None:
    """Every field is carried over, those to come included."""
    full = Suspension(KEY, NOW, NOW + 9, Label.OVERLOADED, "rule", "evidence", "hint", "a m1", 3, 2, 1, 4)
    assert all(getattr(full, each.name) for each in fields(full))
    assert full.confirmed(7) == full
    assert full.confirmed(7) == replace(full, order=7)
    assert full.confirmed(7).order == 7
    assert full.lasting(8.0) == replace(full, until=8.0)
    assert full.lasting(8.0).order == full.order


# -- what is half-open, and who may send its probe -----------------------------------------------------------------


def test_a_suspension_with_the_same_end_keeps_the_evidence_of_the_first() -> None:
    """F15: it has confirmed it, and says nothing better."""
    kept = Suspensions(Clock())
    kept.suspend(suspension(60, label=Label.QUOTA_EXHAUSTED))
    held = kept.suspend(suspension(60, label=Label.OVERLOADED))
    assert held is not None and held.label is Label.QUOTA_EXHAUSTED


def test_f14_a_probe_that_was_under_way_is_nobodys_once_the_key_is_out_again() -> None:
    """F14: what is due the next time has its own probe."""
    clock = Clock()
    kept = Suspensions(clock)
    kept.suspend(suspension(10))
    clock.now += 10
    kept.expire()
    kept.begin_probe(A, kept.ticket())
    kept.suspend(suspension(20))
    assert not kept.is_probed(KEY)
    clock.now += 10
    kept.expire()
    assert not kept.is_blocked(KEY)
    second = kept.ticket()
    kept.begin_probe(A, second)
    assert kept.is_probed(KEY) and not kept.is_probed(KEY, second)


def test_what_is_held_against_a_key_is_known_in_each_of_its_states() -> None:
    """Suspended, half-open, being probed, and free again."""
    clock = Clock()
    kept = Suspensions(clock)

    def state() -> tuple[bool, bool, list[Key]]:
        return kept.is_held(KEY), kept.is_blocked(KEY), kept.known()

    assert state() == (False, False, [])
    kept.suspend(suspension(10))
    assert state() == (True, True, [KEY])
    clock.now += 10
    assert kept.known() == [KEY]
    assert state() == (True, False, [KEY])
    ticket = kept.ticket()
    kept.begin_probe(A, ticket)
    assert state() == (True, True, [KEY])
    kept.prove(A, ticket)
    assert state() == (False, False, [])


def test_law_4_a_success_lifts_the_suspension_of_its_candidate_only() -> None:
    """Law 4: its credential and its upstream stay out for as long as was said, and one that is due is proven."""
    clock = Clock()
    kept = Suspensions(clock)
    account, host = key_of(A, Scope.CREDENTIAL), key_of(A, Scope.UPSTREAM)
    kept.suspend(suspension(600))
    kept.suspend(suspension(600, key=account))
    kept.suspend(suspension(10, key=host))
    clock.now += 10
    lifted = kept.prove(A, kept.ticket())
    assert lifted is not None and lifted.key == KEY
    assert kept.known() == [account]
    assert kept.prove(A, kept.ticket()) is None


class Others:
    """The other processes, as far as this one talks to them."""

    def __init__(self, *, grants: bool = True) -> None:
        self.grants = grants
        self.told: list[tuple[str, object]] = []

    def suspended(self, suspension: Suspension) -> None:
        self.told.append(("suspended", suspension))

    def cleared(self, key: Key) -> None:
        self.told.append(("cleared", key))

    def all_cleared(self) -> None:
        self.told.append(("all cleared", None))

    def grant(self, key: Key) -> bool:
        self.told.append(("grant", key))
        return self.grants

    def wants(self, key: Key) -> None:
        self.told.append(("wants", key))


def shared(*, grants: bool = True) -> tuple[Suspensions, Clock, Others, Ear]:
    """Suspensions that other processes hear of, and a listener here."""
    clock, others, ear = Clock(), Others(grants=grants), Ear()
    kept = Suspensions(clock)
    kept.peers = others
    kept.listeners[ear] = None
    return kept, clock, others, ear


DRILLED = KEY._replace(drill=True)


def test_m01_the_others_hear_what_is_suspended_and_not_what_is_not() -> None:
    """M01: also that a running one was confirmed; what is due already, and what a drill makes up, is nobody's."""
    kept, _, others, _ = shared()
    first = kept.suspend(suspension(600))
    confirmed = kept.suspend(suspension(5))
    kept.suspend(suspension(0, key=Key(Scope.CREDENTIAL, "b")))
    kept.suspend(suspension(600, key=DRILLED))
    assert others.told == [("suspended", first), ("suspended", confirmed)]


def test_m02_the_others_hear_what_a_success_or_a_hand_has_cleared() -> None:
    """M02: each key by itself; a hand that clears everything says so once."""
    kept, clock, others, _ = shared()
    kept.suspend(suspension(10))
    kept.suspend(suspension(20, key=key_of(A, Scope.CREDENTIAL)))
    clock.now += 20
    kept.prove(A, kept.ticket())
    assert others.told[-2:] == [("cleared", KEY), ("cleared", key_of(A, Scope.CREDENTIAL))]
    kept.suspend(suspension(600))
    kept.resume(KEY)
    assert others.told[-1] == ("cleared", KEY)
    before = len(others.told)
    assert kept.resume(KEY) is None
    assert len(others.told) == before
    kept.suspend(suspension(600))
    kept.suspend(suspension(600, key=key_of(A, Scope.CREDENTIAL)))
    del others.told[:]
    kept.resume_all()
    assert others.told == [("all cleared", None)]
    assert kept.known() == []
    assert kept.peers is others


def test_m03_a_probe_that_is_another_processs_to_send_keeps_the_key_blocked_until_it_is_permitted() -> None:
    """M03: no listener hears in between that the key is free."""
    kept, clock, others, ear = shared(grants=False)
    kept.suspend(suspension(10))
    clock.now += 10
    kept.expire()
    assert others.told[-1] == ("grant", KEY)
    assert kept.half_open(KEY) is not None
    assert kept.is_blocked(KEY) and kept.is_probed(KEY) and kept.is_probed(KEY, kept.ticket())
    assert ear.heard == [(KEY, True)]
    kept.permit(KEY)
    assert not kept.is_blocked(KEY) and not kept.is_probed(KEY)
    assert ear.heard == [(KEY, True), (KEY, False)]
    kept.permit(KEY)
    assert ear.heard == [(KEY, True), (KEY, False)]


def test_m03_a_probe_that_the_others_grant_is_sent_at_once() -> None:
    """M03: and of what a drill has suspended nobody else is asked."""
    kept, clock, others, ear = shared()
    kept.suspend(suspension(10))
    clock.now += 10
    kept.expire()
    assert not kept.is_blocked(KEY) and not kept.withheld
    assert ear.heard == [(KEY, True), (KEY, False)]
    alone, clock, others, _ = shared(grants=False)
    alone.suspend(suspension(10, key=DRILLED))
    clock.now += 10
    alone.expire()
    assert others.told == []
    assert not alone.is_blocked(DRILLED)


def test_m03_only_what_a_request_could_probe_is_asked_for() -> None:
    """M03: of what is withheld; nothing else is worth a message."""
    kept, clock, others, _ = shared(grants=False)
    other = Key(Scope.CREDENTIAL, "b")
    for key in (KEY, other):
        kept.suspend(suspension(10, key=key))
    clock.now += 10
    kept.expire()
    del others.told[:]
    kept.want({KEY, Key(Scope.CREDENTIAL, "c")})
    assert others.told == [("wants", KEY)]
    kept.permit(KEY)
    kept.want({KEY})
    assert others.told == [("wants", KEY)]
    kept.peers = None
    kept.want({other})  # alone there is nobody to ask


def test_m03_a_probe_that_is_no_longer_ours_is_withheld_unless_it_is_under_way() -> None:
    """M03: and what is not half-open is nobody's to withhold."""
    kept, clock, _, _ = shared()
    kept.withhold(KEY)
    assert not kept.withheld and not kept.is_blocked(KEY)
    kept.suspend(suspension(10))
    kept.withhold(KEY)
    assert not kept.withheld
    clock.now += 10
    kept.expire()
    probe = kept.ticket()
    kept.begin_probe(A, probe)
    kept.withhold(KEY)
    assert not kept.withheld
    kept.end_probe(probe)
    assert not kept.is_blocked(KEY)
    kept.withhold(KEY)
    assert kept.withheld == {KEY} and kept.is_blocked(KEY)


def test_m03_a_key_is_free_when_its_probe_has_ended_and_it_is_permitted() -> None:
    """M03: a call that could not wait probes what is withheld: neither alone frees it."""
    for order in ("permitted first", "ended first"):
        kept, clock, _, ear = shared(grants=False)
        kept.suspend(suspension(10))
        clock.now += 10
        kept.expire()
        probe = kept.ticket()
        kept.begin_probe(A, probe)
        first, second = (kept.permit, kept.end_probe) if order == "permitted first" else (kept.end_probe, kept.permit)
        first(KEY if first == kept.permit else probe)  # type: ignore[arg-type]
        assert kept.is_blocked(KEY), order
        second(KEY if second == kept.permit else probe)  # type: ignore[arg-type]
        assert not kept.is_blocked(KEY), order
        assert ear.heard == [(KEY, True), (KEY, False)]


@pytest.mark.parametrize("what", ["suspend", "resume", "prove", "renew"])
def test_m03_what_is_suspended_anew_or_cleared_is_withheld_no_more(what: str) -> None:
    kept, clock, _, _ = shared(grants=False)
    kept.suspend(suspension(10))
    clock.now += 10
    kept.expire()
    assert kept.withheld == {KEY}
    match what:
        case "suspend":
            kept.suspend(suspension(60))
        case "resume":
            kept.resume(KEY)
        case "prove":
            kept.prove(A, kept.ticket())
        case "renew":
            kept.renew("a")
    assert not kept.withheld
    assert kept.is_blocked(KEY) is (what == "suspend")


def test_m01_what_has_expired_elsewhere_is_half_open_here() -> None:
    """M01: unless more is known of it here; a success that began before says nothing about it."""
    kept, _, _, ear = shared()
    before = kept.ticket()
    kept.recall(suspension(-5))
    assert kept.half_open(KEY) is not None
    assert not kept.is_blocked(KEY) and ear.heard == []
    kept.prove(A, before)
    assert kept.half_open(KEY) is not None
    kept.recall(suspension(-1, label=Label.OVERLOADED))
    due = kept.half_open(KEY)
    assert due is not None and due.label is Label.RATE_LIMITED
    kept.prove(A, kept.ticket())
    kept.suspend(suspension(60))
    kept.recall(suspension(-1))
    assert kept.half_open(KEY) is None
    withheld, _, _, heard = shared(grants=False)
    withheld.recall(suspension(-5))
    assert withheld.withheld == {KEY} and heard.heard == [(KEY, True)]


# -- connections that break, early probes, drills --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "now", "counts"),
    [(0.0, 0.0, True), (0.0, 10.0, True), (0.0, 10.5, False), (-0.5, 1.0, False), (0.5, 1.0, True), (0.0, -1.0, False)],
)
def test_a08_a_connection_that_breaks_counts_after_another_that_broke_before_it_began(
    begun: float, now: float, counts: bool
) -> None:
    """A08: within ten seconds, and not while the clock says that it was earlier."""
    kept = Suspensions(Clock())
    assert kept.closed("up", "a", NOW - 5, NOW) == ""
    assert kept.closed("other", "c", NOW, NOW) == ""
    assert kept.closed("up", "b", NOW + begun, NOW + now) == ("a" if counts else "")
    assert kept.closed("up", "c", NOW + 20, NOW + now + 1) == "b"
    kept.has_served("up")
    assert kept.closed("up", "a", NOW + 20, NOW + now + 1) == ""


def test_f17_an_early_probe_comes_twice_in_a_minute_for_each_candidate() -> None:
    """F17: 30 s after the last one, whichever way the clock went; another candidate has its own."""
    clock = Clock()
    kept = Suspensions(clock)
    other = Key(Scope.CANDIDATE, "b", "m1")
    assert kept.begin_early_probe(KEY)
    clock.now += 29.9
    assert not kept.begin_early_probe(KEY)
    assert kept.begin_early_probe(other)
    clock.now += 0.1
    assert kept.begin_early_probe(KEY)
    clock.now -= 60
    assert kept.begin_early_probe(KEY)
    kept.suspend(suspension(60))
    kept.resume(KEY)
    assert kept.begin_early_probe(KEY), "a hand begins anew"


def test_what_a_hand_made_due_is_told_until_its_old_end() -> None:
    """O04: until when a failed probe suspends it again; nothing, once that is over or it was suspended again."""
    clock = Clock()
    kept = Suspensions(clock)
    assert kept.asked_early(KEY) is None
    kept.suspend(suspension(600))
    kept.make_due(KEY)
    assert kept.asked_early(KEY) == NOW + 600
    clock.now += 600
    assert kept.asked_early(KEY) is None
    clock.now -= 600
    kept.suspend(suspension(5))
    assert kept.asked_early(KEY) is None


def test_o04_what_was_cleared_after_a_hand_had_made_it_due_does_not_come_back() -> None:
    """O04: a failure of an attempt that began after that is a first one."""
    kept = Suspensions(Clock())
    kept.suspend(suspension(600))
    kept.make_due(KEY)
    kept.prove(A, kept.ticket())
    assert kept.asked_early(KEY) is None
    kept.end_early(A, kept.ticket())
    assert kept.get(KEY) is None


@pytest.mark.parametrize("cleared", [False, True])
def test_o04_a_failure_brings_back_what_a_hand_had_made_due_before_it_began(cleared: bool) -> None:
    """O04: an attempt that had begun before the hand says nothing, nor does one from before a success."""
    kept = Suspensions(Clock())
    kept.suspend(suspension(600))
    before = kept.ticket()
    kept.make_due(KEY)
    kept.end_early(A, before)
    assert kept.get(KEY) is None
    after = kept.ticket()
    if cleared:
        kept.resume(KEY)
    kept.end_early(candidate("b"), after)
    assert kept.get(KEY) is None
    kept.end_early(A, after)
    assert (kept.get(KEY) == suspension(600)) is not cleared


def test_h12_what_a_drill_brings_about_is_its_own_and_ends_with_it() -> None:
    """H12: under keys of its own; what was under way before or after it counts for nothing."""
    kept = Suspensions(Clock())
    early = kept.ticket()
    kept.begin_drill()
    during = kept.ticket()
    assert [kept.is_stale(A, DRILLED, ticket) for ticket in (early, during)] == [True, False]
    assert [kept.is_stale(A, KEY, ticket) for ticket in (early, during)] == [False, False]
    kept.suspend(suspension(600))
    kept.suspend(suspension(600, key=DRILLED))
    kept.prove(A, kept.ticket())
    assert kept.known() == [DRILLED]
    kept.suspend(suspension(600))
    kept.prove(A, kept.ticket(), drill=True)
    assert kept.known() == [KEY]
    kept.suspend(suspension(600, key=DRILLED))
    kept.end_drill()
    assert kept.known() == [KEY]
    assert kept.is_stale(A, DRILLED, during) and kept.is_stale(A, DRILLED, kept.ticket())
    assert not kept.is_stale(A, KEY, kept.ticket())


def test_h12_a_made_up_reply_probes_only_what_the_drill_has_suspended() -> None:
    """H12: and a real one nothing of the drill's."""
    clock = Clock()
    kept = Suspensions(clock)
    for key in (KEY, DRILLED):
        kept.suspend(suspension(10, key=key))
    clock.now += 10
    kept.expire()
    kept.begin_probe(A, kept.ticket(), drill=True)
    assert [kept.is_probed(key) for key in (KEY, DRILLED)] == [False, True]
    kept.begin_probe(A, kept.ticket())
    assert [kept.is_probed(key) for key in (KEY, DRILLED)] == [True, True]


# -- doubt -----------------------------------------------------------------------------------------------------------


def doubted(*keys: Key, seconds: float = 30.0, label: Label = Label.QUOTA_EXHAUSTED) -> tuple[Suspensions, Clock]:
    """Everybody has refused one request alike."""
    clock = Clock()
    kept = Suspensions(clock)
    imposed = [kept.suspend(suspension(seconds, key=key, label=label)) for key in keys]
    kept.put_in_doubt(each for each in imposed if each is not None)
    return kept, clock


B = candidate("b")
KEY_B = key_of(B, Scope.CANDIDATE)


def test_j04_a_success_at_one_frees_all_that_were_in_the_same_doubt() -> None:
    """J04: it was that request. The state file and the listeners hear of it."""
    certain = Suspensions(Clock())
    certain.suspend(suspension(30))
    assert not certain.has_doubts and not certain.is_in_doubt([KEY])
    kept, _ = doubted(KEY, KEY_B)
    ear = Ear()
    kept.listeners[ear] = None
    assert kept.has_doubts and kept.is_in_doubt([KEY]) and kept.is_in_doubt([KEY_B]) and len(kept) == 2
    assert not kept.is_in_doubt([Key(Scope.CREDENTIAL, "a")])
    kept.prove(A, kept.ticket())
    assert kept.known() == [] and not kept.has_doubts
    assert set(ear.heard) == {(KEY, False), (KEY_B, False)}


def test_j04_a_success_from_before_the_doubt_and_one_elsewhere_free_nothing() -> None:
    """J04: each doubt is about its own candidates, and about what began after it."""
    clock = Clock()
    kept = Suspensions(clock)
    imposed = [kept.suspend(suspension(30, key=key)) for key in (KEY, KEY_B)]
    before = kept.ticket()
    kept.put_in_doubt(each for each in imposed if each is not None)
    kept.prove(A, before)
    assert set(kept.known()) == {KEY_B}, "its own is proven all the same"
    third = candidate("c")
    kept.suspend(suspension(30, key=key_of(third, Scope.CANDIDATE)))
    kept.prove(third, kept.ticket())
    assert set(kept.known()) == {KEY_B}


def test_j04_what_was_confirmed_since_or_is_a_hands_is_in_no_doubt() -> None:
    """J04: nor is what is not suspended any more; the version changes only if something is put in doubt."""
    kept = Suspensions(Clock())
    refused = kept.suspend(suspension(30))
    by_hand = kept.suspend(replace(suspension(30, key=KEY_B), rule=BY_HAND))
    gone = kept.suspend(suspension(30, key=Key(Scope.CREDENTIAL, "c")))
    assert refused is not None and by_hand is not None and gone is not None
    kept.resume(gone.key)
    confirmed = kept.suspend(suspension(10))
    assert confirmed is not None
    version = kept.version
    kept.put_in_doubt([refused, by_hand, gone])
    assert not kept.has_doubts and kept.version == version
    kept.put_in_doubt([confirmed, by_hand])
    assert kept.has_doubts and kept.version > version
    assert kept.is_in_doubt([KEY]) and not kept.is_in_doubt([KEY_B])
    assert not kept.is_in_doubt([KEY, KEY_B]), "something else keeps it out as well"


def test_j04_what_is_in_doubt_is_free_when_it_is_due_unless_it_is_worth_a_probe() -> None:
    """J04: a limit, an overload and a refused model are half-open; a quota or a rejected login was the request's."""
    for label in Label:
        kept, clock = doubted(KEY, label=label)
        clock.now += 30
        assert kept.known() == ([KEY] if label in PROBED else []), label
        assert not kept.is_blocked(KEY)


def test_j04_a_doubt_is_over_while_a_probe_finds_out() -> None:
    """J04: another request is there already, so this one goes elsewhere."""
    account = key_of(A, Scope.CREDENTIAL)
    kept, clock = doubted(KEY)
    kept.suspend(suspension(10, key=account))
    clock.now += 10
    kept.expire()
    assert kept.is_in_doubt([KEY, account])
    kept.begin_probe(A, kept.ticket())
    assert not kept.is_in_doubt([KEY, account])


def test_j04_a_doubt_that_has_passed_is_forgotten_with_the_next_success() -> None:
    kept, clock = doubted(KEY)
    clock.now += 30
    kept.suspend(suspension(60, key=KEY_B))
    kept.prove(B, kept.ticket())
    assert not kept.has_doubts


def test_j04_the_others_do_not_hold_against_a_key_what_is_in_doubt_here() -> None:
    """J04: nor do they hear of a drill's."""
    kept, _, others, _ = shared()
    imposed = [kept.suspend(suspension(30, key=key)) for key in (KEY, DRILLED)]
    del others.told[:]
    kept.put_in_doubt(each for each in imposed if each is not None)
    assert others.told == [("cleared", KEY)]
    assert kept.is_in_doubt([DRILLED])


def test_j04_what_comes_back_with_a_doubt_made_due_comes_back_without_it() -> None:
    """J04, O04: it has failed twice then."""
    kept, _ = doubted(KEY)
    kept.make_due(KEY)
    kept.end_early(A, kept.ticket())
    held = kept.get(KEY)
    assert held is not None and not held.doubt


# -- what is forgotten -------------------------------------------------------------------------------------------------


def test_f16_another_secret_voids_what_was_said_of_its_credential_only() -> None:
    """F16: candidates and credential, suspended or half-open; the upstream, and what others have, stays."""
    clock = Clock()
    kept = Suspensions(clock)
    keys = [KEY, key_of(A, Scope.CREDENTIAL), key_of(A, Scope.UPSTREAM), KEY_B, Key(Scope.UPSTREAM, "a")]
    for key in keys:
        kept.suspend(suspension(10 if key == KEY else 60, key=key))
    clock.now += 10
    kept.expire()
    before = kept.ticket()
    kept.renew("a")
    assert set(kept.known()) == {*keys[2:]}
    assert kept.is_stale(A, keys[2], before) and not kept.is_stale(B, KEY_B, before)
    assert not kept.is_stale(A, KEY, kept.ticket())
    assert kept.generations == {"a": 1}


def test_o03_a_ladder_alone_is_forgotten_with_its_key() -> None:
    """O03: a candidate that comes back later begins with the first step."""
    kept = Suspensions(Clock())
    kept.ladders.climb(KEY, Label.OVERLOADED, Rung(3, 1, NOW))
    kept.ladders.climb(KEY_B, Label.OVERLOADED, Rung(3, 1, NOW))
    kept.retain(lambda key: key == KEY_B)
    assert KEY not in kept.ladders and KEY_B in kept.ladders


def test_everything_that_a_tool_can_name_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: the oldest entry goes first, whatever it is about."""
    monkeypatch.setattr(module, "LIMIT", 2)
    clock = Clock()
    kept = Suspensions(clock)
    who = [candidate(name) for name in "abc"]
    keys = [key_of(each, Scope.CANDIDATE) for each in who]
    for key in keys:
        kept.suspend(suspension(clock.now - NOW + 10, key=key))
        clock.now += 10
        kept.expire()
    assert set(kept.known()) == {*keys[1:]}, "half-open"

    kept = Suspensions(clock)
    for key in keys:
        kept.suspend(suspension(clock.now - NOW + 60, key=key))
        kept.make_due(key)
    assert set(kept.known()) == {*keys[1:]}, "half-open"
    assert [kept.asked_early(key) is None for key in keys] == [True, False, False]

    kept = Suspensions(clock)
    ticket = kept.ticket()
    for at in (0, 1, 0, 2):
        kept.suspend(suspension(clock.now - NOW + 60, key=keys[at]))
        kept.resume(keys[at])
    assert [kept.is_stale(each, key, ticket) for each, key in zip(who, keys, strict=True)] == [True, False, True]

    for at, seconds in ((0, 20), (1, 11), (0, 1), (2, 1)):
        assert kept.begin_early_probe(keys[at])
        clock.now += seconds
    assert [kept.begin_early_probe(keys[at]) for at in (0, 1)] == [False, True]

    for name in "abc":
        kept.closed(name, "x", clock.now, clock.now)
    assert [kept.closed(name, "y", clock.now, clock.now) for name in "cba"] == ["x", "x", ""]


def test_j04_doubts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: what was in doubt longest ago is just suspended from then on."""
    clock = Clock()
    kept = Suspensions(clock)
    pairs = [(candidate(name), Key(Scope.CANDIDATE, name, "m2")) for name in "abc"]
    for who, beside in pairs:
        imposed = [kept.suspend(suspension(60, key=key)) for key in (key_of(who, Scope.CANDIDATE), beside)]
        monkeypatch.setattr(module, "LIMIT", 2)
        kept.put_in_doubt(each for each in imposed if each is not None)
        monkeypatch.undo()
    for who, _ in pairs:
        kept.prove(who, kept.ticket())
    assert kept.known() == [pairs[0][1]]


OPERATIONS: dict[str, Callable[[Suspensions], object]] = {
    "prove": lambda kept: kept.prove(A, kept.ticket()),
    "resume": lambda kept: kept.resume(KEY),
    "resume all": lambda kept: kept.resume_all(),
    "renew": lambda kept: kept.renew("a"),
    "retain": lambda kept: kept.retain(lambda key: key.drill),
    "suspend": lambda kept: kept.suspend(suspension(100)),
    "suspend another": lambda kept: kept.suspend(suspension(100, key=KEY_B)),
    "recall": lambda kept: kept.recall(suspension(-1, label=Label.OVERLOADED)),
    "make due": lambda kept: kept.make_due(KEY),
    "put in doubt": lambda kept: kept.put_in_doubt([suspension(100)]),
    "end a drill": lambda kept: kept.end_drill(),
    "count": len,
    "list": lambda kept: [*iter(kept)],
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_due_is_half_open_for_whoever_comes_first(operation: str) -> None:
    """F14: whatever is done next, it makes no difference whether anybody has looked at the clock before."""

    def after(looked: bool) -> tuple[object, ...]:
        kept, clock, others, ear = shared()
        kept.suspend(suspension(10))
        clock.now += 10
        if looked:
            kept.expire()
        result = OPERATIONS[operation](kept)
        told = [each for each in others.told if each[0] != "grant"]
        return result, kept.half_open(KEY), kept.is_blocked(KEY), [*ear.heard], told, kept.known()

    assert after(looked=False) == after(looked=True)


def test_j04_what_fails_again_is_in_doubt_no_more_and_what_is_handed_over_stays_in_it() -> None:
    """J04: a shorter failure keeps the end, not the doubt; a copy of the suspensions has the same doubts."""
    kept, clock = doubted(KEY)
    held = kept.get(KEY)
    assert held is not None and held.doubt
    copied = Suspensions(clock).suspend(held)
    assert copied is not None and copied.doubt == held.doubt
    again = kept.suspend(suspension(5))
    assert again is not None and (again.until, again.doubt) == (NOW + 30, 0)
    assert not kept.is_in_doubt([KEY])


@pytest.mark.parametrize("rejected_only", [False, True])
def test_q01_what_is_left_of_limits_is_the_accounts(rejected_only: bool) -> None:
    """F16: another token of the same account has the same limits, another account has its own."""
    kept = Suspensions(Clock())
    for who in (A, B):
        kept.limits.hear(who, [("x-ratelimit-limit-tokens", "1000"), ("x-ratelimit-remaining-tokens", "5")], 0.0)
    kept.renew("a", rejected_only=rejected_only)
    assert bool(kept.limits.of(A)) is rejected_only
    assert kept.limits.of(B)


@pytest.mark.parametrize("what", ["suspended", "half-open", "made due", "withheld", "being probed"])
def test_j04_what_is_freed_of_a_doubt_is_free_whatever_had_become_of_it(what: str) -> None:
    """J04: nothing of it is left behind."""
    kept, clock = doubted(KEY, KEY_B, label=Label.RATE_LIMITED)
    ear = Ear()
    kept.listeners[ear] = None
    if what == "made due":
        kept.make_due(KEY)
    elif what != "suspended":
        kept.peers = Others(grants=what != "withheld")
        clock.now += 30
        kept.expire()
    if what == "being probed":
        kept.begin_probe(A, kept.ticket())
    kept.prove(B, kept.ticket())
    assert kept.known() == [] and not kept.withheld and not kept.is_probed(KEY)
    assert len(kept) == 0 and kept.get(KEY) is None and kept.half_open(KEY) is None
    assert kept.asked_early(KEY) is None
    assert [heard for heard in ear.heard if heard[0] == KEY][-1:] == [(KEY, False)]


@pytest.mark.parametrize("held", ["nothing", "a suspension", "half-open"])
def test_a_success_takes_down_the_ladder_whatever_is_held(held: str) -> None:
    """F14: the next failure is a first one; not where the attempt is older than what was learnt since."""
    clock = Clock()
    kept = Suspensions(clock)
    late = kept.ticket()
    kept.ladders.climb(KEY, Label.OVERLOADED, Rung(3, 1, NOW))
    if held != "nothing":
        kept.suspend(suspension(10))
        clock.now += 10 if held == "half-open" else 0
        kept.prove(A, late)
        assert KEY in kept.ladders
    kept.prove(A, kept.ticket())
    assert KEY not in kept.ladders


@pytest.mark.parametrize("what", ["resumed", "renewed", "not wanted"])
def test_f14_what_was_cleared_while_it_was_probed_is_probed_by_nobody(what: str) -> None:
    """F14: and when it is out and due again, the next attempt finds out."""
    clock = Clock()
    kept = Suspensions(clock)
    for seconds in (10, 20):
        kept.suspend(suspension(seconds))
        clock.now += 10
        kept.expire()
        ticket = kept.ticket()
        kept.begin_probe(A, ticket)
        assert kept.is_probed(KEY) and not kept.is_probed(KEY, ticket)
        match what:
            case "resumed":
                kept.resume(KEY)
            case "renewed":
                kept.renew("a")
            case "not wanted":
                kept.retain(lambda key: False)
        assert not kept.is_probed(KEY) and not kept.is_held(KEY)
