"""What comparing has taught, by command: listed, explained, deleted, drafted as rules (J06)."""

from __future__ import annotations

import json

import pytest

from tests.control.test_control import Desk
from tests.support.decisions import NOW, reply
from understudy.codec.steady_clock import SteadyClock
from understudy.control.learned import MOST_TOLD, LearnedList, listed
from understudy.control.result_text import as_json, as_lines
from understudy.control.target import ControlError
from understudy.failover.exchange import Exchange
from understudy.failover.steps import Attempt, Request, Step, Wait
from understudy.model.verdict import Label
from understudy.rules import parse_rule
from understudy.suspensions import Cause, Learned, Signature

ODD = "Seat 17 is not staffed today"
PROMPT = "Tell me about the Aldebaran takeover"


def signature(number: int) -> Signature:
    """One of many."""
    return Signature(f"{number:012x}", "openai", "openai", 400, words="flux is off")


def compare(desk: Desk, message: str = ODD, *, answered: bool = False, certain: bool = False) -> None:
    """A call that the first candidate refuses in these words; the second one answers, or refuses too."""
    snapshot = desk.engine.snapshot
    assert snapshot is not None
    asked = json.dumps({"messages": [{"content": PROMPT}]}).encode()
    request = Request("gpt-5", True, False, {}, asked=lambda: asked)
    lineup = snapshot.selector.lineup(snapshot.pool.routes["gpt-5"], "gpt-5", "openai")
    exchange = Exchange(request, lineup, snapshot.selector, snapshot.ruleset, desk.clock.now, desk.engine.random)
    step: Step = exchange.begin(desk.clock.now)
    said = reply(Label.REQUEST_INVALID, certain=certain, message=message)
    while isinstance(step, Attempt | Wait):
        assert isinstance(step, Attempt)
        step = exchange.judge(reply(Label.OK) if answered and step.opinion else said, desk.clock.now)


def test_j06_listed() -> None:
    """J06: the latest first, whose fault it is, how long that holds, and what it has cost."""
    desk = Desk()
    assert desk.text("learned").splitlines() == [
        "nothing was learnt by comparison",
        "second opinions: 0 asked (the other answered 0, refused too 0, could not tell 0)",
    ]
    compare(desk)
    desk.clock.now += 60
    compare(desk)
    compare(desk, "the flux is out of phase", answered=True)
    first, second, counts = desk.text("learned").splitlines()
    assert first.endswith(
        "openai HTTP 400: the flux is out of phase: the candidate's own fault, for another 24h, seen 1"
    )
    assert second.endswith("openai HTTP 400: seat … is not staffed today: the request's fault, for another 59m, seen 2")
    assert counts == "second opinions: 2 asked (the other answered 1, refused too 1, could not tell 0)"
    assert counts in desk.text("status")


def test_j06_explained() -> None:
    """J06: who said it, who was asked, what follows, and what to do about it."""
    desk = Desk()
    compare(desk)
    [lesson] = desk.run("learned").lessons
    text = desk.text(f"learned show {lesson.id[:5]}")
    assert "work said so, and nothing but request_invalid by test/request_invalid was known of it" in text
    assert "router refused the same request too: it is the request's fault" in text
    assert f"`pool.learned forget {lesson.id}` deletes it" in text
    compare(desk, "the flux is out of phase", answered=True)
    answered = desk.run("learned").lessons[0]
    assert "if that answers, the first is suspended for 30s" in desk.text(f"learned show {answered.id}")


def test_j06_deleted() -> None:
    """J06: by its id or the beginning of it, or all at once; then it is compared again."""
    desk = Desk()
    compare(desk)
    compare(desk, "the flux is out of phase")
    latest = desk.run("learned").lessons[0]
    assert desk.text(f"learned forget {latest.id}") == f"forgotten: {latest.id} openai HTTP 400: {latest.words}"
    compare(desk, "the flux is out of phase")
    assert desk.run("learned").opinions.asked == 3
    assert len(desk.text("learned forget all").splitlines()) == 2
    assert desk.text("learned forget all") == "nothing was known"


def test_j06_drafted_as_a_rule() -> None:
    """J06: a file that loads, and matches what was said; of a candidate's fault a person says what it means."""
    desk = Desk()
    compare(desk)
    compare(desk, "the flux is out of phase", answered=True)
    own, request = desk.run("learned").lessons
    text = desk.run(f"learned draft {request.id}").text
    rule = parse_rule(text, "draft", "openai/request_invalid")
    assert rule.label is Label.REQUEST_INVALID
    assert rule.matches_reply(rule.matches[0].reply)
    assert "is not staffed today" in text
    with pytest.raises(ControlError, match="whose fault it is says no label"):
        desk.run(f"learned draft {own.id}")
    with pytest.raises(ControlError, match="`odd` is no label that a rule gives"):
        desk.run(f"learned draft {own.id} odd")
    assert "label: model_unsupported" in desk.text(f"learned draft {own.id} model_unsupported")


def test_j06_a_signature_without_words_makes_no_rule() -> None:
    desk = Desk()
    compare(desk, "17")
    [lesson] = desk.run("learned").lessons
    with pytest.raises(ControlError, match="no rule can be made of"):
        desk.run(f"learned draft {lesson.id}")


@pytest.mark.parametrize("words", ["learned odd", "learned show", "learned show 1 2", "learned draft 1 2 3"])
def test_what_is_no_use_of_it_is_said(words: str) -> None:
    with pytest.raises(ControlError, match="learned"):
        Desk().run(words)


def test_an_id_that_is_not_clear_is_said() -> None:
    desk = Desk()
    for number in (1, 2):
        desk.engine.suspensions.learned.learn(signature(number), Cause.REQUEST, Label.UNKNOWN, "r", "a", "b")
    with pytest.raises(ControlError, match="2 signatures begin with `0`"):
        desk.run("learned show 0")
    with pytest.raises(ControlError, match="no signature begins with `ff`"):
        desk.run("learned show ff")


def test_j06_what_is_told_is_bounded() -> None:
    """J06: of more, their number; as JSON, and on the pool page."""
    desk = Desk()
    for number in range(MOST_TOLD + 5):
        desk.engine.suspensions.learned.learn(signature(number), Cause.REQUEST, Label.UNKNOWN, "r", "a", "b")
    result = desk.run("learned")
    assert isinstance(result, LearnedList)
    assert (len(result.lessons), result.more) == (MOST_TOLD, 5)
    assert "and 5 more" in desk.text("learned")
    told = json.loads(as_json(desk.run("status")))["learned"]
    assert (len(told["lessons"]), told["lessons"][0]["cause"], told["lessons"][0]["since"]) == (200, "request", NOW)


def test_the_page_hears_of_what_is_learnt() -> None:
    """J06: its version changes when something is learnt or forgotten."""
    desk = Desk()
    versions = [desk.control.view.version()]
    compare(desk)
    versions.append(desk.control.view.version())
    desk.run("learned forget all")
    versions.append(desk.control.view.version())
    assert len(set(versions)) == 3


def test_j06_no_word_of_the_prompt_is_told() -> None:
    """J06: whatever the error repeats of it, in every text that there is."""
    desk = Desk()
    compare(desk, f"No takeover of Aldebaran: {PROMPT}")
    [lesson] = desk.run("learned").lessons
    words = ["learned", f"learned show {lesson.id}", "status", f"learned forget {lesson.id}"]
    told = "\n".join(text for each in words for text in (desk.text(each), as_json(desk.run("learned"))))
    assert not any(word in told.lower() for word in ("aldebaran", "takeover"))
    assert as_lines(desk.run("learned"), "understudy ")


def test_what_is_in_doubt_says_so() -> None:
    """J04: everybody refused one request alike, and others are asked at once."""
    desk = Desk()
    snapshot = desk.engine.snapshot
    assert snapshot is not None
    lineup = snapshot.selector.lineup(snapshot.pool.routes["gpt-5"], "gpt-5", "openai")
    request = Request("gpt-5", True, False, {})
    exchange = Exchange(request, lineup, snapshot.selector, snapshot.ruleset, desk.clock.now, desk.engine.random)
    step: Step = exchange.begin(desk.clock.now)
    while isinstance(step, Attempt):
        step = exchange.judge(reply(Label.QUOTA_EXHAUSTED), desk.clock.now)
    text = desk.text("status")
    assert text.count("in doubt: every candidate refused one request alike, so others are asked at once") == 3
    assert all(entry.doubt for entry in desk.run("status").entries)


def test_j06_times_are_wall_time_whatever_was_done_to_the_clock() -> None:
    """J06, H06: lessons count on the steady clock; people are told wall time."""
    wall = [NOW]
    clock = SteadyClock(lambda: wall[0], lambda: 0.0)
    learned = Learned(clock)
    learned.learn(signature(1), Cause.REQUEST, Label.REQUEST_INVALID, "test/request_invalid", "work", "router")
    wall[0] += 3600
    told = listed(learned)
    assert told.now == NOW + 3600
    assert (told.lessons[0].since, told.lessons[0].last) == (NOW + 3600, NOW + 3600)
    assert told.lessons[0].until == told.now + told.lessons[0].seconds
