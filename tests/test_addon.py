"""Options, commands, reload and removal of the addon, in a mitmproxy without a network."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mitmproxy import exceptions
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons, tflow
from mitmproxy.tools.web.master import WebMaster

from understudy.addon import FIRST_LOOKS, Understudy, _is_loopback
from understudy.model.pool import Candidate
from understudy.model.suspension import Suspension, key_of
from understudy.model.verdict import Label, Scope
from understudy.proxy.listener import TURN, Aside
from understudy.proxy.shortcuts.hook_table import HookTable
from understudy.proxy.stream import ReplayStream
from understudy.rules import INTERVAL

SECRET = "sk-unit-0123456789abcdef"
POOL = """
upstreams: {main: {dialect: openai, url: "https://llm.test/v1"}}
credentials:
  a: {upstream: main, secret: {env: UNIT_SECRET}}
  b: {upstream: main, secret: {env: UNIT_SECRET}}
routes: {default: [a, b]}
"""


def written(path: Path, text: str) -> Path:
    """A file as its owner should write it."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@pytest.fixture
def pool_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool file that can be used."""
    monkeypatch.setenv("UNIT_SECRET", SECRET)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return written(tmp_path / "pool.yaml", POOL)


@pytest.fixture
def here(pool_file: Path) -> Iterator[taddons.context]:
    """A mitmproxy with nothing but its proxy server."""
    with taddons.context(Proxyserver()) as here:
        yield here
        if (addon := here.master.addons.get("understudy")) is not None:
            here.master.addons.remove(addon)


@pytest.fixture
def addon(here: taddons.context) -> Understudy:
    """The addon, added to it."""
    addon = Understudy()
    here.master.addons.add(addon)
    return addon


def test_every_option_and_command_is_described(here: taddons.context, addon: Understudy) -> None:
    """style: what people can set or call has a text, and a name that says whose it is."""
    ours = {name for name in here.options._options if name.startswith("pool_")}
    assert {"pool_file", "pool_decrypt", "pool_allow_remote", "pool_keep_streams"} <= ours
    for name in ours:
        assert here.options._options[name].help.endswith("."), name
    commands = {name: each for name, each in here.master.commands.commands.items() if name.startswith("pool.")}
    assert {"pool.status", "pool.reload"} <= set(commands)
    assert all(each.help for each in commands.values())


def test_o10_a_listener_beyond_loopback_is_remote_for_all_its_calls(
    here: taddons.context, addon: Understudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O10: its reach is asked once a connection, and what is set meanwhile counts at once."""
    mode = ProxyMode.parse("regular")
    server = SimpleNamespace(mode=mode, listen_addrs=())
    monkeypatch.setattr(addon, "_servers", lambda: [server])
    early, later, other = (tflow.tclient_conn() for _ in range(3))
    early.proxy_mode = later.proxy_mode = mode
    other.proxy_mode = ProxyMode.parse("reverse:http://upstream.test")
    assert not addon.is_remote(early)  # it does not listen yet, which says nothing
    server.listen_addrs = (("127.0.0.1", 1), ("0.0.0.0", 1))
    assert [addon.is_remote(client) for client in (early, later, other)] == [True, True, False]
    server.listen_addrs = ()  # closed: its connections go on
    assert addon.is_remote(later)
    here.options.update(pool_allow_remote=True)
    assert not addon.is_remote(later)
    here.options.update(pool_allow_remote=False)
    assert addon.is_remote(later)


def test_a_broken_pool_file_is_refused_and_the_last_good_one_stays(
    here: taddons.context, addon: Understudy, pool_file: Path
) -> None:
    """O02: also when the option is set to a file that is broken; the option itself goes back too."""
    here.options.update(pool_file=str(pool_file))
    snapshot = addon.engine.snapshot
    assert snapshot is not None
    broken = written(pool_file.with_name("broken.yaml"), "routes: {default: [nobody]}\n")
    with pytest.raises(exceptions.OptionsError, match=r"broken\.yaml:1: "):
        here.options.update(pool_file=str(broken))
    assert here.options.pool_file == str(pool_file)
    # mitmproxy puts the option back, and with that the old file is read once more.
    assert addon.engine.snapshot is not None
    assert addon.engine.snapshot.pool == snapshot.pool


def test_reload(here: taddons.context, addon: Understudy, pool_file: Path) -> None:
    """O02, O03: the command reads the file again; a broken one changes nothing; suspensions stay."""
    here.options.update(pool_file=str(pool_file))
    first = addon.engine.snapshot
    assert first is not None
    candidate = Candidate(first.pool.credentials["a"], "gpt-5")
    now = time.time()
    suspension = Suspension(
        key_of(candidate, Scope.CANDIDATE), now, now + 600, Label.MODEL_UNSUPPORTED, "some/rule", "said no", ""
    )
    addon.engine.suspensions.suspend(suspension)
    pool_file.write_text("routs: {}\n")
    with pytest.raises(exceptions.CommandError, match="routs"):
        here.master.commands.execute("pool.reload")
    assert addon.engine.snapshot is first
    pool_file.write_text(POOL.replace("[a, b]", "[b, a]"))
    here.master.commands.execute("pool.reload")
    assert addon.engine.snapshot is not first
    (line,) = here.master.commands.execute("pool.status")
    assert "gpt-5" in line
    assert "model_unsupported by some/rule" in line
    assert "said no" in line
    assert SECRET not in line


def test_pool_wait_is_until_reset_of_the_routes_that_do_not_say_it(
    here: taddons.context, addon: Understudy, pool_file: Path
) -> None:
    """Section 5e, `until_reset`: off by default; a change is in use at once; nonsense changes nothing."""

    def hours() -> float:
        assert addon.engine.snapshot is not None
        return addon.engine.snapshot.pool.routes["default"].until_reset / 3600

    here.options.update(pool_file=str(pool_file))
    assert hours() == 0
    for written_as, expected in (("true", 6), ("1.5", 1.5), ("FALSE", 0), ("168", 168)):
        here.options.update(pool_wait=written_as)
        assert hours() == expected
    for nonsense in ("soon", "169", "-1", "nan", ""):
        with pytest.raises(exceptions.OptionsError, match="write true, false, or hours up to 168"):
            here.options.update(pool_wait=nonsense)
        assert here.options.pool_wait == "168"
        assert hours() == 168
    pool_file.write_text(POOL.replace("{default: [a, b]}", "{default: {candidates: [a, b], until_reset: false}}"))
    here.options.update(pool_wait="12")
    assert hours() == 0


def test_o03_the_state_file_of_the_pool_is_read_and_written(here: taddons.context, pool_file: Path) -> None:
    """O03: from one addon to the next, as over a restart; also after a reload that names another file."""
    pool_file.write_text(f"{POOL}state: {{file: one.json}}\n")
    for expected in ([], ["a"]):
        addon = Understudy()
        here.master.addons.add(addon)
        here.options.update(pool_file="")
        here.options.update(pool_file=str(pool_file))
        assert [each.key.name for each in addon.engine.suspensions] == expected
        here.master.commands.execute("pool.suspend a gpt-5")
        here.master.addons.remove(addon)
    pool_file.write_text(f"{POOL}state: {{file: two.json}}\n")
    addon = Understudy()
    here.master.addons.add(addon)
    here.options.update(pool_file="")
    here.options.update(pool_file=str(pool_file))
    assert here.master.commands.execute("pool.status") == ["nothing is suspended"]
    pool_file.write_text(f"{POOL}state: {{file: one.json}}\n")
    here.master.commands.execute("pool.reload")
    assert "a gpt-5: by hand" in here.master.commands.execute("pool.status")[0]
    here.master.addons.remove(addon)
    assert SECRET not in (pool_file.with_name("one.json")).read_text()


def test_pool_control_can_be_switched_while_it_runs(
    here: taddons.context, addon: Understudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket comes and goes with the option; where there can be none the proxy runs without, and says why."""

    def sockets(folder: str) -> int:
        return len(list(Path(folder, "understudy").glob("*.sock")))

    async def play(folder: str) -> list[int]:
        addon.running()
        seen = [sockets(folder)]
        for wanted in (False, True):
            here.options.update(pool_control=wanted)
            seen.append(sockets(folder))
        here.master.addons.remove(addon)
        return [*seen, sockets(folder)]

    with tempfile.TemporaryDirectory(prefix="us-", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        assert asyncio.run(play(folder)) == [1, 0, 1, 0]


def test_shortcuts_that_are_in_place_stay_when_the_proxy_runs(here: taddons.context, addon: Understudy) -> None:
    """A connection that came before keeps them: they last as long as the table of hooks that it began with."""
    here.configure(addon, pool_shortcuts=True)  # as for a script that is loaded at start
    before = here.master.addons.trigger_event

    async def play() -> bool:
        addon.running()
        same = here.master.addons.trigger_event == before
        here.master.addons.remove(addon)
        return same and here.master.addons.trigger_event != before

    assert isinstance(getattr(before, "__self__", None), HookTable)
    assert asyncio.run(play())


def test_without_a_place_for_a_socket_the_proxy_runs_all_the_same(
    here: taddons.context,
    addon: Understudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning, not an error: mitmproxy would not start."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))

    async def play() -> None:
        addon.running()
        here.master.addons.remove(addon)

    asyncio.run(play())
    (record,) = [each for each in caplog.records if "the shell cannot control this proxy" in each.message]
    assert record.levelname == "WARNING"
    assert "too long for a socket" in record.message


@pytest.mark.parametrize("told_after", [0, 3, None])
def test_a_proxy_that_begins_is_told_as_soon_as_it_has_a_ca(
    addon: Understudy, monkeypatch: pytest.MonkeyPatch, told_after: int | None
) -> None:
    """`understudy run` waits for it. mitmproxy makes its CA after `running`; looked at often is only at the start."""
    slept: list[float] = []
    announced: list[int] = []

    class Told:
        @property
        def is_told(self) -> bool:
            return told_after is not None and len(announced) >= told_after

        def withdraw(self) -> None:
            pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if seconds == INTERVAL:
            raise asyncio.CancelledError

    monkeypatch.setattr(addon, "presence", Told())
    monkeypatch.setattr(addon, "announce", lambda: announced.append(len(slept)))
    monkeypatch.setattr("understudy.addon.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(addon._watch_rules())
    looks = FIRST_LOOKS if told_after is None else told_after
    assert slept == [*[INTERVAL / FIRST_LOOKS] * looks, INTERVAL]
    assert len(announced) == looks


def test_h02_files_are_looked_at_beside_the_loop(addon: Understudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """H02: a hundred calls of the operating system, after each of which the loop would wait for who computes."""
    looked: list[threading.Thread] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if slept.count(INTERVAL) > 1:
            raise asyncio.CancelledError

    def look(where: Callable[[], object]) -> Callable[[], object]:
        def at() -> object:
            looked.append(threading.current_thread())
            return where()

        return at

    monkeypatch.setattr(addon.library, "look", look(addon.library.look))
    monkeypatch.setattr(addon.engine.identities, "read", look(addon.engine.identities.read))
    monkeypatch.setattr("understudy.addon.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(addon._watch_rules())
    assert len(looked) == 2
    assert threading.current_thread() not in looked


def test_h02_who_computes_takes_short_turns(addon: Understudy) -> None:
    """H02: as long as any large request is read, and not longer; a turn that is shorter already stays."""
    before = sys.getswitchinterval()
    during: list[float] = []

    async def read(times: int) -> None:
        asides = [Aside(lambda: during.append(sys.getswitchinterval())) for _ in range(times)]
        await asyncio.gather(*map(addon.understudy_aside, asides))

    asyncio.run(read(3))
    assert during == [pytest.approx(TURN)] * 3
    assert sys.getswitchinterval() == before
    try:
        sys.setswitchinterval(TURN / 2)
        asyncio.run(read(1))
        assert during[-1] == sys.getswitchinterval() == pytest.approx(TURN / 2)
    finally:
        sys.setswitchinterval(before)


def test_proxy_debug_is_refused(here: taddons.context, addon: Understudy) -> None:
    """R07: also while running."""
    with pytest.raises(exceptions.OptionsError, match="proxy_debug"):
        here.options.update(proxy_debug=True)
    assert here.options.proxy_debug is False


def test_removing_the_addon_leaves_nothing_behind(here: taddons.context) -> None:
    """O08: mitmproxy's own methods and options are back."""
    before = HttpLayer.make_stream, HttpLayer._handle_event
    assert here.options.connection_strategy == "eager"
    addon = Understudy()
    here.master.addons.add(addon)
    assert HttpLayer.make_stream is not before[0]
    assert HttpLayer._handle_event is not before[1]
    assert here.options.connection_strategy == "lazy"
    here.master.addons.remove(addon)
    assert here.options.connection_strategy == "eager"
    assert (HttpLayer.make_stream, HttpLayer._handle_event) == before
    assert ReplayStream.engine is None
    assert ReplayStream.journal is None


def test_adding_it_again_works(here: taddons.context) -> None:
    """O08: as mitmproxy does when the script's file has changed."""
    before = HttpLayer.make_stream
    for _ in range(2):
        addon = Understudy()
        here.master.addons.add(addon)
        assert ReplayStream.engine is addon.engine
        here.master.addons.remove(addon)
    assert HttpLayer.make_stream is before


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.9", False),
        ("fe80::1%eth0", False),
        ("mybox", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    """O10: whatever is not certain to be loopback can be reached by strangers."""
    assert _is_loopback(host) is loopback


def test_metrics_say_what_is_missing(addon: Understudy) -> None:
    """What the page serves as metrics, or why there is nothing."""
    with pytest.raises(LookupError, match="set pool_metrics=true"):
        addon.metrics()
    addon.inspection.count(wanted=True, port=0)
    text, kind = addon.metrics()
    assert b"understudy_requests_total" in text
    assert kind.startswith("text/plain")
    addon.inspection.count(wanted=False, port=0)


def test_the_pool_page_is_there_with_mitmweb_and_leaves_with_the_addon(pool_file: Path) -> None:
    """Only in mitmweb, and without a trace afterwards."""

    async def start() -> None:
        web = WebMaster(Options(), with_termlog=False)
        before = list(web.app.default_router.rules)
        with taddons.context(loadcore=False, options=web.options) as here:
            here.master.app = web.app
            here.master.addons.add(Proxyserver(), addon := Understudy())
            addon.running()
            assert len(web.app.default_router.rules) == len(before) + 1
            addon.running()
            assert len(web.app.default_router.rules) == len(before) + 1
            assert addon._theme() in ("system", "light", "dark")
            here.master.addons.remove(addon)
            assert web.app.default_router.rules == before

    asyncio.run(start())
