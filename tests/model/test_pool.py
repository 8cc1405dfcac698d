"""Pool: which route answers for an alias, and with which candidates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.model.pool import (
    Candidate,
    Choice,
    Credential,
    Mode,
    Pool,
    Route,
    Upstream,
    glob_regex,
    is_glob,
    specificity,
)


class Secret:
    """A source for tests."""

    is_client = False
    refreshable = False

    def reveal(self) -> str:
        return "secret"


OPENAI = Upstream("openai", "openai", "https", "api.openai.com", 443, "/v1")
ANTHROPIC = Upstream("anthropic", "anthropic", "https", "api.anthropic.com", 443)
WORK = Credential("work", OPENAI, Secret())
HOME = Credential("home", OPENAI, Secret())
TEAM = Credential("team", ANTHROPIC, Secret())


def pool(*patterns: str, choices: tuple[Choice, ...] = (Choice(WORK),)) -> Pool:
    return Pool(routes={pattern: Route(pattern, choices) for pattern in patterns})


def answering(pool: Pool, alias: str, dialect: str = "openai") -> str | None:
    route = pool.route(alias, dialect)
    return route.pattern if route else None


@pytest.mark.parametrize(
    ("alias", "pattern"),
    [
        ("gpt-5", "gpt-5"),
        ("gpt-5-mini", "gpt-5-*"),
        ("gpt-55", "gpt-?5"),
        ("gpt-4", "gpt-*"),
        ("o3", "default"),
        ("", "default"),
        ("gpt-\n", "gpt-*"),
    ],
)
def test_the_most_specific_route_wins_whatever_the_order(alias: str, pattern: str) -> None:
    """P03: own route, then the most specific glob, then default."""
    patterns = ["default", "gpt-*", "gpt-5-*", "gpt-?5", "gpt-5"]
    assert answering(pool(*patterns), alias) == pattern
    assert answering(pool(*reversed(patterns)), alias) == pattern


def test_an_alias_without_any_route_passes() -> None:
    """P03: an alias without glob and default passes untouched."""
    assert answering(pool("gpt-*"), "claude-5") is None
    assert answering(Pool(), "gpt-5") is None


def test_default_is_no_alias() -> None:
    """P03: a tool that asks for a model called "default" gets the catch-all or a glob, as any other alias does."""
    assert answering(pool("default", "d*"), "default") == "d*"
    assert answering(pool("default"), "default") == "default"


def test_a_route_without_the_dialect_is_passed_over() -> None:
    """P03: an own route or glob of another dialect does not hide the route that can answer."""
    routes = {
        "claude-5": Route("claude-5", (Choice(WORK),)),
        "claude-*": Route("claude-*", (Choice(TEAM),)),
        "default": Route("default", (Choice(WORK), Choice(TEAM))),
    }
    both = Pool(routes=routes)
    assert answering(both, "claude-5", "openai") == "claude-5"
    assert answering(both, "claude-5", "anthropic") == "claude-*"
    assert answering(both, "claude-4", "openai") == "default"
    assert answering(both, "claude-4", "gemini") is None
    assert both.has_route_for("anthropic")
    assert not both.has_route_for("gemini")


def test_a_dialect_is_enforced_by_one_route_that_does() -> None:
    """`mode: observe` and `advise` serve a dialect without enforcing anything in it."""
    observed = Route("gpt-5", (Choice(WORK),), mode=Mode.OBSERVE)
    advised = Route("default", (Choice(WORK), Choice(TEAM)), mode=Mode.ADVISE)
    watching = Pool(routes={"gpt-5": observed, "default": advised})
    assert watching.has_route_for("openai")
    assert not watching.has_route_for("openai", enforced=True)
    mixed = Pool(routes={"gpt-5": replace(observed, mode=Mode.ENFORCE), "default": advised})
    assert mixed.has_route_for("openai", enforced=True)
    assert not mixed.has_route_for("anthropic", enforced=True)


def test_candidates_are_of_the_calls_dialect_in_order_and_each_once() -> None:
    route = Route("default", (Choice(WORK), Choice(TEAM), Choice(HOME, "gpt-4"), Choice(WORK, "gpt-5"), Choice(HOME)))
    assert route.candidates("gpt-5", "openai") == (
        Candidate(WORK, "gpt-5"),
        Candidate(HOME, "gpt-4"),
        Candidate(HOME, "gpt-5"),
    )
    assert route.candidates("gpt-5", "anthropic") == (Candidate(TEAM, "gpt-5"),)
    assert route.candidates("gpt-5", "gemini") == ()
    assert route.is_default


def test_brackets_in_model_names_are_ordinary_characters() -> None:
    """P03: ``claude-opus-4[1m]`` is a model name, not a character class."""
    assert not is_glob("claude-opus-4[1m]")
    assert glob_regex("claude-*[1m]").fullmatch("claude-opus-4[1m]")
    assert not glob_regex("claude-*[1m]").fullmatch("claude-opus-41")
    assert answering(pool("claude-*[1m]", "claude-*"), "claude-opus-4[1m]") == "claude-*[1m]"


def test_specificity_orders_default_globs_and_names() -> None:
    patterns = ["default", "*", "g**", "g*", "gpt-*", "gpt-5"]
    assert sorted(patterns, key=specificity) == patterns


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_glob_of_literals_matches_only_itself(literal: str, other: str) -> None:
    expression = glob_regex(literal.replace("*", "x").replace("?", "x"))
    assert bool(expression.fullmatch(other)) == (other == literal.replace("*", "x").replace("?", "x"))


def test_values_say_who_they_are_without_secrets() -> None:
    assert str(Candidate(WORK, "gpt-5")) == "work gpt-5"
    assert Candidate(WORK, "gpt-5").upstream is OPENAI
    assert OPENAI.url == "https://api.openai.com:443/v1"
    assert Credential("work", OPENAI, Secret()) == WORK, "a re-read secret does not make another credential"
