"""From a request to an exchange: what the layer asks, answered from one snapshot of pool and rules.

The engine holds what lives longer than a request: the snapshot, the suspensions, the listener rules. It reads no
mitmproxy options itself; the addon sets its fields.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from urllib.parse import urlsplit

from mitmproxy import connection, http
from mitmproxy.proxy.mode_specs import ReverseMode

from understudy.codec.content_encoding import REQUEST_LIMIT
from understudy.codec.record import record
from understudy.codec.steady_clock import STEADY, ahead_of
from understudy.config.secrets import NOBODY, Client, Owners, Place, own_credentials
from understudy.dialects import DIALECTS, Call, Dialect, Kind
from understudy.drill import Drill
from understudy.failover import (
    DrilledExchange,
    DrilledLineup,
    Exchange,
    Identities,
    Pacing,
    Request,
    Selector,
    UserRoutes,
    own_name,
)
from understudy.failover.memory import TOOL, Memory, Plan, shape_of
from understudy.failover.sealed import Sealed
from understudy.limits import RESERVE, LimitTable
from understudy.model import Credential, Pool, Route, SecretError, SigningSource, WhenSealed
from understudy.proxy.masking_gate import MaskingGate
from understudy.requests import Conversation, Recognised, Sites, conversation, rewrite, tokens_in
from understudy.requests.model_list import Listing, listing_of
from understudy.requests.rewrite import Stash
from understudy.requests.sealed import KINDS, Shape, in_words, kind_of, may_hold, parts_in
from understudy.rules import Ruleset
from understudy.sockets import Transcripts
from understudy.suspensions import Suspensions

logger = logging.getLogger("understudy")

NO_PLAIN_VIA = "plain HTTP through an upstream proxy would show the secret to that proxy: use an https:// url"
NO_INSECURE = "ssl_insecure is set, and a secret needs verified TLS: unset it, or give the upstream verify: false"
NO_REMOTE = (
    "understudy: this proxy listens beyond loopback and asks for no password, so pool credentials are not used: "
    "start it with --listen-host 127.0.0.1, set proxyauth, or set pool_allow_remote=true"
)
NO_USER = (
    "understudy: {who} sent this request, and the pool belongs to another user, so pool credentials are not used: "
    "run a proxy of your own, or have its owner set pool_users"
)
NO_BROWSER = (
    "understudy: a web page from elsewhere ({origin}) sent this request, so pool credentials are not used: "
    "call the proxy from a tool, not from a page"
)
LOGIN = "proxyauth"
"""Where mitmproxy's addon of this name keeps the name and the password in a flow's metadata."""
MASKED_PASSWORD = "***"
READ_FOR_ANYBODY = 256 * 1024
"""Bytes of a request that are read whoever has sent it."""
LARGE = 1024 * 1024
"""Bytes of a request that is read and written in a thread of its own: it takes some milliseconds."""
LARGE_ENCODED = 256
"""The same where it is compressed: a byte may stand for thousands."""
LONGEST_ALIAS = 16 * 1024
"""Characters of an alias that is served; an ARN may have 2,048. Suspensions, journal and memory keep it."""
CONNECT_LIMIT = 10.0
"""Seconds for a connection with all its handshakes, unless an option says otherwise; mitmproxy sets no limit."""
NO_HELP = (
    "understudy: the tool's own credential was rejected (401) for {alias}, which has no route: "
    "to have it served, add `{alias}: [{name}]` to the routes in {path}"
)
UNDECODED = (
    "understudy: a request was not served from the pool, because its body cannot be decoded, or is larger than "
    "pool_request_limit: it went out as the tool sent it"
)
NO_ROUTE = "understudy: this request carries the placeholder of a saved flow and no route serves it, so it is not sent"

ONLY_OBSERVED = (
    "understudy: this request carries the placeholder of a saved flow and its route only observes, so there is nothing "
    "to send: set `mode: enforce` on the route {route}"
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a request works on from start to end (law 11)."""

    pool: Pool
    sites: Sites
    selector: Selector
    ruleset: Ruleset
    own: Mapping[str, tuple[Credential, ...]] = field(default_factory=dict)
    """By route, the credentials that stand for the tool's own."""
    users: UserRoutes | None = None
    """The routes as they are for a user of the proxy; None where all of them are for everyone."""

    def route_for(self, route: Route, user: str) -> Route:
        """The route with the candidates that this user of the proxy may use."""
        return route if self.users is None else self.users.route_for(route, user)


@record
class Intake:
    """A request that we have a hand in. ``recognised`` None: not a call, or one that nothing here could serve.

    ``orphan``: it carries the placeholder of a saved flow, so it is served from the pool or not sent at all.
    ``host`` and ``port``: where the tool meant it to go. ``upgrade``: it asks for a WebSocket where calls are made,
    which is answered and not sent at all (O07).
    """

    snapshot: Snapshot
    recognised: Recognised | None
    stash: Stash
    orphan: bool = False
    host: str = ""
    port: int = 0
    upgrade: bool = False

    @property
    def is_call(self) -> bool:
        """Whether its body has to be looked at before anything is sent."""
        return self.recognised is not None or self.orphan

    @property
    def dialect(self) -> Dialect:
        """The dialect to answer in."""
        return self.recognised.dialect if self.recognised else DIALECTS["openai"]


@record
class Reading:
    """What the body of a call says. ``decoded``: whether it can be read at all. The last three: see Plan."""

    decoded: bool
    call: Call | None
    said: Conversation
    shape: Shape | None = None
    tokens: tuple[int, int] | None = None
    parts: tuple[str, ...] | None = None


def is_large(request: http.Request, size: int | None = None) -> bool:
    """Whether reading or writing it would keep other requests waiting. ``size``: of a body that is not joined yet."""
    size = len(request.data.content or b"") if size is None else size
    return size > LARGE_ENCODED and (size > LARGE or bool(request.headers.get("content-encoding")))


@dataclass
class Engine:
    """What the layer asks. ``is_remote(client)`` tells whether a stranger could have sent this request."""

    ruleset: Ruleset
    clock: Callable[[], float] = STEADY
    random: Random = field(default_factory=Random)
    is_remote: Callable[[connection.Client], bool] = lambda client: False
    stranger: Callable[[connection.Client], str] = lambda client: ""
    """Which other user of this machine sent a request, in words; "" when none did."""
    checks_users: Callable[[], bool] = lambda: False
    """Whether a user's name at the proxy (``proxyauth``) proves anything: with ``any``, every name is let in."""
    unverified: set[str] = field(default_factory=set)
    """Ids of server connections whose certificate was not checked."""
    keep_stream: int = 0
    """Bytes of a live stream that are kept for the content view."""
    mask_streams: bool = True
    """Whether a live stream is masked on its way to the tool also where nothing of it is kept."""
    attempt_flows: bool = True
    """Whether attempts that the tool did not get are made into flows."""
    connect_limit: float = CONNECT_LIMIT
    """Seconds for a connection with all its handshakes."""
    paced: bool = True
    """Whether calls wait for their turn on a credential, see ``failover.pacing``."""
    request_limit: int = REQUEST_LIMIT
    """Decoded bytes of a compressed request that are looked into."""
    drill: Drill | None = None
    """The drill that runs (H12)."""
    is_another_user: Callable[[connection.Client], bool] = lambda client: False
    """Whether a call is of somebody else than who runs this proxy: a drill leaves it alone."""

    def __post_init__(self) -> None:
        self.suspensions = Suspensions(self.clock)
        self.identities = Identities(self.suspensions)
        self.memory = Memory(self.clock)
        self.pacing = Pacing(self.clock)
        self.owners = Owners()
        self.gate = MaskingGate()
        self.transcripts = Transcripts(self.clock)
        self.snapshot: Snapshot | None = None
        self._drilled: tuple[Selector, Selector] | None = None
        self._empty = Snapshot(Pool(), Sites(Pool()), Selector(self.suspensions), self.ruleset)

    def use(self, pool: Pool) -> None:
        """Work on this pool from the next request on. Suspensions of what is still there stay."""
        self.memory.use(pool)
        self.pacing.use(pool.concurrency, pool.ramp)
        self.suspensions.limits.use_reserve(max((route.reserve for route in pool.routes.values()), default=RESERVE))
        self.identities.use(pool)
        self.gate.use(pool_secrets(pool))
        selector = Selector(self.suspensions)
        own = {name: found for name, route in pool.routes.items() if (found := own_credentials(route))}
        users = UserRoutes(pool) if any(route.is_limited for route in pool.routes.values()) else None
        self.snapshot = Snapshot(pool, Sites(pool), selector, self.ruleset, own, users)

    def use_rules(self, ruleset: Ruleset, limits: LimitTable | None = None) -> None:
        """Judge by these rules from the next request on; what is under way keeps its own (law 11).

        ``limits``: how headers with limits are read from now on, None: as before.
        """
        self.ruleset = ruleset
        if limits is not None:
            self.suspensions.limits.table = limits
        self._empty = replace(self._empty, ruleset=ruleset)
        if self.snapshot is not None:
            self.snapshot = replace(self.snapshot, ruleset=ruleset)

    def take(self, request: http.Request, host: str, port: int, spared: str = "") -> Intake | None:
        """Look at a request when its headers are in: mask the credential of a call that a route could serve.

        A WebSocket shows no alias, so it is ours where any route of its dialect is more than an observer.
        ``spared``: see :func:`rewrite.mask`.
        """
        snapshot = self.snapshot
        orphan = rewrite.carries_placeholder(request)
        if snapshot is None or not snapshot.sites.pooled(host, port):
            return Intake(snapshot or self._empty, None, Stash(), orphan) if orphan else None
        upgrade = asks_for_websocket(request)
        recognised = snapshot.sites.recognise(host, port, "POST" if upgrade else request.method, request.path)
        if upgrade and recognised is not None and recognised.endpoint.kind is not Kind.GENERATING:
            recognised = None
        if recognised is not None and snapshot.pool.has_route_for(recognised.dialect.name, enforced=upgrade):
            stash = rewrite.mask(request, recognised.dialect, spared)
            self.gate.learn("client", *stash.secrets)
            return Intake(snapshot, recognised, stash, orphan, host, port, upgrade)
        values = rewrite.mask_query(request, snapshot.sites.dialects_at(host, port))
        self.gate.learn("client", *(value.decode("latin-1") for value in values))
        return Intake(snapshot, None, Stash((), values), orphan) if values or orphan else None

    def user_of(self, flow: http.HTTPFlow) -> str:
        """The user that ``proxyauth`` has let in, "" where no name was checked. The password is masked in the flow.

        mitmproxy keeps both in the metadata, which is saved with the flow.
        """
        login = flow.metadata.get(LOGIN)
        if not isinstance(login, (tuple, list)) or not login or not isinstance(login[0], str):
            return ""
        flow.metadata[LOGIN] = (login[0], MASKED_PASSWORD)
        return login[0] if self.checks_users() else ""

    def listing(self, request: http.Request, host: str, port: int) -> Listing | None:
        """Whether a request asks for a list of models that the pool's aliases belong into."""
        if self.snapshot is None or not self.snapshot.pool.unite_models:
            return None
        return listing_of(self.snapshot.pool, self.snapshot.sites, host, port, request.method, request.path)

    def read(
        self,
        recognised: Recognised,
        request: http.Request,
        *,
        marks: bool,
        estimated: bool = False,
        parts: bool = False,
    ) -> Reading:
        """Read of the body of a call what :meth:`plan` wants to know, in whatever thread. ``marks``: as there.

        ``estimated``: also what it is likely to take. ``parts``: also what is sealed in it, should it be refused.
        """
        body = rewrite.decoded_body(request, self.request_limit)
        shape, short = shape_of(recognised), rewrite.abridged(request, body or b"")
        said = conversation.read(request.headers.fields, body or b"", shape, marks=marks, short=short)
        if shape is not None and not said.states and not may_hold(shape, short.text):
            shape = None
        call = rewrite.read_call(request, recognised, None if body is None else short.text)
        tokens = tokens_in(body, short) if estimated and body is not None else None
        found = parts_in(shape, body) if parts and shape is not None and body is not None else None
        return Reading(body is not None, call, said, shape, tokens, found)

    def plan(
        self, intake: Intake, request: http.Request, user: str = "", reading: Reading | None = None
    ) -> Plan | None:
        """Look at the request when its body is in; None when it names no alias or no route serves it.

        ``user``: the user of the proxy that it is from, "" where no name was checked. ``reading``: what was read of it
        already.
        """
        if intake.recognised is None:
            return None
        if reading is None:
            reading = self.read(intake.recognised, request, marks=bool(self.memory.ledger))
        call, said = reading.call, reading.said
        if not reading.decoded:
            logger.warning(UNDECODED)
            return None
        if call is None or len(call.alias) > LONGEST_ALIAS:
            return None
        route = intake.snapshot.pool.route(call.alias, intake.recognised.dialect.name)
        if route is None:
            return None
        bond, owner = self.memory.ledger.first_owned(said.bonds) if said.bonds else ("", "")
        if owner == TOOL and not any(choice.credential.secret.is_client for choice in route.choices):
            return None  # it knows things that the tool's own account alone has: the call is the tool's own as well
        if owner != TOOL and own_name(owner) not in intake.snapshot.pool.credentials:
            owner = ""
        if intake.snapshot.users is not None:
            route = intake.snapshot.users.route_for(route, user)
        bound_by = in_words(bond) if owner else ""
        return Plan(
            intake.recognised, call, route, said, owner, user, bound_by, reading.shape, reading.tokens, reading.parts
        )

    def advice(self, request: http.Request, host: str, port: int) -> str:
        """What to write so that a call without a route is served; "" when this is no call, or has one."""
        snapshot = self.snapshot
        recognised = snapshot.sites.recognise(host, port, request.method, request.path) if snapshot else None
        body = rewrite.decoded_body(request, self.request_limit) if recognised else None
        call = rewrite.read_call(request, recognised, body) if recognised else None
        if snapshot is None or recognised is None or call is None:
            return ""
        pool, dialect = snapshot.pool, recognised.dialect.name
        if pool.route(call.alias, dialect):
            return ""
        able = [
            each.name
            for each in pool.credentials.values()
            if each.upstream.serves(dialect) and not each.secret.is_client and not each.missing
        ]
        name = able[0] if able else f"a credential for an upstream with `dialect: {dialect}`"
        return NO_HELP.format(alias=json.dumps(call.alias[:200]), name=name, path=pool.path or "the pool file")

    def exchange(self, intake: Intake, plan: Plan, request: http.Request, blocked: Mapping[str, str]) -> Exchange:
        """Begin the exchange of a call that has a route."""
        snapshot = intake.snapshot
        client, owner = self._own(intake, plan, request)
        where = plan.route, plan.call.alias, plan.recognised.dialect.name, client.suffix
        asked = self._request(intake, plan, request, blocked, client, owner)
        lineup = snapshot.selector.lineup(*where)
        chance, sessions, pacing = self.random, self.memory.sessions, self.pacing if self.paced else None
        return Exchange(asked, lineup, snapshot.selector, snapshot.ruleset, self.clock(), chance, sessions, pacing)

    def drilled(self, exchange: Exchange, *, own: bool = True) -> Exchange:
        """The exchange of a call while a drill runs, in the place of this one, which has not begun.

        It is the same one where the call does not belong to the drill. ``own``: see :meth:`Drill.takes`.
        """
        drill, lineup, asked = self.drill, exchange.lineup, exchange.request
        if drill is None:
            return exchange
        call = drill.takes(lineup, asked.session, own=own, instead=exchange.first_choice())
        if call is None:
            return exchange
        selector = self._drilled_selector(exchange.selector)
        drilled = selector.lineup_like(lineup)
        if drill.share < 1 or drill.session:
            drilled.take_turns_of(lineup)  # the other calls take turns meanwhile
        pacing = self.pacing if self.paced else None
        rules, started = exchange.ruleset, exchange.started
        return DrilledExchange(asked, drilled, selector, rules, started, self.random, drill.seats, pacing, call)

    def _drilled_selector(self, real: Selector) -> Selector:
        """The selector for the calls of a drill that stands beside the one of a snapshot."""
        if self._drilled is None or self._drilled[0] is not real:
            self._drilled = (real, Selector(self.suspensions, DrilledLineup))
        return self._drilled[1]

    def begin_drill(self, drill: Drill) -> None:
        """Let it answer in its target's place from the next attempt on."""
        self.drill = drill
        self.suspensions.begin_drill()

    def end_drill(self) -> None:
        """Let go of it, and of everything that it has suspended. Without one nothing happens."""
        if self.drill is not None:
            self.drill.end()
            self.drill = self._drilled = None
            self.suspensions.end_drill()

    def shadow(self, intake: Intake, plan: Plan, request: http.Request) -> Exchange:
        """The exchange as it would begin now, over a copy of the suspensions: whatever it does is forgotten."""
        snapshot, suspensions = intake.snapshot, Suspensions(self.clock)
        for running in self.suspensions:
            suspensions.suspend(running)
        suspensions.learned.restore(reversed(list(self.suspensions.learned)))
        client, owner = self._own(intake, plan, request)
        where = plan.route, plan.call.alias, plan.recognised.dialect.name, client.suffix
        selector = Selector(suspensions)
        lineup = selector.lineup(*where)
        lineup.take_turns_of(snapshot.selector.lineup(*where))
        asked = self._request(intake, plan, request, {}, client, owner, remembers=False)
        return Exchange(asked, lineup, selector, snapshot.ruleset, self.clock(), self.random)

    def _own(self, intake: Intake, plan: Plan, request: http.Request) -> tuple[Client, str]:
        """The tool's own credential as far as it is a candidate, and the one that alone can serve the call, or ""."""
        dialect, client, owner = plan.recognised.dialect.name, NOBODY, plan.owner
        if own := [
            each for each in intake.snapshot.own.get(plan.route.pattern, ()) if dialect in each.upstream.dialects
        ]:
            base_path = request.path.partition("?")[0].removesuffix(plan.recognised.tail)
            meant = Place(request.scheme, intake.host, intake.port, base_path)
            client = self.owners.client(own, meant, intake.stash.credentials, saved=intake.orphan)
        return client, client.name if owner == TOOL else self._as_now(intake, plan, client, owner)

    @staticmethod
    def _as_now(intake: Intake, plan: Plan, client: Client, owner: str) -> str:
        """The name that an owner has in the lineup.

        The tool's login may have been renewed since, which makes its credential another one, but not its account.
        """
        own = intake.snapshot.own.get(plan.route.pattern, ()) if owner else ()
        return own_name(owner) + client.suffix if own_name(owner) in {each.name for each in own} else owner

    def _request(
        self,
        intake: Intake,
        plan: Plan,
        request: http.Request,
        blocked: Mapping[str, str],
        client: Client,
        owner: str,
        *,
        remembers: bool = True,
    ) -> Request:
        found, prefers, bond = None, "", plan.bond if owner else ""
        if plan.shape is not None:
            found = self._sealed(intake, plan, request, plan.shape, remembers=remembers)
            prefers = self._as_now(intake, plan, client, found.prefers)
        if prefers and found is not None and not owner and plan.route.sealed is WhenSealed.BIND:
            owner, bond = prefers, f"{KINDS[kind_of(found.latest)]} of this conversation"
        return Request(
            alias=plan.call.alias,
            generating=plan.recognised.endpoint.kind is Kind.GENERATING,
            streamed=plan.call.streamed,
            blocked=blocked,
            replay_after_sent=intake.snapshot.pool.replay_after_sent,
            session=plan.session if plan.user else plan.conversation.session,
            bound_to=owner,
            bound_by=bond,
            prefers=prefers,
            sealed=found,
            barred=client.barred,
            spent=self.memory.spent(plan, request.data.content or b""),
            ahead=ahead_of(self.clock),
            user=plan.user,
            asked=lambda: rewrite.decoded_body(request, LARGE) or b"",  # a small body may stand for 64 MiB
            tokens=plan.tokens,
        )

    def _sealed(self, intake: Intake, plan: Plan, request: http.Request, shape: Shape, *, remembers: bool) -> Sealed:
        """The sealed parts of a call."""

        def all_parts() -> tuple[str, ...]:
            return parts_in(shape, rewrite.decoded_body(request) or b"") if plan.parts is None else plan.parts

        return Sealed(
            plan.conversation.parts,
            self.memory.ledger,
            intake.snapshot.pool.credentials,
            all_parts,
            remembers=remembers,
        )

    def blocked(self, pool: Pool, *, via: bool, insecure: bool) -> dict[str, str]:
        """Upstreams that may get no secret on this connection, each with the reason (law 8).

        ``via``: there is an upstream proxy; ``insecure``: certificates are not checked.
        """
        reasons = {}
        for upstream in pool.upstreams.values():
            if upstream.scheme == "http" and via:
                reasons[upstream.name] = NO_PLAIN_VIA
            elif upstream.scheme == "https" and insecure and upstream.verify:
                reasons[upstream.name] = NO_INSECURE
        return reasons

    def refuses_unread(
        self, client: connection.Client, intake: Intake, request: http.Request, size: int, *, replayed: bool = False
    ) -> str:
        """Why a call is refused before its body of so many bytes is read (law 10); "" when it is to be read.

        To tell a call without a route, which would pass untouched, its body has to be read. That is done for every tool
        as long as it is cheap, and for those who may spend the pool.
        """
        if intake.recognised is None:
            return ""
        cheap = not request.headers.get("content-encoding") and size <= READ_FOR_ANYBODY
        return "" if cheap else self.why_not(client, request, replayed=replayed)

    def why_not(self, client: connection.Client, request: http.Request, *, replayed: bool = False) -> str:
        """Why the pool is not spent on this request (law 12); "" when it may be.

        ``replayed``: whoever looks at this proxy sends a saved flow again, and the connection of then is gone.
        """
        if self.is_remote(client):
            return NO_REMOTE
        if not replayed and (who := self.stranger(client)):
            return NO_USER.format(who=who)
        # A page can also call a regular proxy as if it were a server of its own name.
        called = isinstance(client.proxy_mode, ReverseMode) or _is_proxy(client, request.host, request.port)
        if called and (origin := _foreign_page(client, request)):
            return NO_BROWSER.format(origin=origin)
        return ""


def pool_secrets(pool: Pool) -> dict[str, str]:
    """The secrets of a pool that are at hand, each with the name of its credential."""
    found: dict[str, str] = {}
    for credential in pool.credentials.values():
        source = credential.secret
        if source.is_client or credential.missing:
            continue
        with suppress(SecretError):
            found[source.reveal()] = credential.name
            if isinstance(source, SigningSource):
                found |= dict.fromkeys(source.others(), credential.name)
        for _, each in credential.secret_headers:
            with suppress(SecretError):
                found[each.reveal()] = credential.name
    return found


def asks_for_websocket(request: http.Request) -> bool:
    """Whether this is the opening handshake of a WebSocket (RFC 6455 section 4.1)."""
    return request.method == "GET" and "websocket" in request.headers.get("upgrade", "").lower()


def _foreign_page(client: connection.Client, request: http.Request) -> str:
    """The page that made a browser send this request to us, "" when none did or it is the proxy's own."""
    origin = str(request.headers.get("origin", "")).strip()[:200]
    if request.headers.get("sec-fetch-site", "").strip().lower() in ("cross-site", "same-site"):
        return origin or "unknown origin"
    if not origin:
        return ""
    try:
        page = urlsplit(origin)
        port = page.port or (443 if page.scheme == "https" else 80)
    except ValueError:
        return origin
    return "" if _is_proxy(client, page.hostname or "", port) else origin


def _is_proxy(client: connection.Client, host: str, port: int) -> bool:
    """Whether this is the listener that the client came in by."""
    return host in ("127.0.0.1", "localhost", "::1") and port == client.sockname[1]
