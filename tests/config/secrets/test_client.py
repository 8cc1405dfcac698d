"""The tool's own credential as a candidate: where it may go, whose it is, and that nothing here holds it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import replace

import pytest
from mitmproxy import http

from tests.support.decisions import Clock, Source
from understudy.config.secrets.client import REMEMBERED, ClientSecret, Owners, Place, why_barred
from understudy.dialects import DIALECTS
from understudy.failover.exchange import Exchange
from understudy.failover.memory import TOOL
from understudy.model.pool import Choice, Credential, Pool, Route, Upstream
from understudy.model.secret import SecretError
from understudy.proxy.engine import Engine
from understudy.requests import rewrite
from understudy.rules.folders import shipped

OWN = "sk-own-of-the-tool-0123"
HERE = Upstream("here", "openai", "https", "llm.corp", 8443, "/gateway/v1")
ELSEWHERE = Upstream("elsewhere", "openai", "https", "api.openai.com", 443, "/v1")
MEANT = Place("https", "llm.corp", 8443, "/gateway/v1")


def test_there_is_nothing_to_reveal() -> None:
    source = ClientSecret()
    assert (source.is_client, source.refreshable) == (True, False)
    assert repr(source) == "<secret client>"
    assert copy.deepcopy(source) is source
    with pytest.raises(SecretError):
        source.reveal()
    with pytest.raises(TypeError):
        pickle.dumps(source)


@pytest.mark.parametrize(
    "meant",
    [
        Place("http", "llm.corp", 8443, "/gateway/v1"),
        Place("https", "llm.corp.evil", 8443, "/gateway/v1"),
        Place("https", "llm.corp", 443, "/gateway/v1"),
        Place("https", "llm.corp", 8443, "/another/v1"),
        Place("https", "llm.corp", 8443, ""),
    ],
)
def test_it_goes_nowhere_but_where_it_was_meant_for(meant: Place) -> None:
    """R05, law 8: another scheme, host, port or path is another place."""
    assert why_barred(HERE, MEANT, saved=False, sent=True) == ""
    reason = why_barred(HERE, meant, saved=False, sent=True)
    assert reason == f"the tool meant its own credential for {meant}, and it goes nowhere else"


def test_spellings_of_a_host_are_one_host() -> None:
    for host in ("LLM.corp", "llm.corp."):
        assert why_barred(HERE, Place("https", host, 8443, "/gateway/v1"), saved=False, sent=True) == ""


def test_a_saved_flow_and_a_tool_without_a_credential_have_none() -> None:
    assert why_barred(HERE, MEANT, saved=True, sent=True) == "a saved flow does not hold the tool's own credential"
    assert why_barred(HERE, MEANT, saved=False, sent=False) == "the tool sent no credential of its own"


def test_tools_are_told_apart_by_number() -> None:
    owners = Owners()
    assert [owners.suffix("own", [value]) for value in (b"one", b"two", b"one", b"three", b"two")] == [
        "", "~2", "", "~3", "~2",
    ]  # fmt: skip
    assert owners.suffix("other", [b"three"]) == "", "each credential of the pool counts for itself"
    assert owners.suffix("own", [b"a", b"b"]) == owners.suffix("own", [b"b", b"a", b"b"]) == "~4"
    assert owners.suffix("own", [b"ab"]) == "~5"


def test_one_that_can_go_nowhere_has_the_name_of_the_first_that_stands_for_it() -> None:
    own = [Credential(name, at, ClientSecret()) for name, at in (("away", ELSEWHERE), ("own", HERE))]
    owners = Owners()
    assert owners.client(own, MEANT, [b"one"], saved=False).name == "own"
    nowhere = owners.client(own, Place("https", "third.example", 443, ""), [b"one"], saved=False)
    assert (nowhere.name, nowhere.suffix, set(nowhere.barred)) == ("away", "", {"away", "own"})


def test_what_is_remembered_is_bounded_and_no_number_comes_twice() -> None:
    owners = Owners()
    found = {owners.suffix("own", [b"%d" % number]) for number in range(REMEMBERED * 2)}
    assert len(found) == REMEMBERED * 2
    assert len(owners._numbers["own"]) == REMEMBERED
    recent = b"%d" % (REMEMBERED * 2 - 1)
    assert owners.suffix("own", [recent]) == f"~{REMEMBERED * 2}"
    assert owners.suffix("own", [b"0"]) not in found, "one that was forgotten is a new one"


def test_no_value_is_kept() -> None:
    """R07: what tells tools apart is a fingerprint."""
    owners = Owners()
    owners.suffix("own", [OWN.encode()])
    (kept,) = owners._numbers["own"]
    assert OWN.encode() not in kept
    assert len(kept) == 16


# -- from a request to its exchange --------------------------------------------------------------------------------


def engine() -> Engine:
    """An engine with the tool's own at two upstreams, and a credential of the pool behind them."""
    own, away = Credential("own", HERE, ClientSecret()), Credential("away", ELSEWHERE, ClientSecret())
    work = Credential("work", HERE, Source())
    pool = Pool(
        {each.name: each for each in (HERE, ELSEWHERE)},
        {each.name: each for each in (own, away, work)},
        {
            "default": Route("default", (Choice(away), Choice(own), Choice(work))),
            "pooled": Route("pooled", (Choice(work),)),
        },
    )
    made = Engine(shipped(), clock=Clock())
    made.use(pool)
    return made


def opened(
    by: Engine,
    headers: Mapping[str, str],
    *,
    path: str = "/gateway/v1",
    model: str = "m",
    scheme: str = "https",
    more: str = "",
) -> Exchange:
    """The exchange of a call to the first upstream."""
    request = http.Request.make(
        "POST", f"{scheme}://llm.corp:8443{path}/chat/completions", f'{{"model":"{model}"{more}}}'.encode()
    )
    for name, value in headers.items():
        request.headers[name] = value
    intake = by.take(request, "llm.corp", 8443)
    assert intake is not None
    plan = by.plan(intake, request)
    assert plan is not None
    return by.exchange(intake, plan, request, {})


def names(exchange: Exchange) -> list[str]:
    """Whom the exchange may ask, by the names of their credentials."""
    members = exchange.lineup.members
    return [each.credential.name for each in members if not exchange.request.why_not(each)]


def test_each_tool_has_a_lineup_of_its_own() -> None:
    by = engine()
    one, two = {"authorization": f"Bearer {OWN}"}, {"x-api-key": "sk-of-another-tool-0123"}
    assert [names(opened(by, headers)) for headers in (one, two, one)] == [
        ["own", "work"],
        ["own~2", "work"],
        ["own", "work"],
    ]
    # The same key in another header, or with a cookie that changes, is the same tool.
    assert names(opened(by, {"x-api-key": OWN, "cookie": "a=b"})) == ["own", "work"]
    assert opened(by, one).lineup is opened(by, one).lineup


def test_a_route_without_the_tools_own_asks_nothing_about_it() -> None:
    exchange = opened(engine(), {"authorization": f"Bearer {OWN}"}, model="pooled")
    assert (names(exchange), exchange.request.barred) == (["work"], {})


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "the tool sent no credential of its own"),
        ({"authorization": "Bearer "}, "the tool sent no credential of its own"),
        ({"cookie": "session=abc"}, "the tool sent no credential of its own"),
        ({"proxy-authorization": "Basic abc"}, "the tool sent no credential of its own"),
        ({"authorization": "Bearer <understudy:client>"}, "a saved flow does not hold the tool's own credential"),
    ],
)
def test_where_there_is_none_the_pool_is_left(headers: Mapping[str, str], reason: str) -> None:
    """W03: it is passed over with a reason that can be told."""
    exchange = opened(engine(), headers)
    assert names(exchange) == ["work"]
    assert exchange.request.barred == {"away": reason, "own": reason}


def test_what_the_tools_own_account_knows_stays_with_it() -> None:
    """P04: a file that the tool uploaded itself is known to no account of the pool."""
    by = engine()
    by.memory.ledger.learn(["file-0123456789abcdefghijkl"], TOOL)
    own = {"authorization": f"Bearer {OWN}"}
    assert names(opened(by, own, more=',"file":"file-0123456789abcdefghijkl"')) == ["own"]
    assert names(opened(by, own, more=',"file":"file-zyxwvutsrqponmlkjihgfe"')) == ["own", "work"]
    assert names(
        opened(by, {"authorization": "Bearer another-tool-0123"}, more=',"file":"file-0123456789abcdefghijkl"')
    ) == ["own~2"]
    assert names(opened(by, {}, more=',"file":"file-0123456789abcdefghijkl"')) == [], (
        "nor does an account of the pool get it"
    )


def test_what_came_from_a_tools_own_stays_with_it_when_its_login_is_renewed() -> None:
    """P04: another token of the same tool is another credential to us, and still the account that knows."""
    by = engine()
    opened(by, {"authorization": "Bearer the-first-token-0123"})
    by.memory.ledger.learn(["resp_0123456789abcdefghij"], "own")
    more = ',"previous_response_id":"resp_0123456789abcdefghij"'
    assert names(opened(by, {"authorization": "Bearer the-next-token-0123"}, more=more)) == ["own~2"]


def test_another_scheme_is_another_place() -> None:
    assert names(opened(engine(), {"authorization": f"Bearer {OWN}"}, scheme="http")) == ["work"]


def test_advice_and_reasons_hold_nothing_of_the_credential() -> None:
    """R07: what is shown of a barred credential is where the tool was going."""
    exchange = opened(engine(), {"authorization": f"Bearer {OWN}"})
    assert set(exchange.request.barred) == {"away"}
    assert OWN not in repr((exchange, exchange.request, exchange.lineup))


LOGINS = {
    "codex": (
        Upstream("login", "openai", "https", "chatgpt.com", 443, "/backend-api/codex"),
        Upstream("api", "openai", "https", "api.openai.com", 443, "/v1"),
        "/responses",
        {"chatgpt-account-id": "acc-1", "x-codex-routing-hint": "model=m1"},
        {"chatgpt-account-id"},
        "authorization",
    ),
    "copilot": (
        Upstream("login", "openai", "https", "api.githubcopilot.com", 443, ""),
        Upstream("api", "openai", "https", "api.openai.com", 443, "/v1"),
        "/chat/completions",
        {"copilot-integration-id": "cli", "x-client-session-id": "s-1"},
        {"copilot-integration-id"},
        "authorization",
    ),
    "claude": (
        Upstream("login", "anthropic", "https", "api.anthropic.com", 443),
        Upstream("api", "anthropic", "https", "gateway.example", 443, "/anthropic"),
        "/v1/messages",
        {"anthropic-beta": "oauth-2025-04-20,context-1m", "anthropic-version": "2023-06-01"},
        set(),
        "x-api-key",
    ),
}


@pytest.mark.parametrize("tool", LOGINS)
def test_a_login_goes_first_on_its_own_host_and_a_key_of_the_pool_takes_over(tool: str) -> None:
    """R03, R05: a ChatGPT login of Codex, Copilot, a Claude subscription: the login as it came, the key without it."""
    login, api, path, headers, identity, place = LOGINS[tool]
    login = replace(login, relatives=DIALECTS[login.dialect].relatives)
    own, key = Credential("own", login, ClientSecret()), Credential("key", api, Source("sk-key-of-the-pool-0123"))
    route = Route("*", (Choice(own), Choice(key, "m2")))
    by = Engine(shipped(), clock=Clock())
    by.use(Pool({each.name: each for each in (login, api)}, {each.name: each for each in (own, key)}, {"*": route}))
    sent_headers = {"authorization": f"Bearer {OWN}", "content-type": "application/json", **headers}
    request = http.Request.make("POST", f"https://{login.host}{login.base_path}{path}", b'{"model":"m1"}')
    request.headers.update(sent_headers)
    intake = by.take(request, login.host, 443)
    assert intake is not None
    plan = by.plan(intake, request)
    assert plan is not None
    exchange = by.exchange(intake, plan, request, {})
    first, second = exchange.lineup.members
    assert names(exchange) == ["own", "key"]
    mine = rewrite.build(request, plan.recognised, plan.call, first, "", intake.stash)
    assert (mine.host, mine.path) == (login.host, login.base_path + path)
    assert {name: mine.headers[name] for name in sent_headers} == sent_headers
    theirs = rewrite.build(request, plan.recognised, plan.call, second, key.secret.reveal())
    assert (theirs.host, theirs.path) == (api.host, api.base_path + path)
    assert key.secret.reveal() in theirs.headers[place]
    assert theirs.get_text() == '{"model":"m2"}'
    assert not identity & {name.lower() for name in theirs.headers}
    assert OWN not in str(theirs.headers.fields)
    assert "oauth" not in theirs.headers.get("anthropic-beta", "")
    if tool == "codex":
        assert theirs.headers["x-codex-routing-hint"] == "model=m2"
