"""Recognition by host, port, method and path, and the request target on a candidate's upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.cli.tool_environment import no_proxy
from understudy.config.secrets.sources import EnvSecret
from understudy.dialects import DIALECTS, Kind
from understudy.model.pool import Choice, Credential, Intercept, Pool, Route, Upstream
from understudy.requests.sealed import Shape
from understudy.requests.sites import REMEMBERED_PATH, Recognised, Sites, strip_auth_query, upstream_path


def upstream(name: str, dialect: str, host: str, base_path: str = "", port: int = 443) -> Upstream:
    """An upstream over TLS."""
    return Upstream(name, dialect, "https", host, port, base_path)


POOL = Pool(
    upstreams={
        entry.name: entry
        for entry in (
            upstream("openai", "openai", "api.openai.com", "/v1"),
            upstream("router", "openai", "OpenRouter.ai", "/api/v1"),
            upstream("gateway", "openai", "llm.corp", "/v1", 8443),
            upstream("gateway-claude", "anthropic", "llm.corp", "", 8443),
            upstream("gateway-team", "openai", "llm.corp", "/v1/team", 8443),
            upstream("google", "openai", "generativelanguage.googleapis.com", "/v1beta/openai"),
            upstream("local", "openai", "::1", "/v1", 11434),
        )
    },
    intercept=(
        Intercept("tools.corp", "openai", "/gateway/v1"),
        Intercept("one.corp", "gemini", "", 9000),
        Intercept("one.corp", "gemini", "/g/", 9001),
    ),
)
SITES = Sites(POOL)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("api.openai.com", 443),
        ("API.OpenAI.com.", 443),
        ("api.openai.com", 8080),
        ("api.anthropic.com", 443),
        ("generativelanguage.googleapis.com", 1),
        ("openrouter.ai", 443),
        ("LLM.corp", 8443),
        ("::1", 11434),
        ("[::1]", 11434),
        ("0:0:0:0:0:0:0:1", 11434),
        ("tools.corp", 443),
        ("tools.corp", 12345),
        ("one.corp", 9000),
        ("one.corp", 9001),
    ],
)
def test_pooled_hosts(host: str, port: int) -> None:
    assert SITES.pooled(host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 443),
        ("openai.com", 443),
        ("api.openai.com.evil.example", 443),
        ("xapi.openai.com", 443),
        ("api.openai.com..", 443),
        ("openrouter.ai", 8443),
        ("llm.corp", 443),
        ("::1", 443),
        ("::2", 11434),
        ("[:::", 11434),
        ("one.corp", 443),
        ("chatgpt.com", 443),
        ("é" * 80, 443),
    ],
)
def test_other_hosts(host: str, port: int) -> None:
    """O06: everything else is not looked into."""
    assert not SITES.pooled(host, port)
    assert SITES.recognise(host, port, "POST", "/v1/chat/completions") is None
    assert SITES.dialects_at(host, port) == ()


def routed(*upstreams: Upstream) -> Pool:
    """A pool with a route to each of these."""
    credentials = [Credential(each.name, each, EnvSecret("KEY", {"KEY": "k"})) for each in upstreams]
    route = Route("default", tuple(Choice(each) for each in credentials))
    return Pool({each.name: each for each in upstreams}, {each.name: each for each in credentials}, {"default": route})


def test_hosts_end_with_the_patterns_that_a_route_could_serve() -> None:
    """A pattern that no route could serve is not looked into, so it is not named either."""
    assert SITES.hosts[0] == "::1"
    assert not any("*" in host for host in SITES.hosts)
    bedrock = upstream("aws", "bedrock", "bedrock-runtime.eu-west-1.amazonaws.com")
    sites = Sites(routed(bedrock))
    patterns = ("bedrock-runtime-fips.*.amazonaws.com", "bedrock-runtime.*.amazonaws.com")
    assert sites.hosts[-2:] == patterns
    assert sites.hosts == (*sorted(sites.hosts[:-2]), *patterns)
    assert all(sites.pooled(host.replace("*", "us-east-1"), 443) for host in sites.hosts)


@pytest.mark.parametrize("dialect", ["azure-openai", "bedrock", "openai", "vertex"])
def test_no_proxy_loses_every_name_that_is_pooled(dialect: str) -> None:
    """What leads round the proxy is judged by what the proxy looks into, patterns included."""
    sites = Sites(routed(upstream("one", dialect, "llm.corp")))
    names = [host.replace("*", "my-1") for host in sites.hosts]
    assert len(names) > len(set(sites.hosts) & set(names))
    for name in names:
        assert sites.pooled(name, 443)
        assert not sites.pooled(f"a.{name}", 443)
        assert no_proxy({"NO_PROXY": f"{name},git.corp"}, sites.hosts) == no_proxy({"NO_PROXY": "git.corp"}, ())


def test_an_international_name_has_one_spelling() -> None:
    sites = Sites(Pool(upstreams={"a": upstream("a", "openai", "bücher.example", "/v1")}))
    assert sites.pooled("xn--bcher-kva.example", 443)
    assert sites.pooled("BÜCHER.example.", 443)


@pytest.mark.parametrize(
    ("host", "port", "path", "expected"),
    [
        ("api.openai.com", 443, "/v1/chat/completions", ("openai", "chat/completions", "/chat/completions", "")),
        ("api.openai.com", 80, "/v1/responses?a=1?b", ("openai", "responses", "/responses", "a=1?b")),
        ("api.anthropic.com", 443, "/v1/messages?beta=true", ("anthropic", "messages", "/v1/messages", "beta=true")),
        ("openrouter.ai", 443, "/api/v1/embeddings", ("openai", "embeddings", "/embeddings", "")),
        ("llm.corp", 8443, "/v1/chat/completions", ("openai", "chat/completions", "/chat/completions", "")),
        ("llm.corp", 8443, "/v1/team/chat/completions", ("openai", "chat/completions", "/chat/completions", "")),
        ("llm.corp", 8443, "/v1/messages", ("anthropic", "messages", "/v1/messages", "")),
        ("tools.corp", 1, "/gateway/v1/moderations", ("openai", "moderations", "/moderations", "")),
        ("one.corp", 9001, "/g/v1/models/m:countTokens", ("gemini", "countTokens", "/v1/models/m:countTokens", "")),
        (
            "generativelanguage.googleapis.com",
            443,
            "/v1beta/openai/chat/completions",
            ("openai", "chat/completions", "/chat/completions", ""),
        ),
        (
            "generativelanguage.googleapis.com",
            443,
            "/v1beta/models/m:streamGenerateContent?alt=sse&key=x",
            ("gemini", "streamGenerateContent", "/v1beta/models/m:streamGenerateContent", "alt=sse&key=x"),
        ),
    ],
)
def test_model_calls_are_recognised(host: str, port: int, path: str, expected: tuple[str, str, str, str]) -> None:
    found = SITES.recognise(host, port, "POST", path)
    assert found is not None
    assert (found.dialect.name, found.endpoint.name, found.tail, found.query) == expected
    assert SITES.recognise(host, port, "GET", path) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "?x",
        "/",
        "/v1",
        "/v1/",
        "/v1/models",
        "/v1/files",
        "/v1chat/completions",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/x/../v1/chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/./chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions/..",
        "/v1/chat/completions%2f",
        "/%761/chat/completions",
        "/V1/chat/completions",
        "/v2/chat/completions",
        "/chat/completions",
        "/v1/chat/completions#x",
        "/v1/chat/completions ",
        "/proxy?to=/v1/chat/completions",
        "https://api.openai.com/v1/chat/completions",
        "/v1/responses/resp_1",
        "/backend-api/wham/accounts/check",
    ],
)
def test_everything_else_on_a_pooled_host_is_left_alone(path: str) -> None:
    """R10"""
    assert SITES.recognise("api.openai.com", 443, "POST", path) is None


def test_a_request_target_is_looked_up_once_and_one_that_may_hold_a_key_is_not_kept() -> None:
    sites, path = Sites(POOL), "/v1beta/models/m:generateContent"

    def recognised(path: str) -> Recognised | None:
        return sites.recognise("generativelanguage.googleapis.com", 443, "POST", path)

    found = recognised(path)
    assert found is not None and recognised(path) is found
    assert sites.recognise("generativelanguage.googleapis.com", 443, "GET", path) is None
    assert sites.recognise("api.openai.com", 443, "POST", path) is None
    for target in (f"{path}?key=secret", f"/v1beta/models/{'m' * REMEMBERED_PATH}:generateContent"):
        keyed = recognised(target)
        assert keyed is not None and recognised(target) == keyed and recognised(target) is not keyed


def test_what_is_recognised_says_what_may_be_sealed_in_it() -> None:
    chat = SITES.recognise("api.openai.com", 443, "POST", "/v1/chat/completions")
    embeddings = SITES.recognise("api.openai.com", 443, "POST", "/v1/embeddings")
    assert chat is not None and chat.shape is Shape.CHAT
    assert embeddings is not None and embeddings.shape is None


def test_the_longest_base_path_wins() -> None:
    """A gateway may serve one team's path below another base path that would fit as well."""
    pool = Pool(
        upstreams={
            "short": upstream("short", "anthropic", "h", ""),
            "long": upstream("long", "anthropic", "h", "/v1/messages"),
        }
    )
    found = Sites(pool).recognise("h", 443, "POST", "/v1/messages/v1/messages")
    anthropic = DIALECTS["anthropic"]
    endpoint = anthropic.endpoint("POST", "/v1/messages")
    assert endpoint is not None and endpoint.kind is Kind.GENERATING
    assert found == Recognised(anthropic, endpoint, "/v1/messages", "")
    assert Sites(pool).recognise("h", 443, "POST", "/v1/messages/count_tokens") is not None


def test_dialects_of_a_host() -> None:
    names = [dialect.name for dialect in SITES.dialects_at("generativelanguage.googleapis.com", 443)]
    assert sorted(names) == ["gemini", "openai"]
    assert [dialect.name for dialect in SITES.dialects_at("generativelanguage.googleapis.com", 80)] == ["gemini"]
    assert [dialect.name for dialect in SITES.dialects_at("api.openai.com", 443)] == ["openai"]


def test_an_unknown_dialect_is_an_error() -> None:
    with pytest.raises(ValueError, match="'smoke-signals', known are openai, "):
        Sites(Pool(intercept=(Intercept("h", "smoke-signals"),)))


@given(
    host=st.sampled_from(["api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"]) | st.text(),
    path=st.text(alphabet="/v1beta.:%?#messagodl", max_size=40) | st.text(),
)
def test_recognition_never_raises_and_loses_no_byte(host: str, path: str) -> None:
    found = SITES.recognise(host, 443, "POST", path)
    if found is not None:
        assert path.partition("?")[0].endswith(found.tail)
        assert path.endswith(found.query)


def test_the_request_target_on_an_upstream() -> None:
    router = POOL.upstreams["router"]
    assert upstream_path(router, "/chat/completions", "") == "/api/v1/chat/completions"
    assert upstream_path(router, "/chat/completions", "a=%20&b") == "/api/v1/chat/completions?a=%20&b"
    assert upstream_path(POOL.upstreams["gateway-claude"], "/v1/messages", "beta=true") == "/v1/messages?beta=true"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("key=x", ""),
        ("alt=sse&key=x", "alt=sse"),
        ("key=x&alt=sse", "alt=sse"),
        ("a=%20+&&key=x&b&c==&key=y&", "a=%20+&&b&c==&"),
        ("%6Bey=x&a=1", "a=1"),
        ("KEY=x&$key=y&%24key=z&access_token=t", ""),
        ("$userProject=p&userProject=p&a=1", "a=1"),
        ("keys=1&monkey=2&a=key", "keys=1&monkey=2&a=key"),
        ("key", ""),
    ],
)
def test_credentials_leave_the_query(query: str, expected: str) -> None:
    """R04: every spelling of a credential parameter goes, every other byte stays."""
    assert strip_auth_query(DIALECTS["gemini"], query) == expected
    assert strip_auth_query(DIALECTS["openai"], query) == query


def test_repr_names_hosts() -> None:
    assert "llm.corp:8443" in repr(SITES)
