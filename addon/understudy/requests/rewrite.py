"""The tool's credential out, the candidate's in: what happens to a request between the tool and an upstream.

``flow.request`` is what other addons, logs and dumps see. Before any of them sees it the tool's own credential is
replaced by a placeholder and kept in a :class:`Stash`, which never leaves the layer. What goes to an upstream is a
copy made here; a secret is in that copy only (law 8).
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import lru_cache
from urllib.parse import quote, unquote_plus

from mitmproxy import http
from mitmproxy.net.http import url

from understudy.codec.abridged import SMALL, Abridged, abridge
from understudy.codec.content_encoding import REQUEST_LIMIT, decode_request
from understudy.codec.masking import has_placeholder, placeholder
from understudy.codec.record import record
from understudy.dialects import DIALECTS, Asked, Call, Dialect, Written
from understudy.model import Candidate, SigningSource
from understudy.requests.conversation import STATE_HEADERS
from understudy.requests.sealed import Goes, Shape, state_name, take_out
from understudy.requests.sites import Recognised, strip_auth_query, upstream_path

CLIENT = placeholder("client")
QUOTED_CLIENT = quote(CLIENT, safe="").encode()
MARK = b"understudy"
WORDS = re.compile(rb"[\s,;=]+")
BOUND_TO_THE_TOOL = frozenset({b"cookie", b"proxy-authorization"})
"""Further headers that carry a credential of the tool; they never go to another upstream."""
FOR_US = frozenset({b"proxy-authorization"})
"""What the tool tells a proxy goes to no upstream at all."""
SCHEMES = (b"", b"bearer", b"basic")
"""What is left of a header when the variable for the secret was empty."""
UNLIMITED = sys.maxsize - 1
"""Bytes of a body that was over no limit when it was read."""
LONG = 16
"""Characters of a cookie's value that can only be a secret."""


@record
class Stash:
    """What the tool sent as its credential: header fields, and values from the query in their order."""

    fields: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    query: tuple[bytes, ...] = field(default=(), repr=False)

    credentials: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    """By what the tool makes itself known to an upstream, without the scheme in front; empty: by nothing."""
    secrets: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """What must be masked where an upstream that gets all this repeats it.

    Of a cookie only long values: masking words such as ``accepted`` would ruin ordinary texts.
    """

    def __post_init__(self) -> None:
        own = [_bare(value) for name, value in self.fields if name.lower() not in BOUND_TO_THE_TOOL]
        credentials = tuple([value for value in (*own, *self.query) if value.lower() not in SCHEMES])
        cookies = [value for name, value in self.fields if name.lower() == b"cookie"]
        words = [word for value in cookies for word in WORDS.split(value) if len(word) >= LONG]
        object.__setattr__(self, "credentials", credentials)
        object.__setattr__(
            self, "secrets", tuple(dict.fromkeys([value.decode("latin-1") for value in (*credentials, *words)]))
        )


@lru_cache
def _stashed(fields: tuple[tuple[bytes, bytes], ...], query: tuple[bytes, ...]) -> Stash:
    """What a tool sends with each call is looked at once."""
    return Stash(fields, query)


def carries_placeholder(request: http.Request) -> bool:
    """Whether a credential in this request is a placeholder: a saved flow that is sent again."""
    for value in (request.data.path, *[value for _, value in request.headers.fields]):
        if MARK in value and has_placeholder(value):
            return True
    return False


def mask_query(request: http.Request, dialects: Iterable[Dialect]) -> tuple[bytes, ...]:
    """Replace credentials in the query by the placeholder (R04); returns what they were, in their order."""
    path, sign, query = request.data.path.partition(b"?")
    if not query:
        return ()
    names = {name for dialect in dialects for name in dialect.auth_query}
    values, pairs = [], query.split(b"&")
    for position, pair in enumerate(pairs):
        name, equals, value = pair.partition(b"=")
        if value and unquote_plus(name.decode("latin-1")).strip().lower() in names:
            values.append(value)
            pairs[position] = name + equals + QUOTED_CLIENT
    if values:
        request.data.path = path + sign + b"&".join(pairs)
    return tuple(values)


def mask(request: http.Request, dialect: Dialect, spared: str = "") -> Stash:
    """Replace every form of the tool's credential in a recognised request by the placeholder.

    ``spared``: a header that stays, in lower case, because mitmproxy itself reads it and takes it out.
    """
    names = _hidden(dialect) - {spared.encode()} if spared else _hidden(dialect)
    stashed, shown = [], []
    for field_ in request.headers.fields:
        if field_[0].lower() in names:
            stashed.append(field_)
            field_ = (field_[0], _masked(field_[1]))
        shown.append(field_)
    request.headers.fields = tuple(shown)
    return _stashed(tuple(stashed), mask_query(request, [dialect]) if b"?" in request.data.path else ())


def unmask(request: http.Request, stash: Stash) -> None:
    """Put the tool's own header fields back where the placeholder still stands; the query stays masked."""
    request.headers.fields = _unmasked(request.headers.fields, stash)


def reveal(request: http.Request, stash: Stash) -> http.Request:
    """A copy of a request that carries the tool's own credential again, to be put on the wire."""
    revealed = request.copy()
    unmask(revealed, stash)
    for value in stash.query:
        revealed.data.path = revealed.data.path.replace(QUOTED_CLIENT, value, 1)
    return revealed


def read_call(request: http.Request, recognised: Recognised, body: bytes | None) -> Call | None:
    """Alias and stream flag of a recognised request with this :func:`decoded_body`; None when it cannot be read."""
    if body is None:
        return None
    content_type = request.headers.get("content-type", "")
    return recognised.dialect.read(recognised.tail, recognised.query, content_type, body)


def decoded_body(request: http.Request, limit: int = REQUEST_LIMIT) -> bytes | None:
    """The request body without its content encoding; None when that cannot be undone within ``limit`` bytes."""
    encoding, body = request.headers.get("content-encoding", ""), request.data.content or b""
    return decode_request(body, encoding, limit) if encoding else body


def abridged(request: http.Request, body: bytes) -> Abridged:
    """This :func:`decoded_body` as far as it has to be searched for what it says of itself."""
    if len(body) <= SMALL:
        return Abridged(body)
    is_form = request.headers.get("content-type", "").lstrip().lower().startswith("multipart/")
    return Abridged(body) if is_form else abridge(body, b'"model"')


def without_states(request: http.Request, states: Iterable[str]) -> http.Request:
    """A copy of a request without the headers that carry these states, see :func:`sealed.state_name`."""
    leaving, copied = set(states), request.copy()
    copied.headers.fields = tuple(
        (name, value)
        for name, value in request.headers.fields
        if name.lower() not in STATE_HEADERS or state_name(value) not in leaving
    )
    return copied


def unsealed(request: http.Request, shape: Shape, goes: Goes) -> tuple[http.Request, int]:
    """A copy of a request without the sealed parts that are to go, uncompressed, and how many went.

    The request itself where there are none. Raises ValueError when its body cannot be read.
    """
    body = decoded_body(request, UNLIMITED)
    if body is None:
        raise ValueError("the request body cannot be decoded")
    made, count = take_out(shape, body, goes)
    if not count:
        return request, 0
    copied = request.copy()
    copied.headers.pop("content-encoding", None)
    if "content-length" in copied.headers:
        copied.headers["content-length"] = str(len(made))
    copied.data.content = made
    return copied, count


def copy_of(request: http.Request) -> http.Request:
    """The same request with data of its own: making one anew costs more than all else of a rewrite."""
    made = http.Request.__new__(http.Request)
    made.data = http.RequestData.__new__(http.RequestData)
    made.data.__dict__.update(request.data.__dict__)
    return made


def build(
    request: http.Request,
    recognised: Recognised,
    call: Call,
    candidate: Candidate,
    secret: str,
    own: Stash | None = None,
    *,
    readable: bool = False,
) -> http.Request:
    """The request for a candidate, secret included. To be handed to the wire and to nothing else.

    ``own``: the candidate is the tool's own credential, which is meant for this very upstream: whatever the tool sent
    stays. ``readable``: its reply has to be edited, and so must not be compressed. Raises ValueError when the model
    cannot be written, or a placeholder is left in the place of a credential.
    """
    upstream, dialect, source = candidate.upstream, recognised.dialect, candidate.credential.secret
    target = dialect if upstream.dialect == dialect.name else DIALECTS[upstream.dialect]
    signer = source if isinstance(source, SigningSource) else None
    tail, query, renamed = recognised.tail, recognised.query, candidate.model != call.alias
    if query and own is None:
        query = strip_auth_query(dialect, query)
    body, headers = request.data.content or b"", http.Headers.__new__(http.Headers)
    headers.fields = request.headers.fields  # the very tuple, whose look-ups are at hand
    wanted: dict[str, str] = {}
    if renamed or target is not dialect or target.written_per_upstream:
        made, decoded = _written(request, recognised, call, candidate, target, query)
        tail, query, wanted = made.tail, made.query, dict(made.headers)
        if made.body != decoded:
            body = made.body
            headers.pop("content-encoding", None)
            if "content-length" in headers:
                headers["content-length"] = str(len(body))
        if renamed and dialect.model_header and dialect.model_header.encode() in {k.lower() for k, _ in headers.fields}:
            hint = headers[dialect.model_header]
            wanted[dialect.model_header] = hint.replace(f"model={call.alias}", f"model={candidate.model}")
    if body and "content-length" not in headers and "transfer-encoding" not in headers:
        # HTTP/2 needs neither; an HTTP/1 upstream would take the body for the next request.
        headers["content-length"] = str(len(body))
    authority = url.hostport(upstream.scheme, upstream.host, upstream.port)
    if own is not None:
        headers.fields, leaving = _unmasked(headers.fields, own), FOR_US
    else:
        leaving = _leaving(dialect, target)
        if type(target).clean_headers is not Dialect.clean_headers:
            wanted |= dict(target.clean_headers({k.lower(): v for k, v in headers.items()}, secret))
        secret_headers = [(name, each.reveal()) for name, each in candidate.credential.secret_headers]
        wanted |= dict(
            (*candidate.credential.headers, *secret_headers, *(() if signer else target.credential_headers(secret)))
        )
    if call.streamed or readable:
        # The end of a stream is judged from its last bytes, which a compressed stream would hide.
        wanted["accept-encoding"] = "identity"
    if "host" in headers or not (request.is_http2 or request.is_http3):
        wanted["host"] = authority
    headers.fields = _replaced(headers.fields, leaving, wanted)
    path = upstream_path(upstream, tail, query).encode("utf-8", "surrogateescape")
    if signer:
        # The last thing that is done: whatever changed afterwards would break the signature.
        target_url = f"{upstream.scheme}://{authority}{path.decode('utf-8', 'surrogateescape')}"
        signature = signer.sign(request.method, target_url, upstream.host, headers.get("content-type", ""), body)
        headers.fields = _replaced(headers.fields, frozenset(), dict(signature))
    # The version stays: only who sends it knows which one the upstream speaks.
    sent = copy_of(request)
    sent.data.scheme, sent.data.host, sent.data.port = upstream.scheme.encode(), upstream.host, upstream.port
    sent.data.authority = authority.encode() if request.data.authority else b""
    sent.data.path, sent.data.headers, sent.data.content = path, headers, body
    if own is not None and carries_placeholder(sent):
        raise ValueError("the request carries a placeholder in the place of a credential")
    return sent


def _written(
    request: http.Request, recognised: Recognised, call: Call, candidate: Candidate, target: Dialect, query: str
) -> tuple[Written, bytes]:
    """What becomes of path, query and body for this candidate, and the body as it was, decoded. Raises ValueError."""
    # Without a limit: a body that was over it was not read for a call in the first place.
    decoded, dialect = decoded_body(request, UNLIMITED), recognised.dialect
    if decoded is None:
        raise ValueError("the request body cannot be decoded")
    if target is not dialect or target.written_per_upstream:
        asked = Asked(dialect.name, recognised.endpoint, call, recognised.tail, query, request.headers, decoded)
        return target.write(asked, candidate.model, candidate.upstream), decoded
    content_type = request.headers.get("content-type", "")
    tail, body = target.write_model(recognised.tail, content_type, decoded, candidate.model)
    return Written(tail, query, body), decoded


def shown_fields(
    fields: Iterable[tuple[bytes, bytes]],
    dialects: Iterable[Dialect],
    name: str,
    mask: Callable[[bytes], bytes],
    secret_headers: Iterable[str] = (),
) -> tuple[tuple[bytes, bytes], ...]:
    """The header fields of a request that was sent for a credential, as they may be shown.

    Whatever stands where one of these dialects may send a credential is replaced, also a secret too short for ``mask``
    to look for, and so are the ``secret_headers`` of its credential.
    """
    hidden = frozenset(header.encode() for header in secret_headers).union(*map(_hidden, dialects))
    return tuple((key, _masked(value, name) if key.lower() in hidden else mask(value)) for key, value in fields)


def _masked(value: bytes, name: str = "client") -> bytes:
    """``Bearer abc`` -> ``Bearer <understudy:client>``: the scheme stays readable."""
    scheme, _, rest = value.partition(b" ")
    shown = placeholder(name).encode()
    return scheme + b" " + shown if rest and scheme.isalpha() else shown


def _bare(value: bytes) -> bytes:
    """``Bearer abc`` -> ``abc``."""
    scheme, _, rest = value.partition(b" ")
    return rest.strip() if rest and scheme.isalpha() else value.strip()


def _unmasked(fields: tuple[tuple[bytes, bytes], ...], stash: Stash) -> tuple[tuple[bytes, bytes], ...]:
    """Header fields with the tool's own where the placeholder still stands."""
    original: dict[tuple[bytes, bytes], deque[bytes]] = {}
    for name, value in stash.fields:
        original.setdefault((name, _masked(value)), deque()).append(value)
    return tuple(
        (name, values.popleft() if (values := original.get((name, value))) else value) for name, value in fields
    )


@lru_cache
def _hidden(dialect: Dialect) -> frozenset[bytes]:
    """The headers of a tool that carry a credential, in lower case."""
    return frozenset(name.encode() for name in dialect.auth_headers) | BOUND_TO_THE_TOOL


@lru_cache
def _leaving(dialect: Dialect, target: Dialect) -> frozenset[bytes]:
    """The headers of a tool that go no further, in lower case."""
    return _hidden(dialect) | frozenset(name.encode() for name in dialect.identity_headers | target.identity_headers)


def _replaced(
    fields: Iterable[tuple[bytes, bytes]], leaving: frozenset[bytes], wanted: Mapping[str, str]
) -> tuple[tuple[bytes, bytes], ...]:
    """Header fields without those that leave, and with each wanted one once; "" removes.

    One pass over bytes: every request pays for this.
    """
    new = {
        name.lower().encode(): (name.encode(), value.encode("utf-8", "surrogateescape"))
        for name, value in wanted.items()
    }
    kept = []
    for field_ in fields:
        lower = field_[0].lower()
        if lower in new:
            name, value = new[lower]
            new[lower] = (name, b"")
            field_ = (field_[0], value)
            if not value:
                continue
        elif lower in leaving:
            continue
        kept.append(field_)
    kept += [field_ for field_ in new.values() if field_[1]]
    return tuple(kept)
