"""Our own answer when nothing can be tried: the status that makes the tool do the right thing, and why, line by line.

Own answers are 429 or 503 only when a retry within a minute can help, else 400: the one status that every tool gives
up on after one try (law 6, W03, W09).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from understudy.pool import Candidate
from understudy.rules import Label
from understudy.select import Lineup, Selector
from understudy.steps import Outcome, Refuse, Request
from understudy.suspensions import Suspension

RETRY_HORIZON = 60.0
"""Tools sleep through a longer Retry-After without a word, so nothing longer is promised. Seconds."""
LISTED = 20
"""How many candidates an answer lists."""
LIMITS = (Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED)
CURABLE = 2
"""From this hope on (see actions), another try soon may succeed although nothing is suspended."""


def earliest(request: Request, lineup: Lineup, selector: Selector) -> float:
    """When the first member that may be used is available; -inf: one is now; inf: none will be."""
    return min((_due(selector.suspension_of(member)) for member in _usable(request, lineup)), default=math.inf)


def refuse(
    request: Request, lineup: Lineup, selector: Selector, outcomes: Sequence[Outcome], now: float
) -> Refuse:
    """Build the answer: status, text with one line per candidate and its true times, Retry-After in whole seconds."""
    running = {member: selector.suspension_of(member) for member in _usable(request, lineup)}
    first = min(running, key=lambda member: _due(running[member]), default=None)
    status, retry_after = 400, None
    if first is not None:
        suspension = running[first]
        tried = [outcome for outcome in outcomes if outcome.attempt.candidate == first]
        hopeless = suspension is None and tried and tried[-1].hope < CURABLE
        seconds = suspension.until - now if suspension else 0.0
        if seconds <= RETRY_HORIZON and not hopeless:
            status = 429 if suspension is not None and suspension.label in LIMITS else 503
            retry_after = max(1, math.ceil(seconds))
    lines = [
        f"understudy: no candidate of route {lineup.route.pattern} can answer for {request.alias[:200]}",
        *(_line(request, lineup, member, running.get(member), outcomes, now) for member in lineup.members[:LISTED]),
    ]
    if len(lineup.members) > LISTED:
        lines.append(f"- and {len(lineup.members) - LISTED} more")
    return Refuse(status, "\n".join(lines), retry_after)


def _usable(request: Request, lineup: Lineup) -> list[Candidate]:
    return [member for member in lineup.members if member.upstream.name not in request.blocked]


def _due(suspension: Suspension | None) -> float:
    return suspension.until if suspension else -math.inf


def _line(
    request: Request,
    lineup: Lineup,
    member: Candidate,
    suspension: Suspension | None,
    outcomes: Sequence[Outcome],
    now: float,
) -> str:
    name = f"- {member.credential.name} {member.model[:200]}"
    if reason := request.blocked.get(member.upstream.name):
        return f"{name}: {reason}"
    if suspension is not None:
        why = f": {suspension.evidence}" if suspension.evidence else ""
        due = duration(suspension.until - now)
        return f"{name}: {suspension.label} by {suspension.rule}, suspended for another {due}{why}"
    for outcome in reversed(outcomes):
        if outcome.attempt.candidate == member:
            return f"{name}: {outcome.verdict.label} by {outcome.verdict.rule}: {outcome.verdict.evidence}"
    budget = lineup.route.budget
    return f"{name}: not tried, the budget of {budget.attempts} attempts in {budget.seconds:g} s is spent"


def duration(seconds: float) -> str:
    """A time span as people read it: ``9s``, ``2m``, ``1h5m``."""
    whole = max(0, math.ceil(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "m"), (rest if not hours else 0, "s")]
    return "".join(f"{value}{unit}" for value, unit in parts if value) or "0s"
