"""Our own answer when nothing can be tried: the status that makes the tool do the right thing, and why, line by line.

Own answers are 429 or 503 only when a retry within a minute can help, else 400: the one status that every tool gives
up on after one try (law 6, W03, W09).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from understudy.codec.time_text import duration
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Outcome, Refuse, Request
from understudy.model import Candidate, Label, Suspension, printable
from understudy.rules import FAULT_RULES

RETRY_HORIZON = 60.0
"""Tools sleep through a longer Retry-After without a word, so nothing longer is promised. Seconds."""
OFFLINE = ", because none of their upstreams can be reached from here: check the network of this machine first"
SECRETS = ": every upstream rejects its secret: name other secrets in the pool file"
ANOTHER = "or name a candidate of another account under this route in the pool file"
BELOW = ": the lines below name what each candidate lacks: change that in the pool file"
REJECTED = "its upstream rejects the secret: name another one in the pool file"
EXCLUDED = "what another candidate answered applies to it too"
CROWDED = "as many calls are under way with its credential as may be, and no turn has come in time"
LISTED = 20
"""How many candidates an answer lists."""
LIMITS = (Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED)
CURABLE = 2
"""From this hope on (see actions), another try soon may succeed although nothing is suspended."""


def chances(
    request: Request, lineup: Lineup, selector: Selector, outcomes: Sequence[Outcome], excluded: int
) -> dict[Candidate, Suspension | None]:
    """The members with which another round could end better, each with what it has to wait for.

    Left out are those whose upstream may not be used, those that are out because everybody refuses this very request,
    and of those that are free: the ones that would say the same again, and the ones that this request does not get to
    (``excluded``, as bits).
    """
    last = {outcome.attempt.candidate: outcome for outcome in outcomes}
    found: dict[Candidate, Suspension | None] = {}
    for position, member in enumerate(lineup.members):
        if request.why_not(member):
            continue
        suspension, said = _running(lineup, selector, member), last.get(member)
        if suspension is None and (said.hope < CURABLE if said else excluded >> position & 1):
            continue
        if suspension is not None and suspension.doubt and said is not None and _is_final(said):
            continue  # it is out because everybody refuses this very request
        found[member] = suspension
    return found


def _is_final(said: Outcome) -> bool:
    """Whether a candidate would say the same in a minute. A quota that is used up is, unless a reset is stated."""
    return said.hope < CURABLE or said.verdict.label is Label.QUOTA_EXHAUSTED


def earliest(found: Mapping[Candidate, Suspension | None]) -> float:
    """When the first of the :func:`chances` comes; -inf: one is there now; inf: there is none."""
    return min(map(_due, found.values()), default=math.inf)


def refuse(
    request: Request,
    lineup: Lineup,
    selector: Selector,
    outcomes: Sequence[Outcome],
    excluded: int,
    now: float,
    full: int = 0,
) -> Refuse:
    """Build the answer: status, text with one line per candidate and its true times, Retry-After in whole seconds.

    Where the call was sent, a Retry-After is only what an upstream or a person has stated. ``full``: whose queue is
    full, as bits.
    """
    found = chances(request, lineup, selector, outcomes, excluded)
    status, within, retry_after, broken = 400, None, None, False
    if found:
        first = min(found.values(), key=_due)
        broken = first is not None and first.rule in FAULT_RULES.values()
        seconds = max(1.0, _due(first) - now)
        if seconds <= RETRY_HORIZON:
            status = 429 if first is not None and first.label in LIMITS else 503
            within = math.ceil(seconds)
            if first is None or first.hint or first.by_hand or not _was_sent(request, outcomes):
                retry_after = within
    lines = [
        f"understudy: no candidate of route {lineup.route.pattern} can answer for {printable(request.alias)}"
        + (OFFLINE if _is_offline(outcomes) else _mend(found, outcomes, within, now)),
        *(
            _line(
                request,
                lineup,
                member,
                _running(lineup, selector, member),
                outcomes,
                CROWDED if full >> position & 1 else EXCLUDED if excluded >> position & 1 else "",
                now,
            )
            for position, member in enumerate(lineup.members[:LISTED])
        ),
        *(f"- {member}: {request.not_theirs}" for member in lineup.closed[: max(0, LISTED - len(lineup.members))]),
    ]
    if (known := len(lineup.members) + len(lineup.closed)) > LISTED:
        lines.append(f"- and {known - LISTED} more")
    return Refuse(status, "\n".join(lines), retry_after, broken=broken)


def _was_sent(request: Request, outcomes: Sequence[Outcome]) -> bool:
    """Whether the call was sent to an upstream, or the tool tries again what it had an answer to (A10).

    Without understudy the tool would now go by its own schedule. A Retry-After of ours would slow that down, once for
    each of its tries: Codex makes 30.
    """
    return request.spent.told or any(
        each.status > 0 or (each.fault is not None and each.fault.sent) for each in outcomes
    )


def _mend(
    found: Mapping[Candidate, Suspension | None], outcomes: Sequence[Outcome], within: int | None, now: float
) -> str:
    """What its person can do: in the first line, for some tools show no more of an answer.

    ``within``: in how many seconds another try can help, None: in more than a minute, if ever.
    """
    if within is not None:
        return f": try again in {duration(within)}"
    out = [suspension for suspension in found.values() if suspension is not None]
    labels = {each.label for each in out} or {outcome.verdict.label for outcome in outcomes}
    if labels == {Label.CREDENTIAL_REJECTED}:
        return SECRETS
    if not out:
        return BELOW
    return f": try again in {duration(min(each.until for each in out) - now)}, {ANOTHER}"


def _is_offline(outcomes: Sequence[Outcome]) -> bool:
    """Whether several upstreams were tried and none was even reached (L11)."""
    upstreams = {outcome.attempt.candidate.upstream.name for outcome in outcomes}
    return len(upstreams) > 1 and all(outcome.is_unreachable for outcome in outcomes)


def _running(lineup: Lineup, selector: Selector, member: Candidate) -> Suspension | None:
    """What keeps a member out of rotation. An only candidate is kept out by nothing but a stated window (law 6)."""
    stated = selector.suspension_of(member, stated=True) if lineup.is_single else None
    return stated or selector.suspension_of(member)


def _due(suspension: Suspension | None) -> float:
    return suspension.until if suspension else -math.inf


def _line(
    request: Request,
    lineup: Lineup,
    member: Candidate,
    suspension: Suspension | None,
    outcomes: Sequence[Outcome],
    excluded: str,
    now: float,
) -> str:
    name = f"- {member}"
    if reason := request.why_not(member):
        return f"{name}: {reason}"
    if suspension is not None:
        told = _told(suspension.label, suspension.rule, suspension.evidence)
        why = f": {told}" if told else ""
        due = duration(suspension.until - now)
        return f"{name}: {suspension.reason}, suspended for another {due}{why}"
    for outcome in reversed(outcomes):
        if outcome.attempt.candidate == member:
            verdict = outcome.verdict
            return f"{name}: {verdict.label} by {verdict.rule}: {_told(verdict.label, verdict.rule, verdict.evidence)}"
    if excluded:
        return f"{name}: not tried: {excluded}"
    budget = lineup.route.budget
    return f"{name}: not tried, the budget of {budget.attempts} attempts in {budget.seconds:g} s is spent"


def _told(label: Label, rule: str, evidence: str) -> str:
    """The evidence, as far as a tool may see it.

    Some tools look for words such as "invalid x-api-key" and then tell their user to log in, which would not help: the
    credential that was rejected is not theirs.
    """
    if label is not Label.CREDENTIAL_REJECTED or rule.startswith("builtin/"):
        return evidence
    return REJECTED
