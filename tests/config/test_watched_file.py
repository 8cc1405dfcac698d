"""When a change of the pool file is told: once, and not in the middle of being written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from understudy.config.watched_file import FileChange, WatchedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "pool.yaml"
    written.write_text("one")
    return written


def watching(path: Path) -> WatchedFile:
    watched = WatchedFile()
    watched.read(path)
    return watched


def test_a_change_is_told_once_when_it_is_whole(path: Path) -> None:
    watched = watching(path)
    assert watched.look() is FileChange.NONE
    for text in ("t", "tw", "two!"):
        path.write_text(text)
        assert watched.look() is FileChange.NONE, "it is being written"
    assert [watched.look() for _ in range(3)] == [FileChange.CHANGED, FileChange.NONE, FileChange.NONE]


def test_another_file_of_the_same_size_and_time_in_its_place_is_a_change(path: Path) -> None:
    watched, status = watching(path), path.stat()
    other = path.with_name("other")
    other.write_text("two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert [watched.look(), watched.look()] == [FileChange.NONE, FileChange.CHANGED]


def test_a_file_that_goes_and_comes_back_is_told(path: Path) -> None:
    watched = watching(path)
    path.unlink()
    assert [watched.look() for _ in range(3)] == [FileChange.NONE, FileChange.GONE, FileChange.NONE]
    path.write_text("two")
    assert [watched.look() for _ in range(3)] == [FileChange.NONE, FileChange.CHANGED, FileChange.NONE]


def test_one_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    watched = watching(tmp_path / "pool.yaml")
    assert watched.look() is FileChange.NONE
    (tmp_path / "pool.yaml").write_text("one")
    assert [watched.look() for _ in range(2)] == [FileChange.NONE, FileChange.CHANGED]


def test_without_interest_nothing_is_told(path: Path) -> None:
    watched = watching(path)
    watched.wanted = False
    path.write_text("two")
    assert [watched.look() for _ in range(3)] == [FileChange.NONE] * 3
