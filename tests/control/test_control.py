"""The commands over one engine: what they tell, what they change, and what they leave alone (O04)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.support.decisions import NOW, OTHER, RULES, Clock, Steady, credential, reply
from understudy.codec.time_text import clock_time
from understudy.control.control import Control
from understudy.control.result_text import as_json, as_lines
from understudy.control.results import Outcome, Resumed, Several, Suspended
from understudy.control.server import answers
from understudy.control.status import MOST_CANDIDATES, MOST_ENTRIES, Explanation, State
from understudy.control.target import ControlError
from understudy.failover.exchange import Exchange
from understudy.failover.steps import Attempt, Refuse, Request, Wait
from understudy.inspection.tallies import Tallies
from understudy.model.pool import Candidate, Choice, Pool, Route, Strategy
from understudy.model.suspension import Key, Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.proxy.engine import Engine
from understudy.suspensions.ladder import Rung

WORK, HOME, ROUTER = credential("work"), credential("home"), credential("router", OTHER)
CREDENTIALS = (WORK, HOME, ROUTER)
POOL = Pool(
    upstreams={each.upstream.name: each.upstream for each in CREDENTIALS},
    credentials={each.name: each for each in CREDENTIALS},
    routes={
        "gpt-5": Route("gpt-5", (Choice(WORK), Choice(HOME), Choice(ROUTER, "openai/gpt-5"))),
        "turns": Route("turns", (Choice(WORK), Choice(HOME), Choice(ROUTER)), Strategy.ROUND_ROBIN),
        "only": Route("only", (Choice(WORK),)),
    },
    path="/home/me/pool.yaml",
)


class Desk:
    """A control with its engine, under a clock by hand."""

    def __init__(self, pool: Pool | None = POOL) -> None:
        self.clock = Clock()
        self.engine = Engine(RULES, clock=self.clock, random=Steady())
        if pool is not None:
            self.engine.use(pool)
        self.closed: Mapping[str, str] = {}
        self.reloads = 0
        self.tallies = Tallies(self.clock)
        self.control = Control(self.engine, self.reload, lambda pool: self.closed, self.tallies)

    def reload(self) -> None:
        self.reloads += 1

    def run(self, words: str) -> Any:
        """The result of a command."""
        command, *rest = words.split()
        return self.control.run(command, rest, "alice")

    def text(self, words: str) -> str:
        """The result as people read it."""
        return "\n".join(as_lines(self.run(words), "pool."))

    def suspend(
        self,
        name: str,
        model: str = "gpt-5",
        seconds: float = 600.0,
        *,
        label: Label = Label.MODEL_UNSUPPORTED,
        scope: Scope = Scope.CANDIDATE,
        hint: str = "",
        step: int = 0,
    ) -> Suspension:
        """A suspension as a reply would have caused it."""
        held = self.engine.suspensions.suspend(
            Suspension(
                key_of(Candidate(POOL.credentials[name], model), scope),
                self.clock.now,
                self.clock.now + seconds,
                label,
                "general/rule",
                "HTTP 404: no such model",
                hint,
                f"{name} {model}",
                0,
                step,
            )
        )
        assert held is not None
        return held

    def begin(self, alias: str, *, generating: bool = True) -> tuple[Exchange, Attempt | Wait | Refuse]:
        """A tool's request."""
        snapshot = self.engine.snapshot
        assert snapshot is not None
        route = snapshot.pool.route(alias, "openai")
        assert route is not None
        lineup = snapshot.selector.lineup(route, alias, "openai")
        request = Request(alias, generating, False, {})
        exchange = Exchange(
            request, lineup, snapshot.selector, RULES, self.clock.now, Steady(), pacing=self.engine.pacing
        )
        step = exchange.begin(self.clock.now)
        assert isinstance(step, Attempt | Wait | Refuse)
        return exchange, step

    def asked(self, alias: str) -> str:
        """Whom a tool's request would go to first, "" for nobody."""
        exchange, step = self.begin(alias)
        exchange.cancelled()
        return step.candidate.credential.name if isinstance(step, Attempt) else ""


@pytest.fixture
def desk() -> Desk:
    """A control."""
    return Desk()


# -- status ----------------------------------------------------------------------------------------------------------


def test_o04_status_lists_what_is_suspended(desk: Desk) -> None:
    """O04: the earliest due first, with label, rule, times, step and evidence; also what is due and unproven."""
    desk.suspend("home", seconds=5, label=Label.OVERLOADED, step=1)
    desk.suspend("work", label=Label.RATE_LIMITED, hint="retry-after")
    desk.suspend("router", "openai/gpt-5", 7200, scope=Scope.UPSTREAM)
    since, until = clock_time(NOW, NOW), clock_time(NOW + 600, NOW)
    assert desk.text("status").splitlines() == [
        f"candidate home gpt-5: overloaded by general/rule, for another 5s, until {clock_time(NOW + 5, NOW)}, "
        f"since {since} (step 2 of 3): HTTP 404: no such model",
        f"candidate work gpt-5: rate_limited by general/rule, for another 10m, until {until}, "
        f"since {since} (the reply said so: retry-after): HTTP 404: no such model",
        "upstream other: model_unsupported by general/rule, for another 2h, "
        f"until {clock_time(NOW + 7200, NOW)}, since {since} (step 1 of 3): HTTP 404: no such model",
    ]
    desk.clock.now += 6
    first = desk.run("status").entries[0]
    assert (first.name, first.state, first.seconds) == ("home", State.HALF_OPEN, 0.0)
    assert "due at " in desk.text("status").splitlines()[0]


def test_o04_status_without_anything(desk: Desk) -> None:
    """O04: nothing to tell is told; also without a pool."""
    assert desk.text("status") == "nothing is suspended"
    assert Desk(None).text("status") == "nothing is suspended"


def test_status_is_bounded(desk: Desk) -> None:
    """However many there are."""
    for number in range(MOST_ENTRIES + 3):
        desk.suspend("work", f"m{number}")
    status = desk.run("status")
    assert (len(status.entries), status.more) == (MOST_ENTRIES, 3)
    assert desk.text("status").endswith("and 3 more")


# -- explain ---------------------------------------------------------------------------------------------------------


def test_o04_explain_says_who_is_skipped_why_until_when_and_what_clears_it(desk: Desk) -> None:
    """O04: every candidate in its place."""
    desk.suspend("work")
    desk.suspend("router", scope=Scope.UPSTREAM, seconds=60, label=Label.OVERLOADED)
    held, other = (clock_time(NOW + seconds, NOW) for seconds in (600, 60))
    since = clock_time(NOW, NOW)
    assert desk.text("explain gpt-5").splitlines() == [
        "gpt-5 (openai): route gpt-5, ordered, 3 candidates",
        "1. work gpt-5 at https://openai.example:443/v1: suspended",
        f"   model_unsupported by general/rule, for another 10m, until {held}, since {since} (step 1 of 3): "
        "HTTP 404: no such model",
        "   cleared by time, then a request that succeeds, or `pool.resume work gpt-5`",
        "2. home gpt-5 at https://openai.example:443/v1: free",
        "3. router openai/gpt-5 at https://other.example:443/v1: suspended",
        f"   upstream other: overloaded by general/rule, for another 1m, until {other}, since {since} (step 1 of 3): "
        "HTTP 404: no such model",
        "   cleared by time, then a request that succeeds, or `pool.resume upstream other`",
    ]


def test_o04_explain_knows_half_open_and_probing(desk: Desk) -> None:
    """O04: due, and then being found out."""
    desk.suspend("work")
    desk.clock.now += 601
    assert desk.run("explain gpt-5").results[0].candidates[0].state is State.HALF_OPEN
    assert "cleared by a request that succeeds, or `pool.resume work gpt-5`" in desk.text("explain gpt-5")
    exchange, _ = desk.begin("gpt-5")
    assert desk.run("explain gpt-5").results[0].candidates[0].state is State.PROBING
    assert "a request is probing it now" in desk.text("explain gpt-5")
    exchange.cancelled()


def test_explain_follows_the_turns(desk: Desk) -> None:
    """With a round robin the order is the one in which the next requests ask."""
    desk.begin("turns")
    desk.suspend("home", "turns")
    names = [each.credential for each in desk.run("explain turns").results[0].candidates]
    assert names == ["router", "work", "home"]
    assert [desk.asked("turns") for _ in range(3)] == ["router", "work", "router"]


def test_explain_says_what_may_not_be_used(desk: Desk) -> None:
    """An upstream that gets no secret as the proxy is set up."""
    desk.closed = {"other": "ssl_insecure is set"}
    standing = desk.run("explain gpt-5").results[0].candidates[2]
    assert (standing.state, standing.note) == (State.UNUSABLE, "ssl_insecure is set")
    assert "unusable (ssl_insecure is set)" in desk.text("explain gpt-5")


def test_explain_says_that_an_only_candidate_is_asked_all_the_same(desk: Desk) -> None:
    """Law 6: its suspension is only shown, except inside a stated window."""
    desk.suspend("work", "only")
    assert "suspended (asked all the same: the route has no other candidate)" in desk.text("explain only")
    assert desk.asked("only") == "work"
    desk.suspend("work", "only", 900, label=Label.RATE_LIMITED, hint="retry-after")
    assert "asked all the same" not in desk.text("explain only")


def test_explain_is_bounded() -> None:
    """However many candidates there are, in every strategy."""
    many = tuple(credential(f"c{number}") for number in range(MOST_CANDIDATES + 5))
    for strategy in Strategy:
        pool = Pool({"openai": WORK.upstream}, {each.name: each for each in many}, {
            "m": Route("m", tuple(map(Choice, many)), strategy)
        })  # fmt: skip
        desk = Desk(pool)
        (found,) = desk.run("explain m").results
        assert (len(found.candidates), found.more) == (MOST_CANDIDATES, 5)
        assert desk.text("explain m").endswith("and 5 more")


# -- pick ------------------------------------------------------------------------------------------------------------


def test_o04_pick_says_who_would_serve(desk: Desk) -> None:
    """O04: the one that the next request goes to; or how long it waits; or our own answer."""
    assert desk.text("pick gpt-5") == "gpt-5 (openai): work gpt-5 would be asked (route gpt-5)"
    for name, model in (("work", "gpt-5"), ("home", "gpt-5"), ("router", "openai/gpt-5")):
        assert desk.run("pick gpt-5").results[0].credential == name == desk.asked("gpt-5")
        desk.suspend(name, model, 12)
    waits = desk.run("pick gpt-5").results[0]
    assert (waits.outcome, waits.seconds) == (Outcome.WAITS, 12.0)
    assert "would wait 12s: every candidate is suspended" in desk.text("pick gpt-5")
    for name, model in (("work", "gpt-5"), ("home", "gpt-5"), ("router", "openai/gpt-5")):
        desk.suspend(name, model, 6000)
    refused = desk.run("pick gpt-5").results[0]
    assert refused.outcome is Outcome.REFUSED
    assert "- home gpt-5: model_unsupported" in desk.text("pick gpt-5")


def test_o04_pick_takes_nobodys_turn(desk: Desk) -> None:
    """O04: asking changes nothing: not the round robin, not a probe, not the early probe of F17."""
    for _ in range(3):
        assert desk.run("pick turns").results[0].credential == "work"
        desk.run("explain turns")
    assert [desk.asked("turns") for _ in range(3)] == ["work", "home", "router"]
    for name in ("work", "home", "router"):
        desk.suspend(name, "turns")
    version = desk.engine.suspensions.version
    assert desk.run("pick turns").results[0].outcome is Outcome.REFUSED
    assert desk.engine.suspensions.version == version
    assert desk.asked("turns") == "work"  # as the early probe that nobody has used yet


# -- suspend and resume ----------------------------------------------------------------------------------------------


def test_o04_suspend_and_resume_a_candidate(desk: Desk) -> None:
    """O04: by hand it is skipped like any other, and says who asked for it; resumed, it is asked again."""
    said = desk.text("suspend work gpt-5 10m")
    until = clock_time(NOW + 600, NOW)
    assert said == (
        f"candidate work gpt-5 is suspended by hand for 10m, until {until}; `pool.resume work gpt-5` ends it"
    )
    assert desk.asked("gpt-5") == "home"
    assert "by hand, for another 10m" in desk.text("explain gpt-5")
    assert "set by alice" in desk.text("status")
    assert desk.text("resume work gpt-5") == "candidate work gpt-5 is back in rotation; it was suspended: by hand"
    assert desk.asked("gpt-5") == "work"
    assert desk.text("resume work gpt-5") == "candidate work gpt-5 was not suspended"


def test_suspend_lasts_an_hour_when_nothing_is_said(desk: Desk) -> None:
    """The default."""
    assert desk.run("suspend credential work").entry.seconds == 3600.0


def test_o04_suspend_a_credential_and_an_upstream(desk: Desk) -> None:
    """O04: with every candidate they have."""
    desk.run("suspend credential work")
    assert [desk.asked(alias) for alias in ("gpt-5", "turns")] == ["home", "home"]
    desk.run("suspend upstream openai")
    assert [desk.asked(alias) for alias in ("gpt-5", "turns")] == ["router", "router"]


def test_by_hand_is_really_out(desk: Desk) -> None:
    """An only candidate is sent whatever happened to it, but not against its owner's word."""
    desk.suspend("work", "only", 6000)
    assert desk.asked("only") == "work"
    suspended = desk.run("suspend work only 60")
    assert isinstance(suspended, Suspended)
    # Only ever lengthened (law 3).
    assert (suspended.kept, suspended.entry.rule, round(suspended.entry.seconds)) == (False, "by hand", 6000)
    assert desk.asked("only") == ""
    pick = desk.run("pick only").results[0]
    assert "- work only: by hand, suspended for another 1h40m: set by alice" in pick.reason
    desk.run("resume credential work")
    assert desk.asked("only") == "work"


def test_a_stated_window_that_lasts_longer_stays(desk: Desk) -> None:
    """Law 3: its end and its evidence; the answer says so."""
    desk.suspend("work", "gpt-5", 6000, label=Label.RATE_LIMITED, hint="retry-after")
    assert desk.text("suspend work gpt-5 60").startswith(
        "candidate work gpt-5 was suspended already, rate_limited by general/rule, for 1h40m, until"
    )
    assert desk.run("status").entries[0].rule == "general/rule"
    assert desk.run("suspend work gpt-5 2h").kept is False
    assert desk.run("suspend work gpt-5 1h").kept is True


def test_o04_resume_by_credential_upstream_and_all(desk: Desk) -> None:
    """O04: with everything that is behind it, and nothing else."""

    def play() -> None:
        desk.suspend("work")
        desk.suspend("work", "turns")
        desk.suspend("work", scope=Scope.CREDENTIAL)
        desk.suspend("home")
        desk.suspend("router", scope=Scope.UPSTREAM)

    for words, left in (
        ("credential work", {"candidate home gpt-5", "upstream other"}),
        ("upstream openai", {"upstream other"}),
        ("upstream other", {
            "candidate work gpt-5", "candidate work turns", "credential work", "candidate home gpt-5"
        }),
        ("all", set()),
    ):  # fmt: skip
        play()
        desk.run(f"resume {words}")
        assert {str(each.key) for each in desk.engine.suspensions} == left, words
        desk.run("resume all")


def test_resume_says_what_is_still_in_the_way(desk: Desk) -> None:
    """A candidate is not back while its credential is out."""
    desk.suspend("work")
    desk.suspend("work", scope=Scope.CREDENTIAL, label=Label.QUOTA_EXHAUSTED)
    assert desk.text("resume work gpt-5").splitlines() == [
        "candidate work gpt-5 is back in rotation; it was suspended: model_unsupported by general/rule",
        "still suspended: credential work, quota_exhausted by general/rule; `pool.resume credential work` ends it",
    ]
    assert desk.text("resume all").startswith("credential work is back")
    assert desk.text("resume all") == "nothing is suspended"


def test_resume_clears_what_is_half_open_and_its_ladder(desk: Desk) -> None:
    """The next failure is a first one, and nobody has to probe."""
    held = desk.suspend("work", step=2)
    suspensions = desk.engine.suspensions
    suspensions.ladders.climb(held.key, held.label, Rung(2, held.order, held.until))
    desk.clock.now += 700
    resumed = desk.run("resume work gpt-5")
    assert isinstance(resumed, Resumed)
    assert [each.state for each in resumed.entries] == [State.HALF_OPEN]
    assert suspensions.half_open(held.key) is None
    assert suspensions.ladders.standing(held.key) == {}


def test_o04_a_waiting_request_notices_a_resume(desk: Desk) -> None:
    """O04: it does not sit out its wait."""
    desk.suspend("work", "only", 20, label=Label.RATE_LIMITED, hint="retry-after")
    exchange, step = desk.begin("only")
    assert isinstance(step, Wait)
    assert not exchange.is_ready()
    desk.run("resume credential work")
    assert exchange.is_ready()
    assert isinstance(exchange.resume(desk.clock.now), Attempt)


def test_what_is_no_longer_in_the_pool_can_be_resumed(desk: Desk) -> None:
    """Whatever is shown can be cleared."""
    desk.engine.suspensions.suspend(
        Suspension(Key(Scope.CREDENTIAL, "gone"), NOW, NOW + 60, Label.OVERLOADED, "general/rule")
    )
    assert desk.text("resume credential gone").startswith("credential gone is back")


# -- probe -----------------------------------------------------------------------------------------------------------


def test_o04_probe_lets_the_next_request_ask(desk: Desk) -> None:
    """O04: one request finds out, the others use the next candidate meanwhile; what covers it is due as well."""
    desk.suspend("work")
    desk.suspend("work", scope=Scope.CREDENTIAL, label=Label.QUOTA_EXHAUSTED)
    assert desk.asked("gpt-5") == "home"
    assert desk.text("probe work/gpt-5").splitlines() == [
        "candidate work gpt-5 will be probed by the next request; it was suspended: model_unsupported by general/rule",
        "credential work will be probed by the next request; it was suspended: quota_exhausted by general/rule",
    ]
    states = [entry.state for entry in desk.run("status").entries]
    assert states == [State.HALF_OPEN, State.HALF_OPEN]
    exchange, step = desk.begin("gpt-5")
    assert isinstance(step, Attempt) and step.candidate.credential is WORK
    assert desk.asked("gpt-5") == "home"
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), desk.clock.now)
    assert desk.run("status").entries[-1].state is State.SUSPENDED


def test_probe_of_what_is_free_changes_nothing(desk: Desk) -> None:
    """And says so."""
    assert desk.text("probe work gpt-5") == "candidate work gpt-5 is not suspended: calls go to it already"
    assert desk.asked("gpt-5") == "work"


# -- what is counted -------------------------------------------------------------------------------------------------


def test_o04_explain_and_status_tell_what_was_counted(desk: Desk) -> None:
    """O04: how often each candidate answered and why not, and the last exchanges; in text and in JSON."""
    exchange, _ = desk.begin("gpt-5")
    desk.clock.now += 2
    exchange.judge(reply(Label.RATE_LIMITED, retry_after="60"), desk.clock.now)
    desk.tallies.tried("flow-1", exchange)
    desk.clock.now += 1
    exchange.accept()
    desk.tallies.released("flow-1", exchange, 2)
    assert "   answered 0, failed 1 (rate_limited 1)" in desk.text("explain gpt-5").splitlines()
    at = clock_time(NOW + 3, NOW)
    assert f"   answered 1 (last {at})" in desk.text("explain gpt-5").splitlines()
    status = json.loads(as_json(desk.run("status")))
    (told,) = status["exchanges"]
    assert (told["flow"], told["alias"], told["answer"], told["released"]) == ("flow-1", "gpt-5", 2, 3.0)
    assert [(tried["credential"], tried["label"], tried["seconds"]) for tried in told["tried"]] == [
        ("work", "rate_limited", 2.0),
        ("home", "ok", 1.0),
    ]
    (route,) = [route for route in status["routes"] if route["pattern"] == "gpt-5"]
    assert [each["tally"]["answered"] for each in route["lineups"][0]["candidates"]] == [0, 1, 0]


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("statsu", "there is no command `statsu`: did you mean `status`?"),
        ("status now", "write `status`"),
        ("explain", "write `explain ALIAS [DIALECT] [for USER]`"),
        ("explain gpt-6", "no route takes `gpt-6`: such a call keeps the tool's own credential; did you mean `gpt-5`?"),
        ("explain gpt-5 openia", "no upstream speaks `openia`: did you mean `openai`?"),
        ("pick", "write `pick ALIAS [DIALECT] [for USER]`"),
        ("pick gpt-5 openai now", "write `pick"),
        ("suspend", "a target is missing: write `CREDENTIAL MODEL`"),
        ("suspend work gpt-5 soon", "`soon` is no time"),
        ("resume", "or `all`"),
        ("resume work gpt-5 60", "too many words"),
        ("probe", "a target is missing: write `CREDENTIAL MODEL`"),
        ("probe work gpt-5 60", "too many words"),
        ("reload now", "write `reload`"),
    ],
)
def test_errors_say_what_exists(desk: Desk, words: str, answer: str) -> None:
    """O04: and what to write."""
    with pytest.raises(ControlError) as error:
        desk.run(words)
    assert answer in str(error.value)


@pytest.mark.parametrize("words", ["explain gpt-5", "pick gpt-5", "suspend work gpt-5", "probe work gpt-5"])
def test_without_a_pool(words: str) -> None:
    """There is nobody to speak of."""
    with pytest.raises(ControlError, match="there is no pool"):
        Desk(None).run(words)


def test_reload(desk: Desk) -> None:
    """The pool file is read, and the result says what is in use."""
    assert desk.text("reload") == "/home/me/pool.yaml: 3 routes over 3 credentials are in use"
    assert desk.reloads == 1


# -- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["status", "explain gpt-5", "pick gpt-5", "suspend home gpt-5", "resume all", "probe work gpt-5", "reload"]
)
def test_o04_everything_is_json_as_well_and_no_secret_is_in_it(desk: Desk, words: str) -> None:
    """O04, R06: the same facts for programs; neither text nor JSON knows a secret."""
    desk.suspend("work")
    result = desk.run(words)
    document = json.dumps(json.loads(as_json(result))) + "\n".join(as_lines(result, ""))
    assert [each.name for each in CREDENTIALS if each.secret.reveal() in document] == []


def test_json_has_names_and_unix_times(desk: Desk) -> None:
    """What a script reads."""
    desk.suspend("work")
    (explained,) = json.loads(as_json(desk.run("explain gpt-5")))["results"]
    first = explained["candidates"][0]
    assert (first["credential"], first["model"], first["state"]) == ("work", "gpt-5", "suspended")
    (because,) = first["because"]
    assert (because["until"], because["seconds"], because["label"]) == (NOW + 600, 600.0, "model_unsupported")
    assert because["resume"] == ["work", "gpt-5"]


def test_a_model_may_be_called_anything(desk: Desk) -> None:
    """Law 8 of terminals: an alias from a tool forges no line and no escape sequence; and the words shown work."""
    model = "x\n1. \x1b[31mfree"
    desk.suspend("work", model)
    (line,) = desk.text("status").splitlines()
    assert "\x1b" not in line
    (entry,) = desk.run("status").entries
    desk.control.run("resume", list(entry.resume), "alice")
    assert desk.text("status") == "nothing is suspended"


def test_a_time_beyond_the_calendar() -> None:
    """Says so instead of failing."""
    assert clock_time(1e18, NOW) == "a time too far away to show"
    assert len(clock_time(NOW + 90_000, NOW)) == len("2024-05-01 14:03:20")


# -- over the socket -------------------------------------------------------------------------------------------------


def test_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Lines and result, or an error; what goes wrong inside is told as well, without its text (law 8)."""
    answer = answers(desk.control)
    said = answer("suspend", ["work", "gpt-5"], "bob")
    assert said["result"]["entry"]["evidence"] == "set by bob in a shell"
    assert "`understudy resume work gpt-5` ends it" in said["lines"][0]
    assert json.loads(json.dumps(said))
    assert set(answer("resume", [], "bob")) == {"error"}

    def fail(self: Control, *_: object) -> Several[Explanation]:
        raise RuntimeError(WORK.secret.reveal())

    monkeypatch.setattr(Control, "explain", fail)
    assert answer("explain", ["gpt-5"], "bob") == {"error": "internal error, see the proxy's log: RuntimeError"}
    assert "internal error in a command" in caplog.text
    assert WORK.secret.reveal() not in caplog.text


def test_p05_who_would_serve_a_user() -> None:
    """P05, O04: `pick` and `explain` for a user of the proxy, and whom a candidate is for."""
    limited = Route("gpt-5", (Choice(WORK, who=("alice",)), Choice(HOME)))
    desk = Desk(replace(POOL, routes={"gpt-5": limited}))
    assert [
        desk.run(f"pick gpt-5 openai{words}").results[0].credential for words in ("", " for alice", " for bob")
    ] == [*("home", "work", "home")]
    (told,) = desk.run("explain gpt-5").results
    assert [(each.credential, each.note) for each in told.candidates] == [("work", "only for alice"), ("home", "")]
    (bobs,) = desk.run("explain gpt-5 openai for bob").results
    assert [each.credential for each in bobs.candidates] == ["home"]
