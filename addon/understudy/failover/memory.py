"""What is remembered from one call to the next: sessions, who knows what, rounds of the same request, last refusals.

Nothing of it decides whether a secret may go somewhere, and all of it is bounded (see ``affinity``). The exchange asks
for sessions, the engine for the rest; the layer tells how calls ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from cachetools import LRUCache, TTLCache

from understudy.codec.record import record
from understudy.dialects import Call
from understudy.failover.affinity import NOTHING_SPENT, RETRY_SECONDS, Rounds, Sessions, Spent
from understudy.failover.default_actions import DEFAULTS, Next
from understudy.failover.exchange import Exchange
from understudy.failover.generations import own_name
from understudy.failover.ledger import Ledger
from understudy.model import Affinity, Candidate, Label, Pool, Route
from understudy.requests import Conversation, Recognised, sealed
from understudy.requests.conversation import STATE_HEADERS
from understudy.requests.sealed import state_name

TOOL = "the tool"
"""Who owns what the tool has uploaded with its own credential; no credential can have this name."""
UPLOAD_REPLY = 64 * 1024
"""Bytes of the reply to an upload that are read for the name of the file."""
REFUSAL_LIMIT = 64 * 1024
"""Bytes of a refusal's body; a longer one is not kept."""
BROKEN = 64
"""How many streams that ended in an error are kept."""
_HASHED = 1024 * 1024
REFUSALS = 256
"""How many refusals of a model are kept, one an alias."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A real refusal of a model as the tool got it, decoded, for calls while no candidate can be asked (F17)."""

    status: int
    content_type: str
    body: bytes


@record
class Plan:
    """A call that has a route."""

    recognised: Recognised
    call: Call
    route: Route
    conversation: Conversation
    owner: str = ""
    """The credential that alone knows what the call refers to, "" when any may serve it; TOOL: the tool's own (P04)."""
    user: str = ""
    """The user of the proxy that the call is from, "" where no name was checked. The route is as it is for that one."""
    bond: str = ""
    """What binds the call to its owner, in words; "" without one."""
    shape: sealed.Shape | None = None
    """The shape of a body that may have sealed parts; None: it has none."""
    tokens: tuple[int, int] | None = None
    """What the call is likely to take, see ``requests.size``; None: it was not estimated yet."""
    parts: tuple[str, ...] | None = None
    """The names of all sealed parts of a large body, where its conversation has not told them; None: not looked for."""

    @property
    def session(self) -> str:
        """What stays with one candidate (P02), "" for nothing. Two users have no session in common."""
        if not self.user:
            return self.conversation.session
        session = "" if self.route.affinity is Affinity.USER else self.conversation.session
        return f"{self.user}\0{session}" if session or self.route.affinity is Affinity.USER else ""


class Memory:
    """One per engine; it outlives pools. ``clock`` is that of the suspensions, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.sessions = Sessions(clock, Pool.affinity)
        self.ledger = Ledger(clock)
        self.rounds = Rounds(clock)
        self.refusals: LRUCache[tuple[str, str, str], Refusal] = LRUCache(maxsize=REFUSALS)
        self._broken: TTLCache[bytes, Refusal] = TTLCache(BROKEN, RETRY_SECONDS, timer=clock)
        """Streams that ended in an error before any output, as the tool got them, each by what was asked."""
        self._affinity = Pool.affinity

    def use(self, pool: Pool) -> None:
        """Another pool is in use: it may say how long sessions are remembered."""
        if pool.affinity != self._affinity:
            self._affinity = pool.affinity
            self.sessions = Sessions(self.clock, pool.affinity)

    def spent(self, plan: Plan, body: bytes) -> Spent:
        """What earlier rounds of the request with this body have used up."""
        if not self.rounds:
            return NOTHING_SPENT
        return self.rounds.spent(
            self._known(plan, body), counted=plan.conversation.is_retry, session=_asked_in_session(plan)
        )

    def _known(self, plan: Plan, body: bytes) -> bytes:
        """The fingerprint of this request; b"" where no round with it has failed."""
        return _fingerprint(plan, body) if self.rounds.may_know(len(body)) else b""

    def learn(self, candidate: Candidate, marks: Iterable[str]) -> None:
        """Remember that only this candidate's account will know these later (P04); see :func:`marks_of`."""
        self.ledger.learn(marks, candidate.credential.name)

    def is_state_of(self, state: str, candidate: Candidate) -> bool:
        """Whether a candidate may get this state of a header: its own account has given it to the tool (E04).

        One of unknown origin is the tool's own, if anybody's: the tool has it from its own account.
        """
        owner = self.ledger.owner_of(state)
        if not owner:
            return candidate.credential.secret.is_client
        return own_name(owner) == own_name(candidate.credential.name)

    def answered(self, exchange: Exchange, marks: Sequence[str]) -> None:
        """A released reply was proven complete: what it has left in its account, and what its candidate can read."""
        if (exchange.request.sealed is None and not marks) or not exchange.is_released:
            return
        attempt = exchange.outcomes[exchange.best - 1].attempt
        if marks:
            self.learn(attempt.candidate, marks)
        if exchange.request.sealed is not None:
            exchange.request.sealed.answered(attempt.candidate, attempt.without)

    def learn_upload(self, reply: bytes) -> None:
        """The tool has uploaded a file with its own credential, with this reply: only this knows the file (P04)."""
        self.ledger.learn(sealed.bonds_in(None, reply[:UPLOAD_REPLY]), TOOL)

    def ended(self, exchange: Exchange, plan: Plan, body: bytes, label: Label | None) -> None:
        """The tool has a reply with this label, None: an answer of our own.

        With an error that has nothing to do with its request it may come back: that round shares the budget (W04).
        """
        if self._broken and label is not None:
            self._broken.pop(_tried_again(plan, body), None)
        if label is None or DEFAULTS[label].next is not Next.NOBODY:
            spent = replace(exchange.spent, told=True)
            self.rounds.failed(_fingerprint(plan, body), spent, _asked_in_session(plan), size=len(body))
        elif label is Label.OK and self.rounds:
            self.rounds.answered(self._known(plan, body), _asked_in_session(plan))

    def left(self, exchange: Exchange, plan: Plan, body: bytes) -> None:
        """The tool goes away. Unless it has a reply, what was sent for it counts as after an error (W04).

        To be told before ``exchange.cancelled()``: of a wait that is under way, so much counts as has gone by.
        """
        spent = exchange.spent_at(self.clock())
        if not exchange.is_released and spent.attempts > exchange.request.spent.attempts:
            self.rounds.failed(_fingerprint(plan, body), spent, size=len(body))

    def remember_refusal(self, exchange: Exchange, refusal: Refusal) -> None:
        """A refusal of the model reaches a tool: others can be told the same (F17)."""
        if len(refusal.body) <= REFUSAL_LIMIT:
            self.refusals[_asked_for(exchange)] = refusal

    def last_refusal(self, exchange: Exchange) -> Refusal | None:
        """The last refusal that a call for the same alias got."""
        return self.refusals.get(_asked_for(exchange))

    def remember_stream(self, plan: Plan, body: bytes, refusal: Refusal) -> None:
        """A stream that ended in an error reaches a tool: its own retry of the call is told the same (A10)."""
        if len(refusal.body) <= REFUSAL_LIMIT:
            self._broken[_tried_again(plan, body)] = refusal

    def last_stream(self, plan: Plan, body: bytes) -> Refusal | None:
        """The stream that a tool got a moment ago for this very call, where it ended in an error."""
        if not self._broken:
            return None
        return self._broken.get(_tried_again(plan, body))


def marks_of(recognised: Recognised, reply: bytes) -> tuple[str, ...]:
    """What only the account of a good reply will know later. ``reply``: its decoded body, or the end of its stream."""
    return sealed.names_in_reply(shape_of(recognised), reply)


def states_of(fields: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """The states in the headers of a reply that only its account may get back (E04)."""
    return tuple(state_name(value) for name, value in fields if name.lower() in STATE_HEADERS)


def shape_of(recognised: Recognised) -> sealed.Shape | None:
    """The shape of a call's body, as far as it may have sealed parts."""
    return sealed.shape_of(recognised.dialect.name, recognised.endpoint.name)


def _asked_for(exchange: Exchange) -> tuple[str, str, str]:
    return exchange.lineup.route.pattern, exchange.lineup.dialect, exchange.lineup.alias


def _tried_again(plan: Plan, body: bytes) -> bytes:
    """What is the same in a call and the tool's own retry of it: what is asked for in the session, else the request."""
    return _asked_in_session(plan) or _fingerprint(plan, body)


def _asked(plan: Plan) -> tuple[str, ...]:
    """What is asked for beside the body, and by whom."""
    return plan.recognised.tail, plan.recognised.query, plan.call.alias, plan.user


def _asked_in_session(plan: Plan) -> bytes:
    """What is the same in the calls of one session for one alias, b"" where nothing tells the session."""
    session = plan.conversation.session
    if not session:
        return b""
    parts = (part.encode("utf-8", "surrogatepass") for part in (*_asked(plan), session))
    return blake2b(b"\0".join(parts), digest_size=16).digest()


def _fingerprint(plan: Plan, body: bytes) -> bytes:
    """What is the same in a request and the tool's own retries of it, and hardly ever in two others."""
    # Of a large body its ends, which hold what the tool has added last: hashing all of it takes its time.
    found = blake2b(body[:_HASHED], digest_size=16)
    found.update(b"%d" % len(body) + body[_HASHED:][-_HASHED:])
    for part in _asked(plan):
        found.update(b"\0" + part.encode("utf-8", "surrogatepass"))
    return found.digest()
