"""Reading on after a problem: a value that is wrong is noted with its line and replaced by a stand-in.

A person who corrects a file wants to see all that is wrong with it at once, not the first thing only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.codec.masking import shown
from understudy.codec.yaml_nodes import Problem, Scalar, Table, Value
from understudy.config import fields
from understudy.config.fields import Wrong

_ENOUGH = 50  # a file with more problems than this gets no more suggestions: finding them takes time


class Collector:
    """The problems and warnings of one file, and the ways to read a value that may add to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def _add(self, line: int, what: str, write: str) -> None:
        self.problems.append(Problem(str(self.path), line, what, write))

    def _warn(self, line: int, what: str, write: str) -> None:
        self.warnings.append(Problem(str(self.path), line, what, write))

    @contextmanager
    def _noting(self, line: int) -> Iterator[None]:
        try:
            yield
        except Wrong as wrong:
            self._add(line, wrong.what, wrong.write)

    def _suggestion(self, word: str, known: Collection[str]) -> str:
        return fields.suggestion(word, known) if len(self.problems) < _ENOUGH else "write a known name"

    def _table(self, value: Value, keys: Collection[str], write: str, required: Collection[str] = ()) -> Table:
        """A mapping with no other keys than these; an empty one when it is none."""
        with self._noting(value.line):
            table = fields.table(value, write)
            for key, _ in table.entries.values():
                if key.text not in keys:
                    self._add(key.line, f"unknown key {shown(key.text)}", self._suggestion(key.text, keys))
            for key_name in required:
                if key_name not in table.entries:
                    self._add(value.line, f"the key `{key_name}` is missing", "add it")
            return table
        return Table(value.line, {})

    def _section(self, document: Table, section: str) -> list[tuple[Scalar, Value]]:
        """The entries of a top-level mapping whose keys are usable as names."""
        if section not in document.entries:
            return []
        value = document.entries[section][1]
        found: list[tuple[Scalar, Value]] = []
        with self._noting(value.line):
            for key, item in fields.table(value, f"write names and their values below `{section}`").entries.values():
                with self._noting(key.line):
                    check = fields.text if section == "routes" else fields.name
                    check(key, f"the name in `{section}`")
                    found.append((key, item))
        return found

    def _field[T](self, table: Table, key: str, parse: Callable[[Value], T], default: T) -> T:
        if key not in table.entries:
            return default
        value = table.entries[key][1]
        with self._noting(value.line):
            return parse(value)
        return default
