"""What a route that only observes sees of a call: the verdict on the reply that the tool's own credential earned.

Nothing here holds anything up or changes anything. With ``mode: advise`` a shadow of the decision core says what
``enforce`` would have done: it starts from the suspensions that run, and what it suspends is forgotten with the call. A
reply to the tool's own credential says nothing certain about a candidate, so the shadow takes one step and no more.
"""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy import http

from understudy.codec.steady_clock import ahead_of
from understudy.codec.time_text import duration
from understudy.config.secrets import ClientSecret
from understudy.dialects import Progress
from understudy.failover import Attempt, Continue, Exchange, Refuse, Release, Step, Wait
from understudy.failover.memory import Plan
from understudy.model import Candidate, Credential, Label, Upstream, Verdict
from understudy.proxy import exchange_facts as known
from understudy.proxy.exchange_facts import Facts
from understudy.replies import Fault, FaultKind, Held, Hold, Reply, Secret, Tail
from understudy.rules import Ruleset

CLIENT = "client"
"""The name of the tool's own credential."""


class Observation:
    """One call that is passed on as the tool sent it. ``shadow`` is there for ``advise`` only and has not begun.

    ``refused``: why the pool would not have been spent on this call at all.
    """

    def __init__(
        self,
        plan: Plan,
        secret: Secret,
        request: http.Request,
        ruleset: Ruleset,
        clock: Callable[[], float],
        shadow: Exchange | None = None,
        refused: str = "",
    ) -> None:
        recognised, call = plan.recognised, plan.call
        host = Upstream(CLIENT, recognised.dialect.name, request.scheme, request.host, request.port)
        self._hold = Hold(recognised, call, Candidate(Credential(CLIENT, host, ClientSecret()), call.alias), secret)
        self._ruleset, self._clock, self._shadow = ruleset, clock, shadow
        self._held, self._tail = Held.MORE, Tail()
        self._begun = clock()
        self.facts = known.observe(plan, shadow, self._begun + ahead_of(clock))
        if refused:
            self.facts["advice"] = {"instead": refused}
        elif shadow is not None:
            self.facts["advice"] = _opening(shadow, shadow.begin(clock()))

    def head(self, response: http.Response) -> bool:
        """Status and headers are in; returns whether this is a stream of events, which is passed on as it comes."""
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.fields]
        self._held = self._hold.start(response.status_code, fields)
        return self._hold.live

    def data(self, data: bytes) -> None:
        """Some bytes of the body."""
        if self._held is Held.MORE:
            self._held = self._hold.data(data)
        if self._hold.live:
            self._tail.append(data)

    def end(self) -> Facts:
        """The reply is complete: what it meant."""
        if self._held is Held.MORE:
            self._held = self._hold.end()
        if self._held is Held.REPLY or not self._hold.success:
            return self._judge(self._hold.reply())
        if self._hold.live:
            progress, event = self._tail.last(self._hold)
            if progress is Progress.ERROR and event is not None:
                return self._judge(self._hold.ending(event), late=True)
        return self._conclude(Verdict(Label.OK, "builtin/output"), self._hold.status)

    def fault(self, message: str, *, sent: bool) -> Facts:
        """The transport failed."""
        if self._hold.status:
            late = self._held is not Held.MORE
            return self._judge(self._hold.fault(Fault(FaultKind.CUT, message, sent=True)), late=late)
        kind = FaultKind.CLOSED if sent else FaultKind.CONNECT
        return self._judge(self._hold.fault(Fault(kind, message, sent=sent)))

    def cancelled(self) -> Facts:
        """The tool went away."""
        self.facts["cancelled"] = CLIENT
        return self._finished()

    def _judge(self, reply: Reply, *, late: bool = False) -> Facts:
        verdict = self._ruleset.judge(reply)
        if late:
            self.facts["late"] = True
        elif self._shadow is not None and self._shadow.attempt is not None:
            step = self._shadow.judge(reply, self._clock())
            if verdict.label is not Label.OK:
                self.facts["advice"] |= _consequence(self._shadow, step)
        return self._conclude(verdict, reply.status)

    def _conclude(self, verdict: Verdict, status: int) -> Facts:
        found: Facts = {"status": status, "label": verdict.label.value, "rule": verdict.rule}
        if verdict.is_open:
            found["open"] = True
        if verdict.evidence:
            found["evidence"] = verdict.evidence
        self.facts["observed"] = found
        return self._finished()

    def _finished(self) -> Facts:
        self.facts["seconds"] = round(max(0.0, self._clock() - self._begun), 4)
        return self.facts


def _opening(shadow: Exchange, step: Step) -> Facts:
    """Who would have been asked first."""
    match step:
        case Attempt(candidate=candidate):
            return {"asks": str(candidate)}
        case Wait(seconds=seconds, reason=reason):
            return {"instead": f"waited {seconds:.1f}s: {reason}"}
        case Refuse(status=status):
            return {"instead": f"answered {status} itself"}
        case Release() | Continue():
            raise AssertionError("nothing is released before it was asked for")


def _consequence(shadow: Exchange, step: Step) -> Facts:
    """What would have followed from a reply like this one."""
    found: Facts = {}
    suspension = shadow.outcomes[-1].suspension
    if suspension is not None:
        found["suspends"] = f"{suspension.key} for {duration(suspension.until - suspension.since)}"
    match step:
        case Attempt(candidate=candidate, opinion=True):
            found["then"] = f"asked {candidate} for a second opinion"
        case Attempt(candidate=candidate):
            found["then"] = f"replayed to {candidate}"
        case Wait(seconds=seconds, reason=reason):
            found["then"] = f"waited {seconds:.1f}s: {reason}"
        case Refuse(status=status):
            found["then"] = f"answered {status} itself"
        case Release():
            found["then"] = "released it"
    return found
