"""A reply that somebody saved -> Reply, for the commands that people teach rules with.

Read are an example as rule files have them (JSON), what `curl -i` printed, a flow dump of mitmproxy, a HAR, and a bare
body. What a saved request carried as a credential is remembered only so that it can be masked, and is shown nowhere.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from understudy.dialects import DIALECTS
from understudy.dialects.base import AUTH_HEADERS
from understudy.encoding import Decoder
from understudy.reply import MAX_TEXT, Reply
from understudy.rulefile import EXAMPLE_KEYS
from understudy.secrets import mask, veil

LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is read."""

_SECRET_HEADERS = AUTH_HEADERS | {"cookie", "proxy-authorization"}
_SECRET_QUERY = ("key", "api_key", "api-key", "access_token", "token")
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


def _read(data: bytes, status: int) -> Iterator[Saved]:
    if re.match(rb"\d{1,12}:", data):
        yield from _flows(data)
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
        case {"log": {"entries": list(entries)}}:
            yield from _har(entries)
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


def _har(entries: Iterable[Any]) -> Iterator[Saved]:
    for number, entry in enumerate(entries, 1):
        match entry:
            case {"request": {"url": str(url)} as request, "response": {"status": int(status)} as response}:
                content = response.get("content")
                post = request.get("postData")
                body = str(post.get("text") or "") if isinstance(post, dict) else ""
                yield _exchange(
                    f"entry {number}",
                    method=str(request.get("method")),
                    url=url,
                    sent=_pairs(request.get("headers")),
                    body=body.encode("utf-8", "replace"),
                    reply=Reply(
                        status if 0 <= status <= 599 else 0,
                        headers=tuple(_pairs(response.get("headers"))),
                        body=_content(content) if isinstance(content, dict) else b"",
                    ),
                )


def _pairs(headers: object) -> list[tuple[str, str]]:
    found = [item for item in headers if isinstance(item, dict)] if isinstance(headers, list) else []
    return [(str(item.get("name")), str(item.get("value"))) for item in found]


def _content(content: Mapping[str, Any]) -> bytes:
    text = content.get("text")
    if not isinstance(text, str):
        return b""
    if content.get("encoding") == "base64":
        try:
            return base64.b64decode(text)[:MAX_TEXT]
        except (binascii.Error, ValueError):
            return b""
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def _flows(data: bytes) -> Iterator[Saved]:
    from mitmproxy import exceptions, http  # here: mitmproxy takes a second to load
    from mitmproxy import io as flows

    try:
        for number, flow in enumerate(flows.FlowReader(io.BytesIO(data)).stream(), 1):
            if isinstance(flow, http.HTTPFlow) and flow.response is not None:
                headers = flow.response.headers.items(multi=True)
                reply = Reply(flow.response.status_code, headers=tuple(headers))
                yield _exchange(
                    f"flow {number}",
                    method=flow.request.method,
                    url=flow.request.pretty_url,
                    sent=list(flow.request.headers.items(multi=True)),
                    body=flow.request.get_content(strict=False) or b"",
                    reply=replace(reply, body=(flow.response.get_content(strict=False) or b"")[:MAX_TEXT]),
                )
    except exceptions.FlowReadException as error:
        raise ReplyFileError(f"this flow dump cannot be read: {error}") from None


def _exchange(where: str, *, method: str, url: str, sent: list[tuple[str, str]], body: bytes, reply: Reply) -> Saved:
    """A reply whose request is known: that says dialect, endpoint and model."""
    parts = urlsplit(url)
    secrets = [word for name, value in sent if name.lower() in _SECRET_HEADERS for word in re.split(r"[\s;,=]+", value)]
    secrets += [value for name, value in parse_qsl(parts.query) if name.lower() in _SECRET_QUERY]
    content_type = next((value for name, value in sent if name.lower() == "content-type"), "")
    reply = replace(reply, host=parts.hostname or "")
    for dialect in _likely(parts.hostname or "", sent):
        for tail in _tails(parts.path):
            endpoint = dialect.endpoint(method, tail)
            call = dialect.read(tail, parts.query, content_type, body) if endpoint else None
            if endpoint and call:
                reply = replace(
                    reply,
                    dialect=dialect.name,
                    endpoint=endpoint.name,
                    kind=endpoint.kind.value,
                    alias=call.alias,
                    model=call.alias,
                    streamed=call.streamed,
                )
                return Saved(reply, f"{where}: {method} {parts.hostname}{parts.path}", tuple(filter(None, secrets)))
    return Saved(reply, f"{where}: {method} {parts.hostname}{parts.path}", tuple(filter(None, secrets)))


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
