"""What another pool, or another secret, means for what is suspended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.decisions import NOW, Clock, Source
from understudy.config.secrets.sources import FileSecret
from understudy.failover.generations import Identities, own_name
from understudy.model.pool import Candidate, Choice, Credential, Pool, Route, Upstream
from understudy.model.suspension import Key, Suspension
from understudy.model.verdict import Label, Scope
from understudy.suspensions import Cause, Signature
from understudy.suspensions.cache import Suspensions

UP = Upstream("up", "openai", "https", "up.example", 443)
DOWN = Upstream("down", "openai", "https", "down.example", 443)
WORK, HOME = (
    Credential("work", UP, Source("sk-work-0123456789")),
    Credential("home", DOWN, Source("sk-home-0123456789")),
)
CANDIDATE, CREDENTIAL, UPSTREAM = (
    Key(Scope.CANDIDATE, "work", "m1"),
    Key(Scope.CREDENTIAL, "work"),
    Key(Scope.UPSTREAM, "up"),
)
OTHERS = {Key(Scope.CANDIDATE, "home", "m1"), Key(Scope.CREDENTIAL, "home"), Key(Scope.UPSTREAM, "down")}


def pool(*credentials: Credential, model: str | None = "m1", pattern: str = "gpt-5") -> Pool:
    return Pool(
        {each.upstream.name: each.upstream for each in credentials},
        {each.name: each for each in credentials},
        {pattern: Route(pattern, tuple(Choice(each, model) for each in credentials))},
    )


def after(new: Pool) -> set[Key]:
    """What is left of suspensions of everything when this pool takes the place of one of both."""
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    identities.use(pool(WORK, HOME))
    for key in (CANDIDATE, CREDENTIAL, UPSTREAM, *OTHERS):
        suspensions.suspend(Suspension(key, NOW, NOW + 60, Label.OVERLOADED, "test"))
    identities.use(new)
    return {each.key for each in suspensions}


def test_o03_suspensions_survive_a_reload() -> None:
    assert after(pool(WORK, HOME)) == {CANDIDATE, CREDENTIAL, UPSTREAM, *OTHERS}


def test_o03_those_of_removed_credentials_and_upstreams_go() -> None:
    assert after(pool(HOME)) == OTHERS


@pytest.mark.parametrize(
    ("model", "pattern", "stays"),
    [("m2", "gpt-5", False), (None, "gpt-5", False), (None, "m1", True), (None, "m*", True), (None, "default", True)],
)
def test_o03_those_of_candidates_that_no_route_can_mean_go(model: str | None, pattern: str, stays: bool) -> None:
    left = after(pool(WORK, HOME, model=model, pattern=pattern))
    assert (CANDIDATE in left) is stays
    assert {CREDENTIAL, UPSTREAM} <= left


@pytest.mark.parametrize(
    "changed",
    [
        replace(WORK, secret=Source("sk-another-0123456789")),
        replace(WORK, headers=(("openai-organization", "org-2"),)),
    ],
    ids=["secret", "headers"],
)
def test_f16_another_identity_under_the_same_name_starts_afresh(changed: Credential) -> None:
    """F16, O03: what was said about the old secret or organisation is not said about the new one."""
    assert after(pool(changed, HOME)) == {UPSTREAM, *OTHERS}


def test_o03_an_upstream_that_moved_starts_afresh() -> None:
    moved = replace(UP, host="elsewhere.example")
    assert after(pool(replace(WORK, upstream=moved), HOME)) == OTHERS


def test_f16_a_secret_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """F16: without a reload."""
    file = tmp_path / "secret"
    file.write_text("sk-first-0123456789")
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    identities.use(pool(replace(WORK, secret=FileSecret(file)), HOME))
    suspensions.suspend(Suspension(CREDENTIAL, NOW, NOW + 60, Label.CREDENTIAL_REJECTED, "test"))
    assert identities.look() == []
    assert len(suspensions) == 1
    file.write_text("sk-second-0123456789-longer")
    assert identities.look() == ["work"]
    assert identities.look() == []
    assert len(suspensions) == 0
    assert suspensions.generations["work"] == 1


def test_f16_secrets_that_were_read_of_another_pool_say_nothing(tmp_path: Path) -> None:
    """F16: another thread reads, and meanwhile the pool may be another, with another secret in the same place."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("sk-first-0123456789")
    second.write_text("sk-second-0123456789")
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    identities.use(pool(replace(WORK, secret=FileSecret(first)), HOME))
    seen = identities.read()
    identities.use(pool(replace(WORK, secret=FileSecret(second)), HOME))
    renewed = suspensions.generations["work"]
    assert identities.take(seen) == []
    assert identities.look() == []
    assert suspensions.generations["work"] == renewed


def test_f16_a_fetched_secret_that_is_another_one_voids_what_was_said_about_the_old_one() -> None:
    """F16: the account's limits stay, for it is another token of the same account."""
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    identities.use(pool(WORK, HOME))
    assert not identities.saw("work", "token-1")
    suspensions.suspend(Suspension(CREDENTIAL, NOW, NOW + 60, Label.CREDENTIAL_REJECTED, "test"))
    suspensions.suspend(Suspension(CANDIDATE, NOW, NOW + 60, Label.RATE_LIMITED, "test"))
    assert not identities.saw("work", "token-1")
    assert len(suspensions) == 2
    assert identities.saw("work", "token-2")
    assert {each.key for each in suspensions} == {CANDIDATE}


def test_the_tools_own_credentials_share_a_name_in_the_file() -> None:
    assert [own_name(name) for name in ("own", "own~2", "work")] == ["own", "own", "work"]


def test_o03_another_upstream_of_the_tools_own_credentials_voids_what_was_learnt_about_each_of_them() -> None:
    """F16: `own` means another account now; so do those of other tools, which are told apart as `own~2`."""
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    own = Credential("own", UP, Source("sk-own-0123456789"))
    identities.use(pool(own))
    for name in ("own", "own~2", "owner"):
        suspensions.suspend(Suspension(Key(Scope.CREDENTIAL, name), NOW, NOW + 60, Label.OVERLOADED, "test"))
    owner = Credential("owner", UP, Source("sk-owner-0123456789"))
    identities.use(pool(owner, replace(own, upstream=DOWN)))
    assert [each.key.name for each in suspensions] == ["owner"]


@pytest.mark.parametrize("other", [("x-extra", "sk-other-0123456789"), ("x-other", "sk-extra-0123456789")])
def test_f16_another_secret_header_is_another_identity(other: tuple[str, str]) -> None:
    """F16: its name or what it holds; the same one is the same."""
    name, value = other
    before = replace(WORK, secret_headers=(("x-extra", Source("sk-extra-0123456789")),))
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    identities.use(pool(before, HOME))
    suspensions.suspend(Suspension(CREDENTIAL, NOW, NOW + 60, Label.OVERLOADED, "test"))
    identities.use(pool(replace(before, secret_headers=(("x-extra", Source("sk-extra-0123456789")),)), HOME))
    assert len(suspensions) == 1
    identities.use(pool(replace(before, secret_headers=((name, Source(value)),)), HOME))
    assert len(suspensions) == 0


def test_o03_what_was_learnt_and_what_is_left_goes_with_its_upstream_and_its_credential() -> None:
    """O03: lessons by their upstream, limits by their credential."""
    suspensions = Suspensions(Clock())
    identities = Identities(suspensions)
    identities.use(pool(WORK, HOME))
    for each in ("up", "down"):
        signature = Signature(f"{each:0>12}", each, "openai", 400)
        suspensions.learned.learn(signature, Cause.REQUEST, Label.UNKNOWN, "rule", "a", "b")
    headers = [("x-ratelimit-limit-tokens", "1000"), ("x-ratelimit-remaining-tokens", "5")]
    for credential in (WORK, HOME):
        suspensions.limits.hear(Candidate(credential, "m1"), headers, 0.0)
    identities.use(pool(WORK, HOME))
    assert (len(suspensions.learned), len(list(suspensions.limits.stored()))) == (2, 2)
    identities.use(pool(HOME))
    assert [each.signature.upstream for each in suspensions.learned] == ["down"]
    assert [each.credential for each in suspensions.limits.stored()] == ["home"]


def test_f16_what_is_fetched_or_is_the_tools_own_is_not_looked_at() -> None:
    """F16: the layer sees it when it goes out; and without a pool there is nothing to look at."""

    class Fetched(Source):
        refreshable = True

    class Own(Source):
        is_client = True

    identities = Identities(Suspensions(Clock()))
    assert identities.look() == []
    sources = (Fetched("one"), Own("one"), Source("one"))
    identities.use(pool(*(replace(WORK, name=f"w{at}", secret=each) for at, each in enumerate(sources))))
    for each in sources:
        each.value = "two"
    assert identities.look() == ["w2"]
    suspensions = identities.suspensions
    for at in range(3):
        key = Key(Scope.CREDENTIAL, f"w{at}")
        suspensions.suspend(Suspension(key, NOW, NOW + 60, Label.OVERLOADED, "test"))
    for each in sources:
        each.value = "three"
    identities.use(pool(*(replace(WORK, name=f"w{at}", secret=each) for at, each in enumerate(sources))))
    assert {each.key.name for each in suspensions} == {"w0", "w1"}, "a reload does not look at them either"
