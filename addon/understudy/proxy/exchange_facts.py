"""What is known about an exchange, as plain data: ``flow.metadata["understudy"]`` of the tool's flow.

It is all that the content view, the journal's file and the metrics know, so that a saved flow can be read later without
the addon. Everything in it is bounded, can be written as JSON, and holds no secret: names, models, labels, rules, and
evidence that is masked already. Times are Unix times, spans are seconds.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from typing import Any

from understudy.codec.steady_clock import ahead_of
from understudy.codec.time_text import duration
from understudy.failover import LISTED, Exchange, Outcome
from understudy.failover.memory import Plan
from understudy.model import Candidate, Scope, Suspension, Usage, printable

KEY = "understudy"
"""Where it stands in a flow's metadata."""
USAGE_KINDS = ("input", "output", "cached", "written", "reasoning")
"""The kinds of tokens, as they are called wherever they are told."""
NOTED_WAITS = 50
"""More waits than this no exchange should have; they are not listed."""

type Facts = dict[str, Any]
"""Keys: see docs/inspection.md, "What a flow knows"."""


def begin(exchange: Exchange, plan: Plan, now: float) -> Facts:
    """What is known before the first attempt. ``now`` is a Unix time."""
    members = exchange.lineup.members
    facts = {
        **_asked(plan, now),
        "candidates": [str(member) for member in members[:LISTED]],
        "of": len(members),
        "attempts": 0,
        "tried": [],
    }
    if found := skipped(exchange):
        facts["skipped"] = found
    if exchange.request.bound_by:
        facts["bound"] = {"to": exchange.request.bound_to, "by": exchange.request.bound_by}
    return facts


def observe(plan: Plan, shadow: Exchange | None, now: float) -> Facts:
    """What is known of a call that is only observed, before its reply is there."""
    if shadow is not None:
        return begin(shadow, plan, now)
    return {
        **_asked(plan, now),
        "attempts": 0,
        "tried": [],
    }


def _asked(plan: Plan, now: float) -> Facts:
    """What a call asks for, under an id of its own."""
    facts: Facts = {
        "exchange": os.urandom(6).hex(),
        "time": round(now, 3),
        "route": plan.route.pattern,
        "alias": printable(plan.call.alias),
        "dialect": plan.recognised.dialect.name,
        "endpoint": plan.recognised.endpoint.name,
        "streamed": plan.call.streamed,
        "mode": plan.route.mode.value,
    }
    if plan.user:
        facts["user"] = printable(plan.user)
    return facts


def skipped(exchange: Exchange, but: Container[tuple[str, str]] = ()) -> list[Facts]:
    """The candidates that are not picked as things stand, each with the reason.

    ``but``: those of the members that are not wanted, by credential and model.
    """
    lineup, request = exchange.lineup, exchange.request
    restricted = request.blocked or request.barred or request.bound_to
    if not restricted and lineup.available() == lineup.everyone and not lineup.closed:
        return []  # the common case: nothing is out of rotation
    now = exchange.selector.suspensions.clock()
    found: list[Facts] = []
    for member in lineup.members[:LISTED]:
        credential, model = member.credential.name, printable(member.model)
        if (credential, model) in but:
            continue
        why = request.why_not(member)
        brief = why if why.startswith(("not asked", "out of use")) else f"not used: {why}"
        if not why and (suspension := exchange.selector.suspension_of(member)) is not None:
            why = why_suspended(suspension, now)
            said = suspension.rule if suspension.by_hand else suspension.label.value
            brief = f"suspended: {said}, {duration(suspension.until - now)} left"
        if not why and exchange.selector.is_probed(member, exchange.ticket):
            brief = why = "is being probed by another call"
        if why:
            name = {"credential": credential, "model": model}
            found.append({**name, "why": why, "brief": brief, "place": place(exchange, member)})
    # Behind all others: a call that the first of those answers that are for its user has passed no candidate over.
    for number, member in enumerate(lineup.closed[: LISTED - len(found)], 1):
        name, why = {"credential": member.credential.name, "model": printable(member.model)}, request.not_theirs
        found.append({**name, "why": why, "brief": why, "place": len(lineup.members) + number})
    return found


def why_suspended(suspension: Suspension, now: float) -> str:
    """``rate_limited by general/rate_limited, for another 20s: HTTP 429: slow down``."""
    due = duration(suspension.until - now)
    what = "" if suspension.key.scope == Scope.CANDIDATE else f"{suspension.key.scope} "
    why = f": {suspension.evidence}" if suspension.evidence else ""
    reason = suspension.reason if suspension.by_hand else f"for {suspension.reason}"
    return f"{what}suspended {reason}, for another {due}{why}"


def place(exchange: Exchange, candidate: Candidate) -> int:
    """The place of a candidate among those of its route, from 1."""
    return exchange.lineup.bit(candidate).bit_length()


def tried(exchange: Exchange, outcome: Outcome) -> Facts:
    """What an attempt came to."""
    attempt, verdict, suspension = outcome.attempt, outcome.verdict, outcome.suspension
    candidate = attempt.candidate
    found: Facts = {
        "number": attempt.number,
        "place": place(exchange, candidate),
        "credential": candidate.credential.name,
        "model": printable(candidate.model),
        "upstream": candidate.upstream.name,
        "status": outcome.status,
        "label": outcome.word,
        "rule": verdict.rule,
    }
    if attempt.repeat:
        found["again"] = True
    if attempt.without and attempt.left_out:
        found["left_out"] = attempt.left_out
        if moved_from := exchange.request.moved_from(attempt):
            found["moved_from"] = moved_from
    if verdict.is_open:
        found["open"] = True
    if attempt.opinion:
        found["second_opinion"] = True
    if attempt.drilled and exchange.drill is not None:
        found["drill"] = exchange.drill.kind
    if outcome.compared is not None:
        found["compared"] = outcome.compared.value
        if outcome.signature:
            found["signature"] = outcome.signature
    if verdict.evidence:
        found["evidence"] = verdict.evidence
    if suspension is not None:
        found["suspended"] = {
            "what": str(suspension.key),
            "seconds": round(suspension.until - suspension.since, 3),
            "until": round(suspension.until + ahead_of(exchange.selector.suspensions.clock), 3),
        }
        if suspension.hint:
            found["suspended"]["hint"] = suspension.hint
    return found


def catch_up(facts: Facts, exchange: Exchange) -> None:
    """Add the attempts that have been judged since."""
    known = facts["tried"]
    known += [tried(exchange, outcome) for outcome in exchange.outcomes[len(known) :]]
    facts["attempts"] = len(known)


def counts_of(usage: Usage) -> Facts:
    """The tokens by kind, without those of which there are none."""
    found: Facts = {"input": usage.input} if usage.input else {}  # no loop: every call is counted
    if usage.output:
        found["output"] = usage.output
    if usage.cached:
        found["cached"] = usage.cached
    if usage.written:
        found["written"] = usage.written
    if usage.reasoning:
        found["reasoning"] = usage.reasoning
    return found


def measure(facts: Facts, number: int, counts: Facts | None, served: str, *, lost: bool) -> None:
    """Add what the reply to an attempt took to what is known of it. ``counts``: its tokens, None where it has none."""
    tried = facts["tried"]
    if number > len(tried):
        return  # the tool went away before it had a verdict
    entry = tried[number - 1]
    if counts is not None:
        entry["usage"] = counts
    if served:
        entry["served_model"] = served
    if lost:
        entry["lost"] = True


def of(metadata: Mapping[Any, Any]) -> Facts | None:
    """The facts in a flow's metadata; None when there are none, or nothing that we have written."""
    found = metadata.get(KEY)
    return found if isinstance(found, dict) and isinstance(found.get("exchange"), str) else None
