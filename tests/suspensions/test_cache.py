"""What is out of rotation, and for how long."""

from __future__ import annotations

import gc
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.decisions import NOW, OTHER, Clock, Stage, candidate
from understudy.model.suspension import Key, Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.suspensions import cache as module
from understudy.suspensions.cache import Suspensions

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
    kept.listeners.add(ear)
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
    kept.listeners.add(ear)
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
    kept.listeners.add(ear)
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
    kept.listeners.add(ear)
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
