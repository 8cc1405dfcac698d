"""The bar for large files."""

from __future__ import annotations

import io

from tests.support.decisions import Clock
from understudy.whatif.progress import LARGE, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_draws_now_and_then_and_goes_away() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(stream, 4 * LARGE, clock)
    progress.at(LARGE)
    progress.at(2 * LARGE)
    assert stream.getvalue() == "\r[#######                       ]  25% 16 of 64 MiB"
    clock.now += 1
    progress.at(2 * LARGE)
    assert " 50% 32 of 64 MiB" in stream.getvalue()
    progress.clear()
    assert stream.getvalue().endswith("\r\x1b[K")
    before = stream.getvalue()
    progress.clear()
    assert stream.getvalue() == before


def test_nothing_is_written_to_a_file_or_for_a_small_one() -> None:
    for stream, total in ((io.StringIO(), 4 * LARGE), (Terminal(), LARGE - 1)):
        progress = Progress(stream, total)
        progress.at(total)
        progress.clear()
        assert stream.getvalue() == ""
