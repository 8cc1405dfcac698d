"""What good replies say of a credential's limits: read from headers, kept for each window, told as shares and resets.

``headers`` reads them as ``rules/limits.yaml`` says; ``windows`` keeps what was read, bounded and only until the reset.
What is known here only orders candidates (law 3): the package never suspends anything and asks nobody. ``failover``
does the ordering. Start with ``windows``.
"""

from understudy.limits.headers import LimitTable, Reading, Whose, load_table, shipped_table
from understudy.limits.windows import MOST_OUTPUT, NO_NEED, RESERVE, Limits, LimitView, Need, Stored, Window

__all__ = [
    "MOST_OUTPUT",
    "NO_NEED",
    "RESERVE",
    "LimitTable",
    "LimitView",
    "Limits",
    "Need",
    "Reading",
    "Stored",
    "Whose",
    "Window",
    "load_table",
    "shipped_table",
]
