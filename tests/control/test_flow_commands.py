"""`pool.rule.new` in a mitmproxy without a network, as the console and mitmweb's command bar call it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy import exceptions
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.view import View
from mitmproxy.flow import Flow
from mitmproxy.test import taddons, tflow

from tests.support.decisions import NOW
from tests.support.saved_flows import ODD, SECRET, flow
from understudy.addon import Understudy
from understudy.rules.yaml_rule import parse_rule


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[taddons.context]:
    """A mitmproxy with a view and our addon."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with taddons.context(Proxyserver(), View()) as here:
        addon = Understudy()
        here.master.addons.add(addon)
        yield here
        here.master.addons.remove(addon)


@pytest.fixture
def flows() -> list[Flow]:
    """One that failed, two like it, and others."""
    return [
        flow(418, {"error": {"message": f"Seat 1 is not staffed today, {SECRET}"}}),
        flow(418, ODD, at=NOW + 1),
        flow(at=NOW + 2),
        tflow.ttcpflow(),
        flow(418, {"error": {"message": f"Seat 3 is not staffed today, {SECRET}"}}, at=NOW + 4),
        flow(0, error="refused", at=NOW + 5),
    ]


@pytest.fixture
def view(here: taddons.context, flows: list[Flow]) -> View:
    """They are what is looked at."""
    found = here.master.addons.get("view")
    assert isinstance(found, View)
    found.add(flows)
    return found


def test_the_focused_flow_becomes_a_draft(here: taddons.context, view: View, flows: list[Flow], tmp_path: Path) -> None:
    """R07: the draft and what is said of it hold no secret; what else it matches is told."""
    folder = tmp_path / "mine"
    view.focus.flow = flows[0]
    said = here.master.commands.execute(f"pool.rule.new @focus overloaded acme/seat {folder}")
    file = folder / "acme" / "seat.yaml"
    assert said[0] == f"{file}: a draft; finish it, then run `understudy rules test {folder}`"
    assert said[1] == "it also matches 2 of the 2 other failed replies in view, which are judged without it:"
    rule = parse_rule(file.read_text(), str(file), "acme/seat")
    assert (rule.label, rule.status) == ("overloaded", "draft")
    assert rule.matches_reply(rule.matches[0].reply)
    for text in (file.read_text(), *said):
        assert SECRET not in text
    with pytest.raises(exceptions.CommandError, match="is there already"):
        here.master.commands.execute(f"pool.rule.new @focus overloaded acme/seat {folder}")


def test_it_goes_to_the_first_folder_of_pool_rules(here: taddons.context, flows: list[Flow], tmp_path: Path) -> None:
    """And is in use as a draft from the next look at the folder on."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir(mode=0o700)
    here.options.update(pool_rules=[str(folder) for folder in folders])
    (first, *_) = here.master.commands.call("pool.rule.new", flows[1], "overloaded", "acme/seat")
    assert first.startswith(f"{folders[0] / 'acme' / 'seat.yaml'}: ")
    addon = here.master.addons.get("understudy")
    ruleset = addon.library.refresh()
    assert [rule.id for rule in ruleset.drafts] == ["acme/seat"]


def test_without_a_folder_it_says_what_to_do(here: taddons.context, flows: list[Flow]) -> None:
    with pytest.raises(exceptions.CommandError, match="set pool_rules to one that only you can write to"):
        here.master.commands.call("pool.rule.new", flows[0], "overloaded", "acme/seat")


@pytest.mark.parametrize(
    ("number", "identity", "told"),
    [
        (0, "acme", "is no id: write VENDOR/NAME"),
        (2, "acme/seat", "no rule can be made of this reply: it is a success"),
        (3, "acme/seat", "this flow is not HTTP"),
        (5, "acme/seat", "this flow has no reply"),
    ],
)
def test_what_cannot_be_done_is_said(
    here: taddons.context, flows: list[Flow], tmp_path: Path, number: int, identity: str, told: str
) -> None:
    with pytest.raises(exceptions.CommandError, match=told):
        here.master.commands.call("pool.rule.new", flows[number], "overloaded", identity, str(tmp_path / "mine"))
    assert not (tmp_path / "mine" / "acme").exists()


def test_a_folder_that_others_can_write_is_refused(here: taddons.context, flows: list[Flow], tmp_path: Path) -> None:
    """Law 12: in mitmproxy, too."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(exceptions.CommandError, match="can be written by others"):
        here.master.commands.call("pool.rule.new", flows[0], "overloaded", "acme/seat", str(folder))


def test_labels_are_offered_and_others_refused(here: taddons.context, view: View, flows: list[Flow]) -> None:
    labels = here.master.commands.execute("pool.rule.labels")
    assert "model_unsupported" in labels
    assert not {"ok", "unknown"} & set(labels)
    view.focus.flow = flows[0]
    with pytest.raises(exceptions.CommandError):
        here.master.commands.execute("pool.rule.new @focus ok acme/seat")


def test_it_works_without_a_view(here: taddons.context, tmp_path: Path) -> None:
    """mitmdump has none."""
    here.master.addons.remove(here.master.addons.get("view"))
    said = here.master.commands.call("pool.rule.new", flow(418, ODD), "overloaded", "acme/seat", str(tmp_path / "mine"))
    assert said[1:] == ["it matches none of the 0 other failed replies in view"]
