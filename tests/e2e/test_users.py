"""Users of one proxy (``proxyauth``): what each may spend, and what stays with one candidate (P05)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mitmproxy import http

from .authority import Authority
from .client import Connection, ProxyRefusedError, Response
from .proxy import Proxy, StartProxy
from .stage import CHAT, ENVIRONMENT, HOSTS, SECRETS, TOOL, crashes, pool_yaml, refusal
from .upstream import Upstream

PASSWORDS = {name: f"pass-of-{name}-0123456789" for name in ("alice", "bob", "ci-1", "ci-2")}
ROUTES = """
  gpt-5: [{credential: a, who: alice}, {credential: b, who: [bob, "ci-*"]}, x]
  secret-*: {who: alice, candidates: [a, b]}
  spread: {strategy: round_robin, affinity: user, candidates: [a, b, c]}
"""


@dataclass
class Team:
    """One proxy, reached by its users over a network."""

    proxy: Proxy
    main: Upstream
    other: Upstream

    def call(self, user: str, alias: str, *, stream: bool = False, password: str = "") -> Response:
        """One call of a user's tool. Raises ProxyRefusedError."""
        login = base64.b64encode(f"{user}:{password or PASSWORDS[user]}".encode()).decode()
        path, body = CHAT.ask(alias, stream)
        headers = [("Proxy-Authorization", f"Basic {login}")] if user else []
        with Connection(self.proxy.port, HOSTS["openai"], ca=self.proxy.ca, proxy_headers=headers) as tool:
            return tool.request("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode())

    def spent(self, begin: int = 0) -> list[str]:
        """The credentials at the main upstream, in order."""
        return [next(name for name in SECRETS if SECRETS[name] == each) for each in self.main.credentials[begin:]]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Team]:
    """A proxy beyond loopback with a file of users."""
    directory = tmp_path_factory.mktemp("team")
    users = directory / "users"
    hashes = {name: base64.b64encode(hashlib.sha1(each.encode()).digest()) for name, each in PASSWORDS.items()}
    users.write_text("".join(f"{name}:{{SHA}}{each.decode()}\n" for name, each in hashes.items()))
    with Upstream(authority) as main, Upstream(authority) as other:
        settings = {"proxyauth": f"@{users}", "pool_journal": "journal.jsonl"}
        with Proxy(
            directory,
            confdir,
            trusted=authority.path,
            env=ENVIRONMENT,
            pool_yaml=pool_yaml(main, other, ROUTES),
            extra_args=["--listen-host", "0.0.0.0"],
            settings=settings,
        ) as proxy:
            for name, upstream in {"a": main, "b": main, "c": main, "x": other}.items():
                upstream.on(SECRETS[name], CHAT.answers())
            yield Team(proxy, main, other)
            assert not list(crashes(proxy))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_p05_each_user_spends_what_is_theirs(team: Team, stream: bool) -> None:
    """P05, law 12: refused or not, what is not for a user is never sent; without a password there is no call."""
    begin, answer = len(team.main.seen), CHAT.streams() if stream else CHAT.answers()
    for name in "ab":
        team.main.on(SECRETS[name], answer)
    assert team.call("alice", "gpt-5", stream=stream).status == 200
    assert team.call("bob", "gpt-5", stream=stream).status == 200
    assert team.call("ci-2", "gpt-5", stream=stream).status == 200
    assert team.spent(begin) == ["a", "b", "b"]
    refused = team.call("bob", f"secret-{stream}", stream=stream)
    assert refused.status == 400
    assert b"not asked: its `who` in the pool file does not name the user bob" in refused.body
    assert team.spent(begin) == ["a", "b", "b"]
    for user in ("", "alice"):
        with pytest.raises(ProxyRefusedError, match="407"):
            team.call(user, "gpt-5", password="guessed")


def test_p05_a_refused_candidate_is_followed_by_one_of_the_same_user(team: Team) -> None:
    """P05, F01: bob's second candidate is not alice's."""
    begin, others = len(team.main.seen), len(team.other.seen)
    team.main.on(SECRETS["b"], refusal(CHAT, "gpt-5"))
    team.other.on(SECRETS["x"], CHAT.answers())
    assert team.call("bob", "gpt-5").status == 200
    assert (team.spent(begin), len(team.other.seen) - others) == (["b"], 1)


def test_p05_a_user_stays_with_one_candidate(team: Team) -> None:
    """P05: ``affinity: user`` over a round robin: the users are spread, and each keeps its own."""
    begin = len(team.main.seen)
    for name in "abc":
        team.main.on(SECRETS[name], CHAT.answers())
    for user in ("alice", "bob", "ci-1", "alice", "bob", "ci-1", "alice"):
        assert team.call(user, "spread").status == 200
    assert team.spent(begin) == ["a", "b", "c", "a", "b", "c", "a"]


def test_p05_the_name_is_noted_and_the_password_is_not(team: Team) -> None:
    """P05, law 8: journal and flow name the user; no password is in journal, log or saved flow."""
    assert team.call("alice", "gpt-5").status == 200
    flows = [each for each in team.proxy.flows() if isinstance(each, http.HTTPFlow)]
    noted = [flow.metadata.get("understudy", {}).get("user") for flow in flows]
    assert noted[-1] == "alice"
    lines = (team.proxy.directory / "journal.jsonl").read_text()
    told = [json.loads(line) for line in lines.splitlines()]
    assert told[-1]["user"] == "alice"
    everything = lines + team.proxy.log_text() + team.proxy.flow_path.read_bytes().decode("latin-1")
    assert "alice" in everything
    for user, password in PASSWORDS.items():
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        assert password not in everything
        assert login not in everything


def test_p05_a_name_that_nothing_checks_is_none(mitmdump: StartProxy, upstream: Upstream) -> None:
    """P05, law 12: with ``proxyauth=any`` every name is let in, so none counts; the log says so."""
    pool = pool_yaml(upstream, upstream, ROUTES)
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool, settings={"proxyauth": "any"})
    proxy.wait_for_log("`who` in the pool file limits gpt-5, secret-\\* to some users")
    upstream.on(SECRETS["x"], CHAT.answers())
    team = Team(proxy, upstream, upstream)
    assert team.call("alice", "gpt-5").status == 200
    assert team.spent() == ["x"]
    refused = team.call("alice", "secret-1")
    assert (refused.status, b"calls without a user's name" in refused.body) == (400, True)
