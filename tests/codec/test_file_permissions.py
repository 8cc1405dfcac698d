"""Who could have written a file, or put it there: all that leads to it is looked at (O09, law 12)."""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from understudy.codec import file_permissions
from understudy.codec.file_permissions import check_file_is_private, check_folder_is_private, check_state_is_private
from understudy.codec.yaml_nodes import ConfigError


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "understudy"
    folder.mkdir(mode=0o700)
    path = folder / "pool.yaml"
    path.touch(mode=0o600)
    return path


def problems_of(check: object, *arguments: object) -> list[str]:
    """What a check tells, line by line."""
    assert callable(check)
    try:
        check(*arguments)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_a_folder_that_others_can_write_is_refused_unless_it_is_sticky(private: Path) -> None:
    """O09: who can write the folder can put another file in its place."""
    private.parent.chmod(0o777)
    with pytest.raises(ConfigError, match=re.escape(f"run `chmod go-w {private.parent}`")):
        check_file_is_private(private)
    private.parent.chmod(0o777 | stat.S_ISVTX)
    check_file_is_private(private)


def test_a_link_is_as_private_as_its_folder_and_its_target(private: Path, tmp_path: Path) -> None:
    """O09: a symbolic link in a folder of others could be pointed elsewhere."""
    public = tmp_path / "public folder"
    public.mkdir()
    link = public / "link.yaml"
    link.symlink_to(private)
    check_file_is_private(link)
    public.chmod(0o777)
    with pytest.raises(ConfigError, match=r"its folder can be written by others: run `chmod go-w '.*public folder'`"):
        check_file_is_private(link)
    public.chmod(0o700)
    private.chmod(0o666)
    with pytest.raises(ConfigError, match="this file can be written by others"):
        check_file_is_private(link)


def test_a_sticky_file_is_no_sticky_folder(private: Path) -> None:
    """O09: the sticky bit protects what is in a folder, and means nothing on a file."""
    private.chmod(0o666 | stat.S_ISVTX)
    with pytest.raises(ConfigError, match="this file can be written by others"):
        check_file_is_private(private)


def test_a_folder_further_up_that_others_can_write_is_refused(private: Path) -> None:
    """O09, law 12: who can write the grandparent can put another folder in the place of the parent."""
    above = private.parent.parent
    for place in (above, above.parent):
        before = place.stat().st_mode
        place.chmod(0o777)
        with pytest.raises(
            ConfigError, match=rf"a folder above it \({place}\) can be written by others: run `chmod go-w {place}`"
        ):
            check_file_is_private(private)
        place.chmod(0o777 | stat.S_ISVTX)
        check_file_is_private(private)
        place.chmod(before)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can make another user's link")
def test_a_link_of_another_user_is_refused(private: Path, tmp_path: Path) -> None:
    """O09, law 12: in a sticky folder anybody can make a link, and point it at another file of ours later."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777 | stat.S_ISVTX)
    link, inside = shared / "pool.yaml", shared / "folder"
    link.symlink_to(private)
    inside.symlink_to(private.parent)
    for path in (link, inside / private.name):
        check_file_is_private(path)
    os.lchown(link, 65534, 65534)
    os.lchown(inside, 65534, 65534)
    for path in (link, inside / private.name):
        with pytest.raises(ConfigError, match=r"a link to it \(.*\) belongs to another user: run `sudo chown -h"):
            check_file_is_private(path)


def test_links_in_a_circle_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigError, match="cannot be read"):
        check_file_is_private(tmp_path / "a")
    with pytest.raises(ConfigError, match="cannot be read"):
        check_folder_is_private(tmp_path / "a")


def test_every_link_on_the_way_is_followed(private: Path, tmp_path: Path) -> None:
    """O09: also a relative one, one with dots in it, and one behind another."""
    place = tmp_path / "x" / "y"
    place.mkdir(parents=True)
    (place / "up").symlink_to(Path("..") / ".." / private.parent.relative_to(tmp_path))
    (place / "again").symlink_to("up")
    check_file_is_private(place / "again" / ".." / private.parent.name / private.name)
    private.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="its folder can be written by others"):
        check_file_is_private(place / "again" / private.name)


@pytest.mark.parametrize(("owner", "refused"), [(0, False), (1000, False), (1001, True)])
def test_a_file_of_another_user_is_refused(
    private: Path, monkeypatch: pytest.MonkeyPatch, owner: int, refused: bool
) -> None:
    """O09: the file must belong to the user or to root."""

    def status(path: Path, **_: object) -> SimpleNamespace:
        real = os.stat(path)
        return SimpleNamespace(st_mode=real.st_mode, st_uid=1000 if path.suffix != ".yaml" else owner)

    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(Path, "stat", status)
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: path)
    if refused:
        with pytest.raises(ConfigError, match=f"belongs to another user: run `sudo chown 1000 {private}`"):
            check_file_is_private(private)
    else:
        check_file_is_private(private)


@pytest.mark.parametrize("bit", [0o020, 0o002])
def test_each_of_group_and_others_is_another_user(private: Path, bit: int) -> None:
    """O09: on the file, on its folder and further up; what is told is how to mend it."""
    above = private.parent.parent
    for place, what in (
        (private, "this file"),
        (private.parent, "its folder"),
        (above, f"a folder above it ({above})"),
    ):
        before = place.stat().st_mode
        place.chmod(before | bit)
        found = problems_of(check_file_is_private, private)
        assert found == [f"{private}:1: {what} can be written by others: run `chmod go-w {place}`"]
        place.chmod(before)
    assert problems_of(check_file_is_private, private) == []


def test_a_folder_is_checked_like_a_file(private: Path, tmp_path: Path) -> None:
    """O09: it, and all that leads to it; what is in it is not looked at."""
    folder = private.parent
    private.chmod(0o666)
    assert problems_of(check_folder_is_private, folder) == []
    folder.chmod(0o777)
    [found] = problems_of(check_folder_is_private, folder)
    assert found == f"{folder}:1: its folder can be written by others: run `chmod go-w {folder}`"
    folder.chmod(0o700)
    tmp_path.chmod(0o777)
    [found] = problems_of(check_folder_is_private, folder)
    assert "a folder above it" in found
    assert problems_of(check_folder_is_private, folder, folder) == []
    assert problems_of(check_file_is_private, private, folder) != []
    [found] = problems_of(check_folder_is_private, tmp_path / "absent")
    assert found == f"{tmp_path / 'absent'}:1: this folder cannot be read (No such file or directory): name another"


def test_nothing_above_a_folder_that_is_named_is_looked_at(private: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert problems_of(check_file_is_private, private, private.parent) == []
    assert len(problems_of(check_file_is_private, private, tmp_path)) == 1
    private.chmod(0o666)
    assert len(problems_of(check_file_is_private, private, private.parent)) == 1
    assert len(problems_of(check_file_is_private, private, tmp_path)) == 2


def test_what_cannot_be_looked_at_is_told_why(private: Path, tmp_path: Path) -> None:
    for path, problem in (
        (tmp_path / "absent", "this file cannot be read (No such file or directory): write one there, or name another"),
        (private / "below", "this file cannot be read (Not a directory): write one there, or name another"),
        (tmp_path, "this is not a regular file: name a file"),
        (tmp_path / "nul\0byte", "this file cannot be read (not a usable name): write one there, or name another"),
    ):
        assert problems_of(check_file_is_private, path) == [f"{path}:1: {problem}"]
    assert "not a usable name" in problems_of(check_folder_is_private, tmp_path / "nul\0byte")[0]


def test_as_many_links_are_followed_as_the_system_follows(
    private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_permissions, "_MOST_LINKS", 3)
    before = private.parent
    for number in range(1, 5):
        link = tmp_path / f"link{number}"
        link.symlink_to(before)
        found = problems_of(check_folder_is_private, link)
        assert found == (
            [] if number < 4 else [f"{link}:1: this folder cannot be read ({os.strerror(errno.ELOOP)}): name another"]
        )
        before = link


def test_the_file_of_the_state_may_be_absent(private: Path, tmp_path: Path) -> None:
    """O09: then its folder has to be there, and be private."""
    state = private.parent / "state.json"
    assert problems_of(check_state_is_private, state) == []
    private.parent.chmod(0o777)
    assert len(problems_of(check_state_is_private, state)) == 1
    private.parent.chmod(0o700)
    state.touch(mode=0o666)
    state.chmod(0o666)
    assert len(problems_of(check_state_is_private, state)) == 1
    missing = tmp_path / "no such folder" / "state.json"
    assert problems_of(check_state_is_private, missing) == [
        f"{missing}:1: there is no folder for this state file: run `mkdir -p -m 700 {shlex.quote(str(missing.parent))}`"
    ]
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "absent")
    assert "cannot be read" in problems_of(check_state_is_private, dangling)[0]


def test_where_files_have_no_owner_nothing_is_checked(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows: but that a file is one."""
    private.chmod(0o666)
    monkeypatch.setattr(file_permissions, "os", SimpleNamespace(name="nt"))
    assert problems_of(check_file_is_private, private) == []
    assert len(problems_of(check_file_is_private, private.parent)) == 1
