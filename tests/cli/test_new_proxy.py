"""How `understudy run` starts a proxy: the way out of this machine, and its log. Real ones: tests/e2e/test_run.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.cli import new_proxy
from understudy.cli.new_proxy import RunError


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "regular"),
        ({"HTTP_PROXY": "http://corp:3128"}, "regular"),
        ({"HTTPS_PROXY": "http://corp:3128"}, "upstream:http://corp:3128"),
        ({"https_proxy": "corp:3128"}, "upstream:http://corp:3128"),
        ({"ALL_PROXY": "https://corp:3128/"}, "upstream:https://corp:3128"),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", "UNDERSTUDY_PROXY": "http://127.0.0.1:1"}, "regular"),
    ],
)
def test_the_proxy_goes_out_as_this_machine_does(environ: dict[str, str], mode: str) -> None:
    assert new_proxy._mode(environ) == mode


@pytest.mark.parametrize("proxy", ["http://me:hunter2secret@corp:3128", "socks5://corp:1080"])
def test_a_proxy_with_a_password_is_not_put_on_a_command_line(proxy: str) -> None:
    """R07: other users can read command lines. What to do instead is said, without the password."""
    with pytest.raises(RunError, match="upstream_auth") as caught:
        new_proxy._mode({"HTTPS_PROXY": proxy})
    assert "hunter2secret" not in str(caught.value)


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HOME": str(tmp_path)}
    path = new_proxy.log_path(environ)
    assert path == tmp_path / ".local" / "state" / "understudy" / "run.log"
    path.write_text("x" * 10)
    assert new_proxy.log_path(environ).exists()
    monkeypatch.setattr(new_proxy, "LARGEST_LOG", 9)
    assert not new_proxy.log_path(environ).exists()
    assert path.with_name("run.log.1").read_text() == "x" * 10
