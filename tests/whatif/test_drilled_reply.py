"""Recorded calls under a drill: the same question, asked of a file, and answered by the same code (H12)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mitmproxy import http

from tests.support.decisions import NOW, OTHER, candidate, route
from tests.support.saved_flows import (
    DONE,
    LIMITED,
    MISSING,
    STREAM,
    attempt,
    flow,
    noted,
    pool_of,
    recorder,
    rules,
    values,
)
from tests.whatif.test_runner import pool as pool
from tests.whatif.test_runner import replayed, saved
from understudy.cli import command_line
from understudy.drill.behaviour import read_behaviour
from understudy.model import Key, Label, Pool, Scope
from understudy.model.pool import Budget, HoldUntil
from understudy.whatif.ordering import Arrangement
from understudy.whatif.result import End, Played
from understudy.whatif.simulation import WhatIf

WORK, HOME = candidate("work"), candidate("home", at=OTHER)
POOL = pool_of(route(WORK, HOME))
TARGET = Key(Scope.CREDENTIAL, "work")
LIVE = flow(body=STREAM + DONE, streamed=True, facts=noted(("work", "ok"), streamed=True))
BOTH = [
    attempt(1, "work", "model_unsupported", 404, MISSING),
    flow(facts=noted(("work", "model_unsupported"), ("home", "ok"))),
]


def play(written: str, *flows: http.HTTPFlow, pool: Pool = POOL, target: Key = TARGET) -> tuple[list[Played], WhatIf]:
    whatif = WhatIf(pool, rules(), failing=(target, read_behaviour(written)))
    calls = Arrangement(recorder(pool)).calls(values(*flows))
    return list(whatif.play(whatif.witness(calls))), whatif


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("dead", Label.OVERLOADED),
        ("timeout", Label.OVERLOADED),
        ("429:60", Label.RATE_LIMITED),
        ("quota", Label.QUOTA_EXHAUSTED),
        ("model_unsupported", Label.MODEL_UNSUPPORTED),
        ("401", Label.CREDENTIAL_REJECTED),
    ],
)
def test_h12_what_the_next_one_said_is_known_or_open(written: str, label: Label) -> None:
    """H12: a recorded reply of the second rescues the call; of a call that the first had answered nobody can know."""
    played, whatif = play(written, *BOTH)
    assert [each.end for each in played] == [End.RESCUED]
    assert played[0].tried[0].outcome.verdict.label is label
    assert played[0].tried[0].outcome.attempt.drilled
    assert whatif.drill is not None
    summary = whatif.drill.summary()
    assert (summary.calls, summary.met, summary.rescued, summary.open) == (1, 1, 1, 0)
    played, whatif = play(written, flow(facts=noted(("work", "ok"))))
    assert [each.end for each in played] == [End.OPEN]
    assert played[0].asked is not None
    assert played[0].asked.candidate == HOME
    assert whatif.drill is not None
    assert (whatif.drill.summary().open, whatif.drill.summary().made_up) == (1, 1)


def test_h12_silence_lasts_as_long_as_its_limit() -> None:
    """H12, A05: a stream is asked of the next one after `hedge_after`; a plain call has no limit of its own."""
    streamed = flow(body=STREAM + DONE, streamed=True, facts=noted(("work", "ok"), ("home", "ok"), streamed=True))
    played, whatif = play("silent", streamed)
    assert [each.end for each in played] == [End.RESCUED]
    assert whatif.drill is not None
    assert whatif.drill.summary().added == (15.0, 15.0, 15.0)
    played, _ = play("silent", *BOTH)
    assert [each.end for each in played] == [End.REFUSED]


def test_h12_with_nobody_else_the_call_fails() -> None:
    """H12: with the reason that a live drill would give."""
    played, whatif = play("429:60", flow(), pool=pool_of(route(WORK)))
    assert [each.end for each in played] == [End.FAILED]
    assert whatif.drill is not None
    assert whatif.drill.summary().failed == {"the tool got HTTP 429: rate_limited": 1}


def test_h12_slow_is_late_or_lost() -> None:
    """H12: the recorded answer comes later; past `hedge_after` the other one has it."""
    whole = flow(facts=noted(("work", "ok")))
    played, whatif = play("slow:5", whole)
    assert [each.end for each in played] == [End.ANSWERED]
    assert whatif.drill is not None
    summary = whatif.drill.summary()
    assert (summary.late, summary.made_up) == (1, 0)
    assert summary.added is not None
    assert summary.added[0] == pytest.approx(5.0)
    played, _ = play("slow:20", LIVE)
    assert [each.end for each in played] == [End.OPEN]
    played, _ = play("slow:20", flow(facts=noted(("home", "ok"))))
    assert played[0].end is End.OPEN
    assert played[0].asked is not None
    assert played[0].asked.candidate == WORK


def test_h12_cut_before_and_after_the_release() -> None:
    """H12: a plain answer that breaks off leads to the next; a live stream breaks off at the tool."""
    played, _ = play("cut", flow(facts=noted(("work", "ok"))))
    assert [each.outcome.attempt.candidate for each in played[0].tried] == [WORK]
    assert played[0].end is End.OPEN
    played, whatif = play("cut", LIVE)
    assert whatif.drill is not None
    assert whatif.drill.summary().failed == {"the reply broke off after its release (overloaded)": 1}
    held = route(WORK, HOME)
    whole = type(held)(held.pattern, held.choices, hold=HoldUntil.COMPLETE, budget=Budget())
    played, _ = play("cut", LIVE, pool=pool_of(whole))
    assert played[0].tried[0].outcome.verdict.label is Label.OVERLOADED
    played, _ = play("cut", flow(429, LIMITED, facts=noted(("work", "rate_limited"))))
    assert played[0].tried[0].outcome.verdict.label is Label.RATE_LIMITED


def test_h12_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """H12: `understudy replay --drill WHAT=KIND FILE`, in the words of a live drill; as JSON with the same numbers."""
    file = saved(tmp_path, *replayed())
    assert command_line.main(["replay", "--drill", "credential work=quota", file]) == 0
    out = capsys.readouterr().out
    assert "work m1 (drill): quota_exhausted by" in out
    assert "drill: credential work: quota\n" in out
    assert "2 calls, 2 of them met the drill: rescued 2, failed 0" in out
    assert "What the next candidate would have said is known only" in out
    assert command_line.main(["replay", "--json", "--drill", "work/m1=dead", file]) == 0
    *calls, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert calls[0]["tried"][0]["drill"] is True
    assert last["summary"]["drill"]["name"] == "candidate work m1: dead"
    assert last["summary"]["drill"]["summary"]["calls"] == 2


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("dead", "names no way to fail"),
        ("upstream main=sad", "write one of dead"),
        ("upstream nowhere=dead", "there is no upstream `nowhere`"),
        ("upstream main 5m=dead", "is too much"),
        ("=dead", "a target is missing: write"),
    ],
)
def test_h12_what_cannot_be_drilled_is_said(
    written: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """H12: with what to write instead, and exit status 2."""
    assert command_line.main(["replay", "--drill", written, saved(tmp_path, flow(at=NOW))]) == 2
    assert expected in capsys.readouterr().err
