"""What a dialect has to know, as an interface: one module and one line in ``__init__`` make a new one.

A dialect recognises a request by method and path below a base path, reads and writes the alias, says how a
credential is sent, and tells lifecycle events of a stream from real output. Dialects whose bodies say the same are
relatives: a request of one can be written in the other, because only path, query and headers move; no content is ever
translated. Bodies that come in here are decoded (no content encoding); nothing here does I/O.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar
from urllib.parse import quote, unquote, unquote_plus

from understudy.codec.events import StreamEvent as StreamEvent
from understudy.codec.events import read_json as read_json
from understudy.codec.record import record
from understudy.model import Upstream, Usage, printable

AUTH_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key"})
"""Every header that a tool is known to send a credential in. The kind of a credential does not follow from the name
of its header (SDKs of one vendor send keys as bearer tokens, of another as x-api-key), so all of them always leave."""


_UNSAFE = re.compile(r"[/\\:%\x00-\x20\x7f\ufffd]")


def path_model(quoted: str) -> str | None:
    """A model's name in a path, decoded; None for one that a server could take for more than a name."""
    name = unquote(quoted)
    return None if not name or _UNSAFE.search(name) or name in (".", "..") else name


def without_parameters(query: str, names: frozenset[str]) -> str:
    """A query without these parameters (in lower case); every other byte stays where it was."""
    if not names or not query:
        return query
    # Decoded and in lower case: a server may accept more spellings than a tool would write.
    pairs = query.split("&")
    return "&".join(pair for pair in pairs if unquote_plus(pair.partition("=")[0]).strip().lower() not in names)


def with_parameter(query: str, name: str, value: str) -> str:
    """A query with one more parameter at its end."""
    added = f"{name}={quote(value, safe='')}"
    return f"{query}&{added}" if query else added


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    """The header that carries a secret as a bearer token (RFC 6750), as ``credential_headers`` returns it."""
    return (("authorization", f"Bearer {secret}"),)


def has_content(value: object, besides: frozenset[str] = frozenset()) -> bool:
    """Whether a piece of a stream event carries anything: text, a list or an object that is not empty.

    Of an object, members named in ``besides`` do not count. Numbers and flags are bookkeeping, not output.
    """
    if isinstance(value, dict):
        return any(_is_filled(member) for name, member in value.items() if name not in besides)
    return _is_filled(value)


def _is_filled(value: object) -> bool:
    """The same without looking inside: nesting is the upstream's choice and must not cost us the stack."""
    return isinstance(value, str | list | dict) and bool(value)


def count_at(document: object, *path: str) -> int:
    """A number of tokens somewhere in a document; 0 where none is stated."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, int) and document > 0 else 0


def member_of(document: object, *path: str) -> object:
    """What stands somewhere in a document of objects; None where nothing does."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def rows_of(document: object, name: str) -> list[dict[str, Any]]:
    """The objects in a list that is a member of a document; [] where there is no such list."""
    rows = document.get(name) if isinstance(document, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def without(name: str) -> str:
    """What is missing in a reply that has not the member where the answer belongs."""
    return f"no `{name}` in it"


def nothing_said(ended: object) -> str:
    """What is missing in a reply that has come to its end and has neither output nor output tokens."""
    return f"no output and no output tokens, ended by {printable(str(ended))[:40]}"


class Kind(StrEnum):
    """What an endpoint does, and so what its replies may prove (law 4)."""

    GENERATING = "generating"
    AUXILIARY = "auxiliary"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One recognised path of a dialect, e.g. ``Endpoint("chat/completions", Kind.GENERATING)``."""

    name: str
    kind: Kind


@record
class Call:
    """What a request asks for: the alias, and whether its reply is to be streamed."""

    alias: str
    streamed: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A recognised request as its own dialect read it: what a relative needs to write it anew.

    ``tail`` is the path below the base path, ``query`` has no credentials any more, ``body`` is decoded, ``headers``
    are looked up in any case.
    """

    dialect: str
    endpoint: Endpoint
    call: Call
    tail: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The Content-Type; "" without one."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True, slots=True)
class Written:
    """A request as another dialect or upstream takes it. ``headers`` are those to set, "" removes."""

    tail: str
    query: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelList:
    """How a dialect lists its models: the paths below the base path, the member with the list, and an entry of it.

    ``key`` is what of an entry is the model's name. ``more``: members that tell of a further page. ``foreign``: members
    of an entry by which a list is another one's, whose tools need what we cannot make up.
    """

    tails: frozenset[str]
    member: str
    key: str
    entry: Callable[[str], dict[str, object]]
    more: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


class Progress(StrEnum):
    """What one stream event means for a reply that is being held."""

    PING = "ping"  # keeps the connection alive, and does not even show that a model is at work
    LIFECYCLE = "lifecycle"  # start, empty delta: proves nothing
    OUTPUT = "output"  # real output, or an end that may come without any: the reply is released
    STOP = "stop"  # the generation has ended as usual: an answer only with output, or with output tokens
    UNREADABLE = "unreadable"  # no JSON: no tool could read it either
    ERROR = "error"  # an error instead of output: judged like a reply
    DONE = "done"  # the terminal event: the stream is complete


class Dialect(ABC):
    """A wire format. Instances are stateless and shared."""

    name: ClassVar[str]
    sites: ClassVar[tuple[tuple[str, str], ...]]
    """(host, base path) pairs that tools of this dialect call by themselves, e.g. ("api.openai.com", "/v1")."""
    wide_sites: ClassVar[tuple[tuple[str, str], ...]] = ()
    """The same for hosts that carry much else, or that are a pattern (``*`` stands for one label or a part of it). They
    are looked into only when a route could serve this dialect."""
    relatives: ClassVar[frozenset[str]] = frozenset()
    """Other dialects whose requests can be written in this one, because the bodies say the same."""
    written_per_upstream: ClassVar[bool] = False
    """Whether even a request of its own differs from one upstream to the next: :meth:`write` is asked then, too."""
    auth_headers: ClassVar[frozenset[str]]
    """Every header, in lower case, that can carry the tool's credential."""
    auth_query: ClassVar[frozenset[str]] = frozenset()
    """Every query parameter that can carry the tool's credential."""
    identity_headers: ClassVar[frozenset[str]] = frozenset()
    """Headers, in lower case, that belong to the credential's identity and leave with it."""
    reply_models: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Where a reply, or an event of one, names the model: member names from the top."""
    usage_member: ClassVar[str] = "usage"
    """The member that counts tokens: looked for by its name in what is too long to be read as a whole."""
    names_deployments: ClassVar[bool] = False
    """Whether a request names what the owner has called a model, so that a reply names it otherwise."""
    model_list: ClassVar[ModelList | None] = None
    """How models are listed; None where tools do not ask these hosts for them."""
    usage_follows: ClassVar[bool] = False
    """Whether an event with the tokens comes after the terminal one."""
    model_header: ClassVar[str] = ""
    """A header, in lower case, that repeats the model as ``model=NAME``, and so follows it; "" without one."""

    @abstractmethod
    def endpoint(self, method: str, tail: str) -> Endpoint | None:
        """Recognise a request by its method and its path below the base path, without query; None: not ours."""

    @abstractmethod
    def read(self, tail: str, query: str, content_type: str, body: bytes) -> Call | None:
        """Read alias and stream flag; None when there is no alias to be found. Never raises on hostile input."""

    @abstractmethod
    def write_model(self, tail: str, content_type: str, body: bytes, model: str) -> tuple[str, bytes]:
        """Return (tail, body) with the alias replaced by ``model``; every other byte stays as it is.

        Raises ValueError when the place of the alias cannot be found.
        """

    def write(self, asked: Asked, model: str, upstream: Upstream) -> Written:
        """Write a request, a relative's or its own, for an upstream of this dialect.

        Raises ValueError when this dialect has no such endpoint, or the place of the alias cannot be found.
        """
        tail, body = self.write_model(asked.tail, asked.content_type, asked.body, model)
        return Written(tail, asked.query, body)

    def check(self, base_path: str, api_version: str) -> tuple[str, str] | None:
        """What is wrong with an upstream of this dialect, and what to write instead; None when all is well."""
        return ("this dialect knows no `api_version`", "remove it") if api_version else None

    @abstractmethod
    def credential_headers(self, secret: str) -> tuple[tuple[str, str], ...]:
        """The headers that carry this secret."""

    def clean_headers(self, headers: Mapping[str, str], secret: str = "") -> tuple[tuple[str, str], ...]:
        """Headers to change on top when the tool's credential leaves: (name, new value), "" removes.

        For values of which only a part belongs to the identity, such as one flag of ``anthropic-beta``.
        ``headers`` has lower-case names. ``secret`` is the one that goes out: its kind may need such a part.
        """
        return ()

    @abstractmethod
    def progress(self, event: StreamEvent) -> Progress:
        """What this event of a streamed reply means."""

    def finishes(self, event: StreamEvent) -> bool:
        """Whether an event of real output is the last one that all servers send, where some omit the terminal one."""
        return False

    def answered(self, event: StreamEvent) -> bool:
        """Whether a terminal event says that there is an answer although no event before it has shown any output."""
        return False

    def output_tokens(self, event: StreamEvent) -> int:
        """How many tokens of output an event counts; 0 when it counts none."""
        return 0

    def usage(self, document: object) -> Usage | None:
        """The tokens that a whole reply, or an event of a stream, counts; None where it counts none.

        Events of one stream count upwards, and may state a part each. Never raises on hostile input.
        """
        return None

    def usage_in_headers(self, headers: Mapping[str, str]) -> Usage | None:
        """The same from headers (names in lower case), for vendors whose bodies count nothing."""
        return None

    def served_model(self, document: object) -> str:
        """The model that a reply, or an event of one, names; "" where it names none. At most 200 characters."""
        for path in self.reply_models:
            name = member_of(document, *path)
            if isinstance(name, str) and name:
                return printable(name)
        return ""

    def lack(self, endpoint: str, document: object) -> str:
        """What a whole JSON body, the reply to a generating call, lacks to be an answer; "" when it is one.

        An answer has a piece of output, an end that the dialect defines without any, or output tokens. ``endpoint`` is
        the name of one of this dialect's. Never raises on hostile input.
        """
        return ""

    def event_of(self, event: StreamEvent) -> tuple[str, bytes]:
        """Name and data of an event that a relative framed in another way, as this dialect's tools read it."""
        return event.name, event.data

    @abstractmethod
    def error_body(self, status: int, message: str) -> bytes:
        """An error of our own, as JSON in this dialect's shape. Content type is application/json."""

    def broken_body(self, status: int, message: str) -> bytes:
        """The same where the connections to the upstreams break, which is no overload."""
        return self.error_body(status, message)
