"""A parsed pool file -> Pool: which keys there are, and how upstreams, credentials and routes refer to each other.

It goes on after each problem, so that a person sees all of them at once. Its values are stand-ins where the file is
wrong; ``config`` returns the pool only when there was no problem.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from understudy import fields
from understudy.collector import Collector
from understudy.fields import Wrong
from understudy.pool import (
    Budget,
    Choice,
    Credential,
    Intercept,
    Mode,
    Pool,
    Route,
    SecretSource,
    Strategy,
    Upstream,
    is_glob,
)
from understudy.reach import unreachable
from understudy.secrets import EnvSecret, FileSecret, SecretError, shown
from understudy.yamlnodes import Scalar, Table, Value

_LATER = "is not available in this version"
_LATER_BUDGETS = ("silence", "first_output", "idle")
_SECRET = "write `secret: {env: NAME}` or `secret: {file: PATH}`"
_CANDIDATES = "write a list such as `[work, {credential: router, model: openai/gpt-5}]`"


class _NoSecret:
    """Stands in for a secret that could not be read, so that reading can go on."""

    def reveal(self) -> str:
        raise SecretError("this secret could not be read")


class PoolReader(Collector):
    """Reads one pool file; ``problems`` and ``warnings`` grow while it does."""

    def __init__(self, path: Path, environ: Mapping[str, str], dialects: Collection[str]) -> None:
        super().__init__(path)
        self.environ = environ
        self.dialects = dialects
        self.upstreams: dict[str, Upstream | None] = {}
        self.credentials: dict[str, Credential | None] = {}

    def read(self, value: Value) -> Pool:
        """Read the whole document."""
        keys = ("upstreams", "credentials", "routes", "budget", "intercept", "replay_after_sent")
        document = self._table(value, keys, "write upstreams, credentials and routes")
        for key, item in self._section(document, "upstreams"):
            self.upstreams[key.text] = self._upstream(key, item)
        for key, item in self._section(document, "credentials"):
            self.credentials[key.text] = self._credential(key, item)
        budget = self._field(document, "budget", lambda value: self._budget(value, Budget()), Budget())
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
            path=str(self.path),
        )

    def _dialect(self, value: Value) -> str:
        dialect = fields.text(value, "a dialect")
        if dialect not in self.dialects:
            raise Wrong(f"unknown dialect {shown(dialect)}", self._suggestion(dialect, self.dialects))
        return dialect

    def _upstream(self, key: Scalar, value: Value) -> Upstream | None:
        example = "write `{dialect: openai, url: https://api.example.com/v1}`"
        table = self._table(value, ("dialect", "url", "verify"), example, ("dialect", "url"))
        dialect = self._field(table, "dialect", self._dialect, "")
        scheme, host, port, base_path = self._field(table, "url", fields.url, ("https", "", 443, ""))
        verify = self._field(table, "verify", fields.boolean, True)
        if scheme == "http" and not fields.is_loopback(host):
            self._warn(table.entries["url"][1].line, "the secret travels in clear", "use https:// if the host has it")
        if not verify:
            line = table.entries["verify"][1].line
            self._warn(line, "the secret goes to whoever answers for this host", "remove `verify: false` if you can")
        return Upstream(key.text, dialect, scheme, host, port, base_path, verify) if dialect else None

    def _credential(self, key: Scalar, value: Value) -> Credential | None:
        example = "write `{upstream: NAME, secret: {env: NAME}}`"
        table = self._table(value, ("upstream", "secret", "headers"), example, ("upstream", "secret"))
        no_secret: SecretSource = _NoSecret()
        no_headers: tuple[tuple[str, str], ...] = ()
        secret = self._field(table, "secret", self._secret, no_secret)
        headers = self._field(table, "headers", self._headers, no_headers)
        upstream = self._field(table, "upstream", lambda value: self._known(value, "upstream", self.upstreams), None)
        return Credential(key.text, upstream, secret, headers) if upstream else None

    def _known[T](self, value: Value, what: str, known: Mapping[str, T]) -> T:
        found = fields.text(value, f"the name of the {what}")
        if found not in known:
            raise Wrong(f"unknown {what} {shown(found)}", self._suggestion(found, known))
        return known[found]

    def _secret(self, value: Value) -> SecretSource:
        match value:
            case Scalar(text="client"):
                raise Wrong(f"`secret: client` {_LATER}", "use env or file")
            case Table(entries=entries) if "command" in entries:
                raise Wrong(f"`secret: {{command: ...}}` {_LATER}", "use env or file")
            case Table(entries=entries) if len(entries) == 1 and entries.keys() <= {"env", "file"}:
                [(key, item)] = entries.values()
            case Table():
                raise Wrong("a secret has exactly one source, `env` or `file`", _SECRET)
            case _:
                raise Wrong("a secret is named here, never written here", _SECRET)
        try:
            if key.text == "env":
                return EnvSecret(fields.text(item, "the name of an environment variable"), self.environ)
            return self._file_secret(fields.text(item, "the path of a file"), item.line)
        except SecretError as error:
            write = "set it before the proxy starts" if key.text == "env" else "write the secret alone into that file"
            raise Wrong(str(error), f"{write}, or name another") from None
        except OSError as error:
            raise Wrong(f"the secret file cannot be read ({error.strerror})", "name another") from None

    def _file_secret(self, written: str, line: int) -> FileSecret:
        home = self.environ.get("HOME", "")
        expanded = home + written[1:] if written.startswith("~/") and home else os.path.expanduser(written)
        # Relative to the pool file: the working directory is whatever folder the proxy happens to start in.
        path = self.path.absolute().parent / expanded
        secret = FileSecret(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            self._warn(line, "others can read the secret file", f"run chmod 600 on {shown(str(path))}")
        return secret

    def _headers(self, value: Value) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for key, item in fields.table(value, "write `{name: value}`").entries.values():
            with self._noting(key.line):
                name, content = fields.header(key, item)
                if name in found:
                    raise Wrong(f"the header {name} is written twice", "keep one of them")
                found[name] = content
        return tuple(found.items())

    def _budget(self, value: Value, base: Budget) -> Budget:
        known = ("attempts", "seconds", "wait", "first_event", "patience")
        table = self._table(value, (*known, *_LATER_BUDGETS), f"write a mapping of {', '.join(known)}")
        for key in _LATER_BUDGETS:
            if key in table.entries:
                self._add(table.entries[key][0].line, f"the limit `{key}` {_LATER}", "remove it")

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
        )

    def _route(self, key: Scalar, value: Value, budget: Budget) -> Route:
        if isinstance(value, Table):
            keys = ("candidates", "strategy", "budget", "hold", "mode")
            table = self._table(value, keys, _CANDIDATES, ("candidates",))
        else:
            table = Table(value.line, {"candidates": (key, value)})
        self._field(table, "hold", self._hold, None)
        return Route(
            key.text,
            self._field(table, "candidates", lambda value: self._choices(key, value), ()),
            self._field(table, "strategy", self._strategy, Strategy.ORDERED),
            self._field(table, "budget", lambda value: self._budget(value, budget), budget),
            self._field(table, "mode", self._mode, Mode.ENFORCE),
        )

    def _mode(self, value: Value) -> Mode:
        found = fields.text(value, "a mode")
        if found not in Mode:
            raise Wrong(f"unknown mode {shown(found)}", self._suggestion(found, [*Mode]))
        return Mode(found)

    def _strategy(self, value: Value) -> Strategy:
        found = fields.text(value, "a strategy")
        if found == "weighted":
            raise Wrong(f"`strategy: weighted` {_LATER}", "use ordered or round_robin")
        if found not in Strategy:
            raise Wrong(f"unknown strategy {shown(found)}", self._suggestion(found, [*Strategy]))
        return Strategy(found)

    def _hold(self, value: Value) -> None:
        found = fields.text(value, "what to hold")
        if found == "complete":
            raise Wrong(f"`hold: complete` {_LATER}", "remove it")
        if found != "output":
            raise Wrong(f"unknown `hold` {shown(found)}", "remove it")

    def _choices(self, route: Scalar, value: Value) -> tuple[Choice, ...]:
        items = fields.listing(value, _CANDIDATES).items
        if not items:
            raise Wrong("a route without candidates", _CANDIDATES)
        choices: dict[tuple[str, str | None], Choice] = {}
        for item in items:
            with self._noting(item.line):
                choice = self._choice(item)
                if choice is None:
                    continue
                plain = None if is_glob(route.text) or route.text == "default" else route.text
                identity = choice.credential.name, choice.model or plain
                if identity in choices:
                    raise Wrong(f"the candidate {choice.credential.name} is written twice", "remove one of them")
                choices[identity] = choice
        found = tuple(choices.values())
        dialects = {choice.credential.upstream.dialect: choice.credential.name for choice in found}
        if len(dialects) > 1 and route.text != "default":
            several = ", ".join(f"{dialect} ({name})" for dialect, name in dialects.items())
            raise Wrong(
                f"candidates of different dialects: {several}", "keep one dialect; only `default` may have more"
            )
        return found

    def _choice(self, value: Value) -> Choice | None:
        """One candidate; None when it cannot be told because its credential is wrong, which is reported there."""
        if isinstance(value, Scalar):
            credential = self._known(value, "credential", self.credentials)
            return Choice(credential) if credential else None
        table = self._table(value, ("credential", "model"), _CANDIDATES, ("credential",))
        named = self._field(table, "credential", lambda value: self._known(value, "credential", self.credentials), None)
        model = self._field(table, "model", lambda value: fields.text(value, "the upstream model"), None)
        return Choice(named, model) if named else None

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
