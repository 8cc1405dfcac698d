"""A proxy on another machine, as a colleague uses it: ``--proxy http://USER:PASSWORD@HOST:8080``.

Its CA is what everything rests on: a tool that trusts the wrong one can be read by whoever has it. So the CA is taken
from a file (``--ca``), or fetched through the proxy itself, and then a person compares its fingerprint with the one
that the proxy's owner told (``understudy ca`` there shows it). What was accepted once is kept, and another one is
refused later. That the proxy has the key of this CA is proven with a TLS handshake, as for one on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from understudy.cli import trust
from understudy.cli.port_check import TIMEOUT, ProbeError, probe
from understudy.control import registry
from understudy.control.registry import OWN_PROXY, Running, write_atomically

PORT = 8080
"""Where a proxy listens unless its address says otherwise."""
LOGIN = "UNDERSTUDY_PROXY_LOGIN"
"""Variable with ``user:password``, for those who do not want a password on a command line."""
LARGEST = 64 * 1024
"""Bytes of a CA certificate with everything around it."""
REQUEST = "GET http://mitm.it/cert/pem HTTP/1.1\r\nHost: mitm.it\r\nConnection: close\r\n"
"""mitmproxy's own page hands out its CA certificate to those who are let in."""


class RemoteError(Exception):
    """The proxy cannot be used. Says why, and what to do; never with the password."""


def remote(
    url: str, ca: Path | None, fingerprint: str, environ: Mapping[str, str], accept: Callable[[str], bool]
) -> Running:
    """The proxy at this URL, proven to be there and to have the key of its CA.

    ``ca``: a PEM file with its CA certificate, else the one that was accepted before, else the one that the proxy hands
    out: that one is used when it has this ``fingerprint`` (SHA-256, hex, with or without colons), or when
    ``accept(fingerprint)`` says so. Raises RemoteError, and OSError where the state folder cannot be used.
    """
    host, port, userinfo = _address(url, environ)
    kept = registry.state_folder(environ) / f"ca-of-{_file_name(host)}-{port}.pem"
    running = _running(host, port, userinfo, kept)
    if ca is not None:
        content = _certificate(ca)
        _keep(kept, content, fingerprint)
    elif kept.exists():
        _compare(kept.read_bytes(), fingerprint)
    else:
        content = _fetched(running)
        shown = fingerprint_of(content)
        if fingerprint:
            _compare(content, fingerprint)
        elif not accept(shown):
            raise RemoteError(
                f"the CA of {running.place} has the SHA-256 fingerprint {shown}: compare it with the one that "
                "`understudy ca` shows on that machine, then add `--fingerprint` with it, or `--ca FILE`"
            )
        write_atomically(kept, content)
    try:
        probe(running)
    except ProbeError as error:
        mend = f"if its CA was made anew, remove {kept} and compare the new fingerprint"
        raise RemoteError(f"the proxy at {running.place} cannot be used: {error}: {mend}") from None
    return running


def led_to(environ: Mapping[str, str]) -> Running | None:
    """The proxy on another machine that this shell was led to by ``env --proxy``, None when there is none."""
    url = environ.get(OWN_PROXY, "")
    if not url or environ.get("HTTPS_PROXY", environ.get("https_proxy")) != url:
        return None
    with contextlib.suppress(RemoteError, OSError):
        host, port, userinfo = _address(url, {})
        kept = registry.state_folder(environ) / f"ca-of-{_file_name(host)}-{port}.pem"
        return _running(host, port, userinfo, kept) if kept.exists() else None
    return None


def fingerprint_of(pem: bytes) -> str:
    """The SHA-256 fingerprint of the first certificate, as people compare it: pairs of hex digits with colons."""
    [first, *_] = trust.certificates(pem)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first.decode("ascii"))).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def ask_person(running_place: str) -> Callable[[str], bool]:
    """Asks at the terminal, whatever standard input and output are; without a terminal the answer is no."""

    def accept(shown: str) -> bool:
        try:
            with open("/dev/tty", "r+b", buffering=0) as terminal:
                terminal.write(
                    f"The CA of the proxy at {running_place} has the SHA-256 fingerprint\n  {shown}\n"
                    "Whoever has its key can read what your tools send. Is it the one that `understudy ca` shows on "
                    "that machine? [y/N] ".encode()
                )
                return terminal.readline(16).strip().lower() in (b"y", b"yes")
        except OSError:
            return False

    return accept


def place_of(url: str) -> str:
    """A proxy's URL without the password. Raises RemoteError."""
    host, port, _ = _address(url, {})
    return f"http://{host}:{port}"


def _running(host: str, port: int, userinfo: str, ca: Path) -> Running:
    from understudy.dialects import DIALECTS  # here: a proxy on this machine tells of itself
    from understudy.model import Pool
    from understudy.requests import Sites

    # What it looks into is not known here; at least it looks into the hosts that tools call by themselves.
    hosts = Sites(Pool()).hosts
    return Running(0, port, str(ca), "", hosts, tuple(DIALECTS), host=host, userinfo=userinfo)


def _address(url: str, environ: Mapping[str, str]) -> tuple[str, int, str]:
    example = "write it such as http://USER:PASSWORD@proxy.example.com:8080"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port, parts = None, PORT, urlsplit("")
    if not host or parts.scheme != "http" or parts.path not in ("", "/") or parts.query:
        raise RemoteError(f"the value of --proxy is no address of an HTTP proxy: {example}")
    user, password = parts.username, parts.password
    if user is None and (login := environ.get(LOGIN, "")):
        user, _, password = login.partition(":")
        return host, port, f"{quote(user, safe='')}:{quote(password, safe='')}"
    if user is None:
        return host, port, ""
    return host, port, f"{quote(unquote(user), safe='')}:{quote(unquote(password or ''), safe='')}"


def _file_name(host: str) -> str:
    return re.sub(r"[^a-z0-9.-]", "_", host.lower())


def _certificate(path: Path) -> bytes:
    try:
        content = b"".join(trust.certificates(path.read_bytes())[:1])
    except OSError as error:
        raise RemoteError(f"{path} cannot be read: {error.strerror}") from None
    if not content:
        raise RemoteError(f"there is no certificate in {path}: name a PEM file such as mitmproxy-ca-cert.pem")
    return content


def _keep(kept: Path, content: bytes, fingerprint: str) -> None:
    _compare(content, fingerprint)
    if not kept.exists() or kept.read_bytes() != content:
        write_atomically(kept, content)


def _compare(content: bytes, fingerprint: str) -> None:
    def digits(text: str) -> str:
        return re.sub(r"[^0-9A-F]", "", text.upper())

    if fingerprint and digits(fingerprint) != digits(found := fingerprint_of(content)):
        raise RemoteError(f"the CA has another fingerprint, {found}: ask the owner of the proxy which one is right")


def _fetched(running: Running) -> bytes:
    """The CA certificate that the proxy hands out. Raises RemoteError."""
    login = f"Proxy-Authorization: {running.login}\r\n" if running.login else ""
    received = bytearray()
    try:
        with socket.create_connection((running.host, running.port), TIMEOUT) as connection:
            connection.sendall(f"{REQUEST}{login}\r\n".encode())
            while len(received) < LARGEST and (data := connection.recv(8192)):
                received += data
    except OSError as error:
        why = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise RemoteError(f"no proxy can be reached at {running.place}: {why}") from None
    status = bytes(received[:12]).partition(b" ")[2][:3].decode("latin-1")
    if status == "407":
        raise RemoteError(
            f"the proxy at {running.place} asks for another user and password: write them into the URL, or set "
            f"{LOGIN} to USER:PASSWORD"
        )
    content = b"".join(trust.certificates(bytes(received))[:1])
    if not content:
        raise RemoteError(f"{running.place} hands out no CA certificate: name its file with `--ca FILE`")
    return content


def own_ca(confdir: str) -> Path:
    """The CA certificate of the proxies of this user. ``confdir``: mitmproxy's folder."""
    return Path(os.path.expanduser(confdir)) / "mitmproxy-ca-cert.pem"


def ca_command(arguments: argparse.Namespace) -> int:
    """``understudy ca``: the CA certificate of this user's proxies, for colleagues to compare."""
    path = own_ca("~/.mitmproxy")
    try:
        print(f"{path}: SHA-256 fingerprint {fingerprint_of(path.read_bytes())}")
    except (OSError, ValueError):
        print(f"understudy ca: there is no CA at {path}: the first start of a proxy makes it", file=sys.stderr)
        return 1
    return 0
