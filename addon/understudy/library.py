"""The rules in use: the folders that the owner named and the shipped one, read again when a file changes.

A broken file never replaces working rules (law 11): the last good ones stay, and each state of the folders is
complained about once. Looking for changes costs some stat calls, so it is done by a timer and never for a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy.rulefolder import Stamp, load_folder, load_shipped, shipped_folder, stamp
from understudy.rules import Ruleset, Speaker
from understudy.yamlnodes import Problem, RuleError

INTERVAL = 1.0
"""Seconds between two looks."""


class RuleLibrary:
    """Folders of rules and the ruleset made of them. Raises RuleError when the shipped rules are broken."""

    def __init__(self) -> None:
        self.folders: tuple[Path, ...] = ()
        self._stamps = self._stamp(())
        self.ruleset = self._load(())

    def use(self, folders: Sequence[str]) -> Ruleset:
        """Work with these folders, the first one asked first. Raises RuleError; what was in use then stays."""
        named = tuple(Path(folder).expanduser().absolute() for folder in folders if folder)
        if len(set(named)) < len(named):
            raise RuleError([Problem(str(named[-1]), 1, "a folder is named twice", "name it once")])
        stamps = self._stamp(named)
        self.ruleset = self._load(named)
        self.folders, self._stamps = named, stamps
        return self.ruleset

    def refresh(self) -> Ruleset | None:
        """The new ruleset when a file has changed, else None. Raises RuleError once for each broken state."""
        # Stamped before reading: a file that is written meanwhile is read again at the next look.
        stamps = self._stamp(self.folders)
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        self.ruleset = self._load(self.folders)
        return self.ruleset

    def _stamp(self, folders: Sequence[Path]) -> tuple[Stamp, ...]:
        return tuple(stamp(folder) for folder in (*folders, shipped_folder()))

    def _load(self, folders: Sequence[Path]) -> Ruleset:
        problems: list[Problem] = []
        loaded: list[tuple[Speaker, ...]] = []
        for folder in folders:
            try:
                loaded.append(load_folder(folder, private=True))
            except RuleError as error:
                problems += error.problems
        try:
            loaded.append(load_shipped())
        except RuleError as error:
            problems += error.problems
        if problems:
            raise RuleError(problems)
        return Ruleset(*loaded)
