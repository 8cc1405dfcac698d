"""The simulation of a week over accounts with windows: it plays, counts, and says what is wrong with a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STRATEGIES = ["ordered, without limits", "ordered", "round_robin", "soonest_reset"]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'addon'}"}
    command = [sys.executable, "-m", "simulation", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def rows(output: str) -> dict[str, list[str]]:
    """The lines of the table by strategy."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if "|" in line]
    return {cell[0]: cell[1:] for cell in cells[2:]}


def test_q01_foresight_leaves_an_account_before_it_refuses() -> None:
    """Q01: the same calls, the same accounts, and fewer refusals met; the table has every strategy."""
    done = simulate("--sessions", "60", "--demand", "1.1", "--seed", "1")
    assert done.returncode == 0, done.stderr
    table = rows(done.stdout)
    assert list(table) == STRATEGIES
    refusals = {name: int(cells[1]) for name, cells in table.items()}
    assert refusals["ordered"] < refusals["ordered, without limits"]
    assert refusals["soonest_reset"] < refusals["ordered, without limits"]
    # The same seed, the same week.
    assert simulate("--sessions", "60", "--demand", "1.1", "--seed", "1").stdout == done.stdout


def test_a_recorded_load_is_played(tmp_path: Path) -> None:
    file = tmp_path / "load.jsonl"
    calls = [{"time": 1_764_547_200 + 60 * number, "session": f"s{number % 3}", "units": 0.5} for number in range(50)]
    file.write_text("".join(f"{json.dumps(call)}\n" for call in calls))
    done = simulate("--load", str(file), "--accounts", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("50 calls of 3 sessions over 2 accounts")
    file.write_text('{"time": 1}\n')
    broken = simulate("--load", str(file))
    assert broken.returncode == 2
    assert f"{file}:1: this is no call" in broken.stderr
