"""Every script works from a fresh checkout: a shell program that makes its environment before it needs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
SCRIPTS = [path for path in FILES if os.access(path, os.X_OK) or not path.suffix]
"""What a person or a program runs. Beside them stand modules that others import, with a suffix and not executable."""
MAKES_IT = {"setup"}
"""The one script that makes the environment and therefore cannot call for it."""


def commands(script: Path) -> list[str]:
    """The lines of a script that do something: neither empty nor a comment."""
    lines = [line.strip() for line in script.read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_there_are_scripts() -> None:
    """The tests below look at something."""
    assert {
        "bench",
        "bench-rules",
        "corpus",
        "laws",
        "pictures",
        "rules-table",
        "run",
        "setup",
        "simulate",
        "storm",
        "test",
    } <= {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.name))
def test_a_script_is_a_shell_program(script: Path) -> None:
    """The system's own Python may be older than ours, so nothing of Python is read before the environment exists."""
    assert os.access(script, os.X_OK), f"chmod +x scripts/{script.name}"
    assert script.read_text("utf-8").splitlines()[0] in ("#!/usr/bin/env bash", "#!/bin/sh")
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)


@pytest.mark.parametrize(
    "script", [each for each in SCRIPTS if each.name not in MAKES_IT], ids=lambda each: str(each.name)
)
def test_a_script_makes_its_environment_first(script: Path) -> None:
    """It calls scripts/setup as a command of its own, before the first use of what that makes."""
    lines = commands(script)
    setup = [n for n, line in enumerate(lines) if re.fullmatch(r'("\$root/)?scripts/setup"?( \w+)?', line)]
    uses = [n for n, line in enumerate(lines) if re.search(r"\.venv\b|\bpython", line)]
    assert setup, f"scripts/{script.name} does not call scripts/setup"
    assert uses
    assert setup[0] < uses[0]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.name))
def test_a_failure_ends_a_script(script: Path) -> None:
    """Otherwise a set-up that failed would go on with whatever environment there is."""
    assert commands(script)[0] == "set -eu"
