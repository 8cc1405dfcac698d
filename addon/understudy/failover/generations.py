"""What a change of the pool or of a secret means for what is suspended (F16, O03).

Evidence is about an identity: an upstream, the headers of an account, a secret. Where that has changed, what was learnt
before is void, and so are late results of what was sent before. What is not in the pool any more leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from understudy.model import Credential, Key, Pool, Scope, SecretError, fingerprint
from understudy.suspensions import Suspensions

type Identity = tuple[object, ...]
type Seen = tuple[Pool | None, Mapping[str, Identity]]
"""A pool, and the identities of its credentials."""


def own_name(name: str) -> str:
    """The credential's name in the pool file: several tools' own credentials are told apart as ``own``, ``own~2``."""
    return name.partition("~")[0]


class Identities:
    """Which identity each credential of the pool had when it was last looked at."""

    def __init__(self, suspensions: Suspensions) -> None:
        self.suspensions = suspensions
        self._pool: Pool | None = None
        self._known: dict[str, Identity] = {}
        self._fetched: dict[str, bytes] = {}

    def use(self, pool: Pool) -> None:
        """A pool is loaded, maybe in place of another."""
        before, self._pool = self._pool, pool
        known, self._known = self._known, {}
        for name, each in pool.credentials.items():
            if not each.missing:
                self._known[name] = _identity(each)
            elif name in known:
                # Nothing shows that the secret is another one: if the same comes back, what was learnt holds again.
                self._known[name] = known[name]
        for name, identity in self._known.items():
            if name in known and known[name] != identity:
                self.suspensions.renew(name)
                # Several tools' own credentials stand behind one name of the file.
                for key in self.suspensions.known():
                    if key.scope is not Scope.UPSTREAM and key.name != name and own_name(key.name) == name:
                        self.suspensions.renew(key.name)

        def is_there(key: Key) -> bool:
            if key.scope is Scope.UPSTREAM:
                return key.name in pool.upstreams and (
                    before is None or before.upstreams.get(key.name) == pool.upstreams[key.name]
                )
            name = own_name(key.name)
            return name in pool.credentials and (
                key.scope is Scope.CREDENTIAL or any(route.means(name, key.model) for route in pool.routes.values())
            )

        self.suspensions.retain(is_there)
        self.suspensions.learned.retain(lambda name: is_there(Key(Scope.UPSTREAM, name)))
        self.suspensions.limits.retain(lambda name: own_name(name) in pool.credentials)

    def saw(self, name: str, secret: str) -> bool:
        """A credential whose secret is fetched goes out with this one; returns whether it is another than before.

        It is another token of the same account: what was said about the old token is void, limits and quotas are not.
        """
        before, self._fetched[name] = self._fetched.get(name), fingerprint(secret)
        if before is None or before == self._fetched[name]:
            return False
        self.suspensions.renew(name, rejected_only=True)
        return True

    def look(self) -> list[str]:
        """Look at the secrets again; returns the credentials whose secret is another one now."""
        return self.take(self.read())

    def read(self) -> Seen:
        """What there is to compare of each credential whose secret may change by itself. Another thread may do it."""
        pool, found = self._pool, {}
        for name, each in pool.credentials.items() if pool else ():
            if not (each.secret.is_client or each.secret.refreshable or each.missing):
                found[name] = _identity(each)
        return pool, found

    def take(self, seen: Seen) -> list[str]:
        """Renew what is another one than before; returns the names. What was read of another pool says nothing."""
        pool, identities = seen
        changed = []
        for name, identity in identities.items() if pool is self._pool else ():
            if identity != self._known.get(name):
                self._known[name] = identity
                self.suspensions.renew(name)
                changed.append(name)
        return changed


def _identity(credential: Credential) -> Identity:
    secret, value = credential.secret, b""
    if not (secret.is_client or secret.refreshable):
        try:
            value = fingerprint(secret.reveal())
        except SecretError:
            value = b"none"
    with suppress(SecretError):
        for name, each in credential.secret_headers:
            value += name.encode() + fingerprint(each.reveal())
    return credential.upstream, credential.headers, repr(secret), value
