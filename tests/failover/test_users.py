"""What a user of the proxy may spend, and what stays together for one (P05)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import OTHER, Stage, candidate, reply, route
from understudy.dialects import DIALECTS, Call
from understudy.failover.memory import Memory, Plan
from understudy.failover.steps import Refuse
from understudy.failover.users import UserRoutes
from understudy.model.pool import Affinity, Choice, Pool, Route, Strategy
from understudy.model.verdict import Label
from understudy.requests import Conversation, Recognised

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
OK = reply(Label.OK)


def limited(*lines: tuple[str, tuple[str, ...]], strategy: Strategy = Strategy.ORDERED) -> Route:
    """A route over credentials, each with the users that it is for."""
    known = {"a": A.credential, "b": B.credential, "c": C.credential}
    return Route("gpt-5", tuple(Choice(known[name], "m1", who=who) for name, who in lines), strategy)


def left(on: Route, user: str) -> list[str]:
    """The credentials that a user may spend on a route, in order."""
    found = UserRoutes(Pool(routes={on.pattern: on})).route_for(on, user)
    return [choice.credential.name for choice in found.choices]


@pytest.mark.parametrize(
    ("user", "expected"),
    [("alice", ["a", "c"]), ("ci-7", ["b", "c"]), ("bob", ["c"]), ("Alice", ["c"]), ("", ["c"]), ("ci-", ["b", "c"])],
)
def test_p05_names_and_globs(user: str, expected: list[str]) -> None:
    """P05: a call without a checked name is for no `who`, not even `*`."""
    on = limited(("a", ("alice",)), ("b", ("ci-*",)), ("c", ()))
    assert left(on, user) == expected
    assert left(limited(("a", ("*",)), ("c", ())), user) == (["a", "c"] if user else ["c"])


def test_p05_every_level_has_its_say() -> None:
    """P05: route, candidate and credential: a user has to be named by each that names anybody."""
    mine = replace(A.credential, who=("alice", "bob"))
    on = Route("gpt-5", (Choice(mine, who=("bob", "eve")), Choice(B.credential)), who=("alice", "bob", "eve"))
    assert [left(on, user) for user in ("alice", "bob", "eve", "mallory", "")] == [["b"], ["a", "b"], ["b"], [], []]
    assert on.whose(on.choices[0]) == "alice, bob, eve and bob, eve and alice, bob"


def test_p05_one_candidate_in_another_order_for_another_user() -> None:
    on = limited(("a", ("alice",)), ("b", ()), ("a", ("ci-*",)))
    assert [left(on, user) for user in ("alice", "ci-1", "bob")] == [["a", "b"], ["b", "a"], ["b"]]
    stage = Stage()
    assert stage.lineup(on.for_user("alice")).closed == (), "it is a candidate, only in another place"
    assert stage.lineup(on.for_user("bob")).closed == (A,)


def test_p05_users_with_the_same_permissions_share_their_turns() -> None:
    """P01, P05: and a route that is for all is the same for all."""
    on = limited(("a", ("alice", "bob")), ("b", ()), ("c", ("alice", "bob")), strategy=Strategy.ROUND_ROBIN)
    users, stage = UserRoutes(Pool(routes={"gpt-5": on})), Stage()
    assert users.route_for(on, "alice") is users.route_for(on, "bob")
    assert users.route_for(on, "eve") is not users.route_for(on, "alice")
    sent = [stage.answer(users.route_for(on, user), [OK], user=user).sent[0] for user in ("alice", "bob", "eve", "bob")]
    assert sent == [A, B, B, C]
    free = route(A, B)
    assert UserRoutes(Pool(routes={"gpt-5": free})).route_for(free, "alice") is free


def test_p05_what_is_not_for_a_user_is_never_sent_and_named_in_the_answer() -> None:
    """P05, law 5: no attempt, and our answer says why; a call without a name gets none either."""
    stage = Stage()
    on = limited(("a", ("alice",)), ("b", ("alice",)))
    for user, whose in (("bob", "the user bob"), ("", "calls without a user's name")):
        _, step = stage.open(on.for_user(user), user=user)
        assert isinstance(step, Refuse)
        assert (step.status, step.retry_after) == (400, None)
        assert f"- a m1: not asked: its `who` in the pool file does not name {whose}" in step.message
        assert "alice" not in step.message, "who may is not told to who may not"


def test_p05_the_only_candidate_that_is_left_to_a_user() -> None:
    """P05, law 6: what holds for the only candidate of a route holds for the only one of a user."""
    stage = Stage()
    on = limited(("a", ("alice",)), ("b", ()))
    stage.answer(on.for_user("bob"), [reply(Label.MODEL_UNSUPPORTED)], user="bob")
    assert stage.answer(on.for_user("bob"), [OK], user="bob").sent == [B], "it is asked all the same"


def test_p05_a_user_never_hedges_or_compares_with_what_is_not_theirs() -> None:
    """P05, J01: an open verdict asks no candidate of others for a second opinion."""
    stage = Stage()
    on = limited(("a", ()), ("b", ("alice",)))
    exchange, _ = stage.open(on.for_user("bob"), user="bob", streamed=True)
    assert exchange.hedge(A, stage.now + 60) is None
    unknown = reply(Label.UNKNOWN, certain=False)
    assert stage.answer(on.for_user("bob"), [unknown], user="bob").sent == [A]


def plan(on: Route, user: str, session: str = "") -> Plan:
    endpoint = DIALECTS["openai"].endpoint("POST", "/chat/completions")
    assert endpoint is not None
    recognised = Recognised(DIALECTS["openai"], endpoint, "/chat/completions", "")
    return Plan(recognised, Call("gpt-5", False), on, Conversation(session), user=user)


def test_p05_sessions_of_two_users_are_two() -> None:
    """P02, P05: tools count their sessions from 1, each for itself."""
    on = route(A, B)
    assert plan(on, "alice", "1").session != plan(on, "bob", "1").session
    assert plan(on, "", "1").session == "1"
    assert plan(on, "alice").session == "", "without a session, nothing stays"


def test_p05_affinity_of_a_user() -> None:
    """P05: everything that a user asks for stays with one candidate; without a name the session does."""
    on = replace(route(A, B, strategy=Strategy.ROUND_ROBIN), affinity=Affinity.USER)
    assert plan(on, "alice", "1").session == plan(on, "alice", "2").session == plan(on, "alice").session
    assert plan(on, "alice").session != plan(on, "bob").session
    assert plan(on, "", "1").session == "1"
    stage = Stage()

    def sent(user: str, session: str) -> str:
        asked = stage.answer(on, [OK], session=plan(on, user, session).session, user=user).sent
        return asked[0].credential.name

    assert [sent(user, session) for user, session in (("alice", "1"), ("bob", "1"), ("alice", "2"), ("bob", ""))] == [
        *("a", "b", "a", "b")
    ]


def test_p05_a_retry_is_of_the_same_user() -> None:
    """P05, W04: the same body from another user is another request, with a budget of its own."""
    stage = Stage()
    memory = Memory(stage.clock)
    exchange, _ = stage.open(route(A))
    exchange.judge(reply(Label.OVERLOADED), stage.now)
    memory.ended(exchange, plan(route(A), "alice"), b"{}", Label.OVERLOADED)
    assert memory.spent(plan(route(A), "alice"), b"{}").attempts > 0
    assert memory.spent(plan(route(A), "bob"), b"{}").attempts == 0
