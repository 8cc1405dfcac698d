"""A headless Chromium, driven over its DevTools protocol through a pipe: no driver and no port.

The protocol is Chrome's own (https://chromedevtools.github.io/devtools-protocol/); only what our pages need is here.
The browser ends with its ``with``, and also when this process does, as its pipe is closed then.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
SECONDS = 30.0
BASH = 'exec "$@" 3<&"$THEIRS_IN" 4>&"$THEIRS_OUT"'
"""The protocol uses descriptors 3 and 4. The second one is opened last, so that it is never 3 before."""


def executable() -> str | None:
    """Where a Chromium is installed, None where none is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class BrowserError(AssertionError):
    """The browser does not do what it was asked for."""


class Browser:
    """A running Chromium with one page. To be used in a ``with``."""

    def __init__(self) -> None:
        program = executable()
        if program is None:
            raise BrowserError(f"no Chromium is installed: none of {', '.join(NAMES)} is on the PATH")
        self._profile = tempfile.TemporaryDirectory(prefix="understudy-browser-", ignore_cleanup_errors=True)
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": self._profile.name,
            "LC_ALL": "C.UTF-8",
            "TZ": os.environ.get("TZ", ""),
            "THEIRS_IN": str(theirs_in),
            "THEIRS_OUT": str(theirs_out),
        }
        arguments = [program, *FLAGS, f"--user-data-dir={self._profile.name}/profile", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", BASH, "bash", *arguments],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._received = b""
        self._number = 0
        self._session = ""
        self.console: list[str] = []
        """What the page wrote to its console at level warning or error, and exceptions that nobody caught."""
        self.requests: list[dict[str, Any]] = []
        """The requests of the page: url, method."""
        self.responses: list[dict[str, Any]] = []
        """Their replies: requestId, url, status."""
        try:
            (target,) = [
                each for each in self._send("Target.getTargets")["targetInfos"] if each["type"] == "page"
            ]  # fmt: skip
            attached = self._send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser. May be called again."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(OSError, BrowserError):
            self._session = ""
            self._send("Browser.close")
        for descriptor in (self._to, self._from):
            os.close(descriptor)
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    # -- the page ------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        failed = self.send("Page.navigate", url=url).get("errorText")
        if failed:
            raise BrowserError(f"{url}: {failed}")
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = SECONDS) -> Any:
        """Wait until an expression is true in the page, and return its value."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > until:
                text = self.run("document.body.innerText")
                raise BrowserError(f"never true: {script}\n{text}\n{self.console}")
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.run("document.body.innerText"))

    def click(self, selector: str) -> None:
        """Click the middle of an element as a mouse does; it must be there, and nothing may lie over it."""
        found = self.wait(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return r.width && {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **found)

    def press(self, key: str, code: int) -> None:
        """Press a key as a person does: its name, and its number in Windows."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select, as far as the page can tell."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            "e.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def size(self, width: int, height: int, *, phone: bool = False, scale: float = 1.0) -> None:
        """The size of the window, or of a phone's screen, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def scheme(self, scheme: str) -> None:
        """What the user prefers: "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as a PNG; ``whole``: the page from top to bottom."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def body(self, request_id: str) -> str:
        """The body of a reply."""
        found = self.send("Network.getResponseBody", requestId=request_id)
        return base64.b64decode(found["body"]).decode() if found["base64Encoded"] else str(found["body"])

    # -- the protocol --------------------------------------------------------------------------------------------

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page and return its result. Raises BrowserError."""
        return self._send(method, **parameters)

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        return self._receive(lambda said: bool(said.get("id") == number), method)

    def _receive(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while True:
            while b"\0" in self._received:
                line, _, self._received = self._received.partition(b"\0")
                said: dict[str, Any] = json.loads(line)
                if "method" in said:
                    self._note(said["method"], said["params"])
                elif wanted(said):
                    if "error" in said:
                        raise BrowserError(f"{what}: {said['error']}")
                    return dict(said["result"])
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._from, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"{what}: the browser {'has ended' if ready else 'does not answer'}")
            self._received += data

    def _note(self, method: str, said: dict[str, Any]) -> None:
        match method:
            case "Runtime.consoleAPICalled" if said["type"] in ("warning", "error", "assert"):
                self.console.append(_words(said["args"]))
            case "Runtime.exceptionThrown":
                details = said["exceptionDetails"]
                self.console.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
            case "Log.entryAdded" if said["entry"]["level"] in ("warning", "error"):
                self.console.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append({"url": said["request"]["url"], "method": said["request"]["method"]})
            case "Network.responseReceived":
                response = said["response"]
                one = {"requestId": said["requestId"], "url": response["url"], "status": response["status"]}
                self.responses.append(one)


def _words(arguments: Sequence[dict[str, Any]]) -> str:
    return " ".join(str(each.get("value", each.get("description", ""))) for each in arguments)
