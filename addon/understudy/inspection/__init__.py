"""What people and machines see of calls: log lines, flow comments, the content view, the journal file, metrics.

``journal`` writes what happened to a call; ``exchange_table`` lays it out for people; ``outlets`` switches each on as
the options ask. It only listens: nothing here changes what happens to a call. Start with ``journal``.
"""

from understudy.inspection.tallies import STEP, UNTRIED, Tallies, Tally, Told

__all__ = [
    "STEP",
    "UNTRIED",
    "Tallies",
    "Tally",
    "Told",
    "flow_list",
    "outlets",
    "tallies",
    "usage",
]
