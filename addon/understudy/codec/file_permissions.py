"""Who could have written a file: pool, rule and state files are taken from their owner alone (law 12)."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from understudy.codec.yaml_nodes import ConfigError, Problem

_MOST_LINKS = 40
"""As many as Linux follows."""


def check_file_is_private(path: Path, within: Path | None = None) -> None:
    """Raise ConfigError when a user other than this one or root could have written this file, or put it there.

    Looked at are the file and all that leads to it: every folder from the root on, every symbolic link and what it
    points to. In a sticky folder such as /tmp, which may be writable by all, no user can replace another's file; but
    what stands there has to be the user's or root's itself. Where files have no owner in this sense (Windows), nothing
    is checked beyond the file being a file. ``within``: nothing above this folder is looked at.
    """
    try:
        if not stat.S_ISREG(path.resolve(strict=True).stat().st_mode):
            raise ConfigError([Problem(str(path), 1, "this is not a regular file", "name a file")])
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        problem = Problem(
            str(path), 1, f"this file cannot be read ({_reason(error)})", "write one there, or name another"
        )
        raise ConfigError([problem]) from None
    _check(path, "this file cannot be read ({reason})", "write one there, or name another", within)


def check_folder_is_private(path: Path, within: Path | None = None) -> None:
    """Raise ConfigError when a user other than this one or root could put a file into this folder.

    Looked at are the folder and all that leads to it, as above.
    """
    _check(path, "this folder cannot be read ({reason})", "name another", within)


def check_state_is_private(path: Path) -> None:
    """Raise ConfigError when another user could write, or put in place, the file that keeps suspensions."""
    if os.path.lexists(path):
        check_file_is_private(path)
    elif not path.parent.is_dir():
        make = f"run `mkdir -p -m 700 {shlex.quote(str(path.parent))}`"
        raise ConfigError([Problem(str(path), 1, "there is no folder for this state file", make)])
    else:
        check_folder_is_private(path.parent)


def _check(path: Path, unreadable: str, instead: str, within: Path | None) -> None:
    if os.name != "posix":
        return
    try:
        places = list(_on_the_way(path.absolute()))
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError([Problem(str(path), 1, unreadable.format(reason=_reason(error)), instead)]) from None
    last, status = places[-1]
    near = {last} if stat.S_ISDIR(status.st_mode) else {last.parent, path.absolute().parent}
    problems = [
        problem
        for place, status in reversed(places)
        if within is None or place.is_relative_to(within)
        for problem in _weaknesses(path, place, status, is_near=place in near)
    ]
    if problems:
        raise ConfigError(problems)


def _on_the_way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every folder and every symbolic link on the way to a file, and the file: where each is, and itself.

    Raises OSError, also where links go round in circles.
    """
    place = Path(path.anchor)
    yield place, place.stat(follow_symlinks=False)
    names, links = list(reversed(path.parts[1:])), 0
    while names:
        name = names.pop()
        if name == "..":
            place = place.parent
            continue
        status = (place / name).stat(follow_symlinks=False)
        yield place / name, status
        if not stat.S_ISLNK(status.st_mode):
            place /= name
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = Path(os.readlink(place / name))
        if target.is_absolute():
            place = Path(target.anchor)
        names += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _weaknesses(path: Path, place: Path, status: os.stat_result, *, is_near: bool) -> Iterator[Problem]:
    is_folder, is_link = stat.S_ISDIR(status.st_mode), stat.S_ISLNK(status.st_mode)
    folder = "its folder" if is_near else f"a folder above it ({shlex.quote(str(place))})"
    what = folder if is_folder else f"a link to it ({shlex.quote(str(place))})" if is_link else "this file"
    quoted = shlex.quote(str(place))
    if status.st_uid not in (os.getuid(), 0):
        flag = "-h " if is_link else ""
        yield Problem(str(path), 1, f"{what} belongs to another user", f"run `sudo chown {flag}{os.getuid()} {quoted}`")
    if not is_link and status.st_mode & 0o022 and not (is_folder and status.st_mode & stat.S_ISVTX):
        yield Problem(str(path), 1, f"{what} can be written by others", f"run `chmod go-w {quoted}`")


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else "not a usable name"
