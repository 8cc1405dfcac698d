"""The command ``understudy``: what a person can ask without a running proxy.

Each sub-command is one function that takes its parsed arguments and returns the exit status, and one line in
``_parser``. Exit status: 0 all is well, 1 a file has problems, 2 the command was used wrongly or names no file.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from understudy import __version__, replaycommands, rulecommands
from understudy.config import ConfigError, Problem, default_pool_path, lint, load
from understudy.pool import Choice, Pool, Route, specificity

PROGRAMS = {"web": "mitmweb", "dump": "mitmdump"}
"""Sub-commands that start a program of mitmproxy."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status; raises SystemExit as argparse does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An alias may hold characters that the terminal has not; that must not end in a traceback.
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in PROGRAMS:
        # Everything after the command is mitmproxy's to read, options first of all.
        from understudy.launch import launch  # here: mitmproxy takes a second to load

        return launch(PROGRAMS[words[0]], words[1:])
    arguments = _parser().parse_args(words)
    status = arguments.run(arguments)
    assert isinstance(status, int)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="understudy", description="When a model cannot go on, its understudy does.")
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser("check", help="say what the proxy would say about a pool file")
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the one the proxy would use")
    command.set_defaults(run=check)
    rulecommands.add(commands)
    replaycommands.add(commands)
    for name, program in PROGRAMS.items():
        commands.add_parser(name, help=f"start {program} with the addon, on loopback; takes its arguments")
    return parser


def known_dialects() -> Collection[str]:
    """The names that ``dialect:`` may have."""
    from understudy.dialects import DIALECTS  # here: starting the command should not load what it may not need

    return DIALECTS.keys()


def check(arguments: argparse.Namespace) -> int:
    """``understudy check [FILE]``: problems and warnings as ``path:line``, then what the pool file means."""
    warnings: list[Problem] = []
    try:
        path: Path = arguments.file or default_pool_path(os.environ)
        missing = not path.exists()
        pool = load(path, os.environ, known_dialects(), warnings)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2 if missing else 1
    for warning in warnings:
        print(f"{warning} (warning)", file=sys.stderr)
    for surprise in lint(pool):
        print(f"{path}: {surprise} (warning)", file=sys.stderr)
    print("\n".join(summary(pool)))
    return 0


def summary(pool: Pool) -> list[str]:
    """The routes of a pool in the order in which they are asked, with their candidates; no secrets."""
    counts = f"{len(pool.upstreams)} upstreams, {len(pool.credentials)} credentials, {len(pool.routes)} routes"
    lines = [f"{pool.path}: {counts}"]
    for route in sorted(pool.routes.values(), key=_order, reverse=True):
        lines.append(f"  {route.pattern} ({route.strategy}, at most {route.budget.attempts} attempts)")
        lines.extend(f"    {_described(choice)}" for choice in route.choices)
    return lines


def _order(route: Route) -> tuple[int, int, int, int]:
    return specificity(route.pattern)


def _described(choice: Choice) -> str:
    upstream = choice.credential.upstream
    model = choice.model or "the alias as it is"
    return f"{choice.credential.name}: {model} at {upstream.url} ({upstream.dialect})"
