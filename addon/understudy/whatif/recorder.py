"""From saved flows to recorded calls: what a tool asked for, and every reply that was recorded for it.

A flow that understudy recorded says so in its metadata: the attempts of an exchange are flows of their own, linked with
the tool's flow by the exchange's id. A flow of any other recorder is a call with one attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mitmproxy import http

from understudy.codec.record import record
from understudy.config.secrets import EnvSecret
from understudy.dialects import DIALECTS, Call, Endpoint, Kind, Progress
from understudy.failover.memory import marks_of
from understudy.flows import Masks, SavedFlow, SavedReply
from understudy.flows.traits import fault_of, is_gone, number_of, request_of, seconds_until, text_of
from understudy.model import Candidate, Credential, Label, Pool, Upstream
from understudy.replies import Fault, FaultKind, Held, Hold, Reply, Secret, Tail
from understudy.requests import Recognised, Sites
from understudy.rules import Ruleset

NO_SECRET = EnvSecret("RECORDED", {"RECORDED": "recorded"})
"""The source of a credential that only stands in a record."""
PIECE = 16 * 1024
"""Bytes in which a recorded body is read: most are decided by the first."""
OWN_ANSWER = "x-understudy"


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """One recorded reply. ``credential`` and ``model`` say whose, "" where the recorder did not know.

    ``reply`` None: real output, or a reply that needs no decision. ``seconds``: until the reply was there.
    ``complete``: its end was seen. ``ended_badly``: what a live stream ended in after it was released. ``marks``: what
    only the account that it came from will know later.
    """

    number: int
    flow: int
    credential: str
    model: str
    status: int
    reply: Reply | None
    seconds: float
    complete: bool = False
    ended_badly: Reply | None = None
    marks: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether it was a real answer."""
        return self.reply is None or self.complete

    @property
    def size(self) -> int:
        """Bytes that this keeps in memory, roughly."""
        return 1000 + 150 * len(self.marks) + (len(self.reply.body) if self.reply is not None else 0)


@dataclass
class RecordedCall:
    """A model call of a tool with what was recorded for it.

    ``facts``: what understudy noted, empty where another recorder wrote the file. ``own``: understudy answered itself.
    """

    file: str
    flow: int
    id: str
    began: float
    host: str
    recognised: Recognised
    call: Call
    request: http.Request = field(repr=False)  # with whatever the tool sent as its credential
    status: int
    own: bool
    gone: bool
    facts: Mapping[str, Any] = field(repr=False)
    comment: str = field(repr=False)
    attempts: list[RecordedAttempt] = field(default_factory=list)

    @property
    def exchange(self) -> str:
        """The id of the exchange, "" where none is known."""
        return text_of(self.facts, "exchange")

    @property
    def size(self) -> int:
        """Bytes that this call keeps in memory, roughly."""
        return 1000 + len(self.request.data.content or b"") + sum(each.size for each in self.attempts)


class Recorder:
    """Makes recorded calls of saved flows. ``masks`` learns every credential that is seen."""

    def __init__(self, pool: Pool, ruleset: Ruleset, masks: Masks) -> None:
        self.pool = pool
        self.sites = Sites(pool)
        self.ruleset = ruleset
        self.masks = masks
        self.secret = _MaskedAlways("client", "", masks=masks)

    def read(self, flow: SavedFlow, file: str = "") -> RecordedCall | RecordedAttempt | None:
        """What one flow is; None when it is no known model call."""
        self.masks.learn_flow(flow)
        facts = flow.facts
        attempt = number_of(facts, "attempt")
        found = self._recognise(flow)
        if found is None:
            return None
        recognised, call = found
        if attempt:
            return self._attempt(flow, recognised, call, attempt)
        reply = flow.reply
        own = reply is not None and any(name.lower() == OWN_ANSWER for name, _ in reply.headers)
        gone = flow.reply is None and is_gone(flow)
        made = RecordedCall(
            file,
            flow.number,
            flow.id,
            flow.began,
            flow.host,
            recognised,
            call,
            request_of(flow),
            reply.status if reply is not None else 0,
            own,
            gone,
            facts,
            flow.comment,
        )
        number = number_of(facts, "answer") or number_of(facts, "attempts") or 1
        if not own and (read := self._attempt(flow, recognised, call, number)) is not None:
            made.attempts.append(read)
        return made

    def _recognise(self, flow: SavedFlow) -> tuple[Recognised, Call] | None:
        facts = flow.facts
        recognised = self.sites.recognise(flow.host, flow.port, flow.method, flow.path)
        dialect = DIALECTS.get(text_of(facts, "dialect"))
        if recognised is None and dialect is not None:
            # A call that understudy served, by a pool that named more hosts than this one.
            recognised = Recognised(dialect, Endpoint(text_of(facts, "endpoint"), Kind.GENERATING), "", "")
        if recognised is None:
            return None
        if alias := text_of(facts, "alias"):
            call = Call(alias, facts.get("streamed") is True)
            if "streamed" in facts:
                return recognised, call
        content_type, tail = flow.header("content-type"), recognised.tail
        read = recognised.dialect.read(tail, recognised.query, content_type, flow.body)
        return (recognised, replace(read, alias=alias or read.alias)) if read else None

    def _attempt(self, flow: SavedFlow, recognised: Recognised, call: Call, number: int) -> RecordedAttempt | None:
        """The reply of a flow, as it is held and judged when it comes over the wire; None when there is none."""
        facts, saved = flow.facts, flow.reply
        credential, model = text_of(facts, "credential"), text_of(facts, "model")
        hold = Hold(recognised, call, self._candidate(flow, recognised, credential, model or call.alias), self.secret)
        if saved is None:
            if is_gone(flow) or not flow.error:
                return None
            reply, seconds = hold.fault(fault_of(flow)), seconds_until(flow, flow.broke)
            return RecordedAttempt(number, flow.number, credential, model, 0, reply, seconds)
        read = self._read(hold, saved, "" if is_gone(flow) else flow.error)
        # A live stream is decided when it begins, everything else when all of it is there.
        at = saved.began if hold.live and read.reply is None else saved.ended or saved.began
        seconds, marks = seconds_until(flow, at), marks_of(recognised, read.content)
        return RecordedAttempt(
            number, flow.number, credential, model, saved.status, read.reply, seconds, read.complete, read.broke, marks
        )

    def _read(self, hold: Hold, saved: SavedReply, error: str) -> _Read:
        held = hold.start(saved.status, saved.headers)
        if saved.body is None and hold.success:
            return _Read(None)  # a live stream that was not kept: it had begun
        for at in range(0, len(saved.body or b""), PIECE):
            if held is Held.MORE and saved.body is not None:
                held = hold.data(saved.body[at : at + PIECE])
        cut = Fault(FaultKind.CUT, error, sent=True) if error else None
        if held is Held.MORE and cut is not None:
            return _Read(hold.fault(cut))
        if held is Held.MORE:
            held = hold.end()
        if held is Held.REPLY or (held is Held.BOUND and hold.status in (401, 403)):
            reply = hold.reply()
            if self.ruleset.judge(reply).label is not Label.OK:
                return _Read(replace(reply))  # without what judging has kept of it
            # Nothing of it is asked for again, and a long file has thousands of these.
            return _Read(replace(reply, body=b"", headers=(), truncated=True), True, content=bytes(hold.body))
        if cut is not None:
            return _Read(None, broke=hold.fault(cut))
        if not hold.live:
            return _Read(None, True, content=bytes(hold.body))
        tail = Tail()
        tail.append(saved.tail or saved.body or b"")
        progress, event = tail.last(hold)
        if progress is Progress.ERROR and event is not None:
            return _Read(None, broke=hold.ending(event))
        # The last event of the Responses API repeats the whole answer.
        said = event.data if event is not None and hold.endpoint.name.startswith("responses") else tail.content()
        return _Read(None, True, content=said) if progress is Progress.DONE else _Read(None)

    def _candidate(self, flow: SavedFlow, recognised: Recognised, credential: str, model: str) -> Candidate:
        """Who was asked then, so that rules see the host and the model that the reply is about."""
        known = self.pool.credentials.get(credential)
        if known is not None and recognised.dialect.name in known.upstream.dialects:
            return Candidate(replace(known, upstream=known.upstream.face(recognised.dialect.name)), model)
        upstream = Upstream("recorded", recognised.dialect.name, "https", flow.host, flow.port)
        return Candidate(Credential(credential or "recorded", upstream, NO_SECRET), model)


@dataclass(frozen=True, slots=True)
class _Read:
    """A recorded reply as it would have been held; see :class:`RecordedAttempt`. ``content``: of a good one, decoded;
    of a stream its last event."""

    reply: Reply | None
    complete: bool = False
    broke: Reply | None = None
    content: bytes = b""


@record
class _MaskedAlways(Secret):
    """Masks every credential that was seen, in a reply that is held."""

    masks: Masks = field(default_factory=Masks, repr=False)

    def mask[T: (str, bytes)](self, text: T) -> T:
        return self.masks.mask(text)
