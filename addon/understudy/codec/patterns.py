"""Regular expressions that people write in rule files: which are refused, and which words they cannot do without.

A rule is run against bytes that a stranger sends, so an expression that can backtrack for minutes must not get in. And
a hundred expressions per reply are only cheap if most are never started: one that needs the word "model" is not tried
on a message without it. Both questions are answered from Python's own parse tree of the expression.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

# The tree has no public door, but its shape has been the same since Python 2; a test would notice a change.
_parser: Any = import_module("re._parser")

LONGEST = 4000  # characters of one expression


def compile_pattern(expression: str) -> re.Pattern[str]:
    """Compile an expression of a rule. It is meant for texts in lower case, its own case does not matter.

    Raises ValueError, with the reason in words, for one that is not valid or that could backtrack without end.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"an expression of more than {LONGEST} characters")
    try:
        if _nests(_tree(expression), inside=False):
            raise ValueError("a repetition inside a repetition, which may never end")
        # Ignoring case makes matching about twice as slow, so it is asked for only where the writer used capitals.
        capitals = any(char.isupper() for char in re.sub(r"\\.", "", expression))
        return re.compile(expression, re.IGNORECASE if capitals else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression ({error})") from None


def needles(expression: str) -> tuple[frozenset[str], ...]:
    """Sets of words (lower case): a text that matches contains at least one of each; the cheapest set first."""
    sets = {words for words in _needed(_tree(expression)) if len(words) <= _MOST_WORDS}
    best = sorted(sets, key=_rarity, reverse=True)[:_MOST_SETS]
    return tuple(sorted(best, key=lambda words: (len(words), -min(map(len, words)))))


@functools.lru_cache(maxsize=1)  # both questions are asked of an expression in turn
def _tree(expression: str) -> Any:
    return _parser.parse(expression, re.IGNORECASE)


_UNBOUNDED = 64  # a repetition that may run longer than this counts as one without end


def _nests(tree: Iterable[tuple[Any, Any]], inside: bool) -> bool:
    for operation, value in tree:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _least, most, body = value
            endless = int(most) > _UNBOUNDED
            if (endless and inside) or _nests(body, inside or endless):
                return True
        elif any(_nests(part, inside) for part in _parts(name, value)):
            return True
    return False


def _parts(name: str, value: Any) -> list[Any]:
    match name:
        case "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
            return [value[-1]]
        case "ATOMIC_GROUP":
            return [value]
        case "BRANCH":
            return list(value[1])
        case "GROUPREF_EXISTS":
            return [part for part in value[1:] if part is not None]
    return []


_MOST_WORDS = 40  # a larger set costs more than it saves
_MOST_SETS = 4


def _needed(tree: Iterable[tuple[Any, Any]]) -> list[frozenset[str]]:
    """Sets of words of which every match contains one each."""
    sets: list[frozenset[str]] = []
    run = ""
    for operation, value in [*tree, ("END", None)]:
        name = str(operation)
        if name == "LITERAL":
            run += chr(value).lower()
            continue
        if len(run) > 1 or not run.isascii():
            sets.append(frozenset((run,)))
        run = ""
        match name:
            case "SUBPATTERN":
                sets += _needed(value[-1])
            case "ATOMIC_GROUP":
                sets += _needed(value)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT" if value[0] > 0:
                sets += _needed(value[2])
            case "BRANCH":
                # What one branch needs is not needed by all: the best set of each, together.
                branches = [max(_needed(branch), key=_rarity, default=None) for branch in value[1]]
                if all(branches):
                    sets.append(frozenset().union(*filter(None, branches)))
    return sets


def _rarity(words: frozenset[str]) -> tuple[int, int]:
    """How much a set rules out: long words are rare, and few of them are quickly looked for."""
    return min(map(len, words)), -len(words)
