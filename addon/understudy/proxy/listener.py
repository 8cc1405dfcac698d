"""Who is told what happens to a call, and who is asked: the journal, by the layer; and every addon, by hooks.

A layer can wait for nothing but a hook. So hooks ask the addon to fetch a secret that is not at hand (most are), and to
read or write a large request while others go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, cast

from mitmproxy import http
from mitmproxy.proxy import commands

from understudy.config.secrets import CommandSecret
from understudy.failover import Attempt, Exchange, Outcome, Step
from understudy.failover.memory import Plan
from understudy.model import Usage
from understudy.proxy.exchange_facts import Facts

SERVED = "understudy_served"
"""Stands in the ``metadata`` of a flow that opened a WebSocket, whose calls are made over HTTP."""


class Measured(NamedTuple):
    """What a reply that succeeded took. ``usage`` None: it counted no tokens.

    ``served``: the model that it names, where that is another one than was sent, else "". ``seconds``: of a stream that
    was released, from its first event to its end; None otherwise. ``lost``: the tool did not get this reply, because
    another candidate was asked after it or beside it.
    """

    attempt: Attempt
    usage: Usage | None
    served: str = ""
    seconds: float | None = None
    lost: bool = False


class Journal(Protocol):
    """Who is told what happened."""

    def began(self, flow: http.HTTPFlow, exchange: Exchange, plan: Plan) -> None:
        """A call is about to be answered from the pool."""

    def waited(self, flow: http.HTTPFlow, exchange: Exchange, seconds: float, reason: str) -> None:
        """A pause begins."""

    def observing(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """A call is passed on as it came, and only looked at."""

    def observed(self, flow: http.HTTPFlow, facts: Facts) -> None:
        """What came of it."""

    def sent_to_http(self, flow: http.HTTPFlow) -> None:
        """A WebSocket was refused, so that the tool makes its calls over plain HTTP."""

    def served(self, flow: http.HTTPFlow) -> None:
        """A WebSocket was accepted: its calls are made over HTTP."""

    def released(self, flow: http.HTTPFlow, exchange: Exchange, number: int) -> None:
        """The reply of this attempt goes to the tool; 0: an answer of our own does."""

    def ended_badly(self, flow: http.HTTPFlow, exchange: Exchange, outcome: Outcome) -> None:
        """A released stream ended in an error."""

    def left(self, flow: http.HTTPFlow, exchange: Exchange, attempt: Attempt, record: http.HTTPFlow | None) -> None:
        """The tool went away during an attempt; ``record`` is the attempt as a flow."""

    def served_by(self, flow: http.HTTPFlow, exchange: Exchange, number: int, model: str) -> None:
        """The reply of this attempt, which goes to the tool, names another model than was sent."""

    def measured(self, flow: http.HTTPFlow, exchange: Exchange, measured: Measured) -> None:
        """A reply that succeeded is over: what it took. Told before :meth:`finished`, once for each attempt."""

    def finished(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """The exchange is over. May be told twice."""


def no_record() -> None:
    """Of an attempt that has no flow of its own."""


@dataclass
class Abandoned:
    """An attempt whose reply is not the one that goes to the tool. ``step`` is what comes next.

    ``make`` makes the attempt as a flow of its own, and ``label`` writes on that flow what the journal knows of it.
    """

    flow: http.HTTPFlow
    exchange: Exchange
    outcome: Outcome
    step: Step
    make: Callable[[], http.HTTPFlow | None] = field(default=no_record, repr=False, compare=False)
    label: Callable[[http.HTTPFlow], None] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def record(self) -> http.HTTPFlow | None:
        """The attempt as a flow of its own, made for the first who asks; None when ``pool_attempt_flows`` is off."""
        made, self.make = self.make(), no_record
        if made is not None and self.label is not None:
            self.label(made)
        return made


@dataclass
class UnderstudyAttemptHook(commands.StartHook):
    """An attempt was abandoned. Addons can implement ``understudy_attempt(abandoned)``."""

    abandoned: Abandoned


@dataclass
class Fetch:
    """A request waits for a secret. ``rejected``: the one that the upstream did not take, "" without one."""

    source: CommandSecret
    rejected: str = field(repr=False)


TURN = 0.0005
"""Seconds."""


@dataclass
class Aside[T]:
    """Something that takes long to compute: to be done while other requests go on."""

    work: Callable[[], T] = field(repr=False)
    done: bool = False
    _result: T | None = field(default=None, repr=False)  # it may be a request with its secret (law 8)
    _error: Exception | None = field(default=None, repr=False)

    def do(self) -> None:
        """Compute it, in whatever thread."""
        try:
            self._result = self.work()
        except Exception as error:
            self._error = error
        self.done = True

    def result(self) -> T:
        """What came out, computed here and now where it was not before. Raises what the work has raised."""
        if not self.done:
            self.do()
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


@dataclass
class UnderstudyAsideHook(commands.StartHook):
    """A large request is read or written: whoever implements ``understudy_aside(aside)`` does it in a thread."""

    aside: Aside[Any]


@dataclass
class UnderstudySecretHook(commands.StartHook):
    """The secret of an attempt is not at hand: whoever implements ``understudy_secret(fetch)`` fetches it."""

    fetch: Fetch


class ShortTurns:
    """While it is entered, threads take turns of :data:`TURN` seconds; it may be entered again meanwhile.

    After each call of the operating system, of which every event brings several, the event loop waits for the turn of a
    thread that computes to end: 5 ms each time, as Python has it.
    """

    def __init__(self) -> None:
        self._entered = 0
        self._before = 0.0

    def __enter__(self) -> None:
        self._entered += 1
        if self._entered == 1:
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(min(TURN, self._before))

    def __exit__(self, *error: object) -> None:
        self._entered -= 1
        if self._entered == 0:
            sys.setswitchinterval(self._before)
