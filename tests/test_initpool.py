"""A first pool file: what is found, that it can be used, and that no secret gets anywhere."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import config, initpool
from understudy.dialects import DIALECTS

KEY = "sk-found-0123456789abcdef"


def written(environ: dict[str, str]) -> str:
    """The pool file for an environment."""
    return initpool.pool_text(initpool.find(environ)[0])


def test_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {
        "HOME": str(tmp_path),
        "ANTHROPIC_API_KEY": KEY + "1",
        "OPENAI_API_KEY_WORK": KEY + "2",
        "OPENAI_API_KEY": KEY + "3",
        "GROQ_API_KEY": KEY + "4",
        "DEEPSEEK_API_KEY": KEY + "5",
    }
    assert initpool.init(None, environ) == 0
    path = tmp_path / ".config" / "understudy" / "pool.yaml"
    assert (
        path.read_text()
        == """\
# Written by `understudy init`. What may stand here: the README, "The pool file".
upstreams:
  openai:    {dialect: openai, url: https://api.openai.com/v1}
  anthropic: {dialect: anthropic, url: https://api.anthropic.com}
  deepseek:  {dialect: openai, url: https://api.deepseek.com}
  groq:      {dialect: openai, url: https://api.groq.com/openai/v1}
credentials:
  openai:      {upstream: openai, secret: {env: OPENAI_API_KEY}}
  openai-work: {upstream: openai, secret: {env: OPENAI_API_KEY_WORK}}
  anthropic:   {upstream: anthropic, secret: {env: ANTHROPIC_API_KEY}}
  deepseek:    {upstream: deepseek, secret: {env: DEEPSEEK_API_KEY}}
  groq:        {upstream: groq, secret: {env: GROQ_API_KEY}}
routes:
  "deepseek-*": [deepseek]
  # groq: name its models, for example `MODEL: [groq]`
  # A model with substitutes, tried in this order. A substitute may be another model of the same dialect:
  # MODEL: [openai, {credential: openai-work, model: ANOTHER-MODEL}]
  # Every other model that a tool asks for:
  default: [openai, openai-work, anthropic]
"""
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    out, err = capsys.readouterr()
    assert f"{path}: written" in out
    assert "OPENAI_API_KEY_WORK is the credential openai-work for https://api.openai.com/v1" in out
    assert err == ""
    assert KEY not in out + err + path.read_text()


@pytest.mark.parametrize("there", ["file", "link"])
def test_it_never_writes_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("mine") if there == "file" else path.symlink_to(tmp_path / "nowhere")
    assert initpool.init(path, {"OPENAI_API_KEY": KEY}) == 1
    assert "is there already" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["pool.yaml"]
    assert there == "link" or path.read_text() == "mine"


def test_with_nothing_found_it_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"HOME": str(tmp_path), "OPENAI_API_KEY": " ", "OPENAI_API_KEY_FILE": KEY, "MY_KEY": KEY}
    assert initpool.init(None, environ) == 1
    out, err = capsys.readouterr()
    assert "OPENAI_API_KEY' is empty" in err
    assert "Known are OPENAI_API_KEY, ANTHROPIC_API_KEY" in err
    assert KEY not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert initpool.init(tmp_path / "file" / "pool.yaml", {"OPENAI_API_KEY": KEY}) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_folder_that_others_can_write_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The proxy would refuse the file there."""
    tmp_path.chmod(0o777)
    assert initpool.init(tmp_path / "pool.yaml", {"OPENAI_API_KEY": KEY}) == 1
    assert "chmod go-w" in capsys.readouterr().err


def test_numbers_words_and_doubles() -> None:
    environ = {
        "OPENAI_API_KEY_10": "k10", "OPENAI_API_KEY_2": "k2", "OPENAI_API_KEY1": "k1", "OPENAI_API_KEY_MY_HOME": "home",
        "OPENAI_API_KEY_1": "other", "OPENAI_API_KEY_BASE_URL": "no", "OPENAI_API_KEYS": "no", "OPENAI_API_KEY_": "no",
        "GEMINI_API_KEY": "same", "GOOGLE_API_KEY": "same", "GOOGLE_API_KEY_2": "more",
    }  # fmt: skip
    found, doubtful = initpool.find(environ)
    assert {each.variable: each.name for each in found} == {
        "OPENAI_API_KEY_MY_HOME": "openai-my-home",
        "OPENAI_API_KEY1": "openai-1",
        "OPENAI_API_KEY_1": "openai-1-2",
        "OPENAI_API_KEY_2": "openai-2",
        "OPENAI_API_KEY_10": "openai-10",
        "GEMINI_API_KEY": "gemini",
        "GOOGLE_API_KEY_2": "gemini-2",
    }
    assert doubtful == ["GOOGLE_API_KEY holds the same as GEMINI_API_KEY"]


names = st.sampled_from([vendor.variable for vendor in initpool.VENDORS])
suffixes = st.sampled_from(["", "_1", "2", "_WORK", "_a_b", "_FILE", "é", "_no", "_null", "_1e5"])
values = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)


@given(st.dictionaries(st.builds(str.__add__, names, suffixes), values, min_size=1))
def test_whatever_it_writes_can_be_used(environ: dict[str, str]) -> None:
    """Every set of variables makes a pool that has no problem, and in which every credential of a vendor is used."""
    found, _ = initpool.find(environ)
    if found:
        text = initpool.pool_text(found)
        pool = config.parse(text, Path("/pool.yaml"), environ, DIALECTS)
        assert set(pool.credentials) == {each.name for each in found}
        assert {each.vendor.dialect for each in found} == {each.dialect for each in pool.upstreams.values()}


def test_every_vendor_is_of_a_known_dialect() -> None:
    environ = {vendor.variable: vendor.variable for vendor in initpool.VENDORS}
    pool = config.parse(written(environ), Path("/pool.yaml"), environ, DIALECTS)
    assert len(pool.credentials) == len(initpool.VENDORS)
    assert {choice.credential.name for choice in pool.routes["grok-*"].choices} == {"xai"}
