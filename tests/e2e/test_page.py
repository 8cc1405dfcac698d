"""The pool page in a real mitmweb: over HTTP as anybody can test it, and in a real browser where one is installed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .authority import Authority
from .behaviours import Behaviour, json_reply, silent, sse
from .browser import Browser, executable
from .client import Response, request
from .proxy import Proxy
from .stage import CHAT, ENVIRONMENT, ROUTES, SECRETS, TOOL, Stage, crashes, data, pool_yaml, refusal
from .test_commands import free_port
from .test_limits import LATER
from .test_secrets import leaks
from .upstream import Upstream

EVIL = "<img src=x onerror=window.hacked=1>"
MORE_ROUTES = """\
  hedge-*: {candidates: [a, x], budget: {hedge_after: 0.3}}
  held-*: {candidates: [a, b], until_reset: 1, budget: {wait: 0, patience: 0}}
"""
EVERYTHING = {**SECRETS, "tool": TOOL}

needs_browser = pytest.mark.skipif(
    executable() is None,
    reason="no Chromium on the PATH (Debian: apt-get install chromium); the rest is tested without",
)


@dataclass
class Web:
    """A mitmweb with the page, and what plays before it."""

    stage: Stage
    address: str

    def get(self, path: str, *, token: str = "open") -> Response:
        """A page or data of it."""
        headers = [("authorization", f"Bearer {token}")] if token else []
        return request(None, f"{self.address}{path}", "GET", headers)

    def data(self) -> Any:
        """What the page is told."""
        return self.get("/understudy/pool.json").json

    def refused(self, prefix: str = "pair") -> str:
        """A call that A refuses and B answers; the refusal echoes the secret. Returns the alias."""
        alias = self.stage.alias(prefix)
        echo = f"The model `{alias}` does not exist for {SECRETS['a']}."
        body = {"error": {"message": echo, "type": "invalid_request_error", "param": None, "code": "model_not_found"}}
        self.stage.play(alias, {"a": json_reply(400, body), "b": CHAT.answers()})
        assert self.stage.call(CHAT, alias).status == 200
        return alias

    def state(self, alias: str) -> str:
        """Where A stands for an alias."""
        entries = [each for each in self.data()["entries"] if (each["name"], each["model"]) == ("a", alias)]
        return entries[0]["state"] if entries else "free"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, confdir: Any, authority: Authority) -> Iterator[Web]:
    """One mitmweb for all of these, its password is "open"."""
    with Upstream(authority) as main, Upstream(authority, alpn=["http/1.1"]) as other:
        with Proxy(
            tmp_path_factory.mktemp("page"),
            confdir,
            trusted=authority.path,
            env=ENVIRONMENT,
            pool_yaml=pool_yaml(main, other, ROUTES + MORE_ROUTES),
            program="mitmweb",
            verbosity="debug",
            settings={"web_password": "open", "web_port": str(free_port())},
        ) as proxy:
            web = Web(Stage(proxy, main, other), proxy.web_url.partition("?")[0].rstrip("/"))
            yield web
            assert not crashes(proxy)
        assert leaks(proxy.log_text(), EVERYTHING) == []


# -- without a browser -----------------------------------------------------------------------------------------------


def test_o04_the_page_and_its_data_are_behind_mitmwebs_login(web: Web) -> None:
    """O04, law 12: served to who is logged in, and to nobody else."""
    for path in ("/understudy", "/understudy/pool.json", "/understudy/pool.js", "/understudy/metrics"):
        assert web.get(path, token="").status == 403, path
        assert web.get(path).status == (404 if path.endswith("metrics") else 200), path
    alias = web.refused()
    assert web.state(alias) == "suspended"


def test_o04_buttons_over_http_need_the_token(web: Web) -> None:
    """O04: a change needs the cookie and its proof, as everything in mitmweb does."""
    alias, address = web.refused(), f"{web.address}/understudy/control"
    token = ("authorization", "Bearer open")
    body: dict[str, object] = {"command": "resume", "words": ["candidate", "a", alias]}
    xsrf = "0123456789abcdef" * 2
    cookie = ("cookie", f"_mitmproxy_xsrf={xsrf}; _xsrf={xsrf}")
    assert request(None, address, "POST", [token], body).status == 403
    assert request(None, address, "POST", [token, cookie], body).status == 403
    assert request(None, address, "POST", [cookie, ("x-xsrftoken", xsrf)], body).status == 403
    assert web.state(alias) == "suspended"
    response = request(None, address, "POST", [token, cookie, ("x-xsrftoken", xsrf)], body)
    assert response.status == 200
    assert response.json["lines"][0].startswith(f"candidate a {alias} is back")  # type: ignore[index]
    assert web.state(alias) == "free"


def test_o05_the_time_line_tells_each_attempt_and_its_flow(web: Web) -> None:
    """O05: who was asked, what came of it, and which flow of mitmweb it is; streamed and plain."""
    for stream in (False, True):
        alias = web.stage.alias("pair")
        good = CHAT.streams() if stream else CHAT.answers()
        web.stage.play(alias, {"a": refusal(CHAT, alias), "b": good})
        assert web.stage.call(CHAT, alias, stream=stream).status == 200
        told = next(each for each in web.data()["exchanges"] if each["alias"] == alias)
        assert (told["route"], told["streamed"], told["answer"]) == ("pair-*", stream, 2)
        assert [(each["credential"], each["label"]) for each in told["tried"]] == [
            ("a", "model_unsupported"),
            ("b", "ok"),
        ]
        flows = web.get("/flows").json
        assert isinstance(flows, list)
        (flow,) = [each for each in flows if each["id"] == told["flow"]]
        assert flow["comment"].startswith("1/2 a ")


def test_a05_a_hedge_is_on_the_time_line(web: Web) -> None:
    """A05: who was given up because another candidate was faster is told as that, and is not out of rotation."""
    alias = web.stage.alias("hedge")
    web.stage.play(alias, {"a": silent(), "x": CHAT.streams()})
    assert web.stage.call(CHAT, alias, stream=True).status == 200
    data = web.data()
    told = next(each for each in data["exchanges"] if each["alias"] == alias)
    assert [(each["credential"], each["label"]) for each in told["tried"]] == [("a", "hedged"), ("x", "ok")]
    assert told["answer"] == 2
    assert told["tried"][0]["evidence"].startswith("given up after ")
    assert web.state(alias) == "free"


def test_r07_no_secret_in_anything_that_is_served(web: Web) -> None:
    """R06, R07: in plain, base64 or URL-encoded; the upstream echoes one in its refusal."""
    alias = web.refused()
    data = web.get("/understudy/pool.json").body
    assert alias.encode() in data
    assert b"The model" in data
    pages = [web.get(f"/understudy{path}").body for path in ("", "/pool.js", "/pool.css", "/metrics")]
    assert [leaks(each, EVERYTHING) for each in (data, *pages)] == [[]] * 5


# -- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all of these."""
    with Browser() as running:
        running.size(1280, 900)
        yield running


@pytest.fixture
def page(web: Web, browser: Browser) -> Iterator[Browser]:
    """The page, logged in and loaded; nothing may be wrong with it at the end."""
    browser.console.clear()
    browser.requests.clear()
    browser.responses.clear()
    browser.open(f"{web.address}/understudy?token=open")
    browser.wait("document.querySelectorAll('article').length > 0")
    yield browser
    assert browser.console == []
    elsewhere = [each["url"] for each in browser.requests if not each["url"].startswith(web.address)]
    assert elsewhere == []


def row(alias: str, credential: str = "a") -> str:
    """A selector's worth of script: the row of a candidate."""
    return (
        "[...document.querySelectorAll('.standing')].find((row) => row.querySelector('b').textContent === "
        f"{json.dumps(credential)} && row.querySelector('code')?.textContent === {json.dumps(alias)})"
    )


def press(page: Browser, alias: str, button: str) -> None:
    """Press a button in the row of A."""
    page.wait(f"{row(alias)} !== undefined")
    page.run(f"{row(alias)}.querySelector({json.dumps(f'button[aria-label^={button}]')}).id = 'pressed'")
    page.click("#pressed")


@needs_browser
def test_the_page_is_live_and_its_buttons_work(web: Web, page: Browser) -> None:
    """O04: what happens shows up by itself; suspend, probe, resume and reload do what they say."""
    alias = web.refused()
    page.wait(f"{row(alias)}?.querySelector('.pill').textContent === 'suspended'")
    assert re.search(rf"{alias}\s+route pair-\*\s+answered by b", page.text())
    assert re.search(r"1?\dm( \d+s)? left", page.run(f"{row(alias)}.innerText"))
    press(page, alias, "Probe")
    page.wait(f"{row(alias)}.querySelector('.pill').textContent === 'half-open'")
    assert web.state(alias) == "half-open"
    press(page, alias, "Resume")
    page.wait(f"({row(alias)})?.querySelector('.pill').textContent === 'free'")
    assert web.state(alias) == "free"
    page.run(f"{row(alias)}.querySelector('select').id = 'chosen'")
    page.choose("#chosen", "8h")
    page.wait(f"{row(alias)}.querySelector('.pill').textContent === 'suspended'")
    assert re.search(r"by hand\s+(8h|7h 59m) left", page.run(f"{row(alias)}.innerText"))
    assert "is suspended by hand for 8h" in page.run("document.querySelector('#said').innerText")
    page.click("#reload")
    page.wait("document.querySelector('#said').innerText.includes('are in use')")


@needs_browser
def test_j06_what_was_learnt_is_on_the_page(web: Web, page: Browser) -> None:
    """J06: whose fault it is and what the reply said, without markup; a button forgets it."""
    alias = web.stage.alias("pair")
    odd = json_reply(400, {"error": {"message": f"Wobbly seat {EVIL} of {SECRETS['a']}", "type": "seat_error"}})
    web.stage.play(alias, {"a": odd, "b": json_reply(400, {"error": {"message": "Wobbly", "type": "seat_error"}})})
    assert web.stage.call(CHAT, alias).status == 400
    page.wait("document.querySelector('#learned').innerText.includes('wobbly seat')")
    text = page.run("document.querySelector('#learned').innerText")
    assert "the request's fault" in text
    assert "1 asked" in text
    assert SECRETS["a"] not in text
    page.run("document.querySelector('#learned button').id = 'forget'")
    page.click("#forget")
    page.wait("!document.querySelector('#learned').innerText.includes('wobbly seat')")
    assert web.data()["learned"]["lessons"] == []
    assert web.data()["learned"]["opinions"]["refused"] == 1


@needs_browser
def test_h12_a_drill_is_on_the_page(web: Web, page: Browser) -> None:
    """H12: a banner says what fails, for how long yet and what came of it; its button ends it."""
    alias = web.stage.alias("pair")
    web.stage.play(alias, {"a": CHAT.answers(), "b": CHAT.answers()})
    page.run(f"change('drill', ['a', '{alias}', 'model_unsupported', '10m'])")
    page.wait("!document.querySelector('#drill').hidden")
    assert web.stage.call(CHAT, alias).status == 200
    page.wait("document.querySelector('#drill').innerText.includes('calls 1, rescued 1, failed 0')")
    text = page.run("document.querySelector('#drill').innerText")
    assert f"candidate a {alias}: model_unsupported: the model is refused" in text
    assert "a person on the pool page" in text
    page.wait(f"document.querySelector('#others').innerText.includes('{alias}')")
    page.run("document.querySelector('#drill button').id = 'stop'")
    page.click("#stop")
    page.wait("document.querySelector('#drill').hidden")
    assert web.data()["drill"] is None
    assert web.state(alias) == "free"


@needs_browser
def test_what_comes_from_outside_is_only_text(web: Web, page: Browser) -> None:
    """An alias and an error text that are markup are shown as they are."""
    body = {"error": {"message": EVIL, "type": "invalid_request_error", "code": "model_not_found"}}
    web.stage.play(EVIL, {"a": json_reply(404, body), "b": CHAT.answers()})
    assert web.stage.call(CHAT, EVIL).status == 200
    page.wait(f"document.body.innerText.includes({json.dumps(EVIL)})")
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.text().count(EVIL) > 3
    assert page.run("document.querySelectorAll('main img').length") == 0
    assert page.run("window.hacked") is None


@needs_browser
def test_r07_no_secret_in_the_page_or_in_what_it_asks_for(web: Web, page: Browser) -> None:
    """R07: not in the document, nor in a reply that the browser got."""
    alias = web.refused()
    page.wait(f"document.body.innerText.includes({json.dumps(alias)})")
    bodies = [page.body(each["requestId"]) for each in page.responses if each["status"] == 200]
    assert any(alias in body for body in bodies)
    assert leaks("\n".join([page.run("document.documentElement.outerHTML"), *bodies]), EVERYTHING) == []


@needs_browser
def test_a_hidden_page_asks_for_nothing(web: Web, page: Browser) -> None:
    """Only a page that is seen costs anything; seen again, it looks at once."""
    hide = "Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {}}});"
    tell = "document.dispatchEvent(new Event('visibilitychange'));"
    page.run(hide.format("true") + tell)
    page.wait("asking === false")
    before = len(page.requests)
    alias = web.refused()
    # Everything that would ask while the page is hidden, without waiting for its time to come.
    page.run("look().then(() => tickAll())")
    assert len(page.requests) == before
    page.run(hide.format("false") + tell)
    page.wait(f"document.body.innerText.includes({json.dumps(alias)})")


@needs_browser
def test_a_fold_and_the_focus_survive_news(web: Web, page: Browser) -> None:
    """What somebody reads or is about to press stays where it is."""
    first = web.refused()
    page.wait(f"document.querySelector('.exchange .asked b').textContent === {json.dumps(first)}")
    page.run("document.querySelector('.exchange').open = true; document.querySelector('#reload').focus()")
    second = web.refused()
    page.wait(f"document.querySelector('.exchange .asked b').textContent === {json.dumps(second)}")
    assert page.run("[...document.querySelectorAll('.exchange')].map((each) => each.open).slice(0, 2)") == [False, True]
    assert page.run("document.activeElement.id") == "reload"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_users_colours_and_fits_a_phone(web: Web, page: Browser, scheme: str) -> None:
    """Readable in both; on a phone nothing has to be scrolled sideways."""
    web.refused()
    page.scheme(scheme)
    page.size(390, 844, phone=True)
    page.wait("document.querySelectorAll('.exchange').length > 0")
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.run("document.documentElement.scrollWidth") == 390
    shade = page.run("getComputedStyle(document.body).backgroundColor")
    assert shade == {"light": "rgb(255, 255, 255)", "dark": "rgb(30, 30, 30)"}[scheme]
    assert (
        page.run("parseFloat(getComputedStyle(document.querySelector('.standing button, .standing select')).height)")
        > 28
    )
    page.size(1280, 900)


USED = {"prompt_tokens": 1200, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 900}}


def answer(model: str) -> dict[str, Any]:
    """A plain answer that says what it took and who made it."""
    return {**CHAT.answer, "model": model, "usage": USED}  # type: ignore[dict-item]


def streamed(model: str) -> Behaviour:
    """The same as a stream."""
    text = {"model": model, "choices": [{"index": 0, "delta": {"content": "one"}}]}
    return sse(data(text), data({"model": model, "choices": [], "usage": USED}), b"data: [DONE]\n\n")


@needs_browser
def test_q03_q04_q05_what_a_candidate_has_given_is_on_the_page(web: Web, page: Browser) -> None:
    """Q03, Q04, Q05: tokens of today, another model, the time to the first event, and the last hour as a spark line."""
    alias = web.stage.alias("pair")
    web.stage.play(alias, {"a": [json_reply(200, answer("m1-mini")), streamed("m1-mini")]})
    for stream in (False, True):
        assert web.stage.call(CHAT, alias, stream=stream).status == 200
    page.wait(f"{row(alias)}?.querySelector('.today')?.textContent.startsWith('today 2.4k in')")
    text = page.run(f"{row(alias)}.innerText")
    assert re.search(r"today 2\.4k in \(75 % cached\), 60 out", text)
    assert "replies name m1-mini (2 today)" in text
    assert re.search(r"first event [\d.]+ m?s, 95 % within [\d.]+ m?s", text)
    assert (
        page.run(f"{row(alias)}.querySelector('svg').getAttribute('aria-label')") == "last hour: 2 answered, 0 failed"
    )
    assert page.run(f"{row(alias)}.querySelectorAll('rect.good').length") > 0
    assert "tokens today" in page.run("document.querySelector('#counts').innerText")
    standing = next(
        each
        for route in web.data()["routes"]
        for lineup in route["lineups"]
        for each in lineup["candidates"]
        if each["model"] == alias and each["credential"] == "a"
    )
    assert (standing["today"]["calls"], standing["today"]["input"], standing["today"]["another"]) == (2, 2400, 2)
    flows = web.get("/flows").json
    assert isinstance(flows, list)
    told = next(flow for flow in flows if "m1-mini" in (flow["comment"] or ""))
    assert f"a {alias}: the reply names m1-mini, another model than was sent" in told["comment"]


COLOURS = ("color", "backgroundColor")
HELD_COLOURS = {
    "light": ("rgb(40, 96, 125)", "rgb(217, 237, 247)"),
    "dark": ("rgb(172, 224, 240)", "rgb(30, 74, 90)"),
}
LIMITS = [
    {"name": "5h", "of": "plan", "whose": "credential", "family": "", "used": 0.37, "left": 0.63, "limit": None,
     "remaining": None, "reset": 0, "seconds": 7500.0, "read": 0, "low": False, "empty_in": 720.0,
     "forecast": "used up in about 12m"},
    {"name": "tokens", "of": "tokens", "whose": "model", "family": "", "used": 0.99, "left": 0.01, "limit": 200000,
     "remaining": 1500, "reset": None, "seconds": None, "read": 0, "low": True, "empty_in": None, "forecast": ""},
]  # fmt: skip
WITH_LIMITS = """(() => {
  const candidate = pool.routes.flatMap((route) => route.lineups).flatMap((lineup) => lineup.candidates)
    .find((each) => each.credential === "a" && each.model === ALIAS);
  candidate.limits = LIMITS;
  candidate.limits[0].reset = now() + 7500;
  candidate.concurrency = 4; candidate.under_way = 4; candidate.queued = 2;
  draw();
})()"""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_q01_limits_and_held_calls_fit_a_small_phone(web: Web, page: Browser, scheme: str) -> None:
    """Q01: how much is used, by number and length, and when it begins anew; 360 pixels wide, in both schemes.

    A call that is held until a reset is told while it is: since when, until when, and whose reset it is.
    """
    alias = web.refused()
    page.wait(f"{row(alias)} !== undefined")
    page.scheme(scheme)
    page.size(360, 780, phone=True)
    assert page.run("document.querySelector('#held').hidden")
    waiting = web.stage.alias("held")
    web.stage.play(waiting, {name: json_reply(429, LATER, [("retry-after", "600")]) for name in ("a", "b")})
    with web.stage.connect(CHAT) as tool:
        web.stage.send(tool, CHAT, waiting, stream=True).read_until(b": understudy holds this call")
        page.wait("!document.querySelector('#held').hidden")
        text = " ".join(page.run("document.querySelector('#held').innerText").split())
        assert re.fullmatch(
            rf"1 call held for {waiting} until a limit of a {waiting} begins anew: (10m|9m \d+s|9m) left "
            r"until [\d:]{8} · since [\d:]{8}",
            text,
        )
        assert page.run("document.querySelector('#held').getAttribute('aria-label')").startswith("Calls that are held")
        ink, ground = (page.run(f"getComputedStyle(document.querySelector('#held p')).{each}") for each in COLOURS)
        assert (ink, ground) == HELD_COLOURS[scheme]
        assert page.run("document.documentElement.scrollWidth") == 360
    page.wait("document.querySelector('#held').hidden")
    page.run(WITH_LIMITS.replace("ALIAS", json.dumps(alias)).replace("LIMITS", json.dumps(LIMITS)))
    bars = f"[...{row(alias)}.querySelectorAll('[role=meter]')]"
    assert page.run(f"{bars}.map((bar) => bar.getAttribute('aria-valuenow'))") == ["37", "99"]
    assert page.run(f"{bars}[0].getAttribute('aria-label')") == "5h, plan of all models: 37 % used"
    track, fill = (f"{bars}[0]{each}.getBoundingClientRect().width" for each in ("", ".firstElementChild"))
    assert page.run(f"{fill} / {track}") == pytest.approx(0.37, abs=0.02)
    text = page.run(f"{row(alias)}.innerText")
    assert re.search(r"37 %\s+resets in 2h [45]m\s+used up in about 12m", text)
    assert "99 %, 1.5k of 200k left" in text
    assert "4 of 4 at once, 2 wait" in text
    shades = page.run(f"{bars}.map((bar) => getComputedStyle(bar.firstElementChild).backgroundColor)")
    assert len(set(shades)) == 2
    assert page.run("document.documentElement.scrollWidth") == 360
    page.size(1280, 900)


@needs_browser
def test_the_candidates_can_be_sorted_by_keyboard(web: Web, page: Browser) -> None:
    """By name, up and down, and back to the order of asking; the page remembers it, and nothing but keys is needed."""
    alias = web.refused()
    page.wait(f"{row(alias)} !== undefined")
    names = (
        f"[...{row(alias)}.parentElement.querySelectorAll('.standing')]"
        f".filter((each) => each.querySelector('code')?.textContent === {json.dumps(alias)})"
        ".map((each) => each.querySelector('b').textContent)"
    )
    assert page.run(names) == ["a", "b"]
    page.run("document.querySelector('#sort').focus()")
    page.press("ArrowDown", 40)
    page.wait("document.querySelector('#sort').value === 'name'")
    page.press("Tab", 9)
    assert page.run("document.activeElement.id") == "direction"
    page.press("Enter", 13)
    page.wait(f"{names}.join() === 'b,a'")
    assert page.run("document.querySelector('#direction').getAttribute('aria-label')").startswith("The largest first")
    page.open(f"{web.address}/understudy")
    page.wait(f"{row(alias)} !== undefined && document.querySelector('#sort').value === 'name'")
    assert page.run(names) == ["b", "a"]
    page.choose("#sort", "place")
    page.wait(f"{names}.join() === 'a,b'")
    page.run("localStorage.clear()")


@needs_browser
def test_a_thousand_candidates_are_drawn_once(web: Web, page: Browser) -> None:
    """Of a thousand candidates in fifty routes, what has not changed is not drawn again."""
    page.run("""(() => {
      const [first] = pool.routes.flatMap((route) => route.lineups).flatMap((lineup) => lineup.candidates);
      const candidate = (n) => ({ ...first, place: n, credential: `c${n}`, model: "many", because: [], state: "free" });
      const lineup = (n) => ({ alias: `many-${n}`, dialect: "openai", route: `many-${n}`, strategy: "ordered", more: 0,
        candidates: Array.from({ length: 20 }, (_, place) => candidate(place + 1)) });
      pool.routes = Array.from({ length: 50 }, (_, n) => (
        { pattern: `many-${n}`, strategy: "ordered", more: 0, lineups: [lineup(n)] }));
      draw();
      window.drawn = 0;
      new MutationObserver((changes) => { window.drawn += changes.length; })
        .observe(document.querySelector("#routes"), { childList: true, subtree: true });
      pool.routes[7].lineups[0].candidates[2].tally = { ...first.tally, answered: 4711 };
      draw();
    })()""")
    assert page.run("document.querySelectorAll('#routes .standing').length") == 50 * 8
    page.wait("document.body.innerText.includes('4711')")
    assert 0 < page.run("window.drawn") <= 2


@needs_browser
def test_a_proxy_that_is_gone_is_told(web: Web, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The page says so and keeps what it knows; so it does when the login is void."""
    with Proxy(
        tmp_path_factory.mktemp("gone"),
        web.stage.proxy.confdir,
        env=ENVIRONMENT,
        pool_yaml=web.stage.proxy.pool_path.read_text(),
        program="mitmweb",
        settings={"web_password": "open", "web_port": str(free_port())},
    ) as proxy:
        address = proxy.web_url.partition("?")[0]
        browser.open(f"{address}understudy?token=open")
        browser.wait("document.querySelectorAll('article').length > 0")
        browser.send("Network.clearBrowserCookies")
        browser.wait("document.querySelector('#trouble').innerText.includes('asks for its token again')")
        os.kill(proxy.pid, 9)
        proxy.stop()
        browser.wait("look() && document.querySelector('#trouble').innerText.includes('does not answer')")
        assert browser.run("document.querySelectorAll('article').length") > 0
