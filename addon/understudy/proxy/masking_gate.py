"""The gate: what leaves this process for people, files or tools passes it, and no secret in use gets through (law 8).

It knows every secret that can be on the wire: those of the pool, each one that an attempt went out with, and what tools
sent as their own. Texts are masked with all of them; log records as well, whoever writes them, mitmproxy included. The
head and the body of a reply are masked with those that its request carried (``Secret``), after decoding.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from traceback import format_exception
from typing import Any

from mitmproxy import http

from understudy.codec.content_encoding import decode_reply
from understudy.codec.masking import SHORTEST_MASKED, mask, signs_of
from understudy.replies import Secret

SEEN_LIMIT = 256
"""Secrets beyond those of the pool that are known at a time: printed by commands, or sent by tools."""
BODY_LIMIT = 8 * 1024 * 1024
"""Decoded bytes of a reply that a flow shows."""
NOT_SHOWN = b"understudy: this body is not shown: it cannot be decoded, or is larger than 8 MiB"
ENCODINGS = ("gzip", "deflate", "br", "zstd")
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How gzip and zstd begin, also in a body that says nothing of them."""
NOT_WRITTEN = "understudy: a log line that cannot be put together"
NAME_MASKED = b"x-understudy-masked"
"""A header whose name held a secret: a placeholder is no name that a header can have."""

type Fields = tuple[tuple[bytes, bytes], ...]


class MaskingGate:
    """The secrets in use, and the texts that are masked with all of them."""

    def __init__(self) -> None:
        self._pool: dict[str, str] = {}  # secret: name of its credential
        self._seen: OrderedDict[str, str] = OrderedDict()
        self._signs: tuple[str, ...] = ()
        """A text without any of them repeats no secret in use. Some may be those of secrets that are not any more."""
        self._dropped = 0

    def use(self, secrets: Mapping[str, str]) -> None:
        """The secrets of a pool, each with the name of its credential. Those of the pool before stay known.

        A request may still be under way with one of them.
        """
        self._signs = _united(self._signs, secrets)  # first: another thread may write a line meanwhile
        before, self._pool = (
            self._pool,
            {secret: name for secret, name in secrets.items() if len(secret) >= SHORTEST_MASKED},
        )
        for secret, name in before.items():
            self.learn(name, secret)
        self._look_for_all()

    def learn(self, name: str, *secrets: str) -> None:
        """A request goes out with these."""
        for secret in secrets:
            if len(secret) < SHORTEST_MASKED or secret in self._pool:
                continue
            if secret not in self._seen:
                self._signs = _united(self._signs, [secret])
            self._seen[secret] = name
            self._seen.move_to_end(secret)
            if len(self._seen) > SEEN_LIMIT:
                self._seen.popitem(last=False)
                self._dropped += 1
                if self._dropped >= SEEN_LIMIT:
                    self._look_for_all()

    def _look_for_all(self) -> None:
        self._dropped = 0
        self._signs = _united((), [*self._pool, *self._seen])

    def mask(self, text: str) -> str:
        """The text with a placeholder for each secret in use; the same object where there is none."""
        for sign in self._signs:
            if sign in text:
                break
        else:
            return text  # as nearly all log lines
        for known in (self._pool, self._seen):
            for secret, name in list(known.items()):
                text = mask(text, secret, name)
        return text

    # -- log lines -----------------------------------------------------------------------------------------------

    def open(self) -> Callable[[], None]:
        """Mask every log record and every printed traceback of this process from now on; returns what ends that.

        A filter would have to be on every handler, also on those that are added later: records are masked as they are
        made.
        """
        unhook = self._hook_tracebacks()
        before, active = logging.getLogRecordFactory(), True

        def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            if active:
                self.clean(record)
            return record

        def close() -> None:
            nonlocal active
            active = False
            unhook()
            if logging.getLogRecordFactory() is make:  # else another program has put its own on top of it
                logging.setLogRecordFactory(before)

        logging.setLogRecordFactory(make)
        return close

    def _hook_tracebacks(self) -> Callable[[], None]:
        """Mask what Python prints of an exception that ends the program or a thread, or that it cannot raise."""
        put: list[tuple[Any, str, Callable[..., str]]] = [
            (sys, "excepthook", lambda kind, error, trace: _printed(error)),
            (
                sys,
                "unraisablehook",
                lambda what: f"{what.err_msg or 'Ignored'}: {what.object!r}\n{_printed(what.exc_value)}",
            ),
            (
                threading,
                "excepthook",
                lambda what: f"In {getattr(what.thread, 'name', '')}:\n{_printed(what.exc_value)}",
            ),
        ]
        undo = []
        for module, name, text_of in put:
            before = getattr(module, name)
            ours = self._guard(before, text_of)
            setattr(module, name, ours)
            undo.append((module, name, before, ours))

        def unhook() -> None:
            for module, name, before, ours in undo:
                if getattr(module, name) is ours:  # else somebody has put theirs on top of it
                    setattr(module, name, before)

        return unhook

    def _guard(self, before: Callable[..., Any], text_of: Callable[..., str]) -> Callable[..., None]:
        def hook(*args: Any) -> None:
            try:
                text = text_of(*args)
                clean = self.mask(text)
            except Exception:
                text, clean = "", f"{NOT_WRITTEN}\n"
            if clean is text:
                before(*args)
            elif sys.stderr is not None:
                sys.stderr.write(clean)

        return hook

    def clean(self, record: logging.LogRecord) -> None:
        """Mask a log record, its traceback included. Never raises."""
        try:
            message = record.getMessage()
            masked = self.mask(message)
            if record.exc_info and record.exc_info[1] is not None:
                trace = "".join(format_exception(record.exc_info[1]))
                clean = self.mask(trace)
                if clean is not trace:
                    masked, record.exc_info = f"{masked}\n{clean.rstrip()}", None
            if masked is not message:
                record.msg, record.args = masked, ()
            if record.stack_info:
                record.stack_info = self.mask(record.stack_info)
        except Exception:
            record.msg, record.args, record.exc_info = NOT_WRITTEN, (), None


def _united(signs: Iterable[str], secrets: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*signs, *(sign for secret in secrets for sign in signs_of(secret)))))


def _printed(error: BaseException | None) -> str:
    return "".join(format_exception(error)) if error is not None else ""


# -- the head of a reply ---------------------------------------------------------------------------------------------


def masked_fields(fields: Fields, secret: Secret) -> Fields:
    """Header or trailer fields of a reply without an echo of the secret; the same tuple where there is none."""
    found = tuple((_name(name, secret), secret.mask(value)) for name, value in fields)
    return fields if found == fields else found


def _name(name: bytes, secret: Secret) -> bytes:
    """HTTP/2 has names in lower case only, so a secret is looked for in that as well."""
    shown = secret.mask(name)
    return name if shown == name and not secret.is_in_lower_case(name) else NAME_MASKED


def is_clean_head(response: http.Response, secret: Secret) -> bool:
    """Whether nothing of a head repeats the secret: reason phrase, names and values of the fields. Nearly all are."""
    whole = b"\n".join((response.data.reason, *chain.from_iterable(response.headers.fields)))
    return secret.mask(whole) is whole and not secret.is_in_lower_case(whole)


def mask_head(response: http.Response, secret: Secret) -> bool:
    """Mask reason phrase, header fields and trailers of a reply; returns whether there was anything to mask."""
    fields, reason, trailers = response.headers.fields, response.data.reason, response.trailers
    if trailers is None and is_clean_head(response, secret):
        return False
    shown = masked_fields(fields, secret), secret.mask(reason), trailers and masked_fields(trailers.fields, secret)
    if shown == (fields, reason, trailers and trailers.fields):
        return False
    response.headers.fields = shown[0]
    response.data.reason = shown[1]
    if shown[2]:
        response.trailers = http.Headers(shown[2])  # another object: the tool may still be sent the one before
    return True


# -- its body --------------------------------------------------------------------------------------------------------


def mask_body(response: http.Response, secret: Secret, *, limit: int = BODY_LIMIT) -> bool:
    """Mask the whole body that a reply has, after decoding it; returns whether it was changed.

    A body that is not fit to be shown because it cannot be decoded keeps its bytes, without a secret in clear.
    """
    content = response.data.content
    if not content:
        return False
    shown = masked_body(content, response.headers.get("content-encoding", ""), secret, limit=limit)
    if shown is content:
        return False
    set_body(response, shown)
    return True


def masked_body(content: bytes, encoding: str, secret: Secret, *, limit: int = BODY_LIMIT) -> bytes:
    """The body without an echo: the same object where there is none, else the masked body, without its encoding.

    Bytes may stand in clear behind or in place of what is encoded, so they are looked at as they are, too.
    """
    decoded = decode_reply(content, encoding, limit) if encoding else content
    if decoded is None or content.startswith(COMPRESSED):
        # It is called something else than what it is; whoever looks for the secret would find out.
        for other in ENCODINGS:
            found = decode_reply(content, other, limit)
            if found and (masked := secret.mask(found)) != found:
                return masked
    if decoded is None:
        return secret.mask(content)
    masked = secret.mask(decoded)
    return content if masked == decoded and secret.mask(content) is content else masked


def show_body(response: http.Response, secret: Secret) -> None:
    """Mask the body of a reply that only a flow shows: one that cannot be decoded is not stored."""
    if response.data.content and not can_be_decoded(response):
        set_body(response, NOT_SHOWN)
    else:
        mask_body(response, secret)


def can_be_decoded(response: http.Response) -> bool:
    """Whether the content encoding of a body can be undone within bounds."""
    encoding = response.headers.get("content-encoding", "")
    return not encoding or decode_reply(response.data.content or b"", encoding, BODY_LIMIT) is not None


def set_body(response: http.Response, content: bytes) -> None:
    """Put a body without an encoding in place, and say so in the headers."""
    response.headers.pop("content-encoding", None)
    if "content-length" in response.headers:
        response.headers["content-length"] = str(len(content))
    response.data.content = content
