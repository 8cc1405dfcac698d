"""What happened, where people look: log lines one can read aloud, comments and markers, facts for machines.

The journal is told by the layer and decides nothing. What it knows of an exchange is in ``exchange_facts``; each
attempt that the tool did not get becomes a flow of its own (``attempt_flow``), which ``flow_list`` shows and saves. An
attempt that may still be released in the end is held back until that is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mitmproxy import http

from understudy.codec.steady_clock import STEADY, ahead_of
from understudy.codec.time_text import duration
from understudy.failover import SHORT_STEP, Attempt, Compared, Exchange, Outcome
from understudy.failover.memory import Plan
from understudy.inspection.exchange_table import advised
from understudy.model import OPEN_MARK, Candidate, Label, counted, printable
from understudy.proxy import exchange_facts as known
from understudy.proxy.exchange_facts import Facts, counts_of
from understudy.proxy.listener import Abandoned, Measured

logger = logging.getLogger("understudy")

REPLAYED = ":arrow_right_hook:"
"""Marker of a tool's flow that had more than one attempt, or was answered by understudy itself."""
FAULT = "F"
MARKERS = {
    Label.MODEL_UNSUPPORTED: "M",
    Label.CAPABILITY_UNSUPPORTED: "M",
    Label.CONTEXT_EXCEEDED: "M",
    Label.CREDENTIAL_REJECTED: "K",
    Label.RATE_LIMITED: "R",
    Label.QUOTA_EXHAUSTED: "Q",
    Label.OVERLOADED: "O",
}
"""Markers of attempts by label; ``FAULT`` where no reply came, ``OTHER`` for all others.

mitmproxy takes letters as markers, too, and they need no font with emoji."""
OTHER = "X"
DRILL = "D"
"""Marker of a tool's flow that belongs to a drill, and of each attempt that the drill answered or spoilt."""
ASKS_FOR_THE_OWNER = (Label.CREDENTIAL_REJECTED, Label.QUOTA_EXHAUSTED)
"""Labels that will not go away by themselves soon: their lines are warnings."""

type Show = Callable[[http.HTTPFlow | None, http.HTTPFlow], None]
"""Takes an attempt's flow, None when there is nothing new, and the tool's, whose comment has changed."""
type Listener = Callable[[http.HTTPFlow, Facts], None]
"""Takes the tool's flow and its facts when the exchange is over."""


@dataclass(slots=True)
class _Told:
    """What the journal knows of an exchange that is not over.

    ``described``: the number of the latest attempt that has a line. ``hopeful``: the attempt that is released if
    nothing better comes, by its number. ``lost``: what replies took that the tool did not get, noted when all is known
    of their attempts.
    """

    facts: Facts
    described: int = 0
    hopeful: tuple[int, http.HTTPFlow] | None = None
    lost: list[Measured] | None = None


class FlowJournal:
    """Writes to the log, to the flows, and tells its ``listeners`` of each exchange that is over.

    ``show`` puts an attempt's flow where flows are looked at; ``is_recorded`` tells whether that is anywhere just now.
    ``clock`` is that of the exchanges, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = STEADY) -> None:
        self.clock = clock
        self.show: Show = lambda attempt, tool: None
        self.is_recorded: Callable[[], bool] = lambda: True
        self.listeners: list[Listener] = []
        self._told: WeakKeyDictionary[Exchange, _Told] = WeakKeyDictionary()

    # -- what the layer tells ------------------------------------------------------------------------------------

    def began(self, flow: http.HTTPFlow, exchange: Exchange, plan: Plan) -> None:
        """A call is about to be answered from the pool."""
        facts = known.begin(exchange, plan, self.clock() + ahead_of(self.clock))
        flow.metadata[known.KEY] = facts
        self._told[exchange] = _Told(facts)
        if exchange.drill is not None:
            facts["drill"] = True
            flow.marked = flow.marked or DRILL
            _note(flow, f"drill: {exchange.drill.said}")

    def waited(self, flow: http.HTTPFlow, exchange: Exchange, seconds: float, reason: str) -> None:
        """A pause begins."""
        logger.info(f"waiting {seconds:.1f}s: {reason}")
        facts = self._known(exchange).facts
        waits = facts.setdefault("waits", [])
        if len(waits) < known.NOTED_WAITS:
            waits.append({"before": len(exchange.outcomes) + 1, "seconds": round(seconds, 3), "why": reason})

    def abandoned(self, abandoned: Abandoned) -> None:
        """An attempt was not the one for the tool."""
        flow, exchange, outcome = abandoned.flow, abandoned.exchange, abandoned.outcome
        told = self._known(exchange)
        facts = told.facts
        facts.setdefault("failing", self._since_begun(exchange))
        said, evidence = describe(exchange, outcome, evidence=False), outcome.verdict.evidence
        line = f"{said}: {evidence}" if evidence else said
        logger.log(_level(outcome), line)
        told.described = outcome.attempt.number
        if outcome.verdict.drafts:
            _drafts(exchange, outcome)
        _note(flow, line)

        def label(made: http.HTTPFlow) -> None:
            _label(made, flow, facts, known.tried(exchange, outcome), said)
            made.marked = FAULT if outcome.status == 0 else MARKERS.get(outcome.verdict.label, OTHER)
            made.marked = DRILL if outcome.attempt.drilled else made.marked

        abandoned.label = label
        if not self.is_recorded():
            return
        made = abandoned.record
        if made is not None and exchange.best == outcome.attempt.number:
            self._publish(told, flow)
            told.hopeful = (outcome.attempt.number, made)
            made = None
        self.show(made, flow)

    def sent_to_http(self, flow: http.HTTPFlow) -> None:
        """A WebSocket was refused, so that the tool makes its calls over plain HTTP."""
        _upgraded(flow, "answered with 426, the tool goes on over HTTP", "refused")

    def served(self, flow: http.HTTPFlow) -> None:
        """A WebSocket was accepted: its calls are made over HTTP."""
        _upgraded(flow, "accepted, each of its calls is a request of its own over HTTP", "served")

    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        """The reply of attempt ``number`` goes to the tool; 0: an answer of our own does."""
        told = self._known(exchange)
        facts = told.facts
        if told.hopeful is not None:
            self._publish(told, flow, but=number)
        known.catch_up(facts, exchange)
        attempts = len(exchange.outcomes)
        facts["released"] = self._since_begun(exchange)
        if [each for each in exchange.outcomes if each.compared is not None]:
            for line in compared(exchange):
                logger.info(line)
                _note(flow, line)
        if number:
            outcome = exchange.outcomes[number - 1]
            if outcome.verdict.drafts:
                _drafts(exchange, outcome)
            candidate = outcome.attempt.candidate
            facts["answer"] = number
            facts["credential"], facts["model"] = candidate.credential.name, facts["tried"][number - 1]["model"]
            if outcome.verdict.label is Label.OK:
                place = _of_all(facts["tried"][number - 1]["place"], exchange, outcome.attempt.repeat)
                line = f"{place} {candidate}: answered"
                if "skipped" in facts:
                    line += _passed_over(facts, number)
                if outcome.attempt.without:
                    line += _without_sealed(exchange, outcome)
                if moved_from := exchange.request.moved_from(outcome.attempt):
                    facts["moved"] = {"from": moved_from, "to": candidate.credential.name}
                if attempts > 1 or not line.startswith("1/") or "moved" in facts:
                    # Most calls are answered by the first candidate. mitmproxy's handlers take every level, and then a
                    # line at debug level costs more than all else that is done here.
                    logger.info(line)
            elif number > told.described:
                line = describe(exchange, outcome, before="released: ")
                logger.log(_level(outcome), line)
            else:
                line = f"{_place(exchange, outcome)} {candidate}: released: {outcome.verdict.label}"
                logger.info(line)
            _note(flow, line)
        else:
            facts["answer"] = 0
            _note(flow, "understudy answered itself")
        if attempts > 1 or not number:
            flow.marked = flow.marked or REPLAYED
            self._skipped_since(facts, exchange)

    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error; the tool has seen it."""
        line = f"{describe(exchange, outcome)} (after release, passed on as it was)"
        logger.warning(line)
        _note(flow, line)
        self._known(exchange).facts["ended"] = known.tried(exchange, outcome)

    def left(self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, record: http.HTTPFlow | None) -> None:
        """The tool went away during an attempt, which says nothing about its candidate."""
        facts, candidate = self._known(exchange).facts, attempt.candidate
        line = f"{_number(exchange, candidate, attempt.repeat)} {candidate}: cancelled, the tool went away"
        logger.info(line)
        _note(flow, line)
        facts["cancelled"] = str(candidate)
        if record is not None:
            entry = {"number": attempt.number, "place": known.place(exchange, candidate), "label": "cancelled"}
            _label(record, flow, facts, entry, line)
        self.show(record, flow)

    def served_by(self, flow: http.HTTPFlow, exchange: Exchange, number: int, model: str) -> None:
        """The reply of this attempt, which goes to the tool, names another model than was sent (Q04)."""
        facts, candidate = self._known(exchange).facts, exchange.outcomes[number - 1].attempt.candidate
        facts["served_model"] = model
        _note(flow, f"{candidate}: the reply names {model}, another model than was sent")

    def measured(self, flow: http.HTTPFlow, exchange: Exchange, measured: Measured) -> None:
        """What a reply took (Q03)."""
        told = self._known(exchange)
        if measured.lost:
            told.lost = [*(told.lost or ()), measured]
            return
        facts = told.facts
        if measured.served and "served_model" not in facts and exchange.is_released:
            self.served_by(flow, exchange, measured.attempt.number, measured.served)
        counts = None
        if measured.usage is not None:
            facts["usage"] = counts = counts_of(measured.usage)
        known.measure(facts, measured.attempt.number, counts, measured.served, lost=False)

    def finished(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """The exchange is over. May be told twice."""
        told = self._told.pop(exchange, None)
        if told is None:
            return
        facts = told.facts
        if told.hopeful is not None:
            self._publish(told, flow)
        known.catch_up(facts, exchange)
        for lost in told.lost or ():
            counts = counts_of(lost.usage) if lost.usage is not None else None
            known.measure(facts, lost.attempt.number, counts, lost.served, lost=True)
        facts["seconds"] = self._since_begun(exchange)
        facts.setdefault("answer", None)
        self._tell(flow, facts)

    def observing(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """A call is passed on as it came, and only looked at."""
        flow.metadata[known.KEY] = facts

    def observed(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """What came of it; ``advise`` also says so in the flow."""
        seen = facts.get("observed", {})
        line = f"{facts['mode']} {facts['alias']} by route {facts['route']}: {seen.get('label', 'cancelled')}"
        if seen:
            line += f" by {seen['rule']}{OPEN_MARK if seen.get('open') is True else ''}" + (
                f": {seen['evidence']}" if seen.get("evidence") else ""
            )
        if told := advised(facts.get("advice")):
            line += f" (enforce would have {told})"
            _note(flow, line)
            if seen.get("label") not in ("ok", None):
                flow.marked = flow.marked or REPLAYED
        if seen.get("label") != "ok":
            logger.info(line)
        self._tell(flow, facts)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _known(self, exchange: Exchange) -> _Told:
        told = self._told.get(exchange)
        if told is None:
            # Without began() it is not looked at; a listener that is told only half must not fail for it.
            now = self.clock() + ahead_of(self.clock)
            told = self._told[exchange] = _Told({"exchange": "", "time": now, "tried": []})
        return told

    def _tell(self, flow: http.HTTPFlow, facts: Facts) -> None:
        for listener in self.listeners:
            try:
                listener(flow, facts)
            except Exception as error:
                # To write about a call must never cost it.
                logger.error(f"understudy: a call cannot be logged: {error!r}")

    def _since_begun(self, exchange: Exchange) -> float:
        return round(max(0.0, self.clock() - exchange.started), 4)

    def _publish(self, told: _Told, flow: http.HTTPFlow, but: int = 0) -> None:
        """Show the attempt that was held back, unless it is the one that is released after all."""
        hopeful, told.hopeful = told.hopeful, None
        if hopeful is not None and hopeful[0] != but:
            self.show(hopeful[1], flow)

    @staticmethod
    def _skipped_since(facts: Facts, exchange: Exchange) -> None:
        """Say also who was not picked for what this exchange itself has learnt."""
        tried = {(entry["credential"], entry["model"]) for entry in facts["tried"]}
        skipped = {(each["credential"], each["model"]): each for each in facts.get("skipped", ())}
        for each in known.skipped(exchange, tried):
            skipped.setdefault((each["credential"], each["model"]), each)
        if skipped:
            facts["skipped"] = list(skipped.values())


def _label(record: http.HTTPFlow, tool: http.HTTPFlow, facts: Facts, entry: Facts, comment: str) -> None:
    """Link an attempt's flow with the tool's."""
    head = {"exchange": facts["exchange"], "attempt": entry["number"], "flow": tool.id}
    routing = {key: facts[key] for key in ("route", "alias", "dialect", "endpoint", "streamed", "of") if key in facts}
    record.metadata[known.KEY] = {**head, **routing, **entry}
    record.comment = comment


def _upgraded(flow: http.HTTPFlow, what: str, upgrade: str) -> None:
    """What became of the opening handshake of a WebSocket."""
    where = printable(f"{flow.request.pretty_host}{flow.request.path.partition('?')[0]}")
    line = f"{where}: WebSocket {what}"
    logger.info(line)
    _note(flow, line)
    flow.metadata["understudy"] = {"upgrade": upgrade}


def _note(flow: http.HTTPFlow, line: str) -> None:
    """Add to the flow's comment. mitmweb folds line breaks, so a mark stands between the parts."""
    flow.comment = f"{flow.comment} → {line}" if flow.comment else line


def describe(exchange: Exchange, outcome: Outcome, *, before: str = "", evidence: bool = True) -> str:
    """One line about an attempt: ``1/3 home gpt-5: rate_limited by general/rate_limited, suspended 20s: evidence``.

    1/3 is the place of the candidate among those of the route. ``before``: to be said before the label.
    """
    verdict, suspension = outcome.verdict, outcome.suspension
    said = outcome.word if outcome.hedged else verdict.in_words
    opinion = " (second opinion)" if outcome.attempt.opinion else ""
    opinion += " (drill)" if outcome.attempt.drilled else ""
    text = f"{_place(exchange, outcome)} {outcome.attempt.candidate}{opinion}: {before}{said}"
    if suspension is not None:
        what = "" if suspension.key.scope == "candidate" else f"{suspension.key.scope} "
        if suspension.since < outcome.attempt.begun:
            # It was suspended before, for longer than this failure would have done, or a person had it probed early.
            left = duration(suspension.until - exchange.selector.suspensions.clock())
            text += f", {what}suspended for another {left}"
        else:
            text += f", {what}suspended {duration(suspension.until - suspension.since)}"
    return f"{text}: {verdict.evidence}" if evidence and verdict.evidence else text


NAMED = 3
"""How many candidates that were passed over a line names."""


def _passed_over(facts: Facts, number: int) -> str:
    """Who stands before the candidate that answered and was not asked, and why: `` (work suspended: ...)``."""
    answered = facts["tried"][number - 1]
    tried = {(each["credential"], each["model"]) for each in facts["tried"]}
    passed = [
        each
        for each in facts.get("skipped", ())
        if each["place"] < answered["place"] and (each["credential"], each["model"]) not in tried
    ]
    if not passed:
        return ""
    told = [
        f"{each['credential']}{'' if each['model'] == answered['model'] else ' ' + each['model']} {each['brief']}"
        for each in passed[:NAMED]
    ]
    more = [f"and {len(passed) - NAMED} more"] if len(passed) > NAMED else []
    return f" ({'; '.join([*told, *more])})"


def _without_sealed(exchange: Exchange, outcome: Outcome) -> str:
    """What an answer was made without: ``, moved from work without 3 sealed parts: their reasoning is lost, ...``."""
    attempt = outcome.attempt
    if not attempt.left_out:
        return ""
    without = f"without {counted(attempt.left_out, 'sealed part')}"
    if moved_from := exchange.request.moved_from(attempt):
        return f", the conversation moves from {moved_from} {without}: their reasoning and the prompt cache are lost"
    return f", {without} that it cannot read"


def compared(exchange: Exchange) -> list[str]:
    """What a comparison of an exchange's replies came to, in a line each."""
    lines = []
    asked = [each for each in exchange.outcomes if each.attempt.opinion]
    other = f"{asked[-1].attempt.candidate}" if asked else "another candidate"
    head = "second opinion" if asked else "comparison"
    for outcome in exchange.outcomes:
        first, number = outcome.attempt.candidate, outcome.signature
        match outcome.compared:
            case Compared.CANDIDATE:
                span = f", so {first} is suspended {duration(SHORT_STEP)}" if outcome.suspension is not None else ""
                lines.append(f"{head}: {other} answers the same request{span} (signature {number})")
            case Compared.REQUEST:
                lines.append(f"{head}: {other} refuses too, so it is the request's fault (signature {number})")
            case Compared.UNDECIDED:
                lines.append(f"{head}: {other} cannot tell (signature {number})")
            case Compared.KNOWN_CANDIDATE:
                lines.append(f"known by comparison: the fault is {first}'s own (signature {number})")
            case Compared.KNOWN_REQUEST:
                lines.append(f"known by comparison: no other candidate is asked (signature {number})")
            case Compared.ALIKE:
                span = duration(SHORT_STEP)
                lines.append(
                    f"all candidates refuse this request alike, so the request is suspected: {span} for each at most"
                )
                break
    return lines


def _level(outcome: Outcome) -> int:
    """How loud the line of a failed attempt is."""
    return logging.WARNING if outcome.verdict.label in ASKS_FOR_THE_OWNER else logging.INFO


def _drafts(exchange: Exchange, outcome: Outcome) -> None:
    """Draft rules are logged and never acted on."""
    for draft in outcome.verdict.drafts:
        rule, _, label = draft.partition(": ")
        place = f"{_place(exchange, outcome)} {outcome.attempt.candidate}"
        logger.info(f"{place}: the draft {rule} would have said {label}, judged {outcome.verdict.label}")


def _place(exchange: Exchange, outcome: Outcome) -> str:
    return _number(exchange, outcome.attempt.candidate, outcome.attempt.repeat)


def _number(exchange: Exchange, candidate: Candidate, repeat: bool) -> str:
    return _of_all(known.place(exchange, candidate), exchange, repeat)


def _of_all(place: int, exchange: Exchange, repeat: bool) -> str:
    return f"{place}/{len(exchange.lineup.members)}{' again' if repeat else ''}"
