"""What each label means when neither rule nor route says otherwise (docs/architecture.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from understudy.model import Label, Scope, Verdict
from understudy.replies import Fault, FaultKind
from understudy.suspensions import HOUR, MINUTE, doubling


class Next(StrEnum):
    """Who may be tried after this label."""

    NOBODY = "nobody"  # the reply is released
    ANYONE = "anyone"
    OTHER_MODEL = "other_model"  # only a candidate with another upstream model


@dataclass(frozen=True, slots=True)
class Default:
    """The default action of a label. Times in seconds.

    ``scope`` None: nothing is suspended. ``steps``: for how long, the first time and while it keeps failing.
    ``hint_cap``: the longest stated time that is believed, 0 when hints do not count. ``repeat``: the same candidate is
    tried once more first. ``hope``: how likely a later try cures it; with nothing left to try the most hopeful reply is
    released.
    """

    next: Next
    scope: Scope | None = None
    steps: tuple[float, ...] = ()
    hint_cap: float = 0.0
    repeat: bool = False
    hope: int = 0


DEFAULTS: Mapping[Label, Default] = MappingProxyType(
    {
        Label.MODEL_UNSUPPORTED: Default(Next.ANYONE, Scope.CANDIDATE, (10 * MINUTE, HOUR, 12 * HOUR)),
        Label.RATE_LIMITED: Default(
            Next.ANYONE, Scope.CANDIDATE, doubling(1.0, 30 * MINUTE), hint_cap=30 * MINUTE, hope=3
        ),
        Label.QUOTA_EXHAUSTED: Default(Next.ANYONE, Scope.CREDENTIAL, (HOUR,), hint_cap=24 * HOUR, hope=2),
        Label.CREDENTIAL_REJECTED: Default(Next.ANYONE, Scope.CREDENTIAL, (30 * MINUTE,)),
        Label.OVERLOADED: Default(
            Next.ANYONE, Scope.CANDIDATE, doubling(3.0, 12.0), hint_cap=30.0, repeat=True, hope=3
        ),
        Label.CAPABILITY_UNSUPPORTED: Default(Next.OTHER_MODEL, hope=1),
        Label.CONTEXT_EXCEEDED: Default(Next.OTHER_MODEL, hope=1),
        Label.CONTENT_FILTERED: Default(Next.NOBODY),
        Label.REQUEST_INVALID: Default(Next.NOBODY),
        Label.UNKNOWN: Default(Next.NOBODY),
        Label.OK: Default(Next.NOBODY),
    }
)

FAULT_SCOPE: Mapping[FaultKind, Scope] = MappingProxyType(
    {
        FaultKind.CONNECT: Scope.UPSTREAM,
        FaultKind.TLS: Scope.UPSTREAM,
        # One connection that breaks is no outage; repeated evidence widens it (see Exchange).
        FaultKind.CLOSED: Scope.CANDIDATE,
        # What came after a working connection says something about the model behind it, not about the host.
        FaultKind.SILENCE: Scope.CANDIDATE,
        FaultKind.EMPTY: Scope.CANDIDATE,
        FaultKind.CUT: Scope.CANDIDATE,
    }
)


def action(verdict: Verdict, fault: Fault | None = None) -> Default:
    """The label's default action with what the rule overrides; what a fault suspends follows from its kind."""
    default, then = DEFAULTS[verdict.label], verdict.then
    if fault is not None:
        # A new connection may work at once; a host that refuses connections, or says nothing, is not asked twice.
        again = fault.kind in (FaultKind.CLOSED, FaultKind.CUT)
        # Whoever was silent once is not waited for a second time by the same request.
        hope = 0 if fault.kind is FaultKind.SILENCE else default.hope
        return replace(default, scope=FAULT_SCOPE[fault.kind], repeat=again, hope=hope)
    if then.scope is not None:
        default = replace(default, scope=then.scope)
    if then.hope is not None:
        default = replace(default, hope=then.hope)
    return replace(default, steps=(then.seconds,)) if then.seconds is not None else default
