"""An attempt that was not released, as a flow of its own: the request as it was sent, and what came back.

It is made when the attempt is abandoned, never for a request that needs no replay. The secret is taken out here, before
anything but the layer sees it: the header that carried it shows the placeholder of its credential, and a reply that
echoes it is masked (law 8, R06).
"""

from __future__ import annotations

import copy

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.flow import Error

from understudy.dialects import DIALECTS
from understudy.model import Upstream
from understudy.proxy.masking_gate import mask_head, set_body, show_body
from understudy.replies import Fault, Hold
from understudy.requests import rewrite

KEPT_BODY = 1024 * 1024
"""Bytes of a rewritten request body that are kept for an attempt. One that was not rewritten costs nothing: it is the
tool's own."""


def attempt_flow(
    flow: http.HTTPFlow,
    server: Server,
    sent: http.Request,
    hold: Hold,
    response: http.Response | None,
    body: bytes,
    *,
    fault: Fault | None,
    complete: bool,
    ended_at: float,
) -> http.HTTPFlow:
    """The flow of an attempt of this tool's flow; ``response`` and ``body`` are what came back until now, as received.

    ``fault``: what ended the attempt instead of a reply. ``complete``: whether the body is all there.
    ``ended_at``: when the attempt was over, as a Unix time.
    """
    if fault is not None and not fault.sent:
        server = _never_reached(hold.candidate.upstream, fault)
    made = http.HTTPFlow(flow.client_conn, server)
    made.request = _shown(sent, flow.request, hold)
    if response is not None:
        made.response = _masked(response, body, hold, complete=complete)
        made.response.data.timestamp_end = ended_at
    if fault is not None:
        made.error = Error(hold.secret.mask(f"{fault.kind}: {fault.message}")[:500])
    return made


def _shown(sent: http.Request, original: http.Request, hold: Hold) -> http.Request:
    # What the tool speaks, and what the upstream does.
    dialects = {hold.dialect, DIALECTS.get(hold.candidate.upstream.dialect, hold.dialect)}
    shown = http.Request.__new__(http.Request)
    shown.data = copy.copy(sent.data)
    shown.data.headers = http.Headers(
        rewrite.shown_fields(
            sent.headers.fields,
            dialects,
            hold.secret.name,
            hold.secret.mask,
            [header for header, _ in hold.candidate.credential.secret_headers],
        )
    )
    shown.data.path = hold.secret.mask(sent.data.path)
    content = sent.data.content
    if content is not None and content is not original.data.content and len(content) > KEPT_BODY:
        shown.data.content = None
    return shown


def _masked(response: http.Response, body: bytes, hold: Hold, *, complete: bool) -> http.Response:
    masked = http.Response.__new__(http.Response)
    masked.data = copy.copy(response.data)
    masked.data.headers = response.headers.copy()
    masked.data.content = body
    mask_head(masked, hold.secret)
    if hold.encoded and not complete:
        # Half of a compressed body could not be shown.
        set_body(masked, hold.secret.mask(bytes(hold.body)))
    else:
        show_body(masked, hold.secret)
    masked.stream = False
    return masked


def _never_reached(upstream: Upstream, fault: Fault | None) -> Server:
    server = Server(address=(upstream.host, upstream.port))
    server.tls = upstream.scheme == "https"
    server.error = fault.message if fault is not None else None  # nothing was sent to it that it could repeat
    return server
