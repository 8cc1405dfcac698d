"""O03, O04: status, explain, pick and reload say which credential is out of use, and nothing of it is stored."""

from __future__ import annotations

import json
from dataclasses import replace

from mitmproxy import http

from tests.control.test_control import POOL, Desk
from understudy.control.result_text import as_json
from understudy.model import Candidate, Choice, Credential, Pool, Route, Scope, key_of
from understudy.suspensions.snapshot import encode, urls_of

WHY = "the environment variable 'HOME_KEY' is not set"


def lacking(*names: str, pool: Pool = POOL) -> Pool:
    """A pool in which these credentials have no secret."""

    def found(each: Credential) -> Credential:
        return replace(each, missing=WHY) if each.name in names else each

    return replace(
        pool,
        credentials={name: found(each) for name, each in pool.credentials.items()},
        routes={
            name: Route(name, tuple(Choice(found(each.credential), each.model) for each in known.choices))
            for name, known in pool.routes.items()
        },
    )


def test_o04_status_explain_and_pick_say_it() -> None:
    """O04: as lines and as JSON, with the reason; and it is no suspension."""
    desk = Desk(lacking("work"))
    assert desk.text("status").splitlines() == ["nothing is suspended", f"credential work is out of use: {WHY}"]
    told = json.loads(as_json(desk.run("status")))
    assert told["out_of_use"] == [{"credential": "work", "upstream": "openai", "reason": WHY}]
    assert told["entries"] == []
    first = told["routes"][0]["lineups"][0]["candidates"][0]
    assert (first["credential"], first["state"]) == ("work", "unusable")
    assert first["note"] == f"out of use, because {WHY}"
    assert f"1. work gpt-5 at https://openai.example:443/v1: unusable (out of use, because {WHY})" in desk.text(
        "explain gpt-5"
    )
    assert desk.text("pick gpt-5").startswith("gpt-5 (openai): home gpt-5 would be asked")
    assert f"- work only: out of use, because {WHY}" in desk.text("pick only").splitlines()


def test_o03_a_reload_says_it_and_brings_it_back() -> None:
    """O03: what was learnt of it before holds again, as nothing shows that the secret is another one."""
    desk = Desk()
    desk.suspend("work")
    desk.engine.use(lacking("work"))
    assert desk.text("reload").splitlines()[1:] == [f"credential work is out of use: {WHY}"]
    assert desk.engine.identities.look() == []
    desk.engine.use(POOL)
    assert desk.engine.suspensions.get(key_of(Candidate(POOL.credentials["work"], "gpt-5"), Scope.CANDIDATE))
    assert desk.text("reload").endswith("credentials are in use")


def test_it_is_not_in_the_state_file() -> None:
    """Only suspensions are stored, and this is none."""
    pool = lacking("work", "home")
    desk = Desk(pool)
    assert desk.asked("only") == ""
    stored = json.loads(encode(desk.engine.suspensions, [], urls_of(pool), desk.clock.now))
    assert (stored["suspensions"], stored["ladders"]) == ([], [])


def test_the_line_to_add_names_a_credential_that_can_be_used() -> None:
    """A call without a route: what the log says to write would otherwise not serve it."""
    request = http.Request.make("POST", "https://api.openai.com/v1/chat/completions", b'{"model": "other"}')
    assert '`"other": [work]`' in Desk().engine.advice(request, "api.openai.com", 443)
    assert '`"other": [home]`' in Desk(lacking("work")).engine.advice(request, "api.openai.com", 443)
