"""Lists of models: where they are asked for, in which form aliases are added, and when a list is left alone."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from tests.support.decisions import Source
from understudy.dialects import DIALECTS
from understudy.model.pool import Choice, Credential, Pool, Route, Upstream
from understudy.requests.model_list import Listing, aliases_for, listing_of, unite, with_models
from understudy.requests.sites import Sites

SPEAKERS = {
    "openai": ("api.openai.com", "/v1/models?limit=5"),
    "anthropic": ("api.anthropic.com", "/v1/models"),
    "gemini": ("generativelanguage.googleapis.com", "/v1beta/models?key=x"),
    "cohere": ("api.cohere.com", "/v1/models"),
    "ollama": ("ollama.com", "/api/tags"),
}
LISTS = {
    "openai": '{"object":"list", "data":[{"id":"m-1"}]}',
    "anthropic": '{"data":[{"id":"m-1"}],"has_more":false}',
    "gemini": '{"models":[{"name":"models/m-1"}]}',
    "cohere": '{"models":[{"name":"m-1"}],"next_page_token":""}',
    "ollama": '{"models":[{"name":"m-1"}]}',
}
NAMES = {"openai": "id", "anthropic": "id", "gemini": "name", "cohere": "name", "ollama": "name"}


def pool(dialect: str) -> Pool:
    """A pool with an alias, a glob, a default, and an alias of another dialect."""
    relatives = DIALECTS[dialect].relatives
    here = Upstream("u", dialect, "https", "up.example", 443, relatives=relatives)
    other = Upstream("o", "anthropic" if dialect != "anthropic" else "openai", "https", "o.example", 443)
    choices, others = ((Choice(Credential(each.name, each, Source())),) for each in (here, other))
    routes = {name: Route(name, choices) for name in ("alias", "a*", "default")} | {"far": Route("far", others)}
    return Pool({"u": here, "o": other}, {}, routes, unite_models=True)


@pytest.mark.parametrize("dialect", SPEAKERS)
def test_where_a_list_is_asked_for(dialect: str) -> None:
    """R10: by GET, at exactly that path of a host of the dialect."""
    host, path = SPEAKERS[dialect]
    sites = Sites(pool(dialect))
    assert listing_of(pool(dialect), sites, host, 443, "GET", path) == Listing(DIALECTS[dialect], ("alias",))
    for method, other in (("POST", path), ("GET", path.partition("?")[0] + "/m-1"), ("GET", "/x" + path)):
        assert listing_of(pool(dialect), sites, host, 443, method, other) is None
    assert listing_of(pool(dialect), sites, "elsewhere.example", 443, "GET", path) is None


def test_only_aliases_that_can_be_asked_for_by_name() -> None:
    for dialect in SPEAKERS:
        assert aliases_for(pool(dialect), dialect) == ("alias",)
    assert aliases_for(pool("azure-openai"), "openai") == ("alias",)
    assert listing_of(Pool(), Sites(Pool()), *SPEAKERS["openai"][:1], 443, "GET", "/v1/models") is None


@pytest.mark.parametrize("dialect", SPEAKERS)
def test_the_form_of_the_dialect(dialect: str) -> None:
    """Every byte of the upstream's own list stays; ours come behind, in the form that its tools read."""
    body = LISTS[dialect].encode()
    united = with_models(body, DIALECTS[dialect], ["m-1", "alias", "b"])
    assert united is not None
    end = body.index(b"]")
    assert united.startswith(body[:end]) and united.endswith(body[end:])
    prefix = "models/" if dialect == "gemini" else ""
    entries = json.loads(united)["models" if b'"models"' in body else "data"]
    assert [entry[NAMES[dialect]] for entry in entries] == [f"{prefix}m-1", f"{prefix}alias", f"{prefix}b"]
    assert with_models(body, DIALECTS[dialect], ["m-1"]) is None


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai", '{"data":[{"id":"m","capabilities":{}}]}'),
        ("openai", '{"models":[]}'),
        ("openai", '{"data":["m"]}'),
        ("openai", "no JSON"),
        ("anthropic", '{"data":[],"has_more":true}'),
        ("gemini", '{"models":[],"nextPageToken":"t"}'),
        ("bedrock", "{}"),
        ("azure-openai", '{"data":[]}'),
    ],
)
def test_what_is_left_alone(dialect: str, body: str) -> None:
    """Another list (Copilot's and Codex' live at the same hosts), one that goes on, or no list at all."""
    assert with_models(body.encode(), DIALECTS[dialect], ["alias"]) is None


@given(body=st.binary(max_size=60) | st.from_regex(r'\{"data": ?\[.{0,20}\]\}', fullmatch=True).map(str.encode))
def test_hostile_lists(body: bytes) -> None:
    """Bad input: never raises."""
    for dialect in DIALECTS.values():
        with_models(body, dialect, ["alias"])


def test_a_reply_that_cannot_be_read_passes() -> None:
    listing = Listing(DIALECTS["openai"], ("alias",))
    good = http.Response.make(200, b'{"data":[]}', {"etag": "x"})
    assert unite(good, listing) and b"alias" in (good.content or b"") and "etag" not in good.headers
    assert good.headers["content-length"] == str(len(good.data.content or b""))
    for status, headers, body in [(401, {}, b'{"data":[]}'), (200, {"content-encoding": "gzip"}, b"?"), (200, {}, b"")]:
        reply = http.Response.make(status, b"", headers)
        reply.data.content = body
        assert not unite(reply, listing) and reply.data.content == body


def test_a_compressed_list_goes_on_plain() -> None:
    """The tool takes either; a length is there where it was, and is true."""
    listing = Listing(DIALECTS["openai"], ("alias",))
    for has_length in (True, False):
        reply = http.Response.make(200, b"", {"content-encoding": "gzip"})
        reply.data.content = gzip.compress(b'{"data":[{"id":"m"}]}')
        reply.headers["content-length"] = str(len(reply.data.content))
        if not has_length:
            del reply.headers["content-length"]
        assert unite(reply, listing)
        assert "content-encoding" not in reply.headers
        assert [each["id"] for each in json.loads(reply.data.content)["data"]] == ["m", "alias"]
        length = reply.headers.get("content-length")
        assert length == (str(len(reply.data.content)) if has_length else None)


def test_a_default_and_a_glob_are_in_no_list() -> None:
    """Nor is a route that could not serve the tool."""
    for dialect in SPEAKERS:
        names = aliases_for(pool(dialect), dialect)
        assert "default" not in names and "a*" not in names and "far" not in names
