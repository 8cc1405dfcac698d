"""What comparing candidates has taught: whose fault a reply with a certain signature was, for a while.

A signature is what stays the same in one error for different requests: upstream, status, code, type and the words of
its message. ``failover.signatures`` makes it; nothing in it comes from a prompt or is a secret. The table is bounded,
and every entry has a time to live, so that a wrong lesson ends by itself. Time comes from an injected clock, in
seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from understudy.model import Label
from understudy.suspensions.ladder import HOUR, MINUTE, doubling, seconds_of

DAY = 24 * HOUR
FIRST_RETRY = MINUTE
"""Seconds until a comparison that settled nothing is made again; twice as long each time, up to an hour."""
UNDECIDED = doubling(FIRST_RETRY, HOUR)
CLAIM = 600.0
"""Seconds after which a comparison that never ended no longer keeps others from being made."""
MOST = 1000
"""How many signatures are remembered; the one that was learnt longest ago goes."""


class Cause(StrEnum):
    """Whose fault a reply was."""

    REQUEST = "request"  # another candidate refused the same request too
    CANDIDATE = "candidate"  # another candidate answered the same request
    UNDECIDED = "undecided"  # the other one could not tell


@dataclass(frozen=True, slots=True)
class Signature:
    """What stays the same in one error. ``id`` tells signatures apart; the rest is for people and for rules.

    ``code``, ``type`` and ``words`` are in lower case; in ``words``, ``…`` stands for what was taken out and
    ``{model}`` for the model.
    """

    id: str
    upstream: str
    dialect: str
    status: int
    code: str = ""
    type: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is remembered of a signature.

    ``speaker`` and ``witness``: the credentials of the candidate that said it and of the one that was asked as well.
    ``label`` and ``rule``: the open verdict. ``since``, ``until`` and ``last`` are readings of the clock; ``seen``: how
    often the reply came since; ``tries``: how many comparisons in a row settled nothing.
    """

    signature: Signature
    cause: Cause
    label: Label
    rule: str
    speaker: str
    witness: str
    since: float
    until: float
    seen: int = 1
    last: float = 0.0
    tries: int = 0


class Learned:
    """The lessons, by the id of their signature."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.version = 0
        """Changes with every lesson that comes or goes."""
        self.asked = 0
        """How many second opinions were asked for: attempts that were made for nothing else."""
        self.outcomes: Counter[Cause] = Counter()
        """What these came to."""
        self._lessons: dict[str, Lesson] = {}
        self._claims: dict[str, float] = {}
        """Signatures that an exchange compares right now, since when."""

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Lesson]:
        """The lessons that hold, the latest first."""
        now = self.clock()
        yield from [each for each in reversed(self._lessons.values()) if now < each.until]

    # -- questions -----------------------------------------------------------------------------------------------

    def get(self, identity: str) -> Lesson | None:
        """What is known of a signature, None when nothing is, or not any more."""
        lesson = self._lessons.get(identity)
        return lesson if lesson is not None and self.clock() < lesson.until else None

    def is_compared(self, identity: str) -> bool:
        """Whether an exchange compares this signature right now."""
        since = self._claims.get(identity)
        return since is not None and abs(self.clock() - since) < CLAIM

    # -- changes -------------------------------------------------------------------------------------------------

    def claim(self, identity: str) -> bool:
        """Begin to compare; False where another exchange does already."""
        if self.is_compared(identity):
            return False
        self._claims[identity] = self.clock()
        if len(self._claims) > MOST:
            del self._claims[next(iter(self._claims))]
        return True

    def give_up(self, identity: str) -> None:
        """A comparison has ended, whatever it came to."""
        self._claims.pop(identity, None)

    def saw(self, identity: str) -> None:
        """A reply came whose signature is known. That does not lengthen the lesson."""
        if (lesson := self.get(identity)) is not None:
            # Where it stands in the table does not change: what was learnt longest ago goes first.
            self._lessons[identity] = replace(lesson, seen=lesson.seen + 1, last=self.clock())

    def learn(self, signature: Signature, cause: Cause, label: Label, rule: str, speaker: str, witness: str) -> Lesson:
        """A comparison came to this."""
        now, before = self.clock(), self._lessons.get(signature.id)
        tries, lifetime = 0, HOUR if cause is Cause.REQUEST else DAY
        if cause is Cause.UNDECIDED:
            tries = before.tries + 1 if before is not None else 1
            lifetime = seconds_of(UNDECIDED, tries - 1)
        lesson = Lesson(signature, cause, label, rule, speaker, witness, now, now + lifetime, 1, now, tries)
        self.outcomes[cause] += 1
        self.put(lesson)
        return lesson

    def put(self, lesson: Lesson) -> None:
        """Remember a lesson as it is."""
        self._lessons.pop(lesson.signature.id, None)
        self._lessons[lesson.signature.id] = lesson
        if len(self._lessons) > MOST:
            del self._lessons[next(iter(self._lessons))]
        self.version += 1

    def forget(self, identity: str) -> Lesson | None:
        """Forget what is known of a signature; returns it, None when nothing was."""
        known = self.get(identity)
        if self._lessons.pop(identity, None) is not None:
            self.version += 1
        return known

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Forget what was said at upstreams that are not wanted any more, by their names (O03)."""
        for identity in [each for each, lesson in self._lessons.items() if not wanted(lesson.signature.upstream)]:
            self.forget(identity)

    def restore(self, lessons: Iterable[Lesson]) -> int:
        """Remember again what an earlier process had learnt, the earliest first; returns how many hold."""
        now, count = self.clock(), 0
        for lesson in lessons:
            if now < lesson.until <= now + DAY and lesson.signature.id not in self._lessons:
                self.put(lesson)
                count += 1
        return count
