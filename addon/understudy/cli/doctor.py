"""``understudy doctor [-- COMMAND]``: what keeps a tool from being served by the pool, each with what to do.

It looks and changes nothing: the pool file, the proxies that run, what this shell sets, and what is known of the tool
(``known_tools``). What it prints holds no secret: addresses without user names and passwords, variables by name.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from understudy.cli import known_tools, placeholder_keys, remote_proxy, tool_environment, trust
from understudy.cli.port_check import ProbeError, probe
from understudy.codec.yaml_nodes import ConfigError, Problem
from understudy.config import default_pool_path, lint, load, no_pool_file
from understudy.control import registry
from understudy.control.registry import Running
from understudy.dialects import DIALECTS
from understudy.model import Pool, counted
from understudy.requests import Sites

PORT = 8080
"""Where `understudy web` and `dump` listen unless they are told otherwise."""
DO_ENV = 'run `eval "$(understudy env)"`, or start the tool with `understudy run`'


REFUSED = re.compile(r"Client TLS handshake failed\. The client does not trust the proxy's certificate for (\S+)")
"""What mitmproxy logs when a tool says so; a tool that just closes the connection may have had other reasons."""
UNKNOWN_ROOT = re.compile(
    r"certificate verify failed: (?:unable to get (?:local )?issuer certificate|self.signed certificate)", re.IGNORECASE
)
"""What understudy logs when an upstream shows a certificate of a root that the proxy does not know."""
LAST = 200_000
"""Bytes of the log that are looked at."""


class Weight(StrEnum):
    """How much a finding matters; ``PROBLEM`` makes the exit status 1."""

    FINE = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what was found, the mend included."""

    weight: Weight
    text: str

    def __str__(self) -> str:
        return f"{self.weight + ':':<8} {self.text}"


def fine(text: str) -> Finding:
    """All is well here."""
    return Finding(Weight.FINE, text)


def note(text: str) -> Finding:
    """Good to know."""
    return Finding(Weight.NOTE, text)


def problem(text: str) -> Finding:
    """Something is missing."""
    return Finding(Weight.PROBLEM, text)


def doctor_command(arguments: argparse.Namespace) -> int:
    """``understudy doctor [--pool FILE] [-- COMMAND]``: what is missing, each with the mend."""
    return doctor(arguments.pool, arguments.tool, os.environ)


def doctor(file: Path | None, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print what was found; 1 when there is a problem."""
    status = 0
    for finding in examine(file, command, environ):
        print(finding)
        status |= finding.weight is Weight.PROBLEM
    return status


def examine(file: Path | None, command: Sequence[str], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that can be found, in the order in which a call meets it."""
    pool, findings = _pool(file, environ)
    if file is not None or remote_proxy.led_to(environ) is None:
        yield from findings  # a shell that leads to another machine needs no pool file on this one
    running, findings = _proxies(pool, environ)
    yield from findings
    here = running is not None and environ.get("HTTPS_PROXY", environ.get("https_proxy")) == running.url
    program = None
    if command:
        found = shutil.which(command[0], path=environ.get("PATH"))
        if found is None:
            yield problem(f"there is no command {command[0]}: install it, or say where it is")
        else:
            program = Path(found)
            yield from _tool(program, running, environ)
            yield from _placeholders(program, command[1:], pool, running, environ)
    if running is not None and here:
        yield from _shell(running, known_tools.tool_of(program) if program else None, environ)
    elif way_out := tool_environment.way_out(environ):
        yield note(f"HTTPS_PROXY is {_place(way_out)}: a proxy that `understudy run` starts goes out through it")
    else:
        yield note(f"this shell does not use the proxy: {DO_ENV}")
    if pool is not None:
        yield from _base_urls(Sites(pool), environ)
    yield from _log(environ)


def _pool(file: Path | None, environ: Mapping[str, str]) -> tuple[Pool | None, list[Finding]]:
    warnings: list[Problem] = []
    try:
        path = (file or default_pool_path(environ)).absolute()
        if not path.exists():
            return None, [problem(no_pool_file(path, file))]
        pool = load(path, environ, DIALECTS, warnings)
    except ConfigError as error:
        is_served = any(running.credentials and running.pool == str(path) for running in _running(environ))
        missing = "the environment variable "
        return None, [
            note(f"{each}; the proxy that runs has read it")
            if is_served and each.what.startswith(missing)
            else problem(str(each))
            for each in error.problems
        ]
    lost = [each.missing for each in pool.credentials.values() if each.missing]
    elsewhere = _known_to_proxies(pool, environ)
    served = tuple(each.missing for each in pool.credentials.values() if each.missing and each.name in elsewhere)
    there = f"{len(pool.credentials) - len(lost)} of them usable" if lost else "all secrets there"
    counts = f"{counted(len(pool.routes), 'route')} over {counted(len(pool.credentials), 'credential')}, {there}"
    # What keeps a credential out of use keeps calls from being served; the other warnings are for the owner to weigh.
    doubts = []
    for each in warnings:
        if served and each.what.startswith(served):
            doubts.append(
                note(f"{each.path}:{each.line}: {each.what} in this shell; the proxy that runs has the secret")
            )
        else:
            doubts.append((problem if each.what.startswith(tuple(lost)) else note)(str(each)))
    return pool, [fine(f"{path}: {counts}"), *doubts, *(note(f"{path}: {each}") for each in lint(pool))]


def _known_to_proxies(pool: Pool, environ: Mapping[str, str]) -> set[str]:
    """The credentials whose secret a running proxy with this pool file has, whatever is set in this shell."""
    return {name for running in _running(environ) if running.pool == pool.path for name in running.credentials}


def _running(environ: Mapping[str, str]) -> list[Running]:
    """The proxies that run; none where that cannot be found out, which is told elsewhere."""
    try:
        return registry.running_proxies(environ)
    except OSError:
        return []


def _proxies(pool: Pool | None, environ: Mapping[str, str]) -> tuple[Running | None, list[Finding]]:
    """The proxy that a tool would use, and what there is to say about those that run."""
    try:
        proxies = registry.running_proxies(environ)
    except OSError as error:
        return None, [problem(f"running proxies cannot be found: {error}")]
    findings, usable = [], None
    for running in proxies:
        if running.demonstration:
            mend = "`run` and `env` do not use it; with a pool file, end it and start `understudy web` again"
            findings.append(note(f"the demonstration runs at {running.place}, whose answers are made up: {mend}"))
            continue
        if running.why_not:
            where = f" at {running.place}" if running.port else ""
            why = f"`run` and `env` do not use it, because {running.why_not}"
            findings.append(note(f"a proxy runs{where}, with {running.pool}; {why}"))
            continue
        try:
            probe(running)
        except ProbeError as error:
            findings.append(problem(f"the proxy of process {running.pid} at {running.place} cannot be used: {error}"))
            continue
        usable = usable or running
        findings.append(fine(f"a proxy runs at {running.place}, with {running.pool}"))
    if (far := remote_proxy.led_to(environ)) is not None:
        try:
            probe(far)
        except ProbeError as error:
            return None, [
                *findings,
                problem(f"the proxy at {far.place}, which this shell uses, does not work: {error}"),
            ]
        return far, [*findings, fine(f"this shell uses the proxy at {far.place}, which has a pool file of its own")]
    if usable is None:
        findings.append(note("no proxy is running: `understudy run -- COMMAND` starts one, or `understudy web`"))
        if _is_taken(PORT):
            mend = f"`understudy run` does not need it; start `understudy web -p {PORT + 2}` otherwise"
            findings.append(note(f"port {PORT}, where `understudy web` and `dump` listen, is taken: {mend}"))
    elif pool is not None:
        findings.extend(_not_intercepted(usable, pool))
    return usable, findings


def _not_intercepted(running: Running, pool: Pool) -> Iterator[Finding]:
    """The hosts of the pool file that the proxy does not know yet."""
    if running.pool != pool.path:
        yield note(f"the proxy that runs has another pool file: name this one with `understudy run --pool {pool.path}`")
        return
    for host in Sites(pool).hosts:
        if host not in running.hosts:
            # An older understudy tells of no patterns, and `run` can then not see that NO_PROXY leads round them.
            doubt = ", or is an older understudy" if "*" in host else ""
            mend = "use its command `pool.reload`, or start it again"
            yield problem(f"the proxy does not intercept {host}{doubt}: {mend}")


def _is_taken(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _tool(program: Path, running: Running | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What is known of this tool and cannot be mended by a variable."""
    tool = known_tools.tool_of(program)
    if tool.hopeless:
        yield problem(f"{program.name}: {tool.hopeless}")
    version = None if tool.own_proxy else known_tools.node_version(program, environ)
    if version is not None and not known_tools.reads_proxies(version):
        mend = "use Node.js 24, or `understudy dump --mode reverse:https://HOST` and the tool's base URL"
        number = ".".join(map(str, version))
        yield problem(f"{program.name}: Node.js {number} ignores HTTPS_PROXY, so its calls bypass the proxy: {mend}")
    if tool.advice:
        yield note(f"{program.name}: {tool.advice}")
    if tool.daemon and running is not None:
        for pid in known_tools.stale_processes(program.name, running.url, word=tool.daemon):
            yield problem(f"{program.name}: process {pid} was started without the proxy: end it with `kill {pid}`")


def _placeholders(
    program: Path, arguments: Sequence[str], pool: Pool | None, running: Running | None, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """The keys that `understudy run` makes up for a tool that has none."""
    served = running.dialects if running is not None else ()
    dialects = served or (tuple(filter(pool.has_route_for, DIALECTS)) if pool is not None else ())
    given = placeholder_keys.made_up(program, arguments, dialects, environ, Path.cwd())
    if given.environ:
        names = " and ".join(given.environ)
        told = f"{program.name}: it has no key: `understudy run` gives it a placeholder in {names}"
        yield note(f"{told}, which never leaves this machine")


def _shell(running: Running, tool: known_tools.Tool | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a tool that is started from this shell goes through the proxy and trusts it."""
    for name in ("NO_PROXY", "no_proxy"):
        for entry in filter(None, map(str.strip, environ.get(name, "").split(","))):
            covered = [host for host in running.hosts if not tool_environment.is_loopback(host)]
            covered = [host for host in covered if tool_environment.bypasses(entry, host)]
            if covered and entry not in tool_environment.LOOPBACK:
                yield problem(f"{name} holds {entry}, which bypasses the proxy for {covered[0]}: {DO_ENV}")
    try:
        own = trust.certificates(Path(running.ca).read_bytes())
    except OSError:
        own = []
    trusting = [name for name in (*trust.REPLACING, trust.ADDING) if _trusts(environ.get(name, ""), own)]
    needed = tool.trusts if tool else ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
    if tool and not any(name in trusting for name in needed):
        yield problem(f"the CA of the proxy is not trusted: this tool reads {' or '.join(needed)}: {DO_ENV}")
    elif not tool and (missing := [name for name in needed if name not in trusting]):
        yield problem(f"the CA of the proxy is not in {' and '.join(missing)}: {DO_ENV}")
    else:
        yield fine(f"this shell uses the proxy, and trusts its CA in {', '.join(trusting)}")


def _trusts(path: str, own: Sequence[bytes]) -> bool:
    try:
        return bool(path and own) and own[0] in trust.certificates(Path(path).read_bytes())
    except OSError:
        return False


def _base_urls(sites: Sites, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that send calls where the pool does not look, or where no proxy is asked."""
    for name, dialect in placeholder_keys.BASE_URLS.items():
        try:
            parts = urlsplit(environ.get(name, ""))
            host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        except ValueError:
            continue
        if not host:
            continue
        if parts.scheme == "http" or tool_environment.is_loopback(host):
            mend = f"unset it, or put `understudy dump --mode reverse:{parts.scheme}://{host}:{port}` in its place"
            yield problem(f"{name} names {host}, whose calls bypass the proxy: {mend}")
        elif not sites.pooled(host, port):
            entry = f"{{host: {host}, dialect: {dialect}, base_path: {parts.path.rstrip('/') or '/v1'}}}"
            yield problem(
                f"{name} names {host}, which the proxy does not intercept: add `intercept: [{entry}]` to the pool file"
            )


def _log(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Certificates that tools refused, as the log of the proxies that `run` starts tells."""
    try:
        with (registry.state_folder(environ) / "run.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LAST))
            text = file.read().decode(errors="replace")
    except OSError:
        return
    for host in dict.fromkeys(REFUSED.findall(text)):
        yield note(f"the log tells of a tool that did not trust the CA for {host}: start it with `understudy run`")
    if UNKNOWN_ROOT.search(text):
        mend = "add it to the system's roots, or name its file in SSL_CERT_FILE where the proxy is started"
        yield note(f"the log tells of an upstream whose root certificate is not known: {mend}")


def _place(url: str) -> str:
    """A proxy's address without the password that may stand in it."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return parts.netloc.rpartition("@")[2]
