"""A secret that is missing, in real processes: the rest of the pool answers, and people see what is missing.

O03, O04, R07; also a route of which nothing is left, and a pool of which nothing is left.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .authority import Authority
from .browser import Browser
from .home import Home
from .proxy import Proxy, StartProxy
from .stage import CHAT, ENVIRONMENT, SECRETS, TOOL, Stage
from .test_commands import Shell, free_port
from .test_page import needs_browser
from .test_secrets import leaks
from .upstream import Upstream

KNOWN = {"SECRET_B": ENVIRONMENT["SECRET_B"]}
LATE = "sk-test-late-0123456789abcdef"
EVERYTHING = {**SECRETS, "tool": TOOL, "late": LATE}
NOT_SET = "the environment variable 'SECRET_A' is not set"
EXPORT = """
import asyncio, logging, os
from pathlib import Path

async def export():
    while not Path("export").exists():
        await asyncio.sleep(0.02)
    os.environ["SECRET_A"] = Path("export").read_text()
    logging.warning("exported")

def running():
    global task
    task = asyncio.ensure_future(export())
"""
"""A script that sets a variable of the proxy itself, as soon as there is a file with its value."""


def pool(upstream: Upstream, *, plain: bool = False) -> str:
    """Two credentials without a secret before one that has it; ``spare`` is in no route."""
    url = upstream.plain_url if plain else upstream.tls_url
    return f"""
upstreams: {{main: {{dialect: openai, url: "{url}/v1"}}}}
credentials:
  a: {{upstream: main, secret: {{env: SECRET_A}}}}
  filed: {{upstream: main, secret: {{file: late.txt}}}}
  spare: {{upstream: main, secret: {{env: SECRET_SPARE}}}}
  b: {{upstream: main, secret: {{env: SECRET_B}}}}
routes:
  pair-*: [a, filed, b]
  alone-*: [a, filed]
state: {{file: state.json}}
"""


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A shell of its own, as a proxy belongs to one; sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    yield Shell(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_rest_of_the_pool_answers(
    mitmdump: StartProxy, upstream: Upstream, shell: Shell, tmp_path: Path, stream: bool
) -> None:
    """O03, O04: log, status, explain, journal and our own answer name what is missing; nothing of it is stored."""
    environ = {**KNOWN, "XDG_RUNTIME_DIR": str(shell.runtime)}
    journal = tmp_path / "journal.jsonl"
    proxy = mitmdump(env=environ, pool_yaml=pool(upstream), settings={"pool_journal": str(journal)})
    stage = Stage(proxy, upstream, upstream)
    upstream.on(SECRETS["b"], CHAT.streams() if stream else CHAT.answers())
    proxy.wait_for_log(rf"{proxy.pool_path}:4: {NOT_SET}, so the credential a is out of use: set it before the proxy")
    proxy.wait_for_log(rf"{proxy.pool_path}:5: the secret file .* cannot be read .*, so the credential filed is out of")
    assert stage.call(CHAT, "pair-1", stream=stream).status == 200

    refused = stage.call(CHAT, "alone-1", stream=stream)
    assert refused.status == 400
    assert f"- a alone-1: out of use, because {NOT_SET}" in str(refused.json)
    assert len(upstream.seen) == 1

    status, said = shell("status")
    assert status == 0
    assert said.splitlines()[:2] == ["nothing is suspended", f"credential a is out of use: {NOT_SET}"]
    explained = shell.json("explain", "pair-1", "openai")["results"][0]["candidates"]
    assert [(each["credential"], each["state"]) for each in explained] == [
        ("a", "unusable"),
        ("filed", "unusable"),
        ("b", "free"),
    ]
    assert explained[0]["note"] == f"out of use, because {NOT_SET}"
    assert proxy.stop() == 0
    calls = [json.loads(line) for line in journal.read_text().splitlines()]
    first = next(each for each in calls if each["alias"] == "pair-1")
    assert [(each["credential"], each["why"].partition(",")[0]) for each in first["skipped"]] == [
        ("a", "out of use"),
        ("filed", "out of use"),
    ]
    state = json.loads((proxy.directory / "state.json").read_text())
    assert (state["suspensions"], state["ladders"]) == ([], [])
    assert leaks(proxy.log_text() + journal.read_text(), EVERYTHING) == []


def test_it_comes_back_on_reload(mitmdump: StartProxy, upstream: Upstream, shell: Shell, tmp_path: Path) -> None:
    """O03: a file that was written since, and a variable that was set since; R07: neither is told."""
    script = tmp_path / "export.py"
    script.write_text(EXPORT)
    environ = {**KNOWN, "XDG_RUNTIME_DIR": str(shell.runtime)}
    proxy = mitmdump(env=environ, pool_yaml=pool(upstream), extra_args=["-s", str(script)])
    stage = Stage(proxy, upstream, upstream)
    for secret in (SECRETS["a"], SECRETS["b"], LATE):
        upstream.on(secret, CHAT.answers())
    assert stage.call(CHAT, "alone-1").status == 400

    (proxy.directory / "late.txt").touch(mode=0o600)
    (proxy.directory / "late.txt").write_text(LATE)
    status, said = shell("reload")
    assert status == 0
    assert said.splitlines()[1:] == [
        f"credential a is out of use: {NOT_SET}",
        "credential spare is out of use: the environment variable 'SECRET_SPARE' is not set",
    ]
    assert stage.call(CHAT, "alone-1").status == 200
    assert upstream.seen[-1].header("authorization") == f"Bearer {LATE}"

    (tmp_path / "value").write_text(SECRETS["a"])
    (tmp_path / "value").replace(proxy.directory / "export")
    proxy.wait_for_log("exported")
    status, said = shell("reload")
    assert "credential a is" not in said
    assert stage.call(CHAT, "alone-1").status == 200
    assert upstream.seen[-1].header("authorization") == f"Bearer {SECRETS['a']}"
    assert leaks(proxy.log_text() + said, EVERYTHING) == []


def test_a_pool_without_any_usable_credential_is_refused(
    tmp_path: Path, confdir: Path, authority: Authority, upstream: Upstream
) -> None:
    """The program says each line with what to do, and ends."""
    with Proxy(tmp_path, confdir, trusted=authority.path, pool_yaml=pool(upstream)) as proxy:
        for line, name in ((4, "SECRET_A"), (6, "SECRET_SPARE"), (7, "SECRET_B")):
            proxy.wait_for_log(rf"pool.yaml:{line}: the environment variable '{name}' is not set: set it before the")
        proxy.wait_for_log("Error logged during startup, exiting")


def test_run_tells_whoever_starts_a_tool(tmp_path: Path, confdir: Path, upstream: Upstream) -> None:
    """`understudy run` starts the proxy with what there is, and says what is out of use before the tool begins."""
    home = Home(tmp_path, confdir, KNOWN)
    home.write_pool(pool(upstream, plain=True))
    try:
        done = home.understudy("run", "--", "echo", "the tool")
    finally:
        home.close()
    assert (done.returncode, done.stdout) == (0, b"the tool\n")
    assert f"understudy: the credential a is out of use, because {NOT_SET}" in done.stderr.decode().splitlines()
    assert leaks(done.stderr, EVERYTHING) == []


@needs_browser
def test_the_page_shows_it(
    tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority, upstream: Upstream
) -> None:
    """O04: in its routes with the reason, and where it is in none, below what is also out of rotation."""
    settings = {"web_password": "open", "web_port": str(free_port())}
    folder = tmp_path_factory.mktemp("page")
    with (
        Proxy(
            folder,
            confdir,
            trusted=authority.path,
            env=KNOWN,
            pool_yaml=pool(upstream),
            program="mitmweb",
            settings=settings,
        ) as proxy,
        Browser() as browser,
    ):
        browser.open(f"{proxy.web_url.partition('?')[0].rstrip('/')}/understudy?token=open")
        browser.wait("document.querySelectorAll('article').length > 0")
        rows = "[...document.querySelectorAll('.standing')].map((row) => row.innerText)"
        [first, *_] = [text for text in browser.run(rows) if text.splitlines()[1:2] == ["a"]]
        assert "unusable" in first
        assert f"out of use, because {NOT_SET}" in first
        others = browser.run("document.querySelector('#others').innerText")
        assert "credential spare" in others
        assert "out of use, because the environment variable 'SECRET_SPARE' is not set" in others
        assert "credential a" not in others
        assert browser.console == []
