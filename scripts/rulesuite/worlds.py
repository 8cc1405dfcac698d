"""What a person gets of a labelled reply: each one through the real decision core, in two worlds.

Candidate A gives the reply. World 1: B, another credential, upstream and model, answers. World 2: every candidate gives
it, four of them on three credentials. What is counted:

- rescued: a curable reply, world 1: the tool gets B's answer;
- spared: a fault of the request, world 2: no candidate is out for longer than the short step;
- told: a fault of the request, world 2: the tool gets the first reply as it came;
- next: a fault of the request, world 2: the next, harmless call is answered;
- filters: a filtered reply, both worlds: asked once, nothing suspended, the tool gets it;
- sound: a sound answer, world 1: asked once, the tool gets it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from understudy.failover.exchange import Exchange
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Attempt, Refuse, Release, Request, Step, Wait
from understudy.model.pool import Candidate, Choice, Credential, Route, Upstream
from understudy.model.verdict import Label
from understudy.replies.reply import Reply
from understudy.rules.ruleset import Ruleset
from understudy.suspensions.cache import Suspensions

DIALECTS = {"openai-chat": "openai", "openai-responses": "openai", "anthropic-messages": "anthropic", "other": ""}
CURABLE = {
    Label.MODEL_UNSUPPORTED, Label.CAPABILITY_UNSUPPORTED, Label.RATE_LIMITED, Label.QUOTA_EXHAUSTED,
    Label.CREDENTIAL_REJECTED, Label.OVERLOADED, Label.CONTEXT_EXCEEDED,
}  # fmt: skip
SHORT = 30.0
"""Seconds: the short step, for which a candidate may be out although the request was at fault."""
BEGINNING = 1_800_000_000.0
"""Unix time at which every world begins."""
ANSWER = b'{"choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]}'
MOST_STEPS = 40


def read_reply(row: dict[str, Any]) -> Reply:
    """What a classifier may see of a line; never id, provider, label or source."""
    return Reply(
        status=row["status"],
        dialect=DIALECTS.get(row["api"], row["api"]),
        host=row["host"],
        model=row["request_model"] or "",
        streamed=bool(row["stream"]),
        headers=tuple((row["headers"] or {}).items()),
        body=row["body"].encode(),
    )


def truth_of(row: dict[str, Any]) -> Label:
    return Label.OK if row["label"] == "not_an_error" else Label(row["label"])


class Secret:
    """A secret that never leaves this script."""

    is_client = False
    refreshable = False

    def reveal(self) -> str:
        return "not-a-secret"


@dataclass
class Ended:
    """How one call ended. ``replies``: what each attempt came back with, the first attempt first."""

    end: Release | Refuse
    asked: list[Candidate]
    replies: list[Reply]

    @property
    def got(self) -> Reply | None:
        """The reply that the tool got; None for an answer of our own."""
        return self.replies[self.end.attempt - 1] if isinstance(self.end, Release) else None


@dataclass
class World:
    """A few candidates with their suspensions, under a clock of its own."""

    ruleset: Ruleset
    candidates: Sequence[Candidate]
    now: float = BEGINNING
    suspensions: Suspensions = field(init=False)
    selector: Selector = field(init=False)

    def __post_init__(self) -> None:
        self.suspensions = Suspensions(lambda: self.now)
        self.selector = Selector(self.suspensions)

    def call(self, answer: Callable[[Candidate], Reply], *, streamed: bool) -> Ended:
        """One call of a tool; every wait is sat out."""
        alias = self.candidates[0].model
        route = Route(alias, tuple(Choice(each.credential, each.model) for each in self.candidates))
        lineup: Lineup = self.selector.lineup(route, alias, self.candidates[0].upstream.dialect)
        request = Request(alias, True, streamed, {})
        exchange = Exchange(request, lineup, self.selector, self.ruleset, self.now, Random(1))
        asked: list[Candidate] = []
        replies: list[Reply] = []
        step: Step = exchange.begin(self.now)
        for _ in range(MOST_STEPS):
            match step:
                case Attempt(candidate=candidate):
                    asked.append(candidate)
                    replies.append(answer(candidate))
                    step = exchange.judge(replies[-1], self.now)
                case Wait(seconds=seconds):
                    self.now += seconds
                    step = exchange.resume(self.now)
                case Release() | Refuse():
                    exchange.succeeded()
                    return Ended(step, asked, replies)
        raise RuntimeError(f"{exchange} does not end")

    @property
    def longest(self) -> float:
        """The seconds for which a candidate is out, at most."""
        return max((each.until - self.now for each in self.suspensions), default=0.0)


def candidates(row: dict[str, Any]) -> list[Candidate]:
    """A, and others: A's credential with another model, A's model elsewhere, another model elsewhere."""
    dialect = DIALECTS.get(row["api"], row["api"]) or "openai"
    model = row["request_model"] or "a-model"
    here = Upstream("here", dialect, "https", row["host"] or "a.example", 443)
    there, yonder = (Upstream(name, dialect, "https", f"{name}.example", 443) for name in ("there", "yonder"))
    a, b, c = (Credential(name, upstream, Secret()) for name, upstream in (("a", here), ("b", there), ("c", yonder)))
    return [Candidate(a, model), Candidate(b, "another-model"), Candidate(c, model), Candidate(a, "another-model")]


@dataclass
class Figures:
    """How often what should happen did, and where it did not."""

    of: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    missed: dict[str, list[str]] = field(default_factory=dict)

    def count(self, name: str, row: dict[str, Any], right: bool) -> None:
        self.of[name] += 1
        self.right[name] += right
        if not right:
            self.missed.setdefault(name, []).append(row.get("id", "?"))

    def share(self, name: str) -> float:
        return self.right[name] / max(1, self.of[name])

    def lines(self) -> list[str]:
        found = []
        for name in ("rescued", "spared", "told", "next", "filters", "sound"):
            if self.of[name]:
                missed = ", ".join(self.missed.get(name, ()))
                found.append(
                    f"{name:8} {self.right[name]} of {self.of[name]} = {self.share(name):.3f}"
                    + (f"   not: {missed}" if missed else "")
                )
        return found


def play(ruleset: Ruleset, row: dict[str, Any], figures: Figures) -> None:
    """Both worlds for one line."""
    bad, good, truth = read_reply(row), Reply(200, body=ANSWER), truth_of(row)
    a, b, *others = candidates(row)
    streamed = bool(row["stream"])
    one = World(ruleset, (a, b))
    ended = one.call(lambda who: bad if who == a else good, streamed=streamed)
    alone = len(ended.asked) == 1
    if truth in CURABLE:
        figures.count("rescued", row, ended.got is good)
    elif truth is Label.CONTENT_FILTERED:
        figures.count("filters", row, alone and ended.got is bad and one.longest == 0)
    elif truth is Label.OK:
        figures.count("sound", row, alone and ended.got is bad)
    if truth not in (Label.REQUEST_INVALID, Label.CONTENT_FILTERED):
        return
    two = World(ruleset, (a, b, *others))
    ended = two.call(lambda who: bad, streamed=streamed)
    if truth is Label.CONTENT_FILTERED:
        figures.count("filters", row, len(ended.asked) == 1 and ended.got is bad and two.longest == 0)
        return
    figures.count("spared", row, two.longest <= SHORT)
    figures.count("told", row, ended.got is bad)
    figures.count("next", row, two.call(lambda who: good, streamed=streamed).got is good)
