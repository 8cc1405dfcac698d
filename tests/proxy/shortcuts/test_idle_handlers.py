"""A handler of mitmproxy's own that is passed over would have done nothing; one that has something to do is called."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import flow as mflow
from mitmproxy import http
from mitmproxy.addons import asgiapp, default_addons, dumper, tlsconfig
from mitmproxy.addons.maplocal import MapLocal
from mitmproxy.addons.modifyheaders import ModifyHeaders
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.serverplayback import ServerPlayback
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook, HttpRequestHook
from mitmproxy.test import taddons, tflow, tutils

from understudy.proxy.shortcuts import hook_table, idle_handlers
from understudy.proxy.shortcuts.hook_table import HookTable

KNOWN = {*idle_handlers.EMPTY, *idle_handlers.UNSET, *idle_handlers.OTHER}
WANTED: dict[str, object] = {
    "anticache": True,
    "anticomp": True,
    "block_list": ["/~all/404"],
    "map_remote": ["|llm.test|other.test"],
    "modify_body": ["/~all/a/b"],
    "modify_headers": ["/~all/x-new/1"],
    "onboarding": False,
    "stickyauth": "~all",
    "stickycookie": "~all",
    "upstream_auth": "a:b",
}
"""Options that give one of these handlers something to do; that of an app takes it away."""
names = st.sampled_from(["host", "upgrade", "authorization", "cookie", "if-none-match", "accept-encoding", "x-new"])
values = st.sampled_from([b"h2c", b"mitm.it", b"mitm.it:80", b"[mitm.it]", b"llm.test", b"a=b", b""])
messages = st.fixed_dictionaries(
    {
        "host": st.sampled_from(["mitm.it", "llm.test"]),
        "method": st.sampled_from([b"GET", b"PRI", b"pri"]),
        "path": st.sampled_from([b"/", b"*", b"/mitmproxy-5.crl", b"/a.crl", b"/\xff"]),
        "http_version": st.sampled_from([b"HTTP/1.1", b"HTTP/2.0"]),
        "authority": st.sampled_from([b"", b"", b"mitm.it", b"llm.test"]),
        "headers": st.lists(st.tuples(names.map(str.encode), values), max_size=3).map(http.Headers),
    }
)


class Kept(taddons.context):
    """Every addon of which a handler is known, in a master of their own."""

    def __init__(self) -> None:
        kinds = {kind for kind, _ in KNOWN}
        self.known = [each for each in default_addons() if type(each) in kinds]
        self.known += [asgiapp.ASGIApp(_serve, "mitm.it", 80), asgiapp.WSGIApp(_serve, "llm.test", None)]
        self.known.append(dumper.Dumper(StringIO()))
        super().__init__(Proxyserver(), *self.known, loadcore=False)  # type: ignore[no-untyped-call]
        for each in self.known:
            if isinstance(each, tlsconfig.TlsConfig):
                each.certstore = SimpleNamespace(default_ca=SimpleNamespace(serial=5), default_crl=b"list")  # type: ignore[assignment]


async def _serve(scope: object, receive: object, send: Callable[[object], Any]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})


def flow_of(parts: dict[str, Any], *, answered: bool = False) -> http.HTTPFlow:
    """A flow that is under way."""
    flow = tflow.tflow(req=tutils.treq(**copy.deepcopy(parts)), resp=answered)
    flow.live = True
    return flow


def state(flow: http.HTTPFlow) -> object:
    """All that is to be seen of a flow."""
    return flow.get_state(), flow.live, flow.metadata, flow.request.stream


def test_a_handler_that_is_passed_over_has_nothing_to_do() -> None:
    """Whatever is wanted, and whatever the request is: calling it changes neither the flow nor its addon."""

    @given(st.sets(st.sampled_from(sorted(WANTED))), messages, st.booleans())
    @example(set(), {"host": "llm.test", "path": b"/mitmproxy-5.crl"}, False)
    @example(set(), {"host": "llm.test", "headers": http.Headers(upgrade="h2c")}, False)
    @example(set(), {"host": "llm.test", "headers": http.Headers(host="mitm.it")}, False)
    def check(wanted: set[str], parts: dict[str, Any], answered: bool) -> None:
        here.options.update(**usual | {name: WANTED[name] for name in wanted})
        for name in ("requestheaders", "request", "responseheaders", "response"):
            row = [(0, each) for each in here.known if hasattr(each, name)]
            flow = flow_of(parts, answered=answered or name.startswith("response"))
            called = {
                place
                for place, look in idle_handlers.busy(name, row, here.options).places
                if look is None or not look(row[place][1], flow)
            }
            for place, (_, addon) in enumerate(row):
                if place in called:
                    continue
                before = copy.deepcopy(state(flow)), _attributes(addon)
                result = getattr(addon, name)(flow)
                if result is not None:
                    asyncio.run(result)
                assert (state(flow), _attributes(addon)) == before, addon

    with Kept() as here:
        usual = {name: getattr(here.options, name) for name in WANTED}
        check()


def _attributes(addon: object) -> dict[str, object]:
    return {
        name: copy.copy(value) if isinstance(value, (list, dict, set)) else value for name, value in vars(addon).items()
    }


def test_nearly_all_are_passed_over_while_nothing_is_wanted() -> None:
    """Of a plain call, and with options as they are; all classes that are known are mitmproxy's."""
    with Kept() as here:
        here.options.update(flow_detail=0)
        missing = {kind for kind, _ in KNOWN} - {type(each) for each in here.known}
        assert not missing
        for name in ("requestheaders", "request", "responseheaders", "response"):
            row = [(0, each) for each in here.known if (type(each), name) in KNOWN]
            flow = flow_of({"host": "llm.test", "headers": http.Headers(host="llm.test")}, answered=True)
            places = idle_handlers.busy(name, row, here.options).places
            assert all(look is not None and look(row[place][1], flow) for place, look in places)


@contextmanager
def by_table(*addons: object) -> Iterator[tuple[taddons.context, HookTable]]:
    """These addons, whose hooks are called by table."""
    with taddons.context(*addons, loadcore=False) as here:
        undo = hook_table.install(here.master.addons)
        try:
            yield here, here.master.addons.trigger_event.__self__
        finally:
            undo()


def call(table: HookTable, flow: http.HTTPFlow) -> http.HTTPFlow:
    """Both hooks of a request."""
    for hook in (HttpRequestHeadersHook(flow), HttpRequestHook(flow)):
        assert list(table.calls(hook)) == []
    return flow


PLAIN = {"host": "llm.test", "headers": http.Headers()}


def test_an_option_that_is_set_is_seen_at_the_next_hook() -> None:
    """And one that is taken back, also by an error."""
    with by_table(ModifyHeaders()) as (here, table):
        assert "x-new" not in call(table, flow_of(PLAIN)).request.headers
        here.options.modify_headers = ["/~all/x-new/1"]
        assert call(table, flow_of(PLAIN)).request.headers["x-new"] == "1"
        with pytest.raises(Exception, match="modify_headers"):
            here.options.modify_headers = ["/~nonsense"]
        assert call(table, flow_of(PLAIN)).request.headers["x-new"] == "1"
        here.options.update(modify_headers=[])
        assert "x-new" not in call(table, flow_of(PLAIN)).request.headers


def test_what_a_script_does_to_an_addon_is_seen_at_the_next_hook(tmp_path: Path) -> None:
    """Attributes that are changed in place or anew, a command, and a handler of its own."""
    (tmp_path / "a").write_text("here")
    playback, local, headers = ServerPlayback(), MapLocal(), ModifyHeaders()
    with by_table(playback, local, headers) as (here, table):
        assert call(table, flow_of(PLAIN)).response is None
        played = flow_of(PLAIN, answered=True)
        here.master.commands.call("replay.server", [played])
        assert call(table, flow_of(PLAIN)).response is not None
        assert call(table, flow_of(PLAIN)).response is None
        here.options.map_local = [f"|llm.test|{tmp_path / 'a'}"]
        known, local.replacements = local.replacements, []
        assert call(table, flow_of(PLAIN)).response is None
        local.replacements.extend(known)
        response = call(table, flow_of(PLAIN)).response
        assert response is not None and response.content == b"here"
        headers.requestheaders = mflow.Flow.kill  # type: ignore[method-assign]
        assert call(table, flow_of(PLAIN)).error is not None


def test_what_a_handler_does_is_seen_by_those_behind_it() -> None:
    """In the same hook, as it is in mitmproxy."""

    class Script:
        def requestheaders(self, flow: http.HTTPFlow) -> None:
            here.options.modify_headers = ["/~all/x-new/1"]

    with by_table(Script(), ModifyHeaders()) as (here, table):
        assert call(table, flow_of(PLAIN)).request.headers["x-new"] == "1"


def test_a_class_of_its_own_is_called() -> None:
    """What it does there is not known."""

    class Mine(MapLocal):
        def request(self, flow: http.HTTPFlow) -> None:
            flow.comment = "seen"

    with by_table(Mine()) as (_, table):
        assert call(table, flow_of(PLAIN)).comment == "seen"


def test_an_option_that_a_release_does_not_have_wants_nothing() -> None:
    """Nor is a handler passed over because of it: it would fail, and be reported."""
    with taddons.context(loadcore=False) as here:
        for (kind, name), option in idle_handlers.UNSET.items():
            assert option not in here.options
            addon: object = object.__new__(kind)
            assert len(idle_handlers.busy(name, [(0, addon)], here.options).places) == 1
