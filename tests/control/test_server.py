"""The socket of a running proxy, and the shell's side of it: who gets in, what is bounded, what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from understudy.cli import command_line
from understudy.control import server as controlserver
from understudy.control.client import LONGEST_PATH, ControlClientError, ask, place_of, running
from understudy.control.registry import RuntimeFolderError
from understudy.control.server import ControlServer


@pytest.fixture
def folder() -> Iterator[Path]:
    """A runtime folder; its path is short whatever the temporary folder of the tests is called."""
    made = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def environ(folder: Path) -> dict[str, str]:
    """An environment that has it."""
    return {"XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}


def echo(command: str, words: Sequence[str], who: str) -> Mapping[str, Any]:
    """An answer that can be told apart."""
    return {"lines": [f"{command} {' '.join(words)}".strip()], "result": {"pool": "/p.yaml", "who": who}}


def serving[T](environ: Mapping[str, str], play: Callable[[], T]) -> T:
    """Run this in a thread while a server listens, and close the server."""

    async def main() -> T:
        server = ControlServer(echo)
        server.open(environ)
        try:
            return await asyncio.to_thread(play)
        finally:
            server.close()
            await asyncio.sleep(0)

    return asyncio.run(main())


def own(folder: Path) -> Path:
    """Where this process's socket is."""
    return folder / "understudy" / f"{os.getpid()}.sock"


def test_o04_a_command_over_the_socket(environ: dict[str, str], folder: Path) -> None:
    """O04: found by its process id, asked, and gone when the proxy ends."""

    def play() -> Mapping[str, Any]:
        found = running(environ)
        assert found == {os.getpid(): own(folder)}
        return ask(found[os.getpid()], "explain", ["gpt-5", "é\ud800"])

    reply = serving(environ, play)
    assert reply["lines"] == ["explain gpt-5 é\ud800"]
    assert reply["result"]["who"]
    assert not own(folder).exists()
    assert running(environ) == {}


def test_law_12_only_its_user_gets_in(environ: dict[str, str], folder: Path) -> None:
    """Law 12: the folder is 0700, the socket 0600."""

    def modes() -> tuple[int, int]:
        return stat.S_IMODE(own(folder).parent.stat().st_mode), stat.S_IMODE(own(folder).stat().st_mode)

    assert serving(environ, modes) == (0o700, 0o600)


def test_law_12_another_users_process_is_shown_out(
    environ: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 12: who is at the other end is looked at, whatever the modes say."""
    monkeypatch.setattr(controlserver, "_owner", lambda connected: "")

    def play() -> None:
        with pytest.raises(ControlClientError, match=r"does not answer|broke off"):
            ask(own(folder), "status", [])

    serving(environ, play)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not say who it is")
def test_law_12_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 12: a process of this user has a name; for another user there is none."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert controlserver._owner(here)
        user = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
        assert bool(controlserver._owner(here)) is (user == 0)


def test_law_12_a_folder_that_others_can_enter_is_not_used(environ: dict[str, str], folder: Path) -> None:
    """Law 12: no socket is put there, and none is trusted there."""
    (folder / "understudy").mkdir()
    (folder / "understudy").chmod(0o755)
    with pytest.raises(RuntimeFolderError, match="others can get into"):
        serving(environ, lambda: None)
    with pytest.raises(RuntimeFolderError, match="others can get into"):
        running(environ)


def raw(path: Path, sent: bytes) -> bytes:
    """What comes back for some bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        received = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                received += data
        except OSError:
            pass
        return received


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"status\n",
        b"[]\n",
        b'{"command": "status"}\n',
        b'{"command": 1, "words": []}\n',
        b'{"command": "status", "words": 5}\n',
        b'{"command": "status", "words": [5]}\n',
        b'{"command": null, "words": null}\n',
        b"[" * 60_000 + b"\n",
        b"\xff\n",
    ],
)
def test_what_is_no_command(environ: dict[str, str], folder: Path, sent: bytes) -> None:
    """Anything may come in; the answer says what to send."""
    assert b"this is no command" in serving(environ, lambda: raw(own(folder), sent))


@pytest.mark.parametrize("sent", [b"", b'{"command": "status", "words": []}', b"x" * 200_000 + b"\n"])
def test_half_a_line_or_too_long_a_one(environ: dict[str, str], folder: Path, sent: bytes) -> None:
    """Is not answered, and costs no more than the bound."""
    assert serving(environ, lambda: raw(own(folder), sent)) == b""


def test_whoever_says_nothing_is_let_go(environ: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is held for a bounded time, and only so many at once."""
    monkeypatch.setattr(controlserver, "SECONDS", 0.05)
    monkeypatch.setattr(controlserver, "MOST_CLIENTS", 1)

    def play() -> bytes:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.settimeout(10)
            silent.connect(str(own(folder)))
            try:
                ended = silent.recv(1)
            except ConnectionResetError:
                ended = b""
        assert ended == b""
        return raw(own(folder), b'{"command": "status", "words": []}\n')

    assert b'"lines"' in serving(environ, play)


def test_only_so_many_at_once(environ: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than that is shown out."""
    monkeypatch.setattr(controlserver, "MOST_CLIENTS", 0)
    assert serving(environ, lambda: raw(own(folder), b'{"command": "status", "words": []}\n')) == b""


def test_a_socket_that_nobody_listens_on_is_removed(environ: dict[str, str], folder: Path) -> None:
    """A proxy that was killed leaves it behind: whoever looks cleans up, and a new one with its number takes it."""

    def leave(pid: int) -> Path:
        path = place_of(folder / "understudy", pid)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        return path

    assert running(environ) == {}  # makes the folder
    stale = leave(999_999_999)
    assert running(environ) == {}
    assert not stale.exists()
    leave(os.getpid())
    assert serving(environ, lambda: list(running(environ))) == [os.getpid()]


def test_a_socket_in_use_is_left_alone(environ: dict[str, str], folder: Path) -> None:
    """The process ids of two containers may be the same."""
    assert running(environ) == {}
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(own(folder)))
        other.listen()
        with pytest.raises(OSError, match="is in use"):
            serving(environ, lambda: None)
        assert own(folder).exists()


def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    """The system's limit is told with what to do, on both sides."""
    deep = folder / ("d" * LONGEST_PATH)
    deep.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(deep), "HOME": str(folder)}
    with pytest.raises(OSError, match=f"at most {LONGEST_PATH}.*set XDG_RUNTIME_DIR"):
        serving(environ, lambda: None)
    exact = folder / ("d" * (LONGEST_PATH - len(f"{folder}//7.sock")))
    assert len(os.fsencode(place_of(exact, 7))) == LONGEST_PATH


def test_closing_twice_or_before_it_was_open_does_nothing(environ: dict[str, str], folder: Path) -> None:
    """As when an option is set to what it was."""

    async def main() -> None:
        server = ControlServer(echo)
        server.close()
        server.open(environ)
        server.open(environ)
        assert own(folder).is_socket()
        server.close()
        server.close()
        server.open(environ)
        assert (await asyncio.to_thread(ask, own(folder), "status", []))["lines"] == ["status"]
        server.close()

    asyncio.run(main())
    assert not own(folder).exists()


# -- the shell's side ------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell with that environment."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return Shell(capsys)


class Shell:
    """Runs `understudy` and keeps what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output and errors of one command."""
        status = command_line.main(words)
        said = self.capsys.readouterr()
        return status, said.out, said.err


@pytest.mark.parametrize(
    "words",
    ["status", "explain gpt-5", "pick gpt-5 openai", "suspend credential work 10m", "resume all", "reload"],
)
def test_o04_from_the_shell(environ: dict[str, str], shell: Shell, words: str) -> None:
    """O04: every command, with its words as they are; the same as JSON."""
    assert serving(environ, lambda: shell(*words.split())) == (0, f"{words}\n", "")
    command, *rest = words.split()
    status, out, _ = serving(environ, lambda: shell(command, "--json", *rest))
    assert status == 0
    assert json.loads(out)["pool"] == "/p.yaml"


def test_without_a_proxy(shell: Shell) -> None:
    """Says how to start one."""
    status, out, err = shell("status")
    assert (status, out) == (2, "")
    assert "start one with `understudy web`" in err


def test_with_several_proxies(environ: dict[str, str], folder: Path, shell: Shell) -> None:
    """They are listed, and one has to be named; one that does not exist is not guessed at."""

    async def main() -> None:
        servers = []
        for pid in (7, 8):
            server = ControlServer(echo)
            server.open(environ)
            (folder / "understudy" / f"{os.getpid()}.sock").rename(folder / "understudy" / f"{pid}.sock")
            servers.append(server)
        status, _, err = await asyncio.to_thread(shell, "status")
        assert status == 2
        assert err.splitlines()[1:] == ["  --pid 7  /p.yaml", "  --pid 8  /p.yaml"]
        assert await asyncio.to_thread(shell, "status", "--pid", "8") == (0, "status\n", "")
        status, _, err = await asyncio.to_thread(shell, "status", "--pid", "9")
        assert status == 2
        assert "there is no proxy with process id 9" in err
        for server in servers:
            server.close()

    asyncio.run(main())


def test_the_proxys_errors_are_told(environ: dict[str, str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1; with --json an error is JSON as well."""
    monkeypatch.setattr(ControlServer, "_reply", lambda self, line, who: {"error": "no route takes it"})
    assert serving(environ, lambda: shell("pick", "x")) == (1, "", "understudy: no route takes it\n")
    status, out, err = serving(environ, lambda: shell("pick", "--json", "x"))
    assert (status, out, json.loads(err)) == (1, "", {"error": "no route takes it"})


@pytest.mark.parametrize("reply", [b"", b"nonsense\n", b"[1]\n", b'"x"\n'])
def test_something_else_that_answers(folder: Path, reply: bytes) -> None:
    """What is not understudy, or breaks off, is told."""
    path = folder / "5.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        async def main() -> None:
            asking = asyncio.create_task(asyncio.to_thread(ask, path, "status", []))
            connection, _ = await asyncio.to_thread(other.accept)
            with connection:
                connection.recv(65536)
                connection.sendall(reply)
            with pytest.raises(ControlClientError, match="process id 5"):
                await asking

        asyncio.run(main())
