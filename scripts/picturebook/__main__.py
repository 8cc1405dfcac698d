"""Plays a few calls over the demonstration upstream, and photographs mitmweb and the pool page while it does."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.browser import Browser, BrowserError, executable
from understudy import demo

POOL = """\
upstreams:
  openai: {{dialect: openai, url: "http://127.0.0.1:{port}/v1"}}
  anthropic: {{dialect: anthropic, url: "http://127.0.0.1:{port}"}}
credentials:
  work: {{upstream: openai, secret: {{env: DEMO_REFUSES}}}}
  team: {{upstream: openai, secret: {{env: DEMO_FAILS_IN_STREAM}}}}
  home: {{upstream: openai, secret: {{env: DEMO_WORKS}}}}
  claude-work: {{upstream: anthropic, secret: {{env: DEMO_FAILS_IN_STREAM}}}}
  claude-home: {{upstream: anthropic, secret: {{env: DEMO_WORKS}}}}
routes:
  gpt-5: [work, team, home]
  claude-*: [claude-work, claude-home]
  default: [home, claude-home]
"""
LARGEST = 200_000
"""Bytes of a picture."""
SECONDS = 30.0


class Proxy:
    """A mitmweb with the addon over the demonstration upstream. Ends with its ``with``."""

    def __init__(self, folder: Path) -> None:
        self._upstream, port = demo.start_upstream()
        self.ca = folder / "mitmproxy" / "mitmproxy-ca-cert.pem"
        pool = folder / "pool.yaml"
        pool.touch(mode=0o600)
        pool.write_text(POOL.format(port=port), encoding="utf-8")
        environment = {**os.environ, **demo.environment(), "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        environment |= {"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
        settings = {
            "web_open_browser": "false",
            "confdir": str(self.ca.parent),
            "pool_file": str(pool),
            "pool_control": "false",
        }
        arguments = [each for name, value in settings.items() for each in ("--set", f"{name}={value}")]
        code = "import sys; from understudy.cli import main; sys.exit(main())"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, "web", "-p", "0", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        said = ""
        found: dict[str, str] = {}
        for line in self._process.stdout:
            said += line
            for name, pattern in (("proxy", r"proxy listening at (\S+)\."), ("web", r"Web server listening at (\S+)")):
                if match := re.search(pattern, line):
                    found[name] = match[1]
            if len(found) == 2:
                break
        else:
            self.__exit__()
            raise SystemExit(f"mitmweb does not start:\n{said}")
        self.proxy, web = found["proxy"], found["web"]
        self.web, _, self.token = web.partition("/?token=")
        # Nothing reads on, and a full pipe would stop it.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in (self._process, self._upstream):
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)

    def call(self, url: str, headers: dict[str, str], body: dict[str, object]) -> None:
        """A tool's call; whatever it gets is fine."""
        handlers = (
            urllib.request.ProxyHandler({"https": f"http://{self.proxy}"}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.ca))),
        )
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {**headers, "content-type": "application/json"}
        )
        try:
            urllib.request.build_opener(*handlers).open(request, timeout=SECONDS).read()
        except urllib.error.HTTPError as error:
            error.read()

    def chat(self, alias: str, *, stream: bool = False) -> None:
        """A call in OpenAI's dialect."""
        chat = [{"role": "user", "content": "Who are you?"}]
        body: dict[str, object] = {"model": alias, "messages": chat, "stream": stream}
        headers = {"authorization": f"Bearer {demo.TOOL_SECRET}"}
        self.call("https://api.openai.com/v1/chat/completions", headers, body)

    def messages(self, alias: str) -> None:
        """A streamed call in Anthropic's dialect."""
        chat = [{"role": "user", "content": "Who are you?"}]
        body: dict[str, object] = {"model": alias, "max_tokens": 256, "messages": chat, "stream": True}
        headers = {"x-api-key": demo.TOOL_SECRET, "anthropic-version": "2023-06-01"}
        self.call("https://api.anthropic.com/v1/messages", headers, body)

    def get(self, path: str) -> Any:
        """What mitmweb's API says."""
        headers = {"Authorization": f"Bearer {self.token}"}
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(urllib.request.Request(f"{self.web}{path}", headers=headers), timeout=SECONDS) as reply:
            return json.load(reply)


def play(proxy: Proxy) -> None:
    """A few calls: failovers, plain and streamed, and calls that skip what is suspended."""
    proxy.chat("gpt-5", stream=True)
    proxy.chat("gpt-5")
    proxy.messages("claude-sonnet-5")
    proxy.messages("claude-sonnet-5")
    proxy.chat("gpt-5-nano")
    proxy.chat("gpt-5")


def flow_list(proxy: Proxy, browser: Browser, path: Path) -> str:
    """mitmweb's flow list after a failover, with the comment of the first flow."""
    flow = failed_over(proxy)
    browser.size(1200, 560)
    browser.scheme("light")
    browser.open(f"{proxy.web}/?token={proxy.token}#/flows/{flow['id']}/comment")
    browser.wait("document.body.innerText.includes('model_unsupported')")
    browser.picture(path)
    return ""


def content_view(proxy: Proxy, browser: Browser, path: Path) -> str:
    """A streamed failover in the content view "understudy", where there is one."""
    if "understudy" not in proxy.get("/state").get("contentViews", []):
        return "there is no content view `understudy` in this version"
    flow = failed_over(proxy)
    browser.size(1200, 760)
    browser.scheme("light")
    browser.open(f"{proxy.web}/?token={proxy.token}#/flows/{flow['id']}/response")
    browser.wait("/candidate/i.test(document.body.innerText)")
    browser.picture(path)
    return ""


def pool_page(proxy: Proxy, browser: Browser, path: Path, scheme: str = "light") -> str:
    """The pool page, from the top to the last exchanges."""
    browser.size(1080, 1140)
    browser.scheme(scheme)
    browser.open(f"{proxy.web}/understudy?token={proxy.token}")
    browser.wait("document.querySelectorAll('.exchange').length > 3")
    # Where a pool file usually is, instead of a folder that is gone tomorrow.
    browser.run("document.querySelector('#place').textContent = '~/.config/understudy/pool.yaml'")
    browser.picture(path)
    return ""


def pool_page_dark(proxy: Proxy, browser: Browser, path: Path) -> str:
    """The same in the dark."""
    return pool_page(proxy, browser, path, "dark")


PICTURES = {
    "flow-list.png": flow_list,
    "content-view.png": content_view,
    "pool-page.png": pool_page,
    "pool-page-dark.png": pool_page_dark,
}


def failed_over(proxy: Proxy) -> Any:
    """The tool's flow of the first call, which was streamed and replayed."""
    return next(flow for flow in proxy.get("/flows") if "team" in flow["comment"] and "answered" in flow["comment"])


def main() -> int:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(prog="scripts/pictures", description=__doc__)
    parser.add_argument("folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="PICTURE", help=f"which of {', '.join(PICTURES)} (all)")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in PICTURES]:
        parser.error(f"there is no picture {', '.join(unknown)}: write some of {', '.join(PICTURES)}")
    if executable() is None:
        print("scripts/pictures: no Chromium is on the PATH (Debian: apt-get install chromium)", file=sys.stderr)
        return 2
    status = 0
    with tempfile.TemporaryDirectory(prefix="understudy-pictures-") as folder, Proxy(Path(folder)) as proxy:
        play(proxy)
        time.sleep(1)  # the last stream ends a moment after its tool has read it
        with Browser() as browser:
            for name in arguments.names or PICTURES:
                path = arguments.folder / name
                try:
                    reason = PICTURES[name](proxy, browser, path)
                except BrowserError as error:
                    reason, status = str(error), 1
                size = path.stat().st_size if not reason else 0
                print(f"{name}: {reason or f'{size:,} bytes'}")
                if size > LARGEST:
                    print(f"{name} is larger than {LARGEST:,} bytes: show less", file=sys.stderr)
                    status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
