"""What outlives the proxy, as values and as text: running suspensions, where the ladders stand, what was learnt.

Every entry says to which upstream URL it belongs, so that a name that means something else by now brings nothing back.
A rejected credential is not remembered: a restart is how a secret in the environment gets changed, and one attempt
tells whether it was. Nor is what a proxy cannot recognise again: the tools' own credentials, and late results. Nor what
is in doubt: that is over in half a minute. Nor what a drill has made up. What was learnt holds no word of a prompt
(``learned``). The windows of limits are kept until they begin anew.

The text is JSON, written entry by entry: one long call of the encoder would keep everything else from running.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from understudy.codec.steady_clock import ahead_of
from understudy.limits import Stored, Whose, Window
from understudy.model import Key, Label, Pool, Scope, Suspension, printable
from understudy.suspensions.cache import LIMIT, Suspensions
from understudy.suspensions.ladder import Rung
from understudy.suspensions.learned import MOST, Cause, Lesson, Signature

VERSION = 1
LONGEST = 400 * 24 * 3600.0
"""The longest suspension that is believed, in seconds: more than a hand may ask for."""
_OWN = ("suspensions", "ladders", "learned", "limits")
MOST_TEXT = 1000
"""Characters of a text that are read back."""

type Standing = tuple[Key, Label, Rung]


class StateError(ValueError):
    """The text is not a state of this version. Says why."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a state file holds; each entry with the URL of its upstream."""

    suspensions: tuple[tuple[Suspension, str], ...] = ()
    ladders: tuple[tuple[Key, Label, Rung, str], ...] = ()
    learned: tuple[tuple[Lesson, str], ...] = ()
    limits: tuple[tuple[Stored, str], ...] = ()
    sections: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """What others keep in the file, by name, as it was written."""


def urls_of(pool: Pool) -> dict[tuple[bool, str], str]:
    """The URL of each upstream and credential, by whether it is an upstream, and its name."""
    upstreams = {(True, each.name): each.url for each in pool.upstreams.values()}
    return upstreams | {
        (False, each.name): each.upstream.url for each in pool.credentials.values() if not each.secret.is_client
    }


def _place(key: Key) -> tuple[bool, str]:
    return key.scope is Scope.UPSTREAM, key.name


def encode(
    suspensions: Iterable[Suspension],
    ladders: Iterable[Standing],
    urls: dict[tuple[bool, str], str],
    now: float,
    learned: Iterable[Lesson] = (),
    ahead: float = 0.0,
    limits: Iterable[Stored] = (),
    sections: Mapping[str, Sequence[dict[str, Any]]] = MappingProxyType({}),
) -> bytes:
    """The text of a state file, in wall time. ``ahead``: seconds by which that is ahead of all the times given.

    ``sections``: what others keep in it, in wall time already.
    """
    running = (
        _suspension(each, urls[_place(each.key)], ahead)
        for each in suspensions
        if _counts(each.key, each.label, urls) and not each.doubt
    )
    lessons = (
        _lesson(_later(each, ahead), urls[True, each.signature.upstream])
        for each in learned
        if (True, each.signature.upstream) in urls
    )
    rungs = (
        {**_key(key), "url": urls[_place(key)], "label": label, "step": rung.step, "until": rung.until + ahead}
        for key, label, rung in ladders
        if _counts(key, label, urls)
    )
    windows = (_limit(each, urls[False, each.credential], ahead) for each in limits if (False, each.credential) in urls)
    head = f'{{"version": {VERSION}, "written": {json.dumps(now + ahead)},\n'
    lists: dict[str, Iterator[dict[str, Any]]] = {"suspensions": running, "ladders": rungs, "learned": lessons}
    lists["limits"] = windows
    lists |= {name: iter(rows) for name, rows in sections.items()}
    parts = ",\n".join(f'"{name}": [{_listed(entries)}]' for name, entries in lists.items())
    return f"{head}{parts}}}\n".encode()


def _later(lesson: Lesson, seconds: float) -> Lesson:
    """The same, told by a clock that is ahead by so many seconds."""
    times = lesson.since + seconds, lesson.until + seconds, lesson.last + seconds
    return replace(lesson, since=times[0], until=times[1], last=times[2])


def _moved(window: Window, seconds: float) -> Window:
    """The same, told by a clock that is ahead by so many seconds."""
    return replace(window, reset=window.reset + seconds, read=window.read + seconds)


def _counts(key: Key, label: Label, urls: dict[tuple[bool, str], str]) -> bool:
    return label is not Label.CREDENTIAL_REJECTED and not key.drill and _place(key) in urls


def _listed(entries: Iterator[dict[str, Any]]) -> str:
    return ",".join(f"\n {json.dumps(entry)}" for entry in entries)


def _key(key: Key) -> dict[str, Any]:
    return {"scope": key.scope, "name": key.name, "model": key.model}


def _suspension(each: Suspension, url: str, ahead: float) -> dict[str, Any]:
    return {
        **_key(each.key),
        "url": url,
        "since": each.since + ahead,
        "until": each.until + ahead,
        "label": each.label,
        "rule": each.rule,
        "evidence": each.evidence,
        "hint": each.hint,
        "candidate": each.candidate,
        "step": each.step,
    }


def _lesson(each: Lesson, url: str) -> dict[str, Any]:
    signature = each.signature
    return {
        "id": signature.id,
        "upstream": signature.upstream,
        "url": url,
        "dialect": signature.dialect,
        "status": signature.status,
        "code": signature.code,
        "type": signature.type,
        "words": signature.words,
        "cause": each.cause,
        "label": each.label,
        "rule": each.rule,
        "speaker": each.speaker,
        "witness": each.witness,
        "since": each.since,
        "until": each.until,
        "seen": each.seen,
        "last": each.last,
        "tries": each.tries,
    }


def _limit(each: Stored, url: str, ahead: float) -> dict[str, Any]:
    window = each.window
    return {
        "credential": each.credential,
        "url": url,
        "name": window.name,
        "of": window.of,
        "whose": window.whose,
        "subject": window.subject,
        "left": window.left,
        "limit": window.limit,
        "remaining": window.remaining,
        "reset": window.reset + ahead if window.reset < math.inf else None,
        "read": window.read + ahead,
        "length": window.length,
    }


def decode(content: bytes) -> Remembered:
    """Read the text of a state file. Raises StateError, whatever the text is."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise StateError("this is not JSON") from None
    if not isinstance(document, dict) or "version" not in document:
        raise StateError("this is not a state file")
    if document["version"] != VERSION:
        raise StateError(f"this is of version {printable(str(document['version']), 20)}, not {VERSION}")
    try:
        suspensions = tuple(_read_suspension(each) for each in document["suspensions"])
        ladders = tuple(_read_rung(each) for each in document["ladders"])
        learned = tuple(_read_lesson(each) for each in document.get("learned", ()))  # earlier releases learnt nothing
        limits = tuple(_read_limit(each) for each in document.get("limits", ()))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StateError(f"an entry is damaged ({printable(repr(error), 100)})") from None
    sections = {name: rows for name, rows in document.items() if name not in _OWN and isinstance(rows, list)}
    return Remembered(suspensions[:LIMIT], ladders[:LIMIT], learned[:MOST], limits[:LIMIT], sections)


def _read_key(entry: dict[str, Any]) -> Key:
    return Key(Scope(entry["scope"]), _text(entry["name"]), _text(entry["model"]))


def _read_suspension(entry: dict[str, Any]) -> tuple[Suspension, str]:
    since, until = _number(entry["since"]), _number(entry["until"])
    suspension = Suspension(
        _read_key(entry),
        since,
        until,
        Label(entry["label"]),
        _line(entry["rule"]),
        _line(entry["evidence"]),
        _line(entry["hint"]),
        _line(entry["candidate"]),
        step=_whole(entry["step"]),
    )
    return suspension, _text(entry["url"])


def _read_rung(entry: dict[str, Any]) -> tuple[Key, Label, Rung, str]:
    # Its order is that of nothing: every attempt of this process begins later.
    rung = Rung(_whole(entry["step"]), 0, _number(entry["until"]))
    return _read_key(entry), Label(entry["label"]), rung, _text(entry["url"])


def _read_lesson(entry: dict[str, Any]) -> tuple[Lesson, str]:
    signature = Signature(
        _identity(entry["id"]),
        _text(entry["upstream"]),
        _line(entry["dialect"]),
        _whole(entry["status"]),
        _line(entry["code"]),
        _line(entry["type"]),
        _line(entry["words"]),
    )
    lesson = Lesson(
        signature,
        Cause(entry["cause"]),
        Label(entry["label"]),
        _line(entry["rule"]),
        _line(entry["speaker"]),
        _line(entry["witness"]),
        _number(entry["since"]),
        _number(entry["until"]),
        int(_number(entry["seen"])),
        _number(entry["last"]),
        _whole(entry["tries"]),
    )
    return lesson, _text(entry["url"])


def _read_limit(entry: dict[str, Any]) -> tuple[Stored, str]:
    left, reset = _maybe(entry["left"]), _maybe(entry["reset"])
    window = Window(
        _line(entry["name"]),
        _line(entry["of"]),
        Whose(entry["whose"]),
        _text(entry["subject"]),
        None if left is None else min(1.0, max(0.0, left)),
        _maybe(entry["limit"]),
        _maybe(entry["remaining"]),
        math.inf if reset is None else reset,
        _number(entry["read"]),
        _number(entry["length"]),
    )
    return Stored(_text(entry["credential"]), window), _text(entry["url"])


def _maybe(value: object) -> float | None:
    return None if value is None else _number(value)


def _identity(value: object) -> str:
    text = _text(value)
    if re.fullmatch("[0-9a-f]{12}", text) is None:
        raise TypeError("no id of a signature")
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _line(value: object) -> str:
    text = _text(value)[:MOST_TEXT]
    return text if text.isprintable() else printable(text, MOST_TEXT)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("no number")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10_000:
        raise TypeError("no step")
    return value


def restore(remembered: Remembered, pool: Pool, suspensions: Suspensions) -> int:
    """Suspend again what is still to be; returns how many. What runs already is only ever lengthened.

    What was learnt and still holds is known again.
    """
    now, urls, count = suspensions.clock(), urls_of(pool), 0
    ahead = ahead_of(suspensions.clock)
    known = [
        _later(lesson, -ahead)
        for lesson, url in remembered.learned
        if urls.get((True, lesson.signature.upstream)) == url
    ]
    suspensions.learned.restore(reversed(known))  # the latest comes first in the file
    suspensions.limits.restore(
        Stored(each.credential, _moved(each.window, -ahead))
        for each, url in remembered.limits
        if urls.get((False, each.credential)) == url
    )
    for stated, url in remembered.suspensions:
        suspension = replace(stated, since=stated.since - ahead, until=stated.until - ahead)
        believed = now < suspension.until <= now + LONGEST
        if believed and urls.get(_place(suspension.key)) == url:
            count += suspensions.suspend(suspension) is not None
    reached = {(key, label) for key, label, _ in suspensions.ladders}
    running = {each.key for each in suspensions}
    for key, label, rung, url in remembered.ladders:
        if urls.get(_place(key)) != url or (key, label) in reached:
            continue
        # The window of a rung without its suspension would swallow the next failure.
        until = rung.until - ahead if key in running else min(rung.until - ahead, now)
        suspensions.ladders.climb(key, label, Rung(rung.step, rung.order, until))
    return count
