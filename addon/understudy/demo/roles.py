"""The parts that are played in the demonstration: one made-up secret each, by which the upstream tells them apart."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The secrets of the demonstration's credentials, in the order in which a route tries them."""

    REFUSES = "sk-demo-refuses-made-up"
    """Does not have the model: 404 in the vendor's own wording."""
    FAILS_IN_STREAM = "sk-demo-fails-in-stream-made-up"
    """Streamed: 200, a lifecycle event, then an error before any output. Plain: 503 or 529."""
    WORKS = "sk-demo-works-made-up"
    """Answers."""

    @property
    def variable(self) -> str:
        """The environment variable that holds this secret, e.g. ``DEMO_REFUSES``."""
        return "DEMO_" + self.part.upper().replace("-", "_")

    @property
    def part(self) -> str:
        """The role in words, e.g. ``fails-in-stream``."""
        return self.value.removeprefix("sk-demo-").removesuffix("-made-up")
