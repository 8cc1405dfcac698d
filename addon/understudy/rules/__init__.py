"""What a reply means: the rule language, rule files and folders, and the judgement of a reply.

At most one rule speaks for a reply: ``Ruleset.judge`` gives the verdict. The package never decides what happens next
(``failover``) and never writes a file (``authoring``).

This is also the module for authors of Python rules: ``from understudy.rules import Label, Reply, Verdict``.
Start with ``ruleset``.
"""

from understudy.model import Label, Scope, Then, Verdict
from understudy.replies import Reply
from understudy.rules.folders import INTERVAL, RuleLibrary, load_folder, shipped_folder
from understudy.rules.near_misses import faults, near_misses
from understudy.rules.ruleset import OWN_MARK, Ruleset, Speaker, Status
from understudy.rules.yaml_rule import EXAMPLE_KEYS, NO_SOURCE, parse_rule

__all__ = [
    "EXAMPLE_KEYS",
    "INTERVAL",
    "NO_SOURCE",
    "OWN_MARK",
    "Label",
    "Reply",
    "RuleLibrary",
    "Ruleset",
    "Scope",
    "Speaker",
    "Status",
    "Then",
    "Verdict",
    "faults",
    "load_folder",
    "near_misses",
    "parse_rule",
    "shipped_folder",
]
