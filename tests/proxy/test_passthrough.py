"""Calls that go out as they came: what is on the wire, and what the flow shows."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from mitmproxy import http
from mitmproxy.proxy import commands
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHook

from tests.support.layer import Core, pooled_call
from understudy.model.pool import Budget, Mode
from understudy.proxy.observe_mode import Observation
from understudy.proxy.passthrough import NOT_SHOWN, Passthrough

TOOL = 7
OWN = "sk-tool-0123456789"


class Desk:
    """A stream of mitmproxy's own with a call in it, and what passes it through."""

    def __init__(self, core: Core, *, stream: bool = False) -> None:
        self.core = core
        routes = {name: replace(each, mode=Mode.OBSERVE) for name, each in core.pool.routes.items()}
        core.engine.use(replace(core.pool, routes=routes))
        self.call = pooled_call(core, stream=stream, credential=OWN)
        self.stream = HttpStream(core.layer.context.fork(), TOOL)
        self.stream.flow = self.call.flow
        self.passthrough = Passthrough(self.stream, core.engine, self.call.intake, lambda: core.journal)

    def observe(self) -> list[commands.Command]:
        """The call is observed from now on."""
        return list(self.passthrough.observe(self.call.plan))

    def send(self, *wanted: commands.Command) -> list[commands.Command]:
        """What becomes of mitmproxy's commands."""

        def parent() -> CommandGenerator[None]:
            yield from wanted

        return list(self.passthrough.on_the_wire(parent()))


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core(Budget())
    yield made
    made.uninstall()


def test_the_wire_has_the_credential_and_the_flow_a_placeholder(core: Core) -> None:
    """R04, R07: what is sent is a copy."""
    desk = Desk(core)
    request = desk.stream.flow.request
    assert OWN not in str(request.headers)
    [command] = desk.send(SendHttp(RequestHeaders(TOOL, request, False), core.client))
    assert isinstance(command, SendHttp)
    assert isinstance(command.event, RequestHeaders)
    assert command.event.request.headers["authorization"] == f"Bearer {OWN}"
    assert OWN not in str(request.headers)


def test_an_echo_is_on_the_wire_and_not_in_the_flow(core: Core) -> None:
    """R06, R07: an observed reply reaches the tool untouched, and its flow shows the placeholder."""
    desk = Desk(core)
    assert desk.observe() == []
    body = b'{"error": {"message": "bad key %s"}}' % OWN.encode()
    response = http.Response.make(401, body, {"content-type": "application/json", "x-key": OWN})
    desk.stream.flow.response = response

    def parent() -> CommandGenerator[None]:
        yield HttpResponseHook(desk.stream.flow)
        yield SendHttp(ResponseHeaders(TOOL, response), core.client)
        assert response.raw_content is not None
        yield SendHttp(ResponseData(TOOL, response.raw_content), core.client)

    found = [each.event for each in desk.passthrough.on_the_wire(parent()) if isinstance(each, SendHttp)]
    assert OWN not in f"{response.headers} {response.text}"
    head, data = found
    assert isinstance(head, ResponseHeaders)
    assert head.response.headers["x-key"] == OWN
    assert isinstance(data, ResponseData)
    assert data.data == body


def test_an_observed_stream_is_kept_and_told_at_its_end(core: Core) -> None:
    """`pool_keep_streams`, observe: streams pass live, and the journal gets the facts once."""
    core.engine.keep_stream = 100
    desk = Desk(core, stream=True)
    desk.observe()
    response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
    desk.stream.flow.response = response
    list(desk.passthrough.look(ResponseHeaders(TOOL, response)))
    assert response.stream is True
    for part in (b"data: [DONE]", b"\n\n"):
        list(desk.passthrough.look(ResponseData(TOOL, part)))
    list(desk.passthrough.look(ResponseEndOfMessage(TOOL)))
    assert response.raw_content == b"data: [DONE]\n\n"
    assert desk.passthrough.observation is None
    list(desk.passthrough.look(RequestProtocolError(TOOL, "gone", ErrorCode.CANCEL)))


def test_what_goes_wrong_with_looking_costs_nothing_else(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """O08, R07: it is logged without the credential, and the call goes on without anybody looking."""
    desk = Desk(core)
    desk.observe()

    def crash(*_: object) -> bool:
        raise RuntimeError(f"for this test, with {OWN}")

    monkeypatch.setattr(Observation, "head", crash)
    [log] = desk.passthrough.look(ResponseHeaders(TOOL, http.Response.make(200)))
    assert isinstance(log, commands.Log)
    assert "for this test" in log.message
    assert OWN not in log.message
    assert desk.passthrough.observation is None


def zeros(size: int) -> bytes:
    """So many zeros, in gzip."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(zeros(64 << 20), "gzip"), (b"bad key " + OWN.encode(), "gzip"), (b"x", "no-such-encoding")],
    ids=["bomb", "broken", "unknown"],
)
def test_what_cannot_be_decoded_is_passed_on_and_not_shown(core: Core, body: bytes, encoding: str) -> None:
    """H05, law 8: an observed reply is decoded within bounds; nobody knows what the rest repeats."""
    desk = Desk(core)
    desk.observe()
    response = http.Response.make(200, body, {"content-type": "application/json"})
    response.headers["content-encoding"] = encoding
    desk.stream.flow.response = response

    def parent() -> CommandGenerator[None]:
        yield HttpResponseHook(desk.stream.flow)
        yield SendHttp(ResponseHeaders(TOOL, response), core.client)
        assert response.raw_content is not None
        yield SendHttp(ResponseData(TOOL, response.raw_content), core.client)

    tracemalloc.start()
    try:
        found = [each.event for each in desk.passthrough.on_the_wire(parent()) if isinstance(each, SendHttp)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert response.raw_content == NOT_SHOWN
    head, data = found
    assert isinstance(head, ResponseHeaders)
    assert head.response.headers["content-encoding"] == encoding
    assert isinstance(data, ResponseData)
    assert data.data == body
