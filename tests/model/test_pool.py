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
    Intercept,
    Mode,
    Pool,
    Route,
    Upstream,
    counted,
    glob_regex,
    host_regex,
    is_glob,
    printable,
    specificity,
)
from understudy.model.usage import Price


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


class Own(Secret):
    """The tool's own credential."""

    is_client = True


def test_an_upstream_is_used_in_the_dialect_of_the_call() -> None:
    """A gateway with several: where it is spoken as it is, else where it can be written, else as it stands."""
    messages = replace(ANTHROPIC, name="gateway", relatives=frozenset({"anthropic-vertex", "openai"}))
    gemini = replace(messages, dialect="gemini", relatives=frozenset({"vertex"}))
    gateway = replace(OPENAI, name="gateway", relatives=frozenset({"azure-openai"}), faces=(messages, gemini))
    expected = {"openai": gateway, "anthropic": messages, "gemini": gemini, "vertex": gemini, "cohere": gateway}
    expected |= {"anthropic-vertex": messages, "azure-openai": gateway}
    assert {dialect: gateway.face(dialect) for dialect in expected} == expected
    assert [dialect for dialect in expected if gateway.serves(dialect)] == [
        each for each in expected if each != "cohere"
    ]
    assert OPENAI.face("anthropic") is OPENAI
    assert gateway.dialects == ("openai", "anthropic", "gemini")
    assert gateway.all_dialects == set(expected) - {"cohere"}
    route = Route("gpt-5", (Choice(replace(WORK, upstream=gateway)), Choice(WORK)))
    assert [each.upstream.dialect for each in route.candidates("m", "anthropic")] == ["anthropic"]
    assert [each.upstream for each in route.candidates("m", "openai")] == [gateway, OPENAI]


def test_several_tools_own_credentials_are_told_apart() -> None:
    own = replace(WORK, name="own", secret=Own())
    route = Route("gpt-5", (Choice(own), Choice(HOME)))
    for client, names in (("~2", ["own~2", "home"]), ("", ["own", "home"])):
        assert [each.credential.name for each in route.members("m", "openai", client)] == names


@pytest.mark.parametrize(
    ("pattern", "choice", "model", "means"),
    [
        ("gpt-5", Choice(WORK), "gpt-5", True),
        ("gpt-5", Choice(WORK), "gpt-4", False),
        ("gpt-*", Choice(WORK), "gpt-4", True),
        ("gpt-*", Choice(WORK), "o3", False),
        ("default", Choice(WORK), "o3", True),
        ("gpt-5", Choice(WORK, "m1"), "m1", True),
        ("gpt-5", Choice(WORK, "m1"), "gpt-5", False),
        ("default", Choice(HOME), "o3", False),
        ("gpt-5", Choice(HOME, "m1"), "m1", False),
    ],
)
def test_o03_what_a_route_can_mean(pattern: str, choice: Choice, model: str, means: bool) -> None:
    """O03: for any alias; another line of the route may mean it as well."""
    assert Route(pattern, (choice,)).means("work", model) is means
    assert Route(pattern, (Choice(TEAM), choice)).means("work", model) is means


def test_p05_a_route_is_limited_where_anything_in_it_is() -> None:
    """P05: the route, one of its lines, or one of its credentials."""
    limited = replace(HOME, who=("alice",))
    for route, whose in (
        (Route("gpt-5", (Choice(WORK),)), ""),
        (Route("gpt-5", (Choice(WORK),), who=("alice",)), "alice"),
        (Route("gpt-5", (Choice(WORK, who=("bob", "ci-*")), Choice(HOME))), "bob, ci-*"),
        (Route("gpt-5", (Choice(limited), Choice(WORK))), "alice"),
    ):
        assert route.is_limited is bool(whose)
        assert route.whose(route.choices[0]) == whose


def test_p05_a_user_has_the_lines_that_name_it_at_every_level() -> None:
    """P05: and what is left out is known, too; users with the same lines have the same variant."""
    lines = (Choice(WORK, who=("alice", "ci-*")), Choice(HOME), Choice(TEAM, who=("bob",)))
    route = Route("gpt-5", lines)
    for user, variant in (
        ("alice", "110"),
        ("ci-1", "110"),
        ("bob", "011"),
        ("eve", "010"),
        ("", "010"),
        ("xci-1", "010"),
    ):
        narrowed = route.for_user(user)
        assert narrowed.variant == variant
        assert narrowed.choices == tuple(line for line, bit in zip(lines, variant, strict=True) if bit == "1")
        assert narrowed.closed == tuple(line for line, bit in zip(lines, variant, strict=True) if bit == "0")
    both = Route("gpt-5", (Choice(replace(WORK, who=("bob",)), who=("alice", "bob")),), who=("alice", "bob"))
    assert [both.for_user(user).variant for user in ("alice", "bob")] == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("plain", 5, "plain"),
        ("plain", 4, "plai"),
        ("a\nb", 9, r"a\nb"),
        ("a\x1b[1m", 9, r"a\x1b[1m"),
        ("\ud800", 9, r"\ud800"),
        ("é“”", 9, "é“”"),
        ("a\nbc", 3, r"a\nb"),
    ],
)
def test_law_8_a_name_is_fit_for_one_line(text: str, most: int, shown: str) -> None:
    """What a tool or a peer chose, as far as people read it."""
    assert printable(text, most) == shown


def test_numbers_of_things_in_words() -> None:
    assert [counted(number, "route") for number in (0, 1, 2)] == ["0 routes", "1 route", "2 routes"]


def test_a_url_has_its_port_and_brackets_where_it_needs_them() -> None:
    assert replace(OPENAI, host="::1", scheme="http", port=80).url == "http://[::1]:80/v1"
    assert str(Intercept("llm.corp", "openai", "/v1", 8443)) == "llm.corp:8443/v1 (openai)"
    assert str(Intercept("llm.corp", "openai")) == "llm.corp (openai)"


def test_the_price_is_that_of_the_first_glob_that_fits() -> None:
    cheap, dear = Price(1.0), Price(9.0)
    priced = replace(OPENAI, prices=(("gpt-5-mini*", cheap), ("gpt-5*", dear)))
    assert [priced.price(model) for model in ("gpt-5-mini-2", "gpt-5", "o3")] == [cheap, dear, None]


def test_out_of_use_says_why() -> None:
    assert WORK.out_of_use == ""
    assert replace(WORK, missing="no file").out_of_use == "out of use, because no file"


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("*.example", "a.example", True),
        ("*.example", "a.b.example", False),
        ("*.example", ".example", False),
        ("a-*-b.example", "a-1-b.example", True),
        ("a.example", "axexample", False),
    ],
)
def test_the_star_of_a_host_is_one_label_or_a_part(pattern: str, host: str, fits: bool) -> None:
    assert bool(host_regex(pattern).fullmatch(host)) is fits


def test_limits_of_calls_at_a_time_are_those_that_are_said() -> None:
    credentials = {"work": replace(WORK, concurrency=3), "home": HOME}
    assert Pool(credentials=credentials).concurrency == {"work": 3}
