"""Which requests are model calls: by host, port, method and path, and by nothing else.

The same hosts carry settings, telemetry, account and quota calls with the same key. Those must pass with what the tool
sent, so a request is recognised only when its whole path is a base path we know plus an endpoint of that dialect.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from understudy.codec.record import record
from understudy.dialects import DIALECTS, Dialect, Endpoint, without_parameters
from understudy.model import Pool, Upstream, host_regex


@dataclass(frozen=True, slots=True)
class Site:
    """A place where calls of a dialect are looked for. ``port`` None means any; ``base_path`` as in ``Upstream``.

    ``host`` may be a pattern, in which ``*`` stands for one label or a part of it.
    """

    host: str
    port: int | None
    dialect: Dialect
    base_path: str


@record
class Recognised:
    """A model call: ``tail`` is the path below the base path, ``query`` what followed the question mark."""

    dialect: Dialect
    endpoint: Endpoint
    tail: str
    query: str = field(repr=False)  # may hold the tool's key


class Sites:
    """Where a pool's calls can come from: the dialects' own sites, the pool's upstreams and its ``intercept`` list.

    Raises ValueError for a dialect that does not exist, which a checked pool file cannot name.
    """

    def __init__(self, pool: Pool) -> None:
        on_any_port: dict[str, list[Site]] = {}
        on_port: dict[tuple[str, int], list[Site]] = {}
        self._patterns: list[tuple[re.Pattern[str], Site]] = []
        for site in _sites(pool):
            if "*" in site.host:
                self._patterns.append((host_regex(site.host), site))
            elif site.port is None:
                on_any_port.setdefault(site.host, []).append(site)
            else:
                on_port.setdefault((site.host, site.port), []).append(site)
        self._on_any_port = {
            host: _longest_first([*sites, *self._matching(host)]) for host, sites in on_any_port.items()
        }
        self._on_port = {
            (host, port): _longest_first([*sites, *on_any_port.get(host, ()), *self._matching(host)])
            for (host, port), sites in on_port.items()
        }

    def __repr__(self) -> str:
        patterns = (site.host for _, site in self._patterns)
        hosts = sorted({*self._on_any_port, *(f"{host}:{port}" for host, port in self._on_port), *patterns})
        return f"<Sites {' '.join(hosts)}>"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names and addresses of all pooled hosts, without ports; at the end the patterns for further ones."""
        names = {*self._on_any_port, *(host for host, _ in self._on_port)}
        return (*sorted(names), *sorted({site.host for _, site in self._patterns}))

    def pooled(self, host: str, port: int) -> bool:
        """Whether connections to this host and port are looked into."""
        return bool(self._at(host, port))

    def dialects_at(self, host: str, port: int) -> tuple[Dialect, ...]:
        """The dialects spoken there, each once: what may be a credential in a request that is not recognised."""
        return tuple(dict.fromkeys(site.dialect for site in self._at(host, port)))

    def recognise(self, host: str, port: int, method: str, path: str) -> Recognised | None:
        """Recognise a model call by its request target ``path`` (with query). The longest base path goes first."""
        target, _, query = path.partition("?")
        for site in self._at(host, port):
            if not target.startswith(site.base_path + "/"):
                continue
            tail = target[len(site.base_path) :]
            endpoint = site.dialect.endpoint(method, tail)
            if endpoint is not None:
                return Recognised(site.dialect, endpoint, tail, query)
        return None

    def lists_models(self, host: str, port: int, path: str) -> Dialect | None:
        """The dialect in whose form this request target lists models; None when it does not."""
        target = path.partition("?")[0]
        for site in self._at(host, port):
            form = site.dialect.model_list
            if form and target.startswith(site.base_path + "/") and target[len(site.base_path) :] in form.tails:
                return site.dialect
        return None

    def _at(self, host: str, port: int) -> tuple[Site, ...]:
        host = normal_host(host)
        found = self._on_port.get((host, port)) or self._on_any_port.get(host)
        return found if found is not None else _longest_first(self._matching(host))

    def _matching(self, host: str) -> list[Site]:
        return [site for pattern, site in self._patterns if pattern.fullmatch(host)]


def normal_host(host: str) -> str:
    """One spelling per host: lower case, no trailing dot, no brackets, IPv6 compressed, names in their ASCII form."""
    host = host.removesuffix(".").lower()
    if ":" in host:
        try:
            return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).compressed
        except ValueError:
            return host
    if not host.isascii():
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            return host
    return host


def upstream_path(upstream: Upstream, tail: str, query: str) -> str:
    """The request target for a call on this upstream."""
    return f"{upstream.base_path}{tail}?{query}" if query else f"{upstream.base_path}{tail}"


def strip_auth_query(dialect: Dialect, query: str) -> str:
    """Remove the parameters that can carry a credential; every other byte of the query stays where it was."""
    return without_parameters(query, dialect.auth_query)


def _sites(pool: Pool) -> Iterable[Site]:
    for dialect in DIALECTS.values():
        wide = dialect.wide_sites if pool.has_route_for(dialect.name) else ()
        for host, base_path in (*dialect.sites, *wide):
            yield Site(normal_host(host), None, dialect, base_path)
    for upstream in (face for each in pool.upstreams.values() for face in (each, *each.faces)):
        yield Site(normal_host(upstream.host), upstream.port, _dialect(upstream.dialect), upstream.base_path)
    for intercept in pool.intercept:
        base_path = intercept.base_path.rstrip("/")
        yield Site(normal_host(intercept.host), intercept.port, _dialect(intercept.dialect), base_path)


def _dialect(name: str) -> Dialect:
    if name not in DIALECTS:
        raise ValueError(f"unknown dialect {name!r}, known are {', '.join(DIALECTS)}")
    return DIALECTS[name]


def _longest_first(sites: Iterable[Site]) -> tuple[Site, ...]:
    return tuple(sorted(dict.fromkeys(sites), key=lambda site: -len(site.base_path)))
