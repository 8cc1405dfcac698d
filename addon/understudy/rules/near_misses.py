"""Why a reply was judged as it was: who spoke, and which rules were near to speaking and what kept them silent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from understudy.model import Label, Verdict
from understudy.replies import ErrorInfo, Reply
from understudy.rules.conditions import Line
from understudy.rules.ruleset import Ruleset
from understudy.rules.speaker import Rule, Speaker, Status


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that did not decide although little was missing, and what that was."""

    rule: str
    labels: tuple[Label, ...]
    why: str


def heard(ruleset: Ruleset, reply: Reply, verdict: Verdict) -> list[str]:
    """Why the rule spoke that decided: for each line with phrases, which one was heard and where."""
    rule = next((each for each in ruleset.rules if each.id == verdict.rule), None)
    if not isinstance(rule, Rule):
        return []
    for info in reply.said:
        for lines in rule.when.lines:
            if all(line.test(reply, info) for line in lines):
                return [f"{line.place}: {found}" for line in lines if (found := line.heard(reply, info))]
    return []


def near_misses(ruleset: Ruleset, reply: Reply, verdict: Verdict) -> list[NearMiss]:
    """The rules that were near to deciding about a reply, in the order of asking. Empty where none is asked."""
    if verdict.rule == "builtin/ok" or reply.fault is not None:
        return []
    found = []
    for rule in ruleset.rules:
        if rule.id != verdict.rule and (why := _why_silent(rule, reply, verdict)):
            found.append(NearMiss(rule.id, rule.labels, why))
    return found


def _why_silent(rule: Speaker, reply: Reply, verdict: Verdict) -> str:
    if rule.speak(reply) is not None:
        if rule.status is Status.DRAFT:
            return "it matches, but it is a draft"
        if verdict.rule in rule.vetoed_by:
            return f"it matches, but {verdict.rule} vetoes it"
        return f"it matches, but {verdict.rule} is asked before it"
    return _missing(rule, reply) if isinstance(rule, Rule) else ""


def _missing(rule: Rule, reply: Reply) -> str:
    infos = reply.said or (ErrorInfo(),)
    covered = rule.applies_to.covers(reply)
    if any(rule.when.holds(reply, info) for info in infos):
        if not covered:
            return f"`when` holds, but it applies to {_places(rule)} only"
        for info in infos:
            for lines in rule.unless.lines if rule.unless else ():
                if all(line.test(reply, info) for line in lines):
                    return "`when` holds, but so does `unless`: " + "; ".join(map(str, lines))
    if not covered:
        return ""
    for info in infos:
        for lines in rule.when.lines:
            failed = [line for line in lines if not line.test(reply, info)]
            if len(failed) == 1 and _telling(lines, failed[0]):
                has = failed[0].read(reply, info)
                return f"only `{failed[0]}` does not hold: the reply has {has[:80] or 'nothing'!r} there"
    return ""


def _telling(lines: tuple[Line, ...], failed: Line) -> bool:
    """Whether what holds says more than that there was an error."""
    return any(line.place != "status" for line in lines if line is not failed)


def _places(rule: Rule) -> str:
    places = (*rule.applies_to.hosts, *rule.applies_to.dialects, *rule.applies_to.kinds)
    return ", ".join(places)


def faults(ruleset: Ruleset, rules: tuple[Speaker, ...]) -> Iterator[str]:
    """What is wrong with the examples of these rules, judged alone and by the whole set; one line each."""
    for rule in rules:
        for example in rule.matches:
            at = f"{rule.id}: the match in line {example.line}"
            said = rule.speak(example.reply)
            if said is None:
                yield f"{at} is not matched by its rule"
                continue
            if said.label is not example.label:
                yield f"{at} gets {said.label} from its rule, not {example.label}"
            if rule.status is Status.DRAFT:
                continue
            verdict = ruleset.judge(example.reply)
            if verdict.label is not example.label:
                yield f"{at} is judged {verdict.label} by {verdict.rule}, not {example.label}"
            voices = ruleset.voices(example.reply)
            if len({voice.label for voice in voices}) > 1:
                each = ", ".join(f"{voice.rule} ({voice.label})" for voice in voices)
                yield f"{at} gets two labels: {each}: let one veto the other with `unless: {{rule: ...}}`"
        for example in rule.near_misses:
            if rule.speak(example.reply) is not None:
                yield f"{rule.id}: the near miss in line {example.line} is matched by its rule"
            voices = ruleset.voices(example.reply)
            if len({voice.label for voice in voices}) > 1:
                each = ", ".join(f"{voice.rule} ({voice.label})" for voice in voices)
                yield f"{rule.id}: the near miss in line {example.line} gets two labels: {each}"
