"""The samples on the pages are what the programs print, but for times, ports and the home folder."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import request
from tests.e2e.home import Home

ROOT = Path(__file__).parents[2]
FIRST_POOL = "To write the file by hand, start with this one."


def block(page: str, beginning: str, kind: str = "text") -> str:
    """The first block of a page that begins so, or that follows this sentence."""
    text = (ROOT / page).read_text("utf-8")
    blocks = [
        match
        for match in re.finditer(rf"```{kind}\n(.*?)```", text, re.DOTALL)
        if match[1].startswith(beginning) or -1 < text.find(beginning) < match.start()
    ]
    assert blocks, f"{page} has no such block: {beginning}"
    return blocks[0][1]


def plain(text: str, home: Path | None = None) -> list[str]:
    """The lines without what differs each time."""
    if home is not None:
        text = text.replace(str(home), "~")
    text = re.sub(r"\b\d{4}-\d\d-\d\d ", "", text)
    text = re.sub(r"\b\d\d:\d\d:\d\d\b", "TIME", text)
    text = re.sub(r"\b\d+(?:\.\d+)?[hms](?:\d+[ms])*(?![\w.])", "SPAN", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, confdir: Path) -> Iterator[Home]:
    """A new user's home, after some calls of the demonstration: what it said is in `log`, its flows are in `flows`."""
    made = Home(tmp_path_factory.mktemp("samples") / "home", confdir)
    log, flows = made.path / "log", made.path / "flows"
    with log.open("wb") as output, made.begin(["dump", "-p", "0", "-w", str(flows)], stdout=output) as proxy:
        try:
            made.wait_for(lambda: bool(made.proxies()), 120)
            port = made.proxies()[0].port
            for model, stream in (("gpt-5", False), ("gpt-5-mini", True), ("gpt-5", False)):
                body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Who are you?"}]}
                url, ca = "https://api.openai.com/v1/chat/completions", confdir / "mitmproxy-ca-cert.pem"
                answer = request(port, url, "POST", [("authorization", "Bearer sk-tool-0123456789")], body, ca=ca)
                assert answer.status == 200
            (made.path / "explained").write_bytes(made.understudy("explain", "gpt-5", "openai").stdout)
        finally:
            proxy.send_signal(signal.SIGTERM)
    made.write_pool(block("docs/getting-started.md", FIRST_POOL, "yaml"))
    secret = made.path / ".secrets" / "openai-home"
    secret.parent.mkdir(mode=0o700)
    secret.touch(mode=0o600)
    secret.write_text("sk-home-0123456789")
    yield made
    made.close()


KEYS = {"OPENAI_API_KEY_WORK": "sk-work-0123456789", "OPENROUTER_API_KEY": "sk-or-0123456789"}


@pytest.mark.e2e
@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_log_of_the_demonstration(home: Home, page: str) -> None:
    """Line by line, in this order, from the first call on."""
    said = re.findall(r"^(?:\[[\d:.]+\] )?(\d/3 .*)$", (home.path / "log").read_text("utf-8"), re.MULTILINE)
    sample = plain(block(page, "1/3 openai-refuses"))
    assert plain("\n".join(said))[: len(sample)] == sample


@pytest.mark.e2e
def test_explain_of_a_running_proxy(home: Home) -> None:
    """The second candidate is out for seconds only, so what is said of it depends on when it is looked at."""

    def without_the_second(text: str) -> list[str]:
        lines = plain(text)
        second = next(at for at, line in enumerate(lines) if line.startswith("2. "))
        third = next(at for at, line in enumerate(lines) if line.startswith("3. "))
        return [*lines[:second], lines[second].rpartition(": ")[0], *lines[third:]]

    sample = block("docs/operations.md", "$ understudy explain gpt-5 openai", "console").partition("\n")[2]
    assert without_the_second((home.path / "explained").read_text("utf-8")) == without_the_second(sample)


@pytest.mark.e2e
def test_the_story_of_a_recorded_call(home: Home) -> None:
    """With the pool file of the page "Getting started"."""
    told = home.understudy("explain", str(home.path / "flows"), "4", extra=KEYS)
    assert told.returncode == 0, told.stderr
    assert plain(told.stdout.decode(), home.path) == plain(block("docs/saved-flows.md", "#4 "))


@pytest.mark.e2e
def test_check_of_the_first_pool_file(home: Home) -> None:
    """The file stands on the page above it, and has nothing to warn about."""
    told = home.understudy("check", extra=KEYS)
    assert (told.returncode, told.stderr) == (0, b"")
    sample = block("docs/getting-started.md", "~/.config/understudy/pool.yaml: ")
    assert plain(told.stdout.decode(), home.path) == plain(sample)


@pytest.mark.e2e
def test_the_installation_of_a_service(home: Home) -> None:
    """Nothing is started: there is a value to fill in first."""
    other = Home(home.path.parent / "service", home.confdir)
    other.write_pool(
        (ROOT / "docs" / "getting-started.md").read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]
    )
    text = other.pool_path.read_text("utf-8").replace("OPENAI_API_KEY_WORK", "OPENAI_API_KEY")
    other.write_pool(text.replace("  router: {upstream: openrouter, secret: {env: OPENROUTER_API_KEY}}\n", ""))
    told = other.understudy("service", "install", "--workers", "4")
    command, _, sample = block("docs/scale-out.md", "$ understudy service install", "console").partition("\n")
    assert command == "$ understudy service install --workers 4"
    assert plain(told.stdout.decode(), other.path) == plain(sample.replace("/home/me", "~"))
    assert not os.path.exists(other.path / ".config" / "systemd" / "user" / "default.target.wants")
