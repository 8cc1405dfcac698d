"""Whether a port is really held by this user's proxy, and whether it looks into a host: asked with a TLS handshake.

The proxy's CA key is readable by its user only. A listener that presents a certificate of that CA for a vendor's name
therefore is the user's own proxy; a program that took over the port cannot. Nothing is sent through the proxy, and
the proxy makes no connection for a handshake that it answers itself.
"""

from __future__ import annotations

import socket
import ssl

from understudy.control.registry import Running

HOST = "api.openai.com"
"""A host that every pool looks into: it is a site of a dialect."""
TIMEOUT = 5.0
"""Seconds for each read."""


class ProbeError(OSError):
    """The handshake did not come about. The text says why."""


def probe(running: Running, host: str = HOST, port: int = 443) -> None:
    """Prove that the proxy is there and looks into this host. Raises ProbeError."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=running.ca)
    except OSError as error:
        raise ProbeError(f"its CA certificate {running.ca} cannot be read ({error.strerror or error})") from None
    try:
        with socket.create_connection((running.host, running.port), TIMEOUT) as connection:
            login = f"Proxy-Authorization: {running.login}\r\n" if running.login else ""
            connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n".encode())
            status = _answer(connection)
            if status != "200":
                raise ProbeError(f"it answers CONNECT with {status or 'something that is not HTTP'}{_reason(status)}")
            with context.wrap_socket(connection, server_hostname=host):
                pass
    except ssl.SSLCertVerificationError:
        raise ProbeError(f"the certificate that it shows for {host} is not of its own CA") from None
    except ProbeError:
        raise
    except OSError as error:
        raise ProbeError(f"no TLS handshake for {host} ({error.strerror or error})") from None


def _reason(status: str) -> str:
    return ": it asks for another user and password (proxyauth)" if status == "407" else ""


def _answer(connection: socket.socket) -> str:
    """The status of the answer to CONNECT, not a byte further: what follows belongs to TLS."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < 65536:
        byte = connection.recv(1)
        if not byte:
            break
        head += byte
    words = head.split(maxsplit=2)
    return words[1].decode("latin-1") if len(words) > 1 and words[0].startswith(b"HTTP/") else ""
