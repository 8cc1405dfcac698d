"""What the parts of a stream share about one call of a tool: the request, who answers it, and its secrets so far."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from mitmproxy import http

from understudy.drill import Call
from understudy.failover import Exchange
from understudy.failover.memory import Plan
from understudy.model import Candidate
from understudy.proxy.engine import Engine, Intake
from understudy.proxy.listener import Journal
from understudy.replies import Secret


@dataclass(eq=False, slots=True)
class PooledCall:
    """One call that is answered from the pool.

    ``journal_now``: who is told of it; None without a listener, or once the addon has left.
    """

    flow: http.HTTPFlow
    engine: Engine
    intake: Intake
    plan: Plan
    exchange: Exchange
    journal_now: Callable[[], Journal | None] = lambda: None
    secrets: list[tuple[Candidate, Secret]] = field(default_factory=list, repr=False)
    """Whom it was sent to with what, in order."""

    @property
    def drilled(self) -> Call | None:
        """The call as a drill counts it; None where it belongs to none."""
        drilled = self.exchange.drill
        return drilled if isinstance(drilled, Call) else None

    @property
    def asked(self) -> bytes:
        """The body of the tool's request."""
        return self.flow.request.data.content or b""

    @property
    def client_is_there(self) -> bool:
        """Whether the tool's connection is open: behind one that is not, no end of anything is an upstream's fault."""
        return self.flow.client_conn.connected

    def last_secret(self, candidate: Candidate) -> str:
        """The secret that this candidate was asked with last, "" when it was not asked yet."""
        return next((secret.value for asked, secret in reversed(self.secrets) if asked == candidate), "")

    def trace(self, error: Exception) -> str:
        """As :func:`trace`, with every secret masked that this call went out with."""
        return trace(error, self.intake, *(secret for _, secret in self.secrets))


def trace(error: Exception, intake: Intake | None, *secrets: Secret) -> str:
    """Where it happened; with the text of the error only when all secrets that could stand in it are known."""
    where = f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}"
    if intake is None or not intake.is_call:
        return where
    try:
        text = str(error)
        for secret in (Secret("client", "", intake.stash.secrets), *secrets):
            text = secret.mask(text)
        return f"{where}: {text}"
    except Exception:
        return where
