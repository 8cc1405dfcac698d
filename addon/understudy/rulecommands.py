"""``understudy rules list|show|test|judge|new``: what people look at, try and write rules with.

Exit status as for the other commands: 0 all is well, 1 a rule or a file has problems, 2 used wrongly or nothing found.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from understudy.actions import Next, action
from understudy.explain import faults, near_misses
from understudy.hints import read_hint
from understudy.ladder import seconds_of
from understudy.refusal import duration
from understudy.replyfile import Saved
from understudy.rulearguments import load_rules, replies_in, usage
from understudy.rulefolder import shipped_folder
from understudy.rulenew import new
from understudy.rules import Label, Ruleset, Status, Verdict


def add(commands: Any) -> None:
    """Add ``rules`` to the sub-commands of ``understudy``."""
    rules = commands.add_parser("rules", help="list, show, test and write rules; judge a saved reply")
    parts = rules.add_subparsers(title="commands", metavar="COMMAND", required=True)
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument(
        "--rules", action="append", default=[], type=Path, metavar="FOLDER", help="as pool_rules; may be repeated"
    )
    reply = argparse.ArgumentParser(add_help=False)
    reply.add_argument(
        "file", nargs="?", metavar="FILE", help="an example, `curl -i` output, HAR, flow dump or body; default: stdin"
    )
    reply.add_argument("--status", type=int, default=400, help="the status of a body that comes without one (400)")
    reply.add_argument("--model", default="", help="the upstream model that was asked for, where the file does not say")
    reply.add_argument("--host", default="", help="the upstream's host, where the file does not say")

    command = parts.add_parser("list", parents=[folders], help="every rule with its label, in the order of asking")
    command.set_defaults(run=_list)
    command = parts.add_parser("show", parents=[folders], help="the file of a rule")
    command.add_argument("id", metavar="ID")
    command.set_defaults(run=_show)
    command = parts.add_parser("test", help="try every example against its rule and against the whole set")
    command.add_argument("path", nargs="*", type=Path, metavar="PATH", help="folders or files (the shipped rules)")
    command.set_defaults(run=_test)
    command = parts.add_parser("judge", parents=[folders, reply], help="say what a saved reply means, and why")
    command.set_defaults(run=_judge)
    command = parts.add_parser("new", parents=[reply], help="write a draft of a rule from a saved reply")
    known = ", ".join(_LABELS)
    command.add_argument("--label", required=True, type=Label, choices=_LABELS, metavar="LABEL", help=known)
    command.add_argument("--id", required=True, metavar="VENDOR/NAME", help="such as acme/model_unsupported")
    command.add_argument("--source", default="", metavar="URL", help="where it is documented or was reported")
    command.add_argument("--folder", type=Path, help="your rule folder; without it the draft is printed")
    command.add_argument("flow", nargs="?", metavar="FLOW", help="of a dump or HAR: number or id (last that failed)")
    command.set_defaults(run=new)


_LABELS = [label for label in Label if label not in (Label.OK, Label.UNKNOWN)]


def _list(arguments: argparse.Namespace) -> int:
    loaded = load_rules(arguments.rules)
    if loaded is None:
        return 1
    for rule in Ruleset(*loaded).rules:
        draft_mark = " (draft)" if rule.status is Status.DRAFT else ""
        print(f"{rule.id:40} {', '.join(rule.labels)}{draft_mark}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    for folder in (*arguments.rules, shipped_folder()):
        for suffix in (".yaml", ".yml", ".py"):
            file = folder / f"{arguments.id}{suffix}"
            if file.resolve().is_relative_to(folder.resolve()) and file.is_file():
                print(f"# {file}")
                print(file.read_text("utf-8", "replace"), end="")
                return 0
    return usage(f"there is no rule {arguments.id!r}: see `understudy rules list`")


def _test(arguments: argparse.Namespace) -> int:
    wanted: set[str] = set()
    folders: list[Path] = []
    for path in arguments.path:
        folder = path.parent.parent if path.is_file() else path
        if path.is_file():
            wanted.add(path.relative_to(folder).with_suffix("").as_posix())
        if folder.resolve() != shipped_folder().resolve() and folder not in folders:
            folders.append(folder)
    loaded = load_rules(folders)
    if loaded is None:
        return 1
    ruleset = Ruleset(*loaded)
    own = loaded[:-1] if folders else loaded
    tested = [rule for rules in own for rule in rules if not wanted or rule.id in wanted]
    problems = list(faults(ruleset, tuple(tested)))
    for problem in problems:
        print(problem, file=sys.stderr)
    examples = sum(len(rule.matches) + len(rule.near_misses) for rule in tested)
    print(f"{len(tested)} rules, {examples} examples, {len(problems)} problems")
    return 1 if problems else 0


def _judge(arguments: argparse.Namespace) -> int:
    loaded = load_rules(arguments.rules)
    if loaded is None:
        return 1
    replies = replies_in(arguments)
    if replies is None:
        return 2
    ruleset = Ruleset(*loaded)
    for number, saved in enumerate(replies):
        if number:
            print()
        print(saved.masked("\n".join(judged(ruleset, saved))))
    return 0


def judged(ruleset: Ruleset, saved: Saved) -> list[str]:
    """What is said about one reply, line by line."""
    verdict = ruleset.judge(saved.reply)
    lines = [saved.where] if saved.where else []
    lines += [f"label:    {verdict.label}", f"rule:     {verdict.rule}", f"evidence: {verdict.evidence}"]
    lines.append(f"action:   {described(verdict, saved)}")
    lines += [f"draft:    {said}" for said in verdict.drafts]
    voices = {voice.label: voice.rule for voice in ruleset.voices(saved.reply)}
    if len(voices) > 1:
        each = ", ".join(f"{rule} ({label})" for label, rule in voices.items())
        lines.append(f"conflict: {each}: let one veto the other with `unless: {{rule: ...}}`")
    for miss in near_misses(ruleset, saved.reply, verdict):
        lines.append(f"nearly:   {miss.rule} ({', '.join(miss.labels)}): {miss.why}")
    return lines


def described(verdict: Verdict, saved: Saved) -> str:
    """What a verdict leads to when no route says otherwise."""
    default, then = action(verdict), verdict.then
    goes_on = then.replay if then.replay is not None else default.next is not Next.NOBODY
    if not goes_on:
        parts = ["released as it is"]
    elif default.next is Next.OTHER_MODEL:
        parts = ["replayed to a candidate with another upstream model"]
    else:
        parts = ["replayed to the next candidate"]
    if then.retry_same or (then.retry_same is None and default.repeat):
        parts.insert(0, "the same candidate once more")
    if default.scope is not None:
        seconds = seconds_of(default.steps, 0)
        hint = read_hint(saved.reply, time.time()) if default.hint_cap else None
        if hint is not None:
            seconds = min(hint.seconds, default.hint_cap)
        stated = f" (stated by {hint.source})" if hint is not None else ""
        parts.append(f"the {default.scope} suspended for {duration(seconds)}{stated}")
    else:
        parts.append("nothing suspended")
    return ", ".join(parts)
