"""How well do the shipped rules judge a corpus of labelled replies, and what does a person get of it?

    scripts/corpus FILE [--show LABEL|all] [--rules FOLDER] [--general] [--worlds] [--json FILE]

Each line of the file is an object with `host`, `api`, `request_model`, `stream`, `status`, `headers`, `body`, `label`.
Prints the confusion matrix of labels and precision and recall of model_unsupported; `--show` lists what was missed.
`--general` leaves the vendors' own rules out: each reply is judged as that of a vendor that no rule knows.
`--worlds` plays each reply through the real decision core, once with another candidate that answers, once with others
that say the same; it prints how often the call was rescued, the candidates spared, and the tool told what it should be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rulesuite.worlds import Figures, play, read_reply, truth_of
from understudy.model.verdict import Label
from understudy.rules.folders import load_folder, shipped
from understudy.rules.ruleset import Ruleset
from understudy.rules.speaker import FALLBACK


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, metavar="FILE")
    parser.add_argument("--show", metavar="LABEL", default="", help="list the misjudged replies of a label, or of all")
    parser.add_argument("--rules", type=Path, metavar="FOLDER", help="a rule folder in place of the shipped one")
    parser.add_argument("--general", action="store_true", help="without the vendors' rules, as for an unknown vendor")
    parser.add_argument("--worlds", action="store_true", help="play each reply through the decision core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()

    ruleset = shipped() if options.rules is None else Ruleset(load_folder(options.rules))
    if options.general:
        ruleset = Ruleset(rule for rule in ruleset.rules if rule.id.partition("/")[0] in ("general", FALLBACK))
    rows = [json.loads(line) for line in options.corpus.read_text("utf-8").splitlines() if line.strip()]
    table: Counter[tuple[str, str]] = Counter()
    durations: list[float] = []
    certain = 0
    for row in rows:
        truth = truth_of(row)
        ruleset.judge(read_reply(row))  # for the first time, it also makes what the automaton remembers
        reply = read_reply(row)
        begun = time.thread_time()
        verdict = ruleset.judge(reply)
        durations.append(time.thread_time() - begun)
        table[truth, verdict.label] += 1
        certain += verdict.certain and truth is not verdict.label
        if truth != verdict.label and options.show in (truth, verdict.label, "all"):
            print(f"{row['id']}: {truth} judged {verdict.in_words} | {verdict.evidence}")
    print_table(table)
    right = sum(count for (truth, judged), count in table.items() if truth == judged)
    hits = table[Label.MODEL_UNSUPPORTED, Label.MODEL_UNSUPPORTED]
    judged = sum(count for (_, label), count in table.items() if label == Label.MODEL_UNSUPPORTED)
    real = sum(count for (label, _), count in table.items() if label == Label.MODEL_UNSUPPORTED)
    share = right / max(1, len(rows))
    precision, recall = hits / max(1, judged), hits / max(1, real)
    print(f"\nright label: {right} of {len(rows)} = {share:.3f}; certain and wrong: {certain}")
    print(f"model_unsupported: precision {precision:.3f}, recall {recall:.3f}")
    print(f"judging: median {statistics.median(durations) * 1e6:.0f} us, slowest {max(durations) * 1e6:.0f} us (CPU)")
    found: dict[str, Any] = {
        "replies": len(rows), "labels": share, "model_precision": precision, "model_recall": recall,
        "certain_and_wrong": certain,
    }  # fmt: skip
    if options.worlds:
        figures = Figures()
        for row in rows:
            play(ruleset, row, figures)
        print("", *figures.lines(), sep="\n")
        found["worlds"] = {name: figures.share(name) for name in sorted(figures.of)}
        found["missed"] = figures.missed
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


def print_table(table: Counter[tuple[str, str]]) -> None:
    """Rows: what it is. Columns: what it was judged."""
    names = [label for label in Label if any(label in pair for pair in table)]
    print(f"{'':24}" + "".join(f"{name[:10]:>11}" for name in names))
    for truth in names:
        print(f"{truth:24}" + "".join(f"{table[truth, judged] or '.':>11}" for judged in names))


if __name__ == "__main__":
    sys.exit(main())
