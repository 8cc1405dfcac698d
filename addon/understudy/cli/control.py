"""``understudy status|pick|learned|usage|suspend|resume|probe|reload``: commands of a running proxy, from the shell.

Exit status as for the other commands: 0 done, 1 the proxy says why not, 2 used wrongly, or there is no proxy to ask.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from understudy.control.client import ControlClientError, ask, running
from understudy.control.registry import OWN_PROXY, running_proxies
from understudy.control.workers import groups

NO_PROXY = (
    "no proxy of yours is running with understudy: start one with `understudy web` or `understudy dump`. "
    "(One with pool_control=false, or with another XDG_RUNTIME_DIR, is not found.)"
)


WATCH_SECONDS = 1.0
"""Seconds between two looks of ``status --watch``."""
CLEAR = "\033[H\033[2J"


def run(arguments: argparse.Namespace) -> int:
    """Ask the running proxy, and print what it says; with ``--watch`` until it is interrupted, or the proxy ends."""
    if not getattr(arguments, "watch", False):
        return _ask(arguments, "")[0]
    version, clear = "", sys.stdout.isatty() and not arguments.json
    while True:
        # On a terminal the times count down; elsewhere only what has changed is worth a line.
        if clear:
            print(CLEAR, end="")
        status, version = _ask(arguments, "" if clear else version)
        if status:
            return status
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)


def _ask(arguments: argparse.Namespace, known: str) -> tuple[int, str]:
    """The exit status, and the version of what was said; what is ``known`` already is not said again."""
    words = [*getattr(arguments, "words", []), *_options(arguments)]
    if arguments.command == "usage":
        words = [arguments.since, arguments.by]
    try:
        chosen = _choose(arguments.pid)
        if len(chosen) > 1:
            return _ask_all(chosen, arguments.command, words, known, as_json=arguments.json)
        [path] = chosen.values()
        reply = ask(path, arguments.command, words)
    except (ControlClientError, OSError) as error:
        print(f"understudy: {error}", file=sys.stderr)
        return 2, ""
    if "error" in reply:
        told = f"understudy: {str(reply['error']).removeprefix('understudy: ')}"
        print(json.dumps(reply) if arguments.json else told, file=sys.stderr)
        return 1, ""
    version = _version(reply)
    if not known or version != known:
        print(json.dumps(reply.get("result"), indent=2) if arguments.json else "\n".join(reply.get("lines", [])))
    return 0, version


def _options(arguments: argparse.Namespace) -> list[str]:
    """The options of a drill as the proxy reads them."""
    given = vars(arguments)
    return [
        *(["--for", given["share"]] if given.get("share") else []),
        *(["--session", given["session"]] if given.get("session") else []),
        *(["--everyone"] if given.get("everyone") else []),
    ]


def _version(reply: Mapping[str, Any]) -> str:
    """The version of what a proxy said, "" where it has none."""
    result = reply.get("result")
    return str(result.get("version", "")) if isinstance(result, dict) else ""


def _ask_all(
    chosen: Mapping[int, Path], command: str, words: Sequence[str], known: str, *, as_json: bool
) -> tuple[int, str]:
    """Ask the workers of one `understudy serve`, one after the other. What all say alike is printed once.

    As :func:`_ask`: the version is that of all workers together.
    """
    replies: dict[int, Mapping[str, Any]] = {}
    for pid, path in chosen.items():
        try:
            replies[pid] = ask(path, command, words)
        except ControlClientError as error:
            replies[pid] = {"error": str(error)}
    status = 1 if any("error" in reply for reply in replies.values()) else 0
    if command == "usage" and not status:
        # Each worker has counted its own calls: together they are what was asked for.
        from understudy.control.usage_report import merged, of_json, usage_lines  # here: one proxy needs no sum

        report = merged([of_json(reply["result"]) for reply in replies.values()])
        print(json.dumps(asdict(report), indent=2) if as_json else "\n".join(usage_lines(report)))
        return status, ""
    version = " ".join(f"{pid}:{_version(reply)}" for pid, reply in sorted(replies.items()))
    if known and not status and version == known:
        return status, version
    if as_json:
        told = [
            {"pid": pid, **{name: reply[name] for name in ("result", "error") if name in reply}}
            for pid, reply in replies.items()
        ]
        print(json.dumps({"workers": told}, indent=2))
        return status, version
    texts: dict[str, list[int]] = {}
    for pid, reply in replies.items():
        lines = [f"error: {reply['error']}"] if "error" in reply else reply.get("lines", [])
        texts.setdefault("\n".join(lines), []).append(pid)
    for text, pids in texts.items():
        if len(texts) > 1:
            print(f"worker{'s' if len(pids) > 1 else ''} with process id {', '.join(map(str, pids))}:")
        print(text)
    return status, version


def _choose(pid: int | None) -> Mapping[int, Path]:
    """The sockets to ask, by process id: of several proxies, that which this shell or tool was led to.

    The workers of one `understudy serve` go together, unless one of them is named.

    Raises ControlClientError, and OSError where there is no folder for sockets.
    """
    if os.name != "posix":
        raise ControlClientError("this needs Unix domain sockets: use the commands in mitmproxy, such as pool.status")
    found = running(os.environ)
    workers = groups(os.environ, found) if found else {}
    if pid is None and len(workers) == 1 and len(found) == len(next(iter(workers.values()))):
        return found
    if pid is not None and pid in workers:
        return {each: found[each] for each in workers[pid]}
    if pid is None and len(found) > 1 and (here := os.environ.get(OWN_PROXY)):
        pid = next((each.pid for each in running_proxies(os.environ) if each.url == here and each.pid in found), None)
    if pid is None and len(found) > 1:
        # A person with a proxy of their own does not mean the demonstration.
        shown = {each.pid for each in running_proxies(os.environ) if each.demonstration}
        found = {each: path for each, path in found.items() if each not in shown} or found
    if pid is None and len(found) == 1:
        return found
    if pid in found:
        return {pid: found[pid]}
    if not found:
        raise ControlClientError(NO_PROXY)
    listed = "\n".join(f"  --pid {each}  {_about(path)}" for each, path in sorted(found.items()))
    what = "several proxies are running" if pid is None else f"there is no proxy with process id {pid}"
    raise ControlClientError(f"{what}: say which one\n{listed}")


def _about(path: Path) -> str:
    """A proxy in a few words: its pool file."""
    try:
        result = ask(path, "status", []).get("result") or {}
    except ControlClientError:
        return "does not answer"
    return str(result.get("pool") or "no pool")
