"""The work of ``understudy replay`` and ``understudy explain``: files in, lines out, problems told at the end.

Nothing here uses the network, and no secret is looked at: what is played needs none.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from understudy.authoring import load_rules
from understudy.codec.yaml_nodes import ConfigError
from understudy.config import default_pool_path, load
from understudy.dialects import DIALECTS
from understudy.drill import Behaviour
from understudy.flows import FlowFileError, Masks, SavedFlow, read_flows
from understudy.model import Credential, Key, Pool, Route, counted, printable
from understudy.rules import Ruleset
from understudy.whatif.narrative import listing, story
from understudy.whatif.ordering import Arrangement, Counts
from understudy.whatif.progress import Progress
from understudy.whatif.recorder import RecordedCall, Recorder
from understudy.whatif.report import failed_somewhere, json_of, lines_of
from understudy.whatif.result import Played
from understudy.whatif.simulation import WhatIf
from understudy.whatif.summary import Summary

SEEN = 10
"""How many flows are told that one beginning of an id could mean."""


class _Offline(dict[str, str]):
    """The environment that a pool file's secrets come from, where none is ever asked for."""

    def get(self, key: str, default: Any = None) -> str:
        """Something for every variable but HOME: the real ones are not looked at, and may be missing."""
        return os.environ.get(key, "") if key == "HOME" else "not-needed-offline"


def _pool(named: Path | None) -> Pool | None:
    """The pool; None where none was named and there is none. Raises ConfigError."""
    path = named or default_pool_path(os.environ)
    if named is None and not path.exists():
        return None
    return _with_all_secrets(load(path, _Offline(), DIALECTS))


def _with_all_secrets(pool: Pool) -> Pool:
    """The same pool with each credential in use: a secret file may be missing where recorded calls are looked at."""

    def found(credential: Credential) -> Credential:
        return replace(credential, missing="")

    def with_them(route: Route) -> Route:
        return replace(route, choices=tuple(replace(each, credential=found(each.credential)) for each in route.choices))

    return replace(
        pool,
        credentials={name: found(each) for name, each in pool.credentials.items()},
        routes={name: with_them(each) for name, each in pool.routes.items()},
    )


@dataclass
class _Setting:
    """What both commands work with."""

    pool: Pool
    ruleset: Ruleset
    masks: Masks
    recorder: Recorder
    problems: list[str]
    """What is wrong with the files, told at the end: what came before it is good."""
    bar: Progress | None = None

    def flows(self, name: str) -> Iterator[SavedFlow]:
        """The flows of a file, with a bar while a large one is read."""
        file: BinaryIO
        try:
            with contextlib.ExitStack() as opened:
                file = sys.stdin.buffer if name == "-" else opened.enter_context(open(name, "rb"))
                size = 0 if name == "-" else os.fstat(file.fileno()).st_size
                self.bar = Progress(sys.stderr, size)
                opened.callback(self.bar.clear)
                yield from read_flows(file, self.bar.at)
        except (OSError, FlowFileError) as error:
            self.problems.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")

    def say(self, text: str) -> None:
        """Print a text in which nothing is left that is a secret, or looks like one."""
        self._print(self.masks.clean(text))

    def say_as_json(self, value: object) -> None:
        """The same for a value, on one line."""
        self._print(json.dumps(self.masks.clean_all(value), ensure_ascii=False))

    def _print(self, text: str) -> None:
        if self.bar is not None and sys.stdout.isatty():
            self.bar.clear()
        print(text)

    def status(self) -> int:
        """Tell the problems; the exit status."""
        for problem in self.problems:
            print(f"understudy: {self.masks.clean(problem)}", file=sys.stderr)
        return 1 if self.problems else 0


def _setting(arguments: argparse.Namespace, *, needs_pool: bool) -> _Setting | int:
    """The setting, or the exit status when there is none; why has been said then."""
    try:
        pool = _pool(arguments.pool)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    if pool is None and needs_pool:
        path = default_pool_path(os.environ)
        print(f"understudy: there is no pool file at {path}: write one, or name one with --pool", file=sys.stderr)
        return 2
    loaded = load_rules([*arguments.rules, *(map(Path, pool.rules) if pool else ())])
    if loaded is None:
        return 1
    pool, ruleset, masks = pool or Pool(), Ruleset(*loaded), Masks()
    return _Setting(pool, ruleset, masks, Recorder(pool, ruleset, masks), [])


type Failing = Callable[[Pool], tuple[Key, Behaviour]]
"""What fails on purpose, read with a pool. Raises ValueError with what to write instead."""


def replay(arguments: argparse.Namespace, failing: Failing | None = None) -> int:
    """``understudy replay``: see docs/saved-flows.md. ``failing``: with ``--drill``."""
    setting = _setting(arguments, needs_pool=True)
    if isinstance(setting, int):
        return setting
    counts, files = Counts(), arguments.files
    try:
        whatif = WhatIf(setting.pool, setting.ruleset, failing=failing(setting.pool) if failing else None)
    except ValueError as error:
        print(f"understudy replay: {error}", file=sys.stderr)
        return 2
    summary = Summary(counts, len(files), drill=whatif.drill)
    streams = [whatif.witness(Arrangement(setting.recorder, counts).calls(setting.flows(name), name)) for name in files]
    for played in whatif.play(heapq.merge(*streams, key=lambda call: call.began)):
        summary.add(played)
        if arguments.only_errors and not failed_somewhere(played):
            continue
        if arguments.json:
            setting.say_as_json(json_of(played))
        else:
            setting.say("\n".join(lines_of(played, several=len(files) > 1)))
    if arguments.json:
        setting.say_as_json(summary.as_json())
    else:
        setting.say("\n".join(["", *summary.lines()]) if sum(summary.ends.values()) else "\n".join(summary.lines()))
    return setting.status()


def explain(arguments: argparse.Namespace) -> int:
    """``understudy explain``: see docs/saved-flows.md."""
    setting = _setting(arguments, needs_pool=False)
    if isinstance(setting, int):
        return setting
    if arguments.flow is None:
        return _list(setting, arguments.file)
    wanted: str = arguments.flow
    seen: dict[int, SavedFlow] = {}

    def watched() -> Iterator[SavedFlow]:
        for flow in setting.flows(arguments.file):
            if flow.is_called(wanted) and len(seen) < SEEN:
                seen[flow.number] = flow
            yield flow

    whatif = WhatIf(setting.pool, setting.ruleset)
    calls = whatif.witness(Arrangement(setting.recorder).calls(watched(), arguments.file))
    found: dict[int, Played] = {}
    for played in whatif.play(calls):
        if seen.keys() & {played.call.flow, *(attempt.flow for attempt in played.call.attempts)}:
            found[played.call.flow] = played
            if wanted.isdecimal():
                break
    if len(found) == 1:
        (played,) = found.values()
        setting.say("\n".join(story(played, setting.ruleset, setting.pool.path)))
        return setting.status()
    status = setting.status()
    file = arguments.file
    if len(seen) > 1:
        numbers = ", ".join(f"#{number}" for number in seen)
        what = f"more than one id begins with {wanted!r} ({numbers}): write more of it, or the number"
    elif seen:
        (flow,) = seen.values()
        where = setting.masks.clean(printable(f"{flow.method} {flow.host}{flow.path.partition('?')[0]}"))
        what = f"#{flow.number} is no model call that is known here: {where}"
    else:
        what = f"there is no flow {wanted!r} in it"
    print(f"understudy: {file}: {what}: see `understudy explain {file}`", file=sys.stderr)
    return status or 2


def _list(setting: _Setting, file: str) -> int:
    others = calls = 0
    for flow in setting.flows(file):
        made = setting.recorder.read(flow, file)
        if isinstance(made, RecordedCall):
            calls += 1
            setting.say(listing(made, setting.ruleset))
        elif made is None:
            others += 1
    if others:
        are = "that is no model call" if others == 1 else "that are no model calls"
        setting.say(f"and {counted(others, 'flow')} {are} of a known dialect")
    if calls:
        setting.say(f"`understudy explain {file} NUMBER` tells the story of one")
    return setting.status()
