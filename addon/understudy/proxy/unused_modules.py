"""Modules that mitmproxy loads at start and that hardly any proxy uses: taken out, and loaded again when they are.

That is ``ldap3`` for passwords that an LDAP server checks, Flask for the page at ``mitm.it`` that hands out mitmproxy's
certificate, the reader of mitmproxy's own configuration, and helpers of tests; with what they bring along a quarter of
what Python has allocated in an idle mitmproxy. All are reached by one or two names. In the place of each stands what
loads the modules when it is used for the first time.

Nothing is taken out that anything else refers to, such as a script that has an application of its own.
"""

from __future__ import annotations

import gc
import http
import linecache
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import pyparsing
from mitmproxy import addons, ctx, optmanager
from mitmproxy.addons import maplocal, onboarding, proxyauth
from mitmproxy.contentviews import _utils

APP = "mitmproxy.addons.onboardingapp"

type Place = tuple[ModuleType, str]
"""A module and the name of an attribute of it."""


class Later:
    """In the place of a module or a class, which is loaded when something of it is asked for, or it is called."""

    __slots__ = ("_load",)

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._load()(*arguments, **named)


class PageApp:
    """In the place of the application (WSGI) of the page at ``mitm.it``, which is loaded at the first call."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        """What mitmproxy sets on every change of its options."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """The answer of the application itself."""
        app = import_module(APP).app
        app.config.update(self.config)
        return app(environ, start_response)


@dataclass(frozen=True, slots=True)
class Part:
    """Packages or modules that are of one use. ``places``: all that refers to them, and what is put there."""

    packages: tuple[str, ...]
    places: Mapping[Place, object] = field(default_factory=dict)
    gone: tuple[Place, ...] = ()
    """Places that are emptied: a package refers to the modules in it when they are loaded."""
    kept: tuple[Place, ...] = ()
    """Places that stay as they are: a function that needs nothing else of its package."""


def take_out() -> None:
    """Take out what nothing uses, in the process in which mitmproxy runs and before anything else is loaded.

    What is loaded afterwards takes the place of it in memory. Where no mitmproxy runs, nothing is known of its use.
    """
    if not hasattr(ctx, "master"):
        return
    for part in _free(_parts()):
        for name in [name for name in sys.modules if _is_of(name, part.packages)]:
            del sys.modules[name]
        for (module, name), stand_in in part.places.items():
            setattr(module, name, stand_in)
        for module, name in part.gone:
            vars(module).pop(name, None)
    typing.clear_overloads()  # they are functions, and each refers to its module
    for forget in getattr(typing, "_cleanups", ()):
        forget()  # what typing remembers refers to classes
    re.purge()
    linecache.clearcache()
    gc.collect()


def _parts() -> list[Part]:
    """What is not in use now."""
    parts = [
        Part(
            ("ruamel",),
            {
                (optmanager, "ruamel"): Later(lambda: import_module("ruamel.yaml") and sys.modules["ruamel"]),
                (_utils, "YAML"): Later(lambda: import_module("ruamel.yaml").YAML),
            },
        ),
        Part(
            ("pyparsing.testing", "unittest"),
            {
                (pyparsing, "testing"): Later(lambda: import_module("pyparsing.testing")),
                (pyparsing, "pyparsing_test"): Later(lambda: import_module("pyparsing.testing").pyparsing_test),
            },
        ),
        Part(("http.server", "socketserver"), gone=((http, "server"),)),
        Part(("difflib",)),
        Part(("pyasn1",)),
    ]
    if not str(getattr(ctx.options, "proxyauth", None) or "").startswith("ldap"):
        parts.append(Part(("ldap3",), {(proxyauth, "ldap3"): Later(lambda: import_module("ldap3"))}))
    app, wsgi = vars(onboarding)["app"], getattr(ctx.master.addons.get("onboarding"), "asgi_app", None)
    if wsgi is not None and getattr(wsgi, "wsgi_application", None) is app:
        stand_in = PageApp({"CONFDIR": getattr(app, "config", {}).get("CONFDIR")})
        parts.append(
            Part(
                (APP, "flask", "werkzeug", "jinja2", "click", "itsdangerous", "blinker", "markupsafe"),
                {(onboarding, "app"): stand_in, (wsgi, "wsgi_application"): stand_in},
                gone=((addons, "onboardingapp"),),
                kept=((maplocal, "safe_join"),),
            )
        )
    return parts


def _free(parts: list[Part]) -> list[Part]:
    """Those parts to which nothing refers but their own places and other parts that are taken out."""
    held = _referred_to(parts)
    free = set(range(len(parts)))
    while busy := {
        number
        for number in free
        if any(by not in free if isinstance(by, int) else not _is_known(by, parts[number]) for by in held[number])
    }:
        free -= busy
    return [parts[number] for number in sorted(free)]


def _is_known(place: Place, part: Part) -> bool:
    return place in part.places or place in part.gone or place in part.kept


def _referred_to(parts: list[Part]) -> list[set[int | Place]]:
    """For each part what refers to anything of it: another part, by its number, or a place outside of all parts."""

    @cache  # for as long as this takes
    def part_of(name: str) -> int:
        return next((number for number, part in enumerate(parts) if _is_of(name, part.packages)), -1)

    found: list[set[int | Place]] = [set() for _ in parts]
    for module in [each for each in list(sys.modules.values()) if isinstance(each, ModuleType)]:
        own = part_of(module.__name__)
        for name, value in list(vars(module).items()):
            home = _home(value)
            if isinstance(home, str) and (number := part_of(home)) not in (-1, own):
                found[number].add(own if own >= 0 else (module, name))
    return found


def _home(value: object) -> object:
    """The name of the module that a value of a module comes from: itself, a class or function, or an instance."""
    if isinstance(value, ModuleType):
        return value.__name__
    return value.__module__ if isinstance(value, (type, FunctionType)) else type(value).__module__


def _is_of(name: str, packages: Iterable[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in packages)
