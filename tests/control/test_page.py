"""The pool page's handlers in a mitmweb without a network: login, forged requests, what is served, and what is not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, override

import pytest
from mitmproxy import options
from mitmproxy.tools.web import master
from tornado.httpclient import HTTPResponse
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from tests.control.test_control import CREDENTIALS, Desk
from tests.support.decisions import NOW
from understudy.control import page as webpage
from understudy.control.control import Control
from understudy.control.pool_view import PoolView
from understudy.model.suspension import Key, Suspension
from understudy.model.verdict import Label, Scope

EVIL = "<img src=x onerror=alert(1)>"


class Web(AsyncHTTPTestCase):
    """A mitmweb with the page, driven by hand; pytest's fixtures call ``setUp`` and ``tearDown``."""

    @override
    def get_app(self) -> Application:
        async def make() -> master.WebMaster:
            return master.WebMaster(options.Options(), with_termlog=False)

        self.master = self.io_loop.asyncio_loop.run_until_complete(make())  # type: ignore[attr-defined]
        self.master.options.update(web_password="open")
        self.desk = Desk()
        self.theme = "system"
        self.counted: tuple[bytes, str] | LookupError = LookupError("no metrics are collected")
        self.remove = webpage.serve(self.master.app, self.desk.control, self.metrics, lambda: self.theme)
        application: Application = self.master.app
        return application

    def metrics(self) -> tuple[bytes, str]:
        if isinstance(self.counted, LookupError):
            raise self.counted
        return self.counted

    def runTest(self) -> None:
        """What ``unittest`` needs to make one."""

    def ask(
        self, path: str, method: str = "GET", *, password: str = "open", body: str | None = None, **headers: str
    ) -> HTTPResponse:
        """Send a request with the password, in the one way that every release of mitmweb knows, and these headers."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if password:
            path += f"{'&' if '?' in path else '?'}token={password}"
        return self.fetch(path, method=method, body=body, headers=sent, follow_redirects=False)

    def page(self) -> tuple[str, str]:
        """The page's token, and the cookie that belongs to it."""
        response = self.ask("/understudy", Sec_Fetch_Mode="navigate")
        assert response.code == 200
        found = re.search(r'name="xsrf-token" content="([^"]+)"', response.body.decode())
        assert found is not None
        cookies = [value.partition(";")[0] for value in response.headers.get_list("set-cookie")]
        return found[1], "; ".join(cookies)

    def change(self, command: str, *words: str) -> tuple[int, Any]:
        """Press a button of the page."""
        token, cookie = self.page()
        body = json.dumps({"command": command, "words": list(words)})
        json_type = "application/json"
        response = self.ask(
            "/understudy/control", "POST", body=body, Cookie=cookie, X_XSRFToken=token, Content_Type=json_type
        )
        return response.code, json.loads(response.body)

    def data(self, since: str = "") -> Any:
        """What the page is told."""
        response = self.ask(f"/understudy/pool.json?since={since}")
        assert response.code in (200, 204)
        return json.loads(response.body) if response.body else None


@pytest.fixture
def web() -> Iterator[Web]:
    """A mitmweb with the page, whose password is "open"."""
    # Some releases of tornado's test case warn where no event loop was set before.
    asyncio.set_event_loop(asyncio.new_event_loop())
    case = Web()
    case.setUp()
    yield case
    case.tearDown()


@pytest.mark.parametrize("path", ["", "/", "/pool.json", "/pool.js", "/pool.css", "/pool.svg", "/metrics"])
def test_without_the_login_nothing_is_served(web: Web, path: str) -> None:
    """Law 12: as for all of mitmweb; the page itself offers mitmweb's login form."""
    response = web.ask(f"/understudy{path}", password="")
    assert response.code == 403
    assert b"work" not in response.body
    assert (b"password" in response.body) is (path in ("", "/"))
    assert web.ask(f"/understudy{path}", password="wrong").code == 403


def test_the_login_form_leads_to_the_page(web: Web) -> None:
    """The cookie that it gives opens everything."""
    form = web.ask("/understudy", password="")
    found = re.search(rb'name="_xsrf" value="([^"]+)"', form.body)
    assert found is not None
    cookie = form.headers.get_list("set-cookie")[0].partition(";")[0]
    logged_in = web.ask("/understudy", "POST", body=f"token=open&_xsrf={found[1].decode()}", Cookie=cookie, password="")
    assert (logged_in.code, b"pool.js" in logged_in.body) == (200, True)
    own = next(value for value in logged_in.headers.get_list("set-cookie") if "auth" in value).partition(";")[0]
    assert web.ask("/understudy/pool.json", Cookie=own, password="").code == 200


def test_the_page_has_no_inline_script_and_takes_nothing_from_elsewhere(web: Web) -> None:
    """A strict policy, and a page that keeps to it."""
    response = web.ask("/understudy")
    (policy,) = response.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-store"
    page = response.body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page)
    assert re.findall(r'(?:src|href)="(?!/)', page) == []
    for name, kind in (("pool.js", "text/javascript"), ("pool.css", "text/css"), ("pool.svg", "image/svg+xml")):
        asset = web.ask(f"/understudy/{name}")
        assert (asset.code, asset.headers["content-type"]) == (200, f"{kind}; charset=UTF-8")
        assert not re.search(r"url\(|@import", asset.body.decode())
    script = (webpage.FOLDER / "pool.js").read_text(encoding="utf-8")
    # What could make markup of a text is not used at all.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|DOMParser", script)


@pytest.mark.parametrize("theme", ["system", "dark", "light"])
def test_the_theme_is_mitmwebs(web: Web, theme: str) -> None:
    """The page looks as mitmweb is set to look."""
    web.theme = theme
    assert f'data-theme="{theme}"' in web.ask("/understudy").body.decode()


def test_nothing_else_is_served(web: Web) -> None:
    """No other file, no other name, no way out of the folder; mitmweb's own pages are as they were."""
    for path in ("pool.html", "pool.py", "../webpage.py", "%2e%2e/webpage.py", "control", "other"):
        assert web.ask(f"/understudy/{path}").code in (403, 404, 405), path
    assert web.ask("/state").code == 200
    web.remove()
    assert web.ask("/understudy").code == 404
    assert web.ask("/state").code == 200


def test_a_script_does_not_get_the_token(web: Web) -> None:
    """Only who goes to the page does."""
    assert web.ask("/understudy", Sec_Fetch_Mode="cors").code == 403


def test_the_data(web: Web) -> None:
    """O04: what `understudy status --json` says; nothing while there is nothing new."""
    first = web.data()
    assert first == json.loads(json.dumps(first))
    assert [route["pattern"] for route in first["routes"]] == ["gpt-5", "turns", "only"]
    assert web.data(first["version"]) is None
    web.desk.suspend("work")
    second = web.data(first["version"])
    assert second["entries"][0]["name"] == "work"
    assert web.data("nonsense")["version"] == second["version"]


def test_o04_the_buttons(web: Web) -> None:
    """O04: suspend, probe, resume and reload do what the commands do, and say it in their words."""
    code, said = web.change("suspend", "candidate", "work", "gpt-5", "10m")
    assert (code, said["lines"][0][:49]) == (200, "candidate work gpt-5 is suspended by hand for 10m")
    assert web.data()["entries"][0]["evidence"] == "set by a person on the pool page"
    assert web.desk.asked("gpt-5") == "home"
    code, said = web.change("probe", "candidate", "work", "gpt-5")
    assert (code, web.data()["entries"][0]["state"]) == (200, "half-open")
    assert web.change("resume", "candidate", "work", "gpt-5")[0] == 200
    assert web.data()["entries"] == []
    assert web.change("reload")[1] == {"lines": ["/home/me/pool.yaml: 3 routes over 3 credentials are in use"]}
    assert web.desk.reloads == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"command": "status", "words": []},
        {"command": "pick", "words": ["gpt-5"]},
        {"command": ["suspend"], "words": []},
        {"command": "suspend", "words": "work gpt-5"},
        {"command": "suspend", "words": [1]},
        {"command": "suspend"},
        [],
        "suspend",
        None,
    ],
)
def test_anything_else_is_refused(web: Web, asked: Any) -> None:
    """The page changes four things and nothing else."""
    token, cookie = web.page()
    response = web.ask(
        "/understudy/control",
        "POST",
        body=json.dumps(asked),
        Cookie=cookie,
        X_XSRFToken=token,
        Content_Type="application/json",
    )
    assert (response.code, "send a command" in json.loads(response.body)["error"]) == (400, True)


def test_what_a_command_says_is_wrong_is_told(web: Web) -> None:
    """O04: with what there is."""
    assert web.change("suspend", "candidate", "wrok", "gpt-5") == (
        409,
        {"error": "there is no credential `wrok`: did you mean `work`?"},
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),  # no token at all
        ({"X_XSRFToken": "0" * 32}, 403),  # one that is not the cookie's
        ({"Cookie": "_xsrf=" + "0" * 32 + "; _mitmproxy_xsrf=" + "0" * 32}, 403),  # a cookie without its proof
        ({"password": "", "TOKEN": "own"}, 403),  # the token, but nobody who is logged in
        ({"TOKEN": "own", "Content_Type": "text/plain"}, 400),  # what a form elsewhere can send
    ],
)
def test_a_forged_request_changes_nothing(web: Web, headers: Mapping[str, str], status: int) -> None:
    """mitmweb's own protection holds for the page as well."""
    sent = {"Content_Type": "application/json", **headers}
    if sent.pop("TOKEN", ""):
        token, cookie = web.page()
        xsrf = next(each for each in cookie.split("; ") if "xsrf" in each)
        sent |= {"X_XSRFToken": token, "Cookie": xsrf}
    body = json.dumps({"command": "suspend", "words": ["work", "gpt-5"]})
    assert web.ask("/understudy/control", "POST", body=body, **sent).code == status
    assert web.data()["entries"] == []


def test_metrics(web: Web) -> None:
    """Served where they are collected; else it says what to do."""
    response = web.ask("/understudy/metrics")
    assert (response.code, response.body) == (404, b"no metrics are collected\n")
    web.counted = (b"understudy_requests_total 1\n", "text/plain; version=0.0.4; charset=utf-8")
    response = web.ask("/understudy/metrics")
    assert (response.code, response.body) == (200, b"understudy_requests_total 1\n")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_r07_no_secret_and_no_markup_out_of_a_name(web: Web) -> None:
    """R07: JSON holds names and evidence as they are, for the script sets them as text; secrets are nowhere."""
    exchange, _ = web.desk.begin("gpt-5")
    exchange.accept()
    web.desk.tallies.released("f", exchange, 1)
    web.desk.engine.suspensions.suspend(
        Suspension(Key(Scope.CANDIDATE, "work", EVIL), NOW, NOW + 60, Label.OVERLOADED, "general/rule", EVIL)
    )
    response = web.ask("/understudy/pool.json")
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    (entry,) = json.loads(response.body)["entries"]
    assert (entry["model"], entry["evidence"]) == (EVIL, EVIL)
    everything = response.body.decode() + web.ask("/understudy").body.decode()
    assert [each.name for each in CREDENTIALS if each.secret.reveal() in everything] == []


def test_what_is_unchanged_is_not_worked_out_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is left open costs next to nothing while nothing happens."""
    version = web.data()["version"]

    def fail(self: PoolView | Control) -> None:
        raise AssertionError("worked out")

    monkeypatch.setattr(PoolView, "overview", fail)
    assert web.data(version) is None


@pytest.mark.parametrize(
    ("mitmweb", "page"),
    [
        ("http://127.0.0.1:8081/?token=abc", "http://127.0.0.1:8081/understudy?token=abc"),
        ("http://[::1]:8081/", "http://[::1]:8081/understudy"),
        ("", "/understudy"),
    ],
)
def test_where_the_page_is(mitmweb: str, page: str) -> None:
    """The link that is logged can be clicked, as mitmweb's own."""
    assert webpage.address(mitmweb) == page


def test_the_files_of_the_page_are_part_of_the_package() -> None:
    """They lie inside the package, which the wheel takes as it is."""
    assert webpage.FOLDER.parent == Path(webpage.__file__).parent
    assert sorted(path.name for path in webpage.FOLDER.iterdir()) == ["pool.css", "pool.html", "pool.js", "pool.svg"]


def test_mitmwebs_own_page_has_a_link_to_the_pool(web: Web) -> None:
    """Behind its login, as before; taken out with the page."""
    assert web.ask("/", password="").code == 403
    page = web.ask("/")
    assert (page.code, page.body.count(b'<a href="/understudy"')) == (200, 1)
    assert b"</a></body>" in page.body
    web.remove()
    plain = web.ask("/")
    # mitmproxy 12.0 puts a token into each page that it makes.
    with_link, without = (re.sub(rb'data-xsrf="[^"]*"', b"", each.body) for each in (page, plain))
    assert (plain.code, without) == (200, with_link.replace(webpage.LINK.encode(), b""))
