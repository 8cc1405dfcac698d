"""Several processes in one: each with a memory and a sharing of its own, over one real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.decisions import Clock, Source
from understudy.failover.ledger import Ledger
from understudy.model import (
    Candidate,
    Choice,
    Credential,
    Key,
    Label,
    Pool,
    Route,
    Scope,
    Store,
    Suspension,
    Upstream,
    key_of,
)
from understudy.shared.sharing import Sharing
from understudy.suspensions import Suspensions

OPENAI = Upstream("openai", "openai", "https", "openai.example", 443, "/v1")
SECRETS = {"a": "sk-a-0123456789", "b": "sk-b-0123456789"}
SECONDS = 20.0


def pool_of(url: str, *, prefix: str = "team", secrets: dict[str, str] | None = None, **store: Any) -> Pool:
    """A pool with one route over credentials with these secrets; any model."""
    found = {name: Credential(name, OPENAI, Source(secret)) for name, secret in (secrets or SECRETS).items()}
    route = Route("default", tuple(Choice(each, None) for each in found.values()))
    # More than a busy machine could take: who wants to see a time-out has a server that is frozen.
    return Pool({"openai": OPENAI}, found, {"default": route}, store=Store(url, prefix, **{"timeout": 2.0, **store}))


def key(name: str = "a", model: str = "gpt-5") -> Key:
    """A candidate's key."""
    return Key(Scope.CANDIDATE, name, model)


@dataclass
class Worker:
    """A process of a pool."""

    pool: Pool
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.suspensions = Suspensions(self.clock)
        self.ledger = Ledger(self.clock)
        self.sharing = Sharing(self.suspensions, self.ledger, interval=0.05)
        self.sharing.use(self.pool)

    def candidate(self, name: str = "a", model: str = "gpt-5") -> Candidate:
        """A candidate of the pool."""
        return Candidate(self.pool.credentials[name], model)

    def suspend(
        self, name: str = "a", seconds: float = 60.0, *, model: str = "gpt-5", label: Label = Label.RATE_LIMITED
    ) -> Suspension | None:
        """Suspend a candidate, as a reply would."""
        now = self.clock()
        found = Suspension(key_of(self.candidate(name, model), Scope.CANDIDATE), now, now + seconds, label, "test/rule")
        return self.suspensions.suspend(replace(found, evidence="HTTP 429", candidate=f"{name}/{model}"))

    @property
    def known(self) -> set[Key]:
        """What is suspended here."""
        return {each.key for each in self.suspensions}

    @property
    def is_shared(self) -> bool:
        """Whether it is connected."""
        state = self.sharing.state
        return state is not None and state.connected

    @property
    def is_alone(self) -> bool:
        """Whether it has said that it is alone."""
        state = self.sharing.state
        return state is not None and not state.connected


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> float:
    """Wait until something is so, and return how long that took. Raises TimeoutError."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise TimeoutError("it did not happen")
        await asyncio.sleep(0.002)
    return time.monotonic() - begun


@asynccontextmanager
async def working(*workers: Worker, connected: bool = True) -> AsyncIterator[None]:
    """These processes run."""
    for worker in workers:
        worker.sharing.open()
    try:
        if connected:
            await until(lambda: all(worker.is_shared for worker in workers))
        yield
    finally:
        tasks = [task for worker in workers if (task := worker.sharing._task) is not None]
        for worker in workers:
            worker.sharing.close()
        await asyncio.gather(*tasks, return_exceptions=True)
