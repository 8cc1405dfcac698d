"""Running proxies are found, dead and forged ones are not, and nobody else can say that one runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from understudy.control import registry
from understudy.control.registry import Announcement, Running, RuntimeFolderError

RUNNING = Running(4711, 8080, "/ca.pem", "/pool.yaml", ("api.openai.com",), companion=True)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def test_a_running_proxy_is_found_until_it_ends(environ: dict[str, str]) -> None:
    announcement = Announcement(environ)
    assert registry.running_proxies(environ) == []
    assert not announcement.is_told
    announcement.tell(RUNNING)
    assert announcement.is_told
    assert registry.running_proxies(environ) == [RUNNING]
    announcement.withdraw()
    assert not announcement.is_told
    assert registry.running_proxies(environ) == []
    assert list(registry.runtime_folder(environ).iterdir()) == []


def test_patterns_stand_among_the_hosts(environ: dict[str, str]) -> None:
    """So an older understudy reads them as hosts, and a newer one what an older proxy tells."""
    announcement = Announcement(environ)
    announcement.tell(replace(RUNNING, hosts=("api.openai.com", "*.openai.azure.com")))
    [path] = registry.runtime_folder(environ).glob("*.proxy")
    assert json.loads(path.read_bytes())["hosts"] == ["api.openai.com", "*.openai.azure.com"]
    assert [each.hosts for each in registry.running_proxies(environ)] == [("api.openai.com", "*.openai.azure.com")]
    announcement.withdraw()


def test_what_changes_is_told_again(environ: dict[str, str]) -> None:
    """Another port or pool takes the place of the old one; nothing to be told takes the file away."""
    announcement = Announcement(environ)
    announcement.tell(RUNNING)
    other = Running(RUNNING.pid, 9090, "/ca.pem")
    announcement.tell(other)
    assert registry.running_proxies(environ) == [other]
    announcement.tell(None)
    assert registry.running_proxies(environ) == []
    announcement.tell(other)
    assert registry.running_proxies(environ) == [other]
    announcement.withdraw()


def test_the_last_one_started_goes_first(environ: dict[str, str]) -> None:
    first, second = Announcement(environ), Announcement(environ)
    first.tell(Running(1, 1, ""))
    second.tell(Running(2, 2, ""))
    os.utime(registry.runtime_folder(environ) / "1.proxy", (1, 1))
    assert [each.pid for each in registry.running_proxies(environ)] == [2, 1]
    first.withdraw()
    second.withdraw()


def test_what_a_killed_proxy_left_is_ignored_and_removed(environ: dict[str, str]) -> None:
    """A file without its lock is stale, whoever has its process id by now: here it is this very process."""
    folder = registry.runtime_folder(environ)
    code = (
        "import os, signal; from understudy.control.registry import Announcement, Running;"
        f"Announcement(os.environ).tell(Running({os.getpid()}, 1, '')); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environ}, check=False)
    assert killed.returncode < 0
    registry.enter(folder, os.getpid(), 4711)
    assert {each.name for each in folder.iterdir()} == {f"{os.getpid()}.proxy", f"{os.getpid()}.user.4711"}
    assert registry.running_proxies(environ) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b'{"pid": "x", "port": 1, "ca": ""}'])
def test_a_file_that_says_nothing_is_ignored(environ: dict[str, str], content: bytes) -> None:
    import fcntl

    path = registry.runtime_folder(environ) / "1.proxy"
    path.write_bytes(content)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert registry.running_proxies(environ) == []


def test_the_folder_is_its_users_alone(tmp_path: Path) -> None:
    """In XDG_RUNTIME_DIR where there is one, else in the state folder; made with mode 0700."""
    session = tmp_path / "run"
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(session)}
    assert registry.runtime_folder(environ) == tmp_path / ".local" / "state" / "understudy"
    session.mkdir()
    assert registry.runtime_folder(environ) == session / "understudy"
    environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    assert registry.state_folder(environ) == tmp_path / "state" / "understudy"
    for folder in (registry.runtime_folder(environ), registry.state_folder(environ)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_proxy_without_the_session_folder_is_found_too(tmp_path: Path) -> None:
    """One that cron started has no XDG_RUNTIME_DIR."""
    (tmp_path / "run").mkdir()
    announcement = Announcement({"HOME": str(tmp_path)})
    announcement.tell(RUNNING)
    assert registry.running_proxies({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}) == [RUNNING]
    announcement.withdraw()


@pytest.mark.parametrize("spoil", ["mode", "file", "link"])
def test_a_folder_that_others_could_have_filled_is_refused(environ: dict[str, str], tmp_path: Path, spoil: str) -> None:
    folder = registry.runtime_folder(environ)
    if spoil == "mode":
        folder.chmod(0o777)
    else:
        folder.rmdir()
        folder.touch() if spoil == "file" else folder.symlink_to(tmp_path)
    with pytest.raises(RuntimeFolderError, match=r"chmod 700|move it away|cannot be made"):
        registry.running_proxies(environ)


def test_no_home_no_folder() -> None:
    with pytest.raises(RuntimeFolderError, match="set HOME"):
        registry.runtime_folder({"HOME": "relative"})


def test_files_are_their_owners_and_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    registry.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_companion_knows_its_users(environ: dict[str, str]) -> None:
    """Those that have ended are forgotten; who comes while it says farewell is seen, or sees that it has gone."""
    announcement = Announcement(environ)
    announcement.tell(RUNNING)
    [found] = registry.running_proxies(environ)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as user:
        assert registry.join(found, user.pid)
        assert registry.users(RUNNING.pid, environ) == [user.pid]
        assert not registry.farewell(RUNNING.pid, environ)
        assert not registry.join(found, os.getpid())  # its file is away
        assert registry.users(RUNNING.pid, environ) == [user.pid]
        user.kill()
        while not registry.has_ended(user.pid):
            pass
        # Not collected yet, and ended all the same.
        assert registry.users(RUNNING.pid, environ) == []
    assert registry.farewell(RUNNING.pid, environ)
    assert registry.has_ended(user.pid)
    assert not registry.has_ended(1)
    announcement.withdraw()
    assert list(registry.runtime_folder(environ).iterdir()) == []
