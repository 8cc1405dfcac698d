"""How well do the shipped rules judge a corpus of labelled replies?

    scripts/corpus PATH/errors-dev.jsonl [--show LABEL|all] [--rules FOLDER]

Each line of the file is an object with `host`, `api`, `request_model`, `stream`, `status`, `headers`, `body`, `label`.
Prints the confusion matrix of labels and precision and recall of model_unsupported; `--show` lists what was missed.
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

from understudy.model.verdict import Label
from understudy.replies.reply import Reply
from understudy.rules.folders import load_folder, shipped
from understudy.rules.ruleset import Ruleset

DIALECTS = {"openai-chat": "openai", "openai-responses": "openai", "anthropic-messages": "anthropic", "other": ""}


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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--show", metavar="LABEL", default="", help="list the misjudged replies of a label, or of all")
    parser.add_argument("--rules", type=Path, help="a rule folder in place of the shipped one")
    options = parser.parse_args()

    ruleset = Ruleset(load_folder(options.rules)) if options.rules else shipped()
    rows = [json.loads(line) for line in options.corpus.read_text("utf-8").splitlines() if line.strip()]
    table: Counter[tuple[str, str]] = Counter()
    durations = []
    for row in rows:
        truth = "ok" if row["label"] == "not_an_error" else row["label"]
        reply = read_reply(row)
        begun = time.perf_counter()
        verdict = ruleset.judge(reply)
        durations.append(time.perf_counter() - begun)
        table[truth, verdict.label] += 1
        if truth != verdict.label and options.show in (truth, verdict.label, "all"):
            print(f"{row['id']}: {truth} judged {verdict.label} by {verdict.rule} | {verdict.evidence}")
    print_table(table)
    right = sum(count for (truth, judged), count in table.items() if truth == judged)
    hits = table[Label.MODEL_UNSUPPORTED, Label.MODEL_UNSUPPORTED]
    judged = sum(count for (_, label), count in table.items() if label == Label.MODEL_UNSUPPORTED)
    real = sum(count for (label, _), count in table.items() if label == Label.MODEL_UNSUPPORTED)
    print(f"\nright label: {right} of {len(rows)} = {right / max(1, len(rows)):.3f}")
    print(f"model_unsupported: precision {hits / max(1, judged):.3f}, recall {hits / max(1, real):.3f}")
    print(f"judging: median {statistics.median(durations) * 1e6:.0f} us, slowest {max(durations) * 1e6:.0f} us")
    return 0


def print_table(table: Counter[tuple[str, str]]) -> None:
    """Rows: what it is. Columns: what it was judged."""
    names = [label for label in Label if any(label in pair for pair in table)]
    print(f"{'':24}" + "".join(f"{name[:10]:>11}" for name in names))
    for truth in names:
        print(f"{truth:24}" + "".join(f"{table[truth, judged] or '.':>11}" for judged in names))


if __name__ == "__main__":
    sys.exit(main())
