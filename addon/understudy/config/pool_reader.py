"""A parsed pool file -> Pool: which keys there are, and how upstreams, credentials and routes refer to each other.

It goes on after each problem, so that a person sees all of them at once. Its values are stand-ins where the file is
wrong; ``config`` returns the pool only when there was no problem.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import override
from urllib.parse import urlsplit

from understudy.codec.masking import shown
from understudy.codec.yaml_nodes import Kind, Scalar, Table, Value
from understudy.config import fields
from understudy.config.fields import Absent, Wrong
from understudy.config.secrets import aws
from understudy.config.secrets.reader import SecretReader
from understudy.config.unreachable_routes import unreachable
from understudy.dialects import Dialect
from understudy.model import (
    Affinity,
    Budget,
    Choice,
    Credential,
    HoldUntil,
    Intercept,
    Label,
    Mode,
    Override,
    Pool,
    Price,
    Relatives,
    Route,
    SecretError,
    SecretSource,
    SigningSource,
    Source,
    Store,
    Strategy,
    Upstream,
    WebSocket,
    WhenSealed,
    is_glob,
    specificity,
)

_STORE_KEYS = ("prefix", "user", "password", "ca", "timeout")
_ANSWER = 0.1
"""Seconds that the server has for an answer: one that hangs is worse than one that is gone."""
RESERVE = 0.02
"""The share of a limit below which a candidate goes behind its equals, where nothing is said."""
HOLD_FOR = 6 * 3600.0
"""Seconds that ``until_reset: true`` stands for: a little more than the window of five hours that most plans have."""
MOST_HOURS = 168
"""The most that ``until_reset`` can be."""
_STATE_KEYS = ("file", "url", *_STORE_KEYS)
_STATE = "write `{file: PATH}`, or `{url: redis://HOST:6379, prefix: NAME}`"
_PRICE_KEYS = ("input", "output", "cached", "written")
_PRICES = "write what a million tokens cost, such as `{gpt-5*: {input: 1.25, cached: 0.125, output: 10}}`"
_CANDIDATES = "write a list such as `[work, {credential: router, model: openai/gpt-5}]`"


class _NoSecret(Source):
    """Stands in for a secret that is missing or could not be read, so that reading can go on."""

    __slots__ = ()

    def reveal(self) -> str:
        raise SecretError("this secret could not be read")

    @override
    def __repr__(self) -> str:
        return "<no secret>"


class PoolReader(SecretReader):
    """Reads one pool file; ``problems`` and ``warnings`` grow while it does.

    ``until_reset``: the seconds of the routes that do not say it themselves.
    """

    def __init__(
        self, path: Path, environ: Mapping[str, str], dialects: Mapping[str, Dialect], until_reset: float = 0.0
    ) -> None:
        super().__init__(path, environ)
        self.until_reset = until_reset
        self.dialects = dialects
        self.upstreams: dict[str, Upstream | None] = {}
        self.credentials: dict[str, Credential | None] = {}
        self._reserve = 0.0
        self._missing: list[tuple[str, int, Absent]] = []
        """The credentials without a secret: name, line, and what is missing."""

    def read(self, value: Value) -> Pool:
        """Read the whole document."""
        keys = (
            *("upstreams", "credentials", "routes", "budget", "intercept", "replay_after_sent"),
            *("affinity", "state", "models", "rules", "auto_reload", "reserve", "ramp", "websocket"),
        )
        document = self._table(value, keys, "write upstreams, credentials and routes")
        for key, item in self._section(document, "upstreams"):
            self.upstreams[key.text] = self._upstream(key, item)
        for key, item in self._section(document, "credentials"):
            self.credentials[key.text] = self._credential(key, item)
        self._report_missing()
        budget = self._field(document, "budget", lambda value: self._budget(value, Budget()), Budget())
        self._reserve = self._field(document, "reserve", _share, RESERVE)
        routes: dict[str, Route] = {}
        lines: dict[str, int] = {}
        for key, item in self._section(document, "routes"):
            routes[key.text], lines[key.text] = self._route(key, item, budget), key.line
        for pattern, what, write in unreachable(routes.values()):
            self._add(lines[pattern], what, write)
        return Pool(
            upstreams={name: upstream for name, upstream in self.upstreams.items() if upstream},
            credentials={name: credential for name, credential in self.credentials.items() if credential},
            routes=routes,
            intercept=self._field(document, "intercept", self._intercepts, ()),
            replay_after_sent=self._field(document, "replay_after_sent", fields.boolean, True),
            unite_models=self._field(document, "models", self._models, False),
            path=str(self.path),
            affinity=self._field(document, "affinity", self._seconds_of_affinity, Pool.affinity),
            state=self._field(document, "state", self._state_file, ""),
            store=self._field(document, "state", self._store, None),
            rules=self._field(document, "rules", self._rules, ()),
            auto_reload=self._field(document, "auto_reload", fields.boolean, True),
            ramp=self._field(document, "ramp", lambda value: fields.number(value, 0, 600, "seconds"), Pool.ramp),
            websocket=self._field(
                document, "websocket", lambda value: self._word(value, "websocket", WebSocket), WebSocket.AUTO
            ),
        )

    def _rules(self, value: Value) -> tuple[str, ...]:
        """Rule folders, absolute; what is in them is the rule library's to say."""
        example = "write a list of folders such as `[~/my-rules]`"
        found: dict[str, None] = {}
        for item in fields.listing(value, example).items:
            with self._noting(item.line):
                written = fields.text(item, "a rule folder")
                folder = self._place(written)
                if not folder.is_dir():
                    raise Wrong(f"there is no folder {shown(written)}", "make it, or name another")
                if str(folder) in found:
                    raise Wrong("a rule folder that is named twice", "remove one of them")
                found[str(folder)] = None
        return tuple(found)

    def _seconds_of_affinity(self, value: Value) -> float:
        return fields.number(value, 0, 86400, "seconds")

    def _state_file(self, value: Value) -> str:
        table = self._table(value, _STATE_KEYS, _STATE)
        if not {"file", "url"} & table.entries.keys():
            self._add(value.line, "`state` says neither `file` nor `url`", _STATE)
        return self._field(table, "file", lambda value: str(self._place(fields.text(value, "the path of a file"))), "")

    def _store(self, value: Value) -> Store | None:
        """The server that suspensions are shared through; None without `url`."""
        if not isinstance(value, Table):
            return None  # said already
        entries = value.entries
        if "url" not in entries:
            for key in sorted(entries.keys() & set(_STORE_KEYS)):
                self._add(entries[key][0].line, f"`{key}` without `url`", "add the `url` of the server, or remove it")
            return None
        if "prefix" not in entries:
            write = "add `prefix: NAME`, the same in every pool file that is to share, and in no other"
            self._add(entries["url"][0].line, "`url` without `prefix`", write)
        url = self._field(value, "url", fields.store_url, "")
        prefix = self._field(value, "prefix", lambda value: fields.name(value, "the prefix"), "")
        user = self._field(value, "user", lambda value: fields.text(value, "the user"), "")
        password = self._field(value, "password", self._kept_secret, None)
        ca = self._field(value, "ca", self._certificates, "")
        timeout = self._field(value, "timeout", lambda value: fields.number(value, 0.01, 5, "seconds"), _ANSWER)
        if user and "password" not in entries:
            self._add(entries["user"][0].line, "`user` without `password`", "add `password: {env: NAME}`")
        if ca and not url.startswith("rediss://"):
            self._add(entries["ca"][0].line, "`ca` without TLS", "write `rediss://` in `url`, or remove `ca`")
        if url.startswith("redis://") and not fields.is_loopback(urlsplit(url).hostname or ""):
            what = "the password and " if "password" in entries else ""
            line = entries["url"][1].line
            self._warn(line, f"{what}what is learnt travels in clear", "use rediss:// if the server has TLS")
        if find_spec("redis") is None:
            write = "install it with `pip install 'mitmproxy-understudy[shared]'`"
            self._add(entries["url"][1].line, "the client for Valkey and Redis is not installed", write)
        return Store(url, prefix, user, password, ca, timeout)

    def _certificates(self, value: Value) -> str:
        path = self._place(fields.text(value, "the path of a file"))
        if not path.is_file():
            raise Wrong(f"there is no file {shown(str(path))}", "name the file with the CA of the server")
        return str(path)

    def _models(self, value: Value) -> bool:
        if isinstance(value, Table):
            raise Wrong("`models` says what happens to lists of models", "write `routes:` in its place")
        found = fields.text(value, "what to do with lists of models")
        if found not in ("union", "pass"):
            raise Wrong(f"unknown `models` {shown(found)}", "write `union`, or `pass` to leave them as they are")
        return found == "union"

    def _dialect(self, value: Value) -> str:
        dialect = fields.text(value, "a dialect")
        if dialect not in self.dialects:
            raise Wrong(f"unknown dialect {shown(dialect)}", self._suggestion(dialect, self.dialects))
        return dialect

    def _upstream(self, key: Scalar, value: Value) -> Upstream | None:
        example = "write `{dialect: openai, url: https://api.example.com/v1}`"
        several = isinstance(value, Table) and "dialects" in value.entries and "dialect" not in value.entries
        which = "dialects" if several else "dialect"
        table = self._table(value, (which, "url", "verify", "api_version", "prices"), example, (which, "url"))
        no_paths: dict[str, str] = {}
        paths = self._field(table, "dialects", self._dialects, no_paths)
        dialect = next(iter(paths), "") if several else self._field(table, "dialect", self._dialect, "")
        scheme, host, port, base_path = self._field(table, "url", fields.url, ("https", "", 443, ""))
        verify = self._field(table, "verify", fields.boolean, True)
        api_version = self._field(table, "api_version", fields.version, "")
        no_prices: tuple[tuple[str, Price], ...] = ()
        prices = self._field(table, "prices", self._prices, no_prices)
        if scheme == "http" and not fields.is_loopback(host):
            self._warn(table.entries["url"][1].line, "the secret travels in clear", "use https:// if the host has it")
        if not verify:
            line = table.entries["verify"][1].line
            self._warn(line, "the secret goes to whoever answers for this host", "remove `verify: false` if you can")
        if not dialect:
            return None
        if several:
            gateway = self._gateway(key, table, paths, (scheme, host, port, base_path), verify, api_version)
            return dataclasses.replace(gateway, prices=prices)
        spoken = self.dialects[dialect]
        if host and (wrong := spoken.check(base_path, api_version)):
            self._add(value.line, *wrong)
        if host and (wrong := _misplaced(spoken, host, base_path)):
            self._add(table.entries["url"][1].line, *wrong)
        place = scheme, host, port, base_path
        return Upstream(key.text, dialect, *place, verify, api_version, spoken.relatives, prices=prices)

    def _prices(self, value: Value) -> tuple[tuple[str, Price], ...]:
        """What a million tokens of each model cost, the most specific glob first."""
        found: dict[str, Price] = {}
        for key, item in fields.table(value, _PRICES).entries.values():
            with self._noting(key.line):
                glob = fields.text(key, "a model, or a glob of models")
                table = self._table(item, _PRICE_KEYS, _PRICES, ("input", "output"))
                kinds = {kind: self._field(table, kind, _price, None) for kind in _PRICE_KEYS}
                found[glob] = Price(kinds["input"] or 0.0, kinds["output"] or 0.0, kinds["cached"], kinds["written"])
        return tuple(sorted(found.items(), key=lambda each: specificity(each[0]), reverse=True))

    def _dialects(self, value: Value) -> dict[str, str]:
        """The dialects of a gateway, each with the path below its url where that is spoken."""
        example = 'write each dialect with its path, such as `{openai: /v1, anthropic: ""}`'
        found: dict[str, str] = {}
        for key, item in fields.table(value, example).entries.values():
            with self._noting(key.line):
                dialect = self._dialect(key)
                is_empty = isinstance(item, Scalar) and item.text in ("", "/")
                found[dialect] = "" if is_empty else fields.base_path(item)
        if not found:
            raise Wrong("a gateway without dialects", example)
        return found

    def _gateway(
        self,
        key: Scalar,
        table: Table,
        paths: Mapping[str, str],
        place: tuple[str, str, int, str],
        verify: bool,
        api_version: str,
    ) -> Upstream:
        """One upstream in several dialects: the first is its own, the others are its faces."""
        scheme, host, port, below = place
        faces = []
        for dialect, path in paths.items():
            spoken, base_path = self.dialects[dialect], f"{below}{path}"
            if host and (wrong := spoken.check(base_path, api_version) or _misplaced(spoken, host, base_path)):
                self._add(table.entries["dialects"][1].line, *wrong)
            faces.append(
                Upstream(key.text, dialect, scheme, host, port, base_path, verify, api_version, spoken.relatives)
            )
        return dataclasses.replace(faces[0], faces=tuple(faces[1:]))

    def _credential(self, key: Scalar, value: Value) -> Credential | None:
        example = "write `{upstream: NAME, secret: {env: NAME}}`"
        keys = ("upstream", "secret", "headers", "concurrency", "who")
        table = self._table(value, keys, example, ("upstream", "secret"))
        no_secret: SecretSource = _NoSecret()
        no_headers: tuple[tuple[str, str | SecretSource], ...] = ()
        missing = ""

        def read_secret(value: Value) -> SecretSource:
            nonlocal missing
            try:
                return self._secret(value)
            except Absent as absent:
                self._missing.append((key.text, value.line, absent))
                missing = absent.what
                return no_secret

        def read_headers(value: Value) -> tuple[tuple[str, str | SecretSource], ...]:
            nonlocal missing
            try:
                return self._headers(value)
            except Absent as absent:
                self._missing.append((key.text, value.line, absent))
                missing = missing or absent.what
                return no_headers

        secret = self._field(table, "secret", read_secret, no_secret)
        headers = self._field(table, "headers", read_headers, no_headers)
        if secret.is_client and headers:
            line = table.entries["headers"][0].line
            self._add(line, "`headers` beside `secret: client`, which sends what the tool sent", "remove `headers`")
        upstream = self._field(table, "upstream", lambda value: self._known(value, "upstream", self.upstreams), None)
        if upstream is not None and isinstance(secret, SigningSource):
            line = table.entries["secret"][1].line
            with self._noting(line):
                aws.check(upstream, secret)
        concurrency = self._field(table, "concurrency", lambda value: fields.whole_number(value, 1, 10_000, "calls"), 0)
        plain = tuple((name, value) for name, value in headers if isinstance(value, str))
        hidden = tuple((name, value) for name, value in headers if not isinstance(value, str))
        who = self._who(table)
        return Credential(key.text, upstream, secret, plain, missing, hidden, concurrency, who) if upstream else None

    def _who(self, table: Table) -> tuple[str, ...]:
        """Which users of the proxy may use what this table describes; empty: every call may."""
        everyone: tuple[str, ...] = ()
        return self._field(table, "who", fields.users, everyone)

    def _report_missing(self) -> None:
        """Warn of each secret that is missing; where no credential is left that has one, each is a problem."""
        usable = any(each is not None and not each.missing for each in self.credentials.values())
        for name, line, absent in self._missing:
            if usable:
                self._warn(line, f"{absent.what}, so the credential {name} is out of use", absent.write)
            else:
                self._add(line, absent.what, absent.write)

    def _known[T](self, value: Value, what: str, known: Mapping[str, T]) -> T:
        found = fields.text(value, f"the name of the {what}")
        if found not in known:
            raise Wrong(f"unknown {what} {shown(found)}", self._suggestion(found, known))
        return known[found]

    def _headers(self, value: Value) -> tuple[tuple[str, str | SecretSource], ...]:
        """Each with its value, or with where that is. Raises Absent when one is a secret that is missing."""
        found: dict[str, str | SecretSource] = {}
        missing: Absent | None = None
        for key, item in fields.table(value, "write `{name: value}`").entries.values():
            with self._noting(key.line):
                name = fields.header_name(key)
                if name in found:
                    raise Wrong(f"the header {name} is written twice", "keep one of them")
                try:
                    found[name] = self._kept_secret(item) if isinstance(item, Table) else fields.header(key, item)[1]
                except Absent as absent:
                    missing = absent
        if missing is not None:
            raise missing
        return tuple(found.items())

    def _budget(self, value: Value, base: Budget) -> Budget:
        known = [each.name for each in dataclasses.fields(Budget)]
        table = self._table(value, known, f"write a mapping of {', '.join(known)}")

        def attempts(value: Value) -> int:
            return fields.whole_number(value, 1, 32, "attempts")

        def seconds(key: str, least: float, most: float, default: float) -> float:
            return self._field(table, key, lambda value: fields.number(value, least, most, "seconds"), default)

        return Budget(
            attempts=self._field(table, "attempts", attempts, base.attempts),
            seconds=seconds("seconds", 0.01, 3600, base.seconds),
            wait=seconds("wait", 0, 3600, base.wait),
            first_event=seconds("first_event", 0.01, 3600, base.first_event),
            patience=seconds("patience", 0, 60, base.patience),
            silence=seconds("silence", 0, 3600, base.silence),
            first_output=seconds("first_output", 0, 3600, base.first_output),
            idle=seconds("idle", 0.01, 3600, base.idle),
            hedge_after=seconds("hedge_after", 0, 3600, base.hedge_after),
        )

    def _route(self, key: Scalar, value: Value, budget: Budget) -> Route:
        if isinstance(value, Table):
            keys = (
                *("candidates", "strategy", "budget", "hold", "affinity", "actions", "restore_alias"),
                *("mode", "relatives", "second_opinion", "sealed", "reserve", "until_reset", "who"),
            )
            table = self._table(value, keys, _CANDIDATES, ("candidates",))
        else:
            table = Table(value.line, {"candidates": (key, value)})
        strategy = self._field(
            table, "strategy", lambda value: self._word(value, "strategy", Strategy), Strategy.ORDERED
        )
        no_choices: tuple[Choice, ...] = ()
        choices = self._field(table, "candidates", lambda value: self._choices(key, value), no_choices)
        if strategy is not Strategy.WEIGHTED and any(choice.weight != 1 for choice in choices):
            self._add(
                key.line, f"the weights of {shown(key.text)} do nothing", "add `strategy: weighted`, or remove them"
            )
        no_actions: tuple[tuple[str, Override], ...] = ()
        return Route(
            key.text,
            choices,
            strategy,
            self._field(table, "budget", lambda value: self._budget(value, budget), budget),
            self._field(table, "hold", lambda value: self._word(value, "hold", HoldUntil), HoldUntil.OUTPUT),
            self._field(table, "affinity", self._affinity, Affinity.SESSION),
            self._field(table, "actions", self._actions, no_actions),
            self._field(table, "restore_alias", fields.boolean, False),
            self._field(table, "mode", lambda value: self._word(value, "mode", Mode), Mode.ENFORCE),
            self._field(table, "relatives", lambda value: self._word(value, "place", Relatives), Relatives.LAST),
            self._field(table, "second_opinion", fields.boolean, True),
            self._field(table, "sealed", lambda value: self._word(value, "word", WhenSealed), WhenSealed.DROP),
            self._field(table, "reserve", _share, self._reserve),
            self._field(table, "until_reset", _hold_for, self.until_reset),
            self._who(table),
        )

    def _affinity(self, value: Value) -> Affinity:
        if isinstance(value, Scalar) and value.text == Affinity.USER:
            return Affinity.USER
        try:
            return Affinity.SESSION if fields.boolean(value) else Affinity.NONE
        except Wrong as wrong:
            raise Wrong(wrong.what, "write `true`, `false`, or `user`") from None

    def _word[W: StrEnum](self, value: Value, what: str, known: type[W]) -> W:
        found = fields.text(value, f"a {what}")
        if found not in known:
            raise Wrong(f"unknown {what} {shown(found)}", self._suggestion(found, [*known]))
        return known(found)

    def _actions(self, value: Value) -> tuple[tuple[str, Override], ...]:
        """What a route changes in the actions of labels: ``{rate_limited: {seconds: 60}}``."""
        found: dict[str, Override] = {}
        for key, item in fields.table(
            value, "write `{LABEL: {replay: ..., retry_same: ..., seconds: ...}}`"
        ).entries.values():
            with self._noting(key.line):
                if key.text not in Label:
                    raise Wrong(f"unknown label {shown(key.text)}", self._suggestion(key.text, [*Label]))
                found[key.text] = self._override(item)
        return tuple(found.items())

    def _override(self, value: Value) -> Override:
        table = self._table(
            value, ("replay", "retry_same", "seconds"), "write a mapping of replay, retry_same, seconds"
        )
        replay: bool | None = self._field(table, "replay", fields.boolean, None)
        retry: int | None = self._field(
            table, "retry_same", lambda item: fields.whole_number(item, 0, 1, "repeats"), None
        )
        seconds: float | None = self._field(
            table, "seconds", lambda item: fields.number(item, 0, 604800, "seconds"), None
        )
        return Override(replay, retry, seconds)

    def _choices(self, route: Scalar, value: Value) -> tuple[Choice, ...]:
        items = fields.listing(value, _CANDIDATES).items
        if not items:
            raise Wrong("a route without candidates", _CANDIDATES)
        choices: dict[tuple[str, str | None, tuple[str, ...]], Choice] = {}
        for item in items:
            with self._noting(item.line):
                choice = self._choice(item)
                if choice is None:
                    continue
                plain = None if is_glob(route.text) or route.text == "default" else route.text
                identity = choice.credential.name, choice.model or plain, choice.who
                if identity in choices:
                    raise Wrong(f"the candidate {choice.credential.name} is written twice", "remove one of them")
                choices[identity] = choice
        found = tuple(choices.values())
        upstreams = {"/".join(each.dialects): each for each in (choice.credential.upstream for choice in found)}
        shared = any(all(each.serves(dialect) for each in upstreams.values()) for dialect in self.dialects)
        if found and not shared and route.text != "default":
            dialects = {"/".join(each.credential.upstream.dialects): each.credential.name for each in reversed(found)}
            several = ", ".join(f"{dialect} ({dialects[dialect]})" for dialect in upstreams)
            raise Wrong(
                f"candidates of different dialects: {several}",
                "keep one dialect and its relatives; only `default` may have more",
            )
        return found

    def _choice(self, value: Value) -> Choice | None:
        """One candidate; None when it cannot be told because its credential is wrong, which is reported there."""
        if isinstance(value, Scalar):
            credential = self._known(value, "credential", self.credentials)
            return Choice(credential) if credential else None
        table = self._table(value, ("credential", "model", "priority", "weight", "who"), _CANDIDATES, ("credential",))
        named = self._field(table, "credential", lambda value: self._known(value, "credential", self.credentials), None)
        model = self._field(table, "model", lambda value: fields.text(value, "the upstream model"), None)
        priority = self._field(table, "priority", lambda value: fields.whole_number(value, 1, 100, "a priority"), 1)
        weight = self._field(table, "weight", lambda value: fields.whole_number(value, 1, 100, "a weight"), 1)
        who = self._who(table)
        return Choice(named, model, priority, weight, who) if named else None

    def _intercepts(self, value: Value) -> tuple[Intercept, ...]:
        example = "write a list such as `[{host: llm.example.com, dialect: openai, base_path: /v1}]`"
        found: dict[Intercept, None] = {}
        for item in fields.listing(value, example).items:
            table = self._table(item, ("host", "dialect", "base_path", "port"), example, ("host", "dialect"))
            intercept = Intercept(
                self._field(table, "host", fields.host, ""),
                self._field(table, "dialect", self._dialect, ""),
                self._field(table, "base_path", fields.base_path, ""),
                self._field(table, "port", lambda value: fields.whole_number(value, 1, 65535, "a port"), None),
            )
            if intercept in found and intercept.host:
                self._add(item.line, "an `intercept` entry that is written twice", "remove one of them")
            found[intercept] = None
        return tuple(found)


def _price(value: Value) -> float | None:
    return fields.number(value, 0, 100_000, "units for a million tokens")


def _share(value: Value) -> float:
    """A share of a limit, written in percent."""
    return fields.number(value, 0, 50, "percent") / 100


def _hold_for(value: Value) -> float:
    """Seconds for which calls are held until a reset; written as true, false, or hours."""
    if isinstance(value, Scalar) and value.kind is Kind.BOOLEAN:
        return HOLD_FOR if fields.boolean(value) else 0.0
    return fields.number(value, 0, MOST_HOURS, "hours") * 3600


def _misplaced(dialect: Dialect, host: str, base_path: str) -> tuple[str, str] | None:
    """What is wrong with a base URL that was copied with too much or too little behind its host."""
    parts = base_path.split("/")
    for at in range(1, len(parts)):
        tail = "/" + "/".join(parts[at:])
        if dialect.endpoint("POST", tail) is not None:
            return "the url is that of one kind of call", f"end it before {tail}, where all calls begin"
    known = [path for name, path in dialect.sites if name == host]
    if known and base_path not in known:
        return f"the calls of {host} are not below this path", f"write `url: https://{host}{known[0]}`"
    return None
