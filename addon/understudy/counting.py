"""The journal with somebody beside it who counts: the hooks of the layer, told to the tallies as well."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import override

from mitmproxy import http

from understudy.exchange import Exchange
from understudy.journal import FlowJournal
from understudy.steps import Outcome
from understudy.tallies import Tallies
from understudy.telling import Abandoned

logger = logging.getLogger("understudy")


class CountingJournal(FlowJournal):
    """Tells the tallies what the journal is told. To count must never cost a call."""

    def __init__(self, tallies: Tallies) -> None:
        super().__init__()
        self.tallies = tallies

    @override
    def abandoned(self, abandoned: Abandoned) -> None:
        super().abandoned(abandoned)
        self._count(lambda: self.tallies.tried(abandoned.flow.id, abandoned.exchange))

    @override
    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        super().released(flow, exchange, number)
        self._count(lambda: self.tallies.released(flow.id, exchange, number))

    @override
    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        super().ended_badly(flow, exchange, outcome)
        self._count(lambda: self.tallies.ended_badly(flow.id, exchange, outcome))

    @staticmethod
    def _count(tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as error:
            logger.error(f"understudy: an exchange cannot be counted: {type(error).__name__}")
