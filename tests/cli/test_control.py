"""The commands of a running proxy as the shell hands them on: the words of a drill (H12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from understudy.cli import command_line
from understudy.cli import control as module


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["drill"], []),
        (["drill", "stop"], ["stop"]),
        (["drill", "work", "gpt-5", "429:20", "2m"], ["work", "gpt-5", "429:20", "2m"]),
        (
            ["drill", "upstream", "openai", "dead", "--for", "10%", "--session", "abc", "--everyone"],
            ["upstream", "openai", "dead", "--for", "10%", "--session", "abc", "--everyone"],
        ),
    ],
)
def test_h12_the_words_of_a_drill(
    words: list[str], sent: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """H12: options go to the proxy as they were written, and it says what is wrong with them."""
    asked: list[Any] = []

    def ask(path: Path, command: str, given: list[str]) -> dict[str, Any]:
        asked.append((command, list(given)))
        return {"lines": ["done"], "result": {}}

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(module, "_choose", lambda pid: {1: Path("1.sock")})
    assert command_line.main(words) == 0
    assert asked == [("drill", sent)]
    assert capsys.readouterr().out == "done\n"
