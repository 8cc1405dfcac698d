"""A recorded exchange, told in lines (`understudy explain FILE`).

The call, who was skipped and why, what each reply meant, what the tool got; and what the current pool and rules say
where that is something else.
"""

from __future__ import annotations

from collections.abc import Iterator

from understudy.model import OPEN_MARK, Label, Verdict, printable
from understudy.rules import Ruleset, near_misses
from understudy.whatif.recorded_outcome import differs, got, noted_attempts, noted_skips, noted_waits, was_noted
from understudy.whatif.recorder import RecordedAttempt, RecordedCall
from understudy.whatif.report import clock_time, now, trail
from understudy.whatif.result import End, Played

OUTPUT = Verdict(Label.OK, "builtin/output")
NEAREST = 3
"""How many rules are named that were near to knowing an unknown error."""


def listing(call: RecordedCall, ruleset: Ruleset) -> str:
    """A call on one line, for the list of a file."""
    what = f"{printable(call.call.alias)} ({call.recognised.endpoint.name})"
    if call.own:
        end = f"HTTP {call.status} by understudy itself"
    elif call.attempts:
        last = call.attempts[-1]
        label = ruleset.judge(last.reply).label if last.reply is not None else Label.OK
        by = f" by {printable(last.credential)} {printable(last.model)}" if last.credential else ""
        end = f"{f'HTTP {call.status}' if call.status else 'no reply'}: {label}{by}"
    else:
        end = got(call)
    tried = noted_attempts(call)
    more = f", {len(tried)} attempts" if len(tried) > 1 else ""
    return f"#{call.flow:<5} {clock_time(call.began)}  {call.id[:8]}  {what}  {end}{more}"


def story(played: Played, ruleset: Ruleset, pool_path: str) -> Iterator[str]:
    """The story, line by line. ``pool_path`` "": there is no pool file, so nothing is said about candidates of now."""
    call = played.call
    streamed = ", streamed" if call.call.streamed else ""
    recognised = call.recognised
    yield f"#{call.flow} {clock_time(call.began)}: {recognised.dialect.name} {recognised.endpoint.name}{streamed}"
    yield f"The tool asked {printable(call.host)} for {printable(call.call.alias)}."
    yield ""
    yield from _then(call)
    yield ""
    if not pool_path:
        yield "The current rules, without a pool file:"
        yield from _judged(call, ruleset)
        return
    yield f"With {pool_path} and the current rules:"
    if played.end is End.UNROUTED:
        yield "  no route serves it: it passes with the tool's own credential"
        yield from _judged(call, ruleset)
        return
    order = ", ".join(f"{place} {name}" for place, name in enumerate(played.candidates, 1))
    yield f"  route {played.route}: {order}"
    if _is_the_same(played):
        yield "  the same would happen again"
    else:
        yield from (f"  skipped  {skip.candidate}: {skip.why}" for skip in played.skipped)
        yield from (f"  {line}" for line in trail(played))
        yield f"  {now(played)}"
        if played.refusal is not None:
            yield from (f"    {line}" for line in played.refusal.message.splitlines()[1:])
    for tried in played.tried:
        yield from _near_misses(tried.recorded, ruleset)


def _then(call: RecordedCall) -> Iterator[str]:
    tried = noted_attempts(call)
    if not was_noted(call):
        yield "What happened (recorded without understudy):"
    else:
        yield "What happened, as understudy noted it:"
    yield from (f"  skipped  {name}: {why}" for name, why in noted_skips(call))
    waits = noted_waits(call)
    for each in tried:
        yield from (f"  waited   {why}" for before, why in waits if before == each.number)
        again = " again" if each.again else ""
        if each.label == Label.OK:
            yield f"  asked    {each}{again}: ok"
            continue
        what, _, span = each.suspended.partition(" for ")
        suspended = f"; {what} suspended for {span}" if span else ""
        yield f"  asked    {each}{again}: {each.label} by {each.rule}{OPEN_MARK if each.open else ''}{suspended}"
        if each.evidence:
            yield f"           {each.evidence}"
    if was_noted(call) and not tried:
        # Earlier versions tell the story in the flow's comment only.
        yield from (f"  {printable(part, 400)}" for part in call.comment.split(" → ")[:50] if part)
    yield f"  {got(call)}"


def _judged(call: RecordedCall, ruleset: Ruleset) -> Iterator[str]:
    """The recorded replies by the current rules; in one word where they say what they said then."""
    verdicts = [ruleset.judge(each.reply) if each.reply is not None else OUTPUT for each in call.attempts]
    noted = [_said(each.label, each.rule) for each in noted_attempts(call)]
    if noted and noted == [_said(verdict.label, verdict.rule) for verdict in verdicts]:
        yield "  the same"
        return
    for attempt, verdict in zip(call.attempts, verdicts, strict=True):
        name = f"{printable(attempt.credential)} {printable(attempt.model)}: " if attempt.credential else ""
        if verdict.label is Label.OK:
            yield f"  {name}ok"
        else:
            yield f"  {name}{verdict.in_words}: {verdict.evidence}"
            yield from _near_misses(attempt, ruleset)
    if not call.attempts:
        yield "  no reply is recorded"


def _near_misses(attempt: RecordedAttempt, ruleset: Ruleset) -> Iterator[str]:
    if attempt.reply is None:
        return
    verdict = ruleset.judge(attempt.reply)
    if verdict.label is not Label.UNKNOWN:
        return
    for miss in near_misses(ruleset, attempt.reply, verdict)[:NEAREST]:
        yield f"  near    {miss.rule} ({', '.join(miss.labels)}): {miss.why}"
    draft = f"understudy rules new FILE {attempt.flow} --label LABEL --id VENDOR/NAME"
    yield f"  no rule recognises it: {draft} makes a draft"


def _is_the_same(played: Played) -> bool:
    """Whether even the rules are the ones that spoke then."""
    noted = [(str(each), *_said(each.label, each.rule)) for each in noted_attempts(played.call)]
    outcomes = [each.outcome for each in played.tried]
    found = [(str(each.attempt.candidate), *_said(each.verdict.label, each.verdict.rule)) for each in outcomes]
    return bool(noted) and not differs(played) and noted == found


def _said(label: str, rule: str) -> tuple[str, str]:
    """Label and rule; how an answer was known to be one depends on what is kept of it."""
    return (str(label), rule if label != Label.OK else "")
