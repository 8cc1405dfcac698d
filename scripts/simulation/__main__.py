"""Plays a week of calls over accounts with windows, once for each strategy, and prints a table.

scripts/simulate [--accounts N] [--demand SHARE] [--sessions N] [--days N] [--seed N] [--load FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from simulation.accounts import CAPACITY, LENGTHS, Account, Span
from simulation.load import Call, made_up, recorded, scaled
from understudy.failover import Attempt, Exchange, Release, Request, Selector, Wait
from understudy.failover.affinity import Sessions
from understudy.model import Budget, Candidate, Choice, Credential, Route, Strategy, Upstream
from understudy.replies import Reply
from understudy.rules import RuleLibrary, Ruleset
from understudy.suspensions import Suspensions

MODEL = "claude-opus-4-5"
REFUSAL = (
    b'{"type":"error","error":{"type":"rate_limit_error",'
    b'"message":"This request would exceed your account\'s rate limit. Please try again later."}}'
)


class _Source:
    is_client = refreshable = False

    def reveal(self) -> str:
        return "sk-simulated"


class Clock:
    """The time of the calls."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Plan:
    """One line of the table."""

    name: str
    strategy: Strategy
    reserve: float


PLANS = (
    Plan("ordered, without limits", Strategy.ORDERED, 0.0),
    Plan("ordered", Strategy.ORDERED, 0.02),
    Plan("round_robin", Strategy.ROUND_ROBIN, 0.02),
    Plan("soonest_reset", Strategy.SOONEST_RESET, 0.02),
)


@dataclass
class Result:
    """What a plan came to: calls that the tool saw refused, refusals of upstreams, sessions that changed account, those
    of them that had a warm cache, and of the windows of a week that ended, the mean share that nobody used."""

    calls: int = 0
    refused: int = 0
    refusals: int = 0
    switches: int = 0
    caches_lost: int = 0
    unused: float = 0.0
    weeks: int = 0


def accounts_of(count: int, chance: Random, begin: float) -> list[Account]:
    """Accounts that were in use before: their weeks end at different times, and are used up as far as that."""
    found = []
    for number in range(count):
        account = Account(f"account-{number + 1}")
        part = (number + chance.random()) / count
        used = chance.uniform(0.3, 0.8) * (1 - part) * CAPACITY["7d"]
        account.windows["7d"] = Span(begin + part * LENGTHS["7d"], used)
        found.append(account)
    chance.shuffle(found)
    return found


def play(plan: Plan, calls: Sequence[Call], accounts: Sequence[Account], ruleset: Ruleset) -> Result:
    """The calls, one after the other, through exchanges as they are made for real calls."""
    clock = Clock()
    upstream = Upstream("anthropic", "anthropic", "https", "api.anthropic.com", 443)
    by_name = {account.name: account for account in accounts}
    credentials = [Credential(account.name, upstream, _Source()) for account in accounts]
    choices = tuple(Choice(credential, MODEL) for credential in credentials)
    route = Route(MODEL, choices, plan.strategy, Budget(attempts=16), reserve=plan.reserve)
    suspensions = Suspensions(clock)
    suspensions.limits.use_reserve(plan.reserve)
    selector, sessions, chance = Selector(suspensions), Sessions(clock, 3600.0), Random(0)
    result, seats = Result(calls=len(calls)), dict[str, str]()
    for call in calls:
        clock.now = max(clock.now, call.time)
        request = Request(MODEL, True, True, {}, session=call.session)
        lineup = selector.lineup(route, MODEL, "anthropic")
        exchange = Exchange(request, lineup, selector, ruleset, clock.now, chance, sessions)
        step, said = exchange.begin(clock.now), (0, dict[str, str]())
        asked: Candidate | None = None
        while isinstance(step, Attempt | Wait):
            if isinstance(step, Wait):
                clock.now += step.seconds
                step = exchange.resume(clock.now)
                continue
            asked = step.candidate
            said = by_name[asked.credential.name].ask(call.session, call.units, clock.now)
            if plan.reserve:
                suspensions.limits.hear(asked, said[1].items(), 0.0)
            if said[0] == 200:
                exchange.accept()
                exchange.succeeded()
                break
            headers = tuple(said[1].items())
            step = exchange.judge(Reply(said[0], headers=headers, body=REFUSAL, dialect="anthropic"), clock.now)
        if said[0] != 200 or asked is None or isinstance(step, Release):
            result.refused += 1
            continue
        name, before = asked.credential.name, seats.get(call.session)
        if before is not None and before != name:
            result.switches += 1
            result.caches_lost += by_name[before].is_cached(call.session, clock.now)
        seats[call.session] = name
    for account in accounts:
        account.pass_time(clock.now)
        result.refusals += account.refusals
        result.unused += sum(account.unused["7d"])
        result.weeks += len(account.unused["7d"])
    return result


def table(results: Sequence[tuple[str, Result]]) -> str:
    """A table in Markdown."""
    head = "| strategy | calls refused | refusals met | switches | caches lost | unused at the weekly reset |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, each in results:
        unused = f"{each.unused / each.weeks:.1%} of {each.weeks}" if each.weeks else "none ended"
        share = f"{each.refused} ({each.refused / max(1, each.calls):.1%})"
        lines.append(f"| {name} | {share} | {each.refusals} | {each.switches} | {each.caches_lost} | {unused} |")
    return "\n".join(lines)


def main() -> int:
    """Returns 0; 2 when the load cannot be read."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=4, metavar="N", help="how many (4)")
    parser.add_argument("--demand", type=float, default=1.1, metavar="SHARE", help="of what they have, uncached (1.1)")
    parser.add_argument("--sessions", type=int, default=250, metavar="N", help="made-up sessions a week (250)")
    parser.add_argument("--days", type=int, default=7, metavar="N", help="made-up days (7)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what is made up (1)")
    parser.add_argument(
        "--load", type=Path, metavar="FILE", help="JSON lines with time, session and units of each call"
    )
    options = parser.parse_args()
    try:
        calls = (
            recorded(options.load) if options.load else made_up(options.sessions, Random(options.seed), options.days)
        )
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not calls:
        print("there are no calls", file=sys.stderr)
        return 2
    span = max(1.0, (calls[-1].time - calls[0].time) / LENGTHS["7d"])
    calls = scaled(calls, options.demand, options.accounts * CAPACITY["7d"] * span)
    ruleset, results = RuleLibrary().ruleset, []
    for plan in PLANS:
        accounts = accounts_of(options.accounts, Random(options.seed), calls[0].time)
        results.append((plan.name, play(plan, calls, accounts, ruleset)))
    print(f"{len(calls)} calls of {len({call.session for call in calls})} sessions over {options.accounts} accounts\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
