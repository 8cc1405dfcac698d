"""``understudy rules list|show|test|judge|new``: what people look at, try and write rules with."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from understudy.authoring import (
    HEAD,
    DraftError,
    NewRuleError,
    Saved,
    check_identity,
    failed,
    find_matches,
    holds_flows,
    load_rules,
    make_draft,
    of_flow,
    replies_in,
    usage,
    with_masks,
    write_draft,
)
from understudy.codec.time_text import duration
from understudy.codec.yaml_nodes import RuleError
from understudy.failover import Next, action
from understudy.flows import FlowFileError, Masks, SavedFlow, read_flows
from understudy.model import Verdict, counted
from understudy.replies import read_hint
from understudy.rules import (
    Rule,
    Ruleset,
    Status,
    faults,
    heard,
    load_folder,
    load_vocabulary,
    near_misses,
    shipped_folder,
)
from understudy.suspensions import seconds_of


def list_rules(arguments: argparse.Namespace) -> int:
    loaded = load_rules(arguments.rules)
    if loaded is None:
        return 1
    for rule in Ruleset(*loaded).rules:
        draft_mark = " (draft)" if rule.status is Status.DRAFT else ""
        print(f"{rule.id:40} {', '.join(rule.labels)}{draft_mark}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    for folder in (*arguments.rules, shipped_folder()):
        for suffix in (".yaml", ".yml", ".py"):
            file = folder / f"{arguments.id}{suffix}"
            if file.resolve().is_relative_to(folder.resolve()) and file.is_file():
                print(f"# {file}")
                print(file.read_text("utf-8", "replace"), end="")
                return _show_meaning(arguments)
    return usage(f"there is no rule {arguments.id!r}: see `understudy rules list`")


def _show_meaning(arguments: argparse.Namespace) -> int:
    """What the names in a rule's phrases stand for."""
    try:
        vocabulary = load_vocabulary(arguments.rules)
        loaded = [rule for folder in (*arguments.rules, shipped_folder()) for rule in load_folder(folder)]
    except RuleError as error:
        print(error, file=sys.stderr)
        return 1
    rule = next((rule for rule in loaded if rule.id == arguments.id), None)
    told: dict[str, None] = {}
    for phrase in rule.phrases if isinstance(rule, Rule) else ():
        told.update(dict.fromkeys(vocabulary.meaning(phrase)))
    if told:
        print('\n# The names in its phrases (rules/README.md, "The language of phrases"):')
    for line in told:
        print(f"#   {line}")
    return 0


def test(arguments: argparse.Namespace) -> int:
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
    vocabulary = load_vocabulary(folders)
    files = {str(folder / "vocabulary.yaml") for folder in folders or [shipped_folder()]}
    entries = [entry for entry in vocabulary.entries if entry.path in files and not wanted]
    problems = [*vocabulary.faults(entries), *faults(ruleset, tuple(tested))]
    for problem in problems:
        print(problem, file=sys.stderr)
    examples = sum(len(rule.matches) + len(rule.near_misses) for rule in tested)
    counts = [(len(tested), "rule"), (examples, "example"), (len(entries), "phrase"), (len(problems), "problem")]
    print(", ".join(counted(number, noun) for number, noun in counts if number or noun != "phrase"))
    return 1 if problems else 0


def judge(arguments: argparse.Namespace) -> int:
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
    lines.append(f"certain:  {'yes' if verdict.certain else 'no (open): only its status, its type or nothing says so'}")
    lines += [f"heard:    {said}" for said in heard(ruleset, saved.reply, verdict)]
    lines += [f"draft:    {said}" for said in verdict.drafts]
    voices = {voice.label: voice.rule for voice in ruleset.voices(saved.reply)}
    if len(voices) > 1:
        each = ", ".join(f"{rule} ({label})" for label, rule in voices.items())
        lines.append(f"conflict: {each}: let one veto the other with `unless: {{rule: ...}}`")
    for miss in near_misses(ruleset, saved.reply, verdict):
        lines.append(f"near:     {miss.rule} ({', '.join(miss.labels)}): {miss.why}")
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


def new(arguments: argparse.Namespace) -> int:
    """``understudy rules new``: see `rules/README.md`."""
    folders = load_rules([arguments.folder] if arguments.folder is not None and arguments.folder.is_dir() else [])
    if folders is None:
        return 1
    masks, again, chosen = Masks(), None, 0
    try:
        check_identity(arguments.id)
        again = _flows_in(arguments.file)
        if again is not None:
            saved, chosen = _choose(again(), arguments.flow, masks)
        else:
            replies = replies_in(arguments)
            if replies is None:
                return 2
            if arguments.flow is not None:
                return usage("FLOW is for a FILE that is a dump or a HAR: leave it out")
            saved = replies[-1]
        text = make_draft(saved, arguments.id, arguments.label, arguments.source)
        # What is on standard output without a folder is the draft and nothing else.
        beside = sys.stdout if arguments.folder is not None else sys.stderr
        if arguments.folder is None:
            print(text, end="")
        else:
            file = write_draft(text, arguments.folder, arguments.id)
            print(f"{file}: a draft; finish it, then run `understudy rules test {arguments.folder}`")
        if again is not None:
            others = (flow for flow in again() if flow.number != chosen)
            found = find_matches(text, arguments.id, folders, others, masks)
            said = [f"it was made of {saved.masked(saved.where)}", *found.lines(f"in {arguments.file}")]
            print("\n".join(said), file=beside)
    except DraftError as error:
        print(f"no rule can be made of this reply: {error}", file=sys.stderr)
        return 1
    except NewRuleError as error:
        return usage(str(error))
    except (OSError, FlowFileError) as error:
        return usage(f"{arguments.file}: {error.strerror if isinstance(error, OSError) else error}")
    return 0


def _flows_in(file: str | None) -> Callable[[], Iterator[SavedFlow]] | None:
    """Reads the flows of a dump or a HAR, as often as it is called; None for a file of another kind. Raises OSError."""
    if file in (None, "-"):
        return None

    def flows() -> Iterator[SavedFlow]:
        with open(file, "rb") as opened:
            yield from read_flows(opened)

    with open(file, "rb") as opened:
        return flows if holds_flows(opened.read(HEAD)) else None


def _choose(flows: Iterable[SavedFlow], wanted: str | None, masks: Masks) -> tuple[Saved, int]:
    """The reply that is wanted, the last that failed where none is named, and its number. Raises NewRuleError."""
    found: dict[int, SavedFlow] = {}
    for flow in flows:
        masks.learn_flow(flow)
        if flow.is_called(wanted) if wanted is not None else failed(flow):
            if wanted is None:
                found.clear()
            if len(found) < 2:
                found[flow.number] = flow
    if not found:
        raise NewRuleError(f"there is no flow {wanted!r} in it" if wanted is not None else "no reply in it has failed")
    if len(found) > 1:
        raise NewRuleError(f"more than one id begins with {wanted!r}: {', '.join(f'#{number}' for number in found)}")
    (flow,) = found.values()
    saved = of_flow(flow)
    if saved is None:
        raise NewRuleError(f"flow {flow.number} has no reply: {masks.clean(flow.error) or 'none was recorded'}")
    return with_masks(saved, masks), flow.number
