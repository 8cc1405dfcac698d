"""The table of hooks does what mitmproxy's own walk over its addons does, and leaves no trace."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import addonmanager, exceptions, hooks, http, options
from mitmproxy.addons import proxyserver
from mitmproxy.addons.asgiapp import ASGIApp
from mitmproxy.addons.onboarding import Onboarding
from mitmproxy.log import LegacyLogEvents, LogEntry
from mitmproxy.proxy import commands, events, layer, mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.test import taddons, tflow, tutils
from mitmproxy.utils import asyncio_utils

from understudy.proxy.shortcuts import hook_table
from understudy.proxy.shortcuts.hook_table import LONGEST, HookTable
from understudy.proxy.timeouts import Alarm

HOOKS = ("request", "response", "update")
BEHAVIOURS = (
    "plain",
    "async",
    "slow",
    "promise",
    "error",
    "late error",
    "halt",
    "late halt",
    "options",
    "class",
    "call",
)
ODD = ("none", "zero", "number", "module")
KINDS = ("object", "module", "property", "dynamic", "equal", "slots", "type", "tuple", "broken")


@dataclass
class Spec:
    """An addon to be made, once for each of the two that are compared."""

    kind: str
    handlers: dict[str, str]
    children: list[Spec] | None


def _given(value: object, _addon: object) -> object:
    return value


@dataclass
class World:
    """An addon manager, what its addons were asked, and what it logged. The clock stands still."""

    seen: list[object] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.manager = addonmanager.AddonManager(SimpleNamespace(options=options.Options()))

    def handler(self, label: str, behaviour: str) -> object:
        """What stands under the name of a hook."""
        if behaviour in ODD:
            return {"none": None, "zero": 0, "number": 3, "module": logging}[behaviour]

        def plain(*args: object) -> object:
            self.seen.append((label, behaviour, [type(each).__name__ for each in args]))
            match behaviour:
                case "error":
                    raise ValueError(f"{label} failed")
                case "halt":
                    raise exceptions.AddonHalt
                case "options":
                    raise exceptions.OptionsError(f"{label} does not like an option")
                case "promise":
                    return later()
                case "call":
                    self.manager.chain.append(self.make(Spec("object", {"request": "plain"}, None)))
            return None

        async def later(*args: object) -> None:
            self.seen.append((label, "begins"))
            if behaviour == "slow":
                await asyncio.sleep(0)
            self.seen.append((label, "goes on", [type(each).__name__ for each in args]))
            if behaviour == "late error":
                raise ValueError(f"{label} failed later")
            if behaviour == "late halt":
                raise exceptions.AddonHalt

        return later if behaviour in ("async", "slow", "late error", "late halt") else plain

    def make(self, spec: Spec) -> Any:
        """An addon, with those below it."""
        label = f"addon {len(self.made)}"
        place = len(self.made)
        self.made.append(None)
        attributes: dict[str, Any] = {
            name: self.handler(f"{label}.{name}", behaviour) for name, behaviour in spec.handlers.items()
        }
        if spec.children is not None:
            children = [self.make(each) for each in spec.children]
            attributes["addons"] = tuple(children) if spec.kind == "tuple" else children
        on_class = {
            name: staticmethod(each) if callable(each) and not isinstance(each, ModuleType) else each
            for name, each in attributes.items()
        }
        addon: Any
        match spec.kind:
            case "module":
                addon = ModuleType(label)
                vars(addon).update(attributes)
            case "property":
                made = {name: property(partial(_given, each)) for name, each in attributes.items()}
                addon = type("Property", (), made)()
            case "dynamic":

                def find(_self: object, name: str) -> Any:
                    try:
                        return attributes[name]
                    except KeyError:
                        raise AttributeError(name) from None

                addon = type("Dynamic", (), {"__getattr__": find})()
            case "equal":
                addon = type("Equal", (), {"__eq__": lambda *_: True, "__hash__": lambda _: 1})()
                addon.__dict__.update(attributes)
            case "slots":
                addon = type("Slots", (), {"__slots__": (), **on_class})()
            case "type":
                addon = type("Kind", (), on_class)
            case "broken":

                def fail(_self: object) -> Any:
                    raise RuntimeError(f"{label} does not tell its addons")

                addon = type("Broken", (), {**on_class, "addons": property(fail)})()
            case _:
                addon = type("Plain", (), {})()
                addon.__dict__.update(attributes)
        self.made[place] = addon
        return addon


handlers = st.dictionaries(st.sampled_from(HOOKS), st.sampled_from(BEHAVIOURS + ODD), max_size=3)
specs = st.recursive(
    st.builds(Spec, st.sampled_from(KINDS), handlers, st.none()),
    lambda inner: st.builds(Spec, st.sampled_from(KINDS), handlers, st.lists(inner, max_size=3)),
    max_leaves=5,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("trigger"), st.sampled_from(HOOKS)),
        st.tuples(st.just("add"), specs),
        st.tuples(st.just("insert"), specs),
        st.tuples(st.just("remove"), st.integers(0, 20)),
        st.tuples(st.just("replace"), st.integers(0, 20), specs),
        st.tuples(st.just("set"), st.integers(0, 20), st.sampled_from(HOOKS), st.sampled_from(BEHAVIOURS + ODD)),
        st.tuples(st.just("delete"), st.integers(0, 20), st.sampled_from((*HOOKS, "addons"))),
        st.tuples(st.just("nest"), st.integers(0, 20), specs),
    ),
    min_size=1,
    max_size=8,
)


def event_of(name: str) -> hooks.Hook:
    """A hook of this name."""
    flow = tflow.tflow()
    return {
        "request": HttpRequestHook(flow),
        "response": HttpResponseHook(flow),
        "update": hooks.UpdateHook([flow]),
    }[name]


@contextmanager
def logged(into: list[object]) -> Iterator[None]:
    """What mitmproxy logs of its addons goes into this list, with the functions that the error came through."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            names = []
            trace = record.exc_info[2] if record.exc_info else None
            while trace is not None:
                # An error that no addon raised has frames of mitmproxy's, or ours.
                names += [trace.tb_frame.f_code.co_name] if trace.tb_frame.f_code.co_filename == __file__ else []
                trace = trace.tb_next
            kind = record.exc_info[0] if record.exc_info else None
            into.append((record.levelname, record.getMessage().split(" at 0x")[0], kind, names))

    keep, propagate = Keep(), addonmanager.logger.propagate
    addonmanager.logger.addHandler(keep)
    addonmanager.logger.propagate = False
    try:
        yield
    finally:
        addonmanager.logger.removeHandler(keep)
        addonmanager.logger.propagate = propagate


def play(world: World, trigger: Callable[[hooks.Hook], Awaitable[None]], script: list[tuple[Any, ...]]) -> list[object]:
    """Run the steps; returns all that was to be seen of it."""

    async def run() -> None:
        for step in script:
            match step:
                case ("trigger", name):
                    world.seen.append(f"-- {name}")
                    try:
                        await trigger(event_of(name))
                    except exceptions.OptionsError as error:
                        world.seen.append(str(error))
                case ("add", spec):
                    world.manager.chain.append(world.make(spec))
                case ("insert", spec):
                    world.manager.chain.insert(0, world.make(spec))
                case ("remove", number) if world.manager.chain:
                    gone = world.manager.chain[number % len(world.manager.chain)]
                    world.manager.chain = [each for each in world.manager.chain if each is not gone]
                case ("replace", number, spec) if world.manager.chain:
                    world.manager.chain[number % len(world.manager.chain)] = world.make(spec)
                case ("set", number, name, behaviour) if world.made:
                    addon = world.made[number % len(world.made)]
                    if hasattr(addon, "__dict__") and not isinstance(addon, type):
                        vars(addon)[name] = world.handler(f"set {number}.{name}", behaviour)
                case ("delete", number, name) if world.made:
                    addon = world.made[number % len(world.made)]
                    if hasattr(addon, "__dict__") and not isinstance(addon, type):
                        vars(addon).pop(name, None)
                case ("nest", number, spec) if world.made:
                    addon = world.made[number % len(world.made)]
                    child = world.make(spec)
                    if isinstance(getattr(type(addon), "addons", None), property):
                        continue
                    if isinstance(known := vars(addon).get("addons") if hasattr(addon, "__dict__") else (), list):
                        known.append(child)
                    elif known is None and not isinstance(addon, type):
                        vars(addon)["addons"] = [child]

    with logged(world.seen):
        asyncio.run(run())
    return world.seen


EMPTY = Spec("object", {}, None)


@given(steps)
@example([("add", EMPTY), ("trigger", "request"), ("set", 0, "request", "plain"), ("trigger", "request")])
@example([("add", Spec("equal", {"request": "plain"}, None)), ("trigger", "request"),
          ("replace", 0, Spec("equal", {"request": "async"}, None)), ("trigger", "request")])  # fmt: skip
@example([("add", Spec("object", {"request": "call"}, None)), ("add", EMPTY), ("trigger", "request")])
@example([("add", Spec("object", {}, [EMPTY])), ("trigger", "request"),
          ("nest", 0, Spec("object", {"request": "plain"}, None)), ("trigger", "request")])  # fmt: skip
def test_handlers_are_called_as_mitmproxy_calls_them(script: list[tuple[Any, ...]]) -> None:
    """Random addons, changed between the hooks: the same handlers in the same order, the same errors."""
    theirs, ours = World(), World()
    table = HookTable(ours.manager, clock=lambda: 0.0)
    script = [*script, *(("trigger", name) for name in HOOKS), *(("trigger", name) for name in HOOKS)]
    assert play(ours, table.trigger_event, script) == play(theirs, theirs.manager.trigger_event, script)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@given(steps)
def test_handlers_are_called_at_once_as_mitmproxy_calls_them(script: list[tuple[Any, ...]]) -> None:
    """The same of the method that waits for nothing, which logs an error for an asynchronous handler."""
    theirs, ours = World(), World()
    table = HookTable(ours.manager, clock=lambda: 0.0)

    async def trigger(event: hooks.Hook) -> None:
        table.trigger(event)

    async def usual(event: hooks.Hook) -> None:
        theirs.manager.trigger(event)

    script = [*script, *(("trigger", name) for name in HOOKS), *(("trigger", name) for name in HOOKS)]
    assert play(ours, trigger, script) == play(theirs, usual, script)


class Hearer:
    """Hears of log lines by the hook that is out of use."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def add_log(self, entry: LogEntry) -> None:
        """A line was logged."""
        self.heard.append((entry.level, entry.msg.partition("] ")[2]))


@pytest.mark.parametrize("added", ["before", "at once", "later"])
def test_an_addon_hears_of_log_lines_as_in_mitmproxy(added: str) -> None:
    """What was logged before it was there is told it if mitmproxy asks the addons after that, and only then."""

    async def heard(*, by_table: bool) -> list[tuple[str, str]]:
        world, addon = World(), Hearer()
        master: Any = SimpleNamespace(addons=world.manager, event_loop=asyncio.get_running_loop())
        world.manager.master = master
        master._legacy_log_events = LegacyLogEvents(master)
        undo = hook_table.install(world.manager) if by_table else lambda: None
        log = logging.Logger("of this test")  # nobody else's
        log.addHandler(master._legacy_log_events)
        if added == "before":
            world.manager.chain.append(addon)
        log.info("first")
        log.warning("%s, with %d argument", "second", 1)
        if added == "at once":
            world.manager.chain.append(addon)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if added == "later":
            world.manager.chain.append(addon)
        log.error("third")
        await asyncio.to_thread(log.debug, "fourth, of another thread")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        undo()
        assert "emit" not in vars(master._legacy_log_events)
        return addon.heard

    ours, theirs = (asyncio.run(heard(by_table=by_table)) for by_table in (True, False))
    assert ours == theirs
    assert len(ours) == (2 if added == "later" else 4)


def test_no_log_line_is_written_out_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[logging.LogRecord] = []

    async def run() -> None:
        world = World()
        master: Any = SimpleNamespace(addons=world.manager, event_loop=asyncio.get_running_loop())
        world.manager.master = master
        master._legacy_log_events = LegacyLogEvents(master)
        hook_table.install(world.manager)
        monkeypatch.setattr(master._legacy_log_events, "format", written.append)
        master._legacy_log_events.handle(logging.LogRecord("any", logging.INFO, "", 1, "a line", (), None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert not written


def test_a_handler_put_on_a_class_is_found_within_a_second() -> None:
    """Nothing tells that a class was changed, so the table is made anew now and then."""
    world, now = World(), [0.0]
    table = HookTable(world.manager, clock=lambda: now[0])
    addon = world.make(Spec("object", {}, None))
    world.manager.chain.append(addon)
    asyncio.run(table.trigger_event(event_of("request")))
    type(addon).request = world.handler("late", "plain")
    now[0] = LONGEST
    asyncio.run(table.trigger_event(event_of("request")))
    assert [each[0] for each in world.seen] == ["late"]  # type: ignore[index]


class Top(layer.Layer):
    """A top layer: for each byte that comes in it asks for a hook, and writes down what it is told."""

    def __init__(self, context: Context, seen: list[object]) -> None:
        super().__init__(context)
        self.seen = seen
        self.flow = tflow.tflow()

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if not isinstance(event, events.DataReceived):
            return
        for byte in event.data.decode():
            yield HttpRequestHook(self.flow) if byte == "q" else HttpResponseHook(self.flow)
            self.seen.append(f"goes on after {byte}")
            yield commands.SendData(self.context.client, byte.encode())


class Wire:
    """Both ends of a client connection."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Addresses."""
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def write(self, data: bytes) -> None:
        """What goes to the client."""
        self.seen.append(data)


class Sleeper:
    """Handlers that take their time, each in another way."""

    def __init__(self, seen: list[object], how: str) -> None:
        self.seen = seen
        self.how = how

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Plain, or a promise."""
        self.seen.append("request")
        if self.how == "options":
            raise exceptions.OptionsError("no")
        return self.later() if self.how in ("promise", "at once") else None

    async def later(self) -> None:
        """With or without a pause, in a task of its own."""
        self.seen.append(("task", asyncio.current_task() is self.outer))
        if self.how == "promise":
            await asyncio.sleep(0)
        self.seen.append("later")

    outer: asyncio.Task[Any] | None = None

    def response(self, flow: http.HTTPFlow) -> None:
        """Plain."""
        self.seen.append("response")

    def update(self, flows: list[http.HTTPFlow]) -> None:
        """Said after each of the two."""
        self.seen.append("update")
        if self.how == "intercept":
            for flow in flows:
                flow.intercept()
                asyncio.get_running_loop().call_soon(flow.resume)


def connection(how: str, *, table: bool) -> list[object]:
    """What a client connection does whose layer asks for three hooks; ``table``: by table."""
    seen: list[object] = []
    reports: list[object] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        loop.set_exception_handler(lambda _, context: reports.append(type(context.get("exception")).__name__))
        opts = options.Options()
        proxyserver.Proxyserver().load(SimpleNamespace(add_option=opts.add_option))
        master = SimpleNamespace(options=opts)
        master.addons = addonmanager.AddonManager(master)
        sleeper = Sleeper(seen, how)
        sleeper.outer = asyncio.current_task()
        master.addons.chain.append(sleeper)
        if table:
            master.addons.trigger_event = HookTable(master.addons).trigger_event
        wire, mode = Wire(seen), mode_specs.ProxyMode.parse("regular")
        handler = ProxyConnectionHandler(master, wire, wire, opts, mode)
        handler.layer = Top(handler.layer.context, seen)
        if table:
            hook_table.at_once(handler, HookTable(master.addons), lambda: True)
        await handler.server_event(events.DataReceived(handler.client, b"qp"))
        await handler.server_event(events.DataReceived(handler.client, b"p"))
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(run())
    gc.collect()
    return [*seen, *reports]


@pytest.mark.parametrize("how", ["plain", "at once", "promise", "intercept", "options"])
def test_a_connection_sees_its_hooks_as_from_mitmproxy(how: str) -> None:
    """Plain handlers, coroutines with and without a pause, an interception, and a handler that ends its hook."""
    assert connection(how, table=True) == (theirs := connection(how, table=False))
    assert ("OptionsError" in theirs) is (how == "options")


def test_plain_hooks_make_no_task() -> None:
    """The hooks of a call need no task of their own while no handler waits."""
    made: list[str] = []

    async def run(how: str) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        opts = options.Options()
        proxyserver.Proxyserver().load(SimpleNamespace(add_option=opts.add_option))
        manager = addonmanager.AddonManager(SimpleNamespace(options=opts))
        manager.chain.append(Sleeper([], how))
        wire = Wire([])
        mode = mode_specs.ProxyMode.parse("regular")
        handler = ProxyConnectionHandler(SimpleNamespace(addons=manager), wire, wire, opts, mode)
        handler.layer = Top(handler.layer.context, [])
        hook_table.at_once(handler, HookTable(manager), lambda: True)
        await handler.server_event(events.DataReceived(handler.client, b"qp"))

    create = asyncio_utils.create_task

    def noted(*arguments: Any, **named: Any) -> asyncio.Task[Any]:
        made.append(named["name"])
        return create(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio_utils, "create_task", noted)
        asyncio.run(run("plain"))
        assert made == []
        asyncio.run(run("at once"))
        assert made == ["handle_hook(request)"]


def test_an_alarm_is_a_timer_and_no_task_that_sleeps() -> None:
    """It rings as mitmproxy's wake-up does, and mitmproxy can cancel it as one of its own."""
    seen: list[events.Event] = []

    class Sleepy(layer.Layer):
        def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
            seen.append(event)
            if isinstance(event, events.DataReceived):
                for seconds in (0.0, 60.0):
                    yield (alarm := Alarm(seconds))
                    alarms.append(alarm)

    async def run() -> None:
        manager, wire = World().manager, Wire([])
        opts = manager.master.options
        proxyserver.Proxyserver().load(SimpleNamespace(add_option=opts.add_option))
        handler = ProxyConnectionHandler(manager.master, wire, wire, opts, mode_specs.ProxyMode.parse("regular"))
        handler.layer = Sleepy(handler.layer.context)
        hook_table.at_once(handler, HookTable(manager), lambda: True)
        tasks = asyncio.all_tasks()
        await handler.server_event(events.DataReceived(handler.client, b""))
        assert asyncio.all_tasks() == tasks
        assert handler.wakeup_timer == {each.timer for each in alarms}
        while len(seen) < 2:
            await asyncio.sleep(0)
        assert isinstance(seen[1], events.Wakeup) and seen[1].command is alarms[0]
        assert handler.wakeup_timer == {alarms[1].timer}
        handler.wakeup_timer.pop().cancel()
        assert alarms[1].timer.cancelled()

    alarms: list[Alarm] = []
    asyncio.run(run())


@pytest.mark.parametrize("onboarding", [True, False])
@pytest.mark.parametrize("host", ["mitm.it", "upstream.test"])
def test_an_app_in_the_proxy_is_waited_for_only_where_it_serves(host: str, onboarding: bool) -> None:
    """That a request is not for it leaves nothing to wait for, and its answer is waited for."""

    async def serve(scope: object, receive: object, send: Callable[[object], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    with taddons.context() as here:
        app = Onboarding() if onboarding else ASGIApp(serve, "mitm.it", None)
        here.master.addons.add(app)
        flow = tflow.tflow(req=tutils.treq(host=host, port=80))
        table = HookTable(here.master.addons)
        waiting = list(table.calls(HttpRequestHook(flow)))
        for each in waiting:
            assert asyncio.iscoroutine(each)
            asyncio.run(each)
        assert len(waiting) == (host == "mitm.it")
        assert (flow.response is not None) == (host == "mitm.it")


def test_it_is_taken_out_without_a_trace() -> None:
    """mitmproxy is as it was; a second one, and what another addon has put in its place, are left alone."""
    before = dict(vars(ProxyConnectionHandler)), ProxyConnectionHandler.handle_client
    manager: Any = World().manager
    undo = hook_table.install(manager)
    assert manager.trigger_event.__self__.__class__ is HookTable
    assert ProxyConnectionHandler.handle_client is not before[1]
    hook_table.install(manager)()
    assert manager.trigger_event.__self__.__class__ is HookTable
    undo()
    assert not {"trigger_event", "trigger"} & vars(manager).keys()
    assert (dict(vars(ProxyConnectionHandler)), ProxyConnectionHandler.handle_client) == before
    manager.trigger_event = of_another = manager.trigger_event
    hook_table.install(manager)()
    assert manager.trigger_event is of_another


def test_a_hook_goes_the_usual_way_once_the_table_is_left() -> None:
    """A connection that began with the table goes on without it."""
    manager, wire = World().manager, Wire([])
    opts = manager.master.options
    proxyserver.Proxyserver().load(SimpleNamespace(add_option=opts.add_option))
    handler = ProxyConnectionHandler(manager.master, wire, wire, opts, mode_specs.ProxyMode.parse("regular"))
    handler.layer = Top(handler.layer.context, [])
    used = [True]
    hook_table.at_once(handler, HookTable(manager), lambda: used[0])
    assert [type(each) for each in handler.layer.handle_event(events.DataReceived(handler.client, b"q"))] == [
        commands.SendData
    ]
    used[0] = False
    (hook,) = handler.layer.handle_event(events.DataReceived(handler.client, b"q"))
    assert isinstance(hook, HttpRequestHook)


class Sender(layer.Layer):
    """Sends these pieces in one go, each on the client's connection (True) or on another one; None fails there."""

    def __init__(self, context: Context, pieces: list[tuple[bool, bytes] | None]) -> None:
        super().__init__(context)
        self.pieces = pieces

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        for piece in self.pieces:
            if piece is None:
                raise ValueError("no")
            to_client, data = piece
            yield commands.SendData(self.context.client if to_client else self.context.server, data)


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        ([(True, b"head"), (True, b"body")], [(True, b"headbody")]),
        ([(True, b"a"), (False, b"b"), (True, b"c")], [(True, b"a"), (False, b"b"), (True, b"c")]),
        ([(True, b"x" * 65_530), (True, b"yyyyyy")], [(True, b"x" * 65_530 + b"yyyyyy")]),
        ([(True, b"x" * 65_530), (True, b"yyyyyyy")], [(True, b"x" * 65_530), (True, b"yyyyyyy")]),
        ([(True, b"a"), (True, b"b"), None], [(True, b"ab")]),
    ],
    ids=["a head and its body", "two connections", "just small enough", "too large for a copy", "an error after them"],
)
def test_what_is_sent_in_a_row_is_one_write(
    pieces: list[tuple[bool, bytes] | None], written: list[tuple[bool, bytes]]
) -> None:
    """Every byte, in its order, and on the connection that it is for."""
    manager, wire = World().manager, Wire([])
    opts = manager.master.options
    proxyserver.Proxyserver().load(SimpleNamespace(add_option=opts.add_option))
    handler = ProxyConnectionHandler(manager.master, wire, wire, opts, mode_specs.ProxyMode.parse("regular"))
    handler.layer = Sender(handler.layer.context, pieces)
    hook_table.at_once(handler, HookTable(manager), lambda: True)
    found: list[tuple[bool, bytes]] = []
    with nullcontext() if None not in pieces else pytest.raises(ValueError, match="no"):
        for command in handler.layer.handle_event(events.DataReceived(handler.client, b"")):
            assert isinstance(command, commands.SendData)
            found.append((command.connection is handler.client, command.data))
    assert found == written
