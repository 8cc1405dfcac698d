"""Calls the handlers of a hook by table, in place of a walk over all addons at every hook.

mitmproxy asks each of some 35 addons at each hook whether it has a handler, opens a context manager and awaits a
coroutine for each of them, and makes a task of every hook. Most addons have no handler for most hooks. Here the addons
that have one are found once, and again when that could have changed. What handlers and operators see stays: the same
order, the same arguments, ``AddonHalt``, errors that are logged and skip the rest of their addon, plain and
asynchronous handlers.

What makes the table stale is looked at before each hook: the addons that were added or removed (also nested ones, and
so scripts), and a handler, or nested addons, set on an instance or in a script's module. A handler that is put on a
*class*, or on an instance that loses another attribute before the next hook, is found within :data:`LONGEST` seconds.
A handler is looked up on its addon at each call, never kept. Handlers of mitmproxy's own addons that have nothing to do
are passed over (``idle_handlers``).

A log line is told to addons by a hook that is out of use: it is written out for it only if an addon has a handler.

A hook of a client connection whose handlers are all plain functions, and whose flow is not intercepted, is completed
where the layer asked for it; the rest of one that has to wait goes to a task, as mitmproxy does with all of them.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop, get_running_loop
from asyncio import _get_running_loop as _running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import fields
from inspect import isawaitable
from itertools import starmap
from logging import LogRecord
from operator import is_
from types import ModuleType, TracebackType
from typing import Any

from mitmproxy import addonmanager, exceptions, flow, hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.log import LOGGING_LEVELS_TO_LOGENTRY, AddLogHook, LegacyLogEvents, LogEntry
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils

from understudy.proxy.shortcuts import event_handling, idle_handlers
from understudy.proxy.timeouts import Alarm

LONGEST = 10.0
"""Seconds until the table is made anew in any case: nothing tells that a class was changed."""

LARGEST_JOINED = 65_536
"""Bytes that are copied together for one write."""

type Calls = Generator[Awaitable[Any]]
"""The handlers of one hook: plain ones are called as it runs, what has to be awaited is yielded."""


class HookTable:
    """Which addons of ``manager`` have a handler for which hook. ``clock``: seconds, monotonic."""

    def __init__(self, manager: AddonManager, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager = manager
        self._clock = clock
        self._chain: list[Any] = []
        """The addons that the table was made of, to compare with the manager's."""
        self._nodes: list[tuple[int, Any]] = []
        """All addons in mitmproxy's order, each with the number of the one in the chain that it belongs to."""
        self._nested: list[tuple[Any, Sequence[Any]]] = []
        """Those that have addons of their own, with these."""
        self._opaque: set[int] = set()
        """Numbers of those whose own addons cannot be listed; mitmproxy's walk is made over them at each hook."""
        self._compared = False
        """Whether one of them says itself what it equals, so that lists of them have to be compared by identity."""
        self._plain: list[Mapping[str, Any]] = []
        """The attributes of those that have none."""
        self._attributes: list[Mapping[str, Any]] = []
        """The attributes of all of them."""
        self._sizes: list[int] = []
        """How many attributes each had when they were looked at: one that was set has made them more."""
        self._checked: set[str] = set()
        """Hooks whose row has been compared with these attributes."""
        self._rows: dict[str, tuple[list[tuple[int, Any]], list[Mapping[str, Any]]]] = {}
        """By hook, the addons that could have a handler, and the attributes of those that have none."""
        self._known_busy: dict[str, idle_handlers.Busy] = {}
        """By hook, those of them whose handler may have something to do."""
        self._made = -LONGEST

    def calls(self, event: hooks.Hook) -> Calls:
        """Call the handlers of this hook. What it yields is to be awaited before it goes on; an error of that is thrown
        in. Raises OptionsError, as mitmproxy does; every other error of a handler is logged."""
        name, failed, arguments = event.name, -1, _arguments(event)
        row, chain, known = self._row(name), self._manager.chain, len(self._chain)
        for number, addon, look in self._busy(name, row):
            if number == failed:
                continue
            try:
                if number in self._opaque:
                    yield from self._walk(addon, event)
                    continue
                handler = getattr(addon, name, None)
                if not handler or (look is not None and look(addon, *arguments)):
                    continue
                if callable(handler):
                    result = handler(*arguments)
                    if result is not None and isawaitable(result):
                        yield result
                elif not isinstance(handler, ModuleType):
                    raise exceptions.AddonManagerError(f"Addon handler {name} ({addon}) not callable")
            except exceptions.AddonHalt:
                return
            except exceptions.OptionsError:
                raise
            except Exception as error:
                _log(error)
                failed = number
        while len(chain) > known:
            # Added by a handler of this very hook.
            addon, known = chain[known], known + 1
            try:
                yield from self._walk(addon, event)
            except exceptions.AddonHalt:
                return
            except exceptions.OptionsError:
                raise
            except Exception as error:
                _log(error)

    async def trigger_event(self, event: hooks.Hook) -> None:
        """What mitmproxy's method of this name does."""
        await _finish(self.calls(event))

    def trigger(self, event: hooks.Hook) -> None:
        """What mitmproxy's method of this name does."""
        if event.name == hooks.ConfigureHook.name:
            self._known_busy.clear()  # an option was set
        if self.has(event.name):
            AddonManager.trigger(self._manager, event)

    def has(self, name: str) -> bool:
        """Whether any addon could have a handler for the hook of this name."""
        return bool(self._row(name))

    def lifecycle(self, event: hooks.Hook) -> Calls:
        """The handlers of a hook of a connection: after those of a flow's it is said that the flow was updated, and
        an intercepted one is waited for."""
        yield from self.calls(event)
        data = _arguments(event)[0]
        if isinstance(data, flow.Flow):
            if self.has(hooks.UpdateHook.name):
                yield from self.calls(hooks.UpdateHook([data]))
            if data.intercepted:
                yield data.wait_for_resume()

    def _walk(self, addon: Any, event: hooks.Hook) -> Calls:
        for _, handler in self._manager._iter_hooks(addon, event):
            result = handler(*event.args())
            if result is not None and isawaitable(result):
                yield result

    def _busy(self, name: str, row: idle_handlers.Row) -> Iterator[tuple[int, Any, idle_handlers.Look | None]]:
        """Those of the row that have to be called, one after the other."""
        known = self._known_busy.get(name)
        if known is None or not known.is_true_of(row):
            known = self._known_busy[name] = idle_handlers.busy(name, row, self._manager.master.options)
        for place, look in known.places:
            number, addon = row[place]
            yield number, addon, look
            if self._known_busy.get(name) is not known or not known.is_true_of(row):
                # What was called has changed what those behind it have to do.
                for number, addon in row[place + 1 :]:
                    yield number, addon, None
                return

    def _row(self, name: str) -> list[tuple[int, Any]]:
        """The addons that could have a handler of this name."""
        if self._is_stale():
            self._make()
        if (found := self._rows.get(name)) is not None:
            row, without = found
            if name in self._checked:
                return row
            if not [each for each in without if name in each]:
                self._checked.add(name)
                return row
        return self._make_row(name)

    def _is_stale(self) -> bool:
        if (
            self._manager.chain != self._chain
            or (self._compared and not all(map(is_, self._manager.chain, self._chain)))
            or self._clock() - self._made >= LONGEST
            or [addon for addon, listed in self._nested if getattr(addon, "addons", None) != listed]
            or (self._compared and not all(starmap(_has_still, self._nested)))
        ):
            return True
        sizes = list(map(len, self._attributes))
        if sizes == self._sizes:
            return False
        self._sizes = sizes
        self._checked.clear()
        self._known_busy.clear()
        return bool([each for each in self._plain if "addons" in each])

    def _make(self) -> None:
        self._chain = list(self._manager.chain)
        self._nodes, self._nested, self._opaque, self._rows, self._known_busy = [], [], set(), {}, {}
        self._made = self._clock()
        for number, addon in enumerate(self._chain):
            nodes, nested = len(self._nodes), len(self._nested)
            try:
                self._list(number, addon)
            except Exception:
                # mitmproxy meets this error at every hook, and logs it.
                del self._nodes[nodes:], self._nested[nested:]
                self._nodes.append((number, addon))
                self._opaque.add(number)
        self._compared = any(_equality(addon) is not object.__eq__ for _, addon in self._nodes)
        parents = {id(addon) for addon, _ in self._nested}
        self._plain = [_attributes(addon) for number, addon in self._nodes
                       if id(addon) not in parents and number not in self._opaque]  # fmt: skip
        self._attributes = [_attributes(addon) for _, addon in self._nodes]
        self._sizes = list(map(len, self._attributes))
        self._checked.clear()

    def _list(self, number: int, addon: Any) -> None:
        """Raises an error when the addon or one below it does not tell its own addons in a way that can be checked."""
        self._nodes.append((number, addon))
        if _is_dynamic(addon):
            raise TypeError(f"the attributes of {addon!r} are made when they are asked for")
        if hasattr(addon, "addons"):
            if not isinstance(addon.addons, (list, tuple)):
                raise TypeError(f"the addons of {addon!r} are no list")
            listed = addon.addons[:]
            self._nested.append((addon, listed))
            for each in listed:
                self._list(number, each)

    def _make_row(self, name: str) -> list[tuple[int, Any]]:
        row: list[tuple[int, Any]] = []
        without: list[Mapping[str, Any]] = []
        for number, addon in self._nodes:
            if number in self._opaque or _could_have(addon, name):
                row.append((number, addon))
            else:
                without.append(_attributes(addon))
        self._rows[name] = row, without
        self._checked.add(name)
        return row


def install(manager: AddonManager) -> Callable[[], None]:
    """Have the hooks of ``manager`` called by table, and those of its client connections at once; returns what undoes
    both. What another addon has put in their place is left alone."""
    if vars(manager).keys() & {"trigger_event", "trigger", "handle_lifecycle"}:
        return lambda: None
    table = HookTable(manager)
    trigger_event, trigger = table.trigger_event, table.trigger
    handle_client, own = ProxyConnectionHandler.handle_client, "handle_client" in vars(ProxyConnectionHandler)

    def is_ours() -> bool:
        ours = vars(manager).get("trigger_event") is trigger_event and "handle_lifecycle" not in vars(manager)
        return ours and ProxyConnectionHandler.handle_hook is _HANDLE_HOOK

    def handle_client_by_table(self: ProxyConnectionHandler) -> Coroutine[Any, Any, None]:
        if self.master.addons is manager:
            at_once(self, table, is_ours)
        return handle_client(self)

    manager.trigger_event, manager.trigger = trigger_event, trigger  # type: ignore[method-assign]
    leave_log_events = _tell_when_heard(manager, table)
    ProxyConnectionHandler.handle_client = handle_client_by_table  # type: ignore[assignment, method-assign]

    def uninstall() -> None:
        if vars(manager).get("trigger_event") is trigger_event:
            del manager.trigger_event
        if vars(manager).get("trigger") is trigger:
            del manager.trigger
        leave_log_events()
        if vars(ProxyConnectionHandler).get("handle_client") is handle_client_by_table:
            del ProxyConnectionHandler.handle_client
            if own:
                ProxyConnectionHandler.handle_client = handle_client  # type: ignore[method-assign]

    return uninstall


def _tell_when_heard(manager: AddonManager, table: HookTable) -> Callable[[], None]:
    """Have mitmproxy write out a log line for the hook ``add_log`` only if there is a handler; returns what undoes it.

    Whether there is one is looked at when mitmproxy would ask the addons: as soon as the event loop comes to it.
    """
    handler = getattr(manager.master, "_legacy_log_events", None)
    if type(handler) is not LegacyLogEvents or "emit" in vars(handler):
        return lambda: None
    loop: AbstractEventLoop = manager.master.event_loop

    def tell(record: LogRecord) -> None:
        if table.has(AddLogHook.name):
            level = LOGGING_LEVELS_TO_LOGENTRY.get(record.levelno, "error")
            manager.trigger(AddLogHook(LogEntry(handler.format(record), level)))

    def emit(record: LogRecord) -> None:
        # What is no text yet may be another one later. An exception could hold more than its text.
        if record.args or record.exc_info or type(record.msg) is not str or _running_loop() is not loop:
            LegacyLogEvents.emit(handler, record)
        else:
            loop.call_soon(tell, record)

    handler.emit = emit  # type: ignore[method-assign]

    def undo() -> None:
        if vars(handler).get("emit") is emit:
            del handler.emit

    return undo


_HANDLE_HOOK = ProxyConnectionHandler.handle_hook


def at_once(handler: ProxyConnectionHandler, table: HookTable, in_use: Callable[[], bool]) -> None:
    """Have the hooks of this connection's layers completed where they were asked for, unless they have to wait.

    The layer gets the end of a hook when it has said all that it has to say of the event before it, as it would from
    mitmproxy, just before other events and not after them. What it sends on one connection in a row, such as a head
    and its body, is written at once.
    """
    handler.layer.handle_event = _AtOnce(handler, table, in_use).handle_event  # type: ignore[method-assign]
    event_handling.put_lock(handler)


class _AtOnce:
    """What stands in the place of ``handle_event`` of a connection's first layer; see :func:`at_once`."""

    __slots__ = ("_handler", "_in_use", "_of_layer", "_table")

    def __init__(self, handler: ProxyConnectionHandler, table: HookTable, in_use: Callable[[], bool]) -> None:
        self._handler, self._table, self._in_use = handler, table, in_use
        self._of_layer = handler.layer.handle_event

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        of_layer, handler = self._of_layer, self._handler
        if not self._in_use():
            yield from of_layer(event)
            return
        queue: deque[events.Event] = deque((event,))
        unsent: commands.SendData | None = None
        try:
            while queue:
                for command in of_layer(queue.popleft()):
                    if type(command) is commands.SendData:
                        if unsent is None:
                            unsent = command
                        elif (joined := _joined(unsent, command)) is not None:
                            unsent = joined
                        else:
                            yield unsent
                            unsent = command
                        continue
                    if unsent is not None:
                        yield unsent
                        unsent = None
                    if type(command) is Alarm:
                        ring_later(handler, command)
                    elif not isinstance(command, commands.StartHook):
                        yield command
                    elif _completes(handler, self._table, command) and command.blocking:
                        queue.append(events.HookCompleted(command))
        except Exception:
            if unsent is not None:
                yield unsent
            raise
        if unsent is not None:
            yield unsent


def ring_later(handler: ConnectionHandler, alarm: Alarm) -> None:
    """Wake a layer up as mitmproxy does, by a timer of the event loop in place of a task that sleeps until then.

    mitmproxy cancels it with those of its own when the tool has gone.
    """

    alarm.timer = timer = get_running_loop().call_later(alarm.delay, _ring, handler, alarm)
    handler.wakeup_timer.add(timer)  # type: ignore[arg-type]  # of a task mitmproxy wants no more than to cancel it


def _ring(handler: ConnectionHandler, alarm: Alarm) -> None:
    handler.wakeup_timer.discard(alarm.timer)
    name, client = "wakeup timer", handler.client.peername
    asyncio_utils.create_task(handler.server_event(events.Wakeup(alarm)), name=name, keep_ref=True, client=client)


def _joined(first: commands.SendData, second: commands.SendData) -> commands.SendData | None:
    """Both as one, where they go to one connection and are small enough that a copy costs less than a second write."""
    if first.connection is not second.connection or len(first.data) + len(second.data) > LARGEST_JOINED:
        return None
    return commands.SendData(first.connection, first.data + second.data)


def _completes(handler: ProxyConnectionHandler, table: HookTable, hook: commands.StartHook) -> bool:
    """Call the handlers of a hook; False when a task has to do the rest."""
    calls = table.lifecycle(hook)
    try:
        # In a context of their own, as those that a task runs.
        waiting = copy_context().run(next, calls)
    except StopIteration:
        handler.timeout_watchdog.register_activity()
        return True
    except exceptions.OptionsError as error:
        # mitmproxy's task would end with it, and be reported as such.
        waiting = _raise(error)

    at_once, ended = True, False

    async def rest() -> None:
        nonlocal ended
        with handler.timeout_watchdog.disarm():
            await _finish(calls, waiting)
        ended = True
        if hook.blocking and not at_once:
            await handler.server_event(events.HookCompleted(hook))

    name, client = f"handle_hook({hook.name})", handler.client.peername
    # mitmproxy's tasks begin to run when they are made: one whose handlers had nothing to wait for has ended then.
    asyncio_utils.create_task(rest(), name=name, keep_ref=True, client=client)
    at_once = False
    return ended


async def _raise(error: Exception) -> None:
    raise error


async def _finish(calls: Calls, waiting: Awaitable[Any] | None = None) -> None:
    """Await what the handlers of a hook have to wait for, beginning with ``waiting``."""
    try:
        if waiting is None:
            waiting = next(calls)
        while True:
            try:
                await waiting
            except BaseException as error:
                waiting = calls.throw(error)
            else:
                waiting = next(calls)
    except StopIteration:
        return


def _arguments(event: hooks.Hook) -> Sequence[Any]:
    """What ``event.args()`` gives, without asking the class for its fields each time."""
    kind = type(event)
    if (names := _FIELDS.get(kind)) is None:
        usual = kind.args is hooks.Hook.args
        names = _FIELDS[kind] = tuple(field.name for field in fields(kind)) if usual else ()  # type: ignore[arg-type]
    return [getattr(event, name) for name in names] if names else event.args()


_FIELDS: dict[type[hooks.Hook], tuple[str, ...]] = {}


def _is_dynamic(addon: Any) -> bool:
    """Whether looking at its attributes and its class does not tell what this addon has."""
    kind = type(addon)
    if isinstance(addon, ModuleType) and "__getattr__" in vars(addon):
        return True
    usual: tuple[object, ...] = (object.__getattribute__, ModuleType.__getattribute__)
    return kind.__getattribute__ not in usual or isinstance(addon, type) or hasattr(kind, "__getattr__")


def _equality(addon: Any) -> object:
    return type(addon).__eq__


def _attributes(addon: Any) -> Mapping[str, Any]:
    return vars(addon) if hasattr(addon, "__dict__") else {}


def _could_have(addon: Any, name: str) -> bool:
    return name in _attributes(addon) or any(name in vars(each) for each in type(addon).__mro__)


def _has_still(addon: Any, listed: Sequence[Any]) -> bool:
    return all(map(is_, addon.addons, listed))


def _log(error: Exception) -> None:
    """As mitmproxy logs an error of an addon, from the handler's frame on."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__ and trace.tb_next is not None:
        trace = trace.tb_next
    addonmanager.logger.error(f"Addon error: {error}", exc_info=(type(error), error, trace))
