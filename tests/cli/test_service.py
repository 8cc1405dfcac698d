"""``understudy service``: systemd takes the unit, the agent has launchd's form, and no secret is written."""

from __future__ import annotations

import os
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.cli import command_line, service

POOL = """
upstreams: {openai: {dialect: openai, url: https://api.openai.com/v1}}
credentials:
  work: {upstream: openai, secret: {env: WORK_KEY}}
  home: {upstream: openai, secret: {env: HOME_KEY}}
routes: {default: [work, home]}
"""
SECRET = "sk-work-0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a pool file, and systemd's tool that notes what it is asked."""
    place = tmp_path / "home"
    (place / ".config" / "understudy").mkdir(parents=True)
    pool = place / ".config" / "understudy" / "pool.yaml"
    pool.touch(mode=0o600)
    pool.write_text(POOL)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("systemctl", "journalctl", "launchctl"):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho "{name} $@" >>"{tmp_path}/asked"\n')
        tool.chmod(0o755)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("WORK_KEY", SECRET)
    monkeypatch.setattr(sys, "platform", "linux")
    return place


def asked(home: Path) -> list[str]:
    """What the system's tools were asked."""
    path = home.parent / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_install_names_the_variables_and_waits_for_their_values(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file for the secrets has mode 600 and holds names alone; the service is not started without them."""
    assert command_line.main(["service", "install"]) == 0
    secrets = home / ".config" / "understudy" / "environment"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert secrets.read_text().splitlines()[1:] == ["#WORK_KEY=", "#HOME_KEY="]
    assert "put the values of WORK_KEY, HOME_KEY into it first" in capsys.readouterr().out
    assert asked(home) == []
    written = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert not any(SECRET in text for text in written)


def test_install_starts_it_and_uninstall_ends_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second install keeps the file with the secrets, and so does the end."""
    secrets = home / ".config" / "understudy" / "environment"
    secrets.touch(mode=0o600)
    secrets.write_text(f"WORK_KEY={SECRET}\n")
    assert command_line.main(["service", "install", "--workers", "2", "--", "--set", "pool_journal=j"]) == 0
    unit = home / ".config" / "systemd" / "user" / "understudy.service"
    assert "serve --workers 2" in unit.read_text() and "-- --set pool_journal=j" in unit.read_text()
    assert command_line.main(["service", "status"]) == 0
    assert command_line.main(["service", "logs", "-f"]) == 0
    assert command_line.main(["service", "uninstall"]) == 0
    assert asked(home) == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now understudy.service",
        "systemctl --user --no-pager status understudy.service",
        "journalctl --user -u understudy.service -f",
        "systemctl --user disable --now understudy.service",
        "systemctl --user daemon-reload",
    ]
    assert not unit.exists()
    assert secrets.read_text() == f"WORK_KEY={SECRET}\n"
    assert SECRET not in capsys.readouterr().out
    assert command_line.main(["service", "uninstall"]) == 1


def test_what_is_left_after_the_end(home: Path) -> None:
    """Of all that `install` wrote, the file for the secrets alone stays, and nothing is written elsewhere."""

    def files() -> set[str]:
        ours = (home / ".config", home / ".local", home / ".mitmproxy")
        return {str(each.relative_to(home)) for folder in ours for each in folder.rglob("*") if not each.is_dir()}

    before = files()
    assert command_line.main(["service", "install", "--no-start"]) == 0
    assert files() - before == {".config/systemd/user/understudy.service", ".config/understudy/environment"}
    assert command_line.main(["service", "uninstall"]) == 0
    assert files() - before == {".config/understudy/environment"}


def test_a_file_that_others_can_read_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = home / ".config" / "understudy" / "environment"
    secrets.touch(mode=0o600)
    secrets.chmod(0o644)
    assert command_line.main(["service", "install"]) == 1
    assert "chmod 600" in capsys.readouterr().err


def test_without_a_pool_file_nothing_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".config" / "understudy" / "pool.yaml").unlink()
    assert command_line.main(["service", "install"]) == 1
    assert "understudy init" in capsys.readouterr().err
    assert not (home / ".config" / "systemd").exists()


def test_systemd_takes_the_unit(home: Path) -> None:
    """Checked by systemd itself, with a path that has a space, a per cent sign and a dollar in it."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze is installed")
    odd = home / "a pool $HOME 100%.yaml"
    odd.touch(mode=0o600)
    odd.write_text(POOL)
    assert command_line.main(["service", "install", "--no-start", "--pool", str(odd)]) == 0
    unit = home / ".config" / "systemd" / "user" / "understudy.service"
    assert '"' + str(odd).replace("%", "%%").replace("$", "$$") + '"' in unit.read_text()
    runtime = home.parent / "runtime"
    runtime.mkdir(mode=0o700)
    checked = subprocess.run(
        [program, "verify", "--user", "--man=no", str(unit)],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_launchd_gets_a_property_list(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its form only: there is no launchd to try it with. Its shell line is run here."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert command_line.main(["service", "install", "--no-start"]) == 0
    found = plistlib.loads((home / "Library" / "LaunchAgents" / "org.understudy.proxy.plist").read_bytes())
    assert found["RunAtLoad"] is True
    secrets = home / ".config" / "understudy" / "environment"
    secrets.write_text(f"WORK_KEY={SECRET}\n")
    shell = found["ProgramArguments"][:4]
    assert shell[3] == str(secrets)
    said = subprocess.run(
        [*shell, "sh", "-c", 'echo "$WORK_KEY"'], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    assert said.stdout.decode().strip() == SECRET


@pytest.mark.parametrize("word", ["a\nb", "\x1b[31m"])
def test_a_word_that_would_forge_a_line_is_refused(word: str) -> None:
    with pytest.raises(service.ServiceError):
        service.unit([word], Path("/nowhere"))
