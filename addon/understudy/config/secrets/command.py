"""``secret: {command: [...]}``: a secret that a program prints, and when that program is run.

It is run when the first request needs it, shortly before the secret expires, and once after the upstream rejected it;
never for two requests at a time, and not again within some seconds after a run that was of no use. There is no shell,
no input and no terminal. The output is bounded and never logged, and what the program writes to its standard error is
thrown away, for that may hold the secret as well.
"""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

from understudy.codec.masking import shown, veil
from understudy.codec.steady_clock import STEADY, ahead_of
from understudy.config.secrets.command_output import Printed, read_output
from understudy.model import SecretError, Source

if TYPE_CHECKING:
    import asyncio

TIMEOUT = 30.0
"""Seconds for one run, unless the pool file says otherwise."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds without another run after one that was of no use; they double from the first to the longest."""
MARGIN = 60.0
"""A secret is renewed this many seconds before it expires, or after nine tenths of its time if that is later."""
SHORTEST_LIFE = 5.0
"""Seconds for which a secret is used whatever its expiry says: a wrong clock must not mean a run per request."""

logger = logging.getLogger(__name__)


class CommandSecret(Source):
    """What a program prints, kept until it expires or is rejected.

    ``argv``: the program with its arguments. ``folder``: where it runs. ``ttl``: seconds after which it is run again
    although nothing says that the secret expires. ``clock``: in seconds. To be used from one event loop.
    """

    __slots__ = (
        "_argv", "_clock", "_expires", "_failure", "_folder", "_refused", "_renewal", "_retry_at", "_run",
        "_timeout", "_ttl", "_useless", "_value", "hidden",
    )  # fmt: skip
    refreshable: ClassVar[bool] = True

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        ttl: float = math.inf,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = STEADY,
    ) -> None:
        self.hidden: Collection[str] = frozenset()
        """Variables that the program does not see, because they hold other secrets."""
        self._argv, self._folder, self._ttl, self._timeout, self._clock = tuple(argv), folder, ttl, timeout, clock
        self._value: str | None = None
        self._refused: str | None = None
        """The secret that an upstream rejected last."""
        self._renewal = self._expires = -math.inf
        self._failure = f"{self} was not run"
        self._retry_at = -math.inf
        self._useless = 0
        """How many runs in a row were of no use."""
        self._run: asyncio.Task[None] | None = None

    @override
    def __repr__(self) -> str:
        # Whole: two commands are told apart by it when a pool file is loaded again.
        return f"<secret command {veil(shlex.join(self._argv))}>"

    @override
    def __str__(self) -> str:
        return f"the command {shown(shlex.join(self._argv))}"

    def at_hand(self, rejected: str = "") -> bool:
        """Whether :meth:`reveal` can answer without a run; ``rejected``: a secret that is not wanted any more."""
        now = self._clock()
        if self._value is not None and self._value != rejected and now < self._renewal:
            return True
        return now < self._retry_at

    def reveal(self) -> str:
        """Return the secret. Raises SecretError when there is none, and tells why."""
        if self._value is None or self._clock() >= self._expires:
            raise SecretError(self._failure)
        return self._value

    async def fetch(self, rejected: str = "") -> None:
        """See to it that :meth:`reveal` has an answer, which is also where a failure shows; see :meth:`at_hand`.

        However many wait, the program runs once; it goes on when one of them is cancelled.
        """
        if self.at_hand(rejected):
            return
        if rejected and self._value == rejected:
            self._value, self._refused = None, rejected  # no other call shall send it meanwhile
        import asyncio  # here: whoever only reads a pool file has no event loop

        if self._run is None or self._run.done():
            self._run = asyncio.get_running_loop().create_task(self._renew(), name="understudy secret")
        await asyncio.shield(self._run)

    async def _renew(self) -> None:
        """Run the program once and take note of what came of it."""
        from understudy.config.secrets.program import ProgramError, output_of  # here, too

        try:
            output = await output_of(self._argv, self._folder, self._timeout, self.hidden)
            ahead = ahead_of(self._clock)
            printed = read_output(output, str(self), self._clock() + ahead)
            self._succeeded(replace(printed, expires=printed.expires - ahead))
        except ProgramError as error:
            self._failed(f"{self} {error}")
        except SecretError as error:
            self._failed(str(error))

    def _succeeded(self, printed: Printed) -> None:
        now = self._clock()
        left = printed.expires - now
        renewal = printed.expires - min(MARGIN, left / 10) if left < math.inf else math.inf
        self._value = printed.secret
        self._expires = max(printed.expires, now + SHORTEST_LIFE)
        self._renewal = max(min(renewal, now + self._ttl), now + SHORTEST_LIFE)
        if printed.secret == self._refused:
            self._pause(now)
        else:
            self._refused, self._useless, self._retry_at = None, 0, -math.inf

    def _failed(self, why: str) -> None:
        now = self._clock()
        self._failure = why
        self._pause(now)
        if self._value is not None and now < self._expires:
            logger.warning("%s: the secret it printed before stays in use", why)

    def _pause(self, now: float) -> None:
        self._retry_at = now + min(FIRST_PAUSE * 2**self._useless, LONGEST_PAUSE)
        self._useless = min(self._useless + 1, 16)
