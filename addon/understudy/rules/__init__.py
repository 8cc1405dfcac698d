"""What a reply means: the rule language, rule files and folders, and the judgement of a reply.

At most one rule speaks for a reply: ``Ruleset.judge`` gives the verdict. The package never decides what happens next
(``failover``) and never writes a file (``authoring``).

This is also the module for authors of Python rules: ``from understudy.rules import Label, Reply, Verdict``.
Start with ``ruleset``.
"""

from understudy.model import Label, Scope, Then, Verdict
from understudy.replies import Reply
from understudy.rules.folders import (
    INTERVAL,
    LIMITS_FILE,
    Looked,
    RuleLibrary,
    load_folder,
    load_folders,
    load_vocabulary,
    shipped_folder,
)
from understudy.rules.near_misses import faults, heard, near_misses
from understudy.rules.ruleset import FAULT_RULES, NO_ANSWER, OWN_MARK, Ruleset
from understudy.rules.speaker import Rule, Speaker, Status
from understudy.rules.vocabulary import Vocabulary
from understudy.rules.yaml_rule import EXAMPLE_KEYS, NO_SOURCE, parse_rule

__all__ = [
    "EXAMPLE_KEYS",
    "FAULT_RULES",
    "INTERVAL",
    "LIMITS_FILE",
    "NO_ANSWER",
    "NO_SOURCE",
    "OWN_MARK",
    "Label",
    "Looked",
    "Reply",
    "Rule",
    "RuleLibrary",
    "Ruleset",
    "Scope",
    "Speaker",
    "Status",
    "Then",
    "Verdict",
    "Vocabulary",
    "faults",
    "heard",
    "load_folder",
    "load_folders",
    "load_vocabulary",
    "near_misses",
    "parse_rule",
    "shipped_folder",
]
