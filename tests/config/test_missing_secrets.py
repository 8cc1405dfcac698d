"""A missing secret is a warning with its line: its credential is out of use, and the rest of the pool works."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from understudy.codec.yaml_nodes import ConfigError, Problem
from understudy.config.pool_file import parse
from understudy.dialects import DIALECTS
from understudy.model import Pool, SecretError

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


def read(text: str, path: Path, environ: Mapping[str, str]) -> tuple[Pool, list[str]]:
    """The pool and its warnings."""
    warnings: list[Problem] = []
    pool = parse(text, path, environ, DIALECTS, warnings)
    return pool, [str(each) for each in warnings]


@pytest.mark.parametrize(
    ("secret", "at", "what", "write"),
    [
        ("{env: HOME_KEY}", "openai", WHY, "set it before the proxy starts, or name another"),
        ("{env: EMPTY}", "openai", "the environment variable 'EMPTY' is empty", "set it before the proxy starts"),
        ("{file: gone}", "openai", "' cannot be read (No such file or directory)", "write the secret alone into"),
        ("{file: pool.yaml/gone}", "openai", "' cannot be read (Not a directory)", "write the secret alone into"),
        ("{file: empty}", "openai", "' is empty", "write the secret alone into that file"),
        ("{aws: {access_key_id: {env: HOME_KEY}, secret_access_key: {env: WORK_KEY}}}", "aws", WHY, "set it before"),
        (
            "{aws: {profile: nobody}}",
            "aws",
            "the AWS profile 'nobody' cannot be used (ProfileNotFound)",
            "name another",
        ),
    ],
)
def test_a_missing_secret_is_a_warning_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, at: str, what: str, write: str
) -> None:
    """Whatever kind of secret: the credential stays in the pool with the reason, and the warning says what to do."""
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    (tmp_path / "empty").touch(mode=0o600)
    (tmp_path / "pool.yaml").touch()
    text = TEXT.replace("upstream: openai\n    secret: {env: HOME_KEY}", f"upstream: {at}\n    secret: {secret}")
    pool, warnings = read(text, tmp_path / "pool.yaml", {"WORK_KEY": SECRET, "EMPTY": " \n"})
    [warning] = warnings
    assert warning.startswith(f"{tmp_path}/pool.yaml:8: ")
    assert f"{what}, so the credential home is out of use: {write}" in warning
    home, work = pool.credentials["home"], pool.credentials["work"]
    assert (what in home.missing, work.missing) == (True, "")
    assert [choice.credential.missing for choice in pool.routes["default"].choices] == [home.missing, ""]
    assert repr(home.secret) == "<no secret>"
    with pytest.raises(SecretError):
        home.secret.reveal()


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        ("{env: TWO_LINES}", "a line break"),
        ("{env: $HOME_KEY}", "a variable is named here"),
        ("{env: sk-proj-0123456789abcdef}", "this is not the name of an environment variable"),
        ("{file: .}", "is not a regular file"),
        ("{file: binary}", "holds a line break or another control character"),
        ("{aws: {profile: nobody}}", "takes no signature of AWS"),
    ],
)
def test_a_secret_that_is_there_and_wrong_stays_an_error(tmp_path: Path, secret: str, what: str) -> None:
    """What the owner wrote wrongly is refused, although another credential could be used."""
    (tmp_path / "binary").write_bytes(b"a\0b")
    text = TEXT.replace("secret: {env: HOME_KEY}", f"secret: {secret}")
    environ = {"WORK_KEY": SECRET, "TWO_LINES": "first-line\nsecond-line"}
    if "aws" in secret:
        text = text.replace("{profile: nobody}", "{access_key_id: {env: WORK_KEY}, secret_access_key: {env: WORK_KEY}}")
    with pytest.raises(ConfigError) as caught:
        read(text, tmp_path / "pool.yaml", environ)
    [problem] = caught.value.problems
    assert (problem.line, what in problem.what) == (8, True)
    assert "second-line" not in str(problem)


def test_a_pool_without_any_usable_credential_is_an_error(tmp_path: Path) -> None:
    """Each missing secret is told with its line and what to do."""
    with pytest.raises(ConfigError) as caught:
        read(TEXT, tmp_path / "pool.yaml", {})
    write = "set it before the proxy starts, or name another"
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/pool.yaml:5: the environment variable 'WORK_KEY' is not set: {write}",
        f"{tmp_path}/pool.yaml:8: {WHY}: {write}",
    ]


def test_the_tools_own_credential_and_a_command_are_usable(tmp_path: Path) -> None:
    """Neither has a secret yet when the pool is read, so neither can be missing then."""
    for secret in ("client", "{command: [no-such-program]}"):
        pool, _ = read(TEXT.replace("{env: WORK_KEY}", secret), tmp_path / "pool.yaml", {})
        assert [bool(each.missing) for each in pool.credentials.values()] == [False, True]


def test_a_credential_comes_back_with_its_secret(tmp_path: Path) -> None:
    """The same file, read again when the variable is there."""
    environ = {"WORK_KEY": SECRET}
    assert read(TEXT, tmp_path / "pool.yaml", environ)[0].credentials["home"].missing == WHY
    environ["HOME_KEY"] = "sk-home-0123456789"
    pool, warnings = read(TEXT, tmp_path / "pool.yaml", environ)
    assert (pool.credentials["home"].missing, warnings) == ("", [])
    assert pool.credentials["home"].secret.reveal() == "sk-home-0123456789"
