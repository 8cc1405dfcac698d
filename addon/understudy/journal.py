"""What happened, where people look: log lines one can read aloud, and a comment and metadata on the tool's flow."""

from __future__ import annotations

import logging

from mitmproxy import http

from understudy.attempts import Abandoned
from understudy.exchange import Exchange
from understudy.pool import printable
from understudy.refusal import duration
from understudy.rules import Scope
from understudy.steps import Outcome
from understudy.suspensions import key_of

logger = logging.getLogger("understudy")


class FlowJournal:
    """Writes to the log and to ``flow.comment`` and ``flow.metadata["understudy"]``."""

    def abandoned(self, abandoned: Abandoned) -> None:
        """An attempt was not the one for the tool."""
        line = describe(abandoned.exchange, abandoned.outcome)
        logger.info(line)
        _drafts(abandoned.exchange, abandoned.outcome)
        _note(abandoned.flow, line)

    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        """The reply of attempt ``number`` goes to the tool; 0: an answer of our own does."""
        route = exchange.lineup.route.pattern
        attempts = len(exchange.outcomes)
        facts = {"route": route, "alias": printable(exchange.request.alias), "attempts": attempts}
        if number:
            outcome = exchange.outcomes[number - 1]
            _drafts(exchange, outcome)
            candidate = outcome.attempt.candidate
            facts |= {"credential": candidate.credential.name, "model": printable(candidate.model)}
            verb = "answered" if outcome.verdict.label.value == "ok" else f"released: {outcome.verdict.label}"
            line = f"{_place(exchange, outcome)} {candidate}: {verb}"
            if attempts > 1 or not line.startswith("1/"):
                logger.info(line)
            _note(flow, line)
        else:
            _note(flow, "understudy answered itself")
        if attempts > 1 or not number:
            flow.marked = flow.marked or ":performing_arts:"
        flow.metadata["understudy"] = facts

    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error; the tool has seen it."""
        line = f"{describe(exchange, outcome)} (after release, passed on as it was)"
        logger.warning(line)
        _note(flow, line)

    def sent_to_http(self, flow: http.HTTPFlow) -> None:
        """A WebSocket was refused, so that the tool makes its calls over plain HTTP."""
        where = printable(f"{flow.request.pretty_host}{flow.request.path.partition('?')[0]}")
        line = f"{where}: WebSocket answered with 426, the tool goes on over HTTP"
        logger.info(line)
        _note(flow, line)
        flow.metadata["understudy"] = {"upgrade": "refused"}


def _note(flow: http.HTTPFlow, line: str) -> None:
    """Add to the flow's comment. mitmweb folds line breaks, so a mark stands between the parts."""
    flow.comment = f"{flow.comment} → {line}" if flow.comment else line


def describe(exchange: Exchange, outcome: Outcome) -> str:
    """One line about an attempt: ``1/3 home gpt-5: rate_limited by general/rate_limited, suspended 20s: evidence``.

    1/3 is the place of the candidate among those of the route.
    """
    verdict, suspension = outcome.verdict, outcome.suspension
    text = f"{_place(exchange, outcome)} {outcome.attempt.candidate}: {verdict.label} by {verdict.rule}"
    if suspension is not None:
        what = "" if suspension.key.scope == "candidate" else f"{suspension.key.scope} "
        text += f", {what}suspended {duration(suspension.until - suspension.since)}"
    return f"{text}: {verdict.evidence}" if verdict.evidence else text


def _drafts(exchange: Exchange, outcome: Outcome) -> None:
    """Draft rules are logged and never acted on."""
    for draft in outcome.verdict.drafts:
        rule, _, label = draft.partition(": ")
        place = f"{_place(exchange, outcome)} {outcome.attempt.candidate}"
        logger.info(f"{place}: the draft {rule} would have said {label}, judged {outcome.verdict.label}")


def _place(exchange: Exchange, outcome: Outcome) -> str:
    lineup, candidate = exchange.lineup, outcome.attempt.candidate
    place = lineup.mask(key_of(candidate, Scope.CANDIDATE)).bit_length()
    again = " again" if outcome.attempt.repeat else ""
    return f"{place}/{len(lineup.members)}{again}"
