"""Which tools get a placeholder for a key, in which variable, and that a login of the user's own is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from understudy.cli import placeholder_keys
from understudy.cli.placeholder_keys import LOGINS, NO_KEY

ALL = ("openai", "anthropic", "gemini")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder, in which the working directory is a folder of its own."""
    (tmp_path / "home" / "work").mkdir(parents=True)
    return tmp_path / "home"


def given(home: Path, program: str | Path, *dialects: str, **environ: str) -> Mapping[str, str]:
    """The variables that a tool gets."""
    variables = {"HOME": str(home), **environ}
    return placeholder_keys.made_up(Path(program), (), dialects or ALL, variables, home / "work").environ


def write(path: Path, text: str) -> None:
    """Write a file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def no_keychain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are the same on a system with a keychain."""
    logins = {name: replace(login, keychain=False) for name, login in LOGINS.items()}
    monkeypatch.setattr(placeholder_keys, "LOGINS", logins)


EACH = [
    ("claude", "anthropic", ["ANTHROPIC_AUTH_TOKEN"]),
    ("gemini", "gemini", ["GEMINI_API_KEY"]),
    ("opencode", "openai", ["OPENAI_API_KEY"]),
    ("opencode", "gemini", ["GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"]),
    ("aider", "openai", ["OPENAI_API_KEY"]),
    ("aider", "anthropic", ["ANTHROPIC_API_KEY"]),
    ("pi", "openai", ["OPENAI_API_KEY"]),
    ("python3.12", "openai", ["OPENAI_API_KEY"]),
    ("node", "anthropic", ["ANTHROPIC_API_KEY"]),
    ("uv", "gemini", ["GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"]),
]


@pytest.mark.parametrize(("program", "dialect", "names"), EACH)
def test_what_a_tool_needs_to_start(home: Path, program: str, dialect: str, names: list[str]) -> None:
    """Only what a route of the pool serves. Not ANTHROPIC_API_KEY for Claude Code: in a terminal it asks about that."""
    assert given(home, f"/bin/{program}", dialect) == dict.fromkeys(names, NO_KEY)
    assert given(home, f"/bin/{program}", "cohere") == {}


def test_other_programs_get_nothing(home: Path) -> None:
    assert given(home, "/bin/curl") == given(home, "/bin/copilot") == {}


def test_a_script_gets_what_its_interpreter_would(home: Path) -> None:
    script = home / "ask"
    write(script, "#!/usr/bin/env python3\n")
    assert given(home, script, "openai") == {"OPENAI_API_KEY": NO_KEY}
    write(script, "#!/bin/sh\n")
    assert given(home, script, "openai") == {}


OWN_VARIABLES = [
    *(("claude", name) for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")),
    *(("claude", name) for name in ("CLAUDE_CODE_USE_BEDROCK", "ANTHROPIC_BASE_URL")),
    *(("gemini", name) for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_GCA")),
    *((name, "DEEPSEEK_API_KEY") for name in ("opencode", "aider", "pi")),
]


@pytest.mark.parametrize(("program", "variable"), OWN_VARIABLES)
def test_a_key_or_another_place_in_a_variable(home: Path, program: str, variable: str) -> None:
    """With a key of another vendor aider and others take that one's model: one more key would change it."""
    assert given(home, f"/bin/{program}", **{variable: "x"}) == {}


OWN_FILES = [
    ("claude", ".claude.json", '{"oauthAccount": {}}'),
    ("claude", ".claude/settings.json", '{"apiKeyHelper": "x"}'),
    ("claude", ".claude/.credentials.json", ""),
    ("gemini", ".gemini/oauth_creds.json", ""),
    ("gemini", ".gemini/settings.json", '{"security": {"auth": {"selectedType": "oauth-personal"}}}'),
    ("gemini", "work/.env", "GEMINI_API_KEY=x"),
    ("opencode", ".local/share/opencode/auth.json", ""),
    ("opencode", "work/opencode.json", '{"provider": {"x": {"options": {"apiKey": "x"}}}}'),
    ("aider", ".aider.conf.yml", "openai-api-key: x"),
    ("aider", "work/.env", "OPENAI_API_KEY=x"),
    ("pi", ".pi/agent/auth.json", ""),
]


@pytest.mark.parametrize(("program", "path", "text"), OWN_FILES)
def test_a_login_in_a_file(home: Path, program: str, path: str, text: str) -> None:
    write(home / path, text)
    assert given(home, f"/bin/{program}") == {}


def test_files_that_hold_no_login(home: Path) -> None:
    write(home / ".claude.json", "{}")
    write(home / ".gemini" / "settings.json", "{}")
    write(home / ".aider.conf.yml", "dark-mode: true")
    assert all(given(home, f"/bin/{program}") for program in ("claude", "gemini", "aider"))


def test_claude_codes_folder_can_be_elsewhere(home: Path) -> None:
    write(home / ".claude" / ".credentials.json", "")
    assert given(home, "/bin/claude", CLAUDE_CONFIG_DIR=str(home / "elsewhere")) == {"ANTHROPIC_AUTH_TOKEN": NO_KEY}
    write(home / "elsewhere" / ".credentials.json", "")
    assert given(home, "/bin/claude", CLAUDE_CONFIG_DIR=str(home / "elsewhere")) == {}


def test_a_keychain_may_hold_a_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS Claude Code keeps its login where it cannot be seen, and a key would take its place."""
    monkeypatch.setattr(placeholder_keys, "LOGINS", {"claude": replace(LOGINS["claude"], keychain=True)})
    assert given(home, "/bin/claude") == {}


def test_a_program_with_an_sdk_keeps_the_keys_that_it_has(home: Path) -> None:
    """Variable by variable; what a `.env` names would not be read over a variable that is set."""
    write(home / "work" / ".env", "GEMINI_API_KEY=x")
    found = given(home, "/bin/python3", OPENAI_API_KEY="x", ANTHROPIC_AUTH_TOKEN="x")
    assert found == {"GOOGLE_GENERATIVE_AI_API_KEY": NO_KEY}
    assert "OPENAI_API_KEY" not in given(home, "/bin/python3", OPENAI_BASE_URL="https://elsewhere.example")


@pytest.mark.parametrize("arguments", [(), ("fix this",), ("resume", "--last")])
def test_codex_in_a_terminal(home: Path, arguments: tuple[str, ...]) -> None:
    """It asks for a login whatever its variables hold, unless its provider takes the key from one."""
    environ = {"HOME": str(home)}
    found = placeholder_keys.made_up(Path("/bin/codex"), arguments, ALL, environ, home)
    assert found.environ == {"UNDERSTUDY_PLACEHOLDER": NO_KEY}
    assert found.arguments[::2] == ("-c", "-c")
    assert 'env_key="UNDERSTUDY_PLACEHOLDER"' in found.arguments[3]


@pytest.mark.parametrize("arguments", [("exec", "hi"), ("login",), ("--help",), ("-c", 'model_provider="own"')])
def test_codex_without_a_terminal_starts_without_a_key(home: Path, arguments: tuple[str, ...]) -> None:
    found = placeholder_keys.made_up(Path("/bin/codex"), arguments, ALL, {"HOME": str(home)}, home)
    assert (found.arguments, found.environ) == ((), {})


@pytest.mark.parametrize("path", [".codex/auth.json", ".codex/config.toml"])
def test_codex_with_a_login_or_a_provider_of_its_own(home: Path, path: str) -> None:
    write(home / path, 'model_provider = "own"')
    found = placeholder_keys.made_up(Path("/bin/codex"), (), ALL, {"HOME": str(home)}, home)
    assert (found.arguments, found.environ) == ((), {})
