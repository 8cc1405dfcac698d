"""The command line: what it says, with which exit status, and that it never says a secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from understudy import __version__
from understudy.cli import command_line
from understudy.cli import pool_file as pool_commands
from understudy.dialects import DIALECTS

GOOD = """\
upstreams:
  openai: {dialect: openai, url: https://api.openai.com/v1}
  lan: {dialect: openai, url: "http://llm.corp:11434"}
credentials:
  work: {upstream: openai, secret: {env: WORK}, headers: {openai-organization: org-secretive}}
  lan: {upstream: lan, secret: {file: secret.txt}}
routes:
  default: [work]
  gpt-5: {candidates: [work, {credential: lan, model: "llama3:8b"}], strategy: round_robin, budget: {attempts: 2}}
"""


@pytest.fixture
def pool_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        pool_commands, "known_dialects", lambda: {name: DIALECTS[name] for name in ("openai", "anthropic")}
    )
    monkeypatch.setenv("WORK", "sk-work-secret-1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "understudy").mkdir(mode=0o700)
    (tmp_path / "understudy" / "secret.txt").write_text("sk-file-secret-2")
    (tmp_path / "understudy" / "secret.txt").chmod(0o644)
    path = tmp_path / "understudy" / "pool.yaml"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def test_check_says_what_a_good_file_means(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["check", str(pool_file)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{pool_file}: 2 upstreams, 2 credentials, 2 routes",
        "  gpt-5 (round_robin, at most 2 attempts)",
        "    work: the alias as it is at https://api.openai.com:443/v1 (openai)",
        "    lan: llama3:8b at http://llm.corp:11434 (openai)",
        "  default (ordered, at most 6 attempts)",
        "    work: the alias as it is at https://api.openai.com:443/v1 (openai)",
    ]
    assert re.search(r"pool\.yaml:3: the secret travels in clear: .* \(warning\)", err)
    assert re.search(r"pool\.yaml:6: others can read the secret file: .* \(warning\)", err)


def test_h12_check_shows_which_single_failure_leaves_nobody(
    pool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """H12: `check --drill`: a table, what to add, and exit status 1; 0 where every route survives. No secret in it."""
    assert command_line.main(["check", "--drill", str(pool_file)]) == 1
    out = capsys.readouterr().out
    assert "one upstream fails" in out
    assert "nobody without work" in out
    assert "default (openai): without credential work: add `lan` to its candidates" in out
    assert "secret" not in out
    pool_file.write_text(GOOD.replace("  default: [work]\n", ""))
    assert command_line.main(["check", "--drill", str(pool_file)]) == 0
    assert "every route survives any single failure" in capsys.readouterr().out


def test_check_tells_of_commands_without_running_them(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``understudy check`` runs nothing; it says so, and warns of a program that is not there."""
    text = GOOD.replace("{env: WORK}", "{command: [touch, was-run]}").replace("{file: secret.txt}", "client")
    pool_file.write_text(text)
    assert command_line.main(["check", str(pool_file)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[2:4] == [
        "    work: the alias as it is at https://api.openai.com:443/v1 (openai), secret from the command "
        "'touch was-run', which was not run",
        "    lan: llama3:8b at http://llm.corp:11434 (openai), the tool's own credential",
    ]
    assert "there is no program" not in err
    pool_file.write_text(text.replace("touch,", "no-such-program,"))
    assert command_line.main(["check", str(pool_file)]) == 0
    assert "pool.yaml:5: there is no program 'no-such-program' that can be run" in capsys.readouterr().err
    assert not list(pool_file.parent.glob("was-run"))


def test_check_without_a_file_takes_the_one_of_the_proxy(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["check"]) == 0
    assert capsys.readouterr().out.startswith(f"{pool_file}: ")


def test_check_does_not_look_in_the_working_directory(
    pool_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """O09: a pool file in the working directory is not picked up."""
    monkeypatch.chdir(pool_file.parent)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert command_line.main(["check"]) == 2
    assert str(tmp_path / "elsewhere" / "understudy" / "pool.yaml") in capsys.readouterr().err


def test_check_tells_all_problems_with_their_lines(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool_file.write_text(GOOD.replace("dialect: openai", "dialect: opnai", 1).replace("gpt-5: {", "gpt-5: {x: 1, "))
    assert command_line.main(["check", str(pool_file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[0] for line in err.splitlines()] == [f"{pool_file}:2", f"{pool_file}:9"]


def test_check_refuses_a_file_that_others_can_write(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """O09: one that others can write is refused."""
    pool_file.chmod(0o666)
    assert command_line.main(["check", str(pool_file)]) == 1
    assert "chmod go-w" in capsys.readouterr().err


def test_lint_is_part_of_check(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool_file.write_text(GOOD.replace("default: [work]", "gpt-4: [work]"))
    assert command_line.main(["check"]) == 0
    assert "the dialect openai have neither `default` nor a glob" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("{env: WORK}", "sk-work-secret-1"),
        GOOD.replace("{env: WORK}", "{env: sk-work-secret-1}"),
        GOOD.replace("WORK", "MISSING"),
        GOOD.replace("openai-organization: org-secretive", "authorization: Bearer sk-work-secret-1"),
        GOOD.replace("https://api", "https://sk-work-secret-1@api"),
        GOOD.replace("default: [work]", "default: [sk-work-secret-1]"),
        GOOD + "  x: [sk-work-secret-1",
        GOOD + "  x: *sk-work-secret-1",
        GOOD + "sk-work-secret-1\n",
    ],
)
def test_no_secret_is_ever_printed(pool_file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """R07: neither a loaded secret nor one that was pasted into the wrong place."""
    pool_file.write_text(text)
    command_line.main(["check", str(pool_file)])
    out, err = capsys.readouterr()
    assert out + err
    for secret in ("sk-work-secret-1", "work-secret-1", "sk-file-secret-2", "org-secretive"):
        assert secret not in out + err


def test_the_known_dialects_are_those_of_the_package() -> None:
    assert {"openai", "anthropic", "gemini"} <= set(pool_commands.known_dialects())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"understudy {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["chekc"], ["check", "a", "b"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert "usage: understudy" in capsys.readouterr().err


def test_a_route_that_only_looks_is_told_apart(pool_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mode other than the default stands beside the route."""
    pool_file.write_text(GOOD.replace("default: [work]", "default: {candidates: [work], mode: advise}"))
    assert command_line.main(["check"]) == 0
    assert "  default (ordered, at most 6 attempts, advises only)" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("words", [["run", "claude", "-p", "hi"], ["run", "--", "claude", "-p", "hi"]])
def test_the_command_of_a_tool_needs_no_dashes(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool's own options are the tool's, with and without ``--``."""
    asked: list[object] = []

    def run(*given: object) -> int:
        asked.extend(given)
        return 0

    monkeypatch.setattr("understudy.cli.run.run", run)
    assert command_line.main([*words[:1], "--pool", "x.yaml", *words[1:]]) == 0
    assert asked == [Path("x.yaml"), ["claude", "-p", "hi"], None, []]


@pytest.mark.parametrize(
    "command", ["check", "init", "run", "env", "doctor", "ca", "status", "pick", "suspend", "resume"]
)
def test_the_help_of_a_command_begins_with_a_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main([command, "--help"])
    usage, sentence, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: understudy {command}")
    assert sentence[0].isupper()
    assert sentence.rstrip().endswith(".")
    assert "[WHAT" not in usage


@pytest.mark.parametrize("named", ["missing.mitm", "there/is/no.har"])
def test_a_file_of_flows_that_is_not_there_is_no_alias(named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["explain", named]) == 2
    assert (
        capsys.readouterr().err == f"understudy explain: {named} is not there: name a flow dump of mitmproxy or a HAR\n"
    )
