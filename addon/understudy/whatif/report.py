"""What `understudy replay` says of a call: a few lines, or one JSON object.

Everything here is made of texts that may come from a stranger's file. They are on one line each, and whoever prints
them cleans them first (:meth:`masks.Masks.clean`).
"""

from __future__ import annotations

import time

from understudy.codec.time_text import duration
from understudy.failover import Outcome, Wait
from understudy.model import Label, counted, printable
from understudy.whatif.recorded_outcome import differs, failed_then, got, noted_attempts, then
from understudy.whatif.recorder import RecordedCall
from understudy.whatif.result import End, Played, Tried

type Json = dict[str, object]


def lines_of(played: Played, *, several: bool) -> list[str]:
    """A call in words; one line when it was answered at once, as it was then. ``several``: there are several files."""
    call = played.call
    head = f"{name_of(call, several=several)} {clock_time(call.began)} {printable(call.call.alias)}"
    if played.end is End.UNROUTED:
        was = f"; then {then(call)}" if differs(played) else ""
        return [f"{head}: no route, passes as it is{was}"]
    if played.end is End.ANSWERED and not (played.skipped or played.waits or differs(played)):
        return [f"{head}: {attempt_line(played.tried[0])}"]
    lines = [f"{head} by route {played.route}"]
    lines += [f"    skipped  {skip.candidate}: {skip.why}" for skip in played.skipped]
    lines += [f"    {line}" for line in trail(played)]
    lines.append(f"    now      {now(played)}")
    if differs(played):
        lines.append(f"    then     {then(call)}")
    return lines


def trail(played: Played) -> list[str]:
    """Attempts and waits, in their order."""
    return [
        f"waited   {each.seconds:.1f}s: {each.reason}" if isinstance(each, Wait) else f"asked    {attempt_line(each)}"
        for each in played.trail
    ]


def attempt_line(tried: Tried) -> str:
    """``home gpt-5: rate_limited by general/rate_limited, suspended 20s: HTTP 429: slow down``."""
    outcome = tried.outcome
    again = " again" if outcome.attempt.repeat else " (second opinion)" if outcome.attempt.opinion else ""
    again += " (drill)" if outcome.attempt.drilled else ""
    verdict = outcome.verdict
    said = "ok"
    if verdict.label is not Label.OK:
        said = f"{verdict.in_words}{_suspended(outcome)}: {verdict.evidence}"
    line = f"{outcome.attempt.candidate}{again}: {said}"
    return f"{line} (the recorded reply of {tried.recorded.credential} stands for it)" if tried.stands_in else line


def _suspended(outcome: Outcome) -> str:
    if outcome.suspension is None:
        return ""
    scope = outcome.suspension.key.scope
    what = "" if scope == "candidate" else f"{scope} "
    return f", {what}suspended {duration(outcome.suspension.until - outcome.suspension.since)}"


def now(played: Played) -> str:
    """How the exchange ends, in words."""
    match played.end:
        case End.ANSWERED | End.RESCUED if played.answer is not None:
            verb = "answered" if played.end is End.ANSWERED else "rescued"
            return f"{verb} by {played.answer.attempt.candidate}"
        case End.FAILED if played.answer is not None:
            return f"failed: the tool gets HTTP {played.answer.status} of {played.answer.attempt.candidate}"
        case End.REFUSED if played.refusal is not None:
            return f"refused: understudy answers itself with HTTP {played.refusal.status}"
        case End.OPEN if played.asked is not None:
            again = "once more" if played.asked.repeat else "next" if played.tried else "first"
            if played.asked.opinion:
                again = "for a second opinion"
            if played.asked.left_out:
                again += f" without {counted(played.asked.left_out, 'sealed part')} that it cannot read"
            line = f"open: {played.asked.candidate} is asked {again}, and what it would say is not recorded"
            line += f" ({played.witness})" if played.witness else ""
            if played.asked.opinion:
                first = played.tried[-1].outcome
                return f"{line}; if it refuses too, the tool gets HTTP {first.status} of {first.attempt.candidate}"
            return f"{line}; after it {', '.join(played.free)}" if played.free else line
    return str(played.end) if played.end is not End.UNRECORDED else f"unrecorded: {got(played.call)}"


def json_of(played: Played) -> Json:
    """A call as one JSON object."""
    call = played.call
    found: Json = {
        "file": call.file,
        "flow": call.flow,
        "id": call.id,
        "time": round(call.began, 3),
        "alias": printable(call.call.alias),
        "dialect": call.recognised.dialect.name,
        "endpoint": call.recognised.endpoint.name,
        "streamed": call.call.streamed,
        "route": played.route or None,
        "candidates": list(played.candidates),
        "skipped": [{"candidate": skip.candidate, "why": skip.why} for skip in played.skipped],
        "tried": [_tried(each) for each in played.tried],
        "waits": [{"seconds": round(wait.seconds, 3), "why": wait.reason} for wait in played.waits],
        "end": str(played.end),
        "answer": str(played.answer.attempt.candidate) if played.answer is not None else None,
        "asked": str(played.asked.candidate) if played.asked is not None else None,
        "free": list(played.free),
        "witness": played.witness or None,
        "then": {
            "status": call.status or None,
            "own_answer": call.own,
            "tried": [{"candidate": str(each), "label": each.label} for each in noted_attempts(call)],
        },
        "differs": differs(played),
    }
    if played.refusal is not None:
        found["refusal"] = {"status": played.refusal.status, "retry_after": played.refusal.retry_after}
    return found


def _tried(tried: Tried) -> Json:
    outcome = tried.outcome
    suspension = outcome.suspension
    found: Json = {
        "candidate": str(outcome.attempt.candidate),
        "again": outcome.attempt.repeat,
        "second_opinion": outcome.attempt.opinion,
        "drill": outcome.attempt.drilled,
        "compared": outcome.compared.value if outcome.compared is not None else None,
        "status": tried.recorded.status or None,
        "label": str(outcome.verdict.label),
        "rule": outcome.verdict.rule,
        "open": outcome.verdict.is_open,
        "evidence": outcome.verdict.evidence,
        "recorded_in_flow": tried.recorded.flow,
        "recorded_of": tried.recorded.credential or None,
    }
    if suspension is not None:
        seconds = round(suspension.until - suspension.since, 3)
        found["suspended"] = {"what": str(suspension.key), "seconds": seconds, "hint": suspension.hint or None}
    return found


def name_of(call: RecordedCall, *, several: bool) -> str:
    """``#12``, with its file where there are several."""
    return f"{printable(call.file)}#{call.flow}" if several else f"#{call.flow}"


def clock_time(moment: float) -> str:
    """A Unix time as people read it, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if moment else "(no time)"


def failed_somewhere(played: Played) -> bool:
    """Whether an error plays a part in it, then or now."""
    return played.end not in (End.ANSWERED, End.UNROUTED) or bool(played.skipped) or failed_then(played.call)
