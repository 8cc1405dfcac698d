"""The journal for machines: one line per exchange, readable by its owner only, wherever the system moves the file."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from mitmproxy import exceptions, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons, tflow

from understudy.addon import Understudy
from understudy.inspection.journal_file import JournalFile, line

FLOW = tflow.tflow(resp=True)


def facts(exchange: str) -> dict[str, object]:
    """As the journal knows them."""
    return {"exchange": exchange, "time": 1_700_000_000.25, "route": "gpt-*", "tried": [], "answer": 1}


def exchanges(path: Path) -> list[str]:
    """What stands in a file."""
    return [json.loads(each)["exchange"] for each in path.read_text().splitlines()]


def test_a_line_is_one_json_object(tmp_path: Path) -> None:
    """Time in words, the flow's id, status and error; line breaks inside cannot end it."""
    flow = tflow.tflow(resp=True, err=True)
    assert flow.response is not None
    assert flow.error is not None
    written = line(flow, {**facts("e\n1"), "alias": "\u2028\ud800"})
    assert written.isascii()
    assert "\n" not in written
    assert json.loads(written) == {
        "exchange": "e\n1",
        "time": "2023-11-14T22:13:20.250+00:00",
        "route": "gpt-*",
        "tried": [],
        "answer": 1,
        "alias": "\u2028\ud800",
        "flow": flow.id,
        "status": 200,
        "error": flow.error.msg,
    }


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    """Mode 600 whatever the umask says; what stood there stays."""
    path = tmp_path / "journal.jsonl"
    before = os.umask(0)
    try:
        first = JournalFile(str(path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    first(FLOW, facts("1"))
    first.close()
    second = JournalFile(str(path))
    second(FLOW, facts("2"))
    second.close()
    assert exchanges(path) == ["1", "2"]


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced", "truncated"])
def test_rotation(tmp_path: Path, how: str) -> None:
    """logrotate's ways, and an impatient person's: the next line is where the name leads then."""
    path, old = tmp_path / "journal.jsonl", tmp_path / "journal.jsonl.1"
    journal = JournalFile(str(path))
    journal(FLOW, facts("1"))
    match how:
        case "moved":
            path.rename(old)
        case "deleted":
            path.unlink()
        case "replaced":
            path.rename(old)
            path.touch(mode=0o640)
        case _:
            old.write_bytes(path.read_bytes())
            os.truncate(path, 0)
    journal(FLOW, facts("2"))
    journal(FLOW, facts("3"))
    journal.close()
    assert exchanges(path) == ["2", "3"]
    assert path.stat().st_mode & 0o777 == (0o640 if how == "replaced" else 0o600)
    if how != "deleted":
        assert exchanges(old) == ["1"]


def test_a_problem_is_told_once_and_ends_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that goes away costs lines, no call; and the log is not flooded."""
    folder = tmp_path / "logs"
    folder.mkdir()
    journal = JournalFile(str(folder / "journal.jsonl"))
    (folder / "journal.jsonl").unlink()
    folder.rmdir()
    with caplog.at_level(logging.ERROR):
        for number in "12":
            journal(FLOW, facts(number))
        assert [each.message for each in caplog.records] == [
            f"understudy: pool_journal {folder / 'journal.jsonl'} cannot be written: No such file or directory"
        ]
        folder.mkdir()
        journal(FLOW, facts("3"))
    assert exchanges(folder / "journal.jsonl") == ["3"]
    assert len(caplog.records) == 1


def test_a_pipe_that_nobody_reads_hangs_nobody(tmp_path: Path) -> None:
    """Law 10: opening it fails at once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        JournalFile(str(pipe))


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """`-` is for whoever reads mitmdump's output."""
    JournalFile("-")(FLOW, facts("1"))
    assert json.loads(capsys.readouterr().out)["exchange"] == "1"


def test_the_option(tmp_path: Path) -> None:
    """It can be changed while running; a file that cannot be opened is refused with its name; all is closed again."""
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    with taddons.context(Proxyserver()) as context:
        addon = Understudy()
        context.master.addons.add(addon)
        flow: http.HTTPFlow = tflow.tflow(resp=True)

        def tell(exchange: str) -> None:
            for listener in addon.journal.listeners:
                listener(flow, facts(exchange))

        context.options.update(pool_journal=str(first))
        tell("1")
        with pytest.raises(exceptions.OptionsError, match=r"nowhere/3\.jsonl cannot be opened .*folder that exists"):
            context.options.update(pool_journal=str(tmp_path / "nowhere" / "3.jsonl"))
        tell("2")
        context.options.update(pool_journal=str(second))
        tell("3")
        context.options.update(pool_journal="")
        tell("4")
        context.options.update(pool_journal=str(second))
        context.master.addons.remove(addon)
        tell("5")
    assert (exchanges(first), exchanges(second)) == (["1", "2"], ["3"])
