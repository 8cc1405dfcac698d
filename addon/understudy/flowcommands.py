"""Commands of mitmproxy about flows that people look at: from a reply to the draft of a rule.

They work wherever commands do: in mitmproxy's console, in mitmweb's command bar, and from other addons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mitmproxy import command, exceptions, flow, http, types

from understudy.flowfile import flow_values
from understudy.masks import Masks
from understudy.newrule import NewRuleError, failed, find_matches, make_draft, with_masks, write_draft
from understudy.replyfile import of_flow
from understudy.ruledraft import DraftError
from understudy.rules import Label, Ruleset
from understudy.savedflow import SavedFlow

LOOKED_AT = 5000
"""Flows of the view that a draft is tried on, the newest ones."""
NO_PATH = types.Path("")
NO_FOLDER = (
    "no rule folder of yours is in use: set pool_rules to one that only you can write to, or name a folder at the end"
)


class FlowCommands:
    """``folders``: the rule folders in use; ``ruleset``: the rules; ``flows``: those that are looked at."""

    def __init__(
        self,
        folders: Callable[[], Sequence[Path]],
        ruleset: Callable[[], Ruleset],
        flows: Callable[[], Iterable[flow.Flow]],
    ) -> None:
        self.folders, self.ruleset, self.flows = folders, ruleset, flows

    @command.command("pool.rule.labels")
    def labels(self) -> Sequence[str]:
        """The labels that a rule can give."""
        return [label.value for label in Label if label not in (Label.OK, Label.UNKNOWN)]

    @command.command("pool.rule.new")
    @command.argument("label", type=types.Choice("pool.rule.labels"))
    def new(self, flow: flow.Flow, label: str, identity: str, folder: types.Path = NO_PATH) -> Sequence[str]:
        """Write the draft of a rule, VENDOR/NAME, from a flow's reply; say where, and which other flows it matches.

        The draft goes to a folder of yours: the first one of pool_rules, unless another is named at the end.
        """
        if not isinstance(flow, http.HTTPFlow):
            raise exceptions.CommandError("this flow is not HTTP: choose a model call that failed")
        if not folder and not self.folders():
            raise exceptions.CommandError(NO_FOLDER)
        place = Path(folder).expanduser() if folder else self.folders()[0]
        masks, others = Masks(), []
        for number, other in enumerate(list(self.flows())[-LOOKED_AT:], 1):
            if isinstance(other, http.HTTPFlow):
                values = _learnt(other, number, masks)
                if other is not flow and failed(values):
                    others.append(values)
        saved = of_flow(_learnt(flow, 0, masks))
        if saved is None:
            raise exceptions.CommandError("this flow has no reply: choose one that has")
        saved = with_masks(saved, masks)
        try:
            text = make_draft(saved, identity, Label(label))
            file = write_draft(text, place, identity)
        except DraftError as error:
            raise exceptions.CommandError(f"no rule can be made of this reply: {error}") from None
        except NewRuleError as error:
            raise exceptions.CommandError(str(error)) from None
        found = find_matches(text, identity, [self.ruleset().rules], others, masks)
        return [f"{file}: a draft; finish it, then run `understudy rules test {place}`", *found.lines("in view")]


def _learnt(flow: http.HTTPFlow, number: int, masks: Masks) -> SavedFlow:
    values = flow_values(flow, number)
    masks.learn_flow(values)
    return values
