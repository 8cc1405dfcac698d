"""``understudy check`` and ``understudy init``: what a pool file says, and a first one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from understudy.codec.yaml_nodes import ConfigError, Problem
from understudy.config import default_pool_path, init_pool, lint, load
from understudy.config.secrets import CommandSecret
from understudy.dialects import DIALECTS, Dialect
from understudy.model import Choice, Mode, Pool, Route, counted, specificity


def known_dialects() -> Mapping[str, Dialect]:
    """The dialects that ``dialect:`` may name."""
    return DIALECTS


def init(arguments: argparse.Namespace) -> int:
    """``understudy init [FILE]``: a first pool file."""
    return init_pool.init(arguments.file, os.environ, add=arguments.add)


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
    if pool.rules:
        from understudy.authoring import load_rules  # here: most pool files name no folder of rules

        if load_rules([Path(folder) for folder in pool.rules]) is None:
            return 1
    for warning in warnings:
        print(f"{warning} (warning)", file=sys.stderr)
    for surprise in lint(pool):
        print(f"{path}: {surprise} (warning)", file=sys.stderr)
    print("\n".join(summary(pool)))
    return _drilled(pool) if arguments.drill else 0


def _drilled(pool: Pool) -> int:
    """What ``--drill`` shows, and the exit status: 1 where a single failure leaves a route without a candidate."""
    from understudy.config import spoken  # here: only what is asked for is loaded
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


def _order(route: Route) -> tuple[int, int, int, int]:
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
