"""The real programs of the matrix: how each is started headless, with made-up keys and nothing else set."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".clients"
"""Where the programs are installed."""
SCRIPTS = Path(__file__).with_name("programs")
NODE_MODULES = CACHE / "npm" / "node_modules"

OPENAI_KEY = "sk-tool-own-0123456789abcdef"
ANTHROPIC_KEY = "sk-ant-api03-tool-own-0123456789abcdef"
GEMINI_KEY = "AIza-tool-own-0123456789abcdef"
KEYS = {
    "OPENAI_API_KEY": OPENAI_KEY,
    "CODEX_API_KEY": OPENAI_KEY,
    "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
    "GEMINI_API_KEY": GEMINI_KEY,
    "GOOGLE_GENERATIVE_AI_API_KEY": GEMINI_KEY,
}


@dataclass(frozen=True)
class Program:
    """``command`` is what is run, ``env`` what it needs beyond a key; ``login`` False: it has not even a key. ``pool``:
    further lines of the pool file."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    login: bool = True
    pool: str = ""

    @property
    def installed(self) -> bool:
        """Whether the program is there."""
        return shutil.which(self.command[0]) is not None


def _python(name: str, environment: str, script: str, *arguments: str) -> Program:
    interpreter = str(CACHE / environment / "bin" / "python")
    return Program(name, (interpreter, str(SCRIPTS / script), *arguments))


def _node(name: str, script: str, *arguments: str) -> Program:
    # Modules are looked for beside the script, so it is run from where they are installed.
    return Program(name, (str(NODE_MODULES / ".bin" / "node"), str(CACHE / "npm" / script), *arguments))


def _cli(name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Program:
    return Program(name, (str(NODE_MODULES / ".bin" / name), *arguments), env=env or {})


PROMPT = "Reply with one word."
PROGRAMS = (
    _cli("claude", "-p", PROMPT),
    _cli("codex", "exec", "--skip-git-repo-check", PROMPT),
    Program(
        "codex, WebSocket",
        (str(NODE_MODULES / ".bin" / "codex"), "exec", "--skip-git-repo-check", PROMPT),
        pool="websocket: serve",
    ),
    Program("claude, no login", (str(NODE_MODULES / ".bin" / "claude"), "-p", PROMPT), login=False),
    Program(
        "codex, no login",
        (str(NODE_MODULES / ".bin" / "codex"), "exec", "--skip-git-repo-check", PROMPT),
        login=False,
    ),
    _cli("gemini", "-p", PROMPT, env={"GEMINI_CLI_TRUST_WORKSPACE": "true"}),
    _cli("opencode", "run", "-m", "openai/gpt-5", PROMPT),
    Program(
        "aider",
        (
            *(str(CACHE / "aider" / "bin" / "aider"), "--model", "gpt-4o", "--message", PROMPT),
            *("--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings", "--no-analytics"),
            *("--no-show-release-notes", "--no-pretty"),
        ),
    ),
    _python("openai (Python), chat", "sdks", "openai_sdk.py"),
    _python("openai (Python), responses", "sdks", "openai_responses.py"),
    _python("anthropic (Python)", "sdks", "anthropic_sdk.py"),
    _python("google-genai (Python)", "sdks", "google_sdk.py"),
    _python("langchain-openai", "sdks", "langchain_openai_.py"),
    _python("langchain-anthropic", "sdks", "langchain_anthropic_.py"),
    _python("litellm, openai", "litellm", "litellm_sdk.py", "openai/gpt-4o"),
    _python("litellm, anthropic", "litellm", "litellm_sdk.py", "anthropic/claude-sonnet-4-5"),
    _python("litellm, gemini", "litellm", "litellm_sdk.py", "gemini/gemini-2.5-pro"),
    _node("openai (Node 24)", "openai_sdk.mjs"),
    _node("@anthropic-ai/sdk (Node 24)", "anthropic_sdk.mjs"),
    _node("@google/genai (Node 24)", "google_sdk.mjs"),
    _node("ai (Node 24), openai", "ai_sdk.mjs", "openai"),
    _node("ai (Node 24), anthropic", "ai_sdk.mjs", "anthropic"),
    _node("ai (Node 24), google", "ai_sdk.mjs", "google"),
    Program(
        "curl, HTTP/2",
        (
            *("curl", "--http2", "-sS", "-N", "--fail-with-body", "https://api.anthropic.com/v1/messages"),
            *("-H", f"x-api-key: {ANTHROPIC_KEY}", "-H", "content-type: application/json"),
            *("-H", "anthropic-version: 2023-06-01", "-d"),
            json.dumps({"model": "claude-sonnet-5", "max_tokens": 9, "stream": True, "messages": []}),
        ),
    ),
)

KEYLESS = tuple(
    replace(program, name=f"{program.name}, no key", login=False)
    for program in (
        *PROGRAMS,
        _cli("pi", "-p", "--provider", "openai", "--model", "gpt-5", PROMPT),
    )
    if program.name.startswith(("gemini", "opencode", "aider", "pi", "openai", "anthropic", "google", "@", "ai ("))
)
"""Those that do not start without a key, without one: `understudy run` gives them a placeholder. For `--no-keys`."""

WITHOUT_ANSWERS = (
    *(program for program in PROGRAMS if program.login and not program.pool),
    _cli("pi", "-p", "--provider", "openai", "--model", "gpt-5", PROMPT),
)
"""Programs for `--nothing-left`, which compares: they start without understudy, and speak HTTP with it as without."""

GO = "Say hello with a tool, then say that you are done."
CONVERSATIONS = (
    _cli("claude", "-p", "--allowedTools", "Bash", "--", GO),
    _cli("codex", "exec", "--skip-git-repo-check", GO),
    Program(
        "codex, WebSocket",
        (str(NODE_MODULES / ".bin" / "codex"), "exec", "--skip-git-repo-check", GO),
        pool="websocket: serve",
    ),
    _cli("gemini", "-p", GO, env={"GEMINI_CLI_TRUST_WORKSPACE": "true"}),
    _cli("opencode", "run", "-m", "openai/gpt-5", GO),
    _cli("pi", "-p", "--provider", "openai", "--model", "gpt-5", GO),
    _python("openai (Python), responses", "sdks", "openai_conversation.py"),
    _python("anthropic (Python)", "sdks", "anthropic_conversation.py"),
    _python("google-genai (Python)", "sdks", "google_conversation.py"),
)
"""Programs that call tools by themselves, for `--conversation`."""


def environment(program: Program, home: Path) -> dict[str, str]:
    """The environment of somebody who has set a key and nothing else; the temporary folder is in the home folder."""
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    bare = {"HOME": str(home), "PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    return {**bare, "TMPDIR": str(temporary), "LANG": "C.UTF-8", **(KEYS if program.login else {}), **program.env}
