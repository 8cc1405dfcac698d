"""A saved reply -> Reply, for the commands that people teach rules with.

Read are an example as rule files have them (JSON), what `curl -i` printed, a flow dump of mitmproxy, a HAR, and a bare
body. What a saved request carried as a credential is remembered only so that it can be masked, and is shown nowhere.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from understudy.codec.content_encoding import Decoder
from understudy.codec.masking import mask, veil
from understudy.dialects import DIALECTS
from understudy.flows import DUMP, FlowFileError, SavedFlow, credentials_in, read_flows
from understudy.replies import MAX_TEXT, Reply
from understudy.rules import EXAMPLE_KEYS

LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is read."""

HEAD = 64
"""Bytes that tell what kind of file it is."""
_HAR = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{\s*\"log\"\s*:\s*\{")
_KINDS = {"generating", "auxiliary"}


class ReplyFileError(ValueError):
    """A file in which there is no reply. The text says what was expected."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A reply and where it was found. ``secrets``: what its request carried as a credential."""

    reply: Reply = field(repr=False)  # its body may echo a secret
    where: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def masked(self, text: str) -> str:
        """A text of this reply without its request's credentials and without what looks like one."""
        for secret in self.secrets:
            text = mask(text, secret, "client")
        return veil(text)


def read_replies(data: bytes, status: int = 400, model: str = "") -> list[Saved]:
    """Every reply in a file. ``status`` is for a body that comes without one; ``model`` fills in where none is known.

    Raises ReplyFileError.
    """
    found = [saved for saved in _read(data, status) if saved.reply.status]
    if not found:
        raise ReplyFileError("there is no reply in it: save one with `curl -i`, as a HAR, or as a flow of mitmproxy")
    return [saved if saved.reply.model else replace(saved, reply=replace(saved.reply, model=model)) for saved in found]


def holds_flows(head: bytes) -> bool:
    """Whether a file that begins like this is a dump or a HAR, and no example and no body."""
    return DUMP.match(head) is not None or _HAR.match(head) is not None


def _read(data: bytes, status: int) -> Iterator[Saved]:
    if holds_flows(data):
        try:
            yield from filter(None, map(of_flow, read_flows(io.BytesIO(data))))
        except FlowFileError as error:
            raise ReplyFileError(str(error)) from None
        return
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:5] == b"HTTP/":
        yield _curl(text)
        return
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"status": int(), **rest} if not isinstance(document["status"], bool) and set(rest) <= set(EXAMPLE_KEYS):
            yield _example(document)
        case _ if data.strip():
            yield Saved(Reply(status, body=data[:MAX_TEXT]))


def _example(fields: Mapping[str, Any]) -> Saved:
    body, headers, kind = fields.get("body", ""), fields.get("headers"), fields.get("kind")

    def text(name: str) -> str:
        value = fields.get(name)
        return value if isinstance(value, str) else ""

    reply = Reply(
        status=fields["status"] if 100 <= fields["status"] <= 599 else 400,
        kind=kind if kind in _KINDS else "generating",
        streamed=fields.get("streamed") is True,
        headers=tuple((str(key), str(value)) for key, value in headers.items()) if isinstance(headers, dict) else (),
        body=(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode("utf-8", "replace"),
        dialect=text("dialect"),
        endpoint=text("endpoint"),
        host=text("host"),
        alias=text("alias"),
        model=text("model"),
        event=text("event"),
    )
    return Saved(reply)


def _curl(data: bytes) -> Saved:
    """The last reply: a proxy's own and those of redirects and of "100 Continue" come before it."""
    while True:
        head, body = _split_head(data)
        if not re.match(rb"HTTP/[\d.]+ \d{3}", body):
            break
        data = body
    lines = head.decode("latin-1").splitlines()
    status = re.match(r"HTTP/[\d.]+ (\d{3})", lines[0])
    headers = tuple(
        (name.strip(), value.strip()) for name, colon, value in (line.partition(":") for line in lines[1:]) if colon
    )
    reply = Reply(int(status[1]) if status else 0, headers=headers)
    return Saved(replace(reply, body=_decoded(body, reply.header("content-encoding"))))


def _split_head(data: bytes) -> tuple[bytes, bytes]:
    found = re.search(rb"\r?\n\r?\n", data)
    return (data[: found.start()], data[found.end() :]) if found else (data, b"")


def _decoded(body: bytes, encoding: str) -> bytes:
    """The body without its content encoding; as it is where it has been decoded already (`curl --compressed`)."""
    decoder = Decoder(encoding, MAX_TEXT)
    decoded = decoder.feed(body)
    return body[:MAX_TEXT] if decoder.failed else decoded


def of_flow(flow: SavedFlow) -> Saved | None:
    """The reply of a saved flow; what it was asked for says dialect, endpoint and model. None when it has no reply."""
    if flow.reply is None:
        return None
    path, _, query = flow.path.partition("?")
    where = f"flow {flow.number}: {flow.method} {flow.host}{path}"
    secrets = (*credentials_in(flow.headers, flow.path), *credentials_in(flow.reply.headers, ""))
    model = flow.facts.get("model")
    reply = Reply(flow.reply.status, headers=flow.reply.headers, body=flow.reply.body or b"", host=flow.host)
    for dialect in _likely(flow.host, flow.headers):
        for tail in _tails(path):
            endpoint = dialect.endpoint(flow.method, tail)
            call = dialect.read(tail, query, flow.header("content-type"), flow.body) if endpoint else None
            if endpoint and call:
                reply = replace(
                    reply,
                    dialect=dialect.name,
                    endpoint=endpoint.name,
                    kind=endpoint.kind.value,
                    alias=call.alias,
                    # What understudy asked the upstream for, where it recorded the flow.
                    model=model if isinstance(model, str) and model else call.alias,
                    streamed=call.streamed,
                )
                return Saved(reply, where, secrets)
    return Saved(reply, where, secrets)


def _likely(host: str, sent: Iterable[tuple[str, str]]) -> list[Any]:
    names = {name.lower() for name, _ in sent}
    return sorted(
        DIALECTS.values(),
        key=lambda dialect: (
            not any(host == site for site, _ in dialect.sites),
            dialect.name != "anthropic" if "anthropic-version" in names else dialect.name != "openai",
        ),
    )


def _tails(path: str) -> Iterator[str]:
    """The path below every base path that it could have."""
    yield path
    for found in re.finditer(r"/", path[1:]):
        yield path[found.start() + 1 :]
