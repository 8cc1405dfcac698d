"""Secrets from an environment variable and from a file, read when the pool is loaded.

A source tells its secret only through ``reveal``: not in its repr, not in an error text, not to pickle (law 8).
"""

from __future__ import annotations

import logging
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import override

from understudy.codec.masking import shown
from understudy.model import SecretError, SecretMissingError, Source

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST_FILE = 64 * 1024


logger = logging.getLogger(__name__)


class EnvSecret(Source):
    """The value an environment variable had when the pool was loaded.

    Raises SecretMissingError when the variable is not set or is empty, SecretError when no header can carry its value.
    """

    __slots__ = ("_value", "_variable")

    def __init__(self, variable: str, environ: Mapping[str, str] | None = None) -> None:
        self._variable = variable
        if not _VARIABLE.fullmatch(variable):
            # Most likely the secret itself, pasted where its name belongs: it must not be repeated.
            raise SecretError("this is not the name of an environment variable")
        value = (os.environ if environ is None else environ).get(variable)
        if value is None:
            raise SecretMissingError(f"the environment variable {shown(variable)} is not set")
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
    not replace a working one; this is logged once per change. The first reading raises SecretMissingError when there is
    no such file or it is empty, SecretError when it cannot be used.
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
        # Without O_NONBLOCK, opening a named pipe would hang the proxy until a program writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SecretMissingError(f"{source} cannot be read ({error.strerror})") from None
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
    """The secret without the spaces around it.

    Raises SecretMissingError when there is none, SecretError when no header can carry it; both name ``source``.
    """
    value = value.strip()
    if not value:
        raise SecretMissingError(f"{source} is empty")
    if any(unicodedata.category(char) == "Cc" for char in value):
        raise SecretError(f"{source} holds a line break or another control character inside the secret")
    if any(ord(char) > 0xFF for char in value):
        raise SecretError(f"{source} holds a character that no HTTP header can carry")
    return value
