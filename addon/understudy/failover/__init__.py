"""The decision machine of one request: whom to ask, what a reply costs, when to wait and when to stop.

``exchange`` takes a request's lineup and each reply, and returns the next step as a value; ``default_actions`` and
``penalties`` say what a label costs; ``comparison`` and ``signatures`` whose fault a reply is that no words explain;
``selection``, ``foresight`` and ``candidates`` who is asked, ``pacing`` when; ``held_calls`` which calls wait for a
reset; ``users`` what of a route is for whom; ``ledger`` and ``sealed`` which account knows what in a request, and what
another one has to go without; ``refusal`` writes our own answer.
The package never does I/O and never reads a clock. Start with ``exchange``.
"""

from understudy.failover.default_actions import DEFAULTS, Next, action
from understudy.failover.drilled_exchange import DrilledExchange
from understudy.failover.exchange import Exchange
from understudy.failover.generations import Identities, Seen, own_name
from understudy.failover.held_calls import HeldCall, HeldCalls
from understudy.failover.pacing import Pacing, Place
from understudy.failover.penalties import SHORT_STEP
from understudy.failover.refusal import LISTED, RETRY_HORIZON
from understudy.failover.selection import DrilledLineup, Lineup, Selector
from understudy.failover.steps import (
    HEDGED,
    Attempt,
    Compared,
    Continue,
    Drilling,
    Outcome,
    Refuse,
    Release,
    Request,
    Step,
    Struck,
    Wait,
)
from understudy.failover.users import UserRoutes

__all__ = [
    "DEFAULTS",
    "HEDGED",
    "LISTED",
    "RETRY_HORIZON",
    "SHORT_STEP",
    "Attempt",
    "Compared",
    "Continue",
    "DrilledExchange",
    "DrilledLineup",
    "Drilling",
    "Exchange",
    "HeldCall",
    "HeldCalls",
    "Identities",
    "Lineup",
    "Next",
    "Outcome",
    "Pacing",
    "Place",
    "Refuse",
    "Release",
    "Request",
    "Seen",
    "Selector",
    "Step",
    "Struck",
    "UserRoutes",
    "Wait",
    "action",
    "affinity",
    "foresight",
    "ledger",
    "memory",
    "own_name",
    "sealed",
]
