"""Programs that are run for their output: bounded, ended when they are late, and nothing of them left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from understudy.config.secrets import program
from understudy.config.secrets.program import LARGEST_OUTPUT, ProgramError, output_of

LONG = 60.0
"""Seconds that no test waits for."""


def run(*argv: str, folder: Path = Path("/"), timeout: float = LONG) -> bytes:
    """The output of a program."""
    return asyncio.run(output_of(argv, folder, timeout))


def sh(script: str, folder: Path = Path("/"), timeout: float = LONG) -> bytes:
    """The output of a shell script."""
    return run("sh", "-c", script, folder=folder, timeout=timeout)


def is_running(pid: int) -> bool:
    """Whether there is such a process, a zombie aside."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def has_ended(pid: int) -> bool:
    """Whether the process is gone, which takes a moment after it was killed."""
    for _ in range(1000):
        if not is_running(pid):
            return True
        time.sleep(0.01)
    return False


def test_the_output_is_what_it_printed_and_its_errors_are_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert sh("echo out; echo err >&2") == b"out\n"
    assert capfd.readouterr() == ("", "")


def test_there_is_no_shell_no_input_and_no_terminal() -> None:
    assert run("echo", "$HOME; `id` | cat") == b"$HOME; `id` | cat\n"
    assert sh("cat; (: </dev/tty) 2>/dev/null || echo none") == b"none\n"


def test_it_runs_where_it_is_told_to(tmp_path: Path) -> None:
    assert sh("pwd -P", folder=tmp_path).decode().strip() == str(tmp_path.resolve())


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("echo secret-0123; exit 3", "ended with status 3: run it by hand to see what it says"),
        ("kill -9 $$", "was ended by signal 9: run it by hand to see what it says"),
        (f"head -c {LARGEST_OUTPUT + 1} /dev/zero", f"printed more than {LARGEST_OUTPUT} bytes"),
        ("cat /dev/zero", f"printed more than {LARGEST_OUTPUT} bytes"),
    ],
)
def test_a_run_that_was_of_no_use_says_why(script: str, what: str) -> None:
    with pytest.raises(ProgramError) as caught:
        sh(script)
    assert str(caught.value) == what


def test_the_bound_on_the_output_is_exact() -> None:
    assert len(sh(f"head -c {LARGEST_OUTPUT} /dev/zero")) == LARGEST_OUTPUT


def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    with pytest.raises(ProgramError, match=r"^could not be started \(No such file or directory\)$") as caught:
        run("no-such-program-sk-0123456789abcdef")
    assert caught.value.__cause__ is None
    with pytest.raises(ProgramError, match="Permission denied"):
        run(str(tmp_path / "data"))


def test_a_late_program_is_ended_with_its_children(tmp_path: Path) -> None:
    """W08: neither it nor a child that holds its pipe keeps anybody waiting."""
    with pytest.raises(ProgramError, match="took longer than 1 s and was ended"):
        sh(f"sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait", timeout=1)
    for name in ("child", "self"):
        assert has_ended(int((tmp_path / name).read_text()))


def test_a_cancelled_run_is_ended_with_its_children(tmp_path: Path) -> None:
    """Nothing is left behind when the proxy ends meanwhile."""
    os.mkfifo(tmp_path / "started")

    async def cancelled() -> None:
        script = f"sleep 600 & echo $! > {tmp_path}/child; echo > {tmp_path}/started; wait"
        task = asyncio.ensure_future(output_of(("sh", "-c", script), tmp_path, LONG))
        await asyncio.to_thread((tmp_path / "started").read_bytes)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert has_ended(int((tmp_path / "child").read_text()))


def test_a_run_that_is_cancelled_while_it_starts_is_ended_as_well(tmp_path: Path) -> None:
    def running_here() -> list[int]:
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cwd").readlink() == tmp_path:
                    found.append(int(pid))
        return found

    async def cancelled() -> None:
        for turns in range(6):
            task = asyncio.ensure_future(output_of(("sleep", "600"), tmp_path, LONG))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    assert all(has_ended(pid) for pid in running_here())


def test_a_child_that_stays_behind_holds_nobody_up(tmp_path: Path) -> None:
    """An agent that was started on the way keeps the pipe open, and goes on."""
    try:
        assert sh(f"sleep 600 & echo $! > {tmp_path}/child; echo secret") == b"secret\n"
        assert is_running(int((tmp_path / "child").read_text()))
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


def test_without_a_child_that_stays_behind_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is whole as soon as the pipe is closed."""
    monkeypatch.setattr(program, "LINGER", LONG)
    output = asyncio.wait_for(output_of(("echo", "out"), Path("/"), LONG), LONG / 6)
    assert asyncio.run(output) == b"out\n"


def test_the_event_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")

    async def both() -> bytes:
        task = asyncio.ensure_future(output_of(("sh", "-c", f"cat {tmp_path}/gate"), tmp_path, LONG))
        # Only when the loop goes on, the gate is opened, and the program can end.
        await asyncio.to_thread((tmp_path / "gate").write_text, "done")
        return await task

    assert asyncio.run(both()) == b"done"


def test_many_runs_leave_no_descriptor_open(tmp_path: Path) -> None:
    async def many() -> tuple[int, int]:
        await output_of((sys.executable, "-c", ""), tmp_path, LONG)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(5):
            with pytest.raises(ProgramError):
                await output_of(("sh", "-c", f"echo x; exit {number + 1}"), tmp_path, LONG)
        await asyncio.sleep(0)
        return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(many())
    assert after <= before


def test_a_program_does_not_see_what_is_hidden_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """H07: the variables with other secrets of the pool are not in its environment; all others are."""
    monkeypatch.setenv("OTHER_SECRET", "sk-other-0123456789")
    monkeypatch.setenv("KEPT", "kept")
    script = 'echo "$KEPT,$OTHER_SECRET"'
    output = asyncio.run(output_of(("sh", "-c", script), Path("/"), LONG, {"OTHER_SECRET"}))
    assert output == b"kept,\n"
    assert sh(script) == b"kept,sk-other-0123456789\n"
