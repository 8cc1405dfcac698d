"""``understudy rules new``: a draft of a rule from a reply that somebody saved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator

from understudy.flowfile import FlowFileError, read_flows
from understudy.masks import Masks
from understudy.newrule import NewRuleError, check_identity, failed, find_matches, make_draft, with_masks, write_draft
from understudy.replyfile import HEAD, Saved, holds_flows, of_flow
from understudy.rulearguments import load_rules, replies_in, usage
from understudy.ruledraft import DraftError
from understudy.savedflow import SavedFlow


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
