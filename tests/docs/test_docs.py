"""Documented or failing: every option, command, label and key that a user can meet stands in the README."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons

from understudy.addon import Understudy
from understudy.cli import command_line, tool_environment, trust
from understudy.control.registry import Running
from understudy.dialects import DIALECTS, Dialect
from understudy.inspection.journal import FAULT, MARKERS, OTHER, REPLAYED
from understudy.inspection.metrics import Metrics
from understudy.model.pool import Budget, Mode
from understudy.model.verdict import Label

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_option_is_documented() -> None:
    """Each option of ours has its row."""
    with taddons.context(Proxyserver()) as context:
        addon = Understudy()
        context.master.addons.add(addon)
        options = [name for name in context.options._options if name.startswith("pool_")]
        commands = [name for name in context.master.commands.commands if name.startswith("pool.")]
        context.master.addons.remove(addon)
    assert len(options) >= 6
    assert [name for name in options if f"| `{name}` |" not in README] == []
    assert [name for name in commands if not re.search(rf"`{re.escape(name)}[ `]", README)] == []


@pytest.mark.parametrize("label", Label)
def test_every_label_is_documented(label: Label) -> None:
    """Each label stands in the table of actions."""
    assert f"`{label}`" in README


def test_every_dialect_is_documented() -> None:
    """Each dialect is named with its endpoints."""
    flowing = " ".join(README.split())
    assert [name for name in DIALECTS if f"`{name}` (" not in flowing] == []


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: str(dialect.name))
def test_every_identity_header_is_documented_with_its_source(dialect: Dialect) -> None:
    """Each header that leaves with a credential stands in the table, and where that is known from."""
    for name in dialect.identity_headers:
        assert re.search(rf"^\| [^|]*`{re.escape(name)}`[^|]* \| [^|]+ \| [^|]+ \|$", README, re.MULTILINE), name


def test_every_site_is_documented() -> None:
    """Each host that is looked into by itself is named."""
    hosts = {host for dialect in DIALECTS.values() for host, _ in (*dialect.sites, *dialect.wide_sites)}
    assert [host for host in hosts if host not in README.replace("\\*", "*")] == []


def test_every_subcommand_is_documented() -> None:
    """Each sub-command of `understudy` is named."""
    parser = command_line._parser()
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    names = [name for action in actions for name in action.choices]
    assert len(names) >= 4
    assert [name for name in names if f"`understudy {name}" not in README] == []


def test_every_metric_is_documented() -> None:
    """Each one by the name that Prometheus shows."""
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics(list).registry.collect()
    }
    assert len(names) >= 8
    assert [name for name in names if f"`{name}`" not in README] == []


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_is_documented(mode: Mode) -> None:
    """How far a route goes can be looked up."""
    assert f"| `{mode}` |" in README


def test_every_marker_is_documented() -> None:
    """What stands beside an attempt in the flow list can be looked up."""
    markers = {*MARKERS.values(), FAULT, OTHER, REPLAYED}
    assert [marker for marker in markers if f"`{marker.strip(':')}`" not in README and marker != REPLAYED] == []
    assert f"~marker {REPLAYED.strip(':')}" in README


def test_every_budget_is_documented_with_its_default() -> None:
    """Each limit of the budget stands in the README with the value it has."""
    for field in dataclasses.fields(Budget):
        assert re.search(rf"`{field.name}` \({field.default:g}\b", README), field.name


def test_every_variable_of_a_tool_is_documented(tmp_path: Path) -> None:
    """Whatever `understudy run` may set or unset for a tool is said."""
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nCA\n-----END CERTIFICATE-----\n")
    changes = tool_environment.variables(Running(1, 1, str(ca)), dict.fromkeys(trust.ONLY_IF_SET, ""), tmp_path)
    assert len(changes) >= 16
    assert [name for name in changes if f"`{name}`" not in README] == []


def test_there_is_an_unreleased_section() -> None:
    """Changes are told as they come."""
    assert "## Unreleased" in CHANGELOG
