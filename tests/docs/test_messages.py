"""The list of all messages is what the code says: made by ``scripts/messages``."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_messages_is_current(tmp_path: Path) -> None:
    """After a changed message, run `scripts/messages`."""
    code = "import wording.__main__ as wording; print(wording.page(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == (ROOT / "docs" / "messages.md").read_text("utf-8"), "run scripts/messages"


def test_what_a_message_is() -> None:
    """Texts with what is put in, joined ones as a whole; neither docstrings nor single words."""
    code = "import ast, wording.__main__ as wording; print([text for _, text in wording.texts(ast.parse(%r))])"
    source = '"""A doc string here."""\nprint(f"three more {x.y} words")\nk = "one"\n'
    done = subprocess.run(
        [sys.executable, "-c", code % source],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ast.literal_eval(done.stdout) == ["three more {x.y} words", "one"]


def test_no_message_holds_the_rest_of_a_merge() -> None:
    """A conflict inside a text is no error of syntax, so nothing else would notice it."""
    assert not re.search("<{7} |>{7} ", (ROOT / "docs" / "messages.md").read_text("utf-8"))
