"""What one failover costs: beyond the time that the upstreams themselves take, and in CPU time of the proxy."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator

from benchmark import messages
from benchmark.caller import Caller
from benchmark.figures import Row, Unit, alone, at_most
from benchmark.stage import Pair, Proxy, Stage

ROUNDS = 5
OWN_TIME = at_most(600, "≤ 0.6 ms")
_numbers = itertools.count(1)


def failover(stage: Stage, pair: Pair, count: int) -> Iterator[Row]:
    """A refusing candidate and then the working one, less the working one alone, less the refusal itself."""
    rounds: dict[str, list[float]] = {"solo": [], "pair": [], "direct": [], "own": [], "cpu": []}
    with Caller(pair.ours.streams) as proxy, Caller(stage.ports.refusing) as refusing:
        for _ in range(ROUNDS):
            took: dict[str, list[float]] = {"solo": [], "pair": [], "direct": []}
            for number in itertools.islice(_numbers, count):
                # A fresh alias, and so a fresh candidate, each time: the one before is suspended, as it should be.
                took["pair"].append(proxy.call(f"{messages.PAIR_PREFIX}{number}", b"200"))
                took["solo"].append(proxy.call(f"{messages.SOLO_PREFIX}{number}", b"200"))
                took["direct"].append(refusing.call(f"{messages.PAIR_PREFIX}{number}", b"404"))
            medians = {name: statistics.median(values) for name, values in took.items()}
            medians["own"] = medians["pair"] - medians["solo"] - medians["direct"]
            medians["cpu"] = _cpu(pair.ours, proxy, messages.PAIR_PREFIX, count) - _cpu(
                pair.ours, proxy, messages.SOLO_PREFIX, count
            )
            for name, value in medians.items():
                rounds[name].append(value)
    yield alone("call: only the working candidate", Unit.MILLISECONDS, rounds["solo"])
    yield alone("call: a refusing candidate, then the working one", Unit.MILLISECONDS, rounds["pair"])
    yield alone("the refused call, straight to its upstream", Unit.MILLISECONDS, rounds["direct"])
    yield alone("one failover beyond the upstream's own time", Unit.MILLISECONDS, rounds["own"], OWN_TIME)
    yield alone("one failover: CPU time of the proxy", Unit.MILLISECONDS, rounds["cpu"])


def _cpu(ours: Proxy, caller: Caller, prefix: str, count: int) -> float:
    """The CPU time of a call whose alias begins like this, in microseconds."""
    before = ours.cpu
    for number in itertools.islice(_numbers, count):
        caller.call(f"{prefix}{number}", b"200")
    return (ours.cpu - before) / count
