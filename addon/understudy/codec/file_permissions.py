"""Who could have written a file: pool, rule and state files are taken from their owner alone (law 12)."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from understudy.codec.yaml_nodes import ConfigError, Problem


def check_file_is_private(path: Path) -> None:
    """Raise ConfigError when somebody other than the user or root could have written this file.

    Looked at are the file and its folder, and where a symbolic link is involved its target and the target's folder. A
    sticky folder such as /tmp may be writable by all, for nobody can replace another one's file there. Where files
    have no owner in this sense (Windows), nothing is checked beyond the file being a file.
    """
    problems: list[Problem] = []
    try:
        real = path.resolve(strict=True)
        if not stat.S_ISREG(real.stat().st_mode):
            raise ConfigError([Problem(str(path), 1, "this is not a regular file", "name a file")])
        if os.name == "posix":
            for place in dict.fromkeys((real, real.parent, path.absolute().parent)):
                problems.extend(_weaknesses(path, place))
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else "not a usable name"
        problem = Problem(str(path), 1, f"this file cannot be read ({reason})", "write one there, or name another")
        raise ConfigError([problem]) from None
    if problems:
        raise ConfigError(problems)


def check_folder_is_private(path: Path) -> None:
    """Raise ConfigError when somebody other than the user or root could put a file into this folder.

    Looked at is the folder, and its target where it is a symbolic link; a sticky folder counts as private, as above.
    """
    problems: list[Problem] = []
    try:
        if os.name == "posix":
            for place in dict.fromkeys((path.resolve(strict=True), path.absolute())):
                problems.extend(_weaknesses(path, place))
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a usable name"
        raise ConfigError([Problem(str(path), 1, f"this folder cannot be read ({reason})", "name another")]) from None
    if problems:
        raise ConfigError(problems)


def check_state_is_private(path: Path) -> None:
    """Raise ConfigError when somebody else could write, or put in place, the file that keeps suspensions."""
    if os.path.lexists(path):
        check_file_is_private(path)
    elif not path.parent.is_dir():
        make = f"run `mkdir -p -m 700 {shlex.quote(str(path.parent))}`"
        raise ConfigError([Problem(str(path), 1, "there is no folder for this state file", make)])
    else:
        check_folder_is_private(path.parent)


def _weaknesses(path: Path, place: Path) -> Iterator[Problem]:
    status = place.stat()
    is_folder = stat.S_ISDIR(status.st_mode)
    what = "its folder" if is_folder else "this file"
    quoted = shlex.quote(str(place))
    if status.st_uid not in (os.getuid(), 0):
        yield Problem(str(path), 1, f"{what} belongs to another user", f"run `sudo chown {os.getuid()} {quoted}`")
    if status.st_mode & 0o022 and not (is_folder and status.st_mode & stat.S_ISVTX):
        yield Problem(str(path), 1, f"{what} can be written by others", f"run `chmod go-w {quoted}`")
