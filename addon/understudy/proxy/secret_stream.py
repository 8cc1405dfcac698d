"""The secret of an attempt: fetched where it is not at hand, and put into the request at the last moment (law 8).

A layer cannot wait for a program, so a hook asks the addon to. Most secrets are at hand and cost no hook.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mitmproxy import http
from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import CommandGenerator

from understudy.config.secrets import CommandSecret
from understudy.model import Candidate, SecretError, SigningSource
from understudy.proxy.delivery import DeliveryStream
from understudy.replies import Secret
from understudy.requests import rewrite


@dataclass
class Fetch:
    """A request waits for a secret. ``rejected``: the one that the upstream did not take, "" without one."""

    source: CommandSecret
    rejected: str = field(repr=False)


@dataclass
class UnderstudySecretHook(commands.StartHook):
    """The secret of an attempt is not at hand: whoever implements ``understudy_secret(fetch)`` fetches it."""

    fetch: Fetch


class SecretStream(DeliveryStream):
    """One request of a tool, as far as it concerns the secrets it goes out with."""

    def fetch(self, candidate: Candidate, rejected: str) -> CommandGenerator[bool]:
        """See to it that the candidate's secret is at hand; returns whether the tool went away meanwhile."""
        source = candidate.credential.secret
        if not isinstance(source, CommandSecret) or source.at_hand(rejected):
            return False
        yield UnderstudySecretHook(Fetch(source, rejected))
        return (yield from self.gone())

    def request_for(self, candidate: Candidate, rejected: str) -> http.Request:
        """The request as the candidate gets it; takes note of the secret in it.

        Raises SecretError when there is none to be had but the ``rejected`` one, ValueError when it cannot be built.
        """
        assert self.plan is not None and self.intake is not None and self.exchange is not None
        recognised, call, source = self.plan.recognised, self.plan.call, candidate.credential.secret
        readable = self.plan.route.restore_alias
        if source.is_client:
            self.secret = Secret("client", "", self.intake.stash.secrets)
            own = self.intake.stash
            return rewrite.build(self.flow.request, recognised, call, candidate, "", own, readable=readable)
        value = source.reveal()
        if rejected and value == rejected:
            raise SecretError(f"{source} printed the same secret again, which was rejected")
        if isinstance(source, CommandSecret) and self.now() >= self.exchange.deadline:
            raise SecretError(f"{source} took all the time there was")
        if isinstance(source, CommandSecret) and self.engine_now.identities.saw(candidate.credential.name, value):
            self.exchange.renewed()
        others = source.others() if isinstance(source, SigningSource) else ()
        self.secret = Secret(candidate.credential.name, value, others)
        return rewrite.build(self.flow.request, recognised, call, candidate, value, readable=readable)
