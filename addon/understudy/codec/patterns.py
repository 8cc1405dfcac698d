"""Regular expressions that people write in rule files: which are refused, and which words they cannot do without.

A rule is run against bytes that a stranger sends, so an expression that can backtrack for minutes must not get in, and
one that needs the square or the cube of a text's length is searched in as much of it as ``STEPS`` allow. And a hundred
expressions per reply are only cheap if most are never started: one that needs the word "model" is not tried on a
message without it. All of it is answered from Python's own parse tree of the expression.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from understudy.codec.pattern_cost import Cost, TooManyWaysError, parts

# The tree has no public door, but its shape has been the same since Python 2; a test would notice a change.
_parser: Any = import_module("re._parser")

LONGEST = 4000  # characters of one expression
STEPS = 6_000_000
"""What one search may cost: steps of Python's engine, a few nanoseconds each."""
MOST_SEARCHED = 4096
"""Characters of a text that any expression is searched in."""
LEAST_SEARCHED = 256
"""An expression that is too costly for a text of so many characters is refused."""


def compile_pattern(expression: str) -> re.Pattern[str]:
    """Compile an expression of a rule. It is meant for texts in lower case, its own case does not matter.

    Raises ValueError, with the reason in words, for one that is not valid or that could backtrack without end.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"an expression of more than {LONGEST} characters")
    try:
        if _nests(_tree(expression), inside=False):
            raise ValueError("a repetition inside a repetition, which may never end")
        if searched(expression) < LEAST_SEARCHED:
            raise ValueError("an expression that can be read in too many ways, which may take for ever")
        # Ignoring case makes matching about twice as slow, so it is asked for only where the writer used capitals.
        capitals = any(char.isupper() for char in re.sub(r"\\.", "", expression))
        return re.compile(expression, re.IGNORECASE if capitals else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression ({error})") from None


@functools.lru_cache(maxsize=1)  # asked before an expression is compiled, and then to search with it
def searched(expression: str) -> int:
    """How many characters of a text it may be searched in at most, so that no text costs more than ``STEPS``."""
    tree = _tree(expression)
    try:
        return Cost(tree, tree.state.flags).longest(STEPS, MOST_SEARCHED)
    except TooManyWaysError:
        return 0


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
        endless = name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and int(value[1]) > _UNBOUNDED
        if (endless and inside) or any(_nests(part, inside or endless) for part in parts(name, value)):
            return True
    return False


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
