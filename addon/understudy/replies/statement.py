"""What a reply says of itself: the tokens it took, and the model that made it.

Read once, when a reply is over: of a plain one from its parsed body, of a stream from its first event and its last
ones. What is too long to be parsed is looked at where its count of tokens stands. Whether a model is another one than
was sent is told by its words, because vendors add dates, folders, regions and tags to the name that was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache

from understudy.codec.record import record
from understudy.dialects import Dialect, StreamEvent, read_json
from understudy.model import Usage

MOST = 1_000_000_000
"""Tokens that are believed of one reply."""
_LONGEST_COUNT = 4096  # bytes of the member that counts tokens

_SOME_WORDS = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)*")
_REGION = re.compile(r"^(?:[a-z][a-z-]*\.)+(?=[a-z])")
# Names of Amazon's regions and vendors before a model: `us.anthropic.claude-...`.
_REVISION = re.compile(r"-v[0-9]+(?::[0-9]+)?$|:0$")
_DATE = re.compile(r"(?<![0-9.])(?:20[0-9]{2}[-.]?[01][0-9][-.]?[0-3][0-9]|[01][0-9]-20[0-9]{2}|20[0-9]{2})(?![0-9])")
_STAMP = re.compile(r"(?<![a-z0-9.])[0-9]{3,8}(?![a-z0-9.])")
# What else vendors number releases with: 0613, 2411, 001.
_MARKS = frozenset({"latest", "preview", "exp", "free", "nitro", "online", "floor", "extended", "exacto", "stable"})
"""Words that say which release or which terms, not which model."""
_ROUTERS = frozenset({"auto", "router", "default", "fusion"})
"""Words of names that leave the choice of a model to the vendor."""


@record
class Statement:
    """``usage`` None: the reply counts no tokens. ``model``: the one that it names, "" without any."""

    usage: Usage | None = None
    model: str = ""


NOTHING_STATED = Statement()


def of_document(dialect: Dialect, document: object) -> Statement:
    """What a whole JSON reply says."""
    usage = dialect.usage(document)
    if usage is not None and (usage.input >= MOST or usage.output >= MOST):
        usage = None
    return Statement(usage, dialect.served_model(document))


def of_events(dialect: Dialect, events: Iterable[StreamEvent], rest: bytes = b"") -> Statement:
    """What the first event of a stream and its last ones say together.

    ``rest``: the last bytes, for a stream whose end is one event that is longer than they are.
    """
    usage, model = of_fragment(dialect, rest), ""
    for event in events:
        if not event.data.startswith((b"{", b"[")):
            continue
        document = read_json(event.data)
        if (counted := _believed(dialect.usage(document))) is not None:
            usage = counted if usage is None else usage.at_least(counted)
        model = model or dialect.served_model(document)
    return Statement(usage, model)


def of_fragment(dialect: Dialect, data: bytes) -> Usage | None:
    """The last count of tokens in the end of a document whose beginning is missing; None without any."""
    mark = f'"{dialect.usage_member}"'.encode()
    at = data.rfind(mark)
    if at < 0:
        return None
    text = data[at + len(mark) :][:_LONGEST_COUNT].lstrip().removeprefix(b":").lstrip().decode("utf-8", "replace")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return _believed(dialect.usage({dialect.usage_member: value}))


def _believed(usage: Usage | None) -> Usage | None:
    return usage if usage is None or (usage.input < MOST and usage.output < MOST) else None


@lru_cache(maxsize=4096)
def is_another(sent: str, named: str) -> bool:
    """Whether a reply names another model than was sent, beyond dates, releases, folders, regions and their order.

    Where the name that was sent leaves the choice to the vendor, and where it is an ARN, nothing can be told.
    """
    if not named or named == sent or sent.startswith("arn:"):
        return False
    wanted, found = _words(sent), _words(named)
    if wanted == found or not wanted or not found or _ROUTERS & set(wanted):
        return False
    # A name without a release may be that of the latest one: `gemini-flash-latest` is `gemini-2.5-flash`.
    return not ("latest" in sent.lower() and set(wanted) <= set(found))


def _words(name: str) -> tuple[str, ...]:
    """What tells a model from others, in the order of the alphabet: vendors do not agree on another one."""
    short = name[:200].lower().strip().rstrip("/").rpartition("/")[2]
    short = re.sub(r"\[[^\]]*\]$", "", short)
    short = _REVISION.sub("", _REGION.sub("", short)).replace("@", "-").replace(":", "-").replace("_", "-")
    short = _STAMP.sub("", _DATE.sub("", short))
    return tuple(sorted(word for word in _SOME_WORDS.findall(short) if word not in _MARKS))
