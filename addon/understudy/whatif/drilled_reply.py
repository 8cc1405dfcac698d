"""What a candidate that a drill strikes says in a recording: the same bytes, held and judged as on the wire (H12)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from understudy.drill import Behaviour, Kind, made_reply
from understudy.failover.memory import Plan
from understudy.model import Candidate, HoldUntil, Label
from understudy.replies import Fault, FaultKind, Held, Hold, Secret
from understudy.rules import Ruleset
from understudy.whatif.recorder import RecordedAttempt

SAID = "(made up by a drill of understudy)"


@dataclass(frozen=True, slots=True)
class Late:
    """What a candidate says, after so many seconds; infinite: nothing, ever. ``held_back``: by a drill, of these."""

    said: RecordedAttempt
    seconds: float
    held_back: float = 0.0


def drilled_reply(
    behaviour: Behaviour,
    candidate: Candidate,
    plan: Plan,
    recorded: RecordedAttempt | None,
    ruleset: Ruleset,
    *,
    query: str,
    connect_limit: float,
) -> Late | None:
    """What an attempt at this candidate comes to; None where only its real reply could tell, which is not ``recorded``.

    ``query`` is that of the request, ``connect_limit`` the seconds for a connection.
    """
    hold = Hold(plan.recognised, plan.call, candidate, Secret("drill", ""), plan.route.hold)
    said = RecordedAttempt(0, 0, candidate.credential.name, candidate.model, 0, None, 0.0)
    match behaviour.kind:
        case Kind.DEAD:
            fault = Fault(FaultKind.CONNECT, f"refused by the upstream {SAID}", sent=False)
            return Late(replace(said, reply=hold.fault(fault)), 0.0)
        case Kind.TIMEOUT:
            fault = Fault(FaultKind.CONNECT, f"no connection within {connect_limit:g} s {SAID}", sent=False)
            return Late(replace(said, reply=hold.fault(fault)), connect_limit)
        case Kind.SILENT:
            return Late(said, math.inf)
        case Kind.SLOW if recorded is not None:
            seconds = max(behaviour.seconds, recorded.seconds)
            return Late(recorded, seconds, seconds)
        case Kind.CUT if recorded is not None:
            return Late(_cut(recorded, hold, plan, ruleset), recorded.seconds)
        case Kind.SLOW | Kind.CUT:
            return None
    endpoint, streamed = plan.recognised.endpoint.name, plan.call.streamed
    dialect = candidate.upstream.dialect
    made = made_reply(behaviour, dialect, candidate.model, endpoint=endpoint, streamed=streamed, query=query)
    held = hold.start(made.status, made.headers)
    if held is Held.MORE and made.body:
        held = hold.data(made.body)
    if held is Held.MORE:
        hold.end()
    return Late(replace(said, status=made.status, reply=hold.reply()), 0.0)


def silence(said: RecordedAttempt, plan: Plan, candidate: Candidate) -> RecordedAttempt:
    """The same attempt, of which nothing has come in time."""
    hold = Hold(plan.recognised, plan.call, candidate, Secret("drill", ""), plan.route.hold)
    fault = Fault(FaultKind.SILENCE, f"no event of a reply {SAID}", sent=True)
    return replace(said, status=0, reply=hold.fault(fault), complete=False)


def _cut(recorded: RecordedAttempt, hold: Hold, plan: Plan, ruleset: Ruleset) -> RecordedAttempt:
    """A recorded reply that breaks off in the middle, if it was a good one."""
    if recorded.reply is not None and ruleset.judge(recorded.reply).label is not Label.OK:
        return recorded
    fault = hold.fault(Fault(FaultKind.CUT, f"the upstream closed or reset the connection {SAID}", sent=True))
    if plan.call.streamed and plan.route.hold is HoldUntil.OUTPUT:
        return replace(recorded, reply=None, complete=False, ended_badly=fault)  # what came before it is released
    return replace(recorded, status=0, reply=fault, complete=False)
