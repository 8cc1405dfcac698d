"""The pool page in mitmweb: its own login, its own protection against forged requests, its look.

    /                           mitmweb's own page, with a link to ours
    /understudy                 the page
    /understudy/pool.json       the same as JSON; ?since=VERSION: nothing (204) while that is the newest
    /understudy/control         POST {"command": "suspend", "words": ["work", "gpt-5", "10m"]}
    /understudy/metrics         Prometheus text, where metrics are collected

The only file that knows mitmweb's internals (``mitmproxy.tools.web.app``): its handlers ask for the login, its settings
check the XSRF token. The page gets nothing from elsewhere and runs no inline script. What it costs depends on the pool
and not on the flows.
"""

from __future__ import annotations

import json
from asyncio import Future
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, override

from mitmproxy.tools.web import app
from tornado.routing import Rule
from tornado.web import Application, HTTPError

from understudy.control.control import Control
from understudy.control.result_text import overview_json
from understudy.control.server import Answer, answers

FOLDER = Path(__file__).parent / "web"
PATH = "/understudy"
CHANGES = ("suspend", "resume", "probe", "reload", "learned", "drill")
"""The commands that the page may send."""
WHO, PLACE = "a person", "on the pool page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Stricter than mitmweb's own: no inline style either."""

LINK = (
    f'<a href="{PATH}" title="understudy: who is free, who is suspended and why" style="position:fixed;right:12px;'
    "bottom:30px;z-index:9;padding:4px 12px;border-radius:12px;background:#1c6fb8;color:#fff;font:13px sans-serif;"
    'text-decoration:none">Pool</a>'
)
"""What leads from mitmweb to the page. mitmweb's policy allows inline styles, and no script is needed."""

type Metrics = Callable[[], tuple[bytes, str]]
"""Text and type; raises LookupError with the reason when nothing is collected."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the handlers need. ``theme()``: "light", "dark" or "system"."""

    control: Control
    answer: Answer
    metrics: Metrics
    theme: Callable[[], str]


class _Ours(app.RequestHandler):
    """A handler of ours; mitmweb's class asks for the login before each of its methods."""

    def initialize(self, desk: Desk) -> None:
        self.desk = desk

    @override
    def set_default_headers(self) -> None:
        super().set_default_headers()  # type: ignore[no-untyped-call]
        self.set_header("Cache-Control", "no-store")


class _Mitmweb(app.IndexHandler):
    """mitmweb's own page with a link to ours: it has no place for pages of addons."""

    @override
    def render(self, template_name: str, **kwargs: Any) -> Future[None]:
        text = self.render_string(template_name, **kwargs).decode()
        if template_name == "login.html":
            return self.finish(text)
        # Releases of mitmproxy keep it in different folders.
        before, end, after = text.rpartition("</body>")
        return self.finish(f"{before}{LINK if end else ''}{end}{after}")


class _Page(app.IndexHandler):
    """The page, or mitmweb's own login form, which comes back here."""

    def initialize(self, desk: Desk) -> None:
        self.desk = desk

    @override
    def get(self) -> None:
        if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            raise HTTPError(403)  # a script has no business with the token in it
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        page = (FOLDER / "pool.html").read_text(encoding="utf-8")
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        token = self.xsrf_token.decode()
        self.write(page.replace("THEME", self.desk.theme()).replace("XSRF_TOKEN", token))

    post = get  # the login form


class _Asset(_Ours):
    TYPES: Mapping[str, str] = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}

    @override
    def get(self, name: str, kind: str) -> None:
        self.set_header("Content-Type", f"{self.TYPES[kind]}; charset=UTF-8")
        self.write((FOLDER / f"{name}.{kind}").read_text(encoding="utf-8"))


class _Data(_Ours):
    @override
    def get(self) -> None:
        known = self.get_query_argument("since", "")
        if known and known == self.desk.control.view.version():
            self.set_status(204)
            return
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        control = self.desk.control
        self.write(overview_json(control.status(), control.view.standings))


class _Change(_Ours):
    @override
    def post(self) -> None:
        asked = self.json
        try:
            command, words = asked["command"], asked["words"]
            if command not in CHANGES or not isinstance(words, list) or not all(isinstance(w, str) for w in words):
                raise TypeError("no such change")
        except (TypeError, KeyError):
            self._say(400, {"error": f"send a command ({', '.join(CHANGES)}) and its words"})
            return
        reply = self.desk.answer(command, words, WHO)
        self._say(409 if "error" in reply else 200, {key: reply[key] for key in ("error", "lines") if key in reply})

    def _say(self, status: int, said: Mapping[str, Any]) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.write(json.dumps(said))


class _Metrics(_Ours):
    @override
    def get(self) -> None:
        try:
            text, kind = self.desk.metrics()
        except LookupError as reason:
            self.set_status(404)
            text, kind = f"{reason.args[0]}\n".encode(), "text/plain; charset=utf-8"
        self.set_header("Content-Type", kind)
        self.write(text)


def address(web_url: str) -> str:
    """Where the page is, of a mitmweb at this address; with the token, if that has one."""
    before, slash, query = web_url.rpartition("/")
    return f"{before}{PATH}{query}" if slash else PATH


def serve(application: Application, control: Control, metrics: Metrics, theme: Callable[[], str]) -> Callable[[], None]:
    """Add the page to a running mitmweb; returns what takes it out again."""
    own = {"desk": Desk(control, answers(control, PLACE), metrics, theme)}
    rules: list[Rule] = application.default_router.rules
    before = list(rules)
    application.add_handlers(
        r".*",
        [
            (r"/", _Mitmweb),
            (rf"{PATH}/?", _Page, own),
            (rf"{PATH}/(pool)\.(js|css|svg)", _Asset, own),
            (rf"{PATH}/pool\.json", _Data, own),
            (rf"{PATH}/control", _Change, own),
            (rf"{PATH}/metrics", _Metrics, own),
        ],
    )
    added = [rule for rule in rules if rule not in before]

    def remove() -> None:
        for rule in added:
            rules.remove(rule)

    return remove
