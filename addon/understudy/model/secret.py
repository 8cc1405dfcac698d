"""What every source of a secret promises: only ``reveal`` gives the secret away (law 8).

The sources themselves (environment, file, command, AWS keys, the tool's own) live in ``config.secrets``.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import ClassVar, NoReturn, Self, SupportsIndex, override

_SALT = os.urandom(32)


class SecretError(ValueError):
    """A secret that is missing or cannot be sent. The text names the source and never the secret."""


class SecretMissingError(SecretError):
    """There is no secret where it is looked for: a variable that is not set, a file that is not there, either empty.

    A secret that is there and cannot be sent, or cannot be read, is a mistake in what the owner wrote: SecretError.
    """


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


def fingerprint(value: str) -> bytes:
    """What tells one secret from another within this process, and tells nothing about it outside."""
    return blake2b(value.encode("utf-8", "surrogateescape"), key=_SALT, digest_size=16).digest()
