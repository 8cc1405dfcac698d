"""Folders of rules: which files are rules, who may have written them, whether they fit together, and the rules in use.

``RuleLibrary`` holds the folders that the owner named and the shipped one, and reads them again when a file changes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.codec import pattern_cost
from understudy.codec.file_permissions import check_file_is_private
from understudy.codec.yaml_nodes import FileError, Problem, RuleError
from understudy.rules import vocabulary as words
from understudy.rules.python_rule import load_python_rule
from understudy.rules.ruleset import Ruleset
from understudy.rules.speaker import Rule, Speaker
from understudy.rules.vocabulary import Vocabulary, make_vocabulary
from understudy.rules.yaml_rule import read_rule

PYTHON = ".py"
RULES, HIDDEN = (".yaml", ".yml", PYTHON), (".", "__")
MOST_FILES = 2000
LIMITS_FILE = "limits.yaml"
"""What a folder of rules says of the limits in the headers of good replies, at its top: see the package ``limits``."""

type Stamp = tuple[tuple[str, int, int, int], ...]


def load_folder(
    path: str | Path, *, private: bool = False, vocabulary: Vocabulary | None = None
) -> tuple[Speaker, ...]:
    """Every rule below a folder, by path. Raises RuleError that names everything wrong in any file.

    ``private``: refuse folders and files that others can write. ``vocabulary``: what its rules speak; without one, the
    shipped one and what the folder itself adds.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "this is not a folder" if folder.exists() else "there is no such folder"
        raise RuleError([Problem(str(folder), 1, what, "name a folder with <vendor>/<label>.yaml files")])
    if vocabulary is None:
        vocabulary = load_vocabulary([folder], private=private)
    rules: dict[str, Speaker] = {}
    problems: list[Problem] = []
    for file in rule_files(folder):
        try:
            if private:
                _check_private(file, folder)
            rule = load_file(file, folder, vocabulary)
        except FileError as error:
            problems += error.problems
            continue
        if rule.id in rules:
            what = f"two files make the rule {rule.id!r}"
            problems.append(Problem(str(file), 1, what, "give one of them another name"))
        rules[rule.id] = rule
    problems += _dangling(rules, folder)
    if problems:
        raise RuleError(problems)
    return tuple(rules.values())


def load_vocabulary(folders: Sequence[Path], *, private: bool = False) -> Vocabulary:
    """The shipped vocabulary and what these folders add to it. Raises RuleError."""
    shipped_file = shipped_folder() / words.FILE
    files = [file for folder in folders if (file := folder / words.FILE).is_file() and not _is_shipped(folder)]
    try:
        for file in files if private else ():
            _check_private(file, file.parent)
    except FileError as error:
        raise RuleError(error.problems) from None
    return make_vocabulary([shipped_file, *files])


def load_folders(folders: Sequence[Path], *, examples: bool = True) -> list[tuple[Speaker, ...]]:
    """The rules of the owner's folders and then the shipped ones, in one vocabulary. Raises RuleError.

    ``examples``: whether the examples of files of rules, which are read and checked in any case, are kept.
    """
    own = [folder for folder in folders if (folder / words.FILE).is_file() and not _is_shipped(folder)]
    vocabulary = load_vocabulary(own, private=True) if own else shipped_vocabulary(examples=examples)
    problems: list[Problem] = []
    loaded: list[tuple[Speaker, ...]] = []
    for folder in folders:
        try:
            loaded.append(load_folder(folder, private=True, vocabulary=vocabulary))
        except RuleError as error:
            problems += error.problems
    try:
        # With words of the owner's in it, the shipped rules are made anew: they hear those words as well.
        shipped = load_folder(shipped_folder(), vocabulary=vocabulary) if own else load_shipped(examples=examples)
        loaded.append(shipped)
    except RuleError as error:
        problems += error.problems
    if problems:
        raise RuleError(problems)
    vocabulary.rest()
    if not examples:
        vocabulary.forget_examples()
        return [_without_examples(rules) for rules in loaded]
    return loaded


def _without_examples(rules: Sequence[Speaker]) -> tuple[Speaker, ...]:
    """The same rules without the examples of those that are data; a Python module keeps its own."""
    return tuple(replace(rule, matches=(), near_misses=()) if isinstance(rule, Rule) else rule for rule in rules)


def _is_shipped(folder: Path) -> bool:
    return folder.resolve() == shipped_folder().resolve()


def load_file(file: Path, folder: Path, vocabulary: Vocabulary) -> Speaker:
    """The rule in one file of a folder. Raises RuleError."""
    identity = file.relative_to(folder).with_suffix("").as_posix()
    if file.suffix == PYTHON:
        return load_python_rule(file, identity)
    return read_rule(file, identity, vocabulary)


def rule_files(folder: Path) -> list[Path]:
    """The files below a folder that are rules, sorted: by suffix, and neither hidden nor in a hidden folder."""
    others = (folder / words.FILE, folder / LIMITS_FILE)
    return sorted(file for file in map(Path, _rule_paths(folder)) if file not in others)


def _rule_paths(folder: Path) -> list[str]:
    """The same as texts, in no order: they are compared once a second, and paths are expensive."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        found += [os.path.join(root, name) for name in names if name.endswith(RULES) and not name.startswith(HIDDEN)]
        if len(found) > MOST_FILES:
            what = f"there are more than {MOST_FILES} rule files"
            raise RuleError([Problem(str(folder), 1, what, "name the folder that holds the rules")])
    return found


def stamp(folder: Path) -> Stamp:
    """What changes when a file of a folder is changed, added or taken away. Never raises."""
    found = []
    try:
        for path in sorted(_rule_paths(folder)):
            status = os.stat(path)
            found.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    except (OSError, RuleError):
        found.append((str(folder), -1, len(found), 0))
    return tuple(found)


def shipped_folder() -> Path:
    """Where the rules are that come with understudy: beside the modules in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "shipped_rules"
    return inside if inside.is_dir() else package.parent.parent / "rules"


def shipped() -> Ruleset:
    """The rules that come with understudy."""
    return Ruleset(load_shipped())


def load_shipped(*, examples: bool = True) -> tuple[Speaker, ...]:
    """The rules that come with understudy, read once, and again only when one has changed. Raises RuleError.

    ``examples``: as for :func:`load_folders`.
    """
    folder = shipped_folder()
    return _load_unless_known(folder, stamp(folder), examples)


@functools.lru_cache(maxsize=1)
def _load_unless_known(folder: Path, state: Stamp, examples: bool) -> tuple[Speaker, ...]:
    vocabulary = _vocabulary_unless_known(folder, state, examples)
    rules = load_folder(folder, vocabulary=vocabulary)
    vocabulary.rest()
    return rules if examples else _without_examples(rules)


def shipped_vocabulary(*, examples: bool = True) -> Vocabulary:
    """The vocabulary that comes with understudy; read again only when it has changed. Raises RuleError.

    ``examples``: as for :func:`load_folders`.
    """
    folder = shipped_folder()
    return _vocabulary_unless_known(folder, stamp(folder), examples)


@functools.lru_cache(maxsize=1)
def _vocabulary_unless_known(folder: Path, _state: Stamp, examples: bool) -> Vocabulary:
    vocabulary = make_vocabulary([folder / words.FILE])
    if not examples:
        vocabulary.forget_examples()
    return vocabulary


def _check_private(file: Path, folder: Path) -> None:
    # Who can write what is above our own package can write the package.
    check_file_is_private(file, folder if folder == shipped_folder() else None)


def _dangling(rules: dict[str, Speaker], folder: Path) -> Iterator[Problem]:
    """Vetoes that name no rule of the folder, or each other."""
    for rule in rules.values():
        for other in sorted(rule.vetoed_by):
            path = str(folder / rule.id)
            if other not in rules:
                what = f"`unless` names the rule {other!r}, which is not in this folder"
                yield Problem(f"{path}.yaml", 1, what, "name one that is, or remove it")
            elif rule.id in rules[other].vetoed_by and rule.id <= other:
                what = f"this rule and {other!r} veto each other"
                yield Problem(f"{path}.yaml", 1, what, "keep one of the two vetoes")


INTERVAL = 1.0
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at folders has found: the ruleset of the files that have changed, or what is wrong with them."""

    folders: tuple[Path, ...]
    stamps: tuple[Stamp, ...]
    found: Ruleset | RuleError


class RuleLibrary:
    """Folders of rules and the ruleset made of them, for a proxy: examples are checked and not kept.

    Raises RuleError when the shipped rules are broken.
    """

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
        looked = self.look()
        return self.take(looked) if looked is not None else None

    def look(self) -> Looked | None:
        """Read what is in the folders when a file has changed, else None. Changes nothing, so that a thread may do it.

        A look takes a hundred calls of the operating system, and each of them may wait for a thread that computes.
        """
        folders, before = self.folders, self._stamps
        # Stamped before reading: a file that is written meanwhile is read again at the next look.
        stamps = self._stamp(folders)
        if stamps == before:
            return None
        try:
            return Looked(folders, stamps, self._load(folders))
        except RuleError as error:
            return Looked(folders, stamps, error)

    def take(self, looked: Looked) -> Ruleset | None:
        """Work with what a look has found; None when other folders are in use since. Raises RuleError as it was."""
        if looked.folders is not self.folders:
            return None
        self._stamps = looked.stamps
        if isinstance(looked.found, RuleError):
            raise looked.found
        self.ruleset = looked.found
        return self.ruleset

    def _stamp(self, folders: Sequence[Path]) -> tuple[Stamp, ...]:
        return tuple(stamp(folder) for folder in (*folders, shipped_folder()))

    def _load(self, folders: Sequence[Path]) -> Ruleset:
        ruleset = Ruleset(*load_folders(folders, examples=False))
        pattern_cost.forget()
        return ruleset
