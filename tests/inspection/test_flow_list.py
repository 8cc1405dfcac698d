"""Where an attempt's flow is shown and saved, and that no hook of another addon hears of it."""

from __future__ import annotations

import io as textio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http, io
from mitmproxy.addons.dumper import Dumper
from mitmproxy.addons.save import Save
from mitmproxy.addons.savehar import SaveHar
from mitmproxy.addons.view import View
from mitmproxy.flow import Error, Flow
from mitmproxy.test import taddons, tflow

from understudy.inspection import flow_list


class Script:
    """A user's addon: every hook of a flow is noted."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("requestheaders", "request", "responseheaders", "response", "error", "update"):
            return lambda flow: self.seen.append(name)
        raise AttributeError(name)


class Here:
    """A mitmproxy with all its recorders, and an attempt beside a tool's flow."""

    def __init__(self, context: taddons.context, folder: Path) -> None:
        self.context, self.master = context, context.master
        self.view, self.printed, self.script = View(), textio.StringIO(), Script()
        self.saved, self.har = folder / "flows.mitm", folder / "flows.har"
        context.master.addons.add(self.view, Save(), SaveHar(), Dumper(self.printed), self.script)
        context.options.update(save_stream_file=str(self.saved), hardump=str(self.har))
        self.tool, self.attempt = tflow.tflow(), tflow.tflow(resp=True)
        self.view.add([self.tool])

    def show(self, attempt: http.HTTPFlow | None) -> None:
        """Show an attempt."""
        flow_list.show(self.master, attempt, self.tool)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """All recorders, running."""
    with taddons.context(loadcore=False) as context:
        yield Here(context, tmp_path)


def test_o05_an_attempt_reaches_every_recorder_and_no_script(here: Here) -> None:
    """O05: flow list, file, HAR; and the user's script hears nothing."""
    broken = tflow.tflow(err=Error("connect: refused"))
    broken.response = None
    for attempt in (here.attempt, broken):
        here.show(attempt)
    assert list(here.view) == [here.tool, here.attempt, broken]
    assert here.script.seen == []
    here.context.options.update(save_stream_file=None)
    with here.saved.open("rb") as file:
        assert [flow.id for flow in io.FlowReader(file).stream()] == [here.attempt.id, broken.id]
    here.master.addons.get("savehar").done()
    entries = json.loads(here.har.read_text())["log"]["entries"]
    assert [entry["response"]["status"] for entry in entries] == [200, 0]
    assert here.printed.getvalue() == ""


@pytest.mark.parametrize(("detail", "printed"), [(1, False), (2, True)])
def test_mitmdump_prints_attempts_in_detail_only(here: Here, detail: int, printed: bool) -> None:
    """One line per call by default; who wants to see headers sees those of attempts, too."""
    here.context.options.update(flow_detail=detail)
    here.show(here.attempt)
    assert bool(here.printed.getvalue()) is printed


RECORDED: dict[str, Callable[[Path], object]] = {
    "save_stream_file": lambda folder: str(folder / "only.mitm"),
    "hardump": lambda folder: str(folder / "only.har"),
    "flow_detail": lambda folder: flow_list.PRINTED_FROM,
}
"""The options that have an addon write attempts down, each with a value that does."""


@pytest.mark.parametrize("option", RECORDED)
def test_an_attempt_is_recorded_where_an_addon_writes_it_down(tmp_path: Path, option: str) -> None:
    """O05: only then does its flow have to be made."""
    with taddons.context(loadcore=False) as context:
        context.master.addons.add(Save(), SaveHar(), Dumper(textio.StringIO()))
        context.options.update(flow_detail=1)
        assert not flow_list.is_recorded(context.master)
        usual = getattr(context.options, option)
        context.options.update(**{option: RECORDED[option](tmp_path)})
        assert flow_list.is_recorded(context.master)
        context.options.update(**{option: usual})
        assert not flow_list.is_recorded(context.master)


def test_an_attempt_is_recorded_where_there_is_a_flow_list() -> None:
    """O05: that of mitmproxy and mitmweb; and where it cannot be told, it is taken to be."""
    with taddons.context(loadcore=False) as context:
        assert not flow_list.is_recorded(context.master)
        context.master.addons.add(View())
        assert flow_list.is_recorded(context.master)
    with taddons.context(loadcore=False) as context:
        context.master.addons.add(SaveHar())
        del context.options._options["hardump"]
        assert flow_list.is_recorded(context.master)


def test_the_flow_list_follows_the_comment_of_the_tools_flow(here: Here) -> None:
    """O05: live: the comment is seen before the answer is there."""
    updated: list[str] = []

    def note(flow: Flow) -> None:
        updated.append(flow.comment)

    here.view.sig_view_update.connect(note)
    here.tool.comment = "1/2 a: rate_limited"
    here.show(None)
    assert updated == ["1/2 a: rate_limited"]


def test_what_cannot_be_shown_costs_nobody_anything(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    """To look at a call must never cost it."""
    here.master.addons.get("savehar").flows = None
    with caplog.at_level(logging.ERROR):
        here.show(here.attempt)
    assert "an attempt cannot be shown" in caplog.text
