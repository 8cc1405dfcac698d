"""``state`` with a ``url``: the server that suspensions are shared through, and what may be written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.codec.yaml_nodes import ConfigError, Problem
from understudy.config.pool_file import parse
from understudy.dialects import DIALECTS
from understudy.model import Pool

BASE = """
upstreams: {openai: {dialect: openai, url: https://api.openai.com/v1}}
credentials: {work: {upstream: openai, secret: {env: WORK}}}
routes: {default: [work]}
"""
ENVIRON = {"WORK": "sk-work-0123456789", "STORE": "the-password-0123"}


def read(state: str, warnings: list[Problem] | None = None, folder: Path = Path("/nowhere")) -> Pool:
    """A pool file with this state."""
    return parse(f"{BASE}state: {state}\n", folder / "pool.yaml", ENVIRON, DIALECTS, warnings)


def test_a_store_with_everything(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    store = read(
        "{url: rediss://store.example:6380/2, prefix: team, user: me, password: {env: STORE}, "
        "ca: ca.pem, timeout: 0.5}",
        folder=tmp_path,
    ).store
    assert store is not None
    assert (store.url, store.prefix, store.user) == ("rediss://store.example:6380/2", "team", "me")
    assert store.password is not None and store.password.reveal() == ENVIRON["STORE"]
    assert store.ca == str(tmp_path / "ca.pem")
    assert store.timeout == 0.5
    assert ENVIRON["STORE"] not in repr(store)


def test_a_file_and_a_store_at_once() -> None:
    pool = read("{file: state.json, url: 'unix:///run/valkey.sock', prefix: team}")
    assert pool.state == "/nowhere/state.json"
    assert pool.store is not None and pool.store.url == "unix:///run/valkey.sock"


def test_without_a_url_there_is_no_store() -> None:
    assert read("{file: state.json}").store is None


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("{}", "neither `file` nor `url`"),
        ("{prefix: team}", "`prefix` without `url`"),
        ("{url: redis://localhost}", "`url` without `prefix`"),
        ("{url: redis://localhost, prefix: 'a b'}", "not allowed"),
        ("{url: http://localhost, prefix: team}", "not the URL of a Valkey or Redis server"),
        ("{url: redis://localhost/x, prefix: team}", "more than a host"),
        ("{url: redis://localhost:99999, prefix: team}", "not the URL of a server"),
        ("{url: 'redis://localhost?db=1', prefix: team}", "not the URL"),
        ("{url: 'unix://run/x.sock', prefix: team}", "not the path of a socket"),
        ("{url: redis://localhost, prefix: team, user: me}", "`user` without `password`"),
        ("{url: redis://localhost, prefix: team, password: hello}", "named here, never written here"),
        ("{url: redis://localhost, prefix: team, password: {env: NOWHERE}}", "'NOWHERE' is not set"),
        ("{url: redis://localhost, prefix: team, ca: ca.pem}", "there is no file"),
        ("{url: redis://localhost, prefix: team, timeout: 6}", "out of bounds"),
        ("{url: redis://localhost, prefix: team, colour: red}", "unknown key"),
    ],
)
def test_what_is_wrong_is_said(state: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(state)


@pytest.mark.parametrize(
    ("entries", "key", "said"),
    [
        (("prefix: team", "user: me"), "prefix", "`prefix` without `url`"),
        (("user: me", "timeout: 1"), "timeout", "`timeout` without `url`"),
        (("file: state.json", "url: redis://localhost"), "url", "`url` without `prefix`"),
        (("url: redis://localhost", "prefix: team", "user: me"), "user", "`user` without `password`"),
        (("url: redis://localhost", "prefix: team", "ca: ca.pem"), "ca", "`ca` without TLS"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, entries: tuple[str, ...], key: str, said: str) -> None:
    (tmp_path / "ca.pem").touch()
    lines = [*BASE.splitlines(), "state:", *(f"  {entry}" for entry in entries)]
    with pytest.raises(ConfigError) as error:
        parse("\n".join(lines), tmp_path / "pool.yaml", ENVIRON, DIALECTS)
    [line] = [problem.line for problem in error.value.problems if problem.what == said]
    assert lines[line - 1].startswith(f"  {key}: ")


def test_a_password_in_the_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as error:
        read("{url: 'redis://me:the-password-0123@localhost', prefix: team}")
    assert "password: {env: NAME}" in str(error.value)
    assert "the-password-0123" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://store.example", ["what is learnt travels in clear"]),
        ("redis://127.0.0.1:6379", []),
        ("rediss://store.example", []),
        ("unix:///run/valkey.sock", []),
    ],
)
def test_a_way_that_others_can_read_is_warned_of(url: str, said: list[str]) -> None:
    warnings: list[Problem] = []
    read(f"{{url: '{url}', prefix: team}}", warnings)
    assert [each.what for each in warnings] == said


def test_a_client_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.config.pool_reader.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"mitmproxy-understudy\[shared\]"):
        read("{url: redis://localhost, prefix: team}")
