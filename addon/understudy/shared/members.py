"""What is stored of a suspension, and under which name: values and text, no connection.

A name says what is suspended and what that was when it was suspended: upstream, headers and a hash of the secret. So a
process whose secret is another one, or whose upstream has another URL, does not meet it, and a late success of an older
secret clears nothing that was learnt with a newer one. Nothing here holds a secret: of a secret there are four bytes of
a hash, which tell two apart and which thousands of millions of others share.

Not shared is what others know better by themselves: the tools' own credentials, a rejected secret that a command can
renew (each process has its own), and an upstream that this machine cannot reach, which may be this machine's network.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from understudy.model import Credential, Key, Label, Pool, Scope, SecretError, Suspension, Upstream, printable
from understudy.suspensions import Ladders, Rung

LONGEST = 400 * 24 * 3600
"""The longest suspension that is believed, in seconds: more than a hand may ask for."""
LONGEST_RECORD = 8 * 1024
"""Characters of a record; a longer one is not ours."""
MOST_TEXT = 500
"""Characters of a text of a record."""


class RecordError(ValueError):
    """The text is not a record of ours."""


@dataclass(frozen=True, slots=True)
class Record:
    """A suspension as another process tells it. Times are readings of this process's clock, in seconds."""

    suspension: Suspension
    rung: Rung | None


class Members:
    """The names of what can be shared of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._identities: dict[str, str] = {}
        self._upstreams = {name: _digest(*_place(each)) for name, each in pool.upstreams.items()}
        for name in pool.credentials:
            self.look(name)

    def look(self, name: str) -> bool:
        """Look at a credential again; returns whether it has become another one."""
        credential = self.pool.credentials.get(name)
        before = self._identities.pop(name, None)
        if credential is not None and (found := _identity(credential)):
            self._identities[name] = found
        return self._identities.get(name) != before

    def name(self, suspension: Suspension) -> str:
        """The name under which a suspension is shared, "" when it is not."""
        key = suspension.key
        if key.scope is Scope.UPSTREAM:
            return self.name_of(key) if suspension.by_hand else ""
        credential = self.pool.credentials.get(key.name)
        if credential is None:
            return ""
        if suspension.label is Label.CREDENTIAL_REJECTED and credential.secret.refreshable:
            return ""
        return self.name_of(key)

    def name_of(self, key: Key) -> str:
        """The name of a key, "" for one that is never shared."""
        if key.drill:
            return ""
        known = self._upstreams if key.scope is Scope.UPSTREAM else self._identities
        identity = known.get(key.name)
        if identity is None or not _is_storable(key.model):
            return ""
        return f"{key.scope}|{identity}|{key.name}|{key.model}"

    def key_of(self, name: str) -> Key | None:
        """What a name stands for here; None for what this pool has not, or has as something else."""
        scope, _, rest = name.partition("|")
        _, _, rest = rest.partition("|")
        owner, _, model = rest.partition("|")
        try:
            key = Key(Scope(scope), owner, model)
        except ValueError:
            return None
        if (key.scope is Scope.CANDIDATE) is not bool(model) or self.name_of(key) != name:
            return None
        if key.scope is Scope.CANDIDATE and not any(route.means(owner, model) for route in self.pool.routes.values()):
            return None
        return key


def encode(suspension: Suspension, ladders: Ladders[Key], offset: float) -> str:
    """The record of a suspension. ``offset``: seconds by which the server's clock is ahead of ours."""
    rung = ladders.standing(suspension.key).get(suspension.label)
    return json.dumps(
        {
            "since": round((suspension.since + offset) * 1000),
            "label": suspension.label,
            "rule": suspension.rule[:MOST_TEXT],
            "evidence": suspension.evidence[:MOST_TEXT],
            "hint": suspension.hint[:MOST_TEXT],
            "candidate": suspension.candidate[:MOST_TEXT],
            "step": suspension.step,
            "rung": None if rung is None else [rung.step, round((rung.until + offset) * 1000)],
        }
    )


def decode(text: str, key: Key, until: float, offset: float) -> Record:
    """Read a record. ``until``: its deadline, in milliseconds of the server. Raises RecordError, whatever it is."""
    try:
        if len(text) > LONGEST_RECORD:
            raise ValueError("too long")
        document = json.loads(text)
        since = _seconds(document["since"], offset)
        suspension = Suspension(
            key,
            since,
            _seconds(until, offset),
            Label(document["label"]),
            _line(document["rule"]),
            _line(document["evidence"]),
            _line(document["hint"]),
            _line(document["candidate"]),
            step=_whole(document["step"]),
        )
        rung = None
        if (found := document["rung"]) is not None:
            rung = Rung(_whole(found[0]), 0, _seconds(found[1], offset))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise RecordError(f"not a record of ours ({printable(repr(error), 100)})") from None
    return Record(suspension, rung)


def _identity(credential: Credential) -> str:
    """What tells a credential from another one with its name; "" for one that is never shared."""
    secret, value = credential.secret, ""
    if secret.is_client or credential.missing:
        return ""
    if not secret.refreshable:
        try:
            value = secret.reveal()
        except SecretError:
            return ""
    mark = blake2b(value.encode("utf-8", "surrogateescape"), digest_size=4, person=b"understudy").hexdigest()
    headers = (part for header in sorted(credential.headers) for part in header)
    return _digest(*_place(credential.upstream), *headers, str(secret.refreshable), mark)


def _place(upstream: Upstream) -> tuple[str, ...]:
    return upstream.dialect, upstream.url, upstream.api_version


def _digest(*parts: str) -> str:
    found = blake2b(digest_size=8, person=b"understudy")
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        found.update(len(data).to_bytes(4, "big") + data)
    return found.hexdigest()


def _is_storable(model: str) -> bool:
    try:
        return len(model.encode()) <= MOST_TEXT
    except UnicodeEncodeError:
        return False  # a lone surrogate, from a tool that calls its model what it likes


def _seconds(milliseconds: object, offset: float) -> float:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float) or not math.isfinite(milliseconds):
        raise TypeError("no time")
    return milliseconds / 1000 - offset


def _line(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return printable(value[:MOST_TEXT], MOST_TEXT)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10_000:
        raise TypeError("no step")
    return value
