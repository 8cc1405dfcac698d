"""From a saved reply to a rule: drafts, the replies that one is tried on, and what else it matches.

``reply_file`` reads replies, ``draft`` writes the text of a rule, ``new_rule`` puts it into a folder of the owner. It
never changes a rule that is in use. Start with ``new_rule``.
"""

from understudy.authoring.arguments import load_rules, replies_in, usage
from understudy.authoring.draft import DraftError
from understudy.authoring.new_rule import (
    NewRuleError,
    check_identity,
    failed,
    find_matches,
    make_draft,
    with_masks,
    write_draft,
)
from understudy.authoring.reply_file import HEAD, Saved, holds_flows, of_flow

__all__ = [
    "HEAD",
    "DraftError",
    "NewRuleError",
    "Saved",
    "check_identity",
    "failed",
    "find_matches",
    "holds_flows",
    "load_rules",
    "make_draft",
    "of_flow",
    "replies_in",
    "usage",
    "with_masks",
    "write_draft",
]
