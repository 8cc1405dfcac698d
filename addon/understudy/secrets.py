"""Where secrets come from, and how they are kept out of everything that people read (law 8 of the design).

A source knows its secret and tells it only through ``reveal``: not in its repr, not in an error text, not to pickle.
Texts that may echo a secret go through ``mask``, which puts the placeholder of its credential in its place.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import stat
import string
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, NoReturn, Self, SupportsIndex, override

SHORTEST_MASKED = 8
"""Shorter secrets are placeholders such as ``ollama`` or ``none``: masking them would ruin ordinary texts."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST_FILE = 64 * 1024
_SHOWN_CHARACTERS = 60
_SALT = os.urandom(32)
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")  # RFC 3986, section 2.3
_PLACEHOLDER = re.compile(r"(?:<|%3c)understudy(?::|%3a)[a-z0-9._-]+(?:>|%3e)", re.IGNORECASE | re.ASCII)
_LOOKS_SECRET = re.compile(
    r"(?:\b(?:sk|pk|rk|gsk|hf|r8|key|api|xai|pplx|nvapi|gh[opusr]|github_pat)[-_]|\bAIza|\beyJ|\bBearer\s+)\S{12,}"
    r"|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{24,}"
)

logger = logging.getLogger(__name__)


class SecretError(ValueError):
    """A secret that is missing or cannot be sent. The text names the source and never the secret."""


class Source:
    """What all sources share: nothing but ``reveal`` gives the secret away."""

    __slots__ = ()
    is_client: ClassVar[bool] = False
    """Whether it is the tool's own credential."""
    refreshable: ClassVar[bool] = False
    """Whether another secret may be had after the upstream rejected this one."""

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret is never pickled")

    @override
    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class SigningSource(Source):
    """A secret that signs a request instead of going out with it."""

    __slots__ = ()

    def reveal(self) -> str:
        """Return the secret, to be masked where a reply repeats it."""
        raise NotImplementedError

    def others(self) -> tuple[str, ...]:
        """Further secrets that a signed request carries."""
        raise NotImplementedError

    def sign(self, method: str, url: str, host: str, content_type: str, body: bytes) -> tuple[tuple[str, str], ...]:
        """The headers that the signature of a request needs. Raises SecretError when there is nothing to sign with."""
        raise NotImplementedError


class EnvSecret(Source):
    """The value an environment variable had when the pool was loaded.

    Raises SecretError when the variable is not set, is empty, or holds what no header can carry.
    """

    __slots__ = ("_value", "_variable")

    def __init__(self, variable: str, environ: Mapping[str, str] | None = None) -> None:
        self._variable = variable
        if not _VARIABLE.fullmatch(variable):
            # Most likely the secret itself, pasted where its name belongs: it must not be repeated.
            raise SecretError("this is not the name of an environment variable")
        value = (os.environ if environ is None else environ).get(variable)
        if value is None:
            raise SecretError(f"the environment variable {shown(variable)} is not set")
        self._value = checked(value, f"the environment variable {shown(variable)}")

    def reveal(self) -> str:
        """Return the secret."""
        return self._value

    @override
    def __repr__(self) -> str:
        return f"<secret env {self._variable}>"


class FileSecret(Source):
    """The content of a file, read at once and again whenever the file has changed.

    A file that has gone or become unusable since does not replace the secret read before, as a broken pool file does
    not replace a working one; this is logged once per change. Raises SecretError when the first reading fails.
    """

    __slots__ = ("_path", "_stamp", "_value")

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._stamp: _Stamp | None
        self._stamp, self._value = _read(self._path)

    def reveal(self) -> str:
        """Return the secret. Costs one stat call while the file stays the same."""
        stamp = _stamp_of(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._stamp, self._value = _read(self._path)
            except SecretError as error:
                logger.warning("%s: the secret read before stays in use", error)
        return self._value

    @override
    def __repr__(self) -> str:
        return f"<secret file {self._path}>"


type _Stamp = tuple[int, int, int, int]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except (OSError, ValueError):
        return None


def _read(path: Path) -> tuple[_Stamp, str]:
    source = f"the secret file {shown(str(path))}"
    try:
        # Without O_NONBLOCK, opening a named pipe would hang the proxy until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise SecretError(f"{source} cannot be read ({error.strerror})") from None
    except ValueError:
        raise SecretError(f"{source} has a name that no file can have") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"{source} is not a regular file")
        content = os.read(descriptor, _LARGEST_FILE + 1)
    except OSError as error:
        raise SecretError(f"{source} cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST_FILE:
        raise SecretError(f"{source} is larger than {_LARGEST_FILE} bytes")
    # No strict decoding: a UnicodeDecodeError carries the bytes, and with them the secret, into tracebacks.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return _stamp(status), checked(text, source)


def checked(value: str, source: str) -> str:
    """The secret without the spaces around it; raises SecretError, naming ``source``, when no header can carry it."""
    value = value.strip()
    if not value:
        raise SecretError(f"{source} is empty")
    if any(unicodedata.category(char) == "Cc" for char in value):
        raise SecretError(f"{source} holds a line break or another control character inside the secret")
    if any(ord(char) > 0xFF for char in value):
        raise SecretError(f"{source} holds a character that no HTTP header can carry")
    return value


def fingerprint(value: str) -> bytes:
    """What tells one secret from another within this process, and tells nothing about it to anybody else."""
    return blake2b(value.encode("utf-8", "surrogateescape"), key=_SALT, digest_size=16).digest()


def shown(text: str) -> str:
    """Quote what a person wrote for an error text: on one line, bounded, and cut where it looks like a secret.

    People do paste a secret where its name belongs, and error texts end up in issues and chats.
    """
    text = veil(text)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "...")


def veil(text: str) -> str:
    """Cut whatever in a text looks like a secret down to its first three characters."""
    return _LOOKS_SECRET.sub(lambda match: f"{match[0][:3]}...", text)


def placeholder(name: str) -> str:
    """What stands for the secret of the credential ``name`` wherever people or files can see it."""
    return f"<understudy:{name}>"


def has_placeholder(text: str | bytes) -> bool:
    """Whether a placeholder of any credential occurs, also with its brackets percent-encoded as in a URL."""
    return _PLACEHOLDER.search(text if isinstance(text, str) else text.decode("latin-1")) is not None


def mask[T: (str, bytes)](text: T, secret: str, name: str) -> T:
    """Replace every occurrence of the secret by the placeholder of ``name``.

    Found are the secret itself and its percent-encoded, JSON-escaped and base64 spellings, base64 at any alignment so
    that ``user:secret`` of Basic authentication is found too. Secrets shorter than SHORTEST_MASKED are left alone.
    """
    if len(secret) < SHORTEST_MASKED:
        return text
    for_str, for_bytes = _patterns(secret)
    if isinstance(text, str):
        return for_str.sub(lambda _: placeholder(name), text)
    return for_bytes.sub(lambda _: placeholder(name).encode(), text)


@lru_cache(maxsize=64)
def _patterns(secret: str) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
    forms = list(dict.fromkeys([secret, *_base64_forms(secret)]))
    for_str = "|".join("".join(_spellings(char, {char}) for char in form) for form in forms)
    # The bytes pattern is written as latin-1 text, one character per byte; a body may be in either encoding.
    for_bytes = "|".join(
        "".join(_spellings(char, {data.decode("latin-1") for data in _encoded(char)}) for char in form)
        for form in forms
    )
    return re.compile(for_str), re.compile(for_bytes.encode("latin-1"))


def _encoded(text: str) -> set[bytes]:
    found = {text.encode("utf-8", "surrogateescape")}
    if all(ord(char) <= 0xFF for char in text):
        found.add(text.encode("latin-1"))
    return found


def _spellings(char: str, plain: set[str]) -> str:
    """One character of a secret as an expression for all the ways in which it may be written."""
    if char in _UNRESERVED:  # no encoder changes these, and a pattern of plain letters is searched for much faster
        return re.escape(char)
    coded = {"".join(f"%{byte:02x}" for byte in data) for data in _encoded(char)} | {rf"\u{ord(char):04x}"}
    coded |= {f"\\{char}"} if char in '"\\/' else {"+"} if char == " " else set()
    return f"(?:{_either(plain)}|(?i:{_either(coded)}))"


def _either(texts: set[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))  # one may begin with another


def _base64_forms(secret: str) -> Iterator[str]:
    """The base64 characters that depend on nothing but the secret, for each place it can have in a group of three."""
    for data in sorted(_encoded(secret)):
        for offset in range(3):
            before, bits = -(-offset * 8 // 6), (offset + len(data)) * 8
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(bytes(offset) + data).decode()[before : bits // 6]
