"""Puts the layer in place, for every mode and for client replay, and takes it out again without a trace.

Two methods of mitmproxy's ``HttpLayer`` are replaced: the one that makes a stream, and the one that hands out events,
so that alarms reach their watch, and the chunks of a released stream the tool. ``Http1Server`` gets two of its own, so
that a request with trailers is read, and a head has an end. ``Http2Server`` gets one, so that a reset which came with
the end of its request is heard.
"""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.proxy import events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.proxy.layers.http._http2 import Http2Server

from understudy.proxy import splice
from understudy.proxy.attempt import context_below
from understudy.proxy.early_reset import read_request_event
from understudy.proxy.engine import Engine
from understudy.proxy.listener import Journal
from understudy.proxy.stream import ReplayStream
from understudy.proxy.timeouts import is_alarm_of, watch_of
from understudy.proxy.upstream_connection import read_request_body, read_request_head
from understudy.proxy.websocket import ToolStream


def install(engine: Engine, journal: Journal) -> Callable[[], None]:
    """Make mitmproxy use :class:`ToolStream`; returns what undoes it. Installing again replaces the engine."""
    make_stream, handle_event = HttpLayer.make_stream, HttpLayer._handle_event
    ReplayStream.engine, ReplayStream.journal = engine, journal
    if getattr(make_stream, "understudy", False):
        return lambda: None

    def make_pooled_stream(self: HttpLayer, stream_id: int) -> CommandGenerator[None]:
        self.streams[stream_id] = stream = ToolStream(context_below(self), stream_id)
        yield from self.event_to_child(stream, events.Start())

    def handle_alarm(self: HttpLayer, event: events.Event) -> CommandGenerator[None]:
        if is_alarm_of(self, event):
            assert isinstance(event, events.Wakeup)
            self.command_sources.pop(event.command, None)
            return watch_of(self, engine.clock).ring_safely()
        if (passed_on := splice.pass_on(self, event, handle_event)) is not None:
            return passed_on
        return handle_event(self, event)  # type: ignore[no-any-return]

    make_pooled_stream.understudy = True  # type: ignore[attr-defined]
    HttpLayer.make_stream = make_pooled_stream  # type: ignore[method-assign]
    HttpLayer._handle_event = handle_alarm  # type: ignore[method-assign]
    Http1Server.read_body = read_request_body  # type: ignore[method-assign]
    read_headers, Http1Server.read_headers = Http1Server.read_headers, read_request_head  # type: ignore[method-assign]
    read_event, Http2Server.handle_h2_event = Http2Server.handle_h2_event, read_request_event  # type: ignore[method-assign]

    def uninstall() -> None:
        HttpLayer.make_stream = make_stream  # type: ignore[method-assign]
        HttpLayer._handle_event = handle_event  # type: ignore[method-assign]
        if "read_body" in vars(Http1Server):
            del Http1Server.read_body  # inherited again
        Http1Server.read_headers = read_headers  # type: ignore[method-assign]
        Http2Server.handle_h2_event = read_event  # type: ignore[method-assign]
        ReplayStream.engine = ReplayStream.journal = None

    return uninstall
