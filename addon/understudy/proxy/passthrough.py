"""Calls that are passed on as the tool sent them: those of a route that only observes, and keys in unrouted queries.

The tool's own credential is on the wire and a placeholder in the flow (R04, R07): what mitmproxy sends is exchanged for
a copy on its way out. An observed reply reaches the tool untouched; where it repeats the tool's own credential, the
flow alone shows the placeholder. Nothing is held up: streams pass live, and all else as mitmproxy passes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from logging import ERROR
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook, HttpResponseHook

from understudy.failover.memory import Plan
from understudy.model import Mode
from understudy.proxy.engine import Engine, Intake
from understudy.proxy.listener import Journal
from understudy.proxy.masking_gate import Fields, mask_head, show_body
from understudy.proxy.observe_mode import CLIENT, Observation
from understudy.proxy.pooled_call import trace
from understudy.replies import Secret
from understudy.requests import rewrite


@dataclass
class Echo:
    """A reply as it came, and what the flow shows of it."""

    fields: Fields
    reason: bytes
    shown_fields: Fields = ()
    content: bytes | None = None
    shown_content: bytes | None = None
    trailers: http.Headers | None = None


class Passthrough:
    """One request of a tool that goes out as it came. Without :meth:`observe` its reply is not looked at.

    ``journal_now``: who is told of what is observed; None without a listener, or once the addon has left.
    """

    def __init__(
        self, stream: HttpStream, engine: Engine, intake: Intake, journal_now: Callable[[], Journal | None]
    ) -> None:
        self.stream = stream
        self.engine = engine
        self.intake = intake
        self.journal_now = journal_now
        self.own: Secret | None = None
        """The tool's own credential, when its call is observed."""
        self.observation: Observation | None = None
        self.echo: Echo | None = None
        self.kept = bytearray()
        """What ``pool_keep_streams`` keeps of a stream that passes live."""

    def observe(self, plan: Plan, *, replayed: bool = False) -> CommandGenerator[None]:
        """From now on this call is observed. What goes wrong with that is logged and costs nothing else."""
        engine, intake, flow = self.engine, self.intake, self.stream.flow
        self.own = Secret(CLIENT, "", intake.stash.secrets)
        try:
            shadow, refused = None, ""
            if plan.route.mode is Mode.ADVISE:
                shadow = engine.shadow(intake, plan, flow.request)
                refused = engine.why_not(self.stream.context.client, flow.request, replayed=replayed)
            ruleset = intake.snapshot.ruleset
            self.observation = Observation(plan, self.own, flow.request, ruleset, engine.clock, shadow, refused)
            if (journal := self.journal_now()) is not None:
                journal.observing(flow, self.observation.facts)
        except Exception as error:
            yield from self.looked_away(error)

    def looked_away(self, error: Exception) -> CommandGenerator[None]:
        """Looking at a call failed: it goes on without."""
        self.observation = None
        yield commands.Log(f"understudy: cannot observe a call: {trace(error, self.intake)}", ERROR)

    def look(self, event: events.Event) -> CommandGenerator[None]:
        """An event of an observed reply, before mitmproxy gets it."""
        observation, flow = self.observation, self.stream.flow
        if observation is None:
            return
        try:
            if isinstance(event, ResponseHeaders):
                if observation.head(event.response):
                    event.response.stream = True
            elif isinstance(event, ResponseData):
                observation.data(event.data)
                self.keep(event.data)
            elif isinstance(event, (ResponseEndOfMessage, ResponseProtocolError, RequestProtocolError)):
                self.observation = None
                if isinstance(event, ResponseEndOfMessage):
                    facts = observation.end()
                    self.show_kept()
                elif isinstance(event, ResponseProtocolError):
                    facts = observation.fault(event.message, sent=flow.server_conn.timestamp_tcp_setup is not None)
                else:
                    facts = observation.cancelled()
                if (journal := self.journal_now()) is not None:
                    journal.observed(flow, facts)
        except Exception as error:
            yield from self.looked_away(error)

    @property
    def keeps(self) -> bool:
        """Whether a stream that passes live is kept here; with an option for it, mitmproxy keeps it all."""
        response, options = self.stream.flow.response, self.stream.context.options
        return response is not None and response.stream is True and not options.store_streamed_bodies

    def keep(self, data: bytes) -> None:
        """Keep what ``pool_keep_streams`` asks for."""
        if self.keeps and len(self.kept) < self.engine.keep_stream:
            self.kept += data

    def show_kept(self) -> None:
        """Put what was kept into the flow."""
        if self.keeps and self.kept and self.stream.flow.response is not None:
            self.stream.flow.response.data.content = bytes(self.kept)
            self.kept.clear()

    def on_the_wire(self, parent: CommandGenerator[None]) -> CommandGenerator[None]:
        """mitmproxy's own way, with what the flow hides in what is sent."""
        reply: Any = None
        while True:
            try:
                command = parent.send(reply)
            except StopIteration:
                return
            if isinstance(command, SendHttp):
                self.reveal(command)
            elif self.own is not None and isinstance(command, (HttpResponseHeadersHook, HttpResponseHook)):
                self.hide(self.own, whole=isinstance(command, HttpResponseHook))
            reply = yield command

    def reveal(self, command: SendHttp) -> None:
        """Exchange what is sent for what it was before the flow hid it."""
        event, echo = command.event, self.echo
        if isinstance(event, RequestHeaders):
            event.request = rewrite.reveal(event.request, self.intake.stash)
        elif echo is None:
            return
        elif isinstance(event, ResponseHeaders) and event.response.headers.fields == echo.shown_fields:
            response = http.Response.__new__(http.Response)
            response.data = event.response.copy().data
            response.data.headers, response.data.reason = http.Headers(echo.fields), echo.reason
            event.response = response
        elif isinstance(event, ResponseTrailers) and echo.trailers is not None:
            event.trailers = echo.trailers
        elif isinstance(event, ResponseData) and event.data == echo.shown_content and echo.content is not None:
            event.data = echo.content

    def hide(self, own: Secret, *, whole: bool) -> None:
        """Put the placeholder into the flow's reply before addons see it; ``whole``: its body is there as well."""
        response = self.stream.flow.response
        if response is None:
            return
        echo = self.echo or Echo(response.headers.fields, response.data.reason)
        before = response.headers.fields, response.data.reason, response.data.content, response.trailers
        mask_head(response, own)
        if whole:
            # What cannot be decoded within bounds is not shown, for what it repeats is unknown (law 8).
            show_body(response, own)
        content, trailers = before[2:]
        if before == (response.headers.fields, response.data.reason, response.data.content, response.trailers):
            return
        echo.shown_fields = response.headers.fields
        if response.data.content is not content:
            echo.content, echo.shown_content = content, response.data.content
        if response.trailers is not trailers:
            echo.trailers = trailers
        self.echo = echo
