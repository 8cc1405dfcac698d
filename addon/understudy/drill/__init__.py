"""A drill (H12): for a stated time a candidate, a credential or an upstream fails on purpose, on the live path.

``behaviour`` says how it may fail; ``made_reply`` writes what it answers then, as bytes of its dialect; ``drill`` is
one drill with the calls that it reaches and what became of them; ``backups`` reads from a pool which single failure
leaves a route without a candidate. The package never judges a reply and never sends one: what it makes up goes the same
way as a real reply. Start with ``drill``.
"""

from understudy.drill.behaviour import Behaviour, BehaviourError, Kind, read_behaviour
from understudy.drill.drill import LONGEST, USUAL, Call, Drill, Summary, covers
from understudy.drill.made_reply import MadeReply, made_reply

__all__ = [
    "LONGEST",
    "USUAL",
    "Behaviour",
    "BehaviourError",
    "Call",
    "Drill",
    "Kind",
    "MadeReply",
    "Summary",
    "backups",
    "covers",
    "made_reply",
    "read_behaviour",
]
