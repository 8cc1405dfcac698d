"""Sealed parts in the decision core: bound while their owner is free, moved when it is not, left out when refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import OTHER, Played, Stage, candidate, credential, reply, route, upstream
from understudy.failover.sealed import Sealed, is_portable
from understudy.failover.steps import Attempt, Release
from understudy.model.pool import Budget, Candidate, Route, Strategy, Upstream
from understudy.model.verdict import Label, Then

A, B, C = candidate("a"), candidate("b", at=OTHER), candidate("c", at=upstream("third"))
OK = reply(Label.OK)
QUOTA = reply(Label.QUOTA_EXHAUSTED, retry_after="600")
BUSY = reply(Label.OVERLOADED, then=Then(retry_same=0))
SEALED = reply(Label.REQUEST_INVALID, then=Then(without_sealed=True))
ODD = reply(Label.UNKNOWN, certain=False, message="odd")


class Talk:
    """A conversation of a tool that sends every part back, with what each candidate seals in its answers."""

    def __init__(self, stage: Stage, on: Route, session: str = "") -> None:
        self.stage, self.on, self.session = stage, on, session
        self.parts: list[str] = []
        self.without: list[frozenset[str]] = []

    def turn(self, *replies: object, seals: bool = True) -> list[Candidate]:
        """One turn; returns who was asked. ``without``: what each of them did not get."""
        facts = self.stage.sealed(self.on, *self.parts)
        played: Played = self.stage.answer(self.on, list(replies), session=self.session, **facts)  # type: ignore[arg-type]
        tried = [outcome.attempt for outcome in played.exchange.outcomes]
        self.without = [each.without for each in tried]
        last = played.exchange.outcomes[-1]
        if last.verdict.label is Label.OK:
            facts["sealed"].answered(last.attempt.candidate, last.attempt.without)
            if seals:
                name = last.attempt.candidate.credential.name
                self.parts.append(f"sealed {name}{len(self.parts)}")
                self.stage.ledger.learn(self.parts[-1:], name)
        return played.sent


@pytest.mark.parametrize("session", ["", "s"], ids=["without a session", "with one"])
def test_e01_a_conversation_moves_when_its_owner_cannot_go_on_and_stays(session: str) -> None:
    """E01: B answers turn 2 without A's parts; turn 3 goes on with B although A is free; back on A, A's are kept."""
    stage = Stage()
    talk = Talk(stage, route(A, B), session)
    assert talk.turn(OK) == [A]
    assert talk.turn(OK) == [A]
    assert talk.without == [frozenset()]
    assert talk.turn(QUOTA, OK) == [A, B]
    assert talk.without == [frozenset(), {"", "sealed a0", "sealed a1"}]
    stage.clock.now += 601
    assert talk.turn(OK) == [B]
    assert talk.without == [{"", "sealed a0", "sealed a1"}]
    assert talk.turn(BUSY, OK) == [B, A]
    assert talk.without[1] == {"", "sealed b2", "sealed b3"}
    stage.clock.now += 60
    assert talk.turn(OK) == [A]
    assert talk.without == [{"", "sealed b2", "sealed b3"}]


def test_e01_the_suspended_owner_is_passed_over_without_an_attempt() -> None:
    """E01, law 5: the quota was known before the turn began."""
    stage = Stage()
    talk = Talk(stage, route(A, B))
    talk.turn(OK)
    stage.suspend(A, 600)
    assert talk.turn(OK) == [B]
    assert talk.without == [{"", "sealed a0"}]


def test_e01_a_conversation_without_new_parts_stays_where_it_moved() -> None:
    """E01: B has sealed nothing itself, so A's parts are still the latest; it does not flap back."""
    stage = Stage()
    talk = Talk(stage, route(A, B))
    talk.turn(OK)
    assert talk.turn(QUOTA, OK, seals=False) == [A, B]
    stage.clock.now += 601
    assert talk.turn(OK, seals=False) == [B]
    assert talk.turn(BUSY, OK, seals=False) == [B, A]
    assert talk.without[1] == frozenset()
    stage.clock.now += 60
    assert talk.turn(OK, seals=False) == [A]


@pytest.mark.parametrize("strategy", [Strategy.ROUND_ROBIN, Strategy.WEIGHTED])
def test_p04_sealed_parts_bind_while_their_owner_is_free(strategy: Strategy) -> None:
    """P04: whatever the strategy, and without taking anybody's turn."""
    stage = Stage()
    on = route(A, B, C, strategy=strategy)
    talk = Talk(stage, on)
    first = talk.turn(OK)
    assert [talk.turn(OK) for _ in range(4)] == [first] * 4
    assert {stage.answer(on, [OK]).sent[0] for _ in range(2)} == {A, B, C} - set(first)


def test_p04_another_model_of_the_owner_goes_before_another_account() -> None:
    """P04: what the account has sealed, another of its models can read."""
    stage = Stage()
    second = candidate("a", "m2")
    talk = Talk(stage, route(A, B, second))
    talk.turn(OK)
    assert talk.turn(BUSY, OK) == [A, second]
    assert talk.without == [frozenset(), frozenset()]


def test_what_nobody_knows_goes_with_what_is_known_to_be_foreign() -> None:
    """Unknown parts have no owner: they stay, unless parts beside them are known to be another account's."""
    stage = Stage()
    on = route(A, B)
    played = stage.answer(on, [BUSY, OK], **stage.sealed(on, "sealed x"))
    assert [each.attempt.without for each in played.exchange.outcomes] == [frozenset(), frozenset()]
    stage.ledger.learn(["sealed a"], "a")
    stage.clock.now += 60
    played = stage.answer(on, [BUSY, OK], **stage.sealed(on, "sealed x", "sealed a", "sealed y"))
    assert [each.attempt.without for each in played.exchange.outcomes] == [
        *(frozenset(), {"", "sealed x", "sealed a", "sealed y"})
    ]
    stage.ledger.learn(["sealed b"], "b")
    played = stage.answer(on, [OK], **stage.sealed(on, "sealed x", "sealed a", "sealed y", "sealed b", "sealed z"))
    assert played.sent == [B]
    assert played.exchange.outcomes[0].attempt.without == {"", "sealed x", "sealed a"}


def test_what_a_candidate_has_read_is_its_own() -> None:
    """The ledger learns from an answer also what the request had of unknown origin."""
    stage = Stage()
    on = route(A, B)
    facts = stage.sealed(on, "sealed x")
    stage.answer(on, [OK], **facts)
    facts["sealed"].answered(A, frozenset())
    assert stage.ledger.owner_of("sealed x") == "a"


def test_e03_a_refusal_of_sealed_state_is_answered_by_one_repeat_without() -> None:
    """E03: the same candidate, nobody suspended, remembered for the conversation."""
    stage = Stage()
    on = route(A, B)
    played = stage.answer(on, [SEALED, OK], **stage.sealed(on, "sealed x", "sealed y"))
    assert (played.sent, played.waits) == ([A, A], [0.0])
    assert [each.attempt.without for each in played.exchange.outcomes] == [frozenset(), {"", "sealed x", "sealed y"}]
    assert not stage.suspended()
    again = stage.answer(on, [OK], **stage.sealed(on, "sealed x", "sealed y", "sealed z"))
    assert again.sent == [A]
    assert {"sealed x", "sealed y"} <= again.exchange.outcomes[0].attempt.without
    assert stage.answer(on, [BUSY, OK], **stage.sealed(on, "sealed x")).exchange.outcomes[1].attempt.without == set()


def test_e03_a_single_candidate_is_asked_once_more_as_well() -> None:
    stage = Stage()
    on = route(A)
    assert stage.answer(on, [SEALED, OK], **stage.sealed(on, "sealed x")).sent == [A, A]


def test_e03_a_refusal_of_its_own_parts_leaves_all_out() -> None:
    """E03: the account's key was changed meanwhile."""
    stage = Stage()
    on = route(A, B)
    stage.ledger.learn(["sealed a"], "a")
    played = stage.answer(on, [SEALED, OK], **stage.sealed(on, "sealed a"))
    assert played.sent == [A, A]
    assert stage.answer(on, [OK], **stage.sealed(on, "sealed a")).exchange.outcomes[0].attempt.without == {
        *("", "sealed a")
    }


def test_e03_what_is_known_to_be_its_own_stays() -> None:
    """E03: only if that is refused as well it goes, too, which the next turn then knows."""
    stage = Stage()
    on = route(A, B)
    stage.ledger.learn(["sealed a"], "a")
    played = stage.answer(on, [SEALED, OK], **stage.sealed(on, "sealed x", "sealed a"))
    assert [each.attempt.without for each in played.exchange.outcomes] == [frozenset(), {"", "sealed x"}]
    facts = stage.sealed(on, "sealed a", "sealed y")
    played = stage.answer(on, [SEALED, SEALED, OK], **facts)
    assert played.sent == [A, A, B]
    assert played.exchange.outcomes[2].attempt.without == {"", "sealed a", "sealed y"}
    assert stage.answer(on, [OK], **stage.sealed(on, "sealed a")).exchange.outcomes[0].attempt.without == {
        *("", "sealed a")
    }


def test_e03_a_second_refusal_reaches_the_tool_or_another_candidate() -> None:
    """E03, law 2: one repeat; what still refuses without any sealed part refuses the request."""
    stage = Stage()
    on = route(A, B)
    played = stage.answer(on, [SEALED, SEALED], **stage.sealed(on, "sealed x"))
    assert (played.sent, played.released) == ([A, A], 2)
    assert not stage.suspended()


def test_e03_without_anything_sealed_it_is_a_refusal_like_any_other() -> None:
    stage = Stage()
    on = route(A, B)
    assert stage.answer(on, [SEALED], **stage.sealed(on)).sent == [A]
    assert stage.answer(on, [SEALED]).sent == [A]


def test_e03_a_repeat_takes_nobodys_place() -> None:
    """Law 2: with one attempt left for one untried candidate, that one is asked, without the parts."""
    stage = Stage()
    on = route(A, B, budget=Budget(attempts=2))
    played = stage.answer(on, [SEALED, OK], **stage.sealed(on, "sealed x"))
    assert played.sent == [A, B]
    assert played.exchange.outcomes[1].attempt.without == {"", "sealed x"}
    assert not stage.suspended()


def test_e03_of_two_attempts_the_other_one_goes_on() -> None:
    """E03, A05: a refusal of sealed state is no answer while another candidate is asked as well."""
    stage = Stage()
    on = route(A, B)
    exchange, step = stage.open(on, streamed=True, **stage.sealed(on, "sealed x"))
    assert step == Attempt(1, A)
    stage.clock.now += 16
    assert exchange.hedge(A, stage.now) == Attempt(2, B)
    exchange.judge(SEALED, stage.now, A)
    assert [each.candidate for each in exchange.under_way] == [B]
    assert stage.ledger.was_refused("sealed x", "a") and not stage.ledger.was_refused("sealed x", "b")
    assert exchange.judge(OK, stage.now, B) == Release(2)
    assert not stage.suspended()


def test_j03_an_answer_without_sealed_parts_blames_nobody() -> None:
    """J01, law 7: B was asked another request, so that its answer does not show that the fault is A's."""
    stage = Stage()
    on = route(A, B)
    stage.ledger.learn(["sealed a"], "a")
    played = stage.answer(on, [ODD, OK], **stage.sealed(on, "sealed a"))
    assert played.sent == [A, B]
    assert not stage.suspended()
    assert not list(stage.suspensions.learned)
    fair = stage.answer(on, [ODD, OK])
    assert fair.sent == [A, B]
    assert stage.suspended()


@pytest.mark.parametrize("again", [False, True])
def test_a_hedge_goes_without_what_it_cannot_read(again: bool) -> None:
    """A05, E01: the silent owner's parts do not reach the other candidate; whoever answers has the conversation."""
    stage = Stage()
    on = route(A, B)
    stage.ledger.learn(["sealed a"], "a")
    exchange, _ = stage.open(on, streamed=True, **stage.sealed(on, "sealed a"))
    stage.clock.now += 16
    hedge = exchange.hedge(A, stage.now)
    assert hedge is not None and hedge.without == {"", "sealed a"}
    winner = A if again else B
    exchange.accept(winner)
    sealed = exchange.request.sealed
    assert sealed is not None
    sealed.answered(winner, exchange.outcomes[-1].attempt.without)
    assert stage.ledger.home("sealed a") == ("" if again else "b")


def test_a_session_of_sealed_parts_waits_a_moment_rather_than_move() -> None:
    """L13, E01: a move would cost reasoning and prompt cache; a limit of two seconds does not."""
    stage = Stage()
    talk = Talk(stage, route(A, B))
    talk.turn(OK)
    stage.suspend(A, 2, label=Label.RATE_LIMITED, hint="retry-after")
    assert talk.turn(OK) == [A]


def test_what_is_only_tried_out_teaches_nothing() -> None:
    """`mode: advise` plays the call on a copy."""
    stage = Stage()
    on = route(A, B)
    found = stage.sealed(on, "sealed x")["sealed"]
    found.remembers = False
    stage.answer(on, [SEALED, OK], sealed=found)
    found.answered(A, frozenset())
    assert not stage.ledger


ANTHROPIC = Upstream("claude", "anthropic", "https", "api.anthropic.com", 443)
BEDROCK = Upstream("aws", "bedrock", "https", "bedrock-runtime.eu-west-1.amazonaws.com", 443)
VERTEX = Upstream("gcp", "anthropic-vertex", "https", "europe-west1-aiplatform.googleapis.com", 443)
FOUNDRY = Upstream("azure", "anthropic", "https", "corp.services.ai.azure.com", 443, "/anthropic")
GATEWAY = Upstream("gateway", "anthropic", "https", "llm.example", 443)
GEMINI = Upstream("gemini", "gemini", "https", "generativelanguage.googleapis.com", 443)


@pytest.mark.parametrize(
    ("part", "owner", "reader", "portable"),
    [
        *(("thinking x", ANTHROPIC, each, True) for each in (ANTHROPIC, BEDROCK, VERTEX, FOUNDRY)),
        *(("thinking x", each, ANTHROPIC, True) for each in (BEDROCK, VERTEX, FOUNDRY)),
        ("thinking x", GATEWAY, ANTHROPIC, False),
        ("thinking x", ANTHROPIC, GATEWAY, False),
        ("thinking x", GATEWAY, GATEWAY, True),
        ("thought x", GEMINI, GEMINI, False),
        ("sealed x", OTHER, OTHER, False),
        ("rs_0123456789", OTHER, OTHER, False),
    ],
)
def test_e02_what_is_portable(part: str, owner: Upstream, reader: Upstream, portable: bool) -> None:
    """E02: Anthropic's signatures hold on every platform of its models; nobody else's are known to hold elsewhere."""
    assert is_portable(part, credential("one", owner), credential("two", reader)) is portable
    assert not is_portable(part, None, credential("two", reader))


def test_e02_two_keys_of_one_organization_share_what_is_sealed() -> None:
    one, two = (
        replace(credential(name), headers=(("openai-organization", organization),))
        for name, organization in (("a", "org-1"), ("b", "org-1"))
    )
    assert is_portable("sealed x", one, two)
    assert not is_portable("sealed x", one, replace(two, headers=(("openai-organization", "org-2"),)))


def test_e02_a_portable_part_goes_along() -> None:
    """E02: thinking moves with its conversation to another account of Anthropic's."""
    stage = Stage()
    one, two = candidate("one", at=ANTHROPIC), candidate("two", at=replace(BEDROCK, relatives=frozenset({"anthropic"})))
    on = route(one, two)
    stage.ledger.learn(["thinking x"], "one")
    played = stage.answer(on, [QUOTA, OK], **stage.sealed(on, "thinking x"))
    assert played.sent == [one, two]
    assert played.exchange.outcomes[1].attempt.without == frozenset()


def test_p04_the_refusal_names_what_binds() -> None:
    """P04: the tool is told what keeps the others from being asked."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [QUOTA, OK])
    refused = stage.answer(on, [], bound_to="a", bound_by="previous_response_id resp_0123456789a…").refused
    assert "- b m1: not asked: previous_response_id resp_0123456789a… belongs to a" in refused.message


# -- what a candidate goes without -----------------------------------------------------------------------------------


def sealed(stage: Stage, *parts: str, remembers: bool = True) -> Sealed:
    credentials = {each.credential.name: each.credential for each in (A, B, C)}
    return Sealed(parts, stage.ledger, credentials, lambda: parts, remembers=remembers)


def test_e03_what_another_has_refused_costs_the_one_at_home_what_nobody_knows() -> None:
    """E03: its own parts stay, and goes once without those that may be anybody's."""
    stage = Stage()
    stage.ledger.learn(["sealed a"], "a")
    found = sealed(stage, "sealed a", "sealed x")
    assert found.without(A) == frozenset()
    found.refused(B)
    assert found.without(A) == {"", "sealed x"}
    assert found.without(B) == {"", "sealed a", "sealed x"}


def test_e01_what_came_after_the_last_foreign_part_is_its_own_where_it_is_at_home() -> None:
    """E01: of unknown origin, behind it; before it, and elsewhere, they are thought to be foreign."""
    stage = Stage()
    stage.ledger.learn(["sealed a1", "sealed a2"], "a")
    stage.ledger.learn(["sealed b"], "b")
    found = sealed(stage, "sealed x", "sealed a1", "sealed y", "sealed a2", "sealed z", "sealed b", "sealed w")
    assert found.prefers == "b"
    assert found.without(B) == {"", "sealed x", "sealed a1", "sealed y", "sealed a2"}
    assert found.without(A) == {"", "sealed x", "sealed y", "sealed z", "sealed b", "sealed w"}
    assert found.without(C) == {"", *found.parts}


def test_e01_the_home_of_a_conversation_is_that_of_its_latest_known_part() -> None:
    """E01: or where it has moved since; a credential that the pool no longer has is none, several logins are one."""
    stage = Stage()
    assert (sealed(stage, "sealed x").latest, sealed(stage, "sealed x").prefers) == ("", "")
    stage.ledger.learn(["sealed 1"], "a")
    stage.ledger.learn(["sealed 2"], "b~2")
    stage.ledger.learn(["sealed 3"], "gone")
    assert sealed(stage, "sealed 1", "sealed x").latest == "sealed 1"
    assert sealed(stage, "sealed 1", "sealed 2", "sealed x").prefers == "b~2"
    assert sealed(stage, "sealed 1", "sealed 3").prefers == ""
    stage.ledger.move("sealed x", "c")
    assert sealed(stage, "sealed 1", "sealed x").prefers == "c"


def test_e03_what_is_refused_is_what_is_not_known_to_be_its_own_or_else_all_of_it() -> None:
    """E03: and it is remembered for its credential, unless the call is only tried out."""
    for remembers in (True, False):
        stage = Stage()
        stage.ledger.learn(["sealed a"], "a")
        found = sealed(stage, "sealed a", "sealed x", remembers=remembers)
        found.refused(A)
        assert found.without(A) == {"", "sealed x"}
        assert stage.ledger.was_refused("sealed x", "a") is remembers
        assert not stage.ledger.was_refused("sealed a", "a")
        found.refused(A)
        assert found.without(A) == {"", "sealed a", "sealed x"}
        assert stage.ledger.was_refused("sealed a", "a") is remembers


def test_e01_an_answer_teaches_whose_the_parts_are_that_it_was_sent() -> None:
    """E01: of unknown origin; the conversation moves where it was not at home. What it went without stays unknown."""
    stage = Stage()
    stage.ledger.learn(["sealed a"], "a")
    found = sealed(stage, "sealed x", "sealed a", "sealed y")
    found.answered(B, frozenset({"", "sealed a", "sealed x"}))
    assert [stage.ledger.owner_of(part) for part in found.parts] == ["", "a", "b"]
    assert stage.ledger.home("sealed a") == "b"
    again = Stage()
    again.ledger.learn(["sealed a"], "a")
    sealed(again, "sealed a").answered(A, frozenset())
    assert again.ledger.home("sealed a") == ""
    tried = Stage()
    sealed(tried, "sealed x", remembers=False).answered(A, frozenset())
    assert not tried.ledger


def test_parts_are_read_when_they_are_asked_for() -> None:
    """Without a ledger no request is searched for them before a candidate refuses one."""
    stage, asked = Stage(), list[int]()

    def parts() -> tuple[str, ...]:
        asked.append(1)
        return ("sealed x",)

    found = Sealed((), stage.ledger, {"a": A.credential}, parts)
    assert found.without(A) == frozenset() and not asked
    found.refused(A)
    assert found.without(A) == {"", "sealed x"}
    assert Sealed((), stage.ledger, {}).parts == ()


def test_e02_what_two_keys_without_an_organization_have_sealed_is_not_shared() -> None:
    """E02: nor what is sealed at another upstream, whatever it calls its organizations."""
    named = (("openai-organization", "org-1"),)
    one, two = credential("a"), replace(credential("b"), headers=named)
    assert not is_portable("sealed x", one, credential("b"))
    assert not is_portable("sealed x", one, two) and not is_portable("sealed x", two, one)
    elsewhere = replace(credential("c", OTHER), headers=named)
    assert not is_portable("sealed x", two, elsewhere)
    assert is_portable("rs_0123456789", two, replace(two, name="d"))


def test_p04_a_turn_at_home_takes_nobodys_turn() -> None:
    """P04: wherever the round is."""
    stage = Stage()
    on = route(A, B, C, strategy=Strategy.ROUND_ROBIN)
    talk = Talk(stage, on)
    assert stage.answer(on, [OK]).sent == [A]
    assert talk.turn(OK) == [B]
    assert stage.answer(on, [OK]).sent == [C]
    assert talk.turn(OK) == [B]
    assert stage.answer(on, [OK]).sent == [A]
