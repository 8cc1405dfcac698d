"""What the owner has, as frozen values: upstreams, credentials, candidates, routes and the pool they form.

Nothing here reads a file, a clock or the network, and nothing here imports another package of ours: a pool is a
snapshot, and a request works on the snapshot it started with (law 11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Protocol

from understudy.model.usage import Price


class SecretSource(Protocol):
    """Where a secret comes from. Its repr never shows the secret."""

    @property
    def is_client(self) -> bool:
        """Whether this stands for whatever the tool itself sent."""
        ...

    @property
    def refreshable(self) -> bool:
        """Whether another try may find another secret, so that a rejected one is worth a refresh."""
        ...

    def reveal(self) -> str:
        """Return the secret itself. Called at the last moment, by the layer that puts it on the wire."""
        ...


class Strategy(StrEnum):
    """How a route picks among its candidates."""

    ORDERED = "ordered"
    ROUND_ROBIN = "round_robin"
    WEIGHTED = "weighted"
    SOONEST_RESET = "soonest_reset"  # whose unused share of a limit is lost first


class Relatives(StrEnum):
    """Where candidates of a relative of the tool's dialect stand among those of their priority."""

    LAST = "last"  # behind those of the tool's own dialect
    MIXED = "mixed"  # where the pool file has them


class WebSocket(StrEnum):
    """What happens to a WebSocket on which calls are to be made."""

    AUTO = "auto"  # refused where the tool is known to go on over HTTP at once, else served
    SERVE = "serve"  # accepted; each of its requests goes to the pool over HTTP
    REFUSE = "refuse"  # answered with 426


class HoldUntil(StrEnum):
    """How long a reply is held before it is released."""

    OUTPUT = "output"  # the first real output: the stream is live from there
    COMPLETE = "complete"  # its end: what breaks off in the middle is replayed


class WhenSealed(StrEnum):
    """What becomes of a call with sealed parts whose account cannot answer."""

    DROP = "drop"  # another candidate gets it without the parts that it cannot read
    BIND = "bind"  # it stays with its account


class Affinity(StrEnum):
    """What stays with the candidate that answered it last."""

    NONE = "none"
    SESSION = "session"  # a conversation of a tool
    USER = "user"  # everything that a user of the proxy asks for; without a user's name, a conversation


class Mode(StrEnum):
    """How far understudy goes with the calls of a route."""

    OBSERVE = "observe"  # judge and log, touch nothing
    ADVISE = "advise"  # and say in the flow what enforce would have done
    ENFORCE = "enforce"


def printable(text: str, most: int = 200) -> str:
    """A name that a tool or a peer chose, fit for one line of a log: a tool may call its model what it likes.

    Line breaks could forge lines, escape sequences speak to the terminal, and lone surrogates cannot even be printed.
    """
    if len(text) <= most and text.isprintable():
        return text  # nearly all of them, and every request asks
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:most])


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``1 route``, ``2 routes``. The noun is one that takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True)
class Store:
    """A Valkey or Redis server that several processes share their suspensions through.

    ``url``: ``redis://HOST:PORT/DATABASE``, ``rediss://...`` (TLS) or ``unix://PATH``, without user and password.
    ``prefix``: what the pool is called there; pools with another one do not meet. ``ca``: the file with the CA of the
    server's certificate, "" for those that the system trusts. ``timeout``: seconds that it has for an answer.
    """

    url: str
    prefix: str
    user: str = ""
    password: SecretSource | None = None
    ca: str = ""
    timeout: float = 0.1


@dataclass(frozen=True, slots=True)
class Upstream:
    """An HTTP base URL that speaks one dialect. ``base_path`` has no trailing slash and may be empty.

    ``relatives``: further dialects whose calls can be written in its own. ``faces``: the same gateway in its further
    dialects, each under the same name, because what is suspended is suspended for all of them. ``prices``: what the
    tokens of its models cost, each with the glob of the models that it is for, the most specific first.
    """

    name: str
    dialect: str
    scheme: str
    host: str
    port: int
    base_path: str = ""
    verify: bool = True
    api_version: str = ""
    relatives: frozenset[str] = field(default=frozenset(), compare=False)
    faces: tuple[Upstream, ...] = ()
    prices: tuple[tuple[str, Price], ...] = field(default=(), compare=False)

    def price(self, model: str) -> Price | None:
        """What the tokens of an upstream model cost; None where nothing is said."""
        return next((price for glob, price in self.prices if fnmatchcase(model, glob)), None)

    def serves(self, dialect: str) -> bool:
        """Whether a call of this dialect can go here."""
        return dialect == self.dialect or dialect in self.relatives or any(face.serves(dialect) for face in self.faces)

    def face(self, dialect: str) -> Upstream:
        """The upstream as a call of this dialect uses it: where it is spoken as it is, else where it can be written."""
        if dialect == self.dialect or not self.faces:
            return self
        own = next((face for face in self.faces if face.dialect == dialect), None)
        return own or next((face for face in (self, *self.faces) if dialect in face.relatives), self)

    @property
    def dialects(self) -> tuple[str, ...]:
        """The dialects that are spoken here, without their relatives."""
        return (self.dialect, *(face.dialect for face in self.faces))

    @property
    def all_dialects(self) -> frozenset[str]:
        """The dialects whose calls can go here."""
        return frozenset(self.dialects).union(self.relatives, *(face.relatives for face in self.faces))

    @property
    def url(self) -> str:
        """The base URL with its port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base_path}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret for one upstream, and the headers that belong to the same identity.

    ``secret_headers``: such headers whose values are secrets. ``concurrency``: how many calls may be under way with it
    at a time, 0: any number. ``missing``: why there is no secret, "" where there is
    one. Such a credential stands in its routes and is never sent; it is not suspended, so nothing of it is stored, and
    a reload that finds the secret puts it back into use. ``who``: the users of the proxy that may spend it, as names or
    globs; empty: every call may.
    """

    name: str
    upstream: Upstream
    secret: SecretSource = field(compare=False)
    headers: tuple[tuple[str, str], ...] = ()
    missing: str = field(default="", compare=False)
    secret_headers: tuple[tuple[str, SecretSource], ...] = field(default=(), compare=False)
    concurrency: int = field(default=0, compare=False)
    who: tuple[str, ...] = field(default=(), compare=False)

    @property
    def out_of_use(self) -> str:
        """Why no call can be sent with it, "" when one can."""
        return f"out of use, because {self.missing}" if self.missing else ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """(credential, upstream model): the unit that is picked and suspended."""

    credential: Credential
    model: str

    @property
    def upstream(self) -> Upstream:
        """The upstream follows from the credential."""
        return self.credential.upstream

    def __hash__(self) -> int:
        # Every call asks for it several times, and a credential has many fields; two of one name are hardly ever met.
        return hash((self.credential.name, self.model))

    def __str__(self) -> str:
        return f"{self.credential.name} {printable(self.model)}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a route's ``candidates``. Without a ``model`` the alias keeps its name.

    ``priority``: candidates of a higher number are picked only while none of a lower one is available. ``weight``: the
    share of a candidate among those of its priority, with ``strategy: weighted``. ``who``: as for a credential.
    """

    credential: Credential
    model: str | None = None
    priority: int = 1
    weight: int = 1
    who: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one exchange. All times in seconds.

    ``attempts``: sendings in all. ``seconds``: no attempt or wait begins later than this after the request came in.
    ``wait``: the longest wait for a candidate when all are suspended. ``first_event``: how long a streamed request may
    stay without any event before it is given up, where that is done. ``hedge_after``: how long before another candidate
    is asked as well, while nothing is known of the first one's own times; 0: none is. ``patience``: a limit with a hint
    this short is waited out on the same candidate, once. ``silence``: how long a request that is not streamed may stay
    without any byte of a reply before another candidate is asked as well; 0: for ever. ``first_output``: how long a
    stream may go on without any real output while another candidate is left; 0: for ever. ``idle``: how long a stream
    that is held until its end (``hold: complete``) may pause.
    """

    attempts: int = 6
    seconds: float = 55.0
    wait: float = 30.0
    first_event: float = 45.0
    patience: float = 3.0
    silence: float = 0.0
    first_output: float = 0.0
    idle: float = 30.0
    hedge_after: float = 15.0


@dataclass(frozen=True, slots=True)
class Override:
    """What a route changes in the action of a label; None leaves it as it is.

    ``replay``: whether the next candidate is tried. ``retry_same``: 1 to try the same one once more before.
    ``seconds``: how long to suspend where the reply does not say, each time anew.
    """

    replay: bool | None = None
    retry_same: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Alias, glob or ``default`` -> choices in order.

    ``affinity``: what stays with the candidate that answered it last. ``actions``: what the
    labels mean here, other than by default. ``restore_alias``: replies name the alias as their model, not the upstream
    model. ``relatives``: where candidates of a relative of the tool's dialect stand within a priority.
    ``second_opinion``: whether a reply that no words explain is compared with another candidate's. ``sealed``: what
    becomes of a call whose sealed parts only another account can read. ``reserve``: the
    share of a limit below which a candidate goes behind its equals. ``until_reset``: seconds for which a call is held
    when every candidate is out until a reset that is known; 0: none is. ``who``: as for a credential. ``closed``: the
    choices that :meth:`for_user` has left out; ``variant`` tells what it made of the route from what it made for
    others, "" for the route as written.
    """

    pattern: str
    choices: tuple[Choice, ...]
    strategy: Strategy = Strategy.ORDERED
    budget: Budget = Budget()
    hold: HoldUntil = HoldUntil.OUTPUT
    affinity: Affinity = Affinity.SESSION
    actions: tuple[tuple[str, Override], ...] = ()
    restore_alias: bool = False
    mode: Mode = Mode.ENFORCE
    relatives: Relatives = Relatives.LAST
    second_opinion: bool = True
    sealed: WhenSealed = WhenSealed.DROP
    reserve: float = 0.02
    until_reset: float = 0.0
    who: tuple[str, ...] = ()
    closed: tuple[Choice, ...] = ()
    variant: str = ""

    @property
    def is_limited(self) -> bool:
        """Whether any of its candidates is for some users only."""
        return bool(self.who) or any(choice.who or choice.credential.who for choice in self.choices)

    def whose(self, choice: Choice) -> str:
        """Who may use a choice, in words: ``alice, ci-*``; "" where every call may."""
        return " and ".join(", ".join(each) for each in (self.who, choice.who, choice.credential.who) if each)

    def for_user(self, user: str) -> Route:
        """The route with the choices that this user of the proxy may use; "": a call without a user's name."""

        def may(choice: Choice) -> bool:
            return all(_is_named(user, each) for each in (self.who, choice.who, choice.credential.who) if each)

        lines = [(choice, may(choice)) for choice in self.choices]
        return replace(
            self,
            choices=tuple(choice for choice, open_to in lines if open_to),
            closed=tuple(choice for choice, open_to in lines if not open_to),
            variant="".join("01"[open_to] for _, open_to in lines),
        )

    @property
    def is_default(self) -> bool:
        """Whether this is the route for aliases that have no route of their own."""
        return self.pattern == "default"

    def serves(self, dialect: str) -> bool:
        """Whether any choice can serve a call of this dialect."""
        return any(choice.credential.upstream.serves(dialect) for choice in self.choices)

    def members(self, alias: str, dialect: str, client: str = "") -> dict[Candidate, Choice]:
        """The candidates for this alias in this dialect, in order, each with its first choice.

        ``client``: what is added to the name of the tool's own credential, where that is a candidate, to tell it from
        another tool's.
        """
        found: dict[Candidate, Choice] = {}
        for choice in self.choices:
            credential = choice.credential
            if credential.upstream.serves(dialect):
                if credential.upstream.faces:
                    credential = replace(credential, upstream=credential.upstream.face(dialect))
                if client and credential.secret.is_client:
                    credential = replace(credential, name=credential.name + client)
                found.setdefault(Candidate(credential, choice.model or alias), choice)
        return found

    def candidates(self, alias: str, dialect: str) -> tuple[Candidate, ...]:
        """The candidates for this alias in this dialect, in order, each once."""
        return tuple(self.members(alias, dialect))

    def means(self, credential: str, model: str) -> bool:
        """Whether a candidate of this credential and upstream model can come from this route, for any alias."""
        return any(
            choice.credential.name == credential
            and (choice.model == model if choice.model is not None else self._takes(model))
            for choice in self.choices
        )

    def _takes(self, alias: str) -> bool:
        if self.is_default:
            return True
        return bool(glob_regex(self.pattern).fullmatch(alias)) if is_glob(self.pattern) else self.pattern == alias


def _is_named(user: str, patterns: Iterable[str]) -> bool:
    """Whether a user's name, or a glob that it matches, is among these; a call without a name is never named."""
    return bool(user) and any(glob_regex(each).fullmatch(user) if is_glob(each) else each == user for each in patterns)


def is_glob(pattern: str) -> bool:
    """Whether a route's name is a glob. Only ``*`` and ``?`` are special: model names contain brackets."""
    return "*" in pattern or "?" in pattern


def glob_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression for a glob of ``*`` and ``?``; to be used with ``fullmatch``."""
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(char) or re.escape(char) for char in pattern), re.DOTALL)


def host_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression for hosts in which ``*`` stands for one label or a part of it, for ``fullmatch``."""
    return re.compile("[a-z0-9-]+".join(re.escape(part) for part in pattern.split("*")))


def specificity(pattern: str) -> tuple[int, ...]:
    """Sort key of a route's name, the most specific last: ``default``, globs by literal characters, plain names."""
    if pattern == "default":
        return (0,)
    if not is_glob(pattern):
        return (2,)
    literal = sum(char not in "*?" for char in pattern)
    return (1, literal, pattern.count("?"), -pattern.count("*"))


@dataclass(frozen=True, slots=True)
class Intercept:
    """A further host whose calls are looked at: ``intercept:`` in the pool file. ``port`` None means any."""

    host: str
    dialect: str
    base_path: str = ""
    port: int | None = None

    def __str__(self) -> str:
        return f"{self.host}{f':{self.port}' if self.port else ''}{self.base_path} ({self.dialect})"


@dataclass(frozen=True)
class Pool:
    """Everything a pool file says.

    ``replay_after_sent``: whether a fault after the request was sent is replayed. ``state``: the file that keeps
    suspensions over a restart, "" for none. ``store``: the server that they are shared through. ``affinity``: seconds
    for which a session is remembered. ``unite_models``: whether the aliases stand in the lists of models that upstreams
    answer with. ``ramp``: seconds for which the calls of a credential that others switch to begin in steps, 0: they do
    not. ``rules``: further rule folders. ``auto_reload``: whether the file is read again when it changes.
    ``websocket``: what a tool gets that opens one for its calls.
    """

    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    intercept: tuple[Intercept, ...] = ()
    replay_after_sent: bool = True
    unite_models: bool = False
    path: str = ""
    state: str = ""
    store: Store | None = None
    affinity: float = 3600.0
    rules: tuple[str, ...] = ()
    auto_reload: bool = True
    websocket: WebSocket = WebSocket.AUTO
    ramp: float = 30.0

    @cached_property
    def concurrency(self) -> dict[str, int]:
        """How many calls may be under way at a time, of the credentials for which that is said."""
        return {name: each.concurrency for name, each in self.credentials.items() if each.concurrency}

    @cached_property
    def _patterns(self) -> tuple[tuple[re.Pattern[str], Route], ...]:
        globs = sorted((name for name in self.routes if is_glob(name)), key=specificity, reverse=True)
        return tuple((glob_regex(name), self.routes[name]) for name in globs)

    def route(self, alias: str, dialect: str) -> Route | None:
        """The route of an alias: its own, else the most specific glob, else ``default``; None without one.

        A route that has no candidate for calls of the dialect is passed over.
        """
        own = self.routes.get(alias) if alias != "default" else None
        if own is not None and own.serves(dialect):
            return own
        for pattern, route in self._patterns:
            if pattern.fullmatch(alias) and route.serves(dialect):
                return route
        default = self.routes.get("default")
        return default if default is not None and default.serves(dialect) else None

    def has_route_for(self, dialect: str, *, enforced: bool = False) -> bool:
        """Whether any route could serve a call of this dialect; ``enforced``: one with ``mode: enforce``."""
        return dialect in (self._enforced_dialects if enforced else self._dialects)

    @cached_property
    def _dialects(self) -> frozenset[str]:
        return _dialects_of(self.routes.values())

    @cached_property
    def _enforced_dialects(self) -> frozenset[str]:
        return _dialects_of(route for route in self.routes.values() if route.mode is Mode.ENFORCE)


def _dialects_of(routes: Iterable[Route]) -> frozenset[str]:
    """The dialects in which any of these routes could serve a call."""
    upstreams = {choice.credential.upstream for route in routes for choice in route.choices}
    return frozenset[str]().union(*(upstream.all_dialects for upstream in upstreams))
