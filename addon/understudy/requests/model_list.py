"""The list of models that a tool gets from a pooled host: the upstream's own, with the pool's aliases behind it.

Only with ``models: union`` in the pool file. The list is the answer to the tool's own request, made with its own
credential; what is added are the aliases of routes that could serve the dialect, never a glob or ``default``. A list
that is not the last page, not a success or not in a form that we know passes as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mitmproxy import http

from understudy.codec.content_encoding import decode_reply
from understudy.codec.json_edit import append_json_items, read_json_member
from understudy.dialects import Dialect
from understudy.model import Pool, is_glob
from understudy.requests.sites import Sites

LIST_LIMIT = 4 * 1024 * 1024
"""Decoded bytes of a list that is added to; the longest ones that are known have some 600 KB."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A request for a list of models: in which dialect, and which aliases belong into it."""

    dialect: Dialect
    aliases: tuple[str, ...]


def listing_of(pool: Pool, sites: Sites, host: str, port: int, method: str, path: str) -> Listing | None:
    """Recognise a request for a list of models; None when it is none, or when there is nothing to add."""
    dialect = sites.lists_models(host, port, path) if method == "GET" else None
    aliases = aliases_for(pool, dialect.name) if dialect else ()
    return Listing(dialect, aliases) if dialect and aliases else None


def aliases_for(pool: Pool, dialect: str) -> tuple[str, ...]:
    """The aliases that a tool of this dialect may ask for by name, in the order of the pool file."""
    return tuple(
        name
        for name, route in pool.routes.items()
        if not is_glob(name) and not route.is_default and route.serves(dialect)
    )


def unite(response: http.Response, listing: Listing) -> bool:
    """Add the aliases to a list that an upstream answered with; False when it passes as it is."""
    if response.status_code != 200:
        return False
    body = decode_reply(response.data.content or b"", response.headers.get("content-encoding", ""), LIST_LIMIT)
    united = with_models(body, listing.dialect, listing.aliases) if body is not None else None
    if united is None:
        return False
    # Identity: an encoder of ours would have to be as good as the upstream's, and the tool takes either.
    response.headers.pop("content-encoding", None)
    response.data.content = united
    if "content-length" in response.headers:
        response.headers["content-length"] = str(len(united))
    response.headers.pop("etag", None)  # it names another list
    return True


def with_models(body: bytes, dialect: Dialect, aliases: Sequence[str]) -> bytes | None:
    """The body of a list with further models at its end; every other byte stays. None when it is no such list."""
    form = dialect.model_list
    if form is None or any(read_json_member(body, name) for name in form.more):
        return None
    items = read_json_member(body, form.member)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    if any(name in item for item in items for name in form.foreign):
        return None
    known = {item.get(form.key) for item in items}
    entries = [entry for entry in map(form.entry, aliases) if entry[form.key] not in known]
    return append_json_items(body, form.member, entries) if entries else None
