"""The mitmproxy addon: options, hooks and commands. The only file that reads ``ctx``.

mitmproxy goes on after an exception in an addon. So no hook here decides anything that a secret depends on: that is
the layer's business, and the hooks only make it possible.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mitmproxy import connection, ctx, exceptions, flow, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import layer, server_hooks
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode, UpstreamMode
from OpenSSL import SSL

from understudy import options
from understudy.codec.yaml_nodes import RuleError
from understudy.config import FileChange, WatchedFile, pool_file
from understudy.control.control import Control
from understudy.control.mitmproxy_commands import Commands, FlowCommands
from understudy.control.presence import Presence
from understudy.control.server import ControlServer, answers
from understudy.control.target import ControlError
from understudy.dialects import DIALECTS
from understudy.failover import Seen
from understudy.inspection import Tallies, flow_list
from understudy.inspection.outlets import Inspection
from understudy.inspection.tallies import CountingJournal
from understudy.limits import LimitTable, load_table
from understudy.model import Pool, Upstream, counted
from understudy.proxy import garbage, shortcuts, tunnel
from understudy.proxy.descriptors import Descriptors
from understudy.proxy.engine import NO_REMOTE, Engine
from understudy.proxy.install import install
from understudy.proxy.listener import Abandoned, Aside, Fetch, ShortTurns
from understudy.proxy.socket_owner import LocalUsers, user_ids
from understudy.proxy.upstream_connection import close_socket, lift_connection_limit
from understudy.proxy.worker import NUMBER, PAUSE, Drain, Lifeline
from understudy.rules import INTERVAL, Looked, RuleLibrary
from understudy.shared import Sharing
from understudy.suspensions.persistence import StateKeeper

logger = logging.getLogger("understudy")

UNCHECKED = (None, "", "any")
"""Values of ``proxyauth`` with which a user's name at the proxy proves nothing."""
NO_NAMES = (
    "understudy: `who` in the pool file limits {routes} to some users, and this proxy checks no user's name, so these "
    "candidates are asked for no call: set proxyauth to a file of users"
)
FIRST_LOOKS = 50
"""How often a proxy that has just begun looks, until the first interval is over, whether it can be used already."""
UPLOAD = re.compile(r"/files(?:\?|$)")
BEYOND = "understudy_beyond"
"""The attribute of a connection that says whether its listener can be reached from other machines."""
NO_DEBUG = (
    "proxy_debug prints everything that is sent, secrets included, so it cannot be used together with a pool: "
    "leave it off, and look at the flows instead"
)


class Understudy:
    """One instance per mitmproxy process."""

    name = "understudy"

    def __init__(self) -> None:
        self.library = RuleLibrary()
        self.users = LocalUsers()
        self.engine = Engine(
            self.library.ruleset,
            is_remote=self.is_remote,
            stranger=self.stranger,
            checks_users=lambda: getattr(ctx.options, "proxyauth", None) not in UNCHECKED,
            is_another_user=self.users.is_another,
        )
        self.tallies = Tallies(self.engine.clock)
        self.inspection = Inspection(
            CountingJournal(self.tallies),
            lambda attempt, tool: flow_list.show(ctx.master, attempt, tool),
            lambda: self.engine.suspensions,
        )
        self.journal = self.inspection.journal
        self.journal.is_recorded = lambda: flow_list.is_recorded(ctx.master)
        self.uninstall: Callable[[], None] = lambda: None
        self.unmask_logs: Callable[[], None] = lambda: None
        self.leave_shortcuts: list[Callable[[], None]] = []
        self._aside = ThreadPoolExecutor(1, "understudy aside")
        self.turns = ShortTurns()
        self.presence = Presence()
        self.keeper = StateKeeper(self.engine.suspensions, [self.tallies.usage])
        self.sharing = Sharing(self.engine.suspensions, self.engine.memory.ledger)
        self.control = Control(
            self.engine,
            self.reload,
            self.closed,
            self.tallies,
            lambda: self.sharing.state,
            lambda seconds, then: asyncio.get_running_loop().call_later(seconds, then),
        )
        self.server = ControlServer(answers(self.control))
        self.leave_web: Callable[[], None] = lambda: None
        self.watched = WatchedFile()
        self._pool_rules: tuple[str, ...] = ()
        self._until_reset = 0.0
        """Seconds, of the routes whose pool file does not say it."""
        self.descriptors = Descriptors(self.engine.clock)
        self.drain: Drain | None = None
        self._stopped = False
        self._left_open: Set[ProxyMode] = frozenset()
        """The modes that a stranger could reach while this worker listened."""
        self._tasks: list[asyncio.Task[None]] = []
        self._ours: dict[str, tuple[object, object]] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    def load(self, loader: Loader) -> None:
        """Add the options and put the layer in place."""
        options.add(loader)
        # Not as addons of their own: mitmproxy asks every addon at every hook.
        loader.master.commands.collect_commands(Commands(self.control))
        flow_commands = FlowCommands(lambda: self.library.folders, lambda: self.engine.ruleset, self._in_view)
        loader.master.commands.collect_commands(flow_commands)
        # With eager connections, a host that cannot be reached fails before anything could be rescued.
        self._set("connection_strategy", "lazy")
        self.uninstall = install(self.engine, self.journal)
        self.unmask_logs = self.engine.gate.open()
        self.inspection.open()

    def configure(self, updated: Set[str]) -> None:
        """Read the pool file when its option changes. Raises OptionsError; the last good pool stays in use."""
        if "proxy_debug" in updated and ctx.options.proxy_debug:
            raise exceptions.OptionsError(NO_DEBUG)
        if "pool_shortcuts" in updated:
            self.take_shortcuts(wanted=ctx.options.pool_shortcuts)
        if "pool_keep_streams" in updated:
            self.engine.keep_stream = ctx.options.pool_keep_streams
        if "pool_mask_streams" in updated:
            self.engine.mask_streams = ctx.options.pool_mask_streams
        if "pool_attempt_flows" in updated:
            self.engine.attempt_flows = ctx.options.pool_attempt_flows
        try:
            if "pool_journal" in updated:
                self.inspection.write_to(ctx.options.pool_journal)
            if {"pool_metrics", "pool_metrics_port"} & updated:
                self.inspection.count(wanted=ctx.options.pool_metrics, port=ctx.options.pool_metrics_port)
        except ValueError as problem:
            raise exceptions.OptionsError(str(problem)) from None
        if "pool_connect_timeout" in updated:
            self.engine.connect_limit = options.seconds("pool_connect_timeout", ctx.options.pool_connect_timeout)
        if "pool_request_limit" in updated:
            self.engine.request_limit = options.size("pool_request_limit", ctx.options.pool_request_limit)
        if "pool_users" in updated:
            try:
                self.users.more = user_ids(ctx.options.pool_users)
            except ValueError as problem:
                raise exceptions.OptionsError(f"pool_users: {problem}") from None
        if "pool_rules" in updated and (ctx.options.pool_rules or self.library.folders):
            self.read_rules(self._pool_rules)
        if "pool_wait" in updated:
            wait, self._until_reset = self._until_reset, options.hold("pool_wait", ctx.options.pool_wait)
            if wait != self._until_reset and self.engine.snapshot is not None and "pool_file" not in updated:
                self.read_pool()
        if "pool_file" in updated:
            self.read_pool()
        if "pool_control" in updated and self._tasks:
            self.let_control()

    def running(self) -> None:
        """Say at once what would otherwise be said at the first call, and look after the rule folders."""
        self.announce()
        loop = asyncio.get_running_loop()
        self.descriptors.open(loop)
        self._tasks = [
            loop.create_task(self._watch_rules(), name="understudy rules"),
            loop.create_task(self.keeper.keep(), name="understudy state"),
        ]
        self.sharing.open()
        if NUMBER in os.environ:
            self.drain = Drain(ctx.master.addons.get("proxyserver"), self._stop_listening, ctx.master.shutdown)
            ctx.master.addons.add(self.drain)
            self.drain.listen(loop)
            Lifeline(os.environ).ready(loop, partial(self.drain.begin, PAUSE))
        self.let_control()
        if (web := getattr(ctx.master, "app", None)) is not None:
            from understudy.control import page  # here: mitmdump has no use for a web server

            self.leave_web()
            self.leave_web = page.serve(web, self.control, self.metrics, self._theme)
            logger.info(f"understudy: the pool page is {page.address(str(getattr(ctx.master, 'web_url', '/')))}")
        garbage.wake()
        if self.leave_shortcuts:
            # Not all of them anew: a connection that is there already would go on without.
            self.leave_shortcuts.append(garbage.settle())
        else:
            self.take_shortcuts(wanted=ctx.options.pool_shortcuts)
        garbage.give_back()
        if self.engine.snapshot is not None and any(self._is_open(server) for server in self._servers()):
            logger.warning(NO_REMOTE)
        self._warn_of_users()

    def done(self) -> None:
        """Leave mitmproxy as it was."""
        for task in self._tasks:
            task.cancel()
        self.control.drills.close()
        self._aside.shutdown(wait=False, cancel_futures=True)
        self.descriptors.close()
        self.presence.withdraw()
        self.server.close()
        self.leave_web()
        self.uninstall()
        self.take_shortcuts(wanted=False)
        self.sharing.close()
        if self.drain is not None:
            self.drain.close()
        self.keeper.close()
        self.inspection.close()
        for name, (before, ours) in self._ours.items():
            if getattr(ctx.options, name) == ours:
                ctx.options.update(**{name: before})
        self.unmask_logs()

    def take_shortcuts(self, *, wanted: bool) -> None:
        """Put the shorter ways through mitmproxy's core in place, or take them out without a trace."""
        for leave in reversed(self.leave_shortcuts):
            leave()
        self.leave_shortcuts = []
        if wanted:
            self.leave_shortcuts = [shortcuts.install(ctx.master.addons)]
            if self._tasks:
                # What is loaded by now stays for good.
                self.leave_shortcuts.append(garbage.settle())

    def read_pool(self) -> None:
        """Load the pool file. Raises OptionsError with all its problems."""
        named = ctx.options.pool_file
        try:
            # Absolute, because it is told to others, who are elsewhere.
            path = Path(named).expanduser().absolute() if named else pool_file.default_pool_path(os.environ)
            # Looked at before reading: a file that is written meanwhile is read again at the next look.
            self.watched.read(path)
            if not named and not path.exists():
                logger.warning(
                    f"understudy: no pool file at {path}, so no call uses a pool: write one, or set pool_file"
                )
                return
            warnings: list[pool_file.Problem] = []
            pool = pool_file.load(path, os.environ, DIALECTS, warnings, self._until_reset)
        except pool_file.ConfigError as error:
            raise exceptions.OptionsError(f"understudy: the pool file cannot be used\n{error}") from None
        if pool.rules != self._pool_rules:
            self.read_rules(pool.rules)
        self.watched.wanted, self._pool_rules = pool.auto_reload, pool.rules
        # First, so that what the pool no longer has goes out with the rest.
        self.keeper.use(pool)
        self.engine.use(pool)
        self.control.drills.use(pool)
        # Last: what the state file brings back may have been resumed elsewhere since, and is not told.
        self.sharing.use(pool)
        for warning in (*warnings, *pool_file.lint(pool)):
            logger.warning(f"understudy: {warning}")
        counts = f"{counted(len(pool.routes), 'route')} over {counted(len(pool.credentials), 'credential')}"
        logger.info(f"understudy: {counts} from {path}")
        if self._tasks:  # before that, options are still being set
            self._warn_of_users()

    def reload(self) -> None:
        """Read the pool file again. Raises ControlError; the last good pool stays in use."""
        try:
            self.read_pool()
        except exceptions.OptionsError as error:
            raise ControlError(str(error)) from None

    def let_control(self) -> None:
        """Listen for the shell's commands, or stop to, as the option says."""
        if not ctx.options.pool_control or os.name != "posix":
            self.server.close()
            return
        try:
            self.server.open(os.environ)
        except OSError as error:
            logger.warning(f"understudy: the shell cannot control this proxy: {error}")

    def read_rules(self, of_pool: Sequence[str]) -> None:
        """Load the rule folders, those of the option first, and then those of the pool file.

        Raises OptionsError with all their problems; the last good rules stay in use.
        """
        folders = [*ctx.options.pool_rules, *of_pool]
        try:
            limits = load_table([Path(folder).expanduser().absolute() for folder in folders if folder])
            self.engine.use_rules(self.library.use(folders), limits)
        except RuleError as error:
            raise exceptions.OptionsError(f"understudy: the rule folders cannot be used\n{error}") from None
        logger.info(f"understudy: {counted(len(self.library.ruleset.rules), 'rule')} in use")

    def announce(self) -> None:
        """Let ``understudy run`` find this proxy: listeners and pool may have changed."""
        if self._stopped:
            return
        self.presence.tell(
            self.engine.snapshot,
            self._servers(),
            ctx.options.confdir,
            password=bool(getattr(ctx.options, "proxyauth", None)),
            allow_remote=ctx.options.pool_allow_remote,
            rules=ctx.options.pool_rules,
        )

    async def _watch_rules(self) -> None:
        for _ in range(FIRST_LOOKS):
            if self.presence.is_told:
                break
            # On its very first start mitmproxy makes its CA only now, and `understudy run` waits for both.
            await asyncio.sleep(INTERVAL / FIRST_LOOKS)
            self.announce()
        while True:
            await asyncio.sleep(INTERVAL)
            self.announce()
            self._look_at_pool()
            # In a thread: while another one computes, each call of the operating system takes the loop milliseconds.
            seen, looked, limits = await asyncio.to_thread(self._look_at_files)
            for name in self.engine.identities.take(seen):
                logger.info(f"understudy: the secret of {name} has changed: what was suspended for it is forgotten")
            if looked is not None:
                self._take_rules(looked, limits)

    def _look_at_files(self) -> tuple[Seen, Looked | None, LimitTable | RuleError | None]:
        """Read the secrets, and the rules and limits where a file has changed. Changes nothing."""
        seen, looked = self.engine.identities.read(), self.library.look()
        if looked is None:
            return seen, None, None
        try:
            return seen, looked, load_table(looked.folders)
        except RuleError as error:
            return seen, looked, error

    def _take_rules(self, looked: Looked, limits: LimitTable | RuleError | None) -> None:
        """Use the rules that have changed; broken ones leave the last good rules in use."""
        try:
            ruleset = self.library.take(looked)
            if isinstance(limits, RuleError):
                raise limits
        except RuleError as error:
            logger.error(f"understudy: the changed rules cannot be used, the last good rules stay in use\n{error}")
            return
        if ruleset is not None:
            self.engine.use_rules(ruleset, limits)
            logger.info(f"understudy: rules were read again, {len(ruleset.rules)} of them")

    def _look_at_pool(self) -> None:
        """Read the pool file when it has changed; a broken one leaves the last good pool in use."""
        match self.watched.look():
            case FileChange.GONE:
                logger.warning(
                    f"understudy: the pool file {self.watched.path} is gone: the pool that was read last stays in use"
                )
            case FileChange.CHANGED:
                logger.info(f"understudy: the pool file {self.watched.path} has changed and is read again")
                try:
                    self.read_pool()
                except exceptions.OptionsError as error:
                    logger.error(f"{error}\nunderstudy: the last good pool stays in use")

    def _set(self, name: str, value: object) -> None:
        before = getattr(ctx.options, name)
        if before != value:
            self._ours[name] = (before, value)
            ctx.options.update(**{name: value})

    # -- hooks ---------------------------------------------------------------------------------------------------

    def next_layer(self, question: layer.NextLayer) -> None:
        """Tunnel what is not pooled."""
        snapshot = self.engine.snapshot
        if ctx.options.pool_decrypt == "all":
            return
        tunnel.decide(question, snapshot.sites.pooled if snapshot else lambda host, port: False)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Let all requests of one client connection reach a pooled upstream at once."""
        address, mode = data.server.address, data.client.proxy_mode
        via = isinstance(mode, UpstreamMode) and address == mode.address
        if via or any((each.host, each.port) == address for each in self._upstreams()):
            lift_connection_limit(ctx.master, data.client, address)

    def tls_start_server(self, data: tls.TlsData) -> None:
        """Note whose certificate is not checked, and do not check where the pool file says so."""
        address = data.conn.address if isinstance(data.conn, connection.Server) else None
        here = [each for each in self._upstreams() if (each.host, each.port) == address]
        waived = bool(here) and not any(each.verify for each in here)
        if waived or ctx.options.ssl_insecure:
            self.engine.unverified.add(data.conn.id)
        if waived and not ctx.options.ssl_insecure:
            if data.ssl_conn is None:
                # mitmproxy's own addon makes the connection, and leaves one alone that is there already.
                ctx.master.addons.get("tlsconfig").tls_start_server(data)
            if data.ssl_conn is not None:
                data.ssl_conn.set_verify(SSL.VERIFY_NONE, lambda *_: True)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Forget what was noted about a connection, and see that it is closed."""
        self.engine.unverified.discard(data.server.id)
        close_socket(ctx.master, data.client, data.server)

    def response(self, flow: http.HTTPFlow) -> None:
        """Files that a tool uploads by itself live in its own account."""
        if flow.request.method != "POST" or not UPLOAD.search(flow.request.path):
            return
        snapshot, response = self.engine.snapshot, flow.response
        if response is None or not 200 <= response.status_code < 300 or not response.data.content:
            return
        if snapshot is not None and snapshot.sites.pooled(flow.request.host, flow.request.port):
            self.engine.memory.learn_upload(response.data.content)

    async def understudy_secret(self, fetch: Fetch) -> None:
        """A request waits for the secret that a command prints; the others go on."""
        await fetch.source.fetch(fetch.rejected)

    async def understudy_aside(self, aside: Aside[Any]) -> None:
        """A large request is read or written; the others go on."""
        # One at a time: a decoded body has its bound, and so have all of them together.
        with self.turns:
            await asyncio.get_running_loop().run_in_executor(self._aside, aside.do)

    def understudy_attempt(self, abandoned: Abandoned) -> None:
        """An attempt was not the one for the tool."""
        self.journal.abandoned(abandoned)

    # -- questions -----------------------------------------------------------------------------------------------

    def is_remote(self, client: connection.Client) -> bool:
        """Whether this client came in over a listener that a stranger can reach (law 12)."""
        if self._left_open and client.proxy_mode in self._left_open:
            return True
        beyond: bool | None = getattr(client, BEYOND, None)
        if beyond is False or _lets_all_in():
            return False
        if beyond is None:
            servers = [server for server in self._servers() if server.mode == client.proxy_mode]
            # A server that does not listen yet, or any more, says nothing for the connection's next request.
            beyond = any(_is_beyond(server) for server in servers)
            if any(server.listen_addrs for server in servers):
                setattr(client, BEYOND, beyond)
        return beyond

    def stranger(self, client: connection.Client) -> str:
        """Which other user of this machine the client is (law 12), unless it had to give a password; "" for none."""
        who = self.users.stranger(client)
        return who if who and not ctx.options.proxyauth else ""

    def _warn_of_users(self) -> None:
        """Say so where candidates are for some users, and no call has a user's name."""
        routes = self.engine.snapshot.pool.routes.values() if self.engine.snapshot is not None else ()
        limited = [route.pattern for route in routes if route.is_limited]
        if limited and not self.engine.checks_users():
            logger.warning(NO_NAMES.format(routes=", ".join(limited[:10])))

    def _stop_listening(self) -> None:
        # A listener that is closed has no address to tell, and its connections go on.
        self._left_open = frozenset(server.mode for server in self._servers() if self._is_open(server))
        self.presence.withdraw()
        self._stopped = True

    def closed(self, pool: Pool) -> Mapping[str, str]:
        """The upstreams that get no secret as this proxy is set up, each with the reason."""
        via = any(isinstance(server.mode, UpstreamMode) for server in self._servers())
        return self.engine.blocked(pool, via=via, insecure=ctx.options.ssl_insecure)

    def metrics(self) -> tuple[bytes, str]:
        """Metrics as Prometheus text, and its type. Raises LookupError with what to do when there are none."""
        counted = self.inspection.metrics
        if counted is None:
            raise LookupError(
                "no metrics are collected: set pool_metrics=true (it needs `mitmproxy-understudy[metrics]`)"
            )
        return counted.render(), counted.content_type

    @staticmethod
    def _theme() -> str:
        """The one that mitmweb is set to; before 12.3 it has none."""
        return str(getattr(ctx.options, "web_theme", "system"))

    def _servers(self) -> Sequence[ServerInstance[Any]]:
        return list(ctx.master.addons.get("proxyserver").servers)

    @staticmethod
    def _is_open(server: ServerInstance[Any]) -> bool:
        return _is_beyond(server) and not _lets_all_in()

    @staticmethod
    def _in_view() -> Sequence[flow.Flow]:
        return list(ctx.master.addons.get("view") or ())

    def _upstreams(self) -> list[Upstream]:
        return list(self.engine.snapshot.pool.upstreams.values()) if self.engine.snapshot else []


def _lets_all_in() -> bool:
    """Whether who comes from elsewhere may use the pool, or has to know a password for it."""
    return bool(ctx.options.pool_allow_remote or getattr(ctx.options, "proxyauth", None))


def _is_beyond(server: ServerInstance[Any]) -> bool:
    """Whether a listener can be reached from other machines."""
    return any(not _is_loopback(address[0]) for address in server.listen_addrs)


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
