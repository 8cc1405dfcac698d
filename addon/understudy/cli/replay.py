"""``understudy replay`` and ``understudy explain``: what saved flows say, and what would have happened with them.

Exit status as for the other commands: 0 all is well, 1 a file has problems, 2 used wrongly or nothing found.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.cli import control

if TYPE_CHECKING:
    from understudy.drill import Behaviour
    from understudy.model import Key, Pool

SAVED = {".mitm", ".mitmproxy", ".flow", ".flows", ".dump", ".har", ".zhar"}
"""How the names of files with flows end; no model's name does."""


def replay(arguments: argparse.Namespace) -> int:
    from understudy.whatif import runner  # here: mitmproxy takes a second to load

    return runner.replay(arguments, partial(_failing, arguments.drill) if arguments.drill is not None else None)


def _failing(written: str, pool: Pool) -> tuple[Key, Behaviour]:
    """What ``--drill`` says. Raises ValueError with what to write instead."""
    what, equals, kind = written.rpartition("=")
    if not equals:
        raise ValueError(f"`--drill {written[:60]}` names no way to fail: write `--drill 'upstream openai=dead'`")
    from understudy.control.target import take_target  # here: only what the command needs is loaded
    from understudy.drill import read_behaviour

    target, rest = take_target(what.split(), pool)
    if rest:
        raise ValueError(f"`{rest[0][:60]}` is too much: write `--drill 'upstream openai=dead'`")
    return target, read_behaviour(kind)


def explain(arguments: argparse.Namespace) -> int:
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
    from understudy.whatif import runner  # here, too

    return runner.explain(arguments)
