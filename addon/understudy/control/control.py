"""What the owner can ask of a running proxy, and tell it: status, explain, pick, suspend, resume, probe, reload.

One place for mitmproxy's commands and for the shell: words in, plain values out. Errors are ``ControlError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from understudy.codec.steady_clock import ahead_of
from understudy.config import dialects_named, suggestion
from understudy.control import learned
from understudy.control.drills import DrillResult, Drills, Later
from understudy.control.learned import LearnedResult
from understudy.control.pool_view import Overview, PoolView, out_of_use
from understudy.control.results import Outcome, Pick, Probed, Reloaded, Result, Resumed, Several, Suspended
from understudy.control.status import Explanation, entry_of, explain
from understudy.control.target import FORMS, ControlError, take_seconds, take_target
from understudy.control.usage import report
from understudy.control.usage_report import UsageReport
from understudy.failover import Attempt, Exchange, Refuse, Request, Wait, own_name
from understudy.inspection import Tallies
from understudy.model import BY_HAND, Key, Label, Pool, Route, Scope, Suspension, counted, printable
from understudy.proxy.engine import Engine, Snapshot
from understudy.shared import SharingState

HOUR = 3600.0
"""How long a suspension by hand lasts when nothing is said."""


class Control:
    """The commands of one engine.

    ``reload`` reads the pool file again, and raises ControlError. ``closed(pool)`` tells which upstreams may get no
    secret as the proxy is set up now, and why. ``tallies``: what is counted. ``standing()``: how the
    proxy stands with those that it shares with. ``later``: what ends a drill in time.
    """

    def __init__(
        self,
        engine: Engine,
        reload: Callable[[], None],
        closed: Callable[[Pool], Mapping[str, str]],
        tallies: Tallies,
        standing: Callable[[], SharingState | None] = lambda: None,
        later: Later = lambda seconds, then: None,
    ) -> None:
        self.engine = engine
        self.tallies = tallies
        self.drills = Drills(engine, later)
        self.view = PoolView(engine, tallies, closed, standing, self.drills)
        self._reload = reload
        self._closed = closed
        self._commands: Mapping[str, Callable[[Sequence[str], str], Result]] = {
            "status": lambda words, who: self.status(*_count(words, 0, 0, "status")),
            "explain": lambda words, who: self.explain(*_asked(words, "explain")),
            "suspend": self.suspend,
            "resume": lambda words, who: self.resume(words),
            "probe": lambda words, who: self.probe(words),
            "reload": lambda words, who: self.reload(*_count(words, 0, 0, "reload")),
            "pick": lambda words, who: self.pick(*_asked(words, "pick")),
            "learned": lambda words, who: self.learned(words),
            "usage": lambda words, who: self.usage(_count(words, 0, 2, "usage [SINCE] [GROUPS]")),
            "drill": self.drill,
        }

    def run(self, command: str, words: Sequence[str], who: str) -> Result:
        """Follow a command. ``who``: whom a suspension by hand names. Raises ControlError."""
        if command not in self._commands:
            raise ControlError(f"there is no command `{printable(command)}`: {suggestion(command, self._commands)}")
        return self._commands[command](words, who)

    # -- questions -----------------------------------------------------------------------------------------------

    def status(self) -> Overview:
        """Everything that is out of rotation, every route, and the last exchanges."""
        return self.view.overview()

    def explain(self, alias: str, dialect: str = "", user: str = "") -> Several[Explanation]:
        """Who can answer for an alias, who cannot, why, and until when. ``user``: only what is for that user."""
        snapshot = self._snapshot()
        return Several(
            tuple(
                explain(
                    self._request(snapshot, alias),
                    snapshot.selector.lineup(snapshot.route_for(route, user) if user else route, alias, each),
                    snapshot.selector,
                    self.tallies,
                    self.engine.pacing,
                )
                for each, route in self._routes(snapshot, alias, dialect)
            )
        )

    def pick(self, alias: str, dialect: str = "", user: str = "") -> Several[Pick]:
        """Who would serve an alias now? Asks the decision machine itself, as a request that generates nothing.

        ``user``: the user of the proxy whose request it would be, "" for one without a name.
        """
        snapshot = self._snapshot()
        routes = self._routes(snapshot, alias, dialect)
        return Several(
            tuple(self._pick(snapshot, alias, each, snapshot.route_for(route, user), user) for each, route in routes)
        )

    def _pick(self, snapshot: Snapshot, alias: str, dialect: str, route: Route, user: str) -> Pick:
        now, selector = self.engine.clock(), snapshot.selector
        request = replace(self._request(snapshot, alias), user=user)
        lineup = selector.lineup(route, alias, dialect)
        exchange = Exchange(request, lineup, selector, snapshot.ruleset, now, self.engine.random)
        name = printable(alias)
        match exchange.begin(now):
            case Attempt(candidate=candidate):
                credential, model = candidate.credential.name, printable(candidate.model)
                return Pick(name, dialect, route.pattern, Outcome.SENT, credential, model)
            case Wait(seconds=seconds, reason=reason):
                return Pick(name, dialect, route.pattern, Outcome.WAITS, seconds=seconds, reason=reason)
            case Refuse(message=message):
                return Pick(name, dialect, route.pattern, Outcome.REFUSED, reason=message)
            case step:
                raise AssertionError(f"an exchange that begins with {step}")

    def usage(self, words: Sequence[str]) -> UsageReport:
        """The tokens that each candidate has given: since when, and by what they are grouped."""
        pool = self.engine.snapshot.pool if self.engine.snapshot else Pool()
        return report(self.tallies.usage, pool, words)

    # -- changes -------------------------------------------------------------------------------------------------

    def learned(self, words: Sequence[str]) -> LearnedResult:
        """What comparing candidates has taught: list, explain, forget, or draft a rule of it."""
        return learned.answer(self.engine.suspensions.learned, words)

    def drill(self, words: Sequence[str], who: str) -> DrillResult:
        """Begin a drill, end it, or tell how it goes."""
        return self.drills.run(words, who)

    def suspend(self, words: Sequence[str], who: str) -> Suspended:
        """Take something out of rotation: a target, then maybe a time."""
        suspensions = self.engine.suspensions
        key, rest = take_target(words, self._snapshot().pool)
        now, seconds = self.engine.clock(), take_seconds(rest, HOUR)
        running, until = suspensions.get(key), now + seconds
        if running is not None and not running.stated:
            # A hand means it: also where the route has no other candidate, which only a stated window keeps out.
            until = max(until, math.nextafter(running.until, math.inf))
        suspension = Suspension(key, now, until, Label.UNKNOWN, BY_HAND, f"set by {printable(who)}")
        held = suspensions.suspend(suspension)
        entry = entry_of(suspensions, key, now)
        if held is None or entry is None:
            raise ControlError("there are too many suspensions to remember another: resume some first")
        return Suspended(entry, now + self._ahead, kept=held.rule != BY_HAND or held.until > until)

    def resume(self, words: Sequence[str]) -> Resumed:
        """Put something back: a target with everything that is behind it, or ``all``."""
        suspensions = self.engine.suspensions
        pool = self.engine.snapshot.pool if self.engine.snapshot else Pool()
        now, keys = self.engine.clock(), suspensions.known()
        if list(words) == ["all"]:
            target, wanted, above = "all", keys, []
        elif not words:
            raise ControlError(f"a target is missing: write {FORMS}, or `all`")
        else:
            key, rest = take_target(words, pool, keys)
            if rest:
                raise ControlError(f"too many words: write {FORMS}, or `all`")
            target, wanted, above = str(key), [each for each in keys if _is_within(each, key, pool)], _above(key, pool)
        entries = [entry for each in wanted if (entry := entry_of(suspensions, each, now)) is not None]
        if target == "all":
            suspensions.resume_all()
        else:
            for each in wanted:
                suspensions.resume(each)
        left = [entry for each in above if (entry := entry_of(suspensions, each, now)) is not None]
        return Resumed(target, now + self._ahead, tuple(entries), tuple(left))

    def probe(self, words: Sequence[str]) -> Probed:
        """Let the next request ask a target early: it and what covers it are half-open from now on, and not free."""
        suspensions, pool = self.engine.suspensions, self._snapshot().pool
        key, rest = take_target(words, pool, suspensions.known())
        if rest:
            raise ControlError(f"too many words: write {FORMS}")
        now, keys = self.engine.clock(), [key, *_above(key, pool)]
        entries = [entry for each in keys if (entry := entry_of(suspensions, each, now)) is not None]
        for each in keys:
            suspensions.make_due(each)
        return Probed(str(key), now + self._ahead, tuple(entries))

    def reload(self) -> Reloaded:
        """Read the pool file again; with an error the last good pool stays in use."""
        self._reload()
        pool = self._snapshot().pool
        return Reloaded(pool.path, len(pool.routes), len(pool.credentials), out_of_use(pool))

    @property
    def _ahead(self) -> float:
        return ahead_of(self.engine.clock)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        if self.engine.snapshot is None:
            raise ControlError("there is no pool: write a pool file, or set pool_file")
        return self.engine.snapshot

    def _request(self, snapshot: Snapshot, alias: str) -> Request:
        return Request(alias, generating=False, streamed=False, blocked=self._closed(snapshot.pool))

    @staticmethod
    def _routes(snapshot: Snapshot, alias: str, dialect: str) -> list[tuple[str, Route]]:
        pool = snapshot.pool
        dialects = sorted({dialect for each in pool.upstreams.values() for dialect in each.dialects})
        known = {dialect for each in pool.upstreams.values() for dialect in each.all_dialects}
        if dialect and dialect not in known:
            raise ControlError(f"no upstream speaks `{printable(dialect)}`: {suggestion(dialect, known)}")
        # First the dialect of the vendor whose models are called so: the tools that ask for it most likely speak that.
        named = dialects_named(alias)
        wanted = [dialect] if dialect else sorted(dialects, key=lambda each: (each not in named, each))
        found = [(each, route) for each in wanted if (route := pool.route(alias, each)) is not None]
        if not found:
            kept = "such a call keeps the tool's own credential"
            raise ControlError(f"no route takes `{printable(alias)}`: {kept}; {suggestion(alias, pool.routes)}")
        return found


def _asked(words: Sequence[str], command: str) -> Sequence[str]:
    """Alias, dialect and user of ``ALIAS [DIALECT] [for USER]``."""
    user = ""
    if len(words) > 2 and words[-2] == "for":
        words, user = words[:-2], words[-1]
    alias, *dialect = _count(words, 1, 2, f"{command} ALIAS [DIALECT] [for USER]")
    return alias, *(dialect or [""]), user


def _count(words: Sequence[str], least: int, most: int, usage: str) -> Sequence[str]:
    if not least <= len(words) <= most:
        raise ControlError(f"{counted(len(words), 'word')} after the command: write `{usage}`")
    return words


def _is_within(key: Key, target: Key, pool: Pool) -> bool:
    """Whether a key is the target, or something behind it."""
    key = key._replace(drill=False)  # also what a drill has made up of it
    if key == target:
        return True
    credential = pool.credentials.get(own_name(key.name)) if key.scope is not Scope.UPSTREAM else None
    match target.scope:
        case Scope.CANDIDATE:
            return False
        case Scope.CREDENTIAL:
            # Several tools' own credentials stand under one name in the pool file.
            return key.scope is not Scope.UPSTREAM and target.name in (key.name, own_name(key.name))
        case Scope.UPSTREAM:
            return credential is not None and credential.upstream.name == target.name


def _above(key: Key, pool: Pool) -> list[Key]:
    """What covers a key besides itself."""
    credential = pool.credentials.get(own_name(key.name)) if key.scope is not Scope.UPSTREAM else None
    own = [Key(Scope.CREDENTIAL, key.name)] if key.scope is Scope.CANDIDATE else []
    return [*own, *([Key(Scope.UPSTREAM, credential.upstream.name)] if credential else [])]
