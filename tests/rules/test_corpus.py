"""scripts/corpus: labels and worlds of short replies of our own, each of which stands for a kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

REPLIES: list[tuple[str, int, dict[str, Any]]] = [
    ("model_unsupported", 404, {"message": "The model `acme-x1` does not exist"}),
    ("model_unsupported", 403, {"message": "Your plan does not include acme-x1"}),
    ("capability_unsupported", 400, {"message": "`temperature` is deprecated for this model."}),
    ("rate_limited", 429, {"message": "Too many requests, slow down"}),
    ("quota_exhausted", 402, {"message": "Insufficient balance"}),
    ("credential_rejected", 401, {"message": "Incorrect API key provided"}),
    ("overloaded", 503, {"message": "The server is overloaded"}),
    ("context_exceeded", 400, {"message": "This model's maximum context length is 8192 tokens"}),
    ("content_filtered", 400, {"message": "Output blocked by content filtering policy"}),
    ("request_invalid", 400, {"message": "Unknown parameter: 'x'", "code": "unknown_parameter"}),
    ("request_invalid", 403, {"message": "You do not have permission to access the File abc or it may not exist."}),
    ("request_invalid", 424, {"message": "Error retrieving tool list from MCP server: 'notes'. 401 (Unauthorized)"}),
]
ANSWER = {"id": "1", "choices": [{"message": {"content": "The model does not exist"}, "finish_reason": "stop"}]}


def line(number: int, label: str, status: int, body: object) -> str:
    row = {"id": f"own-{number}", "host": "acme.example", "api": "openai-chat", "request_model": "acme-x1"}
    row |= {"stream": False, "status": status, "headers": {}, "body": json.dumps(body), "label": label}  # type: ignore[dict-item]
    return json.dumps(row)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [line(number, label, status, {"error": error}) for number, (label, status, error) in enumerate(REPLIES)]
    lines.append(line(99, "not_an_error", 200, ANSWER))
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rulesuite.corpus", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, text=True, check=False
    )


def test_labels_and_worlds(corpus: Path, tmp_path: Path) -> None:
    """J08: every curable reply is rescued, faults of the request cost nobody anything, filters stay filters."""
    figures = tmp_path / "figures.json"
    done = run(str(corpus), "--worlds", "--json", str(figures))
    assert done.returncode == 0, done.stderr
    assert "right label: 13 of 13 = 1.000; certain and wrong: 0" in done.stdout
    assert "model_unsupported: precision 1.000, recall 1.000" in done.stdout
    found = json.loads(figures.read_text())
    assert found["labels"] == found["model_precision"] == found["model_recall"] == 1
    assert found["missed"] == {}
    assert found["worlds"] == dict.fromkeys(("filters", "next", "rescued", "sound", "spared", "told"), 1.0)
    for name, count in (("rescued", 8), ("spared", 3), ("told", 3), ("next", 3), ("filters", 2), ("sound", 1)):
        assert f"{name:8} {count} of {count} = 1.000" in done.stdout


def test_general_leaves_the_vendors_rules_out(tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    said = {"base_resp": {"status_code": 1008, "status_msg": "code 1008"}}
    file.write_text(line(1, "quota_exhausted", 200, said) + "\n" + line(2, *REPLIES[0][:2], {"error": REPLIES[0][2]}))
    assert "right label: 2 of 2" in run(str(file)).stdout
    assert "right label: 1 of 2" in run(str(file), "--general").stdout


def test_what_was_missed_is_told(tmp_path: Path) -> None:
    """The figures can fail: a filter that a person would not know as one is neither judged nor kept as one."""
    file = tmp_path / "odd.jsonl"
    rows = [
        line(1, "content_filtered", 503, {"error": {"message": "The model is overloaded"}}),
        line(2, "overloaded", 200, ANSWER),
        line(3, "not_an_error", 404, {"error": {"message": "Model not found"}}),
        line(4, "request_invalid", 401, {"error": {"message": "Invalid API key"}}),
    ]
    file.write_text("\n".join(rows))
    done = run(str(file), "--worlds", "--show", "all")
    assert "own-1: content_filtered judged overloaded by general/overloaded" in done.stdout
    assert "right label: 0 of 4 = 0.000; certain and wrong: 4" in done.stdout
    for name, missed in (("rescued", "own-2"), ("filters", "own-1"), ("sound", "own-3"), ("told", "own-4")):
        told = next(each for each in done.stdout.splitlines() if each.startswith(name))
        assert f"not: {missed}" in told
