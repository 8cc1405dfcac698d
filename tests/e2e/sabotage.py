"""A script for mitmproxy, loaded after the addon: raises wherever the file ``sabotage`` in its folder says.

The file names one function as ``module:dotted.name``; every call of it raises, until the file is empty again.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import Any

WISH = Path("sabotage")
NAMES = {
    "addon": [
        "Understudy.next_layer",
        "Understudy.server_connect",
        "Understudy.tls_start_server",
        "Understudy.server_disconnected",
        "Understudy.understudy_attempt",
        "Understudy._servers",
        "lift_connection_limit",
    ],
    "proxy.tunnel": ["decide"],
    "requests.sites": ["Sites.pooled", "Sites.recognise"],
    "proxy.engine": [
        "Engine.take",
        "Engine.plan",
        "Engine.why_not",
        "Engine.exchange",
        "Engine.shadow",
        "Engine.advice",
    ],
    "requests.rewrite": ["carries_placeholder", "mask", "mask_query", "unmask", "reveal", "read_call", "build"],
    "config.secrets.sources": ["EnvSecret.reveal"],
    "failover.exchange": [
        "Exchange.begin",
        "Exchange.resume",
        "Exchange.judge",
        "Exchange.accept",
        "Exchange.succeeded",
        "Exchange.cancelled",
        "Exchange.failed_after_release",
        "Exchange.ask_at",
        "Exchange.end_at",
    ],
    "rules.ruleset": ["Ruleset.judge"],
    "failover.selection": ["Selector.lineup", "Lineup.pick"],
    "suspensions.cache": ["Suspensions.suspend", "Suspensions.begin_probe", "Suspensions.prove"],
    "replies.hold": ["Hold.start", "Hold.data", "Hold.end", "Hold.reply", "Secret.mask", "Tail.append", "Tail.last"],
    "proxy.tool_reply": ["prepare", "own_answer"],
    "inspection.journal": [
        "FlowJournal.began",
        "FlowJournal.waited",
        "FlowJournal.abandoned",
        "FlowJournal.released",
        "FlowJournal.ended_badly",
        "FlowJournal.left",
        "FlowJournal.observing",
        "FlowJournal.observed",
        "FlowJournal.finished",
    ],
    "proxy.attempt": [
        "attempt_flow",
        "established",
        "AttemptLayer.begin",
        "AttemptLayer.halted",
        "AttemptLayer.secret_for",
        "AttemptLayer.request_with",
        "AttemptLayer.transmit",
        "AttemptLayer.state_wait_for_headers",
        "AttemptLayer.state_hold_body",
        "AttemptLayer.decided",
        "AttemptLayer.watch",
        "AttemptLayer.hand_over",
        "AttemptLayer.cancel",
        "AttemptLayer.forget",
    ],
    "proxy.delivery": [
        "Delivery.release",
        "Delivery.state_released",
        "Delivery.read_tail",
        "Delivery.refuse",
        "Delivery.respond",
    ],
    "proxy.observe_mode": ["Observation.head", "Observation.data", "Observation.end"],
    "proxy.passthrough": ["Passthrough.observe", "Passthrough.look", "Passthrough.reveal", "Passthrough.hide"],
    "proxy.stream": [
        "ReplayStream.destination",
        "ReplayStream.own_login",
        "ReplayStream.check_body_size",
        "ReplayStream.first_step",
        "ReplayStream.go",
        "ReplayStream.send",
        "ReplayStream.wait",
        "ReplayStream.on_attempt",
        "ReplayStream.step_after",
        "ReplayStream.conclude",
        "ReplayStream.renumber",
        "ReplayStream.cancel",
        "ReplayStream.gone",
        "ReplayStream.release",
        "ReplayStream.refuse",
        "ReplayStream.client_gone",
        "ReplayStream.on_due",
        "ReplayStream.finish",
        "ReplayStream.flow_done",
    ],
    "proxy.timeouts": ["Timeout.start", "Timeout.stop", "Watch.arm", "Watch.disarm", "Watch.ring"],
    "proxy.upstream_connection": ["Connecting.run", "may_carry", "tame"],
    "proxy.waiting": ["Waiting.begin", "Waiting.on_due"],
    "dialects.openai": [
        "OpenAI.endpoint",
        "OpenAI.read",
        "OpenAI.progress",
        "OpenAI.credential_headers",
        "OpenAI.error_body",
    ],
}
TARGETS = [f"understudy.{module}:{name}" for module, names in NAMES.items() for name in names]

logger = logging.getLogger("sabotage")


class Sabotage(RuntimeError):
    """Not one that anybody expects. Its text is as careless as texts of exceptions are."""


def _wish() -> bytes:
    # Asked some hundred times for each request, so without the comforts of Path.read_text.
    try:
        with open(WISH, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _raise_if_wished(label: str, arguments: tuple[object, ...]) -> None:
    if _wish() == label.encode():
        logger.warning(f"sabotaged {label}")
        texts = [argument for argument in arguments if isinstance(argument, (str, bytes))]
        raise Sabotage(f"{label} with {texts}")


def _break(label: str) -> None:
    module, _, path = label.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = inspect.getattr_static(owner, name)
    function: Callable[..., Any] = original
    assert inspect.isfunction(original), label

    def broken(*arguments: Any, **named: Any) -> Any:
        _raise_if_wished(label, arguments)
        return function(*arguments, **named)

    def broken_generator(*arguments: Any, **named: Any) -> Generator[Any, Any, Any]:
        _raise_if_wished(label, arguments)
        return (yield from function(*arguments, **named))

    replacement = broken_generator if inspect.isgeneratorfunction(function) else broken
    replacement.__name__ = function.__name__
    setattr(owner, name, replacement)


def load(loader: object) -> None:
    """Called by mitmproxy."""
    for label in TARGETS:
        try:
            _break(label)
        except AttributeError:
            # Its own test then says so; the others need not fail with it.
            logger.warning(f"there is no {label}")
