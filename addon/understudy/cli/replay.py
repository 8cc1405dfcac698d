"""``understudy replay`` and ``understudy explain``: what saved flows say, and what would have happened with them.

Exit status as for the other commands: 0 all is well, 1 a file has problems, 2 used wrongly or nothing found.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.cli import control
from understudy.control import take_target

if TYPE_CHECKING:
    from understudy.drill import Behaviour
    from understudy.model import Key, Pool

SAVED = {".mitm", ".mitmproxy", ".flow", ".flows", ".dump", ".har", ".zhar"}
"""How the names of files with flows end; no model's name does."""


def add(commands: Any) -> None:
    """Add both to the sub-commands of ``understudy``."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--pool", type=Path, metavar="FILE", help="default: the one the proxy would use")
    shared.add_argument(
        "--rules", action="append", default=[], type=Path, metavar="FOLDER", help="as pool_rules; may be repeated"
    )
    command = commands.add_parser(
        "replay", parents=[shared], help="play saved calls against the present pool file and rules, without any request"
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="a flow dump of mitmproxy or a HAR; - is stdin")
    command.add_argument("--json", action="store_true", help="one JSON object per call, and one for the sum")
    command.add_argument("--only-errors", action="store_true", help="only the calls in which an error plays a part")
    command.add_argument(
        "--drill",
        metavar="WHAT=KIND",
        help="as if this had failed all the while: 'upstream openai=dead'; WHAT and KIND as for `understudy drill`",
    )
    command.set_defaults(run=_replay)
    command = commands.add_parser(
        "explain",
        parents=[shared, control.which_proxy()],
        help="who answers for an alias in the running proxy and why; or what happened to a saved call",
    )
    command.add_argument(
        "words",
        nargs="+",
        metavar="WHAT",
        help="ALIAS [DIALECT]: what a tool asks for. FILE [FLOW]: a dump or HAR (- is stdin), and a flow by "
        "its number or id",
    )
    command.set_defaults(run=_explain, command="explain")


def _replay(arguments: argparse.Namespace) -> int:
    from understudy.whatif.runner import replay  # here: mitmproxy takes a second to load

    return replay(arguments, partial(_failing, arguments.drill) if arguments.drill is not None else None)


def _failing(written: str, pool: Pool) -> tuple[Key, Behaviour]:
    """What ``--drill`` says. Raises ValueError with what to write instead."""
    what, equals, kind = written.rpartition("=")
    if not equals:
        raise ValueError(f"`--drill {written[:60]}` names no way to fail: write `--drill 'upstream openai=dead'`")
    from understudy.drill import read_behaviour  # here: only what the command needs is loaded

    target, rest = take_target(what.split(), pool)
    if rest:
        raise ValueError(f"`{rest[0][:60]}` is too much: write `--drill 'upstream openai=dead'`")
    return target, read_behaviour(kind)


def _explain(arguments: argparse.Namespace) -> int:
    named = arguments.words[0]
    if named != "-" and not Path(named).is_file():
        if Path(named).is_dir() or Path(named).suffix.lower() in SAVED or (os.sep in named and Path(named).suffix):
            what = "is a folder" if Path(named).is_dir() else "is not there"
            print(f"understudy explain: {named} {what}: name a flow dump of mitmproxy or a HAR", file=sys.stderr)
            return 2
        return control.run(arguments)
    if len(arguments.words) > 2:
        print(f"understudy: explain takes FILE and FLOW: {arguments.words[2]!r} is too much", file=sys.stderr)
        return 2
    arguments.file, arguments.flow = named, arguments.words[1] if len(arguments.words) == 2 else None
    from understudy.whatif.runner import explain  # here, too

    return explain(arguments)
