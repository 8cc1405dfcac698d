"""Our own answer: its status, its Retry-After and its lines."""

from __future__ import annotations

import pytest

from tests.support.decisions import OTHER, Stage, candidate, credential, fault, reply, route
from understudy.failover.affinity import Spent
from understudy.failover.pacing import Pacing
from understudy.failover.refusal import LISTED
from understudy.failover.steps import Attempt, Refuse, Release, Wait
from understudy.model.pool import Budget, Candidate, Choice, Route
from understudy.model.suspension import BY_HAND, Suspension, key_of
from understudy.model.verdict import Label, Scope, Then
from understudy.replies import FaultKind

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
IMPATIENT = Budget(wait=0)


def answered(stage: Stage, *members: Candidate, blocked: dict[str, str] | None = None) -> Refuse:
    """What the tool gets when nothing can be sent."""
    exchange = stage.exchange(route(*members, budget=IMPATIENT), blocked=blocked)
    step = exchange.begin(stage.now)
    assert isinstance(step, Refuse), step
    return step


@pytest.mark.parametrize(
    ("label", "status"),
    [(Label.RATE_LIMITED, 429), (Label.QUOTA_EXHAUSTED, 429), (Label.OVERLOADED, 503), (Label.MODEL_UNSUPPORTED, 503)],
)
def test_the_earliest_candidate_decides_the_status(label: Label, status: int) -> None:
    """W03: 429 if the earliest comes back from a limit, else 503; Retry-After is the earliest, rounded up."""
    stage = Stage()
    stage.suspend(A, 45)
    stage.suspend(B, 20.2, label=label)
    answer = answered(stage, A, B)
    assert (answer.status, answer.retry_after) == (status, 21)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(60, (429, 60)), (59.5, (429, 60)), (60.5, (400, None)), (0.2, (429, 1))]
)
def test_a_retry_that_cannot_help_in_a_minute_is_not_promised(seconds: float, expected: tuple[int, int | None]) -> None:
    """W09: 429 or 503 only when a retry within 60 s can help, else 400."""
    stage = Stage()
    stage.suspend(A, seconds, label=Label.RATE_LIMITED)
    stage.suspend(B, 3600)
    answer = answered(stage, A, B)
    assert (answer.status, answer.retry_after) == expected


def test_there_is_one_line_per_candidate_with_its_true_time() -> None:
    """W03: the body names each candidate, its reason and its true time, also beyond the Retry-After."""
    stage = Stage()
    stage.suspend(A, 20, label=Label.RATE_LIMITED)
    stage.suspend(B, 3900, scope=Scope.CREDENTIAL, label=Label.QUOTA_EXHAUSTED)
    answer = answered(stage, A, B, C, blocked={"other": "no verified TLS"})
    assert answer.message.splitlines() == [
        "understudy: no candidate of route gpt-5 can answer for gpt-5: try again in 20s",
        "- a m1: rate_limited by test/rate_limited, suspended for another 20s: because",
        "- b m1: quota_exhausted by test/quota_exhausted, suspended for another 1h5m: because",
        "- c m1: no verified TLS",
    ]


@pytest.mark.parametrize(
    ("label", "seconds", "mend"),
    [
        (Label.QUOTA_EXHAUSTED, 3900, "try again in 1h5m, or name a candidate of another account under this route"),
        (Label.CREDENTIAL_REJECTED, 1800, "every upstream rejects its secret: name other secrets in the pool file"),
        (Label.OVERLOADED, 9, "try again in 9s"),
    ],
)
def test_the_first_line_says_what_to_do(label: Label, seconds: float, mend: str) -> None:
    """A10: some tools show one line of an answer and no more."""
    stage = Stage()
    stage.suspend(A, seconds, label=label)
    stage.suspend(B, seconds + 60, label=label)
    first = answered(stage, A, B).message.splitlines()[0]
    assert first.startswith(f"understudy: no candidate of route gpt-5 can answer for gpt-5: {mend}")


def test_what_no_time_cures_is_to_be_changed_in_the_pool_file() -> None:
    """A10: with nothing to wait for, the first line leads to the lines below it."""
    first = answered(Stage(), A, C, blocked={"openai": "no", "other": "no"}).message.splitlines()[0]
    assert first.endswith("the lines below name what each candidate lacks: change that in the pool file")


def test_a_long_list_is_bounded() -> None:
    """W03: the lines stop at a number that people read; the others are counted."""
    stage = Stage()
    members = [candidate(f"c{number}") for number in range(LISTED + 5)]
    stage.suspend(A, scope=Scope.UPSTREAM)
    lines = answered(stage, *members).message.splitlines()
    assert len(lines) == LISTED + 2
    assert lines[-1] == "- and 5 more"


def test_names_from_outside_are_bounded() -> None:
    stage = Stage()
    long = candidate("a", "m" * 5000)
    exchange = stage.exchange(route(long), alias="x" * 5000, blocked={"openai": "no"})
    step = exchange.begin(stage.now)
    assert isinstance(step, Refuse)
    assert max(map(len, step.message.splitlines())) < 400


def test_when_every_upstream_is_ruled_out_no_retry_helps() -> None:
    """W09: what is ruled out on this connection stays so, whatever its suspension says."""
    stage = Stage()
    stage.suspend(A, 10)
    answer = answered(stage, A, C, blocked={"openai": "no", "other": "no"})
    assert (answer.status, answer.retry_after) == (400, None)


def test_a_rejected_credential_does_not_invite_another_round() -> None:
    """W07, W09: every credential is rejected: 400 with the reasons and the mend, no 401.

    Not in the upstream's words: by those a tool would tell its user to log in.
    """
    stage = Stage()
    rejected = reply(Label.CREDENTIAL_REJECTED, evidence="HTTP 401: no such key")
    refused = stage.answer(route(A, B), [rejected, rejected]).refused
    assert (refused.status, refused.retry_after) == (400, None)
    assert refused.message.count("name another one in the pool file") == 2
    assert "no such key" not in refused.message


def test_an_unsendable_candidate_does_not_hide_one_that_comes_back() -> None:
    """W03: A has no secret, B is down for 3 s: the tool is told to come back, not to give up."""
    stage = Stage()
    exchange, step = stage.open(route(A, C, budget=IMPATIENT))
    assert step == Attempt(1, A)
    step = exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "the file is gone", stage.now)
    assert step == Attempt(2, C)
    refused = exchange.judge(fault(), stage.now)
    assert isinstance(refused, Refuse)
    assert refused.status == 503
    assert refused.message.splitlines()[0].endswith(": try again in 3s")
    assert "- a m1: credential_rejected by builtin/secret: the file is gone" in refused.message


def test_an_answer_that_ends_the_search_is_not_worth_another_round() -> None:
    """W07, W09: a 403 that nothing explains stops at the first candidate, now and the next time."""
    refused = Stage().answer(route(A, B), [reply(Label.UNKNOWN, status=403, evidence="HTTP 403")]).refused
    assert (refused.status, refused.retry_after) == (400, None)
    assert "- a m1: unknown by test/unknown: HTTP 403" in refused.message
    assert "- b m1: not tried: what another candidate answered applies to it too" in refused.message


DEAD = Budget(wait=30, patience=0)
BUSY = reply(Label.OVERLOADED, status=503)


@pytest.mark.parametrize(("kind", "retry_after"), [(FaultKind.CLOSED, None), (FaultKind.CONNECT, 3)])
def test_w03_where_the_call_was_sent_the_tool_keeps_its_own_schedule(kind: FaultKind, retry_after: int | None) -> None:
    """W03, A10: no Retry-After of ours, by which a tool with many tries would sleep before each of them. Where nothing
    was sent, it is told when the earliest candidate is back, once: its own retry is not."""
    stage, on = Stage(), route(A, B, budget=DEAD)
    refused = stage.answer(on, [fault(kind)] * 4).refused
    assert (refused.status, refused.retry_after) == (503, retry_after)
    assert "can answer for gpt-5: try again in " in refused.message
    again = stage.open(on, spent=Spent(4, 30.0, told=True))[1]
    assert isinstance(again, Refuse)
    assert (again.status, again.retry_after) == (503, None)


def test_a_stated_time_is_passed_on_all_the_same() -> None:
    """A10: what an upstream states it would also have stated without understudy."""
    stage = Stage()
    stage.suspend(A, 20, label=Label.RATE_LIMITED, hint="retry-after")
    step = stage.open(route(A, budget=DEAD), spent=Spent(2, 0.0, told=True))[1]
    assert isinstance(step, Refuse)
    assert (step.status, step.retry_after) == (429, 20)


def test_a_tool_that_tries_again_is_not_made_to_wait() -> None:
    """A10, W01: the first round may wait for a candidate, the tool's own retry of an answered call does not."""
    on = route(A, B, budget=DEAD)
    stage = Stage()
    stage.suspend(A, 3)
    stage.suspend(B, 4)
    assert isinstance(stage.open(on)[1], Wait)
    assert isinstance(stage.open(on, spent=Spent(2, 0.0))[1], Wait)  # it went away without an answer
    step = stage.open(on, spent=Spent(2, 0.0, told=True))[1]
    assert isinstance(step, Refuse)
    assert (step.status, step.retry_after) == (503, None)


def test_another_round_does_not_cure_a_quota() -> None:
    """A10: the quota of every account is used up: the real reply says so, and that it is of no use to try again."""
    spent = reply(Label.QUOTA_EXHAUSTED, status=429)
    assert Stage().answer(route(A, B, budget=DEAD), [spent, spent]).end == Release(1, final=True, retry=False)


def test_a_spent_budget_is_said_and_another_round_can_help() -> None:
    """W04: what the budget left untried is free: come back at once."""
    stage = Stage()
    once = Then(retry_same=0)
    played = stage.answer(route(A, C, budget=Budget(attempts=1)), [reply(Label.CREDENTIAL_REJECTED, then=once)])
    assert (played.refused.status, played.refused.retry_after) == (503, 1)
    assert "- c m1: not tried, the budget of 1 attempts in 55 s is spent" in played.refused.message


def test_an_only_candidate_is_due_when_its_stated_window_ends() -> None:
    """W03: other suspensions of an only candidate are shown, they do not keep it from being sent."""
    stage = Stage()
    stage.suspend(A, 3600)
    stage.suspend(A, 20, scope=Scope.CREDENTIAL, label=Label.RATE_LIMITED, hint="retry-after")
    answer = answered(stage, A)
    assert (answer.status, answer.retry_after) == (429, 20)


def test_no_secret_is_in_the_answer() -> None:
    """R06: the lines name credentials, never what they hold."""
    stage = Stage()
    stage.suspend(A)
    stage.suspend(B)
    message = answered(stage, A, B, C, blocked={"other": "no"}).message
    assert not any(member.credential.secret.reveal() in message for member in (A, B, C))


# -- the lines -------------------------------------------------------------------------------------------------------


def test_w03_those_that_are_for_other_users_are_listed_behind() -> None:
    """W03, P05: as far as there is room; all that are left out are counted."""
    stage = Stage()
    for members, closed, lines in (
        (1, 2, 3),
        (LISTED - 1, 1, LISTED),
        (LISTED - 1, 3, LISTED),
        (LISTED + 1, 3, LISTED),
    ):
        names = [f"c{number}" for number in range(members + closed)]
        choices = tuple(
            Choice(credential(name), "m1", who=("alice",) if at >= members else ()) for at, name in enumerate(names)
        )
        on = Route("gpt-5", choices, budget=IMPATIENT).for_user("bob")
        exchange = stage.exchange(on, user="bob", blocked={"openai": "no"})
        step = exchange.begin(stage.now)
        assert isinstance(step, Refuse)
        told = step.message.splitlines()[1:]
        more = members + closed - LISTED
        assert len(told) == lines + (more > 0)
        assert [line for line in told if line.startswith("- and ")] == ([f"- and {more} more"] if more > 0 else [])
        assert sum("does not name the user bob" in line for line in told) == min(closed, max(0, LISTED - members))


def test_l11_one_upstream_that_is_not_reached_is_no_broken_network() -> None:
    """L11: nor are two of which one was reached."""
    for members, replies, offline in (
        ((A,), [fault()], False),
        ((A, C), [fault(), fault()], True),
        ((A, C), [fault(), reply(Label.CREDENTIAL_REJECTED)], False),
    ):
        refused = Stage().answer(route(*members, budget=IMPATIENT), replies).refused
        assert ("check the network of this machine" in refused.message.splitlines()[0]) is offline


def test_q02_each_line_says_why_its_candidate_was_not_tried() -> None:
    """Q02, W03: a full queue, or what another one has said; each for itself."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"b": 1})
    holder, _ = stage.open(route(B))
    sibling = candidate("a", "m2")
    exchange, step = stage.open(route(B, A, sibling, C, budget=IMPATIENT), blocked={"other": "no"})
    assert step == Attempt(1, A)
    refused = exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now)
    assert isinstance(refused, Refuse)
    lines = refused.message.splitlines()[1:]
    assert lines[0].startswith("- b m1: not tried: as many calls are under way")
    assert lines[1].startswith("- a m1: credential_rejected by test/credential_rejected, suspended for another 30m: ")
    assert lines[2].startswith("- a m2: credential_rejected by test/credential_rejected, suspended for another 30m: ")
    assert lines[3] == "- c m1: no"
    holder.finished()


def test_a_line_without_evidence_ends_with_its_time() -> None:
    stage = Stage()
    key = key_of(A, Scope.CANDIDATE)
    stage.suspensions.suspend(Suspension(key, stage.now, stage.now + 90, Label.OVERLOADED, "test/x"))
    stage.suspend(B, 90)
    message = answered(stage, A, B).message
    assert "- a m1: overloaded by test/x, suspended for another 1m30s" in message.splitlines()
    by_hand = Suspension(key, stage.now, stage.now + 120, Label.RATE_LIMITED, BY_HAND)
    stage.suspensions.suspend(by_hand)
    assert "- a m1: by hand, suspended for another 2m" in answered(stage, A, B).message.splitlines()


def test_w07_what_this_program_says_of_a_secret_may_be_read_by_the_tool() -> None:
    """W07: only an upstream's own words could send its user to a login."""
    stage = Stage()
    key = key_of(A, Scope.CREDENTIAL)
    for rule, told in (("builtin/secret", "no such file"), ("vendor/rule", "name another one in the pool file")):
        stage.suspensions.resume(key)
        said = Suspension(key, stage.now, stage.now + 90, Label.CREDENTIAL_REJECTED, rule, "no such file")
        stage.suspensions.suspend(said)
        assert told in answered(stage, A, C, blocked={"other": "no"}).message


def test_the_latest_that_a_candidate_said_is_told() -> None:
    """W03: of two attempts the second."""
    first = reply(Label.UNKNOWN, then=Then(replay=True, retry_same=1), status=403, evidence="one")
    second = reply(Label.UNKNOWN, then=Then(replay=True), status=403, evidence="two")
    refused = Stage().answer(route(A, budget=IMPATIENT), [first, second]).refused
    assert "- a m1: unknown by test/unknown: two" in refused.message.splitlines()
