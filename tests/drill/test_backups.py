"""Which single failure leaves a route with nobody, and what is said to add (H12)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import credential, upstream
from understudy.config import spoken
from understudy.drill.backups import Backing, Failing, advice, backings, table
from understudy.model import Choice, Credential, Mode, Pool, Route

WORK, HOME = credential("work"), credential("home")
ROUTER = credential("router", upstream("router", host="router.example"))
TWIN = credential("twin", upstream("twin", host="openai.example"))
CLAUDE = credential("team", upstream("anthropic", "anthropic"))
EVERYBODY = (WORK, HOME, ROUTER, TWIN, CLAUDE)


def found(route: Route, *credentials: Credential) -> list[Backing]:
    """The route alone, in a pool of these credentials."""
    there = credentials or EVERYBODY
    pool = Pool({each.upstream.name: each.upstream for each in there}, {each.name: each for each in there})
    return backings(replace(pool, routes={route.pattern: route}), lambda each: list(spoken(each)))


def gaps(route: Route, *credentials: Credential) -> dict[str, list[str]]:
    """By kind of failure, the names that nobody survives."""
    named: dict[str, list[str]] = {}
    for backing in found(route, *credentials):
        for gap in backing.gaps:
            named.setdefault(gap.failing.value, []).append(gap.name)
    return named


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (
            [Choice(WORK)],
            {"upstream": ["openai"], "credential": ["work"], "model": ["gpt-5"], "host": ["openai.example"]},
        ),
        (
            [Choice(WORK), Choice(HOME)],
            {"upstream": ["openai"], "model": ["gpt-5"], "host": ["openai.example"]},
        ),
        ([Choice(WORK), Choice(TWIN)], {"model": ["gpt-5"], "host": ["openai.example"]}),
        ([Choice(WORK), Choice(ROUTER)], {"model": ["gpt-5"]}),
        (
            [Choice(WORK), Choice(WORK, "other")],
            {"upstream": ["openai"], "credential": ["work"], "host": ["openai.example"]},
        ),
        ([Choice(WORK), Choice(ROUTER, "openai/gpt-5")], {}),
    ],
)  # fmt: skip
def test_h12_single_failures(choices: list[Choice], expected: dict[str, list[str]]) -> None:
    """H12: an upstream, a credential, a model, a host with all upstreams there."""
    assert gaps(Route("gpt-5", tuple(choices))) == expected


def test_h12_what_to_add() -> None:
    """H12: what the pool has already, or else what it needs."""
    route = Route("gpt-5", (Choice(WORK),))
    assert advice(found(route)) == [
        "gpt-5 (openai): without upstream openai or host openai.example: add `router` (upstream router) "
        "to its candidates",
        "gpt-5 (openai): without credential work: add `home` to its candidates",
        "gpt-5 (openai): without model gpt-5: add a candidate with another upstream model: "
        "`{credential: work, model: ...}`",
    ]
    alone = advice(found(route, WORK))
    assert "add an upstream with `dialect: openai` at another host, and a credential of it" in alone[0]
    assert "add a second credential, of upstream openai or another one" in alone[1]


def test_h12_the_table() -> None:
    """H12: routes by failures, each in the dialects of its upstreams; what is left, or without whom nobody is."""
    both = Route("claude-*", (Choice(CLAUDE), Choice(WORK), Choice(HOME)))
    lines = table(found(both))
    assert " ".join(lines[0].split()) == (
        "route dialect candidates one upstream fails one credential fails one model fails one host fails"
    )
    assert "nobody without anthropic" in lines[2]
    assert "claude-*  openai     2" in lines[3]
    assert "1 left" in lines[3]
    assert "nobody without (as asked)" in lines[3]


def test_what_is_out_of_use_is_no_candidate() -> None:
    """A secret that is missing, and routes that only observe."""
    lost = replace(HOME, missing="not set")
    [backing] = found(Route("gpt-5", (Choice(WORK), Choice(lost))))
    assert backing.candidates == 1
    assert Failing.CREDENTIAL in {gap.failing for gap in backing.gaps}
    nobody = found(Route("gpt-5", (Choice(lost),)))
    assert "nobody anyway" in table(nobody)[2]
    assert found(Route("gpt-5", (Choice(WORK),), mode=Mode.OBSERVE)) == []
