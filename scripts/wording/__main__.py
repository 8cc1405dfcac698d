"""Write docs/messages.md: every text in the code that a person can meet, by module.

A text is a string with at least two spaces that is neither a docstring nor a regular expression: log lines, errors,
answers, comments, lines of commands. What is put in while the program runs stands in braces.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "messages.md"
LEAST_SPACES = 2
HEAD = """\
# Messages

After this page you can find where a text comes from: a log line, an error, a comment of a flow, a line that a command
prints. `scripts/messages` writes it from the code. What is put in while the program runs stands in braces; a text that
is put together of several parts stands here in parts.
"""
NOT_FOR_PEOPLE = re.compile(r"^(?:demo/answers|codec/patterns)\.py$")
"""Modules whose texts are data."""


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of the strings of a module, those of docstrings left out."""
    silent = {id(part) for node in ast.walk(tree) for part in (*_docstrings(node), *_representations(node))}
    for node in sorted(ast.walk(tree), key=lambda node: getattr(node, "lineno", 0)):
        if id(node) in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in ast.walk(node) if part is not node}
            yield node.lineno, "".join(_part(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _docstrings(node: ast.AST) -> Iterator[ast.AST]:
    """Strings that stand alone, as a statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value


def _representations(node: ast.AST) -> Iterator[ast.AST]:
    """Strings of a ``__repr__``, which is for those who debug the program."""
    if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
        yield from ast.walk(node)


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return f"{{{ast.unparse(part.value)}}}"


def is_for_people(text: str) -> bool:
    """Whether a string reads like a sentence, and not like a regular expression or a script for the shared server."""
    return text.count(" ") >= LEAST_SPACES and "(?" not in text and "redis.call(" not in text


def page() -> str:
    """The whole page."""
    package = ROOT / "addon" / "understudy"
    parts = [HEAD]
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if NOT_FOR_PEOPLE.match(name):
            continue
        found = sorted(texts(ast.parse(path.read_text("utf-8"))))
        lines = dict.fromkeys(" ".join(text.split()) for _, text in found if is_for_people(text))
        shown = [f"- ``{line}``" if "`" in line else f"- `{line}`" for line in lines if line]
        if shown:
            parts.append("\n".join([f"\n## {name}\n", *shown]))
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
