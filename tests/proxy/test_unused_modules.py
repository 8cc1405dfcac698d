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
FAMILIES = (
    "ruamel", "unittest", "difflib", "socketserver", "ldap3", "pyasn1", "flask", "jinja2", "werkzeug", "click",
    "pyparsing", "pprint", "html", "http.cookiejar", "http.client", "email.message", "csv", "pyperclip", "zipfile",
    "importlib.metadata", "pickle", "decimal", "service_identity", "attr", "xml.dom", "mitmproxy.contrib.wbxml",
    "mitmproxy.contrib.kaitaistruct.exif", "mitmproxy.utils.emoji",
)
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
ALWAYS = {
    *("socketserver", "ldap3", "flask", "jinja2", "werkzeug", "click", "pyparsing", "html", "http.cookiejar", "csv"),
    *("zipfile", "service_identity", "xml.dom", "mitmproxy.contrib.wbxml", "mitmproxy.contrib.kaitaistruct.exif"),
    "mitmproxy.utils.emoji",
}
"""What is taken out whatever releases of all these are installed; of the others some refer to each other."""
WITH_OTHERS = {
    *("difflib", "socketserver", "pyasn1", "unittest", "http.client", "email.message", "pickle", "decimal"),
    *("pprint", "html", "csv", "zipfile", "importlib.metadata"),
}
"""What other parts refer to, and so stays with them."""


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


def test_the_addon_brings_nothing_of_it_back(mitmproxy: Loaded) -> None:
    """Neither when it is loaded, nor with the rules that it reads then."""
    without, loaded = mitmproxy.outcome("""
async def run(master, unused_modules):
    unused_modules.take_out()
    without = loaded()
    from understudy.addon import Understudy
    assert Understudy().library.ruleset.rules
    return without, loaded()
""")
    assert set(loaded) <= set(without)


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
    assert names == ["Server", "a\\2a", "TestParseResultsAsserts", "pyparsing_test", "a: 1\n"]
    assert "confdir: /nowhere" in dumped
    assert status == 200 and "mitmproxy" in page
    assert confdir == "/nowhere"


def test_the_parser_of_filters_and_commands_is_loaded_then(mitmproxy: Loaded) -> None:
    """As often as it is asked, and what it makes is what mitmproxy made before."""
    before, after, loaded, words = mitmproxy.outcome("""
from mitmproxy import command, command_lexer, flowfilter
from mitmproxy.test import tflow, tutils
def answers():
    flow = tflow.tflow(req=tutils.treq(host="a.test", path=b"/x"))
    found = [bool(flowfilter.match(text, flow)) for text in ("~d a.test & ~m GET", "~d b.test", "! ~u '/x$'")]
    for broken in ("~d", "(", ""):
        try:
            flowfilter.parse(broken)
        except ValueError as error:
            found.append(str(error))
    parsed, rest = ctx.master.commands.parse_partial("set flow_detail=2 'a b' \\"c")
    return found + [[part.value, part.type.__name__, part.valid] for part in parsed] + [len(rest)]
async def run(master, unused_modules):
    before = answers()
    unused_modules.take_out()
    started = loaded()
    after = [answers(), answers()]
    master.commands.execute("set flow_detail=3")
    words = [str(master.options.flow_detail), list(command_lexer.expr.parse_string("a 'b c'", parse_all=True))]
    return before, after, started, words
""")
    assert after == [before, before] and len(before) > 10
    assert "pyparsing" not in loaded
    assert words == ["3", ["a", " ", "'b c'"]]


def test_rare_formats_and_addons_load_what_they_need(mitmproxy: Loaded) -> None:
    """Images, WBXML, archives, cookies, marks, flows as a table, error pages and the names that QUIC checks."""
    before, after, started = mitmproxy.outcome("""
import base64, tempfile
from mitmproxy.addons import core, cut, stickycookie
from mitmproxy.proxy.layers.http import _base
from mitmproxy.test import tflow
from mitmproxy import types as command_types
from mitmproxy.utils import magisk
from mitmproxy.contentviews._view_image import image_parser
from mitmproxy.contentviews._view_wbxml import wbxml
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WBXML = bytes.fromhex("03016a00455c4f4b03310001010101")
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
def tried(function, *arguments):
    try:
        return repr(function(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def answers(master):
    found = [tried(image_parser.parse_png, PNG), tried(image_parser.parse_gif, GIF)]
    found += [tried(image_parser.parse_jpeg, PNG), tried(image_parser.parse_ico, PNG)]
    found.append(tried(wbxml.prettify, WBXML, None))
    found += [stickycookie.domain_match("a.test", ".test"), stickycookie.domain_match("b.test", "a.test")]
    flow = tflow.tflow(resp=True)
    core.Core().mark([flow], ":grapes:")
    found += [flow.marked, tried(core.Core().mark, [flow], ":nothing:")]
    marker = command_types._MarkerType()
    found += [len(marker.completion(None, None, "")), marker.is_valid(None, None, ":grapes:")]
    found += [tried(marker.parse, None, None, "true"), tried(marker.parse, None, None, ":nothing:")]
    with tempfile.NamedTemporaryFile() as file:
        cut.Cut().save([flow], ["request.host", "response.status_code"], file.name)
        found.append(open(file.name).read())
    with tempfile.NamedTemporaryFile() as file:
        with magisk.ZipFile(file.name, "w") as archive:
            archive.writestr("a", "b")
        with magisk.ZipFile(file.name) as archive:
            found.append(archive.namelist())
    found.append(_base.format_error(502, "<script>").decode())
    from aioquic import tls
    found.append([tls.service_identity.VerificationError.__name__, tls.service_identity.cryptography.__name__])
    return found
async def run(master, unused_modules):
    before = answers(master)
    unused_modules.take_out()
    started = loaded()
    return before, answers(master), started
""")
    assert after == before
    assert set(started).isdisjoint(ALWAYS)
    assert "Error" not in str(before[:2]) and "<?xml" in before[4] and before[5:7] == [True, False]
    assert ":grapes:" in before and "address" in str(before) and "&lt;script&gt;" in before[-2]


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
    known = Part(("made_b",), {(modules["made_a"], "b"): None})
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
