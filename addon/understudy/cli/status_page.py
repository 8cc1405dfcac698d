"""A page about all workers of one ``understudy serve``: which run, and what each has suspended. It changes nothing.

    /?token=TOKEN               the page
    /status.json?token=TOKEN    the same as JSON
    /health                     200 while calls are served, else 503: for a balancer

It listens on loopback only. The token is in the address that is logged at the start; without it, and for any other name
than this machine's (a page from elsewhere could have it resolve to this machine), there is only /health.
"""

from __future__ import annotations

import hmac
import html
import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, override
from urllib.parse import parse_qs, urlsplit

from understudy.control.client import ControlClientError, ask, running

if TYPE_CHECKING:
    from understudy.cli.supervisor import Supervisor

HOST = "127.0.0.1"
SECONDS = 10.0
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>workers · understudy</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
:root {{ color-scheme: light dark }}
table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .2rem 1rem .2rem 0 }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere }}
</style></head><body><h1>Workers</h1>
<table><thead><tr><th>worker<th>process<th>state<th>started again<th>port</tr></thead><tbody>{rows}</tbody></table>
{details}</body></html>
"""


class StatusPage:
    """Serves until it is closed. ``environ`` says where the workers' sockets are. Raises OSError."""

    def __init__(self, supervisor: Supervisor, port: int, environ: Mapping[str, str]) -> None:
        self.supervisor = supervisor
        self.environ = environ
        self.token = secrets.token_urlsafe(16)
        page = self

        class Handler(_Handler):
            owner = page

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="status page", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address, with the token."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS)

    def told(self) -> list[dict[str, Any]]:
        """Each worker, with what it says of itself."""
        sockets = running(self.environ)
        found = []
        for slot in self.supervisor.slots:
            worker = slot.current
            pid = worker.process.pid if worker is not None else 0
            each: dict[str, Any] = {"worker": slot.number, "pid": pid, "state": slot.state.value}
            each |= {"restarts": slot.restarts, "port": slot.listening.getsockname()[1], "lines": []}
            if pid in sockets:
                try:
                    each["lines"] = list(ask(sockets[pid], "status", []).get("lines", []))
                except ControlClientError as error:
                    each["lines"] = [str(error)]
            found.append(each)
        return found

    def page(self) -> str:
        """The page. What workers say is the same for all, or told for each."""
        told = self.told()
        names = ("worker", "pid", "state", "restarts", "port")
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(str(each[n]))}" for n in names) + "</tr>" for each in told)
        if len({tuple(each["lines"]) for each in told}) == 1:
            details = _text("All of them", told[0]["lines"])
        else:
            details = "".join(_text(f"Worker {each['worker']}", each["lines"]) for each in told)
        return PAGE.format(rows=rows, details=details)


def _text(title: str, lines: list[str]) -> str:
    return f"<h2>{html.escape(title)}</h2><pre>{html.escape(chr(10).join(lines))}</pre>" if lines else ""


class _Handler(BaseHTTPRequestHandler):
    owner: StatusPage
    timeout = SECONDS

    def do_GET(self) -> None:
        """Answer."""
        asked = urlsplit(self.path)
        token = parse_qs(asked.query).get("token", [""])[0]
        name = self.headers.get("host", "").rpartition(":")[0]
        if asked.path == "/health":
            healthy = self.owner.supervisor.is_healthy()
            self._answer(200 if healthy else 503, "ok\n" if healthy else "not serving\n", "text/plain")
        elif name not in (HOST, "localhost") or not hmac.compare_digest(token.encode(), self.owner.token.encode()):
            self._answer(403, "the address with its token is in the log\n", "text/plain")
        elif asked.path == "/":
            self._answer(200, self.owner.page(), "text/html")
        elif asked.path == "/status.json":
            self._answer(200, json.dumps(self.owner.told()), "application/json")
        else:
            self._answer(404, "not here\n", "text/plain")

    def _answer(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token is in the address."""
