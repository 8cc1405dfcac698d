"""Hooks for mkdocs: the rule manual, which ships with the rules, becomes a page, and links to it lead to that page.

In the repository `rules/README.md` lies beside the rules, so that it is part of the installed package. In the pages it
is `rule-files.md`. A link that works on disk works in the built pages, too.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

MANUAL = "rule-files.md"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the manual, with its links as they are from `docs/`."""
    text = (Path(config.config_file_path).parent / "rules" / "README.md").read_text("utf-8")
    files.append(File.generated(config, MANUAL, content=text.replace("](../docs/", "](")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to the manual's place on disk into links to its page."""
    return markdown.replace("](../rules/README.md", f"]({MANUAL}")
