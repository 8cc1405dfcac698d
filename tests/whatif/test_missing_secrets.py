"""Recorded calls are played without secrets: one that is missing changes nothing."""

from __future__ import annotations

from pathlib import Path

from understudy.whatif.runner import _pool

TEXT = """\
upstreams: {openai: {dialect: openai, url: https://api.openai.com/v1}}
credentials:
  work: {upstream: openai, secret: {env: WORK_KEY}}
  home: {upstream: openai, secret: {file: gone}}
routes: {default: [home, work]}
"""


def test_recorded_calls_need_no_secret(tmp_path: Path) -> None:
    """A secret file that is missing where recorded calls are looked at takes no candidate out of the comparison."""
    path = tmp_path / "pool.yaml"
    path.touch(mode=0o600)
    path.write_text(TEXT)
    pool = _pool(path)
    assert pool is not None
    assert [choice.credential.missing for choice in pool.routes["default"].choices] == ["", ""]
    assert [each.missing for each in pool.credentials.values()] == ["", ""]
