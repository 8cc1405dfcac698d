"""The matrix of calls that nothing can answer: both candidates fail alike, with understudy and without (A10).

A program must give up no later than it does without understudy, and what it prints must say why. Without understudy it
meets one vendor that fails in the same way; a connection that this vendor drops is dropped for the program as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.clients.conversation import faults
from tests.clients.vendors import FAILURES, Failure

MODES: dict[str, Failure] = {
    "404": FAILURES["404 model"],
    "429": FAILURES["429, retry-after 5"],
    "quota": faults(FAILURES)["quota"],
    "503": FAILURES["529/503"],
    "401": FAILURES["401"],
    "drop": FAILURES["dropped"],
    "error event": FAILURES["error first"],
}
"""What every account does with every model call. 503 is 529 at Anthropic's."""
REASONS: dict[str, re.Pattern[str]] = {
    "404": re.compile(r"not[ _-]?(exist|found)|model_unsupported|issue with the selected model", re.I),
    "429": re.compile(r"rate[ _-]?limit|rate_limited|quota|too many requests|number of requests", re.I),
    "quota": re.compile(r"quota|credit balance", re.I),
    "503": re.compile(r"overloaded|unavailable|high demand|50[23]|529", re.I),
    "401": re.compile(r"credential|rejects (the|its) secret|api[ _-]?keys?", re.I),
    "drop": re.compile(r"clos|reset|dropped|disconnect|broke", re.I),
    "error event": re.compile(r"overloaded|server had an error|server_error|error while processing", re.I),
}
"""What the reason reads like: in the vendors' words, or in those of understudy."""
MEND = re.compile(r"try again in|name another (one|secret)|name a candidate|check the network")
"""What to do, in an answer of understudy's own (``failover/refusal``)."""
LATER, SHARE = 5.0, 1.25
"""A program may take longer than without by so many seconds and by this factor: that is the noise of a busy machine."""
STATED = {"429": 5.0}
"""The seconds that a vendor states; understudy waits for that once, before it gives the reply to the program (W01)."""
MORE = 40.0
"""How much longer than without a program may try before it is ended, so that the table says how late it is. Seconds."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r")
LINES = 12
"""How many lines are shown of what a program prints."""


@dataclass(frozen=True)
class End:
    """How a program gave up: so many seconds after its first call, None while it still tried; what each account saw."""

    seconds: float | None
    calls: tuple[int, ...]
    output: str

    def __str__(self) -> str:
        tried = "still trying" if self.seconds is None else f"{self.seconds:.0f} s"
        return f"{tried}, {' + '.join(map(str, self.calls))}"


def longest(without: End, bound: float) -> float:
    """After how many seconds a program is ended with understudy. ``bound``: after which it was ended without."""
    return SHARE * (bound if without.seconds is None else without.seconds) + MORE


def wrong(mode: str, without: End, end: End, bound: float) -> list[str]:
    """What is worse with understudy than without, and what is not told; [] when nothing is.

    ``bound``: the seconds after which a program was ended without it.
    """
    found = []
    late = without.seconds is not None and end.seconds is None
    if late or (end.seconds or 0.0) > SHARE * (without.seconds or bound) + LATER + STATED.get(mode, 0.0):
        found.append("later")
    if max(end.calls) > 2 * max(without.calls):  # an account may be asked once more for one request (law 2)
        found.append("calls")
    if end.seconds is not None:
        # Some programs print no reason without understudy either.
        told = REASONS[mode].search(end.output) or not REASONS[mode].search(without.output)
        found += [] if told else ["no reason"]
        found += ["no mend"] if "understudy: " in end.output and not MEND.search(end.output) else []
    return found


def read(output: str) -> list[str]:
    """The last lines that a person reads, without colours and what an animation has written over."""
    lines = [line.strip() for line in ESCAPES.sub("\n", output).splitlines()]
    return [line for at, line in enumerate(lines) if line and line not in lines[:at]][-LINES:]
