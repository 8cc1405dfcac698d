"""What the shells complete: every command and every option, taken from the parser itself."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from understudy.cli.command_line import main
from understudy.cli.completion import SHELLS

COMMANDS = ("run", "env", "doctor", "check", "status", "suspend", "rules", "explain", "completion", "web", "dump")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    words = set(capsys.readouterr().out.replace("(", " ").replace(")", " ").replace("'", " ").replace('"', " ").split())
    assert set(COMMANDS) <= words
    options = {"--pool", "--watch", "--label", "--add"}
    assert {each.removeprefix("--") for each in options} <= words if shell == "fish" else options <= words


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["st"], {"status"}),
        (["rules", "n"], {"new"}),
        (["rules", "new", "--la"], {"--label"}),
        (["status", "--w"], {"--watch"}),
        (["completion", ""], {"bash", "zsh", "fish", "--help"}),
        (["rules"], {"rules"}),
    ],
)
def test_bash_completes(words: list[str], completed: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In bash itself."""
    assert main(["completion", "bash"]) == 0
    line = f"COMP_WORDS=(understudy {shlex.join(words)}); COMP_CWORD={len(words)}; _understudy"
    script = f"{capsys.readouterr().out}{line}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert (set(done.stdout.split()), done.stderr) == (completed, "")
