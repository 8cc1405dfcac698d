"""Modules that mitmproxy loads at start and that hardly any proxy uses: taken out, and loaded again when they are.

That is ``ldap3`` for passwords that an LDAP server checks, and Flask for the page at ``mitm.it`` that hands out
mitmproxy's certificate: with what they bring along a seventh of the memory of an idle mitmproxy. Both are reached by
one name each. In its place stands what loads the modules when it is used for the first time.

Nothing is taken out that anything else refers to, such as a script that has an application of its own.
"""

from __future__ import annotations

import gc
import linecache
import re
import sys
import typing
from collections.abc import Callable, Collection
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from mitmproxy import addons, ctx
from mitmproxy.addons import maplocal, onboarding, proxyauth

LDAP = ("ldap3", "pyasn1")
"""The packages of one use; the first one is asked for by name."""
APP = "mitmproxy.addons.onboardingapp"
PAGE = (APP, "flask", "werkzeug", "jinja2", "click", "itsdangerous", "blinker", "markupsafe")


class Later:
    """In the place of a module, which is loaded when something of it is asked for."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


class PageApp:
    """In the place of the page's application (WSGI), which is loaded at the first call."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        """What mitmproxy sets on every change of its options."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """The answer of the application itself."""
        app = import_module(APP).app
        app.config.update(self.config)
        return app(environ, start_response)


def take_out() -> None:
    """Take out what nothing uses, in the process in which mitmproxy runs and before anything else is loaded.

    What is loaded afterwards takes the place of it in memory.
    """
    _take_ldap_out()
    _take_page_out()
    typing.clear_overloads()  # they are functions, and each refers to its module
    for forget in getattr(typing, "_cleanups", ()):
        forget()  # what typing remembers refers to classes
    re.purge()
    linecache.clearcache()
    gc.collect()


def _take_ldap_out() -> None:
    is_used = str(getattr(ctx.options, "proxyauth", None) or "").startswith("ldap")
    if not is_used and _is_free(LDAP, {(proxyauth, "ldap3")}):
        _forget(LDAP)
        vars(proxyauth)["ldap3"] = Later("ldap3")


def _take_page_out() -> None:
    app = vars(onboarding)["app"]
    wsgi = getattr(ctx.master.addons.get("onboarding"), "asgi_app", None)
    holders = {(onboarding, "app"), (addons, "onboardingapp"), (maplocal, "safe_join")}
    if getattr(wsgi, "wsgi_application", None) is app and _is_free(PAGE, holders):
        stand_in = PageApp()
        stand_in.config["CONFDIR"] = getattr(app, "config", {}).get("CONFDIR")
        vars(wsgi)["wsgi_application"] = vars(onboarding)["app"] = stand_in
        del vars(addons)["onboardingapp"]
        _forget(PAGE)


def _is_free(packages: Collection[str], holders: Collection[tuple[ModuleType, str]]) -> bool:
    """Whether no other module refers to anything of these packages, but by the names of the holders."""
    loaded = [each for each in list(sys.modules.values()) if isinstance(each, ModuleType)]
    return not any(
        _is_of(_home(value), packages) and (module, name) not in holders
        for module in loaded
        if not _is_of(module.__name__, packages)
        for name, value in list(vars(module).items())
    )


def _home(value: object) -> object:
    """The name of the module that a value of a module comes from: itself, a class or function, or an instance."""
    if isinstance(value, ModuleType):
        return value.__name__
    return value.__module__ if isinstance(value, (type, FunctionType)) else type(value).__module__


def _is_of(name: object, packages: Collection[str]) -> bool:
    return isinstance(name, str) and any(name == each or name.startswith(f"{each}.") for each in packages)


def _forget(packages: Collection[str]) -> None:
    for name in [name for name in sys.modules if _is_of(name, packages)]:
        del sys.modules[name]
