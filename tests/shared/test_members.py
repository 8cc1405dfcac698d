"""What is stored of a suspension, and under which name: nothing secret, and nothing of another identity."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared.workers import OPENAI, SECRETS, key, pool_of
from tests.support.decisions import NOW, Source
from understudy.model import Credential, Key, Label, Pool, Scope, Suspension
from understudy.shared.members import Members, RecordError, decode, encode
from understudy.suspensions import Ladders, Rung

POOL = pool_of("unix:///nowhere")
SUSPENSION = Suspension(key(), NOW, NOW + 60, Label.OVERLOADED, "test/rule", "HTTP 503", "", "a/gpt-5", step=2)


class Refreshable(Source):
    """A secret that a command prints."""

    refreshable = True


class Client(Source):
    """The tool's own."""

    is_client = True


def with_credential(credential: Credential) -> Members:
    """The members of a pool whose ``a`` is this one."""
    return Members(replace(POOL, credentials={**POOL.credentials, "a": credential}))


def test_a_name_comes_back_as_its_key() -> None:
    members = Members(POOL)
    for each in (key(), key("b", "a|b|c"), Key(Scope.CREDENTIAL, "a"), Key(Scope.UPSTREAM, "openai")):
        assert members.key_of(members.name_of(each)) == each


@pytest.mark.parametrize(
    "other",
    [
        Credential("a", OPENAI, Source("sk-another-0123456789")),
        Credential("a", replace(OPENAI, host="elsewhere.example"), Source(SECRETS["a"])),
        Credential("a", OPENAI, Source(SECRETS["a"]), (("openai-organization", "org-2"),)),
    ],
    ids=["secret", "upstream", "headers"],
)
def test_m02_another_identity_has_another_name(other: Credential) -> None:
    """M02: of another secret, another URL or another account nothing is taken over."""
    name = Members(POOL).name_of(key())
    assert with_credential(other).key_of(name) is None
    assert with_credential(replace(other, upstream=OPENAI, secret=Source(SECRETS["a"]), headers=())).key_of(name)


def test_what_others_know_better_is_not_shared() -> None:
    """The tools' own credentials, a rejected secret that a command renews, an upstream that cannot be reached."""
    assert with_credential(Credential("a", OPENAI, Client())).name_of(key()) == ""
    assert with_credential(replace(POOL.credentials["a"], missing="NAME is not set")).name_of(key()) == ""
    command = with_credential(Credential("a", OPENAI, Refreshable()))
    assert command.name(SUSPENSION) != ""
    assert command.name(replace(SUSPENSION, label=Label.CREDENTIAL_REJECTED)) == ""
    upstream = replace(SUSPENSION, key=Key(Scope.UPSTREAM, "openai"))
    assert Members(POOL).name(upstream) == ""
    assert Members(POOL).name(replace(upstream, rule="by hand")) != ""
    assert Members(POOL).name(replace(SUSPENSION, key=key("gone"))) == ""
    assert Members(POOL).name_of(key("a", "\ud800")) == ""
    assert Members(POOL).name_of(key("a", "m" * 501)) == ""


def test_a_changed_secret_is_looked_at_again() -> None:
    members = Members(POOL)
    assert not members.look("a")
    before = members.name_of(key())
    source = POOL.credentials["a"].secret
    assert isinstance(source, Source)
    source.value = "sk-changed-0123456789"
    try:
        assert members.look("a")
        assert members.name_of(key()) != before
    finally:
        source.value = SECRETS["a"]


def test_a_record_comes_back_as_its_suspension() -> None:
    """With a server whose clock is 100 s ahead, and its rung of the ladder."""
    ladders: Ladders[Key] = Ladders()
    ladders.climb(key(), Label.OVERLOADED, Rung(2, 7, NOW + 60))
    text = encode(SUSPENSION, ladders, 100.0)
    assert json.loads(text)["since"] == (NOW + 100) * 1000
    record = decode(text, key(), (NOW + 160) * 1000, 100.0)
    assert record.suspension == SUSPENSION
    assert record.rung == Rung(2, 0, NOW + 60)


def test_m05_no_secret_is_in_a_name_or_a_record() -> None:
    """M05."""
    members = Members(POOL)
    text = members.name_of(key()) + encode(SUSPENSION, Ladders(), 0.0)
    for secret in SECRETS.values():
        assert secret not in text
        assert secret[3:] not in text


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers(), st.lists, max_leaves=5).map(json.dumps))
def test_a_record_that_is_not_ours_is_an_error(text: str) -> None:
    """Whatever another program has stored there."""
    with pytest.raises(RecordError):
        decode(text, key(), NOW * 1000, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", "no_such"),
        ("evidence", 7),
        ("since", "soon"),
        ("since", True),
        ("step", -1),
        ("rung", [1]),
        ("rung", ["x", 1]),
    ],
)
def test_a_damaged_record_is_an_error(name: str, value: object) -> None:
    document = json.loads(encode(SUSPENSION, Ladders(), 0.0)) | {name: value}
    with pytest.raises(RecordError):
        decode(json.dumps(document), key(), NOW * 1000, 0.0)


def test_unprintable_evidence_does_not_get_through() -> None:
    """It is shown in logs and in terminals."""
    document = json.loads(encode(SUSPENSION, Ladders(), 0.0)) | {"evidence": "one\ntwo\x1b[31m"}
    assert decode(json.dumps(document), key(), NOW * 1000, 0.0).suspension.evidence.isprintable()


@given(st.text(max_size=80))
def test_any_name_is_a_key_of_the_pool_or_none(name: str) -> None:
    found = Members(POOL).key_of(name)
    assert found is None or Members(POOL).name_of(found) == name


def test_an_empty_pool_shares_nothing() -> None:
    assert Members(Pool()).name_of(key()) == ""


@pytest.mark.parametrize("scope", Scope)
def test_h12_nothing_of_a_drill_is_shared(scope: Scope) -> None:
    """H12: a drill is of one process; the others of the pool hear nothing of what it makes up."""
    model = "gpt-5" if scope is Scope.CANDIDATE else ""
    made_up = Key(scope, "openai" if scope is Scope.UPSTREAM else "a", model, drill=True)
    members = Members(POOL)
    assert members.name_of(made_up._replace(drill=False))
    assert members.name_of(made_up) == ""
    assert members.name(replace(SUSPENSION, key=made_up)) == ""
