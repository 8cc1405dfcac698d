"""What comparing candidates has taught, for people: listed, explained, deleted, and made into drafts of rules.

A lesson holds no word of a prompt and no secret (``failover.signatures``), so all of it may be shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.authoring import DraftError, NewRuleError, Saved, make_draft
from understudy.config import suggestion
from understudy.control.target import ControlError
from understudy.model import Label, printable
from understudy.replies import Reply
from understudy.suspensions import Cause, Learned, Lesson, Signature

FORMS = "`learned`, `learned show ID`, `learned forget ID`, `learned forget all` or `learned draft ID [LABEL]`"
MOST_TOLD = 200
"""How many lessons are listed; of more, their number."""
MODEL = "the-model"
"""The model in the example of a draft: which one it was is not known any more."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A lesson. ``seconds``: how long it still holds; ``words``: see :class:`Signature`."""

    id: str
    upstream: str
    status: int
    code: str
    type: str
    words: str
    cause: Cause
    label: str
    rule: str
    speaker: str
    witness: str
    since: float
    until: float
    seconds: float
    seen: int
    last: float


@dataclass(frozen=True, slots=True)
class Opinions:
    """Second opinions since the proxy started: attempts that were made for nothing else, and what they came to.

    ``answered``: the other candidate answered; ``refused``: it refused too; ``undecided``: it could not tell.
    """

    asked: int = 0
    answered: int = 0
    refused: int = 0
    undecided: int = 0


@dataclass(frozen=True, slots=True)
class LearnedList:
    """Everything that is known, the latest first. ``more``: how many are left out."""

    now: float
    opinions: Opinions
    lessons: tuple[Learnt, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class LearnedShown:
    """One lesson, to be explained."""

    now: float
    lesson: Learnt


@dataclass(frozen=True, slots=True)
class LearnedForgotten:
    """What was deleted."""

    now: float
    lessons: tuple[Learnt, ...]


@dataclass(frozen=True, slots=True)
class LearnedDraft:
    """The text of a rule's draft."""

    id: str
    text: str


type LearnedResult = LearnedList | LearnedShown | LearnedForgotten | LearnedDraft


def opinions_of(learned: Learned) -> Opinions:
    """How many second opinions there were, and what they came to."""
    counts = learned.outcomes
    return Opinions(learned.asked, counts[Cause.CANDIDATE], counts[Cause.REQUEST], counts[Cause.UNDECIDED])


def listed(learned: Learned) -> LearnedList:
    """Everything that is known."""
    now, lessons = learned.clock(), list(learned)
    told = tuple(_learnt(each, now) for each in lessons[:MOST_TOLD])
    return LearnedList(now, opinions_of(learned), told, len(lessons) - len(told))


def answer(learned: Learned, words: Sequence[str]) -> LearnedResult:
    """Follow ``learned WORDS``. Raises ControlError."""
    now = learned.clock()
    match list(words):
        case []:
            return listed(learned)
        case ["show", identity]:
            return LearnedShown(now, _learnt(_find(learned, identity), now))
        case ["forget", "all"]:
            lessons = list(learned)
            for each in lessons:
                learned.forget(each.signature.id)
            return LearnedForgotten(now, tuple(_learnt(each, now) for each in lessons))
        case ["forget", identity]:
            lesson = _find(learned, identity)
            learned.forget(lesson.signature.id)
            return LearnedForgotten(now, (_learnt(lesson, now),))
        case ["draft", identity, *rest] if len(rest) <= 1:
            return _draft(_find(learned, identity), rest[0] if rest else "")
    raise ControlError(f"that is no use of `learned`: write {FORMS}")


def _find(learned: Learned, identity: str) -> Lesson:
    """The lesson whose id begins so."""
    found = [each for each in learned if each.signature.id.startswith(identity)] if identity else []
    if len(found) == 1:
        return found[0]
    if found:
        raise ControlError(f"{len(found)} signatures begin with `{printable(identity)}`: write more of the id")
    raise ControlError(f"no signature begins with `{printable(identity)}`: `learned` lists what is known")


def _learnt(lesson: Lesson, now: float) -> Learnt:
    signature = lesson.signature
    return Learnt(
        signature.id,
        signature.upstream,
        signature.status,
        signature.code,
        signature.type,
        signature.words,
        lesson.cause,
        lesson.label.value,
        lesson.rule,
        lesson.speaker,
        lesson.witness,
        lesson.since,
        lesson.until,
        max(0.0, lesson.until - now),
        lesson.seen,
        lesson.last,
    )


def _draft(lesson: Lesson, label: str) -> LearnedDraft:
    wanted = label or (Label.REQUEST_INVALID.value if lesson.cause is Cause.REQUEST else "")
    known = [each.value for each in Label if each not in (Label.OK, Label.UNKNOWN)]
    if wanted not in known:
        what = f"`{printable(label)}` is no label that a rule gives" if label else "whose fault it is says no label"
        raise ControlError(f"{what}: {suggestion(label, known)}")
    signature = lesson.signature
    vendor = re.sub(r"[^a-z0-9]+", "_", signature.upstream.lower()).strip("_") or "learned"
    saved, source = Saved(_reply(signature)), f"seen at {signature.upstream}, signature {signature.id}"
    try:
        return LearnedDraft(signature.id, make_draft(saved, f"{vendor}/{wanted}", Label(wanted), source))
    except (DraftError, NewRuleError) as error:
        raise ControlError(f"no rule can be made of {signature.id}: {error}") from None


def _reply(signature: Signature) -> Reply:
    """A reply that is as the signature says, for the example of a draft."""
    words = signature.words.replace("…", "...").replace("{model}", MODEL)
    error = {"message": words, "code": signature.code, "type": signature.type}
    body = json.dumps({"error": {key: value for key, value in error.items() if value}}, ensure_ascii=False).encode()
    return Reply(signature.status, dialect=signature.dialect, model=MODEL, alias=MODEL, body=body)
