"""The pool file: where it is, who may have written it, and what it says.

A pool file names hosts that get secrets, so it is refused when another user could have written it (law 12),
and it is never looked for in the working directory: a cloned repository must not bring one. All problems are told at
once, each as ``path:line: what is wrong: what to write instead``, and no text here ever holds a secret.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from understudy.codec.file_permissions import check_file_is_private, check_state_is_private
from understudy.codec.yaml_nodes import LARGEST, ConfigError, Problem, read
from understudy.config.fields import is_loopback
from understudy.config.pool_reader import PoolReader
from understudy.config.unreachable_routes import dialects as dialects_of
from understudy.config.unreachable_routes import spoken
from understudy.config.vendors import VENDORS
from understudy.dialects import Dialect
from understudy.model import Pool, is_glob

__all__ = ["ConfigError", "Problem", "default_pool_path", "lint", "load", "parse"]


WITHOUT_A_PATH = {parts.hostname for vendor in VENDORS if not (parts := urlsplit(vendor.url)).path}
"""Hosts of vendors whose base URL has no path."""


def no_pool_file(path: Path, named: Path | None) -> str:
    """That a pool file is missing, and what writes one there. ``named`` None: ``path`` is the usual place."""
    place = f" {shlex.quote(str(named))}" if named else ""
    return f"there is no pool file at {path}: write one with `understudy init{place}`"


def default_pool_path(environ: Mapping[str, str]) -> Path:
    """``understudy/pool.yaml`` in ``$XDG_CONFIG_HOME``, else in ``~/.config``; never relative.

    A relative value of XDG_CONFIG_HOME or HOME is ignored (XDG base directory specification): it would mean the
    working directory. Raises ConfigError when there is no home folder at all.
    """
    configured = Path(environ.get("XDG_CONFIG_HOME", ""))
    if configured.is_absolute():
        return configured / "understudy" / "pool.yaml"
    home = Path(environ.get("HOME", ""))
    if not home.is_absolute():
        try:
            home = Path.home()
        except RuntimeError:
            home = Path()
    if not home.is_absolute():
        problem = Problem("pool.yaml", 1, "there is no home folder to look in", "set HOME, or name a pool file")
        raise ConfigError([problem])
    return home / ".config" / "understudy" / "pool.yaml"


def load(
    path: Path,
    environ: Mapping[str, str],
    dialects: Mapping[str, Dialect],
    warnings: list[Problem] | None = None,
    until_reset: float = 0.0,
) -> Pool:
    """Read the pool file at ``path`` after checking that it is private.

    ``environ`` is where ``secret: {env: ...}`` looks; ``dialects`` are those that upstreams may name. What is
    doubtful but usable is added to ``warnings``. ``until_reset``: the seconds for which the routes that do not say it
    hold a call until a reset. Raises ConfigError with all problems.
    """
    check_file_is_private(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        problem = Problem(str(path), 1, f"this file cannot be read ({error.strerror})", "let its owner read it")
        raise ConfigError([problem]) from None
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(str(path), line, "this is not UTF-8", "save the file as UTF-8")]) from None
    pool = parse(text, path, environ, dialects, warnings, until_reset)
    if pool.state:
        check_state_is_private(Path(pool.state))
    return pool


def parse(
    text: str,
    path: Path,
    environ: Mapping[str, str],
    dialects: Mapping[str, Dialect],
    warnings: list[Problem] | None = None,
    until_reset: float = 0.0,
) -> Pool:
    """Read the text of a pool file; ``path`` is where problems are shown and what secret files are relative to.

    Raises ConfigError with all problems, whatever the text is.
    """
    reader = PoolReader(path, environ, dialects, until_reset)
    pool = reader.read(read(text, str(path), reader.problems))
    if reader.problems:
        raise ConfigError(reader.problems)
    if warnings is not None:
        warnings.extend(sorted(set(reader.warnings)))
    return pool


def _begins_alike(pattern: str, glob: str) -> bool:
    """Whether a route is named after the models of a vendor; ``glob`` is one of those that only that vendor has."""
    start = glob.partition("*")[0]
    return bool(start) and pattern.startswith(start)


def lint(pool: Pool) -> list[str]:
    """What in a usable pool will probably surprise its owner, one line each."""
    return list(_surprises(pool))


def _surprises(pool: Pool) -> Iterator[str]:
    if not pool.routes:
        yield "there are no routes: every request keeps its own credential"
    told: set[str] = set()
    for dialect in sorted({dialect for route in pool.routes.values() for dialect in spoken(route)}):
        routes = [route for route in pool.routes.values() if route.serves(dialect)]
        if dialect in told or any(route.is_default or is_glob(route.pattern) for route in routes):
            continue
        told |= dialects_of(routes[0])
        names = [
            choice.credential.name
            for route in routes
            for choice in route.choices
            if choice.credential.upstream.serves(dialect) and not choice.credential.secret.is_client
        ]
        if not names:
            continue  # they pass with the tool's own credential, which is all there is
        yield (
            f"the routes for the dialect {dialect} have neither `default` nor a glob: the small models that tools "
            f"call for titles and routing pass with the tool's own credential: add `default: [{names[0]}]`"
        )
    for upstream in pool.upstreams.values():
        if upstream.dialects == ("openai",) and not upstream.base_path and upstream.host not in WITHOUT_A_PATH:
            where = f"{upstream.scheme}://{upstream.host}"
            yield (
                f"the url of the upstream {upstream.name} has no path, and most servers of its dialect have one: if "
                f"calls are answered with 404, write {where}/v1"
            )
    for route in pool.routes.values():
        wanted = next(
            (each.dialect for each in VENDORS if any(_begins_alike(route.pattern, g) for g in each.globs)), ""
        )
        served = dialects_of(route)
        if wanted and served and wanted not in served:
            yield (
                f"the route {route.pattern} serves tools that speak {', '.join(sorted(spoken(route)))}, while the "
                f"tools of that vendor speak {wanted} and keep their own credential: if they are meant, add a "
                "candidate that speaks it"
            )
    for each in pool.intercept:
        where = f"{each.host}:{each.port}" if each.port else each.host
        reverse = "set its base URL to that of `understudy dump --mode reverse:http://HOST:PORT` instead"
        if is_loopback(each.host):
            yield f"tools under `understudy run` call {where} past the proxy, because it is on this machine: {reverse}"
        elif each.port == 80:
            yield f"tools under `understudy run` call {where} past the proxy, because it is plain HTTP: {reverse}"
    routed = {choice.credential.name for route in pool.routes.values() for choice in route.choices}
    owned = {credential.upstream.name for credential in pool.credentials.values()}
    for name in pool.credentials:
        if name not in routed:
            yield f"the credential {name} is in no route: name it as a candidate, or remove it"
    for name in pool.upstreams:
        if name not in owned:
            yield f"the upstream {name} has no credential: add one, or remove it"
