"""The table of docs/streams.md, "What a tool gets": every cell of it, through a real mitmproxy process."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .authority import Authority
from .behaviours import (
    Behaviour,
    Break,
    Gate,
    chunks,
    drop_after_headers,
    drop_before_headers,
    json_reply,
    raw,
    redirect,
    silent,
    silent_after,
    sse,
)
from .client import End, Response
from .proxy import Proxy
from .stage import CHAT, ENVIRONMENT, Stage, crashes, data, pool_yaml
from .upstream import Upstream

PAGE = Path(__file__).parents[2] / "docs" / "streams.md"
ROUTES = """
  live-*: {candidates: [a, x], budget: {hedge_after: 0.5}}
  held-*: {candidates: [a, x], hold: complete, budget: {hedge_after: 0.5, idle: 0.6}}
"""
JSON, SSE, ZIPPED = (
    ("content-type", "application/json"),
    ("content-type", "text/event-stream"),
    ("content-encoding", "gzip"),
)
FIRST, LAST, DONE = (
    data({"choices": [{"delta": {"content": "from a"}}]}),
    data({"choices": [{"delta": {"content": "."}}]}),
    b"data: [DONE]\n\n",
)
OWN = FIRST + LAST + DONE
WHOLE = json.dumps({"choices": [{"message": {"content": "from a"}}]}).encode()
ROLE = data({"choices": [{"delta": {"role": "assistant"}}]})
FAILURE = {"error": {"message": "The server is overloaded"}}
LONG = b"".join(data({"choices": [{"delta": {"content": f"{number:x}"}}]}) for number in range(400))
PAGE_BODY, REDIRECT = b"<!doctype html><title>Log in</title>", "https://elsewhere.example/"
NO_CHOICE: object = {"choices": []}
NOTHING_SAID: object = {
    "choices": [{"finish_reason": "stop", "message": {"content": None}}],
    "usage": {"completion_tokens": 0},
}
STOPPED = data({"choices": [{"delta": {}, "finish_reason": "stop"}]})

B, A = "B's answer", "A's answer"
ERROR, CUT, AS_CAME = "A's output and the error", "A's output and a cut", "A's bytes as they came"
LIVE, NEVER = "A's output, live", "-"

SCRIPTS: dict[str, tuple[Behaviour, Behaviour | None, str, str, str]] = {
    # What A does: streamed, and plain; what the tool gets: by default, with `hold: complete`, and not streamed.
    "answers": (sse(FIRST, LAST, DONE), raw(200, [JSON], WHOLE), A, A, A),
    "503": (json_reply(503, FAILURE), json_reply(503, FAILURE), B, B, B),
    "429": (json_reply(429, FAILURE), json_reply(429, FAILURE), B, B, B),
    "401": (json_reply(401, FAILURE), json_reply(401, FAILURE), B, B, B),
    "closes before headers": (drop_before_headers(), drop_before_headers(), B, B, B),
    "resets before headers": (drop_before_headers(Break.RESET), drop_before_headers(Break.RESET), B, B, B),
    "headers, then closes": (drop_after_headers(200, [SSE]), drop_after_headers(200, [JSON], WHOLE[:9]), B, B, B),
    "an error event first": (sse(ROLE, data(FAILURE)), json_reply(200, FAILURE), B, B, B),
    "an event that is no JSON": (sse(b"data: error: the engine is gone\n\n"), raw(200, [JSON], b"gone"), B, B, B),
    "a page (HTML)": (raw(200, [("content-type", "text/html")], PAGE_BODY),) * 2 + (B, B, B),
    "200 with nothing": (raw(200, [SSE]), raw(200, [JSON]), B, B, B),
    "`null`": (raw(200, [JSON], b"null"),) * 2 + (B, B, B),
    "other JSON": (json_reply(200, {"status": "up"}),) * 2 + (B, B, B),
    "`choices: []`": (json_reply(200, NO_CHOICE),) * 2 + (B, B, B),
    "a redirect": (redirect(REDIRECT), redirect(REDIRECT), B, B, B),
    "an end without output and tokens": (sse(ROLE, STOPPED, DONE), json_reply(200, NOTHING_SAID), B, B, B),
    "`finish_reason: error`": (
        sse(ROLE, STOPPED.replace(b'"stop"', b'"error"')),
        json_reply(200, {"choices": [{"finish_reason": "error", "message": {"content": ""}}]}),
        B, B, B,
    ),
    "nothing, not even headers": (silent(), None, B, B, NEVER),
    "headers, then nothing": (silent_after(200, [SSE]), None, B, B, NEVER),
    "comments, then nothing": (sse(b": wait\n\n", b": wait\n\n", Gate()), None, B, B, NEVER),
    "output, then an error event": (sse(FIRST, data(FAILURE)), None, ERROR, B, NEVER),
    "output, then a close": (sse(FIRST, ending=Break.CLOSE), drop_after_headers(200, [JSON], WHOLE[:-2]), CUT, B, B),
    "output, then a reset": (sse(FIRST, ending=Break.RESET), None, CUT, B, NEVER),
    "output, then an end without a terminal event": (sse(FIRST, LAST), None, AS_CAME, B, NEVER),
    "output, then nothing": (sse(FIRST, Gate()), None, LIVE, B, NEVER),
    "output, then only comments": (sse(FIRST, b": wait\n\n", b": wait\n\n", Gate()), None, LIVE, B, NEVER),
    "JSON that does not parse": (raw(200, [JSON], WHOLE[:-2]), raw(200, [JSON], WHOLE[:-2]), B, B, B),
    "gzip that ends early": (
        chunks(200, [SSE, ZIPPED], gzip.compress(LONG + DONE)[:-9]),
        raw(200, [JSON, ZIPPED], gzip.compress(WHOLE)[:-12]),
        AS_CAME, B, B,
    ),
    "gzip that is corrupt": (
        chunks(200, [SSE, ZIPPED], gzip.compress(LONG)[:10] + b"\xff" * 99),
        raw(200, [JSON, ZIPPED], b"no gzip at all"),
        AS_CAME, B, AS_CAME,
    ),
    "an open connection after `[DONE]`": (sse(FIRST, LAST, DONE, Gate()), None, LIVE, LIVE, NEVER),
    "an error event after `[DONE]`": (sse(FIRST, LAST, DONE, data(FAILURE)), None, ERROR, ERROR, NEVER),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    with Upstream(authority) as main, Upstream(authority) as other:
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool_yaml(main, other, ROUTES)}
        with Proxy(tmp_path_factory.mktemp("table"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


def told(response: Response, *, stream: bool) -> str:
    """What the tool got, in the words of the table."""
    if response.body == (b"".join((*CHAT.lifecycle, *CHAT.events)) if stream else json.dumps(CHAT.answer).encode()):
        return B if response.end is End.CLEAN else "B's answer, cut"
    if response.end is End.CUT:
        return CUT if FIRST in response.body else "a cut"
    if response.body == (OWN if stream else WHOLE):
        return A
    if response.body.endswith(data(FAILURE)) and FIRST in response.body:
        return ERROR
    return AS_CAME if response.status == 200 else str(response.status)


@pytest.mark.parametrize("column", ["default", "complete", "unstreamed"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_tool_gets(stage: Stage, script: str, column: str) -> None:
    """A01 to A06, S03, S04, S12: B is healthy."""
    streamed, plain, *expected = SCRIPTS[script]
    wanted = expected[("default", "complete", "unstreamed").index(column)]
    if wanted == NEVER:
        pytest.skip("nothing that a plain call could show")
    stream = column != "unstreamed"
    alias = stage.alias("held" if column == "complete" else "live")
    behaviour = streamed if stream else plain
    assert behaviour is not None
    stage.play(alias, {"a": behaviour, "x": CHAT.streams() if stream else CHAT.answers()})
    with stage.connect(CHAT) as tool:
        sent = stage.send(tool, CHAT, alias, stream=stream)
        if wanted == LIVE:
            assert FIRST in sent.read_until(b"from a")  # and it goes on for as long as A does
            return
        assert told(sent.finish(), stream=stream) == wanted


def test_the_table_is_the_documentations() -> None:
    """docs/streams.md says what is measured here, row by row."""
    lines = PAGE.read_text().partition("## What a tool gets")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert rows == [[name, *cells] for name, (_, _, *cells) in SCRIPTS.items()]


def rows() -> str:
    """The rows of the table, to be put into the documentation."""
    return "\n".join(f"| {name} | {' | '.join(cells)} |" for name, (_, _, *cells) in SCRIPTS.items())
