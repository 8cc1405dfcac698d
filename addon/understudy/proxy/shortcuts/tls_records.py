"""What a layer sends over TLS in a row, such as a head and its body, is encrypted as one.

mitmproxy encrypts each piece by itself: a call of OpenSSL, a record with a header and a checksum of its own, and an
exception that says that there is no more to be had of it. Here pieces wait for those that follow them in the answer
to the same event. Nothing waits longer, and no other command overtakes them.
"""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.tls import TLSLayer
from mitmproxy.proxy.tunnel import TunnelLayer, TunnelState

LARGEST = 16_384
"""Bytes that are joined: a record has no more."""

_event_to_child = TunnelLayer.event_to_child


def install() -> Callable[[], None]:
    """Put it in place, for the whole process; returns what undoes it."""
    if "event_to_child" in vars(TLSLayer) or TunnelLayer.event_to_child is not _event_to_child:
        return lambda: None
    TLSLayer.event_to_child = event_to_child  # type: ignore[method-assign, assignment]

    def uninstall() -> None:
        if vars(TLSLayer).get("event_to_child") is event_to_child:
            del TLSLayer.event_to_child  # inherited again

    return uninstall


def event_to_child(layer: TLSLayer, event: events.Event) -> CommandGenerator[None]:
    """What mitmproxy's method of this name does."""
    if layer.tunnel_state is not TunnelState.OPEN:
        yield from _event_to_child(layer, event)
        return
    unsent: bytes | None = None
    try:
        for command in layer.child_layer.handle_event(event):
            if type(command) is not commands.SendData or command.connection is not layer.conn:
                data = None
            elif unsent is None or len(unsent) + len(command.data) > LARGEST:
                data = command.data
            else:
                unsent += command.data
                continue
            if unsent is not None:
                yield from layer.send_data(unsent)
            unsent = data
            if data is None:
                yield from layer._handle_command(command)
    except Exception:
        if unsent is not None:
            yield from layer.send_data(unsent)
        raise
    if unsent is not None:
        yield from layer.send_data(unsent)
