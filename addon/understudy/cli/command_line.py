"""The command ``understudy``: what a person can ask without a running proxy.

Each sub-command is one function that takes its parsed arguments and returns the exit status, and one line in
``_parser``; ``arguments.tool`` is what stands after ``--``. Exit status: 0 all is well, 1 there are problems, 2 the
command was used wrongly or names no file.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from understudy import __version__
from understudy.cli import completion, control, replay, rules, serve, service
from understudy.codec.yaml_nodes import ConfigError, Problem
from understudy.config import default_pool_path, lint, load
from understudy.config.secrets import CommandSecret
from understudy.dialects import Dialect
from understudy.model import Choice, Mode, Pool, Route, counted, specificity

if TYPE_CHECKING:
    from understudy.cli.run import Elsewhere

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
        from understudy.cli.launch import launch  # here: mitmproxy takes a second to load

        return launch(PROGRAMS[words[0]], words[1:])
    words, tool = _split(words)
    arguments = _parser().parse_args(words)
    arguments.tool = tool
    try:
        status = arguments.run(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="understudy", description="When a model cannot go on, its understudy does.")
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = commands.add_parser("check", help="check a pool file, and show what it means")
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the one the proxy would use")
    command.add_argument(
        "--drill", action="store_true", help="which single failure leaves a route without a candidate, and what to add"
    )
    command.set_defaults(run=check)
    command = commands.add_parser("init", help="write a pool file from the API keys in the environment, by name only")
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the one the proxy would use")
    command.add_argument("--add", action="store_true", help="add new keys to a pool file that is there")
    command.set_defaults(run=init)
    for name, function, text in (
        ("run", run, "start a tool that goes through the proxy: the one that runs, else one that ends with the tool"),
        ("env", env, "print what a shell has to set to go through the running proxy"),
        ("doctor", doctor, "say what keeps a tool from being served by the pool, and what to do"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--pool", type=Path, metavar="FILE", help="default: the proxy that runs, else the usual file"
        )
        command.set_defaults(run=function)
        if name != "doctor":
            command.add_argument(
                "--proxy",
                metavar="URL",
                help="a proxy on another machine: http://USER:PASSWORD@HOST:8080 (UNDERSTUDY_PROXY_LOGIN: the two)",
            )
            command.add_argument("--ca", type=Path, metavar="FILE", help="its CA certificate, as a PEM file")
            command.add_argument("--fingerprint", default="", metavar="SHA256", help="that of its CA certificate")
        if name == "run":
            command.add_argument(
                "--rules",
                action="append",
                default=[],
                type=Path,
                metavar="FOLDER",
                help="as pool_rules; may be repeated",
            )
    command = commands.add_parser("ca", help="show this user's CA certificate and its fingerprint, for colleagues")
    command.set_defaults(run=ca)
    rules.add(commands)
    control.add(commands)
    replay.add(commands)
    serve.add(commands)
    service.add(commands)
    for name, program in PROGRAMS.items():
        commands.add_parser(name, help=f"start {program} with the addon, on loopback; takes its arguments")
    command = commands.add_parser("completion", help="print a script that completes these commands in a shell")
    command.add_argument("shell", choices=completion.SHELLS)
    command.set_defaults(run=lambda arguments: completion.show(arguments.shell, parser))
    _describe(parser)
    return parser


USAGE = {
    "run": "[options] [--] COMMAND [ARGUMENT ...]",
    "doctor": "[options] [[--] COMMAND]",
    "pick": "[options] ALIAS [DIALECT]",
    "suspend": "[options] WHAT [TIME]",
    "resume": "[options] WHAT | all",
    "probe": "[options] WHAT",
    "drill": "[options] [WHAT KIND [TIME] | stop]",
    "explain": "[options] ALIAS [DIALECT] | FILE [FLOW]",
}
"""What argparse cannot say about the words behind a command."""


def _describe(parser: argparse.ArgumentParser) -> None:
    """Let the help of each command begin with its sentence, and show its words as they are meant."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        told = {each.dest: each.help or "" for each in action._choices_actions}
        for name, command in action.choices.items():
            sentence = told.get(name, "")
            command.description = f"{sentence[:1].upper()}{sentence[1:]}." if sentence else None
            if name in USAGE and command.prog.count(" ") == 1:
                command.usage = f"{command.prog} {USAGE[name]}"
            _describe(command)


def known_dialects() -> Mapping[str, Dialect]:
    """The dialects that ``dialect:`` may name."""
    from understudy.dialects import DIALECTS  # here: starting the command should not load what it may not need

    return DIALECTS


def init(arguments: argparse.Namespace) -> int:
    """``understudy init [FILE]``: a first pool file."""
    from understudy.config import init_pool  # here: only what the command needs is loaded

    return init_pool.init(arguments.file, os.environ, add=arguments.add)


def run(arguments: argparse.Namespace) -> int:
    """``understudy run [--pool FILE] -- COMMAND ...``: become the command, with the proxy in its environment."""
    from understudy.cli import run as runner  # here: only what the command needs is loaded

    if not arguments.tool:
        print("understudy run: which tool? write `understudy run -- COMMAND ...`", file=sys.stderr)
        return 2
    try:
        elsewhere = _elsewhere(arguments)
    except ValueError as error:
        print(f"understudy run: {error}", file=sys.stderr)
        return 2
    return runner.run(arguments.pool, arguments.tool, elsewhere, arguments.rules)


def env(arguments: argparse.Namespace) -> int:
    """``understudy env [--pool FILE]``: the same as lines for a shell."""
    from understudy.cli import run as runner  # here: only what the command needs is loaded

    try:
        return runner.env(arguments.pool, _elsewhere(arguments))
    except ValueError as error:
        print(f"understudy env: {error}", file=sys.stderr)
        return 2


def _elsewhere(arguments: argparse.Namespace) -> Elsewhere | None:
    """The proxy on another machine that was named. Raises ValueError when the options do not go together."""
    from understudy.cli.run import Elsewhere  # here: only what the command needs is loaded

    if arguments.proxy is None:
        if arguments.ca is not None or arguments.fingerprint:
            raise ValueError("--ca and --fingerprint are about a proxy on another machine: name it with --proxy URL")
        return None
    if arguments.pool is not None or getattr(arguments, "rules", []):
        raise ValueError("a proxy on another machine has its own pool file and rules: leave out --pool and --rules")
    return Elsewhere(arguments.proxy, arguments.ca, arguments.fingerprint)


def ca(arguments: argparse.Namespace) -> int:
    """``understudy ca``: the CA certificate of this user's proxies, for colleagues to compare."""
    from understudy.cli import remote_proxy  # here: only what the command needs is loaded

    path = remote_proxy.own_ca("~/.mitmproxy")
    try:
        print(f"{path}: SHA-256 fingerprint {remote_proxy.fingerprint_of(path.read_bytes())}")
    except (OSError, ValueError):
        print(f"understudy ca: there is no CA at {path}: the first start of a proxy makes it", file=sys.stderr)
        return 1
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """``understudy doctor [--pool FILE] [-- COMMAND]``: what is missing, each with the mend."""
    from understudy.cli import doctor as examiner  # here: only what the command needs is loaded

    return examiner.doctor(arguments.pool, arguments.tool, os.environ)


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
    from understudy.authoring import load_rules  # here: only what the command needs is loaded

    if pool.rules and load_rules([Path(folder) for folder in pool.rules]) is None:
        return 1
    for warning in warnings:
        print(f"{warning} (warning)", file=sys.stderr)
    for surprise in lint(pool):
        print(f"{path}: {surprise} (warning)", file=sys.stderr)
    print("\n".join(summary(pool)))
    return _drilled(pool) if arguments.drill else 0


def _drilled(pool: Pool) -> int:
    """What ``--drill`` shows, and the exit status: 1 where a single failure leaves a route without a candidate."""
    from understudy.config import spoken  # here: only what the command needs is loaded
    from understudy.drill import backups

    found = backups.backings(pool, lambda route: list(spoken(route)))
    gaps = backups.advice(found)
    print("\n" + "\n".join([*backups.table(found), "", *(gaps or ["every route survives any single failure"])]))
    return 1 if gaps else 0


def summary(pool: Pool) -> list[str]:
    """The routes of a pool in the order in which they are asked, with their candidates; no secrets."""
    parts = (len(pool.upstreams), "upstream"), (len(pool.credentials), "credential"), (len(pool.routes), "route")
    counts = ", ".join(counted(number, noun) for number, noun in parts)
    lines = [f"{pool.path}: {counts}"]
    for route in sorted(pool.routes.values(), key=_order, reverse=True):
        mode = "" if route.mode is Mode.ENFORCE else f", {route.mode}s only"
        lines.append(f"  {route.pattern} ({route.strategy}, at most {counted(route.budget.attempts, 'attempt')}{mode})")
        lines.extend(f"    {_described(choice)}{_whose(route, choice)}" for choice in route.choices)
    lines.extend(f"  also looks into {each}" for each in pool.intercept)
    lines.extend(f"  rules of {folder}" for folder in pool.rules)
    return lines


def _order(route: Route) -> tuple[int, ...]:
    return specificity(route.pattern)


def _whose(route: Route, choice: Choice) -> str:
    whose = route.whose(choice)
    return f", only for {whose}" if whose else ""


def _described(choice: Choice) -> str:
    upstream = choice.credential.upstream
    model = choice.model or "the alias as it is"
    secret = choice.credential.secret
    rank = f", priority {choice.priority}" if choice.priority != 1 else ""
    rank += f", weight {choice.weight}" if choice.weight != 1 else ""
    note = ", the tool's own credential" if secret.is_client else ""
    if choice.credential.missing:
        note = f", {choice.credential.out_of_use}"
    if isinstance(secret, CommandSecret):
        note = f", secret from {secret}, which was not run"
    return f"{choice.credential.name}: {model} at {upstream.url} ({', '.join(upstream.dialects)}){rank}{note}"
