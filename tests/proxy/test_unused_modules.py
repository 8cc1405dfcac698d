"""Modules that hardly any proxy uses: out of the process, there again when they are used, and left where others are.

Each test is a process of its own: what is taken out is gone for all of it. All are forked from one that has loaded
mitmproxy, which is what takes the time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Self

import pytest

from understudy.proxy.unused_modules import Later, Part, _free

LOADED = """
import asyncio, gc, io, json, os, signal, sys, traceback, types
from mitmproxy import ctx, optmanager, options
from mitmproxy.addons import maplocal, onboarding, proxyauth
from mitmproxy.tools.dump import DumpMaster
FAMILIES = ("ruamel", "unittest", "difflib", "socketserver", "ldap3", "pyasn1", "flask", "jinja2", "werkzeug", "click")
def loaded():
    return [name for name in FAMILIES if name in sys.modules]
async def main():
    master = DumpMaster(options.Options(confdir="/nowhere"), with_termlog=False)
    ctx.master, ctx.options = master, master.options
    from understudy.proxy import unused_modules
    print(json.dumps(await run(master, unused_modules)), flush=True)
while line := sys.stdin.readline():
    if (child := os.fork()) == 0:
        signal.alarm(60)
        try:
            exec(json.loads(line))
            asyncio.run(main())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ALWAYS = {"socketserver", "ldap3", "flask", "jinja2", "werkzeug", "click"}
"""What is taken out whatever releases of all these are installed; of the others some refer to each other."""
WITH_OTHERS = {"difflib", "socketserver", "pyasn1"}
"""What nothing is put in the place of, because only parts that are taken out refer to it."""


class Loaded:
    """A process that has loaded mitmproxy and runs none. It ends with its ``with``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LOADED],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate()

    def outcome(self, code: str) -> Any:
        """What the function ``run(master, unused_modules)`` returns in a process of its own, as JSON."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if re.fullmatch(r"-?\d+\n", line):
                assert line == "0\n", "".join(said)
                return json.loads(said[-1])
            said.append(line)
        raise AssertionError("".join(said))


@pytest.fixture(scope="module")
def mitmproxy() -> Iterator[Loaded]:
    """One for all tests."""
    with Loaded() as process:
        yield process


def test_what_is_taken_out_is_gone(mitmproxy: Loaded) -> None:
    """Also from memory: few classes are left, to which a codec's error handler and a filter of warnings refer."""
    before, after, before_classes, classes = mitmproxy.outcome("""
async def run(master, unused_modules):
    def classes():
        kinds = [each.__module__.partition(".")[0] for each in gc.get_objects() if isinstance(each, type)]
        return {family: kinds.count(family) for family in FAMILIES if family in kinds}
    before = loaded(), classes()
    unused_modules.take_out()
    return before[0], loaded(), before[1], classes()
""")
    assert set(before) >= ALWAYS
    assert set(after).isdisjoint(ALWAYS)
    assert {family: number for family, number in classes.items() if family in ALWAYS and family != "werkzeug"} == {}
    assert sum(classes.values()) * 2 < sum(before_classes.values())


def test_what_is_used_is_loaded_then(mitmproxy: Loaded) -> None:
    """LDAP, mitmproxy's configuration, a helper for tests, and the page with mitmproxy's certificate."""
    names, dumped, status, page, confdir = mitmproxy.outcome("""
from mitmproxy.addons import asgiapp
from mitmproxy.test import tflow, tutils
async def run(master, unused_modules):
    unused_modules.take_out()
    names = [proxyauth.ldap3.Server.__name__, proxyauth.ldap3.utils.conv.escape_filter_chars("a*")]
    import pyparsing
    names.append(pyparsing.pyparsing_test.TestParseResultsAsserts.__name__)
    names.append(pyparsing.testing.__name__)
    from mitmproxy.contentviews import _utils
    names.append(_utils.yaml_dumps({"a": 1}))
    out = io.StringIO()
    optmanager.serialize(master.options, out, "")
    onboarding_addon = master.addons.get("onboarding")
    master.options.update(onboarding_host="mitm.test")
    flow = tflow.tflow(req=tutils.treq(host="mitm.test", path=b"/"))
    flow.request.headers["host"] = "mitm.test"
    await onboarding_addon.request(flow)
    app = sys.modules["mitmproxy.addons.onboardingapp"].app
    return names, out.getvalue(), flow.response.status_code, flow.response.text, app.config["CONFDIR"]
""")
    assert names == ["Server", "a\\2a", "TestParseResultsAsserts", "pyparsing.testing", "a: 1\n"]
    assert "confdir: /nowhere" in dumped
    assert status == 200 and "mitmproxy" in page
    assert confdir == "/nowhere"


@pytest.fixture(scope="module")
def usual(mitmproxy: Loaded) -> set[str]:
    """What stays where nothing else refers to anything."""
    return set(
        mitmproxy.outcome("""
async def run(master, unused_modules):
    unused_modules.take_out()
    return loaded()
""")
    )


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("sys.modules['script'].Flask = sys.modules['flask'].Flask", {"flask", "jinja2", "werkzeug", "click"}),
        ("sys.modules['script'].request = sys.modules['flask'].request", {"flask", "jinja2", "werkzeug", "click"}),
        ("sys.modules['script'].safe_join = maplocal.safe_join", {"flask", "jinja2", "werkzeug", "click"}),
        ("sys.modules['script'].ldap = sys.modules['ldap3']", {"ldap3"}),
        ("sys.modules['script'].matcher = sys.modules['difflib'].SequenceMatcher", {"difflib"}),
        ("ctx.options.update(proxyauth='ldap:host:user:pass:tree')", {"ldap3"}),
    ],
    ids=["a class", "an instance", "a function", "a module", "of another part", "an option"],
)
def test_what_something_else_uses_stays(code: str, kept: set[str], usual: set[str], mitmproxy: Loaded) -> None:
    """A script that was loaded before, whatever it refers to; and passwords that an LDAP server checks."""
    found = mitmproxy.outcome(f"""
async def run(master, unused_modules):
    sys.modules["script"] = types.ModuleType("script")
    proxyauth.ProxyAuth.configure = lambda self, updated: None
    {code}
    unused_modules.take_out()
    return loaded()
""")
    assert kept <= set(found)
    assert set(found) - kept <= usual | WITH_OTHERS


def test_without_a_running_mitmproxy_nothing_is_taken_out(mitmproxy: Loaded) -> None:
    """Whoever imports the script by hand keeps all that is loaded."""
    before, after = mitmproxy.outcome("""
async def run(master, unused_modules):
    del ctx.master
    before = loaded()
    unused_modules.take_out()
    return before, loaded()
""")
    assert before == after and set(before) >= ALWAYS


def test_a_part_stays_with_one_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which they are named, and over several steps."""
    modules = {name: ModuleType(name) for name in ("made_a", "made_b", "made_c")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    modules["made_a"].b, modules["made_b"].c = modules["made_b"], modules["made_c"]  # type: ignore[attr-defined]
    parts = [Part((name,)) for name in modules]
    assert _free(parts) == parts
    assert _free(parts[1:]) == []
    assert _free(parts[2:]) == []
    known = Part(("made_b",), gone=((modules["made_a"], "b"),))
    assert _free([known, parts[2]]) == [known, parts[2]]
    modules["script"] = ModuleType("script")
    monkeypatch.setitem(sys.modules, "script", modules["script"])
    modules["script"].a = modules["made_a"]  # type: ignore[attr-defined]
    assert _free(parts[::-1]) == []


def test_a_stand_in_loads_when_it_is_asked() -> None:
    asked: list[int] = []

    def load() -> type[complex]:
        asked.append(1)
        return complex

    later = Later(load)
    assert asked == []
    assert later.__name__ == "complex" and later(1, 2) == 1 + 2j
    assert len(asked) == 2
