"""What each command loads, as a process of its own: who asks a running proxy must not wait for what answers there."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from understudy.cli import parsers
from understudy.control.server import ControlServer

LOADED = """
import json, sys
from understudy.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print()
print(json.dumps([status, sorted(sys.modules)]))
"""
READERS = {"cli", "cli.command_line", "cli.completion", "cli.parsers", "proxy", "proxy.garbage"}
"""What reads the words of every command. The two of ``proxy`` load nothing but themselves."""
ASKING = {*READERS, "cli.control", "control", "control.client", "control.registry", "control.workers"}
"""And what asks a running proxy."""
HEAVY = ("mitmproxy", "yaml", "asyncio", "redis", "cryptography", "ssl", "http", "subprocess", "importlib.metadata")
POOL = """\
upstreams: {main: {dialect: openai, url: "https://api.openai.com/v1"}}
credentials: {one: {upstream: main, secret: {env: WORK}}}
routes: {default: [one]}
"""


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """A home of its own, with a pool file; its path is short, for there will be a socket in it."""
    home = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))
    pool = home / ".config" / "understudy" / "pool.yaml"
    pool.parent.mkdir(parents=True)
    pool.touch(mode=0o600)
    pool.write_text(POOL)
    yield {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "WORK": "sk-work"}
    shutil.rmtree(home)


def loaded(words: Sequence[str], environ: Mapping[str, str]) -> tuple[int, set[str], set[str]]:
    """The exit status of a command, our modules that it loads (below ``understudy``), and the others."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, modules = json.loads(done.stdout.splitlines()[-1])
    ours = {name.removeprefix("understudy.") for name in modules if name.startswith("understudy.")}
    return int(status or 0), ours, {name for name in modules if not name.startswith("understudy")}


def heavy(modules: Collection[str]) -> set[str]:
    """Those that take long to load."""
    return set(HEAVY) & set(modules)


def answered(words: Sequence[str], environ: Mapping[str, str], result: Any) -> tuple[int, set[str], set[str]]:
    """As :func:`loaded`, while a proxy runs that answers so."""

    async def main() -> tuple[int, set[str], set[str]]:
        server = ControlServer(lambda command, words, who: {"lines": ["said"], "result": result})
        server.open(environ)
        try:
            return await asyncio.to_thread(loaded, words, environ)
        finally:
            server.close()
            await asyncio.sleep(0)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "--json"],
        ["pick", "gpt-5"],
        ["learned"],
        ["usage", "--by", "day"],
        ["suspend", "one", "gpt-5", "10m"],
        ["resume", "all"],
        ["probe", "one", "gpt-5"],
        ["drill", "one", "gpt-5", "429"],
        ["reload"],
        ["explain", "gpt-5"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_command_to_a_running_proxy_loads_nothing_of_a_proxy(words: list[str], environ: dict[str, str]) -> None:
    """Not mitmproxy, not YAML, no rules, no pool: words go out, lines come in."""
    status, ours, others = answered(words, environ, {"pool": "pool.yaml"})
    assert status == 0
    assert ours == (ASKING | {"cli.replay"} if words[0] == "explain" else ASKING)
    assert heavy(others) == set()


def test_the_usage_of_several_workers_is_put_together_without_a_proxy(environ: dict[str, str]) -> None:
    """What sums their reports up knows times and tokens, and no pool file."""
    code = "import sys, json, understudy.control.usage_report; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    modules = json.loads(found.stdout)
    assert "understudy.control.usage_report" in modules
    assert heavy(modules) == set()
    assert not {f"understudy.{floor}" for floor in ("config", "rules", "failover", "dialects")} & set(modules)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["completion", "bash"], ["rules", "new", "--help"]])
def test_help_and_completion_load_no_command(words: list[str], environ: dict[str, str]) -> None:
    """``eval "$(understudy completion bash)"`` is run at the start of every shell."""
    status, ours, others = loaded(words, environ)
    assert status == 0
    assert {name for name in ours if not name.startswith("model")} <= {*READERS, "codec", "codec.record"}
    assert heavy(others) == set()


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        (["env"], {"ssl"}),
        (["ca"], {"ssl"}),
        (["check"], {"yaml"}),
        (["init"], {"yaml"}),
        (["service", "uninstall"], {"subprocess"}),
        (["serve", "--haproxy"], set()),
    ],
    ids=lambda words: " ".join(words),
)
def test_other_commands_load_what_they_need(words: list[str], needs: set[str], environ: dict[str, str]) -> None:
    """Of what takes long, only what is named here; no rules, and nothing of what runs in a proxy."""
    _, ours, others = loaded(words, environ)
    assert heavy(others) <= needs
    assert not {name for name in ours if name.split(".")[0] in ("rules", "failover", "inspection", "whatif")}


def functions(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The functions that the sub-commands name."""
    if "run" in parser._defaults:
        yield parser._defaults["run"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from functions(each)


def test_every_command_names_a_function_that_is_there() -> None:
    """They are named as text, so that nothing loads them: a name that is misspelt is found here."""
    named = set(functions(parsers.parser()))
    assert len(named) >= 15
    for each in named:
        module, _, function = each.partition(":")
        assert callable(getattr(import_module(f"understudy.cli.{module}"), function)), each


@pytest.mark.parametrize("name", parsers.COMMANDS)
def test_a_command_alone_has_the_words_that_it_has_among_all(name: str) -> None:
    """The parser of the command that was typed says what the parser of all commands says."""

    def told(parser: argparse.ArgumentParser) -> list[tuple[str, dict[str, Any]]]:
        found = [(parser.format_help(), parser._defaults)]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for each in action.choices.values():
                    found += told(each)
        return found

    def command(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        [action] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        found: argparse.ArgumentParser = action.choices[name]
        return found

    alone, among_all = parsers.parser(name), parsers.parser()
    assert told(command(alone)) == told(command(among_all))
    assert alone.format_usage() == among_all.format_usage()
