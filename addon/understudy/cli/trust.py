"""The CA bundles: for tools, what they trusted before and mitmproxy's CA; for the proxy, what its upstreams may show.

Most variables *replace* the roots that a tool trusts, so each gets a file with what it replaces and the proxy's CA on
top: what the variable pointed to already, else the system's roots. The files are made anew at each start, named by
their content, and put in place in one step. They hold certificates and nothing else.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

import certifi  # mitmproxy's own store

from understudy.control.registry import write_atomically

REPLACING = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
"""Variables whose file takes the place of the roots that a tool knows by itself. These are always set."""
ONLY_IF_SET = ("CODEX_CA_CERTIFICATE", "AWS_CA_BUNDLE", "NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS")
"""The same, but one that is not set leaves its tool with the ones above, or with hosts that are never looked into."""
ADDING = "NODE_EXTRA_CA_CERTS"
"""Adds to the roots of Node.js and Bun."""
SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, the BSDs
)
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def bundles(ca: Path, environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write the bundles and return which variable names which file. Raises OSError.

    ``ca`` must hold a certificate; ``environ`` is the environment as it is now; ``folder`` is where the files go.
    """
    own = certificates(ca.read_bytes())
    if not own:
        raise OSError(f"there is no certificate in {ca}")
    chosen: dict[str, str] = {}
    stored: dict[bytes, str] = {}

    def store(parts: Iterable[bytes]) -> str:
        # Most variables get the same certificates.
        content = _together(parts)
        if content not in stored:
            stored[content] = _store(content, folder)
        return stored[content]

    first = _pointed_to(environ, "SSL_CERT_FILE", "SSL_CERT_DIR") or system_roots()
    for name in REPLACING:
        before = first if name == "SSL_CERT_FILE" else _pointed_to(environ, name) or first
        chosen[name] = store([*before, *own])
    for name in ONLY_IF_SET:
        if name in environ:
            chosen[name] = store([*(_pointed_to(environ, name) or first), *own])
    chosen[ADDING] = store([*_pointed_to(environ, ADDING), *own])
    return chosen


def upstream_roots(environ: Mapping[str, str], folder: Path) -> str:
    """The roots for the proxy's own TLS to upstreams, as a file: certifi's, the system's, those that SSL_CERT_FILE
    and SSL_CERT_DIR name; "" when there are only certifi's, which mitmproxy uses by itself. Raises OSError.

    A company's own root is known to the system, or to these variables, and its gateway is an upstream like any other.
    """
    known = _read(Path(certifi.where()))
    more = [*system_roots(), *_pointed_to(environ, "SSL_CERT_FILE", "SSL_CERT_DIR")]
    return _store(_together([*known, *more]), folder) if set(more) - set(known) else ""


def system_roots() -> list[bytes]:
    """The roots of this system, else those that certifi carries along."""
    known = ssl.get_default_verify_paths()
    for place in (*SYSTEM, known.openssl_cafile, known.openssl_capath, certifi.where()):
        if place and (found := _read(Path(place))):
            return found
    return []


def certificates(content: bytes) -> list[bytes]:
    """The certificates of a PEM file, in order; keys and everything else that may stand there stay behind."""
    found = []
    for part in content.split(BEGIN)[1:]:
        body, end, _ = part.partition(END)
        if end:
            found.append(b"\n".join([BEGIN, *body.split(), END, b""]))
    return found


def _pointed_to(environ: Mapping[str, str], *names: str) -> list[bytes]:
    """The certificates that these variables name by file, by folder or, as OpenSSL has it, by several folders."""
    places = [place for name in names for place in _places(name, environ.get(name, ""))]
    return [each for place in places for each in _read(Path(place))]


def _places(name: str, value: str) -> list[str]:
    return [part for part in (value.split(":") if name == "SSL_CERT_DIR" else [value]) if part]


def _read(place: Path) -> list[bytes]:
    """The certificates of a file, or of all files in a folder; none when it cannot be read."""
    try:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        found = [certificates(file.read_bytes()) for file in files if file.is_file()]
    except OSError:
        return []
    return [each for several in found for each in several]


def _together(parts: Iterable[bytes]) -> bytes:
    return b"".join(dict.fromkeys(parts))


def _store(content: bytes, folder: Path) -> str:
    path = folder / f"ca-{hashlib.sha256(content).hexdigest()[:16]}.pem"
    write_atomically(path, content)
    return str(path)
