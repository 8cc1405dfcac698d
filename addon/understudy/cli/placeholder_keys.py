"""Placeholders for tools that do not start without a key, where they have none and the pool can serve them.

What carries a placeholder is served from the pool, or not sent at all. A login or key of the user's own is never
covered up: where a tool has one, or goes to another place than its vendor, it gets none. What each tool reads was
measured with the programs of ``scripts/test --clients``, in a terminal as well.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.cli.known_tools import interpreter
from understudy.codec.masking import placeholder

NO_KEY = placeholder("none")
BASE_URLS = {
    "OPENAI_BASE_URL": "openai",
    "OPENAI_API_BASE": "openai",
    "ANTHROPIC_BASE_URL": "anthropic",
    "GOOGLE_GEMINI_BASE_URL": "gemini",
}
"""Variables that send a tool's calls to another place than its vendor's, and the dialect spoken there."""
OPENAI, ANTHROPIC, GEMINI = "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"
KEYS: Mapping[str, tuple[str, ...]] = {
    "openai": (OPENAI,),
    "anthropic": (ANTHROPIC,),
    "gemini": (GEMINI, "GOOGLE_GENERATIVE_AI_API_KEY"),
}
"""What the vendors' SDKs read, and those of others: the last one is Vercel's AI SDK."""
VENDORS_OWN: Mapping[str, tuple[str, ...]] = {dialect: names[:1] for dialect, names in KEYS.items()}
"""The same without those of others."""
ALSO: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    "gemini": ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_"),
}
"""Beginnings of variables by which an SDK is logged in without these."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a tool is logged in. ``keys``: the variables that get the placeholder, by dialect.

    ``variables``: beginnings of those by which it is logged in, or goes to another vendor; an empty one: every key of
    any vendor. ``files``: below the home folder, or below the folder that a variable names: where one exists, it is
    logged in. ``settings``: files in which one of the ``signs`` says so; below the working directory as well.
    """

    keys: Mapping[str, tuple[str, ...]]
    variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    signs: tuple[bytes, ...] = ()
    moved: tuple[str, str] = ("", "")
    """A variable that names another folder, and for which one below the home folder."""
    keychain: bool = field(default=sys.platform == "darwin")
    """Whether it may have a login where that cannot be seen, so that a key would take its place."""


ANY_KEY = "_API_KEY"
LOGINS: Mapping[str, Login] = {
    # Not ANTHROPIC_API_KEY: in a terminal it asks whether a key that it does not know may be used, and suggests no.
    "claude": Login(
        {"anthropic": ("ANTHROPIC_AUTH_TOKEN",)},
        ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_"),
        (".claude/.credentials.json",),
        (".claude.json", ".claude/.claude.json", ".claude/settings.json"),
        (b"apiKeyHelper", b"primaryApiKey", b"oauthAccount", b"ANTHROPIC_", b"CLAUDE_CODE_USE_"),
        ("CLAUDE_CONFIG_DIR", ".claude"),
    ),
    "gemini": Login(
        {"gemini": (GEMINI,)},
        (GEMINI, "GOOGLE_"),
        (".gemini/oauth_creds.json",),
        (".gemini/settings.json", ".gemini/.env", ".env"),
        (b"selectedType", b"selectedAuthType", GEMINI.encode(), b"GOOGLE_"),
        keychain=False,  # that it uses it stands in its settings
    ),
    "opencode": Login(
        KEYS,
        (ANY_KEY,),
        (".local/share/opencode/auth.json",),
        (
            ".config/opencode/opencode.json",
            ".config/opencode/opencode.jsonc",
            "opencode.json",
            "opencode.jsonc",
            ".env",
        ),
        (b"apiKey", ANY_KEY.encode()),
        keychain=False,
    ),
    "aider": Login(
        VENDORS_OWN,
        (ANY_KEY,),
        (),
        (".aider.conf.yml", ".env"),
        (b"api-key", ANY_KEY.encode()),
        keychain=False,
    ),
    "pi": Login(
        VENDORS_OWN,
        (ANY_KEY,),
        (".pi/agent/auth.json", ".pi/agent/models.json"),
        keychain=False,
    ),
}
RUNTIMES = ("python", "node", "bun", "deno", "uv")
"""Programs by which a script with an SDK is run: beginnings of their names."""
CODEX = Login(
    {"openai": ("UNDERSTUDY_PLACEHOLDER",)},
    ("CODEX_ACCESS_TOKEN",),
    (".codex/auth.json",),
    (".codex/config.toml",),
    (b"model_provider", b"cli_auth_credentials_store"),
    ("CODEX_HOME", ".codex"),
    keychain=False,
)
"""Codex in a terminal asks for a login, whatever its variables hold; without a terminal it starts without one."""
CODEX_ELSE = frozenset(
    ("agents", "exec", "e", "review", "login", "logout", "mcp", "plugin", "mcp-server", "app-server", "app",
     "remote-control", "completion", "update", "doctor", "sandbox", "debug", "apply", "a", "queue", "archive", "delete",
     "migrate-rollouts", "migrate-nfs-db", "unarchive", "cloud", "exec-server", "features", "help",
     "-h", "--help", "-V", "--version")
)  # fmt: skip
"""Its commands that are no conversation in a terminal."""
CODEX_PROVIDER = (
    'model_provider="understudy"',
    'model_providers.understudy={name="OpenAI",base_url="https://api.openai.com/v1",wire_api="responses",'
    'env_key="UNDERSTUDY_PLACEHOLDER"}',
)
"""Its own vendor, with a key from a variable: the one way in which it asks for no login."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a tool is given: arguments to put before its own, and variables."""

    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def made_up(
    program: Path, arguments: Sequence[str], dialects: Collection[str], environ: Mapping[str, str], folder: Path
) -> Given:
    """The placeholder that a tool needs to start, where it has no key. ``arguments``: what it is started with.

    ``dialects``: those that the pool has a route for. ``folder``: the working directory.
    """
    name = program.name.removesuffix(".js").removesuffix(".exe")
    if name == "codex":
        return _for_codex(arguments, dialects, environ, folder)
    return Given(environ=_keys(program, name, dialects, environ, folder))


def _keys(
    program: Path, name: str, dialects: Collection[str], environ: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """The variables to set for a tool, each with the placeholder."""
    login = LOGINS.get(name)
    if login is not None:
        if _is_logged_in(login, environ, folder):
            return {}
        return dict.fromkeys(_names(login.keys, dialects, environ), NO_KEY)
    runtime = name if name.startswith(RUNTIMES) else interpreter(program)
    if not runtime.startswith(RUNTIMES):
        return {}
    written = _content(folder / ".env")
    return {
        variable: NO_KEY
        for variable in _names(KEYS, dialects, environ)
        if variable not in environ and variable.encode() not in written
    }


def _for_codex(arguments: Sequence[str], dialects: Collection[str], environ: Mapping[str, str], folder: Path) -> Given:
    """What Codex needs in a terminal where it has no login."""
    if not CODEX_ELSE.isdisjoint(arguments) or any("model_provider" in each for each in arguments):
        return Given()
    names = list(_names(CODEX.keys, dialects, environ))
    if not names or _is_logged_in(CODEX, environ, folder):
        return Given()
    return Given(tuple(word for each in CODEX_PROVIDER for word in ("-c", each)), dict.fromkeys(names, NO_KEY))


def _names(keys: Mapping[str, tuple[str, ...]], dialects: Collection[str], environ: Mapping[str, str]) -> Iterator[str]:
    """The variables of the dialects that are served, and whose calls go to their vendor's own place."""
    elsewhere = {dialect for name, dialect in BASE_URLS.items() if environ.get(name)}
    for dialect, names in keys.items():
        if dialect not in dialects or dialect in elsewhere:
            continue
        if keys is KEYS and any(each.startswith(ALSO.get(dialect, ("\0",))) for each in environ):
            continue
        yield from names


def _is_logged_in(login: Login, environ: Mapping[str, str], folder: Path) -> bool:
    """Whether a tool has a login or a key of its own, as far as that can be seen."""
    for variable in login.variables:
        if any(name.endswith(variable) if variable == ANY_KEY else name.startswith(variable) for name in environ):
            return True
    home = Path(environ.get("HOME", ""))
    places = [home / path for path in (*login.files, *login.settings)]
    variable, below = login.moved
    if variable and environ.get(variable):
        moved = [path.removeprefix(f"{below}/") for path in (*login.files, *login.settings)]
        places = [Path(environ[variable]) / path for path in moved] + [
            home / path for path in login.settings if not path.startswith(f"{below}/")
        ]
    files = {Path(path).name for path in login.files}
    if login.keychain or any(place.exists() for place in places if place.name in files):
        return True
    written = (*places, *(folder / path for path in login.settings))
    return any(sign in _content(place) for place in written for sign in login.signs)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
