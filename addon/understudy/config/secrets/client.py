"""``secret: client``: the tool's own credential as a candidate like any other, and whose it is.

The credential itself stays with the request that brought it (``rewrite.Stash``); nothing here holds one. Different
tools bring different credentials to the same proxy, and a refusal of one says nothing about another: so they are told
apart by number, in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn, override

from cachetools import LRUCache

from understudy.model import Credential, Route, SecretError, Source, Upstream, fingerprint, printable
from understudy.requests import normal_host

REMEMBERED = 256
"""How many credentials of tools are told apart for each credential of the pool; one that was forgotten is a new one."""


class ClientSecret(Source):
    """Stands for whatever the tool itself sent with this very request."""

    __slots__ = ()
    is_client: ClassVar[bool] = True

    def reveal(self) -> NoReturn:
        """There is nothing to reveal here: the request has it."""
        raise SecretError("the tool's own credential is with its request only")

    @override
    def __repr__(self) -> str:
        return "<secret client>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request is meant to go, as the tool knows it; the path is what stands before the dialect's own."""

    scheme: str
    host: str
    port: int
    base_path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{printable(self.host)}:{self.port}{printable(self.base_path)}"


@dataclass(frozen=True, slots=True)
class Client:
    """What a tool's own credential is worth in one request.

    ``suffix``: what tells it from other tools', see :class:`Owners`. ``name``: of the credential that stands for it,
    be it barred or not. ``barred``: the credentials that stand for it and cannot be used, each with the reason.
    """

    suffix: str = ""
    name: str = ""
    barred: Mapping[str, str] = field(default_factory=dict)


NOBODY = Client()
"""For a route that has the tool's own nowhere."""


def own_credentials(route: Route) -> tuple[Credential, ...]:
    """The credentials of a route that stand for the tool's own, each once."""
    return tuple(dict.fromkeys(each.credential for each in route.choices if each.credential.secret.is_client))


def why_barred(upstream: Upstream, meant: Place, *, saved: bool, sent: bool) -> str:
    """Why the tool's own credential cannot be used for this upstream; "" when it can be (law 8).

    ``saved``: the request is a saved flow with placeholders; ``sent``: there is a credential in it.
    """
    if saved:
        return "a saved flow does not hold the tool's own credential"
    if not sent:
        return "the tool sent no credential of its own"
    at = (meant.scheme, normal_host(meant.host), meant.port, meant.base_path)
    if at != (upstream.scheme, normal_host(upstream.host), upstream.port, upstream.base_path):
        return f"the tool meant its own credential for {meant}, and it goes nowhere else"
    return ""


class Owners:
    """Numbers the credentials that tools bring, by their fingerprints, which exist in memory only.

    Nothing that is derived from a credential is written anywhere; the number is, and says nothing but an order.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, LRUCache[bytes, int]] = {}
        self._last: dict[str, int] = {}

    def client(self, own: Sequence[Credential], meant: Place, values: Sequence[bytes], *, saved: bool) -> Client:
        """What the credential of a tool is worth to these, of which there is at least one; ``values``: what it sent."""
        reasons = {each.name: why_barred(each.upstream, meant, saved=saved, sent=bool(values)) for each in own}
        usable = next((name for name, reason in reasons.items() if not reason), "")
        suffix = self.suffix(usable, values) if usable else ""
        barred = {name + suffix: reason for name, reason in reasons.items() if reason}
        return Client(suffix, (usable or own[0].name) + suffix, barred)

    def suffix(self, credential: str, values: Iterable[bytes]) -> str:
        """What to add to the name of a credential of the pool when a tool brings these values.

        Nothing for the first that came, then ``~2``, ``~3`` and so on; a name in a pool file has no ``~`` in it.
        """
        mark = fingerprint("\0".join(sorted({value.decode("latin-1") for value in values})))
        numbers = self._numbers.setdefault(credential, LRUCache(maxsize=REMEMBERED))
        number = numbers.get(mark)
        if number is None:
            number = numbers[mark] = self._last[credential] = self._last.get(credential, 0) + 1
        return f"~{number}" if number > 1 else ""
