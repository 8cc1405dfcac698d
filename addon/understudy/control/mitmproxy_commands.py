"""The commands in mitmproxy's own command system: for its console, mitmweb's command bar, its API and key bindings.

``Commands`` asks and tells the running proxy; ``FlowCommands`` makes a rule's draft from flows that people look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mitmproxy import command, exceptions, flow, http, types

from understudy.authoring import (
    DraftError,
    NewRuleError,
    failed,
    find_matches,
    make_draft,
    of_flow,
    with_masks,
    write_draft,
)
from understudy.control.control import Control
from understudy.control.result_text import as_json, as_lines
from understudy.control.results import Result
from understudy.control.target import ControlError
from understudy.flows import Masks, SavedFlow, flow_values
from understudy.model import Label
from understudy.rules import Ruleset

PREFIX = "pool."
WHO = "a command in the proxy"


class Commands:
    """``pool.*``. All of them return lines, but for ``pool.json``, which returns the same as JSON."""

    def __init__(self, control: Control) -> None:
        self.control = control

    @command.command("pool.status")
    def status(self) -> Sequence[str]:
        """What is out of rotation, until when and why, the earliest due first."""
        return self._lines("status")

    @command.command("pool.explain")
    def explain(self, *alias: str) -> Sequence[str]:
        """Who can answer for ALIAS [DIALECT] [for USER], in order; who is skipped, why, until when, what clears it."""
        return self._lines("explain", *alias)

    @command.command("pool.pick")
    def pick(self, *alias: str) -> Sequence[str]:
        """Who would serve ALIAS [DIALECT] [for USER] now; no turn of a round robin is used up."""
        return self._lines("pick", *alias)

    @command.command("pool.learned")
    def learned(self, *what: str) -> Sequence[str]:
        """Whose fault replies were that no rule explains; show ID, forget ID or all, draft ID LABEL."""
        return self._lines("learned", *what)

    @command.command("pool.usage")
    def usage(self, *what: str) -> Sequence[str]:
        """Tokens by candidate, day or session: today, 7d, 2026-11-29 or all, then candidate, day or session."""
        return self._lines("usage", *what)

    @command.command("pool.suspend")
    def suspend(self, *what: str) -> Sequence[str]:
        """Take CREDENTIAL MODEL, credential NAME or upstream NAME out of rotation, for seconds, 10m or 2h (1h)."""
        return self._lines("suspend", *what)

    @command.command("pool.resume")
    def resume(self, *what: str) -> Sequence[str]:
        """Put CREDENTIAL MODEL, credential NAME or upstream NAME with all that is behind it back, or all."""
        return self._lines("resume", *what)

    @command.command("pool.probe")
    def probe(self, *what: str) -> Sequence[str]:
        """Let the next request find out whether CREDENTIAL MODEL, credential NAME or upstream NAME is back."""
        return self._lines("probe", *what)

    @command.command("pool.drill")
    def drill(self, *what: str) -> Sequence[str]:
        """WHAT KIND [TIME]: let it fail on purpose, for 5m or at most 1h; stop; without words: how the drill goes."""
        return self._lines("drill", *what)

    @command.command("pool.reload")
    def reload(self) -> Sequence[str]:
        """Read the pool file again; with an error the last good pool stays in use."""
        return self._lines("reload")

    @command.command("pool.json")
    def json(self, name: str, *words: str) -> str:
        """The result of another of these commands as JSON: pool.json explain gpt-5."""
        return as_json(self._run(name.removeprefix(PREFIX), words))

    def _lines(self, name: str, *words: str) -> list[str]:
        return as_lines(self._run(name, words), PREFIX)

    def _run(self, name: str, words: Sequence[str]) -> Result:
        try:
            return self.control.run(name, words, WHO)
        except ControlError as error:
            raise exceptions.CommandError(str(error)) from None


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
