"""Whose fault an open verdict is: a second opinion, what it teaches, all alike, and how wide a refusal is (J01-J05)."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.replies.test_answer import CHAT, GENERATE, MESSAGES, RESPONSES, hold
from tests.replies.test_hold import JSON, fed
from tests.support.decisions import OTHER, Source, Stage, candidate, fault, reply, route
from understudy.failover.comparison import ANSWERED, COMPARED_WITHIN
from understudy.failover.exchange import A_POLICY
from understudy.failover.penalties import SHORT_STEP
from understudy.failover.steps import Attempt, Compared, Refuse, Release, Wait
from understudy.model.pool import Budget, Candidate, Strategy
from understudy.model.suspension import Key, key_of
from understudy.model.verdict import Label, Scope
from understudy.replies.hold import Held
from understudy.replies.reply import FaultKind, Reply
from understudy.rules.folders import shipped
from understudy.suspensions import Cause

A, B, C, D = candidate("a"), candidate("b"), candidate("c", at=OTHER), candidate("d", at=OTHER)
A2, A3 = candidate("a", "m2"), candidate("a", "m3")
ON = route(A, B)
OK = reply(Label.OK)
ODD = reply(Label.UNKNOWN, status=400, certain=False, message="the flux is out of phase")
BAD = reply(Label.REQUEST_INVALID, certain=False, message="the request is odd")
REJECTED = reply(Label.CREDENTIAL_REJECTED, status=403)
EMPTY = reply(Label.QUOTA_EXHAUSTED, status=402)
BUSY = reply(Label.OVERLOADED, certain=False, status=424)
MINUTE, HOUR = 60.0, 3600.0


class Refreshable(Source):
    """A secret that can be fetched anew."""

    refreshable = True


def key(of: Candidate, scope: Scope = Scope.CANDIDATE) -> Key:
    return key_of(of, scope)


def causes(stage: Stage) -> list[Cause]:
    """What is remembered, the latest first."""
    return [lesson.cause for lesson in stage.suspensions.learned]


# -- second opinion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [ODD, BAD])
def test_j01_another_candidate_is_asked_and_answers(said: Reply) -> None:
    """J01: the tool gets B's answer, A is out for the short step, with that as evidence."""
    stage = Stage()
    played = stage.answer(ON, [said, OK])
    assert played.sent == [A, B]
    assert played.end == Release(2)
    assert stage.suspended() == {key(A): SHORT_STEP}
    [suspension] = stage.suspensions
    assert suspension.evidence == f"{ANSWERED}: because"
    assert [each.compared for each in played.exchange.outcomes] == [Compared.CANDIDATE, None]
    assert played.exchange.outcomes[0].suspension == suspension
    assert played.exchange.outcomes[1].attempt.opinion
    assert (stage.suspensions.learned.asked, causes(stage)) == (1, [Cause.CANDIDATE])


def test_j01_a_stream_that_shows_output_is_an_answer_too() -> None:
    """J01: B's first output settles it."""
    stage = Stage()
    exchange, _ = stage.open(ON, streamed=True)
    assert exchange.judge(ODD, stage.now) == Attempt(2, B, opinion=True)
    exchange.accept()
    assert stage.suspended() == {key(A): SHORT_STEP}
    assert causes(stage) == [Cause.CANDIDATE]


def test_j01_the_next_reply_like_it_is_not_compared_again() -> None:
    """J01: it is known to be the candidate's own fault, so the next one is simply asked; who says it, pays again."""
    stage = Stage()
    stage.answer(ON, [ODD, OK])
    stage.clock.now += SHORT_STEP
    played = stage.answer(ON, [ODD, OK])
    assert played.sent == [A, B]
    assert not any(each.attempt.opinion for each in played.exchange.outcomes)
    assert played.exchange.outcomes[0].compared is Compared.KNOWN_CANDIDATE
    assert stage.suspended() == {key(A): SHORT_STEP}
    assert stage.suspensions.learned.asked == 1
    [lesson] = stage.suspensions.learned
    assert lesson.seen == 2


def test_j01_what_is_known_of_a_candidate_leads_past_others_that_fail() -> None:
    """J01: it is no comparison any more, so more than one other may be asked."""
    stage = Stage()
    on = route(A, C, B)
    stage.answer(on, [ODD, OK])
    stage.clock.now += SHORT_STEP
    played = stage.answer(on, [ODD, EMPTY, OK])
    assert played.sent == [A, C, B]
    assert key(A) in stage.suspended()


@pytest.mark.parametrize("first", [ODD, BAD])
@pytest.mark.parametrize("second", [ODD, BAD, reply(Label.REQUEST_INVALID), reply(Label.CONTENT_FILTERED)])
def test_j02_both_refuse(first: Reply, second: Reply) -> None:
    """J02: the first reply, nobody is out, and the signature is remembered as the request's."""
    stage = Stage()
    played = stage.answer(ON, [first, second])
    assert played.sent == [A, B]
    assert played.end == Release(1)
    assert stage.suspended() == {}
    assert played.exchange.outcomes[0].compared is Compared.REQUEST
    assert causes(stage) == [Cause.REQUEST]
    again = stage.answer(ON, [first])
    assert (again.sent, again.end) == ([A], Release(1))
    assert again.exchange.outcomes[0].compared is Compared.KNOWN_REQUEST


def test_j02_the_first_reply_goes_before_a_more_hopeful_one() -> None:
    """J02: A is at its limit, B says something open, C refuses too: the tool gets B's reply."""
    stage = Stage()
    limit = reply(Label.RATE_LIMITED, retry_after="20")
    exchange, _ = stage.open(route(A, B, C))
    assert exchange.judge(limit, stage.now) == Attempt(2, B)
    assert exchange.best == 1
    assert exchange.judge(BAD, stage.now) == Attempt(3, C, opinion=True)
    assert exchange.best == 2  # what the layer keeps
    assert exchange.judge(BAD, stage.now) == Release(2)
    assert exchange.best == 2


def test_j02_a_403_that_both_say_is_told_in_our_words() -> None:
    """J02, W07: it is about a login that is not the tool's own; nobody is out for it."""
    stage = Stage()
    odd = reply(Label.UNKNOWN, status=403, certain=False)
    refused = stage.answer(ON, [odd, odd]).refused
    assert (refused.status, refused.retry_after) == (400, None)
    assert stage.suspended() == {}
    assert causes(stage) == [Cause.REQUEST]


@pytest.mark.parametrize(
    "said",
    [
        reply(Label.CONTENT_FILTERED, certain=False),
        reply(Label.REQUEST_INVALID),
        reply(Label.UNKNOWN, status=400),
        reply(Label.OK, certain=False),
    ],
    ids=lambda each: f"{each.verdict.label} {each.verdict.certain}",
)
def test_j03_never_compared(said: Reply) -> None:
    """J03: what words made certain, a filter, and an answer."""
    stage = Stage()
    assert stage.answer(ON, [said]).sent == [A]
    assert (stage.suspended(), causes(stage), stage.suspensions.learned.asked) == ({}, [], 0)


def test_j03_nor_where_it_must_not_be() -> None:
    """J03: an auxiliary endpoint, a bound request, a route that does not want it; nor with nobody else to ask."""
    stage = Stage()
    assert stage.answer(ON, [ODD], generating=False).sent == [A]
    assert stage.answer(ON, [ODD], bound_to="a").sent == [A]
    assert stage.answer(replace(ON, second_opinion=False), [ODD]).sent == [A]
    assert stage.answer(route(A), [ODD]).sent == [A]
    assert stage.answer(route(A, A2), [ODD]).sent == [A]  # the same credential at the same upstream
    assert stage.answer(route(A, B, budget=Budget(attempts=1)), [ODD]).sent == [A]
    stage.suspend(B)
    assert stage.answer(ON, [ODD]).sent == [A]
    assert (causes(stage), stage.suspensions.learned.asked) == ([], 0)


def test_j03_one_extra_attempt_at_most() -> None:
    """J03: whatever the second one says, no third is asked; and the second is not asked twice."""
    for said in (ODD, EMPTY, reply(Label.OVERLOADED), reply(Label.RATE_LIMITED, retry_after="1"), fault()):
        stage = Stage()
        played = stage.answer(route(A, B, C, D), [BAD, said])
        assert len(played.sent) == 2
        assert played.end == Release(1)


def test_the_one_that_is_asked_is_as_independent_as_can_be() -> None:
    """Two keys of one account are wrong together: one of another upstream goes first, and takes nobody's turn."""
    stage = Stage()
    assert stage.answer(route(A, B, C), [ODD, OK]).sent == [A, C]
    stage = Stage()
    turns = route(A, B, C, strategy=Strategy.ROUND_ROBIN, pattern="turns")
    assert stage.answer(turns, [ODD, OK], "turns").sent == [A, C]
    assert stage.answer(turns, [OK], "turns").sent == [B]


@pytest.mark.parametrize(
    "said",
    [EMPTY, REJECTED, reply(Label.RATE_LIMITED), reply(Label.OVERLOADED), reply(Label.CONTEXT_EXCEEDED), fault()],
)
def test_a_second_opinion_that_says_nothing_settles_nothing(said: Reply) -> None:
    """Its own trouble is its own; A is not blamed for it, and the question is asked again later, ever more rarely."""
    stage = Stage()
    on = route(A, C)
    played = stage.answer(on, [BAD, said])
    assert played.end == Release(1)
    assert key(A) not in stage.suspended()
    assert played.exchange.outcomes[0].compared is Compared.UNDECIDED
    for pause in (MINUTE, 2 * MINUTE, 4 * MINUTE):
        stage.suspensions.resume(key(C, Scope.CREDENTIAL))
        stage.suspensions.resume(key(C, Scope.UPSTREAM))
        stage.suspensions.resume(key(C))
        stage.clock.now += pause - 1
        assert stage.answer(on, [BAD]).sent == [A]
        stage.clock.now += 1
        assert stage.answer(on, [BAD, said]).sent == [A, C]


def test_what_another_try_would_cure_costs_the_second_one_nothing() -> None:
    """L06, A08: a secret that can be fetched anew, a connection that was closed while idle: it is not asked twice."""
    fresh = replace(B, credential=replace(B.credential, secret=Refreshable()))
    for other, said in ((fresh, REJECTED), (B, fault(FaultKind.CLOSED, reused=True))):
        stage = Stage()
        played = stage.answer(route(A, other), [BAD, said])
        assert (played.sent, played.end) == ([A, other], Release(1))
        assert stage.suspended() == {}
        assert played.exchange.outcomes[0].compared is Compared.UNDECIDED


def test_an_opinion_that_cannot_be_sent_is_asked_of_the_next() -> None:
    """Nothing was sent, so it is no attempt and costs nothing (law 5)."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B, C))
    assert exchange.judge(ODD, stage.now) == Attempt(2, C, opinion=True)
    step = exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "gone", stage.now)
    assert step == Attempt(3, B, opinion=True)
    assert stage.suspensions.learned.asked == 1
    step = exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "gone", stage.now)
    assert step == Release(1)
    assert (stage.suspensions.learned.asked, causes(stage)) == (0, [])


def test_a_tool_that_leaves_settles_nothing() -> None:
    stage = Stage()
    exchange, _ = stage.open(ON)
    assert exchange.judge(ODD, stage.now) == Attempt(2, B, opinion=True)
    exchange.cancelled()
    assert causes(stage) == []
    assert stage.suspended() == {}
    assert stage.answer(ON, [ODD, OK]).sent == [A, B]


def test_a_silent_opinion_is_not_waited_for_longer_than_a_first_event() -> None:
    """There is a real reply in hand: it is given when the second one says nothing, though nobody else is left."""
    stage = Stage()
    exchange, _ = stage.open(ON, streamed=True)
    exchange.judge(ODD, stage.now)
    assert exchange.has_another(stage.now)
    assert exchange.ask_at(B, stage.now) == math.inf
    assert exchange.end_at(B, stage.now, stage.now) == stage.now + Budget().first_event
    assert exchange.judge(fault(FaultKind.SILENCE), stage.now) == Release(1)


def test_a_replay_that_the_owner_forbids_is_not_made() -> None:
    """A route's `actions: {unknown: {replay: false}}` holds for the second opinion too."""
    from understudy.model.pool import Override

    stage = Stage()
    on = replace(ON, actions=((Label.UNKNOWN, Override(replay=False)),))
    assert stage.answer(on, [ODD]).sent == [A]


# -- what can go wrong -------------------------------------------------------------------------------------------


def test_a_bad_request_that_is_sent_a_thousand_times_costs_one_extra_call_an_hour() -> None:
    """A tool's bug: at most one extra call per signature and hour, whatever stands in the quotes."""
    stage = Stage()
    sent = 0
    for number in range(1000):
        message = f"field 'x{number}' of item {number} is odd (request id req_{number:08x})"
        bad = reply(Label.REQUEST_INVALID, certain=False, message=message)
        exchange, step = stage.open(ON)
        while isinstance(step, Attempt):
            sent += 1
            step = exchange.judge(bad, stage.now)
        assert step == Release(1)
        stage.clock.now += 7.2
    assert stage.suspensions.learned.asked == 2  # two hours
    assert sent == 1000 + 2
    assert stage.suspended() == {}


def test_sixty_at_once_cost_one_extra_call() -> None:
    """While one call compares, the others wait for what it finds; then each gets the reply that it has itself."""
    stage = Stage()
    opened = [stage.open(ON)[0] for _ in range(60)]
    steps = [exchange.judge(BAD, stage.now) for exchange in opened]
    assert steps[0] == Attempt(2, B, opinion=True)
    assert all(isinstance(step, Wait) and step.seconds == COMPARED_WITHIN for step in steps[1:])
    assert not any(exchange.is_ready() for exchange in opened[1:])
    assert opened[0].judge(BAD, stage.now) == Release(1)
    for exchange in opened[1:]:
        assert exchange.is_ready()
        assert exchange.best == 1
        assert exchange.resume(stage.now) == Release(1)
    assert stage.suspensions.learned.asked == 1


def test_those_that_wait_are_rescued_together() -> None:
    """B answers the one that compares: the others go to B, without a second opinion of their own."""
    stage = Stage()
    first, second = stage.open(ON)[0], stage.open(ON)[0]
    first.judge(ODD, stage.now)
    second.judge(ODD, stage.now)
    stage.clock.now += 1
    assert first.judge(OK, stage.now) == Release(2)
    assert second.resume(stage.now) == Attempt(2, B)
    assert second.judge(OK, stage.now) == Release(2)
    assert stage.suspensions.learned.asked == 1


@pytest.mark.parametrize("gone", [True, False])
def test_those_that_wait_do_not_wait_for_ever(gone: bool) -> None:
    """The one that compares is given up, or takes too long: another one asks."""
    stage = Stage()
    first, second = stage.open(ON)[0], stage.open(ON)[0]
    first.judge(ODD, stage.now)
    second.judge(ODD, stage.now)
    if gone:
        first.cancelled()
        assert second.is_ready()
    else:
        stage.clock.now += COMPARED_WITHIN
    assert second.resume(stage.now) == Attempt(2, B, opinion=True)
    assert second.judge(OK, stage.now) == Release(2)
    assert second.waited == (0 if gone else COMPARED_WITHIN)


def test_who_may_not_wait_asks_itself() -> None:
    """A route without waiting time."""
    stage = Stage()
    on = route(A, B, budget=Budget(wait=0))
    first, second = stage.open(on)[0], stage.open(on)[0]
    first.judge(ODD, stage.now)
    assert second.judge(ODD, stage.now) == Attempt(2, B, opinion=True)


def test_two_that_are_broken_alike_by_accident() -> None:
    """Both have a broken base URL: nobody is out, both are asked at once when they are mended, and after an hour the
    question is asked anew, of whoever is well by then."""
    stage = Stage()
    lost = reply(Label.REQUEST_INVALID, status=404, certain=False)
    assert stage.answer(ON, [lost, lost]).end == Release(1)
    assert stage.answer(ON, [OK]).sent == [A]
    assert stage.answer(ON, [lost]).end == Release(1)
    stage.clock.now += HOUR
    played = stage.answer(ON, [lost, OK])
    assert played.end == Release(2)
    assert causes(stage) == [Cause.CANDIDATE]


def test_two_keys_of_one_account_do_not_outvote_another_vendor() -> None:
    """A and B are wrong together, C is well: C is asked, so the call is answered."""
    stage = Stage()
    assert stage.answer(route(A, B, C), [ODD, OK]).end == Release(2)
    assert stage.suspended() == {key(A): SHORT_STEP}
    assert stage.answer(route(A, B, C), [ODD, OK]).sent == [B, C]


def test_what_was_taken_for_the_candidates_own_can_turn_out_to_be_the_requests() -> None:
    """The next call with this reply is refused by the other one as well: nobody pays, and that is remembered."""
    stage = Stage()
    stage.answer(ON, [BAD, OK])
    stage.clock.now += SHORT_STEP
    played = stage.answer(ON, [BAD, BAD])
    assert played.sent == [A, B]
    assert played.end == Release(1)
    assert stage.suspended() == {}
    assert causes(stage) == [Cause.REQUEST]
    assert stage.answer(ON, [BAD]).sent == [A]


POLICIES = [
    "This request was stopped by our Trust and Safety systems.",
    "Your prompt violates the rules of this service.",
    "Сообщение нарушает политику использования",
    "您的内容包含敏感信息",
    "利用規約に違反する内容が含まれています",
    "O pedido viola as diretrizes da comunidade",
    "Verstoß gegen die Nutzungsrichtlinien",
    "La demande enfreint nos conditions",
]


@pytest.mark.parametrize("words", POLICIES)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_filter_in_words_that_no_rule_knows_is_not_led_round(words: str, status: int) -> None:
    """J03: what reads like a policy is not compared, in any language that relays use."""
    stage = Stage()
    said = reply(Label.UNKNOWN, status=status, certain=False, message=words)
    exchange, _ = stage.open(ON)
    step = exchange.judge(said, stage.now)
    assert step == Release(1)
    assert exchange.outcomes[0].verdict.rule == A_POLICY
    assert exchange.outcomes[0].verdict.label is Label.CONTENT_FILTERED
    assert (stage.suspended(), causes(stage)) == ({}, [])


def test_a_filter_that_looks_like_a_rejected_key_is_not_led_round_either() -> None:
    """J03: an open 403 whose words are a filter's suspends no credential; an open 500 is no overload then."""
    for label, status in ((Label.CREDENTIAL_REJECTED, 403), (Label.OVERLOADED, 500)):
        stage = Stage()
        said = reply(label, status=status, certain=False, message="Blocked by our content safety system")
        assert stage.answer(ON, [said]).end == Release(1)
        assert stage.suspended() == {}


@pytest.mark.parametrize("status", [401, 402, 429, 502, 503])
def test_a_limit_that_speaks_of_a_policy_is_a_limit(status: int) -> None:
    """These statuses say what they are about; a word such as `policy` in them is another policy."""
    stage = Stage()
    said = reply(Label.QUOTA_EXHAUSTED, status=status, certain=False, message="by the policy of your plan")
    assert stage.answer(ON, [said, OK]).sent == [A, B]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error":{"message":"このグループでは利用できる経路がありません","type":"relay_error"}}'),
        (403, '{"error":{"message":"Для этой группы нет доступных каналов"}}'),
        (400, '{"erro":{"mensagem":"Nenhum fornecedor dispon\\u00edvel para este plano"}}'),
        (404, '{"message":"O seu revendedor n\\u00e3o tem este servi\\u00e7o"}'),
    ],
)
def test_j07_a_relays_own_text_is_rescued_without_a_rule(status: int, body: str) -> None:
    """J07: judged by the shipped rules, in languages that none of them knows."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    exchange.ruleset = shipped()
    said = Reply(status, dialect="openai", model="m1", alias="gpt-5", body=body.encode())
    assert exchange.judge(said, stage.now) == Attempt(2, B, opinion=True)
    exchange.accept()
    assert stage.suspended() == {key(A): SHORT_STEP}


def unknown_words(status: int = 404) -> Reply:
    """A refusal that speaks of the model in words that no rule has."""
    said = b'{"error": {"message": "We looked behind the sofa for m1"}}'
    return Reply(status, dialect="openai", model="m1", alias="gpt-5", body=said)


def test_a_refusal_that_speaks_of_the_model_costs_the_short_step() -> None:
    """`fallback/model_unsupported`: the next candidate is asked, and the first is out for the short step."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    exchange.ruleset = shipped()
    step = exchange.judge(unknown_words(), stage.now)
    assert isinstance(step, Attempt) and (step.number, step.candidate) == (2, B)
    exchange.accept()
    assert stage.suspended() == {key(A): SHORT_STEP}


def test_said_by_all_it_costs_the_short_step_at_most() -> None:
    """Law 7: said by every candidate, it is the request's, and the tool gets a real reply."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    exchange.ruleset = shipped()
    exchange.judge(unknown_words(), stage.now)
    assert isinstance(exchange.judge(unknown_words(), stage.now), Release)
    assert all(seconds <= SHORT_STEP for seconds in stage.suspended().values())


TEXT = "The model does not exist: quota exceeded, invalid API key."
SOUND: dict[str, tuple[str, str, dict[str, object], dict[str, object]]] = {
    "chat": (
        "openai",
        CHAT,
        {"choices": [{"message": {"content": TEXT}}]},
        {"choices": [{"message": {"content": ""}}]},
    ),
    "chat with a stop": (
        "openai",
        CHAT,
        {"choices": [{"message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]},
    ),
    "completions": ("openai", "/completions", {"choices": [{"text": TEXT}]}, {"choices": []}),
    "responses": (
        "openai",
        RESPONSES,
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": TEXT}]}], "status": "completed"},
        {"output": [], "status": "completed"},
    ),
    "messages": (
        "anthropic",
        MESSAGES,
        {"type": "message", "content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn"},
        {"type": "message", "content": [], "stop_reason": "end_turn"},
    ),
    "gemini": (
        "gemini",
        GENERATE,
        {"candidates": [{"content": {"parts": [{"text": TEXT}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {}, "finishReason": "STOP"}]},
    ),
    "ollama": (
        "ollama",
        "/api/chat",
        {"message": {"role": "assistant", "content": TEXT}, "done": True, "done_reason": "stop"},
        {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ),
    "cohere": (
        "cohere",
        "/v2/chat",
        {"message": {"content": [{"type": "text", "text": TEXT}]}, "finish_reason": "COMPLETE"},
        {"message": {"content": []}, "finish_reason": "COMPLETE"},
    ),
}


@pytest.mark.parametrize(("dialect", "path", "answer", "nothing"), SOUND.values(), ids=SOUND)
def test_a_sound_answer_without_usage_is_asked_once(
    dialect: str, path: str, answer: dict[str, object], nothing: dict[str, object]
) -> None:
    """5b: output is an answer, with or without token counts, an id or a model. Without output, B is asked."""
    for body, is_sound in ((answer, True), (nothing, False)):
        stage = Stage()
        exchange, _ = stage.open(ON)
        exchange.ruleset = shipped()
        held = hold(dialect, path, streamed=False)
        assert fed(held, [json.dumps(body).encode()], JSON) is Held.REPLY
        step = exchange.judge(held.reply(), stage.now)
        assert step == (Release(1) if is_sound else Attempt(2, B, opinion=True))
        assert stage.suspended() == {}
        assert stage.suspensions.learned.asked == (0 if is_sound else 1)


# -- all alike ---------------------------------------------------------------------------------------------------

THREE = route(A, B, C)
ALIKE = {
    "403 of a foreign file": (REJECTED, Scope.CREDENTIAL),
    "402 for one too large prompt": (EMPTY, Scope.CREDENTIAL),
    "a refused model": (reply(Label.MODEL_UNSUPPORTED), Scope.CANDIDATE),
    "an open 402": (reply(Label.QUOTA_EXHAUSTED, status=402, certain=False), Scope.CREDENTIAL),
}
alike = pytest.mark.parametrize(("said", "scope"), ALIKE.values(), ids=ALIKE)


@alike
def test_j04_all_refuse_alike_so_the_request_is_the_suspect(said: Reply, scope: Scope) -> None:
    """J04: the short step only; the next other request is asked at once, and its success frees all of them."""
    stage = Stage()
    played = stage.answer(THREE, [said, said, said])
    assert stage.suspended() == {key(each, scope): SHORT_STEP for each in (A, B, C)}
    assert all(each.compared is Compared.ALIKE for each in played.exchange.outcomes)
    assert all(each.doubt for each in stage.suspensions)
    other = stage.answer(THREE, [OK])
    assert other.sent == [A]
    assert stage.suspended() == {}
    assert stage.suspensions.known() == []


def test_j04_an_mcp_server_that_fails() -> None:
    """J04: a 424 is no overload that all of them have: its second or two are no reason to wait."""
    stage = Stage()
    on = route(A, B, budget=Budget(wait=0))
    exchange, step = stage.open(on)
    while not isinstance(step, Release | Refuse):
        if isinstance(step, Wait):
            stage.clock.now += step.seconds
            step = exchange.resume(stage.now)
        else:
            step = exchange.judge(BUSY, stage.now)
    assert all(seconds <= SHORT_STEP for seconds in stage.suspended().values())
    assert len(stage.suspended()) >= 2
    assert stage.answer(on, [OK]).sent == [A]
    assert stage.suspended() == {}


@pytest.mark.parametrize("said", [REJECTED, EMPTY])
def test_j04_many_others_at_once_need_not_wait_for_one_another(said: Reply) -> None:
    """J04: nobody has to be a probe, and the first success frees them for good."""
    stage = Stage()
    stage.answer(THREE, [said, said, said])
    assert [stage.open(THREE)[1] for _ in range(5)] == [Attempt(1, A, early=True)] * 5
    stage.clock.now += SHORT_STEP
    assert stage.suspended() == {}
    assert [stage.open(THREE)[1] for _ in range(5)] == [Attempt(1, A)] * 5


@pytest.mark.parametrize(("certain", "most"), [(True, 0), (False, 2)])
def test_j04_others_that_are_limited_are_asked_once_in_a_step(certain: bool, most: int) -> None:
    """J04, W03: a limit that all of them share is not run against by every call; one that words state, by none."""
    stage = Stage()
    on = route(A, B, budget=Budget(wait=0))
    limit = reply(Label.RATE_LIMITED, certain=certain)
    for _ in range(6):  # 1, 2, 4, 8, 16 s, and then the short step
        stage.answer(on, [limit, limit])
        stage.clock.now += 1 + max(stage.suspended().values(), default=0.0)
    stage.answer(on, [limit, limit])
    assert max(stage.suspended().values()) <= SHORT_STEP
    stage.clock.now += 0.1
    asked = [stage.open(on)[1] for _ in range(5)]
    assert sum(isinstance(step, Attempt) for step in asked) <= most


def test_j04_a_reply_that_names_its_time_is_believed() -> None:
    """J04: a Retry-After, a reset: that is about the candidates, however many say so."""
    stage = Stage()
    quota = reply(Label.QUOTA_EXHAUSTED, retry_after="7200")
    stage.answer(ON, [quota, quota])
    assert stage.suspended() == {key(A, Scope.CREDENTIAL): 7200.0, key(B, Scope.CREDENTIAL): 7200.0}
    mixed = Stage()
    mixed.answer(ON, [EMPTY, quota])
    assert mixed.suspended() == {key(A, Scope.CREDENTIAL): HOUR, key(B, Scope.CREDENTIAL): 7200.0}


def test_j04_an_answer_makes_it_the_candidates_own() -> None:
    """As ever: A is out of quota and B answers, so A is out for as long as that lasts."""
    stage = Stage()
    stage.answer(THREE, [EMPTY, EMPTY, OK])
    assert stage.suspended() == {key(A, Scope.CREDENTIAL): HOUR, key(B, Scope.CREDENTIAL): HOUR}


def test_j04_another_label_confirms_what_words_made_certain() -> None:
    """What only a status says waits for an answer: B's other refusal of the request says nothing about A's key."""
    stage = Stage()
    stage.answer(ON, [REJECTED, reply(Label.REQUEST_INVALID)])
    assert stage.suspended() == {key(A, Scope.CREDENTIAL): 1800.0}
    unsure = Stage()
    unsure.answer(ON, [reply(Label.CREDENTIAL_REJECTED, status=403, certain=False), reply(Label.REQUEST_INVALID)])
    assert unsure.suspended() == {key(A, Scope.CREDENTIAL): SHORT_STEP}


def test_j04_one_credential_alone_casts_no_doubt() -> None:
    """Two credentials or more: two models of one are as they ever were."""
    stage = Stage()
    narrow = reply(Label.QUOTA_EXHAUSTED)
    stage.answer(route(A, A2), [narrow])
    assert stage.suspended() == {key(A, Scope.CREDENTIAL): HOUR}
    other = Stage()
    other.suspend(B)
    other.answer(route(A, B, budget=Budget(wait=0)), [narrow])
    assert other.suspended()[key(A, Scope.CREDENTIAL)] == HOUR


def test_j04_a_second_request_that_is_refused_alike_lengthens_nothing() -> None:
    """An agent that takes the foreign file along in every turn: 30 s from its last call, and others are served."""
    stage = Stage()
    for _ in range(5):
        stage.answer(THREE, [REJECTED, REJECTED, REJECTED])
        assert stage.suspended() == {key(each, Scope.CREDENTIAL): SHORT_STEP for each in (A, B, C)}
        stage.clock.now += 10
    assert stage.answer(THREE, [OK]).sent == [A]
    assert stage.suspended() == {}


def test_j04_a_success_that_is_older_than_the_doubt_ends_nothing() -> None:
    """F16: it began before."""
    stage = Stage()
    late, _ = stage.open(THREE)
    stage.answer(THREE, [EMPTY, EMPTY, EMPTY])
    late.judge(OK, stage.now)
    late.succeeded()
    assert len(stage.suspended()) == 3


def test_j04_what_fails_for_another_reason_is_in_doubt_no_more() -> None:
    """A is rejected alike with the others, and then runs into a limit that it names: that holds."""
    stage = Stage()
    stage.answer(ON, [REJECTED, REJECTED])
    stage.answer(ON, [reply(Label.QUOTA_EXHAUSTED, retry_after="5000"), OK])
    assert stage.suspended() == {key(A, Scope.CREDENTIAL): 5000.0}


def test_j04_a_hand_goes_before_a_doubt() -> None:
    """What a person has suspended stays out."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    exchange.judge(EMPTY, stage.now)
    stage.suspend(A, 600, scope=Scope.CREDENTIAL)
    exchange.judge(EMPTY, stage.now)
    assert stage.suspended()[key(A, Scope.CREDENTIAL)] == 600
    assert stage.open(ON)[1] == Attempt(1, B, early=True)


# -- width -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [REJECTED, EMPTY])
def test_j05_another_model_answered_on_that_credential(said: Reply) -> None:
    """J05: the candidate only; the other model of that credential is asked next."""
    stage = Stage()
    stage.answer(route(A2), [OK])
    stage.clock.now += 599
    played = stage.answer(route(A, A2, B), [said, OK])
    assert played.sent == [A, A2]
    assert set(stage.suspended()) == {key(A)}


def test_j05_it_answered_too_long_ago() -> None:
    """J05: ten minutes."""
    stage = Stage()
    stage.answer(route(A2), [OK])
    stage.clock.now += 601
    assert stage.answer(route(A, A2, B), [EMPTY, OK]).sent == [A, B]
    assert set(stage.suspended()) == {key(A, Scope.CREDENTIAL)}


def test_j05_a_second_model_that_is_refused_widens_it() -> None:
    """J05: M1 and then M2 are refused within ten minutes: the credential."""
    stage = Stage()
    stage.answer(route(A2), [OK])
    stage.answer(route(A, B), [EMPTY, OK])
    assert set(stage.suspended()) == {key(A)}
    stage.clock.now += 60
    stage.answer(route(A3, B), [EMPTY, OK])
    assert set(stage.suspended()) == {key(A), key(A, Scope.CREDENTIAL)}


def test_j05_an_answer_since_the_first_refusal_speaks_against_it() -> None:
    """J05, law 3: as wide as its evidence."""
    stage = Stage()
    stage.answer(route(A2), [OK])
    stage.answer(route(A, A2), [EMPTY, OK])
    stage.clock.now += 1
    stage.answer(route(A2), [OK])
    stage.answer(route(A3, B), [EMPTY, OK])
    assert set(stage.suspended()) == {key(A), key(A3)}


def test_j05_the_model_itself_proves_nothing_about_others() -> None:
    """J05: M1 answered a minute ago and is refused now: as ever, the credential."""
    stage = Stage()
    stage.answer(ON, [OK])
    stage.clock.now += 60
    stage.answer(ON, [EMPTY, OK])
    assert set(stage.suspended()) == {key(A, Scope.CREDENTIAL)}


def test_j05_another_secret_is_another_credential() -> None:
    """J05, F16: what answered with the old one says nothing about the new one; nor does a token count."""
    stage = Stage()
    stage.answer(route(A2), [OK])
    stage.suspensions.renew("a")
    stage.answer(route(A2), [OK], generating=False)
    stage.answer(ON, [EMPTY, OK])
    assert set(stage.suspended()) == {key(A, Scope.CREDENTIAL)}
