"""From a saved reply to a rule file of one's own: write the draft where only you can, and say what else it matches.

Used by `understudy rules new` and by the command `pool.rule.new` of mitmproxy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from understudy.authoring.draft import draft
from understudy.authoring.reply_file import Saved, of_flow
from understudy.codec.file_permissions import check_folder_is_private
from understudy.codec.yaml_nodes import ConfigError
from understudy.flows import Masks, SavedFlow
from understudy.model import Label
from understudy.replies import Reply
from understudy.rules import Ruleset, Speaker, parse_rule

SHOWN = 20
"""How many other replies are named that a draft matches."""


class NewRuleError(ValueError):
    """No file was written; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Match:
    """Another reply that the draft matches, and how it is judged without it."""

    where: str
    label: Label
    rule: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.label} by {self.rule}: {self.evidence}"


def check_identity(identity: str) -> str:
    """VENDOR/NAME, which becomes the path of the file. Raises NewRuleError."""
    vendor, slash, name = identity.partition("/")
    if not slash or not all(part.replace("_", "").replace("-", "").isalnum() for part in (vendor, name)):
        raise NewRuleError(f"{identity!r} is no id: write VENDOR/NAME, with letters, digits, - and _")
    return identity


def make_draft(saved: Saved, identity: str, label: Label, source: str = "") -> str:
    """The text of the draft. Raises NewRuleError for the id, DraftError for the reply."""
    return draft(saved, check_identity(identity), label, source)


def write_draft(text: str, folder: Path, identity: str) -> Path:
    """Write the draft below a folder that no other user can write to; never over a file. Raises NewRuleError."""
    file = folder / f"{check_identity(identity)}.yaml"
    try:
        for place in (folder, file.parent):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_folder_is_private(place)
    except ConfigError as error:
        raise NewRuleError(str(error)) from None
    except OSError as error:
        raise NewRuleError(f"{place} cannot be a rule folder ({error.strerror})") from None
    try:
        with open(file, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as written:
            written.write(text)
    except FileExistsError:
        raise NewRuleError(f"{file} is there already: choose another id") from None
    except OSError as error:
        raise NewRuleError(f"{file} cannot be written ({error.strerror})") from None
    return file


def failed(flow: SavedFlow) -> bool:
    """Whether its reply is one that a rule may be asked about. Costs next to nothing for a success."""
    if flow.reply is None:
        return False
    return _NO_RULES.judge(Reply(flow.reply.status, body=flow.reply.body or b"")).label is not Label.OK


_NO_RULES = Ruleset(())


def with_masks(saved: Saved, masks: Masks) -> Saved:
    """The reply, to be masked for every credential that was seen in the flows around it."""
    return replace(saved, secrets=tuple(dict.fromkeys((*saved.secrets, *masks.known))))


@dataclass
class Matches:
    """Which of other flows a draft matches. ``looked_at``: how many failed replies there were."""

    looked_at: int = 0
    count: int = 0
    shown: list[Match] = field(default_factory=list)

    def lines(self, where: str) -> list[str]:
        """What is said about them. ``where``: in the file or the flows that were looked at."""
        others = f"the {self.looked_at} other failed replies {where}"
        if not self.count:
            return [f"it matches none of {others}"]
        lines = [f"it also matches {self.count} of {others}, which are judged without it:"]
        lines += [f"  {match}" for match in self.shown]
        return [*lines, f"  and {self.count - len(self.shown)} more"] if self.count > len(self.shown) else lines


def find_matches(
    text: str, identity: str, folders: Sequence[Iterable[Speaker]], flows: Iterable[SavedFlow], masks: Masks
) -> Matches:
    """Try a draft on flows. ``folders`` are the rules in use."""
    ruleset = Ruleset((parse_rule(text, identity, identity),), *folders)
    found = Matches()
    for flow in flows:
        if not failed(flow) or (saved := of_flow(flow)) is None:
            continue
        found.looked_at += 1
        verdict = ruleset.judge(saved.reply)
        if any(said.startswith(f"{identity}: ") for said in verdict.drafts):
            found.count += 1
            if found.count <= SHOWN:
                saved = with_masks(saved, masks)
                evidence = saved.masked(verdict.evidence)
                found.shown.append(Match(saved.masked(saved.where), verdict.label, verdict.rule, evidence))
    return found
