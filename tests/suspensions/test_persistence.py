"""The state file: who writes it and when, what is done with one that cannot be used, and who may have written it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.decisions import NOW, Clock, candidate
from tests.suspensions.test_snapshot import CANDIDATE, CREDENTIAL, lesson, pool, set_clock, suspension
from understudy.codec.yaml_nodes import ConfigError
from understudy.config.pool_file import load
from understudy.dialects import DIALECTS
from understudy.model import Key, Scope
from understudy.suspensions import persistence, state_file
from understudy.suspensions.cache import Suspensions
from understudy.suspensions.persistence import StateKeeper
from understudy.suspensions.snapshot import Remembered, StateError, decode
from understudy.suspensions.state_file import StateFile


class Proxy:
    """A memory and its keeper, as a proxy has them."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.suspensions = Suspensions(self.clock)
        self.keeper = StateKeeper(self.suspensions)
        self.pool = replace(pool(), state=str(path))
        self.keeper.use(self.pool)

    def changes(self) -> None:
        """What happens once a second."""
        asyncio.run(self.keeper.write_changes())

    @property
    def known(self) -> list[object]:
        """What is suspended."""
        return [each.key for each in self.suspensions]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state goes."""
    return tmp_path / "state.json"


def written(path: Path) -> list[object]:
    """The models that the file has suspensions of."""
    return [each["model"] for each in json.loads(path.read_bytes())["suspensions"]]


def test_o03_suspensions_survive_a_restart(path: Path) -> None:
    """O03: what was suspended at the end of one proxy is suspended at the start of the next, for the same time."""
    first = Proxy(path)
    first.suspensions.suspend(suspension(CANDIDATE, 600))
    first.keeper.close()
    second = Proxy(path)
    assert [(each.key, each.until) for each in second.suspensions] == [(CANDIDATE, NOW + 600)]
    second.keeper.close()


def test_o03_without_an_end(path: Path) -> None:
    """O03: a proxy that is killed has written what changed until a second before, and its lock goes with it."""
    first = Proxy(path)
    first.suspensions.suspend(suspension(CANDIDATE))
    first.changes()
    assert written(path) == ["gpt-5"]
    first.keeper._file.let_go()  # type: ignore[union-attr]  # as the system does
    second = Proxy(path)
    assert second.known == [CANDIDATE]
    second.keeper.close()


def test_it_is_written_when_something_has_changed_and_only_then(path: Path) -> None:
    """A second in which nothing happens costs nothing."""
    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.changes()
    before = path.stat().st_ino
    proxy.changes()
    assert path.stat().st_ino == before
    proxy.suspensions.resume(CANDIDATE)
    proxy.changes()
    assert path.stat().st_ino != before
    assert written(path) == []
    proxy.keeper.close()


def test_many_are_collected_a_few_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop serves others in between."""
    monkeypatch.setattr(persistence, "AT_ONCE", 1)
    sleep, paused = asyncio.sleep, list[float]()

    async def counted(seconds: float) -> None:
        paused.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", counted)
    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.suspensions.suspend(suspension(CREDENTIAL))
    proxy.changes()
    assert paused == [0, 0]
    assert len(written(path)) == 2
    proxy.keeper.close()


def test_it_is_the_owners_alone_and_no_pieces_are_left(path: Path) -> None:
    """Law 12: mode 0600, also where a file with another mode was there."""
    path.touch(mode=0o644)
    proxy = Proxy(path)
    proxy.keeper.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["state.json", "state.json.lock"]


def test_a_symbolic_link_stays_one(path: Path) -> None:
    """The file that it leads to is replaced, not the link."""
    real = path.parent / "real.json"
    real.touch(mode=0o600)
    path.symlink_to(real)
    proxy = Proxy(path)
    proxy.keeper.close()
    assert path.is_symlink()
    assert json.loads(real.read_bytes())["version"] == 1


@pytest.mark.parametrize("content", [b"{", b'{"version": 99}', b'{"version": 1, "suspensions": [{}], "ladders": []}'])
def test_a_file_that_cannot_be_used_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """A damaged file, or one of another version, is reported and kept under another name; the proxy goes on."""
    path.write_bytes(content)
    proxy = Proxy(path)
    aside = path.with_name(f"state.json.damaged-{NOW:.0f}")
    assert aside.read_bytes() == content
    assert f"suspensions start empty, and it is called {aside} now" in caplog.text
    # mitmproxy does not start when an error is logged meanwhile.
    assert {each.levelno for each in caplog.records} == {logging.WARNING}
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.keeper.close()
    assert written(path) == ["gpt-5"]


def test_a_file_of_any_size(path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large to be ours is not read."""
    monkeypatch.setattr(state_file, "LARGEST", 10)
    path.write_bytes(b" " * 11)
    Proxy(path).keeper.close()
    assert "this is larger than" in caplog.text


def test_a_second_proxy_reads_but_does_not_write(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two memories would overwrite each other: the second says so, once, and takes over when the first has ended."""
    first = Proxy(path)
    first.suspensions.suspend(suspension(CANDIDATE))
    first.changes()
    second = Proxy(path)
    assert second.known == [CANDIDATE]
    second.suspensions.suspend(suspension(CREDENTIAL))
    second.changes()
    second.changes()
    assert written(path) == ["gpt-5"]
    assert caplog.text.count("belongs to another proxy, so this one does not write it") == 1
    first.keeper.close()
    second.changes()
    assert sorted(written(path), key=str) == ["", "gpt-5"]
    second.keeper.close()


def test_a_damaged_file_of_another_proxy_stays(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is for its owner to set aside."""
    first = Proxy(path)
    path.write_bytes(b"{")
    Proxy(path).keeper.close()
    assert path.read_bytes() == b"{"
    assert "it stays as it is" in caplog.text
    first.keeper.close()


def test_a_write_that_fails_is_told_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Never fatal; the old file stays, and nothing is left of the new one."""
    proxy = Proxy(path)
    proxy.changes()
    old = path.read_bytes()
    place = path.parent / "away"
    path.parent.joinpath("state.json").rename(place)
    path.mkdir()  # a file cannot take the place of a folder
    for seconds in (1, 2):
        proxy.suspensions.suspend(suspension(CANDIDATE, seconds))
        proxy.changes()
    assert caplog.text.count("suspensions will not outlive this proxy") == 1
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []
    path.rmdir()
    proxy.keeper.close()
    assert place.read_bytes() == old
    assert written(path) == ["gpt-5"]


def test_another_file_after_a_reload(path: Path) -> None:
    """`state` may name another file: the old one gets its last state, the new one is read and written from then on."""
    other = path.with_name("other.json")
    before = Proxy(other)
    before.suspensions.suspend(suspension(CREDENTIAL))
    before.keeper.close()
    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.keeper.use(replace(proxy.pool, state=str(other)))
    assert written(path) == ["gpt-5"]
    assert proxy.known == [CANDIDATE, CREDENTIAL]
    proxy.suspensions.resume(CREDENTIAL)
    proxy.changes()
    assert written(other) == ["gpt-5"]
    proxy.keeper.use(replace(proxy.pool, state=""))
    proxy.suspensions.resume(CANDIDATE)
    proxy.keeper.close()
    assert written(other) == ["gpt-5"]


def test_a_reload_of_the_same_pool_reads_nothing(path: Path) -> None:
    """O03: what was resumed by hand a moment ago does not come back out of the file."""
    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.changes()
    proxy.suspensions.resume(CANDIDATE)
    proxy.keeper.use(proxy.pool)
    assert proxy.known == []
    proxy.keeper.close()


# -- in the pool file ------------------------------------------------------------------------------------------------


def loaded(folder: Path, named: str, home: str = "/nowhere") -> str:
    """The state file that a pool file names."""
    file = folder / "pool.yaml"
    file.touch(mode=0o600)
    file.write_text(f"state: {named}\nroutes: {{}}\n")
    return load(file, {"HOME": home}, DIALECTS).state


def test_where_it_is(tmp_path: Path) -> None:
    """Relative to the pool file, or to the home folder; a folder that is not there is told."""
    assert loaded(tmp_path, "{file: state.json}") == str(tmp_path / "state.json")
    assert loaded(tmp_path, "{file: ~/state.json}", str(tmp_path)) == str(tmp_path / "state.json")
    with pytest.raises(ConfigError, match="run `mkdir -p -m 700 "):
        loaded(tmp_path, "{file: states/state.json}")


@pytest.mark.parametrize("named", ["{file: 's'}", "{}", "state.json", "{path: s}", "{file: [s]}", "{file: ''}"])
def test_how_it_is_named(tmp_path: Path, named: str) -> None:
    """One key, one path."""
    if named == "{file: 's'}":
        assert loaded(tmp_path, named)
    else:
        with pytest.raises(ConfigError, match=r"pool\.yaml:1: "):
            loaded(tmp_path, named)


def test_o09_what_others_can_write_is_refused(tmp_path: Path) -> None:
    """O09, law 12: the file, or the folder where it will be."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by others"):
        loaded(tmp_path, "{file: open/state.json}")
    folder.chmod(0o700)
    file = folder / "state.json"
    file.touch()
    file.chmod(0o666)
    with pytest.raises(ConfigError, match=r"state\.json:1: this file can be written by others"):
        loaded(tmp_path, "{file: open/state.json}")
    file.chmod(0o600)
    assert loaded(tmp_path, "{file: open/state.json}") == str(file)


class Rows:
    """Something else that is kept in the state file."""

    name = "numbers"

    def __init__(self) -> None:
        self.version = 0
        self.kept: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """What is written."""
        return self.kept

    def restore(self, rows: Sequence[Any]) -> None:
        """What was written; a number below zero is damage."""
        if any(row["n"] < 0 for row in rows):
            raise ValueError("below zero")
        self.kept = [*rows, *self.kept]


def keeping(path: Path, section: Rows) -> StateKeeper:
    """A keeper with a further section."""
    keeper = StateKeeper(Suspensions(Clock()), [section])
    keeper.use(replace(pool(), state=str(path)))
    return keeper


def test_q03_further_sections_are_kept_in_the_file(path: Path) -> None:
    """Q03: written when they have changed, and read by the next proxy; one that does not own the file reads none."""
    first = Rows()
    keeper = keeping(path, first)
    first.kept, first.version = [{"n": 1}], 1
    asyncio.run(keeper.write_changes())
    assert json.loads(path.read_bytes())["numbers"] == [{"n": 1}]
    beside = Rows()
    keeping(path, beside).close()
    assert beside.kept == []
    keeper.close()
    second = Rows()
    keeping(path, second).close()
    assert second.kept == [{"n": 1}]


def test_h09_a_damaged_section_sets_the_file_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """H09: a message that names the section, and the file stays under another name."""
    keeping(path, Rows()).close()
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "numbers": [{"n": -1}]}))
    keeping(path, Rows()).close()
    assert "an entry of `numbers` is damaged" in caplog.text
    assert len(list(path.parent.glob("state.json.damaged-*"))) == 1


def test_h06_a_damaged_file_is_called_after_the_wall_clock(path: Path) -> None:
    """H06: as people read it, also where the clock was set since the proxy started."""
    path.write_bytes(b"{")
    keeper = StateKeeper(Suspensions(set_clock(1000.0)))
    keeper.use(replace(pool(), state=str(path)))
    assert path.with_name(f"state.json.damaged-{NOW + 1000:.0f}").read_bytes() == b"{"
    keeper.close()


def test_a_file_that_a_reload_has_left_is_anothers_to_have(path: Path) -> None:
    proxy = Proxy(path)
    proxy.keeper.use(replace(proxy.pool, state=str(path.with_name("other.json"))))
    left = StateFile(path)
    assert left.is_ours()
    left.let_go()
    proxy.keeper.close()


@pytest.mark.parametrize("together", [1, 2, 3])
@pytest.mark.parametrize("member", ["learned", "limits", "numbers"])
def test_whatever_changes_in_one_second_is_written(path: Path, member: str, together: int) -> None:
    """O03: also where suspensions come in the same second, however many."""
    section = Rows()
    keeper = keeping(path, section)
    asyncio.run(keeper.write_changes())
    assert json.loads(path.read_bytes())[member] == []
    for number in range(together):
        keeper.suspensions.suspend(suspension(Key(Scope.CANDIDATE, "a", f"m{number}")))
    if member == "learned":
        keeper.suspensions.learned.put(lesson())
    elif member == "limits":
        names = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens")
        keeper.suspensions.limits.hear(candidate("a"), zip(names, ("1000", "5"), strict=True), 0.0)
    else:
        section.kept, section.version = [{"n": 1}], 1
    asyncio.run(keeper.write_changes())
    written = json.loads(path.read_bytes())
    assert (len(written["suspensions"]), len(written[member])) == (together, 1)
    keeper.close()


def test_it_goes_on_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as the proxy runs."""
    monkeypatch.setattr(persistence, "INTERVAL", 0.0)
    proxy, rounds = Proxy(path), 0

    class Over(Exception):
        pass

    async def counted() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise Over

    monkeypatch.setattr(proxy.keeper, "write_changes", counted)
    with pytest.raises(Over):
        asyncio.run(proxy.keeper.keep())
    assert rounds == 3
    proxy.keeper.close()


def test_nothing_is_left_of_a_keeper_that_was_closed(path: Path) -> None:
    """Its thread has ended, and another proxy may have the file."""
    before = set(threading.enumerate())
    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.changes()
    assert set(threading.enumerate()) > before
    proxy.keeper.close()
    assert set(threading.enumerate()) == before
    other = StateFile(path)
    assert other.is_ours()
    other.let_go()


def test_a_file_that_cannot_be_locked_is_not_written(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Told once, with what to do; the proxy serves all the same."""
    path.with_name("state.json.lock").mkdir()
    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    proxy.changes()
    proxy.changes()
    assert caplog.text.count("state.json cannot be locked (Is a directory), so it is not written") == 1
    assert not path.exists()
    proxy.keeper.close()


def test_a_file_that_cannot_be_read_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    proxy = Proxy(path)
    assert "state.json cannot be read (Is a directory): suspensions start empty" in caplog.text
    path.rmdir()
    proxy.keeper.close()


def test_trouble_that_comes_back_is_told_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was over in between."""
    proxy = Proxy(path)
    for number in range(2):
        path.unlink(missing_ok=True)
        path.mkdir()
        proxy.suspensions.suspend(suspension(CANDIDATE, 10 + number))
        proxy.changes()
        path.rmdir()
        proxy.changes()
    assert caplog.text.count("suspensions will not outlive this proxy") == 2
    assert written(path) == ["gpt-5"]
    proxy.keeper.close()


def test_what_was_read_is_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing is said where nothing came back."""
    caplog.set_level(logging.INFO)
    first = Proxy(path)
    first.keeper.close()
    assert Proxy(path).known == []
    assert "read from" not in caplog.text
    path.with_name("state.json.lock").unlink()
    first = Proxy(path)
    first.suspensions.suspend(suspension(CANDIDATE))
    first.suspensions.suspend(suspension(CREDENTIAL))
    first.keeper.close()
    Proxy(path).keeper.close()
    assert f"2 suspensions read from {path}" in caplog.text


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_is_left_as_it_was(path: Path, collects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a large file keeps it from running, and no longer than that."""
    during: list[bool] = []

    def read(content: bytes) -> Remembered:
        during.append(gc.isenabled())
        return decode(content)

    monkeypatch.setattr(persistence, "decode", read)
    first = Proxy(path)
    first.suspensions.suspend(suspension(CANDIDATE))
    first.keeper.close()
    was_on = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        Proxy(path).keeper.close()
        assert gc.isenabled() is collects
        assert during == [False]
    finally:
        (gc.enable if was_on else gc.disable)()


def test_what_takes_the_place_of_the_old_file_is_whole_and_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O03: a machine that loses its power has the old state or the new one."""
    told: list[tuple[str, object]] = []
    sync, replace_file = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        sync(descriptor)
        told.append(("synced", os.fstat(descriptor).st_size))

    def replaced(source: str, target: Path) -> None:
        told.append(("replaced", Path(source).stat().st_size))
        replace_file(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    StateFile(path).write(b"x" * 10)
    assert told == [("synced", 10), ("replaced", 10)]


def test_the_lock_is_the_owners_alone(path: Path) -> None:
    """Law 12."""
    file = StateFile(path)
    assert file.is_ours() and file.is_ours()
    assert repr(file) == f"StateFile({path})"
    assert stat.S_IMODE(path.with_name("state.json.lock").stat().st_mode) == 0o600
    second = StateFile(path)
    assert not second.is_ours()
    free = os.dup(0)
    os.close(free)
    assert not second.is_ours()
    again = os.dup(0)
    os.close(again)
    assert again == free, "a lock that another proxy has costs no descriptor"
    assert repr(second) == f"StateFile({path}, not ours)"
    second.let_go()
    file.let_go()
    assert second.is_ours()
    second.let_go()


def test_what_is_too_large_is_told_with_the_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H09: one byte more than may be."""
    monkeypatch.setattr(state_file, "LARGEST", 3 * 1024 * 1024)
    path.touch()
    os.truncate(path, 3 * 1024 * 1024)
    assert len(StateFile(path).read()) == 3 * 1024 * 1024
    os.truncate(path, 3 * 1024 * 1024 + 1)
    with pytest.raises(StateError, match=r"^this is larger than 3 MiB$"):
        StateFile(path).read()


def test_one_write_follows_the_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O03: or an older state could take the place of a newer one."""
    release, write = threading.Event(), StateFile.write
    before = set(threading.enumerate())

    def slow(file: StateFile, content: bytes) -> None:
        release.wait()
        write(file, content)

    proxy = Proxy(path)
    proxy.suspensions.suspend(suspension(CANDIDATE))
    monkeypatch.setattr(StateFile, "write", slow)

    async def play() -> int:
        both = asyncio.gather(proxy.keeper.write_changes(), proxy.keeper.write_changes())
        for _ in range(9):
            await asyncio.sleep(0)
        writing = len(set(threading.enumerate()) - before)
        release.set()
        await both
        return writing

    assert asyncio.run(play()) == 1
    assert written(path) == ["gpt-5"]
    proxy.keeper.close()
