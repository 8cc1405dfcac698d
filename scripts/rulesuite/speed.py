"""How long does judging take with all shipped rules, and does anything make it raise?

    scripts/bench-rules [--rounds N] [--repeat N] [--mutated N]

Prints the median and the 99th percentile for replies of 4 KiB and 1 MiB, each judged for the first time, parsing
included, in CPU time. `--repeat N` measures everything N times, and prints the run with the lowest median: other
programs on the machine can only add to it. `--mutated N` also judges N spoilt replies (seeded), and fails when one
raises.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from random import Random

from understudy.replies.reply import Reply
from understudy.rules.folders import shipped
from understudy.rules.ruleset import Ruleset

WORDS = "the request could not be served because of an odd thing that happened upstream, see the trace for more. "
REFUSAL = "The model `acme-{n}` does not exist or you do not have access to it."
KIB = 1024


def error(message: str, filler: int) -> bytes:
    said = {"message": message, "type": "invalid_request_error", "code": None}
    return json.dumps({"error": said, "trace": "at line of code, " * (filler // 17)}).encode()


CASES: dict[str, Callable[[int], bytes]] = {
    "4 KiB: a refusal and a trace": lambda n: error(REFUSAL.format(n=n), 4 * KIB),
    "4 KiB: nothing known and a trace": lambda n: error(f"Odd thing {n} happened", 4 * KIB),
    "4 KiB: one long message": lambda n: json.dumps({"error": {"message": f"{n} {WORDS * 40}"}}).encode(),
    "4 KiB: a validation error": lambda n: json.dumps(
        {"detail": [{"type": "missing", "loc": ["body", "x", n], "msg": "Field required", "input": "y" * 3800}]}
    ).encode(),
    "4 KiB: a page": lambda n: f"<html><title>{n}</title>{WORDS * 40}".encode(),
    "1 MiB: an error and an echoed request": lambda n: error(REFUSAL.format(n=n), KIB * KIB),
    "1 MiB: an error and many objects": lambda n: json.dumps(
        {"error": {"message": f"Odd {n}"}, "items": [{"a": i, "b": "words"} for i in range(40_000)]}
    ).encode(),
    "1 MiB: one message": lambda n: json.dumps({"error": {"message": f"{n} " + WORDS * 10_000}}).encode(),
    "1 MiB: a page": lambda n: f"<html><title>{n}</title>{WORDS * 10_000}".encode(),
}


def measure(ruleset: Ruleset, make: Callable[[int], bytes], rounds: int) -> list[float]:
    durations = []
    for number in range(rounds):
        reply = Reply(400, model=f"acme-{number}", body=make(number))
        begun = time.thread_time()
        ruleset.judge(reply)
        durations.append(time.thread_time() - begun)
    return sorted(durations)


def mutate(ruleset: Ruleset, count: int) -> None:
    random = Random(20_26)
    bodies = [example.reply.body for rule in ruleset.rules for example in (*rule.matches, *rule.near_misses)]
    for number in range(count):
        body = bytearray(random.choice(bodies))
        for _ in range(random.randrange(5)):
            at = random.randrange(len(body) + 1)
            other = random.choice([random.randbytes(3), random.choice(bodies)[:60], b"{"])
            body[at : at + random.randrange(20)] = other
        status = random.choice([0, 200, 400, 403, 404, 429, 500])
        try:
            ruleset.judge(Reply(status, body=bytes(body), event=random.choice(["", "error"]), model="acme-1"))
        except Exception:
            print(f"number {number} raised: status {status}, {bytes(body)!r}", file=sys.stderr)
            raise


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-rules", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--mutated", type=int, default=0)
    options = parser.parse_args()
    ruleset = shipped()
    print(f"{len(ruleset.rules)} rules")
    runs: dict[str, list[list[float]]] = {}
    for _ in range(options.repeat):
        for name, make in CASES.items():
            rounds = options.rounds if name.startswith("4") else max(5, options.rounds // 20)
            runs.setdefault(name, []).append(measure(ruleset, make, rounds))
    for name, measured in runs.items():
        durations = min(measured, key=statistics.median)
        worst = durations[int(len(durations) * 0.99) - 1]
        print(f"{name:40} median {statistics.median(durations) * 1e6:7.0f} us   99 % {worst * 1e6:7.0f} us")
    if options.mutated:
        mutate(ruleset, options.mutated)
        print(f"{options.mutated} spoilt replies: none raised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
