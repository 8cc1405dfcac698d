"""The content view in mitmproxy's registry: where it is chosen by itself, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from mitmproxy import contentviews, http
from mitmproxy.test import taddons, tflow

from tests.inspection.test_exchange_table import FACTS
from tests.replies.test_transcript import ANSWER, CHAT, GEMINI, SSE
from understudy.inspection import content_view


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The view is there, and gone after the test."""
    with taddons.context():
        content_view.register()
        yield
        content_view.unregister()
        assert "understudy" not in contentviews.registry


def flow_with(content: bytes, content_type: str, *, facts: bool = True) -> http.HTTPFlow:
    """A flow with such a reply."""
    flow = tflow.tflow(resp=True)
    assert flow.response is not None
    flow.response.headers["content-type"] = content_type
    flow.response.content = content
    if facts:
        flow.metadata["understudy"] = FACTS
    return flow


def shown(flow: http.HTTPFlow, view: str = "auto", *, request: bool = False) -> contentviews.ContentviewResult:
    """What mitmproxy shows."""
    message = flow.request if request else flow.response
    assert message is not None
    return contentviews.prettify_message(message, flow, view)


@pytest.mark.parametrize(
    ("content", "content_type", "facts", "name"),
    [
        (CHAT, f"{SSE}; charset=utf-8", True, "understudy"),
        (json.dumps(GEMINI).encode(), "application/json", True, "understudy"),
        (CHAT, SSE, False, "raw"),
        (json.dumps(GEMINI).encode(), "application/json", False, "json"),
        (b'{"choices": []}', "application/json", True, "understudy"),
        (b"<p>", "text/html", True, "understudy"),
        (b'{"choices": []}', "application/json", False, "json"),
        (b"<p>", "text/html", False, "xml/html"),
    ],
)
def test_where_it_is_chosen(content: bytes, content_type: str, facts: bool, name: str) -> None:
    """By itself for the replies of routed calls, and nowhere else."""
    result = shown(flow_with(content, content_type, facts=facts))
    assert (result.view_name or "").lower() == name


def test_a_stream_is_read_out() -> None:
    """The story first, then the text; nothing of the raw events."""
    for content, content_type in ((CHAT, SSE), (json.dumps(GEMINI).encode(), "application/json")):
        text = shown(flow_with(content, content_type)).text
        assert text.startswith("understudy: exchange 3f9a1c2b4d5e")
        assert "429 rate_limited by fallback/rate_limited (open)" in text
        for block in ANSWER:
            assert f"\n\n{block}\n\n" in text
        assert "choices" not in text


def test_it_can_be_chosen_anywhere() -> None:
    """On requests, plain replies, and streams that have nothing to do with a pool."""
    flow = flow_with(b'{"b": 1, "text": "\\u00e9"}', "application/json")
    flow.request.content = b'{"model": "gpt-5"}'
    assert shown(flow, "understudy").text.endswith('after 3.46s\n\n{\n  "b": 1,\n  "text": "\u00e9"\n}')
    assert shown(flow, "understudy", request=True).text.endswith('{\n  "model": "gpt-5"\n}')
    assert shown(flow_with(CHAT, SSE, facts=False), "understudy").text.split("\n\n")[:3] == ANSWER
    assert shown(flow_with(b"\xff<p>", "text/html", facts=False), "understudy").text == "\\xff<p>"
    assert shown(flow_with(b"", "text/html"), "understudy").text.startswith("understudy: exchange")


def test_a_compressed_stream_is_read_out() -> None:
    """mitmproxy undoes the encoding."""
    flow = flow_with(CHAT, SSE)
    assert flow.response is not None
    flow.response.encode("gzip")
    assert ANSWER[1] in shown(flow).text


def test_metadata_that_is_not_ours() -> None:
    """Another addon may use the same key for what it likes."""
    for facts in (None, "text", ["list"], {"exchange": 7}, {"route": "x"}):
        flow = flow_with(CHAT, SSE)
        flow.metadata["understudy"] = facts
        assert shown(flow).view_name != "understudy"
        assert ANSWER[1] in shown(flow, "understudy").text
