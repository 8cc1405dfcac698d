"""A citation of a law, a promise or a section leads to a place in docs/, wherever in the repository it stands.

Looked at are comments and docstrings of Python files, names of tests, and the whole text of the other files that people
read. The laws and sections are those of docs/architecture.md, the promises those of docs/promises.md.
"""

from __future__ import annotations

import ast
import functools
import io
import os
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")

LAWS = {int(number) for number in re.findall(r"^(\d+)\. \*\*", ARCHITECTURE, re.MULTILINE)}
SECTIONS = set(re.findall(r"^\| section (\w+) \|", ARCHITECTURE, re.MULTILINE))
PROMISED = (ROOT / "docs" / "promises.md").read_text("utf-8")
PROMISES = set(re.findall(r"^\| ([A-Z]\d\d) \|", PROMISED, re.MULTILINE))

LAW = re.compile(r"\blaws?\s+(\d+(?:\s*(?:,\s*and|,|and|to)\s+\d+)*)", re.IGNORECASE)
FAMILIES = "".join(sorted({promise[0] for promise in PROMISES}))
PROMISE = re.compile(rf"(?<![A-Za-z0-9])[{FAMILIES}]\d\d(?![A-Za-z0-9])")
SECTION = re.compile(r"(?:\bdesign|docs/architecture\.md),?\s+(?:section\s+)?(\d[a-z]?)\b", re.IGNORECASE)
ABSENT = re.compile(
    r"(?i:\b(?:of|in|by|see) the design\b|\b(?:design|acceptance)\.md\b)"
    r"|\b[Aa]cceptance(?: list|,? [A-Z]\d{0,2})\b"
)
"""A document that the repository does not hold."""
QUOTED = re.compile(r'\b(design|README|(?:docs|rules)/[\w-]+\.md),\s+"([^"]+)"', re.IGNORECASE)
"""A chapter of a document, by its heading."""
MODULE = re.compile(r"`([\w-]+(?:/[\w-]+)*\.py)`")
LINKED = re.compile(r"\bdocs/([\w-]+)\.md(?:#([\w-]+))?")

READ = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ""}
"""Suffixes of files that are looked at."""


@functools.cache
def modules() -> dict[str, list[Path]]:
    """The Python files of the repository by their names; environments of scripts are in folders with a dot."""
    found = defaultdict(list)
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(".py"):
                found[name].append(Path(folder, name))
    return found


@functools.cache
def headings(document: str) -> list[str]:
    """The headings of a document of the repository; none when it does not exist."""
    path = ROOT / ("README.md" if document.lower() == "readme" else document)
    return re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE) if path.is_file() else []


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def is_module(written: str) -> bool:
    """Whether a Python file of the repository is what was written: its name, or its name with folders before it."""
    parts = tuple(written.split("/"))
    return any(path.parts[-len(parts) :] == parts for path in modules().get(parts[-1], ()))


def dead(text: str) -> Iterator[str]:
    """The citations in a text that lead nowhere."""
    text = re.sub(r"\s*\n\s*(?:#+ )?", " ", text)
    for found in LAW.finditer(text):
        numbers = [int(number) for number in re.findall(r"\d+", found[1])]
        if not LAWS.issuperset(numbers):
            yield found[0]
    yield from (found[0] for found in PROMISE.finditer(text) if found[0] not in PROMISES)
    yield from (found[0] for found in SECTION.finditer(text) if found[1].lower() not in SECTIONS)
    yield from (found[0] for found in ABSENT.finditer(text))
    yield from (found[0] for found in QUOTED.finditer(text) if found[2] not in headings(found[1]))
    yield from (found[0] for found in MODULE.finditer(text) if not is_module(found[1]))
    for found in LINKED.finditer(text):
        there = headings(f"docs/{found[1]}.md")
        if not there or (found[2] and found[2] not in map(anchor, there)):
            yield found[0]


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement, at any depth; expressions hold none."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        for node in getattr(tree, name, ()):
            yield node
            yield from statements(node)


@functools.cache
def said(path: Path) -> list[tuple[int, str]]:
    """What people read in a file: (line, text). Comments that follow each other are one text."""
    return list(read(path))


def read(path: Path) -> Iterator[tuple[int, str]]:
    """The same, one after the other."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        for paragraph in re.finditer(r"(?:.+\n?)+", text):
            yield text.count("\n", 0, paragraph.start()) + 1, paragraph[0]
        return
    for node in statements(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield node.lineno, docstring
            case ast.FunctionDef(name=name) if name.startswith("test_"):
                yield node.lineno, name.replace("_", " ")
    comments: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append((token.start[0], token.string))
    previous, block = 0, ""
    for line, comment in [*comments, (0, "")]:
        if line == previous + 1 and block:
            block += "\n" + comment
        else:
            if block:
                yield previous, block
            block = comment
        previous = line


def files(top: str) -> list[Path]:
    """The files that people read: below a folder of the repository; "." for those beside the folders."""
    found = ROOT.glob("*") if top == "." else (ROOT / top).rglob("*")
    return sorted(path for path in found if path.is_file() and path.suffix in READ and "__pycache__" not in path.parts)


def test_there_is_something_to_cite() -> None:
    """The laws are numbered from 1 without a gap, and no promise has two lines."""
    assert set(range(1, 13)) == LAWS
    assert {"5", "5a", "5b", "5c", "5d", "5e"} <= SECTIONS
    assert len(PROMISES) >= 80
    assert len(re.findall(r"^\| [A-Z]\d\d \|", PROMISED, re.MULTILINE)) == len(PROMISES)


def test_every_promise_that_is_kept_has_a_test() -> None:
    """Those under "Not built yet" need none; that a test exists says nothing about how good it is."""
    kept = set(re.findall(r"^\| ([A-Z]\d\d) \|", PROMISED.partition("\n## Not built yet\n")[0], re.MULTILINE))
    assert 60 <= len(kept) <= len(PROMISES)
    tested = {
        found.upper()
        for path in files("tests")
        if path.suffix == ".py" and path.parent != Path(__file__).parent
        for _, text in said(path)
        for found in re.findall(r"(?<![A-Za-z0-9])[A-Za-z]\d\d(?![A-Za-z0-9])", text)
    }
    assert kept - tested == set()


@pytest.mark.parametrize("top", ["addon", "tests", "scripts", "rules", "docs", "."])
def test_no_citation_leads_nowhere(top: str) -> None:
    """Laws, promises, sections, chapters and pages."""
    looked_at = [path for path in files(top) if path != Path(__file__).resolve()]
    assert looked_at
    found = [
        f"{path.relative_to(ROOT)}:{line}: {citation}"
        for path in looked_at
        for line, text in said(path)
        for citation in dead(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["law 13", "laws 2\n# and 14", "Laws 1 to 20", "law 0", "F99: the tool sees", "design, section 9", "(design 5f)",
     "numbered as in the design", "law 11 of the\n    design", "see acceptance.md", "acceptance O07", "acceptance F, X",
     'design, "Holding a reply"',
     'the README, "No such heading"', 'docs/streams.md, "No such heading"', "docs/none.md",
     "``attemptflow.py`` shows", "`none/stream.py`",
     "docs/streams.md#none",
     "docs/architecture.md, section 7"],
)  # fmt: skip
def test_a_citation_that_leads_nowhere_is_seen(text: str) -> None:
    """The check itself can fail, on each kind of citation."""
    assert list(dead(text)) != []


@pytest.mark.parametrize(
    "text",
    ["law 12", "laws 3 and 4", "Laws 1 to 7", "F01, W03", "design, section 5a", "docs/architecture.md, section 5",
     'docs/streams.md, "Hold complete"', "docs/streams.md#hold-complete", "RFC 9110, section 15.5.22", "UTF16", "AF01",
     "``stream.py``", "`proxy/stream.py`",
     "by design", "redesign 9"],
)  # fmt: skip
def test_a_citation_that_leads_somewhere_is_none(text: str) -> None:
    """What is right, and what is no citation."""
    assert list(dead(text)) == []
