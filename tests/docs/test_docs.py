"""Documented or failing: every option, command, label and key that a user can meet stands on its page in docs/."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import override

import pytest
import yaml
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons

import understudy
from understudy.addon import Understudy
from understudy.cli import parsers, tool_environment, trust
from understudy.codec.yaml_nodes import Table, Value, read
from understudy.config.pool_file import parse
from understudy.config.pool_reader import PoolReader
from understudy.control.registry import Running
from understudy.dialects import DIALECTS, Dialect
from understudy.inspection.journal import FAULT, MARKERS, OTHER, REPLAYED
from understudy.inspection.metrics import Metrics
from understudy.model.pool import Budget, HoldUntil, Mode, Strategy
from understudy.model.verdict import Label

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

CELL = r"(?:[^|\n]|\\\|)*"
"""What a cell of a table may hold."""


def row(page: str, name: str) -> bool:
    """Whether a table of the page has a row that begins with this name, among others or alone."""
    return re.search(rf"^\| {CELL}`{re.escape(name)}(?:`|\.| ){CELL}\|", PAGES[page], re.MULTILINE) is not None


# -- what a user can meet --------------------------------------------------------------------------------------------


def test_every_option_is_documented() -> None:
    """Each option has its row on the page "Operations", and each command is named there or on the page "Rules"."""
    with taddons.context(Proxyserver()) as context:
        addon = Understudy()
        context.master.addons.add(addon)
        options = [name for name in context.options._options if name.startswith("pool_")]
        commands = [name for name in context.master.commands.commands if name.startswith("pool.")]
        context.master.addons.remove(addon)
    assert len(options) >= 6
    assert len(commands) >= 6
    operations = PAGES["operations"]
    assert [name for name in options if f"| `{name}` |" not in operations] == []
    assert [name for name in commands if not re.search(rf"`{re.escape(name)}[ `]", operations)] == []


@pytest.mark.parametrize("label", Label)
def test_every_label_is_documented(label: Label) -> None:
    """Each label stands in the table of default actions."""
    assert row("waiting-and-budgets", label)


def test_every_dialect_is_documented() -> None:
    """Each dialect is named with its endpoints."""
    flowing = " ".join(PAGES["dialects"].split())
    assert [name for name in DIALECTS if f"`{name}` (" not in flowing] == []


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: str(dialect.name))
def test_every_identity_header_is_documented_with_its_source(dialect: Dialect) -> None:
    """Each header that leaves with a credential stands in the table, and where that is known from."""
    for name in dialect.identity_headers:
        pattern = rf"^\| [^|]*`{re.escape(name)}`[^|]* \| [^|]+ \| [^|]+ \|$"
        assert re.search(pattern, PAGES["dialects"], re.MULTILINE), name


def test_every_site_is_documented() -> None:
    """Each host that is decrypted without being named in the pool file is on the page "Dialects"."""
    hosts = {host for dialect in DIALECTS.values() for host, _ in (*dialect.sites, *dialect.wide_sites)}
    assert [host for host in hosts if host not in PAGES["dialects"].replace("\\*", "*")] == []


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The sub-commands of a parser, each with its own parser."""
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: each for action in actions for name, each in action.choices.items()}


def test_every_subcommand_is_documented() -> None:
    """Each sub-command of `understudy` is on the page "Operations", each one of `understudy rules` on "Rules"."""
    commands = subcommands(parsers.parser())
    rules = subcommands(commands["rules"])
    assert len(commands) >= 4
    assert len(rules) >= 4
    assert [name for name in commands if f"`understudy {name}" not in PAGES["operations"]] == []
    assert [name for name in rules if f"`understudy rules {name}" not in PAGES["rules"]] == []


def test_every_metric_is_documented() -> None:
    """Each one by the name that Prometheus shows."""
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics(list).registry.collect()
    }
    assert len(names) >= 8
    assert [name for name in names if f"| `{name}` |" not in PAGES["inspection"]] == []


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_is_documented(mode: Mode) -> None:
    """How far a route goes can be looked up."""
    assert f"| `{mode}` |" in PAGES["pool-file"]


def test_every_marker_is_documented() -> None:
    """What stands beside an attempt in the flow list can be looked up."""
    markers = {marker.strip(":") for marker in (*MARKERS.values(), FAULT, OTHER)}
    assert [marker for marker in markers if f"| `{marker}` |" not in PAGES["inspection"]] == []
    assert f"~marker {REPLAYED.strip(':')}" in PAGES["inspection"]


def test_every_budget_is_documented_with_its_default() -> None:
    """Each limit of the budget is on the page "Pool file" with the value it has."""
    for field in dataclasses.fields(Budget):
        assert re.search(rf"^\| `{field.name}` \({field.default:g}\) \|", PAGES["pool-file"], re.MULTILINE), field.name


def test_every_variable_of_a_tool_is_documented(tmp_path: Path) -> None:
    """Whatever `understudy run` may set or unset for a tool is said."""
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nCA\n-----END CERTIFICATE-----\n")
    changes = tool_environment.variables(Running(1, 1, str(ca)), dict.fromkeys(trust.ONLY_IF_SET, ""), tmp_path)
    assert len(changes) >= 16
    assert [name for name in changes if not row("tools", name)] == []


# -- the pool file ---------------------------------------------------------------------------------------------------

EVERY_KEY = """\
upstreams:
  a: {dialect: bedrock, url: https://bedrock-runtime.eu-west-1.amazonaws.com, prices: {m: {input: 1, output: 2}}}
credentials:
  command: {upstream: a, secret: {command: [sh]}}
  aws: {upstream: a, secret: {aws: {access_key_id: {env: A}, secret_access_key: {env: B}}}}
routes:
  one: {candidates: [{credential: command}], actions: {unknown: {replay: true}}, budget: {}}
budget: {}
state: {file: state.json, url: "unix:///s", prefix: team}
intercept: [{host: a.example, dialect: openai}]
"""
"""A pool file with each mapping that has keys of its own."""


class Recorder(PoolReader):
    """Notes which keys the reader of pool files knows."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere/pool.yaml"), {"A": "a" * 20, "B": "b" * 20}, DIALECTS)
        self.known: set[str] = set()

    @override
    def _table(self, value: Value, keys: Collection[str], write: str, required: Collection[str] = ()) -> Table:
        self.known.update(keys)
        return super()._table(value, keys, write, required)


def test_every_key_of_the_pool_file_is_documented() -> None:
    """Each key that may stand in a pool file has its row, and each word that it may have as its value is named."""
    recorder = Recorder()
    recorder.read(read(EVERY_KEY, "pool.yaml", recorder.problems))
    assert [str(problem) for problem in recorder.problems] == []
    assert len(recorder.known) >= 40
    amazon = {"profile", "region", "access_key_id", "secret_access_key", "session_token"}
    assert amazon < recorder.known
    missing = {key for key in recorder.known - amazon if not row("pool-file", key) and not row("secrets", key)}
    assert missing - {"file"} == set()
    assert "`{file: PATH}`" in PAGES["pool-file"] and "`{file: PATH}`" in PAGES["secrets"]
    assert [key for key in amazon if f"{key}: " not in PAGES["dialects"]] == []
    assert [word for word in (*Strategy, *HoldUntil, "union", "pass") if f"`{word}`" not in PAGES["pool-file"]] == []


def test_every_source_of_a_secret_is_documented() -> None:
    """env, file, command, client and aws: each is a row on the page "Secrets"."""
    for source in ("{env: ", "{file: ", "{command: ", "client`", "{aws: "):
        assert f"| `{source}" in PAGES["secrets"], source


def pool_files() -> Iterator[tuple[str, str]]:
    """The examples of pool files and of parts of one, each with its page."""
    for page, text in {"README": README, **PAGES}.items():
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)):
            if block.startswith("secret: "):  # each line is a credential's
                block = "credentials:\n" + "".join(
                    f"  aws{at}: {{upstream: aws, {line.partition(' #')[0].strip()}}}\n"
                    for at, line in enumerate(block.splitlines())
                )
            yield f"{page} {number}", block


AROUND = """\
upstreams:
  aws: {dialect: bedrock, url: https://bedrock-runtime.eu-west-1.amazonaws.com}
  openai: {dialect: openai, url: https://api.openai.com/v1}
  anthropic: {dialect: anthropic, url: https://api.anthropic.com}
  corp: {dialect: openai, url: https://llm.corp.example/v1}
credentials:
  work: {upstream: openai, secret: {env: WORK}}
  home: {upstream: openai, secret: {env: HOME_KEY}}
  team: {upstream: anthropic, secret: {env: TEAM}}
"""
"""What an example that is a part of a pool file refers to."""


@pytest.mark.parametrize(("place", "block"), list(pool_files()), ids=[place for place, _ in pool_files()])
def test_every_example_of_a_pool_file_can_be_used(
    place: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, or as a part of a pool file."""
    document = yaml.safe_load(block)
    assert isinstance(document, dict), place
    if "upstreams" not in document:
        around = yaml.safe_load(AROUND)
        for section, entries in document.items():
            around[section] = around.get(section, {}) | entries if isinstance(entries, dict) else entries
        block = yaml.safe_dump(around)
    (tmp_path / ".secrets").mkdir()
    (tmp_path / ".secrets" / "openai-home").write_text("sk-of-this-test")
    (tmp_path / "aws").write_text("[NAME]\naws_access_key_id = AKIAOFTHISTEST\naws_secret_access_key = of-this-test\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    names = re.findall(r"env: (\w+)", block)
    environ = {"HOME": str(tmp_path), **dict.fromkeys(names, "sk-of-this-test")}
    pool = parse(block, tmp_path / "pool.yaml", environ, DIALECTS)
    assert pool.credentials


# -- the pages themselves --------------------------------------------------------------------------------------------


def test_there_is_an_unreleased_section() -> None:
    """Changes are told as they come."""
    assert "## Unreleased" in CHANGELOG


def test_the_readme_is_one_page() -> None:
    """A person reads it in three minutes: at most 150 lines."""
    assert README.count("\n") <= 150


@pytest.mark.parametrize("page", PAGES)
def test_every_page_begins_with_what_the_reader_can_do_after_it(page: str) -> None:
    """A title, and then the use of the page."""
    assert re.match(r"# .+\n\nAfter this page you ", PAGES[page])


def test_every_page_is_in_the_navigation_the_index_and_the_readme() -> None:
    """A page that nothing leads to is not read."""
    listed = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    names = [name.removesuffix(".md") for section in listed for part in section.values() for name in part]
    assert sorted(names) == sorted([*PAGES, "rule-files"])  # that one is rules/README.md
    others = [name for name in PAGES if name != "index"]
    assert [name for name in others if f"]({name}.md)" not in PAGES["index"]] == []
    assert [name for name in others if f"](docs/{name}.md)" not in README] == []


def test_the_packages_are_listed_in_their_order() -> None:
    """docs/architecture.md has the floors of the docstring of `understudy`, from bottom to top."""
    floors = re.findall(r"^    (\w+) +\S", understudy.__doc__ or "", re.MULTILINE)
    chapter = PAGES["architecture"].partition("\n## Packages\n")[2].partition("\n## ")[0]
    assert len(floors) >= 10
    assert re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE) == floors


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    """Files of the repository, and modules of the package in the chapter "Which file to open"."""
    named = re.findall(r"`((?:addon|tests|scripts|rules|docs)/[\w./-]*)[^`]*`", PAGES[page])
    modules = re.findall(r"`([a-z]+(?:/[a-z]+)*/\w+\.py)`", PAGES[page])
    package = ROOT / "addon" / "understudy"
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in modules if not (package / name).exists() and not (ROOT / name).exists()] == []


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Where the relative links of a file lead, as (path, anchor)."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            yield (path.parent / name).resolve() if name else path, anchor


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "rules" / "README.md", *DOCS.glob("*.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_link_is_dead(path: Path) -> None:
    """As people follow them in the repository; `scripts/docs build` checks the built pages."""
    for target, anchor in links(path):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"
