"""What a credential command printed -> the secret and when it expires.

Commands that print credentials agree on little. Understood are plain text, of which the first line is the secret (as
``pass show`` prints it), a JSON string, and a JSON object with a token and perhaps its expiry under one of the names
that are in use: Kubernetes' ExecCredential, gcloud, Azure's CLI, an OAuth token response (RFC 6749, section 5.1),
Google's executable-sourced credentials, HashiCorp Vault, Docker's credential helpers. A JSON web token says itself
when it expires (RFC 7519, section 4.1.4). No error text here repeats anything of the output.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from understudy.config.secrets.sources import checked
from understudy.model import SecretError

TOKENS = ("token", "accesstoken", "apikey", "secret", "clienttoken", "key", "password", "value", "idtoken")
"""Members that hold the secret, the first that is there wins; in lower case without ``_`` and ``-``."""
INSTANTS = frozenset(
    {"expirationtimestamp", "expirationtime", "expiration", "expiry", "tokenexpiry", "expiresat", "expireson", "exp"}
)
"""Members that hold the time of expiry."""
SPANS = frozenset({"expiresin", "leaseduration"})
"""Members that hold the seconds until then."""
INSIDE = ("status", "credential", "auth", "data")
"""Members that may hold all of this: ExecCredential, ``gcloud config config-helper``, and Vault's two kinds."""

_MILLISECONDS = 1e11  # as seconds this is the year 5138
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Printed:
    """A secret, and when it expires in Unix time; infinite when the output does not say."""

    secret: str = field(repr=False)
    expires: float = math.inf


def read_output(output: bytes, source: str, now: float) -> Printed:
    """Read what a command printed; ``source`` names the command in errors, ``now`` is Unix time in seconds.

    Raises SecretError when there is no secret in it, or none that a header can carry.
    """
    # No strict decoding: a UnicodeDecodeError carries the bytes, and with them the secret, into tracebacks.
    text = output.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").strip()
    if not text.startswith(("{", "[", '"')):
        secret = checked(text.partition("\n")[0], source)
        return Printed(secret, _expiry_of_jwt(secret))
    document = _parsed(text)
    if isinstance(document, str):
        secret = checked(document, source)
        return Printed(secret, _expiry_of_jwt(secret))
    if not isinstance(document, dict):
        raise SecretError(f"{source} printed what begins like JSON and is neither a JSON object nor a string")
    for members in _places(document):
        found = next((members[name] for name in TOKENS if isinstance(members.get(name), str)), None)
        if isinstance(found, str) and found.strip():
            secret = checked(found, source)
            expires = min(_stated(members, now), default=math.inf)
            return Printed(secret, expires if expires < math.inf else _expiry_of_jwt(secret))
    raise SecretError(f"{source} printed JSON without a secret under a name such as token, access_token or api_key")


def _parsed(text: str) -> object:
    """The JSON value of a text; None when it is none."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def _places(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The objects in which to look, members by their plain names."""
    plain = _plain(document)
    yield plain
    for name in INSIDE:
        if isinstance(inner := plain.get(name), dict):
            yield _plain(inner)


def _plain(document: Mapping[str, object]) -> dict[str, object]:
    # Numbers last: where one name is spelled in two ways, the number is exact and a text may lack its time zone.
    ordered = sorted(document.items(), key=lambda item: isinstance(item[1], int | float))
    return {name.lower().replace("_", "").replace("-", ""): value for name, value in ordered}


def _stated(members: Mapping[str, object], now: float) -> Iterator[float]:
    """Every time of expiry that is stated, in Unix time."""
    for name, value in members.items():
        if name in SPANS and (seconds := _number(value)) is not None:
            yield now + seconds
        elif name in INSTANTS and (instant := _instant(value)) is not None:
            yield instant


def _number(value: object) -> float | None:
    """A number above 0, also one that is written as a text; 0 is what Vault writes for "never"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


def _instant(value: object) -> float | None:
    """Unix time in seconds or milliseconds, or a date of RFC 3339. One without a time zone says nothing certain."""
    if (number := _number(value)) is not None:
        return number / 1000 if number >= _MILLISECONDS else number
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _expiry_of_jwt(secret: str) -> float:
    """When a JSON web token says that it expires; infinite when the secret is none or does not say."""
    match = _JWT.fullmatch(secret)
    if match is None:
        return math.inf
    payload = match[1] + "=" * (-len(match[1]) % 4)
    try:
        claims = _parsed(base64.urlsafe_b64decode(payload).decode())
    except ValueError:
        return math.inf
    expires = _number(claims.get("exp")) if isinstance(claims, dict) else None
    return math.inf if expires is None else expires
