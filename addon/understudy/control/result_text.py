"""The results of commands as lines that people read, and as JSON. Durations and clock times, never Unix times."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from understudy.codec.time_text import clock_time, duration
from understudy.control.drills import DrillResult, DrillView
from understudy.control.learned import (
    LearnedDraft,
    LearnedForgotten,
    LearnedList,
    LearnedShown,
    Learnt,
    Opinions,
)
from understudy.control.pool_view import OutOfUse, Overview
from understudy.control.results import Outcome, Pick, Probed, Reloaded, Result, Resumed, Several, Suspended
from understudy.control.status import Entry, Explanation, HeldView, Standing, Standings, State
from understudy.control.usage_report import UsageReport, usage_lines
from understudy.inspection import Tally
from understudy.limits import LimitView
from understudy.model import Scope, counted
from understudy.shared import SharingState
from understudy.suspensions import Cause


def as_json(result: Result) -> str:
    """The result as one line of JSON; several results of the same kind are below ``results``."""
    return json.dumps(result, default=_fields)


def overview_json(result: Overview, standings: Standings) -> str:
    """As :func:`as_json`, for who looks again and again: candidates that have not changed are not written anew."""
    routes = (
        f'{_without(route, "lineups")}, "lineups": [{", ".join(_lineup(each, standings) for each in route.lineups)}]}}'
        for route in result.routes
    )
    return f'{_without(result, "routes")}, "routes": [{", ".join(routes)}]}}'


def _lineup(lineup: Explanation, standings: Standings) -> str:
    candidates = ", ".join(standings.text(each, _dumped) for each in lineup.candidates)
    return f'{_without(lineup, "candidates")}, "candidates": [{candidates}]}}'


def _dumped(value: object) -> str:
    return _ENCODER.encode(value)


def _without(value: Any, member: str) -> str:
    """A value as JSON without a member and without its last brace, so that the member can follow."""
    return _dumped({name: each for name, each in _fields(value).items() if name != member})[:-1]


def _fields(value: Any) -> dict[str, object]:
    """A value of ours; several times faster than ``asdict``, and there may be thousands."""
    return {name: getattr(value, name) for name in value.__slots__}


_ENCODER = json.JSONEncoder(default=_fields)


def as_lines(result: Result, prefix: str) -> list[str]:
    """The result as text. ``prefix``: what stands before a command here, ``pool.`` or ``understudy ``."""
    match result:
        case Overview():
            return list(_overview(result, prefix))
        case Suspended():
            return _suspended(result, prefix)
        case Resumed():
            return list(_resumed(result, prefix))
        case Probed():
            return list(_probed(result))
        case Reloaded():
            counts = f"{counted(result.routes, 'route')} over {counted(result.credentials, 'credential')}"
            head = f"{result.pool}: {counts} are in use"
            return [head, *_out_of_use(result.out_of_use)]
        case UsageReport():
            return usage_lines(result)
        case LearnedList():
            return list(_learned(result))
        case LearnedShown():
            return list(_lesson(result.lesson, result.now, prefix))
        case LearnedForgotten():
            return [f"forgotten: {_signature(each)}" for each in result.lessons] or ["nothing was known"]
        case LearnedDraft():
            return result.text.splitlines()
        case DrillResult():
            return list(_drill(result.drill, result.now, prefix)) if result.drill else ["no drill has run yet"]
        case Several(results=results):
            return [line for each in results for line in _one(each, prefix)]


def _one(result: Explanation | Pick, prefix: str) -> Sequence[str]:
    return list(_explanation(result, prefix)) if isinstance(result, Explanation) else _pick(result)


def _overview(result: Overview, prefix: str) -> Iterator[str]:
    if result.drill is not None:
        yield from _drill(result.drill, result.now, prefix)
    for call in result.held:
        yield _held_calls(call, result.now)
    if result.more_held:
        yield f"and {counted(result.more_held, 'more call')} held until a reset"
    for entry in result.entries:
        yield f"{_name(entry)}: {_held(entry, result.now)}"
    if result.more:
        yield f"and {result.more} more"
    if not result.entries:
        yield "nothing is suspended"
    yield from _out_of_use(result.out_of_use)
    if result.learned.opinions.asked:
        yield _opinions(result.learned.opinions)
    if result.shared is not None:
        yield _shared(result.shared, result.now)


def _held_calls(held: HeldView, now: float) -> str:
    """``2 calls for gpt-5 (openai) are held until a limit of work gpt-5 begins anew: for another 59m, until …``."""
    calls = f"{counted(held.calls, 'call')} for {held.alias} ({held.dialect}) {'is' if held.calls == 1 else 'are'} held"
    due = f"for another {duration(held.seconds)}, until {clock_time(held.until, now)}"
    since = f"since {clock_time(held.since, now)}"
    return f"{calls} until a limit of {held.credential} {held.model} begins anew: {due}, {since}"


def _drill(drill: DrillView, now: float, prefix: str) -> Iterator[str]:
    began = f"begun {clock_time(drill.began, now)} by {drill.who}"
    if drill.is_running:
        yield f"drill: {drill.name} ({drill.meaning}), for another {duration(drill.seconds)}, {began}"
    else:
        yield f"the drill is over: {drill.name} ({drill.meaning}), {began}, lasted {drill.lasted}"
    yield from (f"   {line}" for line in drill.summary.lines())
    if drill.is_running:
        yield f"   `{prefix}drill` shows how it goes, `{prefix}drill stop` ends it"


def _shared(state: SharingState, now: float) -> str:
    where = f"{state.server} as {state.prefix}"
    if state.connected:
        return f"shared through {where}"
    return f"alone since {clock_time(state.since, now)}: {where}: {state.reason}"


def _out_of_use(lost: Sequence[OutOfUse]) -> Iterator[str]:
    for each in lost:
        yield f"credential {each.credential} is out of use: {each.reason}"


def _name(entry: Entry) -> str:
    drill = "(drill)" if entry.drill else ""
    return " ".join(filter(None, (entry.scope, entry.name, entry.model, drill)))


def _held(entry: Entry, now: float) -> str:
    """What is held against it, until when, and where that comes from."""
    due = f"{duration(entry.seconds)}, until {clock_time(entry.until, now)}"
    match entry.state:
        case State.PROBING:
            text = f"a request is probing it now; it was suspended: {entry.reason}"
        case State.HALF_OPEN:
            ended = "made due" if entry.again else "due"
            at = clock_time(entry.until, now)
            text = f"{ended} at {at}, the next request probes it; it was suspended: {entry.reason}"
        case _:
            text = f"{entry.reason}, for another {due}"
            if entry.doubt:
                text += " (in doubt: every candidate refused one request alike, so others are asked at once)"
    text += f", since {clock_time(entry.since, now)}"
    if entry.again:
        text += f"; if the probe fails, again until {clock_time(entry.again, now)}"
    if entry.hint:
        text += f" (the reply said so: {entry.hint})"
    elif entry.step:
        text += f" (step {entry.step} of {entry.steps})"
    return f"{text}: {entry.evidence}" if entry.evidence else text


def _opinions(counts: Opinions) -> str:
    """``second opinions: 3 asked (the other answered 1, refused too 2, could not tell 0)``."""
    what = f"the other answered {counts.answered}, refused too {counts.refused}, could not tell {counts.undecided}"
    return f"second opinions: {counts.asked} asked ({what})"


CAUSES = {
    Cause.REQUEST: "the request's fault",
    Cause.CANDIDATE: "the candidate's own fault",
    Cause.UNDECIDED: "undecided",
}


def _learned(result: LearnedList) -> Iterator[str]:
    for each in result.lessons:
        due = f"for another {duration(each.seconds)}, seen {each.seen}"
        yield f"{_signature(each)}: {CAUSES[each.cause]}, {due}"
    if result.more:
        yield f"and {result.more} more"
    if not result.lessons:
        yield "nothing was learnt by comparison"
    yield _opinions(result.opinions)


def _signature(each: Learnt) -> str:
    """``1a2b3c4d5e6f openai HTTP 400 odd_error: seat … is not staffed today``."""
    word = each.code if each.code and not each.code.isdecimal() else each.type or each.code
    head = " ".join(filter(None, (each.id, each.upstream, f"HTTP {each.status}", word)))
    return f"{head}: {each.words}" if each.words else head


def _lesson(each: Learnt, now: float, prefix: str) -> Iterator[str]:
    yield _signature(each)
    said = f"   {each.speaker} said so, and nothing but {each.label} by {each.rule} was known of it"
    yield said
    match each.cause:
        case Cause.CANDIDATE:
            yield f"   {each.witness} answered the same request: it is the candidate's own fault"
            yield "   a reply like this leads to the next candidate; if that answers, the first is suspended for 30s"
        case Cause.REQUEST:
            yield f"   {each.witness} refused the same request too: it is the request's fault"
            yield "   a reply like this goes to the tool at once, and suspends nothing"
        case Cause.UNDECIDED:
            yield f"   {each.witness} was asked as well and could not tell: it failed in its own way"
            yield "   a reply like this goes to the tool at once, until the question is asked again"
    until = f"until {clock_time(each.until, now)}, for another {duration(each.seconds)}"
    yield f"   learnt {clock_time(each.since, now)}, holds {until}; seen {each.seen}, last {clock_time(each.last, now)}"
    forget, draft = f"`{prefix}learned forget {each.id}`", f"`{prefix}learned draft {each.id} LABEL`"
    yield f"   {forget} deletes it, {draft} makes a rule of it"


def _explanation(result: Explanation, prefix: str) -> Iterator[str]:
    count = len(result.candidates) + result.more
    candidates = counted(count, "candidate")
    yield f"{result.alias} ({result.dialect}): route {result.route}, {result.strategy}, {candidates}"
    for each in result.candidates:
        yield from _standing(each, result.now, prefix)
    if result.more:
        yield f"and {result.more} more"


def _standing(each: Standing, now: float, prefix: str) -> Iterator[str]:
    note = f" ({each.note})" if each.note else ""
    rank = f", priority {each.priority}" if each.priority != 1 else ""
    rank += f", weight {each.weight}" if each.weight != 1 else ""
    yield f"{each.place}. {each.credential} {each.model} at {each.url}{rank}: {each.state}{note}"
    for entry in each.because:
        whose = "" if entry.scope is Scope.CANDIDATE else f"{entry.scope} {entry.name}: "
        yield f"   {whose}{_held(entry, now)}"
        yield f"   cleared by {_cleared(entry, prefix)}"
    yield from (f"   {_limit(limit)}" for limit in each.limits)
    if each.under_way or each.queued or each.concurrency:
        most = f" of {each.concurrency} at a time" if each.concurrency else ""
        yield f"   {counted(each.under_way, 'call')} under way{most}, {each.queued} waiting"
    if each.tally.answered or each.tally.failed:
        yield f"   {_counted(each.tally, now)}"
    if told := ", ".join(_lately(each)):
        yield f"   {told}"
    if each.served:
        yield f"   its replies name another model than was sent: {each.served}"


def _lately(each: Standing) -> Iterator[str]:
    """``first event after 0.8s (95 %: 2.1s), 54 tokens/s, 2 failed in the last hour, today 1,200 tokens in, 300 out``,
    in pieces."""
    if each.pace is not None:
        yield f"first event after {each.pace.median:.1f}s (95 %: {each.pace.p95:.1f}s)"
    if each.speed is not None:
        yield f"{each.speed:.0f} tokens/s"
    if each.failed_hour:
        yield f"{each.failed_hour} failed in the last hour"
    if each.today is not None and (each.today.input or each.today.output):
        yield f"today {each.today.input:,} tokens in, {each.today.output:,} out"


def _limit(limit: LimitView) -> str:
    """``5h: 37% left, resets in 2h10m; used up in about 12m, resets in 2h10m``."""
    left = f"{limit.left * 100:.0f}% left" if limit.left is not None else f"{limit.remaining or 0:g} left"
    if limit.limit is not None and limit.remaining is not None:
        left += f" ({limit.remaining:g} of {limit.limit:g})"
    reset = f", resets in {duration(limit.seconds)}" if limit.seconds is not None else ""
    whose = f" of the {limit.whose}" if limit.whose != "family" else f" of all {limit.family} models"
    forecast = f"; used up in about {duration(limit.empty_in)}" if limit.empty_in is not None else ""
    return f"{limit.name}{whose}: {left}{reset}{forecast}"


def _counted(tally: Tally, now: float) -> str:
    """``answered 12 (last 14:03:20), failed 3 (rate_limited 2, overloaded 1)``."""
    last = f" (last {clock_time(tally.last_answered, now)})" if tally.last_answered is not None else ""
    text = f"answered {tally.answered}{last}"
    if tally.moves:
        text += f", {counted(tally.moves, 'conversation')} moved here"
    if not tally.failed:
        return text
    labels = ", ".join(f"{label} {count}" for label, count in tally.failed.items())
    return f"{text}, failed {sum(tally.failed.values())} ({labels})"


def _cleared(entry: Entry, prefix: str) -> str:
    by_hand = f"`{prefix}resume {shlex.join(entry.resume)}`"
    match entry.state:
        case State.PROBING | State.HALF_OPEN:
            return f"a request that succeeds, or {by_hand}"
        case _:
            return f"time, then a request that succeeds, or {by_hand}"


def _suspended(result: Suspended, prefix: str) -> list[str]:
    entry = result.entry
    until = f"for {duration(entry.seconds)}, until {clock_time(entry.until, result.now)}"
    resume = f"`{prefix}resume {shlex.join(entry.resume)}` ends it"
    if result.kept:
        return [f"{_name(entry)} was suspended already, {entry.reason}, {until}, and that stays; {resume}"]
    return [f"{_name(entry)} is suspended by hand {until}; {resume}"]


def _resumed(result: Resumed, prefix: str) -> Iterator[str]:
    for entry in result.entries:
        yield f"{_name(entry)} is back in rotation; it was suspended: {entry.reason}"
    if not result.entries:
        yield "nothing is suspended" if result.target == "all" else f"{result.target} was not suspended"
    for entry in result.left:
        yield f"still suspended: {_name(entry)}, {entry.reason}; `{prefix}resume {shlex.join(entry.resume)}` ends it"


def _probed(result: Probed) -> Iterator[str]:
    for entry in result.entries:
        yield f"{_name(entry)} will be probed by the next request; it was suspended: {entry.reason}"
    if not result.entries:
        yield f"{result.target} is not suspended: calls go to it already"


def _pick(result: Pick) -> list[str]:
    head = f"{result.alias} ({result.dialect}): "
    match result.outcome:
        case Outcome.SENT:
            return [f"{head}{result.credential} {result.model} would be asked (route {result.route})"]
        case Outcome.WAITS:
            return [f"{head}the request would wait {duration(result.seconds)}: {result.reason} (route {result.route})"]
        case Outcome.REFUSED:
            return [f"{head}no candidate would be asked (route {result.route})", *result.reason.splitlines()]
