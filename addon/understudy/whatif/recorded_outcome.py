"""What happened to a recorded call, as far as the file tells, and whether it would happen again.

Files say it in different ways: understudy notes each attempt in the flow's metadata, earlier versions only who
answered, and other recorders nothing but the reply. All of it comes from a file, so nothing in it is taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from understudy.codec.time_text import duration
from understudy.flows.traits import number_of, text_of
from understudy.model import printable
from understudy.whatif.recorder import RecordedCall
from understudy.whatif.result import End, Played

MOST = 50
"""Attempts, skipped candidates and waits that are read of one flow."""


@dataclass(frozen=True, slots=True)
class NotedAttempt:
    """An attempt as understudy noted it; ``suspended`` in words, "" when nothing was."""

    number: int
    credential: str
    model: str
    label: str
    rule: str
    evidence: str = ""
    suspended: str = ""
    again: bool = False
    open: bool = False

    def __str__(self) -> str:
        return f"{self.credential} {self.model}"


def noted_attempts(call: RecordedCall) -> list[NotedAttempt]:
    """The attempts that understudy noted; empty when it noted none."""
    return [
        NotedAttempt(
            number_of(each, "number"),
            _word(each, "credential"),
            _word(each, "model"),
            _word(each, "label"),
            _word(each, "rule"),
            _word(each, "evidence"),
            _suspended(each.get("suspended")),
            each.get("again") is True,
            each.get("open") is True,
        )
        for each in _mappings(call.facts.get("tried"))
    ]


def noted_skips(call: RecordedCall) -> list[tuple[str, str]]:
    """Who was skipped then and why, as understudy noted it."""
    skipped = _mappings(call.facts.get("skipped"))
    return [(f"{_word(each, 'credential')} {_word(each, 'model')}", _word(each, "why")) for each in skipped]


def noted_waits(call: RecordedCall) -> list[tuple[int, str]]:
    """The waits then, as understudy noted them: before which attempt, and how long and why in words."""
    return [
        (number_of(each, "before"), f"{span}: {_word(each, 'why')}")
        for each in _mappings(call.facts.get("waits"))
        if (span := _span(each.get("seconds"), "{:.1f}s"))
    ]


def was_noted(call: RecordedCall) -> bool:
    """Whether understudy itself recorded this call."""
    return bool(call.facts)


def then(call: RecordedCall) -> str:
    """What happened, in words: who was tried, and what the tool got."""
    tried = [f"{each} {each.label}" for each in noted_attempts(call)]
    if not tried and (attempts := number_of(call.facts, "attempts")) > 1:
        tried = [f"{attempts} attempts"]
    return "; ".join([*([", ".join(tried)] if tried else []), got(call)])


def got(call: RecordedCall) -> str:
    """What the tool got, in words."""
    if call.own:
        return f"understudy answered itself with HTTP {call.status}"
    if call.status:
        credential = _word(call.facts, "credential")
        return f"the tool got HTTP {call.status}" + (
            f" of {credential} {_word(call.facts, 'model')}" if credential else ""
        )
    return "the tool went away" if call.gone else "the tool got no reply"


def failed_then(call: RecordedCall) -> bool:
    """Whether the tool was left without an answer then, other than by going away itself."""
    return not call.gone and not 200 <= call.status < 400


def differs(played: Played) -> bool:
    """Whether the current pool and rules decide otherwise than what happened, as far as the file tells."""
    call = played.call
    if played.end is End.UNRECORDED:
        return False
    if played.end is End.UNROUTED:
        return bool(_word(call.facts, "route"))
    now = [(str(each.outcome.attempt.candidate), each.outcome.verdict.label.value) for each in played.tried]
    if noted := noted_attempts(call):
        before = [(str(each), each.label) for each in noted]
        if played.asked is None:
            return now != before
        asked = [str(each) for each in noted][len(now) : len(now) + 1]
        return now != before[: len(now)] or asked != [str(played.asked.candidate)]
    if credential := _word(call.facts, "credential"):
        if played.asked is not None:
            return False  # what came before the answer is not in the file
        answer = f"{credential} {_word(call.facts, 'model')}"
        alone = number_of(call.facts, "attempts") == 1  # of more than one it is not known whose they were
        return [name for name, _ in now][-1:] != [answer] or (alone and len(now) > 1)
    return played.end in (End.RESCUED, End.OPEN, End.REFUSED) or bool(played.waits)


def _suspended(found: object) -> str:
    if not isinstance(found, dict) or not (span := _span(found.get("seconds"))):
        return ""
    hint = f", as {_word(found, 'hint')} said" if found.get("hint") else ""
    return f"{_word(found, 'what')} for {span}{hint}"


def _span(seconds: object, form: str = "") -> str:
    """A time span from a file in words; "" when it is none."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return ""
    return form.format(seconds) if form else duration(seconds)


def _mappings(found: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in (found[:MOST] if isinstance(found, list | tuple) else ()) if isinstance(each, dict))


def _word(facts: Mapping[str, Any], key: str) -> str:
    """A text from a file, on one line and without anything that a terminal would obey."""
    return printable(text_of(facts, key))
