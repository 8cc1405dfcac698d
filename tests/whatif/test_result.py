"""The notes of an exchange that is played: who is out of rotation, and why, in words."""

from __future__ import annotations

import pytest

from tests.support.decisions import NOW, Stage, candidate
from understudy.model.suspension import Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.whatif.result import why_suspended

WORK = candidate("work")


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        (Scope.CANDIDATE, "rate_limited by test/rule, suspended for another 9s: HTTP 429"),
        (Scope.CREDENTIAL, "rate_limited by test/rule, its credential suspended for another 9s: HTTP 429"),
        (Scope.UPSTREAM, "rate_limited by test/rule, its upstream suspended for another 9s: HTTP 429"),
    ],
)
def test_a_suspension_says_what_is_out_and_for_how_long_yet(scope: Scope, told: str) -> None:
    stage = Stage()
    found = Suspension(key_of(WORK, scope), NOW, NOW + 10, Label.RATE_LIMITED, "test/rule", "HTTP 429")
    stage.suspensions.suspend(found)
    assert why_suspended(found, NOW + 1) == told
