"""The exchange of a call that belongs to a drill (H12): the same decisions, and a drill strikes some of its attempts.

It is a class of its own, so that a call pays nothing for it while no drill runs.
"""

from __future__ import annotations

from random import Random
from typing import override

from understudy.failover.affinity import Sessions
from understudy.failover.exchange import Exchange
from understudy.failover.pacing import Pacing
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Attempt, Drilling, Request, Struck
from understudy.model import Candidate
from understudy.rules import Ruleset


class DrilledExchange(Exchange):
    """An exchange over lineups that know what the drill has suspended. ``drill``: that drill."""

    drill: Drilling

    def __init__(
        self,
        request: Request,
        lineup: Lineup,
        selector: Selector,
        ruleset: Ruleset,
        now: float,
        random: Random,
        sessions: Sessions | None,
        pacing: Pacing | None,
        drill: Drilling,
    ) -> None:
        super().__init__(request, lineup, selector, ruleset, now, random, sessions, pacing)
        self.drill = self._penalties.drill = drill

    @override
    def spoke(self, of: Candidate, seconds: float) -> None:
        if not any(each.drilled for each in self.under_way if each.candidate == of):
            super().spoke(of, seconds)  # how long one that is struck takes when it is left alone is not known by this

    @override
    def _send(
        self,
        candidate: Candidate,
        now: float,
        *,
        refresh: bool = False,
        early: bool = False,
        ticket: int = 0,
        opinion: bool = False,
        kind: type[Attempt] = Attempt,
    ) -> Attempt:
        if self.drill.strikes(candidate, generating=self.request.generating):
            kind = Struck
            if not self.drill.asks:
                self._leave(candidate)  # nothing is under way there
        return super()._send(candidate, now, refresh=refresh, early=early, ticket=ticket, opinion=opinion, kind=kind)
