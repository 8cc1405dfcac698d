"""Single values of a pool file: what each may look like, and what to write when it does not.

Every function here takes a value of ``yaml_nodes`` and returns something checked, or raises ``Wrong``. None of them
knows where in the file it is used, and none repeats a value that may hold a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from understudy.codec.masking import shown
from understudy.codec.yaml_nodes import Kind, Listing, Scalar, Table, Value

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

AUTH_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "set-cookie"}
    | {"ocp-apim-subscription-key", "x-amz-security-token"}
)
"""Headers that carry a secret: only a credential's secret source may fill them."""

FRAMING_HEADERS = frozenset(
    {"host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
    | {"content-length", "content-encoding"}
)
"""Headers that say how and where a request is sent; they belong to the proxy."""


class Wrong(Exception):
    """A value that cannot be used: what is wrong, and what to write instead."""

    def __init__(self, what: str, write: str) -> None:
        super().__init__(what, write)
        self.what = what
        self.write = write


class Absent(Wrong):
    """A secret that is not where the file says: its credential is out of use, and the rest of the file is not."""


def suggestion(word: str, known: Collection[str]) -> str:
    """What to write instead of an unknown word: the nearest known one, else all of them."""
    import difflib  # here: files without a mistake do not need it

    ordered = sorted(known)[:200]
    near = difflib.get_close_matches(word[:100], ordered, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    more = ", ..." if len(ordered) > 12 else ""
    return f"write one of {', '.join(ordered[:12])}{more}" if ordered else "define it first"


def table(value: Value, write: str) -> Table:
    """A mapping."""
    if not isinstance(value, Table):
        raise Wrong(f"{describe(value)} in place of a mapping", write)
    return value


def listing(value: Value, write: str) -> Listing:
    """A list."""
    if not isinstance(value, Listing):
        raise Wrong(f"{describe(value)} in place of a list", write)
    return value


def describe(value: Value) -> str:
    """The type of a value in words."""
    match value:
        case Table():
            return "a mapping"
        case Listing():
            return "a list"
        case Scalar(kind=kind):
            return kind.value


def text(value: Value, what: str) -> str:
    """A single value as written: ``4``, ``no`` and a date are names too. Never empty, always printable."""
    if not isinstance(value, Scalar) or value.kind is Kind.NOTHING or not value.text.strip():
        is_blank = isinstance(value, Scalar)
        raise Wrong(f"{what} is missing" if is_blank else f"{describe(value)} in place of {what}", "add it")
    if not value.text.isprintable() or value.text != value.text.strip():
        raise Wrong(f"{what} has unprintable characters or spaces around it", "remove them")
    return value.text


def name(value: Value, what: str) -> str:
    """The name of an upstream or credential; it appears in placeholders and log lines."""
    found = text(value, what)
    if not _NAME.fullmatch(found):
        raise Wrong(f"{what} {shown(found)} has characters that are not allowed", "use only A-Z a-z 0-9 . _ -")
    return found


def users(value: Value) -> tuple[str, ...]:
    """Names of users of the proxy, or globs: one, or a list. A colon ends a name in HTTP's Basic scheme (RFC 7617)."""
    example = "write a name or a list such as `[alice, ci-*]`"
    items = value.items if isinstance(value, Listing) else (value,)
    found: dict[str, None] = {}
    for item in items:
        name = text(item, "the name of a user")
        if ":" in name:
            raise Wrong(f"the user {shown(name)} has a colon in the name", "write the name without its password")
        if name in found:
            raise Wrong(f"the user {shown(name)} is written twice", "remove one of them")
        found[name] = None
    if not found:
        raise Wrong("`who` names no user", f"{example}, or remove it: every call may use it then")
    return tuple(found)


def version(value: Value) -> str:
    """The version of an API, such as ``2024-10-21`` or ``preview``."""
    return name(value, "the API version")


def boolean(value: Value) -> bool:
    """True or false."""
    if isinstance(value, Scalar) and value.kind is Kind.BOOLEAN and value.text.lower() in _BOOLEANS:
        return _BOOLEANS[value.text.lower()]
    raise Wrong(f"{describe(value)} in place of true or false", "write true or false")


def number(value: Value, least: float, most: float, unit: str) -> float:
    """A plain decimal number within bounds, both included."""
    bounds = f"write a number of {unit} from {least:.12g} to {most:.12g}"
    if not isinstance(value, Scalar) or value.kind is not Kind.NUMBER:
        raise Wrong(f"{describe(value)} in place of a number", bounds)
    if not _NUMBER.fullmatch(value.text):
        raise Wrong(f"{shown(value.text)} is not a plain decimal number", bounds)
    found = float(value.text)
    if not least <= found <= most:
        raise Wrong(f"{shown(value.text)} is out of bounds", bounds)
    return found


def whole_number(value: Value, least: int, most: int, unit: str) -> int:
    """A whole number within bounds, both included."""
    found = number(value, least, most, unit)
    if not found.is_integer():
        raise Wrong(f"{found:g} is not a whole number", f"write a whole number of {unit}")
    return int(found)


def host(value: Value) -> str:
    """A host name or address, in lower case and without brackets."""
    return _host(text(value, "a host"))


def _host(found: str) -> str:
    found = found.lower()
    if found.startswith("[") and found.endswith("]"):
        found = found[1:-1]
    if ":" in found and "%" not in found:
        try:
            return str(ipaddress.IPv6Address(found))
        except ValueError:
            raise Wrong("not a host name", "write the name alone, without scheme, port or path") from None
    if not _HOST.fullmatch(found):
        write = "write the name alone, such as llm.example.com, and names in other scripts in their xn-- form"
        raise Wrong("not a host name", write)
    return found


def base_path(value: Value) -> str:
    """A path below which a dialect's endpoints live, without a trailing slash; ``/`` alone becomes empty."""
    return _base_path(text(value, "a base path"))


def _base_path(found: str) -> str:
    found = found.rstrip("/")
    if not _BASE_PATH.fullmatch(found) or {".", ".."} & set(found.split("/")):
        raise Wrong("not a base path", "write it such as /gateway/v1, without query, dots or doubled slashes")
    return found


def url(value: Value) -> tuple[str, str, int, str]:
    """A base URL as (scheme, host, port, base path). It is never repeated in an error: it may hold a secret."""
    example = "write it such as https://api.example.com/v1"
    found = text(value, "a URL")
    try:
        parts = urlsplit(found)
        hostname, port = parts.hostname, parts.port
    except ValueError:
        raise Wrong("not a URL", example) from None
    if parts.scheme not in ("http", "https") or not hostname:
        raise Wrong("not an http or https URL", example)
    if "@" in parts.netloc:
        raise Wrong("a URL with user info", "remove what stands before the @ and name the secret in a credential")
    if "?" in found or "#" in found:
        raise Wrong("a URL with a query or fragment", "end it before the ? or #; secrets belong in a credential")
    if port == 0:
        raise Wrong("a URL with port 0", example)
    return parts.scheme, _host(hostname), port or {"http": 80, "https": 443}[parts.scheme], _base_path(parts.path)


def is_loopback(found: str) -> bool:
    """Whether a checked host is this machine."""
    try:
        return ipaddress.ip_address(found).is_loopback
    except ValueError:
        return found == "localhost" or found.endswith(".localhost")


def store_url(value: Value) -> str:
    """Where a Valkey or Redis server is: ``redis://``, ``rediss://`` or ``unix://``, and nothing secret."""
    found = text(value, "the URL of the server")
    write = "write `redis://HOST:6379`, `rediss://HOST:6379` or `unix:///PATH`"
    try:
        parts = urlsplit(found)
        port = parts.port
    except ValueError:
        raise Wrong("this is not the URL of a server", write) from None
    if "@" in found:
        # Never repeated: there may be a password in it.
        raise Wrong("the URL has a user or a password in it", "write `user: NAME` and `password: {env: NAME}`")
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise Wrong(f"{shown(found)} is not the path of a socket", write)
        return found
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment:
        raise Wrong(f"{shown(found)} is not the URL of a Valkey or Redis server", write)
    if port == 0 or not re.fullmatch(r"/?|/[0-9]{1,4}", parts.path):
        raise Wrong(f"{shown(found)} has more than a host, a port and the number of a database", write)
    return found


def header(key: Scalar, value: Value) -> tuple[str, str]:
    """A header as (name in lower case, value). The value is never repeated in an error."""
    found = header_name(key)
    content = text(value, f"the value of the header {found}")
    if any(ord(char) > 0xFF for char in content):
        raise Wrong(f"the value of the header {found} has a character that no header can carry", "use latin-1")
    return found, content


def header_name(key: Scalar) -> str:
    """The name of a header that a credential may add, in lower case."""
    found = key.text.lower()
    if not _TOKEN.fullmatch(found):
        raise Wrong(f"{shown(key.text)} is not a header name", "use only letters, digits and -")
    if found in AUTH_HEADERS:
        raise Wrong(f"the header {found} carries a secret", "remove it and name the secret under `secret`")
    if found in FRAMING_HEADERS:
        raise Wrong(f"the header {found} belongs to the proxy", "remove it")
    return found
