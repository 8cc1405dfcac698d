"""Every route as it stands: which aliases are told, and how much."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.control.test_control import POOL, Desk
from tests.support.decisions import NOW, credential, upstream
from understudy.control import pool_view
from understudy.control.pool_view import MOST_ALIASES, Overview
from understudy.control.result_text import as_json, as_lines
from understudy.control.status import State
from understudy.failover import Exchange, Wait
from understudy.model import Label
from understudy.model.pool import Choice, Pool, Route
from understudy.shared import SharingState

CLAUDE = credential("claude", upstream("anthropic", "anthropic"))
WORK, HOME = POOL.credentials["work"], POOL.credentials["home"]
GLOBS = Pool(
    upstreams={each.upstream.name: each.upstream for each in (WORK, CLAUDE)},
    credentials={each.name: each for each in (WORK, HOME, CLAUDE)},
    routes={
        "gpt-*": Route("gpt-*", (Choice(WORK), Choice(HOME, "fixed"))),
        "default": Route("default", (Choice(WORK), Choice(CLAUDE))),
    },
    path="/home/me/pool.yaml",
)


@pytest.fixture
def desk() -> Desk:
    """A control over routes that take many aliases."""
    return Desk(GLOBS)


def told(desk: Desk) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Route -> dialect, alias, and each candidate with its state."""
    overview = desk.run("status")
    assert isinstance(overview, Overview)
    return {
        route.pattern: [
            (each.dialect, each.alias, [f"{one.credential} {one.model} {one.state}" for one in each.candidates])
            for each in route.lineups
        ]
        for route in overview.routes
    }


def held(desk: Desk, alias: str, *names: str) -> Exchange:
    """A call that is held until the reset of the first of these, which are out for an hour and more."""
    for number, name in enumerate(names, 1):
        desk.suspend(name, alias, 3600.0 * number, label=Label.QUOTA_EXHAUSTED, hint="retry-after")
    exchange, step = desk.begin(alias)
    assert isinstance(step, Wait)
    assert step.held
    return exchange


def test_the_calls_that_are_held_until_a_reset_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 5e, `until_reset`: how many, since when, until when, for whose reset; bounded, and without a secret."""
    routes = {"gpt-*": replace(GLOBS.routes["gpt-*"], until_reset=6 * 3600.0, choices=(Choice(WORK), Choice(HOME)))}
    desk = Desk(replace(GLOBS, routes=routes))
    quiet = desk.run("status")
    assert (quiet.held, quiet.more_held) == ((), 0)
    assert "held" not in desk.text("status")
    calls = [held(desk, "gpt-5", "work", "home")]
    desk.clock.now += 60
    calls += [held(desk, "gpt-5"), held(desk, "gpt-6\n", "home", "work")]
    status = desk.run("status")
    assert status.version != quiet.version
    first, second = json.loads(as_json(status))["held"]
    assert first == {
        **{"route": "gpt-*", "alias": "gpt-5", "dialect": "openai", "calls": 2, "credential": "work", "model": "gpt-5"},
        **{"since": NOW, "until": NOW + 3600, "seconds": 3540},
    }
    assert (second["calls"], second["credential"], second["since"]) == (1, "home", NOW + 60)
    assert "\n" not in second["alias"] + second["model"]
    line = next(line for line in desk.text("status").splitlines() if "gpt-5 (openai)" in line)
    assert line.startswith(
        "2 calls for gpt-5 (openai) are held until a limit of work gpt-5 begins anew: for another 59m"
    )
    monkeypatch.setattr("understudy.control.status.MOST_HELD", 1)
    assert "and 1 more call held until a reset" in desk.text("status").splitlines()
    assert "sk-" not in as_json(desk.run("status")) + desk.text("status")
    for each in calls:
        each.cancelled()
    assert desk.run("status").held == ()


def call(desk: Desk, alias: str) -> None:
    """A call that is answered."""
    exchange, _ = desk.begin(alias)
    exchange.accept()
    desk.tallies.released("f", exchange, 1)


def test_plain_aliases_have_their_candidates() -> None:
    """One lineup each, with what holds for it."""
    desk = Desk()
    desk.suspend("work")
    found = told(desk)
    assert list(found) == ["gpt-5", "turns", "only"]
    assert found["gpt-5"] == [
        ("openai", "gpt-5", ["work gpt-5 suspended", "home gpt-5 free", "router openai/gpt-5 free"])
    ]


def test_a_glob_before_anything_was_asked(desk: Desk) -> None:
    """As it is written, for each dialect; what holds for a whole credential is seen."""
    assert told(desk) == {
        "gpt-*": [("openai", "", ["work  free", "home fixed free"])],
        "default": [("anthropic", "", ["claude  free"]), ("openai", "", ["work  free"])],
    }
    desk.run("suspend credential work")
    assert told(desk)["gpt-*"][0][2][0] == "work  suspended"


def test_a_glob_tells_the_aliases_that_were_asked_for_the_latest_first(desk: Desk) -> None:
    """And those of which something is out of rotation."""
    call(desk, "gpt-5")
    call(desk, "gpt-6")
    desk.suspend("work", "gpt-4")
    desk.suspend("work", "other")
    desk.suspend("home", "fixed")
    found = told(desk)
    assert [(alias, members) for _, alias, members in found["gpt-*"]] == [
        ("gpt-6", ["work gpt-6 free", "home fixed suspended"]),
        ("gpt-5", ["work gpt-5 free", "home fixed suspended"]),
        ("gpt-4", ["work gpt-4 suspended", "home fixed suspended"]),
    ]
    assert [(dialect, alias) for dialect, alias, _ in found["default"]] == [("anthropic", ""), ("openai", "other")]


def test_everything_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: aliases of a route, and candidates over all; what is left out is said."""
    for number in range(MOST_ALIASES + 2):
        call(desk, f"gpt-{number}")
    overview = desk.run("status")
    assert (len(overview.routes[0].lineups), overview.routes[0].more) == (MOST_ALIASES, 2)
    monkeypatch.setattr(pool_view, "MOST_MEMBERS", 1)
    overview = desk.run("status")
    assert (len(overview.routes), overview.more_routes) == (1, 1)


def test_without_a_pool() -> None:
    """There is nothing to tell."""
    overview = Desk(None).run("status")
    assert (overview.pool, overview.routes, overview.exchanges) == ("", (), ())


def test_a_version_says_whether_there_is_something_new(desk: Desk) -> None:
    """Each of: a call, a suspension, its end by time, a reload, an upstream that may not be used any more."""
    version = desk.control.view.version

    seen = [version()]
    assert version() == seen[0]
    assert desk.run("status").version == seen[0]
    call(desk, "gpt-5")
    seen.append(version())
    desk.suspend("work", seconds=10)
    seen.append(version())
    desk.clock.now += 11
    seen.append(version())
    desk.engine.use(Pool(GLOBS.upstreams, GLOBS.credentials, GLOBS.routes, path=GLOBS.path))
    seen.append(version())
    desk.closed = {"openai": "insecure"}
    seen.append(version())
    assert len(set(seen)) == len(seen)


def test_what_may_not_be_used(desk: Desk) -> None:
    """Law 8: told with its reason."""
    desk.closed = {"openai": "ssl_insecure is set"}
    candidate = desk.run("status").routes[0].lineups[0].candidates[0]
    assert (candidate.state, candidate.note) == (State.UNUSABLE, "ssl_insecure is set")


def test_to_look_changes_nothing(desk: Desk) -> None:
    """No turn is taken and nothing is probed."""
    desk.suspend("work", seconds=5)
    desk.clock.now += 6
    desk.run("status")
    assert desk.asked("gpt-5") == "work"


def test_m04_status_says_whether_the_proxy_is_alone() -> None:
    """M04: with the time, the server and the reason; there is something new to see when it changes."""
    state = [SharingState("redis://127.0.0.1:6379", "team", False, NOW, "it cannot be reached")]
    desk = Desk(POOL)
    desk.control.view._standing = lambda: state[0]
    before = desk.control.view.version()
    said = as_lines(desk.run("status"), "pool.")[-1]
    assert re.fullmatch(r"alone since [0-9:]+: redis://127\.0\.0\.1:6379 as team: it cannot be reached", said)
    state[0] = replace(state[0], connected=True, reason="")
    assert as_lines(desk.run("status"), "pool.")[-1] == "shared through redis://127.0.0.1:6379 as team"
    assert desk.control.view.version() != before
