"""The command `drill`: what it takes, what it says, and when a drill is over (H12)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.control.test_control import POOL, Desk
from tests.support.decisions import NOW
from understudy.control.control import Control
from understudy.control.result_text import as_json, as_lines
from understudy.control.target import ControlError
from understudy.failover import Selector
from understudy.model import Key, Label, Pool, Scope, Suspension


class Timer:
    """An alarm that a test rings."""

    def __init__(self, seconds: float, then: Callable[[], None]) -> None:
        self.seconds, self.then, self.cancelled = seconds, then, False

    def cancel(self) -> None:
        self.cancelled = True


class Hall(Desk):
    """A desk whose alarms are rung by hand."""

    def __init__(self, pool: Pool | None = POOL) -> None:
        super().__init__(pool)
        self.timers: list[Timer] = []
        self.control = Control(self.engine, self.reload, lambda pool: self.closed, self.tallies, later=self.later)

    def later(self, seconds: float, then: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, then))
        return self.timers[-1]

    def say(self, words: str) -> list[str]:
        """What the shell shows of a command."""
        return as_lines(self.run(words), "understudy ")

    def told(self, words: str) -> Any:
        """The same as JSON."""
        return json.loads(as_json(self.run(words)))


def test_h12_a_drill_is_begun_shown_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    """H12: by the command, with a line in the log at both ends; five minutes if nothing is said."""
    hall = Hall()
    assert hall.say("drill") == ["no drill has run yet"]
    with caplog.at_level(logging.WARNING, "understudy"):
        lines = hall.say("drill upstream openai dead")
    assert lines[0].startswith("drill: upstream openai: dead (the connection is refused), for another 5m, begun ")
    assert lines[-1].strip() == "`understudy drill` shows how it goes, `understudy drill stop` ends it"
    assert "a drill begins, for 5m, by " in caplog.text
    assert hall.timers[-1].seconds == 300
    status = hall.told("status")
    assert status["drill"]["name"] == "upstream openai: dead"
    assert status["drill"]["seconds"] == 300
    assert as_lines(hall.run("status"), "understudy ")[0] == lines[0]
    hall.clock.now += 30
    caplog.clear()
    with caplog.at_level(logging.WARNING, "understudy"):
        over = hall.say("drill stop")
    assert over[0].startswith("the drill is over: upstream openai: dead")
    assert over[0].endswith("lasted 30s")
    assert "the drill is over after 30s, ended by hand: upstream openai: dead: 0 calls" in caplog.text
    assert hall.timers[-1].cancelled
    assert hall.engine.drill is None
    assert hall.told("status")["drill"] is None
    assert hall.told("drill")["drill"]["ended"] == NOW + 30


def test_h12_it_ends_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    """H12: by an alarm; one that rings too early is set anew."""
    hall = Hall()
    hall.run("drill work gpt-5 429:20 10m")
    hall.clock.now += 599
    hall.timers[-1].then()
    assert hall.engine.drill is not None
    assert hall.timers[-1].seconds == pytest.approx(1)
    hall.clock.now += 2
    with caplog.at_level(logging.WARNING, "understudy"):
        hall.timers[-1].then()
    assert hall.engine.drill is None
    assert "the drill is over after 10m: candidate work gpt-5: 429:20: " in caplog.text
    hall.timers[-1].then()


def test_h12_what_it_has_suspended_is_shown_and_let_go() -> None:
    """H12: the entries of a drill are marked, `resume` takes them as well, and the end lets go of the rest."""
    hall = Hall()
    hall.run("drill credential work quota")
    suspensions = hall.engine.suspensions
    for name in ("work", "home"):
        key = Key(Scope.CREDENTIAL, name, drill=True)
        suspensions.suspend(Suspension(key, NOW, NOW + 60, Label.QUOTA_EXHAUSTED, "general/quota_exhausted"))
    entries = hall.told("status")["entries"]
    assert sorted((each["name"], each["drill"]) for each in entries) == [("home", True), ("work", True)]
    assert any(line.startswith("credential work (drill): ") for line in hall.say("status"))
    assert hall.told("explain gpt-5 openai")["results"][0]["candidates"][0]["state"] == "free"
    hall.run("resume credential work")
    assert [each.key.name for each in suspensions] == ["home"]
    hall.run("drill stop")
    assert suspensions.known() == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("drill stop", "no drill runs"),
        ("drill upstream nowhere dead", "there is no upstream `nowhere`"),
        ("drill work gpt-9 dead", "no route has a candidate"),
        ("drill upstream openai", "how does it fail"),
        ("drill upstream openai sad", "write one of dead, timeout"),
        ("drill upstream openai dead soon", "is no time"),
        ("drill upstream openai dead 61m", "an hour at most: write 1h or less"),
        ("drill upstream openai dead 1m 2m", "too many words"),
        ("drill upstream openai dead --for 0%", "write `--for 10%`"),
        ("drill upstream openai dead --for 101%", "write `--for 10%`"),
        ("drill upstream openai dead --for", "write `--for 10%`"),
        ("drill upstream openai dead --session", "Write `--session ID`"),
        ("drill upstream openai dead --all", "there is no option `--all`"),
    ],
)
def test_h12_what_cannot_be_done_is_answered_with_what_to_write(words: str, expected: str) -> None:
    """H12: and no drill has begun."""
    hall = Hall()
    with pytest.raises(ControlError, match=expected):
        hall.run(words)
    assert hall.engine.drill is None


def test_h12_one_at_a_time() -> None:
    """H12: which of two had struck could not be told."""
    hall = Hall()
    hall.run("drill upstream openai dead")
    with pytest.raises(ControlError, match=r"a drill runs already \(upstream openai: dead\)"):
        hall.run("drill upstream other dead")
    hall.clock.now += 301
    hall.run("drill upstream other dead")


def test_h12_limits() -> None:
    """H12: a share, a session, everyone; with `=` as well."""
    hall = Hall()
    view = hall.told("drill upstream openai slow:5 --for=10% --session abcdefghijkl --everyone")["drill"]
    assert (view["share"], view["session"], view["everyone"]) == (0.1, "abcdefgh…", True)
    assert view["kind"] == "slow:5"


def test_h12_without_a_pool_there_is_nothing_to_drill() -> None:
    with pytest.raises(ControlError, match="there is no pool"):
        Hall(None).run("drill upstream openai dead")


def test_h12_a_reload_without_the_target_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """H12: also when a route is gone; a pool that has the target still goes on with the drill."""
    hall = Hall()
    for words in ("upstream other", "credential router", "router openai/gpt-5"):
        hall.run(f"drill {words} dead")
        hall.control.drills.use(POOL)
        assert hall.engine.drill is not None
        without = replace(
            POOL,
            upstreams={"openai": POOL.upstreams["openai"]},
            credentials={name: POOL.credentials[name] for name in ("work", "home")},
        )
        with caplog.at_level(logging.WARNING, "understudy"):
            hall.control.drills.use(without)
        assert hall.engine.drill is None
        assert "its target is gone from the pool file" in caplog.text
    hall.run("drill work gpt-5 dead")
    hall.control.drills.use(replace(POOL, routes={"only": POOL.routes["only"]}))
    assert hall.engine.drill is None


def test_h12_it_ends_with_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    """H12: and says what came of it."""
    hall = Hall()
    hall.control.drills.close()
    hall.run("drill upstream openai dead")
    with caplog.at_level(logging.WARNING, "understudy"):
        hall.control.drills.close()
    assert "the proxy ends: upstream openai: dead: 0 calls" in caplog.text


def test_the_page_hears_of_every_call() -> None:
    """The version changes with the drill, and what the engine keeps for it goes with it."""
    hall = Hall()
    versions = {hall.control.view.version()}
    hall.run("drill upstream openai dead")
    versions.add(hall.control.view.version())
    drill, snapshot = hall.engine.drill, hall.engine.snapshot
    assert drill is not None
    assert snapshot is not None
    lineup = snapshot.selector.lineup(POOL.routes["gpt-5"], "gpt-5", "openai")
    drill.takes(lineup, "", own=True, instead=None)
    versions.add(hall.control.view.version())
    assert len(versions) == 3
    assert isinstance(hall.engine._drilled_selector(snapshot.selector), Selector)
    hall.run("drill stop")
    assert hall.engine._drilled is None
