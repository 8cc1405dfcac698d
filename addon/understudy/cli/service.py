"""``understudy service install|status|logs|uninstall``: a proxy that starts with the user's session and stays.

On Linux it is a systemd user unit, on macOS an agent of launchd. The secrets that the pool file takes from the
environment come from a file with mode 600 that only the owner fills: nothing here ever reads or writes a secret.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

UNIT = "understudy.service"
LABEL = "org.understudy.proxy"
GRACE = 30
_VARIABLE = re.compile(r"\benv:\s*[\"']?([A-Za-z_][A-Za-z0-9_]*)")
_TEMPLATE = """\
[Unit]
Description=understudy, a proxy between LLM tools and LLM vendors
After=network.target

[Service]
Type=exec
ExecStart={command}
# The secrets of the pool file's {{env: NAME}}. Only you may read it: mode 600.
EnvironmentFile=-{environment}
# Replaces the workers one after the other, and loses no call.
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
# The first process ends the workers in good order.
KillMode=mixed
TimeoutStopSec={stop}
# What can be closed without breaking `command` secrets: these may need your home, your agents' sockets and the network,
# so nothing of the file system is taken away, and no memory protection that just-in-time compilers fail under.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
UMask=0077
# No secret in a core dump.
LimitCORE=0

[Install]
WantedBy=default.target
"""


class ServiceError(Exception):
    """The service cannot be installed or asked. Says why, and what to do."""


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status."""
    try:
        found = ACTIONS[arguments.action](arguments, os.environ)
    except (ServiceError, OSError) as error:
        print(f"understudy service: {error}", file=sys.stderr)
        return 1
    return found


def install(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Write the unit and the file for the secrets, and start the service."""
    pool = _pool_path(arguments.pool, environ)
    secrets = secrets_path(environ)
    names = variables(pool.read_text(encoding="utf-8", errors="replace"))
    to_fill = write_secrets(secrets, names) and bool(names)
    # -P: nothing is imported from the working directory.
    words = [sys.executable, "-P", "-m", "understudy.cli", "serve", "--workers", str(arguments.workers)]
    words += ["--port", str(arguments.port), "--pool", str(pool), "--grace", str(GRACE)]
    words += ["--", *arguments.tool] if arguments.tool else []
    place = unit_path(environ)
    place.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "darwin":
        place.write_bytes(plist(words, secrets, log_path(environ)))
        start = [["launchctl", "bootstrap", f"gui/{os.getuid()}", str(place)]]
    else:
        place.write_text(unit(words, secrets), encoding="utf-8")
        start = [["systemctl", "--user", "daemon-reload"], ["systemctl", "--user", "enable", "--now", UNIT]]
    print(f"{place} was written")
    if to_fill:
        print(f"{secrets} was written: put the values of {', '.join(names)} into it first")
    if arguments.no_start or to_fill:
        print("start it with: " + " && ".join(map(shlex.join, start)))
        return 0
    for each in start:
        if found := _run(each):
            return found
    print(f"the service runs; `understudy service logs` shows what it says, {secrets} has the secrets")
    if sys.platform != "darwin":
        print("it ends when you log out, unless you run `loginctl enable-linger`")
    return 0


def _pool_path(named: Path | None, environ: Mapping[str, str]) -> Path:
    """The pool file, which is there. Raises ServiceError."""
    from understudy.codec.yaml_nodes import ConfigError  # here: what is installed can be asked without a pool file
    from understudy.config import default_pool_path, no_pool_file

    try:
        path = (named or default_pool_path(environ)).absolute()
    except ConfigError as error:
        raise ServiceError(str(error)) from None
    if not path.exists():
        raise ServiceError(no_pool_file(path, named))
    return path


def status(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Whether it runs."""
    if sys.platform == "darwin":
        return _run(["launchctl", "print", f"gui/{os.getuid()}/{LABEL}"])
    return _run(["systemctl", "--user", "--no-pager", "status", UNIT])


def logs(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """What it says."""
    if sys.platform == "darwin":
        return _run(["tail", *(["-f"] if arguments.follow else []), "-n", "200", str(log_path(environ))])
    more = ["-f"] if arguments.follow else ["--no-pager", "-n", "200"]
    return _run(["journalctl", "--user", "-u", UNIT, *more])


def uninstall(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """End it, and remove what was written but for the secrets."""
    place = unit_path(environ)
    if not place.exists():
        raise ServiceError(f"there is no {place}: nothing is installed")
    if sys.platform == "darwin":
        found = _run(["launchctl", "bootout", f"gui/{os.getuid()}/{LABEL}"])
    else:
        found = _run(["systemctl", "--user", "disable", "--now", UNIT])
    place.unlink()
    if sys.platform != "darwin":
        _run(["systemctl", "--user", "daemon-reload"])
    print(f"{place} was removed; {secrets_path(environ)} stays: it may hold secrets of yours")
    return found


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Mapping[str, str]], int]] = {
    "install": install,
    "status": status,
    "uninstall": uninstall,
    "logs": logs,
}


# -- the files -------------------------------------------------------------------------------------------------------


def unit_path(environ: Mapping[str, str]) -> Path:
    """Where the service is described. Raises ServiceError without a home folder."""
    if sys.platform == "darwin":
        return _home(environ) / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    return _config(environ) / "systemd" / "user" / UNIT


def secrets_path(environ: Mapping[str, str]) -> Path:
    """Where the values of variables are that the pool file names."""
    return _config(environ) / "understudy" / "environment"


def log_path(environ: Mapping[str, str]) -> Path:
    """Where launchd writes what the service says."""
    return _home(environ) / "Library" / "Logs" / "understudy.log"


def _home(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME", ""))
    if not home.is_absolute():
        raise ServiceError("there is no home folder: set HOME")
    return home


def _config(environ: Mapping[str, str]) -> Path:
    configured = Path(environ.get("XDG_CONFIG_HOME", ""))
    return configured if configured.is_absolute() else _home(environ) / ".config"


def variables(text: str) -> list[str]:
    """The variables that a pool file takes secrets from, in order."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def write_secrets(path: Path, names: Sequence[str]) -> bool:
    """Make the file for the secrets, with the names alone, unless there is one; returns whether it was made.

    One that others can read is refused. Raises ServiceError and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "# The values of the variables that the pool file names, one NAME=VALUE a line.",
        *(f"#{n}=" for n in names),
    ]
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise ServiceError(f"others can read {path}: run `chmod 600 {shlex.quote(str(path))}`") from None
        return False
    with os.fdopen(made, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return True


def unit(words: Sequence[str], secrets: Path) -> str:
    """The text of the systemd unit that runs this command."""
    return _TEMPLATE.format(command=" ".join(map(_quoted, words)), environment=_path(secrets), stop=GRACE + 20)


def _quoted(word: str) -> str:
    """A word of ``ExecStart=`` as systemd.syntax(7) wants it."""
    if any(not char.isprintable() for char in word):
        raise ServiceError("a word of the command has a line break or another control character in it")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) or not word else escaped


def _path(path: Path) -> str:
    text = str(path)
    if any(not char.isprintable() for char in text):
        raise ServiceError(f"{text!r} cannot stand in a unit")
    return text.replace("%", "%%")


def plist(words: Sequence[str], secrets: Path, log: Path) -> bytes:
    """The property list of launchd that runs this command, with the variables of the file for the secrets."""
    import plistlib  # here: macOS only

    script = 'set -a; [ ! -r "$0" ] || . "$0"; set +a; exec "$@"'
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": ["/bin/sh", "-c", script, str(secrets), *words],
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ExitTimeOut": GRACE + 20,
            "Umask": 0o077,
            "HardResourceLimits": {"Core": 0},
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
        }
    )


def _run(words: Sequence[str]) -> int:
    """Run a program of the system in the foreground; returns its status. Raises ServiceError without it."""
    if shutil.which(words[0]) is None:
        raise ServiceError(f"there is no {words[0]} here: this needs systemd (Linux) or launchd (macOS)")
    return subprocess.run(words, check=False).returncode
