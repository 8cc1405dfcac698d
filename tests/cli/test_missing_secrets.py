"""What the commands of the shell say of a secret that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.cli import command_line, doctor

SECRET = "sk-work-0123456789"
WHY = "the environment variable 'HOME_KEY' is not set"
TEXT = """\
upstreams:
  openai: {dialect: openai, url: https://api.openai.com/v1}
  aws: {dialect: bedrock, url: https://bedrock-runtime.eu-west-1.amazonaws.com}
credentials:
  work: {upstream: openai, secret: {env: WORK_KEY}}
  home:
    upstream: openai
    secret: {env: HOME_KEY}
routes:
  default: [home, work]
"""


@pytest.fixture
def pool_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool file of which one secret is missing."""
    monkeypatch.setenv("WORK_KEY", SECRET)
    monkeypatch.delenv("HOME_KEY", raising=False)
    path = tmp_path / "pool.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_check_warns_and_lists_it(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is that of a pool that works."""
    assert command_line.main(["check", str(pool_file)]) == 0
    out, err = capsys.readouterr()
    assert f"{pool_file}:8: {WHY}, so the credential home is out of use: set it before the proxy starts" in err
    assert f"home: the alias as it is at https://api.openai.com:443/v1 (openai), out of use, because {WHY}" in out
    assert SECRET not in out + err


def test_doctor_calls_it_a_problem(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It keeps calls from being served as the owner means it."""
    environ = {"WORK_KEY": SECRET, "HOME": str(pool_file.parent), "XDG_RUNTIME_DIR": str(pool_file.parent)}
    assert doctor.doctor(pool_file, [], environ) == 1
    out = capsys.readouterr().out
    assert f"ok:      {pool_file}: 1 route over 2 credentials, 1 of them usable" in out
    assert f"problem: {pool_file}:8: {WHY}, so the credential home is out of use" in out
