"""A candidate whose secret is missing is skipped without cost, and our own answer says what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import NOW, OTHER, Stage, candidate, reply, route
from understudy.failover import Attempt, Refuse
from understudy.failover.generations import Identities
from understudy.failover.steps import Release
from understudy.model import Candidate, Choice, Label, Pool, Route, Scope, Strategy, Suspension, key_of

WHY = "the environment variable 'HOME_KEY' is not set"
A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)


def without(member: Candidate, why: str = WHY) -> Candidate:
    """The same candidate without its secret."""
    return replace(member, credential=replace(member.credential, missing=why))


@pytest.mark.parametrize("strategy", Strategy)
def test_it_is_never_picked(strategy: Strategy) -> None:
    """Law 5: skipped without cost, and no strategy gives it a turn."""
    lineup = Stage().lineup(route(without(A), B, C, strategy=strategy))
    assert A not in {lineup.pick() for _ in range(20)}
    assert lineup.members_of(lineup.available()) == [B, C]
    assert lineup.pick(0b110) is None


def test_it_costs_no_attempt() -> None:
    """Law 5: the next candidate is the first attempt."""
    stage = Stage()
    step = stage.exchange(route(without(A), B)).begin(stage.now)
    assert isinstance(step, Attempt)
    assert (step.number, step.candidate) == (1, B)


def test_the_one_that_is_left_is_a_single_candidate() -> None:
    """Law 6: it is always sent, as its suspension is only shown, and its own error passes through."""
    stage = Stage()
    stage.suspend(B, 600)
    exchange = stage.exchange(route(without(A), B))
    step = exchange.begin(stage.now)
    assert isinstance(step, Attempt)
    assert step.candidate == B
    released = exchange.judge(reply(Label.QUOTA_EXHAUSTED), stage.now)
    assert isinstance(released, Release)
    assert not released.final


@pytest.mark.parametrize("members", [(without(A),), (without(A), without(C, "the secret file 'x' is empty"))])
def test_a_route_without_a_usable_candidate_says_what_is_missing(members: tuple[Candidate, ...]) -> None:
    """The answer names the variable; its status is the one that tools give up on, as no retry helps."""
    stage = Stage()
    step = stage.exchange(route(*members)).begin(stage.now)
    assert isinstance(step, Refuse)
    assert (step.status, step.retry_after) == (400, None)
    assert f"- a m1: out of use, because {WHY}" in step.message.splitlines()
    assert list(stage.suspensions) == []


def test_a_retry_waits_for_those_that_can_come_back() -> None:
    """W03: what is out of use promises no return."""
    stage = Stage()
    for each in (B, C):
        stage.suspend(each, 40)
    step = stage.exchange(route(without(A), B, C)).begin(stage.now)
    assert isinstance(step, Refuse)
    assert (step.status, step.retry_after) == (503, 40)


@pytest.mark.parametrize("before", [True, False], ids=["loaded before", "since the start"])
def test_o03_what_was_learnt_holds_when_the_secret_is_back(before: bool) -> None:
    """O03: suspensions survive reloads without the secret, also those that a state file brought."""
    suspensions = Stage().suspensions
    identities = Identities(suspensions)

    def use(member: Candidate) -> None:
        credential = member.credential
        found = {"gpt-5": Route("gpt-5", (Choice(credential, member.model),))}
        identities.use(Pool({credential.upstream.name: credential.upstream}, {credential.name: credential}, found))

    if before:
        use(A)
    suspensions.suspend(Suspension(key_of(A, Scope.CREDENTIAL), NOW, NOW + 60, Label.QUOTA_EXHAUSTED, "test"))
    use(without(A))
    assert identities.look() == []
    use(A)
    assert [each.key for each in suspensions] == [key_of(A, Scope.CREDENTIAL)]
    assert identities.look() == []
