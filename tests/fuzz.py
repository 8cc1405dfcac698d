"""Hostile input for every parser, and for a live proxy between a hostile upstream and a tool.

A target gets bytes: valid documents that were damaged, and pieces of its own vocabulary in any order. It must come to
an end within a time that is far above what it takes, and raise nothing but what it promises to. The seed is printed:
``scripts/fuzz --seed N TARGET`` shows a failure again. With ``--inputs`` a run ends by count and not by time, so that
the same seed means the same inputs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.e2e.behaviours import verbatim
from tests.e2e.client import CUT, Connection
from tests.e2e.proxy import Proxy, make_place
from tests.e2e.stage import CHAT, ENVIRONMENT, HOSTS, SECRETS, TOOL, pool_yaml
from tests.e2e.upstream import Upstream
from tests.support.bounds import no_hang
from tests.support.saved_flows import MISSING, OK, dump, flow, har
from understudy.codec import amazon_frames, event_stream, multipart
from understudy.codec.body_text import parse, text_of
from understudy.codec.content_encoding import Decoder, decode_request
from understudy.codec.json_edit import read_json_model, set_json_members, write_json_model
from understudy.codec.masking import has_placeholder, mask, veil
from understudy.codec.yaml_nodes import ConfigError
from understudy.config import load
from understudy.dialects import DIALECTS
from understudy.flows.flow_file import FlowFileError, read_flows
from understudy.replies import Reply, read_hint
from understudy.replies.transcript import read as transcript
from understudy.rules import RuleLibrary
from understudy.suspensions.snapshot import StateError, decode

SECONDS = 5.0
"""For one input."""
CALL = {
    "model": "gpt-5",
    "stream": True,
    "messages": [{"role": "user", "content": 'say "hi"\\'}],
    "tools": [{"x": [1.5]}],
}
ERROR = {
    "error": {"message": "The model `gpt-5` does not exist", "code": "model_not_found", "type": "x", "param": None}
}
EVENTS = b'event: error\r\ndata: {"error": {"message": "overloaded"}}\r\n\r\ndata: {"choices": [{"delta": {}}]}\n\n'
POOL = b"""upstreams:
  o: {dialect: openai, url: "https://llm.test/v1"}
credentials:
  a: {upstream: o, secret: {env: A}}
routes:
  default: [a]
  gpt-*: {candidates: [a], budget: {wait: 3}, strategy: weighted}
"""
STATE = (
    b'{"version": 1, "written": 1.0, "ladders": [], '
    b'"suspensions": [{"scope": "credential", "name": "a", "model": "", "url": "u"}]}'
)
WORDS = [
    b"",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[" * 300,
    b'{"error":' * 40,
    b":",
    b",",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"data:",
    b"event:",
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"-",
    b"<html>",
    b"model",
    b"stream",
    b"error",
    b"message",
    b"a" * 3000,
    b"%",
    b"--b",
    b"&",
    b"*",
    b"!",
    b"|",
    b" " * 500,
    b"\x1f",
    b"\x85",
    b"\xc2\xa0",
    "٣".encode(),
    "²".encode(),
]


class Input:
    """Where the bytes of one round come from."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def damaged(self, *documents: bytes) -> bytes:
        """One of these, with a few bytes changed, or a row of words."""
        chance = self.chance
        if chance.random() < 0.2:
            return b"".join(chance.choice(WORDS) for _ in range(chance.randrange(12)))
        data = bytearray(chance.choice(documents))
        for _ in range(chance.choice((0, 1, 1, 2, 5))):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(4):
                case 0:
                    data[at:at] = chance.choice(WORDS)
                case 1:
                    del data[at : at + chance.randrange(1, 30)]
                case 2:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case _:
                    data[at:at] = data[max(0, at - 20) : at] * chance.randrange(1, 50)
        return bytes(data)


def json_bodies(given: Input) -> None:
    body = given.damaged(json.dumps(CALL).encode(), json.dumps(CALL, indent=1).encode())
    alias, _ = read_json_model(body)
    with contextlib.suppress(ValueError):
        assert read_json_model(write_json_model(body, "new"))[0] == "new"
        assert alias is not None
    with contextlib.suppress(ValueError):
        assert read_json_model(set_json_members(body, {"model": "new"}))[0] == "new"


def forms(given: Input) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt\r\n--b\r\n\r\nx\r\n--b--\r\n'
    kind = given.damaged(b'multipart/form-data; boundary="b"', b"multipart/form-data; boundary=b").decode("latin-1")
    body = given.damaged(form)
    multipart.read_multipart_model(kind, body)
    with contextlib.suppress(ValueError):
        multipart.set_multipart_model(kind, body, "new")


def encodings(given: Input) -> None:
    name = given.chance.choice(["gzip", "deflate", "br", "zstd", "gzip, br", "identity", "x"])
    import gzip
    import zlib

    import brotli

    body = given.damaged(gzip.compress(b"a" * 5000), zlib.compress(b"b" * 50), brotli.compress(b"c" * 500))
    decoder = Decoder(name, 1000)
    cut = given.chance.randrange(len(body) + 1)
    assert len(decoder.feed(body[:cut]) + decoder.feed(body[cut:])) <= 1000
    decode_request(body, name, 100_000)


def streams(given: Input) -> None:
    kind = given.chance.choice(["text/event-stream", "application/x-ndjson", "application/json", amazon_frames.TYPE])
    data = given.damaged(EVENTS, b'[{"a": 1},\n{"b": "]"}]', b'{"a": 1}\n{"b": 2}\n')
    cut = given.chance.randrange(len(data) + 1)
    whole, parts = event_stream.EventReader(kind), event_stream.EventReader(kind)
    found = [*whole.feed(data), *whole.finish()]
    assert [*parts.feed(data[:cut]), *parts.feed(data[cut:]), *parts.finish()] == found
    for dialect in DIALECTS.values():
        for event in found[:5]:
            dialect.progress(event)
            dialect.finishes(event)
    for framing in event_stream.StreamKind:
        event_stream.last_events(framing, data, 4)
    str(transcript(data, kind))


RULES = RuleLibrary()


def replies(given: Input) -> None:
    charset = given.chance.choice(["", "; charset=utf-16", "; charset=gbk", "; charset=punycode", "; charset=big5"])
    status = given.chance.choice([200, 400, 401, 403, 404, 429, 500, 503, 529])
    retry = given.damaged(b"5", b"Wed, 21 Oct 2015 07:28:00 GMT").decode("latin-1")
    body = given.damaged(json.dumps(ERROR).encode(), EVENTS, json.dumps({"errors": [ERROR] * 5}).encode(), b"<html>")
    reply = Reply(
        status,
        given.chance.choice([*DIALECTS]),
        headers=(("content-type", f"application/json{charset}"), ("retry-after", retry)),
        body=body,
        model="gpt-5",
        alias="gpt-5",
    )
    RULES.ruleset.judge(reply)
    read_hint(reply, 1_700_000_000.0)
    assert len(reply.folded_text) <= 1 << 17
    parse(text_of(body, charset))


def masks(given: Input) -> None:
    text = given.damaged(b"Bearer sk-live-0123456789abcdef", b"%3Cunderstudy%3Aa%3E", json.dumps(ERROR).encode())
    secret = "sk-live-0123456789abcdef"
    assert secret.encode() not in mask(text, secret, "main")
    has_placeholder(text)
    veil(text.decode("latin-1"))


def pool_files(given: Input) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.yaml"
        path.touch(0o600)
        path.write_bytes(given.damaged(POOL))
        with contextlib.suppress(ConfigError):
            load(path, {"A": "sk-0123456789"}, DIALECTS)


def states(given: Input) -> None:
    with contextlib.suppress(StateError):
        decode(given.damaged(STATE))


SAVED = (flow(404, MISSING), flow(200, OK), flow(0, error="gone"))
DUMP, HAR = dump(*SAVED), har(*SAVED)


def flow_files(given: Input) -> None:
    with contextlib.suppress(FlowFileError):
        for saved in read_flows(io.BytesIO(given.damaged(DUMP, HAR))):
            assert isinstance(saved.path, str)


TARGETS: dict[str, Callable[[Input], None]] = {
    each.__name__: each
    for each in (json_bodies, forms, encodings, streams, replies, masks, pool_files, states, flow_files)
}


class Budget:
    """Whether there is another round: until the time is up, or for so many inputs."""

    def __init__(self, seconds: float, inputs: int | None) -> None:
        self._ends = time.monotonic() + seconds
        self._inputs = inputs

    def allows(self, rounds: int) -> bool:
        return rounds < self._inputs if self._inputs is not None else time.monotonic() < self._ends


def offline(name: str, budget: Budget, seed: int) -> tuple[int, list[str]]:
    """One parser. Returns rounds and what failed."""
    rounds = 0
    while budget.allows(rounds):
        rounds += 1
        try:
            with no_hang(SECONDS):
                TARGETS[name](Input(Random(f"{seed}-{name}-{rounds}")))
        except Exception as error:
            return rounds, [f"{name} {rounds}: {error!r}"[:2000]]
    return rounds, []


def live(budget: Budget, seed: int) -> tuple[int, list[str]]:
    """Damaged replies, byte for byte, through a real proxy; after each a sound call. Returns rounds and what failed."""
    body = json.dumps(ERROR).encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    documents = [
        head % (b"404 Not Found", b"application/json", len(body)) + body,
        head % (b"200 OK", b"text/event-stream", len(EVENTS)) + EVENTS,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ]
    failed: list[str] = []
    rounds = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        authority, confdir = make_place(folder)
        hostile = stack.enter_context(Upstream(authority, alpn=["http/1.1"]))
        sound = stack.enter_context(Upstream(authority))
        sound.on(SECRETS["x"], CHAT.answers())
        pool = pool_yaml(hostile, sound, "  far: {candidates: [a, x], budget: {wait: 0}}\n  sound: [x]")
        proxy = stack.enter_context(
            Proxy(folder / "proxy", confdir, trusted=authority.path, env=ENVIRONMENT, pool_yaml=pool)
        )
        while budget.allows(rounds) and not failed:
            rounds += 1
            given = Input(Random(f"{seed}-live-{rounds}"))
            hostile.on(SECRETS["a"], verbatim(given.damaged(*documents)))
            for alias in ("far", "sound"):
                path, asked = CHAT.ask(alias, alias == "far" and given.chance.random() < 0.5)
                try:
                    with Connection(proxy.port, HOSTS["openai"], ca=proxy.ca) as tool:
                        reply = tool.request("POST", path, [CHAT.header(TOOL)], json.dumps(asked).encode())
                    if alias == "sound" and reply.status != 200:
                        failed.append(f"live {rounds}: a sound call got {reply.status}")
                except CUT as cut:
                    if alias == "sound":
                        failed.append(f"live {rounds}: a sound call was cut: {cut!r}")
        log = proxy.log_text()
        failed += [line for line in log.splitlines() if "internal error" in line or "Traceback" in line][:5]
    return rounds, failed


def main() -> int:
    """Run the targets in turn until the time is up; exit status 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, "live", []], metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--inputs", type=int, help="so many for each target, instead of a time")
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else Random().randrange(1 << 30)
    chosen = arguments.targets or [*TARGETS, "live"]
    problems = 0
    print(f"seed {seed}")
    for name in chosen:
        budget = Budget(arguments.seconds / len(chosen), arguments.inputs)
        rounds, failed = live(budget, seed) if name == "live" else offline(name, budget, seed)
        print(f"{name}: {rounds} inputs{''.join(f'{chr(10)}  {each}' for each in failed)}", flush=True)
        problems += len(failed)
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
