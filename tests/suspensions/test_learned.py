"""The table of lessons: its times, its bounds, and who compares (J06)."""

from __future__ import annotations

from tests.support.decisions import NOW, Clock
from understudy.model.verdict import Label
from understudy.suspensions.ladder import HOUR
from understudy.suspensions.learned import CLAIM, DAY, FIRST_RETRY, MOST, Cause, Learned, Lesson, Signature


def signature(number: int = 0, upstream: str = "up") -> Signature:
    """One of many."""
    return Signature(f"{number:012x}", upstream, "openai", 400)


def learn(learned: Learned, cause: Cause, number: int = 0, upstream: str = "up") -> Lesson:
    """A comparison came to this."""
    return learned.learn(signature(number, upstream), cause, Label.UNKNOWN, "rule", "a", "b")


def test_every_lesson_has_a_time_to_live() -> None:
    """J06: the request's fault for an hour, the candidate's for a day; being seen does not lengthen it."""
    clock = Clock()
    learned = Learned(clock)
    assert learn(learned, Cause.REQUEST).until == NOW + HOUR
    assert learn(learned, Cause.CANDIDATE, 1).until == NOW + DAY
    clock.now += HOUR - 1
    learned.saw(signature().id)
    known = learned.get(signature().id)
    assert known is not None
    assert (known.seen, known.last, known.until) == (2, clock.now, NOW + HOUR)
    clock.now += 1
    assert learned.get(signature().id) is None
    assert [each.cause for each in learned] == [Cause.CANDIDATE]
    learned.saw(signature().id)
    assert len(learned) == 1


def test_what_settles_nothing_is_tried_ever_more_rarely() -> None:
    """A minute, two, four ... an hour; a comparison that settles something begins anew."""
    clock = Clock()
    learned = Learned(clock)
    spans = [learn(learned, Cause.UNDECIDED).until - clock.now for _ in range(9)]
    assert spans == [FIRST_RETRY * 2**power for power in range(6)] + [HOUR] * 3
    learn(learned, Cause.REQUEST)
    assert learn(learned, Cause.UNDECIDED).tries == 1


def test_one_compares_at_a_time() -> None:
    """Until it is given up, or for ten minutes at most."""
    clock = Clock()
    learned = Learned(clock)
    assert learned.claim("x")
    assert not learned.claim("x")
    assert learned.claim("y")
    learned.give_up("x")
    learned.give_up("x")
    assert learned.claim("x")
    clock.now += CLAIM
    assert not learned.is_compared("x")
    assert learned.claim("x")


def test_j06_the_table_is_bounded() -> None:
    """J06: what was learnt longest ago goes first, however often it was seen."""
    learned = Learned(Clock())
    for number in range(MOST + 1):
        learn(learned, Cause.REQUEST, number)
        learned.saw(signature(0).id)
        learned.claim(str(number))
    assert len(learned) == MOST
    assert learned.get(signature(0).id) is None
    assert learned.get(signature(MOST).id) is not None
    assert len(learned._claims) == MOST


def test_forgetting_and_reloading() -> None:
    """O03: what was said at an upstream that is gone goes with it; the version tells of every change."""
    learned = Learned(Clock())
    learn(learned, Cause.REQUEST, 1, "here")
    learn(learned, Cause.REQUEST, 2, "gone")
    version = learned.version
    learned.retain(lambda name: name == "here")
    assert [each.signature.upstream for each in learned] == ["here"]
    assert learned.version > version
    assert learned.forget(signature(2).id) is None
    assert learned.forget(signature(1).id) is not None
    assert len(learned) == 0


def test_restoring() -> None:
    """What has expired stays away, and what is known by now is kept as it is."""
    clock = Clock()
    before = Learned(clock)
    lessons = [learn(before, Cause.REQUEST, 1), learn(before, Cause.CANDIDATE, 2)]
    after = Learned(clock)
    newer = learn(after, Cause.CANDIDATE, 1)
    assert after.restore(lessons) == 1
    assert after.get(signature(1).id) == newer
    clock.now += HOUR
    assert Learned(clock).restore(lessons) == 1
    clock.now -= 3 * DAY  # a clock that was wrong
    assert Learned(clock).restore(lessons) == 0


def test_every_change_and_every_outcome_is_counted() -> None:
    """O03: what is learnt, and what comes back, is written; being seen again is written with the next change."""
    learned = Learned(Clock())
    versions = [learned.version]
    for number, cause in enumerate((Cause.REQUEST, Cause.REQUEST, Cause.CANDIDATE)):
        learn(learned, cause, number)
        versions.append(learned.version)
    assert sorted(set(versions)) == versions
    learned.saw(signature(0).id)
    assert learned.version == versions[-1]
    assert learned.outcomes == {Cause.REQUEST: 2, Cause.CANDIDATE: 1}
    assert learned.forget(signature(9).id) is None
    assert learned.version == versions[-1]
    assert learned.forget(signature(1).id) is not None
    assert learned.version > versions[-1]
    assert learned.asked == 0


def test_the_latest_lesson_comes_first() -> None:
    """Also where it was learnt before: learning it again makes it the latest."""
    learned = Learned(Clock())
    for number in (1, 2, 1):
        learn(learned, Cause.REQUEST, number)
    assert [each.signature.id for each in learned] == [signature(1).id, signature(2).id]
    assert [(each.seen, each.tries) for each in learned] == [(1, 0), (1, 0)]


def test_a_claim_holds_while_the_clock_is_set_back_a_little() -> None:
    """Law 10: and is over when it was set back far."""
    clock = Clock()
    learned = Learned(clock)
    learned.claim("x")
    clock.now -= CLAIM - 1
    assert learned.is_compared("x")
    clock.now -= 1
    assert not learned.is_compared("x")


def test_what_is_restored_holds_for_a_day_at_most() -> None:
    """A lesson of exactly a day is believed, and a version says that something has come."""
    clock = Clock()
    before, after = Learned(clock), Learned(clock)
    lesson = learn(before, Cause.CANDIDATE, 1)
    assert after.restore([lesson]) == 1
    assert after.version > 0
    clock.now -= 1
    assert Learned(clock).restore([lesson]) == 0
