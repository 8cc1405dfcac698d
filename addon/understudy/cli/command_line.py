"""The command ``understudy``: what a person can ask without a running proxy, and of one.

``parsers`` has the words of each sub-command and names the function that does it: one that takes the parsed arguments
and returns the exit status; ``arguments.tool`` is what stands after ``--``. Exit status: 0 all is well, 1 there are
problems, 2 the command was used wrongly or names no file.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from understudy.cli import completion, parsers
from understudy.proxy import garbage


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status; raises SystemExit as argparse does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An alias may hold characters that the terminal has not; that must not end in a traceback.
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in parsers.PROGRAMS:
        # Everything after the command is mitmproxy's to read, options first of all.
        garbage.rest()
        from understudy.cli.launch import launch  # here: mitmproxy takes a second to load

        return launch(parsers.PROGRAMS[words[0]], words[1:])
    words, tool = _split(words)
    arguments = parsers.parser(words[0] if words else "").parse_args(words)
    arguments.tool = tool
    try:
        status = _loaded(arguments.run)(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has read enough. Python would complain once more when it flushes at its end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 1
    except KeyboardInterrupt:
        return 130
    assert isinstance(status, int)
    return status


WITH_TOOL = ("run", "doctor")
"""Commands behind which the command of a tool stands."""
WITH_VALUE = ("--pool", "--proxy", "--ca", "--fingerprint", "--rules")
"""Their options that take a value."""


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and the command of a tool: what stands behind ``--``, or begins with the first word of no option.

    ``understudy run claude -p hi`` means ``understudy run -- claude -p hi``: the tool's own options are not ours. What
    stands behind the ``--`` of ``serve`` and ``service`` are options of mitmdump.
    """
    if words and words[0] in ("serve", "service") and "--" in words:
        place = words.index("--")
        return words[:place], words[place + 1 :]
    if not words or words[0] not in WITH_TOOL:
        return words, []
    place = 1
    while place < len(words):
        if words[place] == "--":
            return words[:place], words[place + 1 :]
        if not words[place].startswith("-"):
            return words[:place], words[place:]
        place += 2 if words[place] in WITH_VALUE else 1
    return words, []


def _loaded(function: str) -> Callable[[argparse.Namespace], int]:
    """The function that ``parsers`` names, such as ``control:run``."""
    module, _, name = function.partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(import_module(f"understudy.cli.{module}"), name)
    return found


def show_completion(arguments: argparse.Namespace) -> int:
    """``understudy completion SHELL``."""
    return completion.show(arguments.shell, parsers.parser())
