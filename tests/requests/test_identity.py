"""What recorded programs say of their account, their device and their session is in the tables of docs/dialects.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http

from understudy.dialects import DIALECTS
from understudy.model.pool import Candidate, Credential, Upstream
from understudy.requests import rewrite
from understudy.requests.conversation import STATE_HEADERS, read
from understudy.requests.sealed import Shape, take_out
from understudy.requests.sites import Recognised

ROOT = Path(__file__).parents[2]
SHAPES = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "tests/e2e/shapes").glob("*.json"))}
PAGE = (ROOT / "docs/dialects.md").read_text()
TABLES = PAGE[PAGE.index("## What names an account") :]
KNOWN = {name.lower().rpartition(".")[2] for name in re.findall(r"`([A-Za-z0-9_.-]+)`", TABLES)}
LEAVING = TABLES[: TABLES.index("These go back")]


def names_of(shape: dict[str, Any]) -> set[str]:
    """The headers of a recorded request that begin with ``x-``, and the members that may name somebody."""
    found = {name.lower() for name in shape["headers"] if name.lower().startswith("x-")}
    body = shape.get("body") or {}
    for member in ("metadata", "client_metadata"):
        found |= {name.lower() for name in body.get(member) or {}}
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_e04_what_a_program_sends_of_itself_is_known(name: str) -> None:
    """E04: whoever adds a program, or a newer release of one, has to say what its headers are."""
    assert names_of(SHAPES[name]) - KNOWN == set()


def test_e04_the_question_is_closed() -> None:
    """E04: a header that nobody knows is noticed."""
    assert names_of({"headers": {"X-Codex-New": "1"}, "body": {"client_metadata": {"account": "a"}}}) - KNOWN == {
        *("x-codex-new", "account")
    }
    assert len(SHAPES) > 20


def test_e04_the_table_of_what_leaves_is_what_leaves() -> None:
    """E04, R03: the headers of an identity in the code and on the page are the same."""
    in_code = {name for dialect in DIALECTS.values() for name in dialect.identity_headers}
    assert in_code - KNOWN == set()
    told = {name.lower() for name in re.findall(r"`([A-Za-z0-9-]+)`", LEAVING)}
    assert in_code <= told
    assert {name.decode() for name in STATE_HEADERS} <= KNOWN


class Known:
    """A secret that is just there."""

    is_client = refreshable = False

    def reveal(self) -> str:
        return "sk-pool-0123456789abcdef"


def test_e04_nothing_of_an_identity_reaches_another_account() -> None:
    """E04: every header of OpenAI's identities, on a request that goes out with another credential."""
    dialect = DIALECTS["openai"]
    endpoint = dialect.endpoint("POST", "/responses")
    assert endpoint is not None
    body = b'{"model": "m", "client_metadata": {"x-codex-turn-state": "state-of-a", "turn_id": "t"}, "input": []}'
    headers = [(name.encode(), b"of the tool's account") for name in sorted(dialect.identity_headers)]
    headers += [(b"X-Codex-Turn-State", b"state-of-a"), (b"authorization", b"Bearer sk-tool-0123456789")]
    request = http.Request.make("POST", "https://api.openai.com/v1/responses", body, headers)
    said = read(request.headers.fields, body, Shape.RESPONSES)
    assert said.states == ("state state-of-a", "state state-of-a")
    upstream = Upstream("u", "openai", "https", "llm.example", 443, "/v1")
    call = dialect.read("/responses", "", "application/json", body)
    assert call is not None
    bare = rewrite.without_states(request, said.states)
    bare, count = rewrite.unsealed(bare, Shape.RESPONSES, frozenset(said.states).__contains__)
    recognised = Recognised(dialect, endpoint, "/responses", "")
    made = rewrite.build(bare, recognised, call, Candidate(Credential("c", upstream, Known()), "m"), "sk-pool")
    assert count == 1
    sent = b"".join(name + value for name, value in made.headers.fields) + (made.data.content or b"")
    assert b"of the tool" not in sent
    assert b"state-of-a" not in sent
    assert made.data.content == b'{"model": "m", "client_metadata": {"turn_id": "t"}, "input": []}'
    assert request.headers["x-codex-turn-state"] == "state-of-a"


def test_e04_an_own_state_stays() -> None:
    """E04: what goes back to its own account is not touched."""
    body = b'{"client_metadata": {"x-codex-turn-state": "state-of-a"}}'
    assert take_out(Shape.RESPONSES, body, lambda name: False) == (body, 0)
