"""Modules that mitmproxy loads at start and that hardly any proxy uses: taken out, and loaded again when they are.

That is ``ldap3`` for passwords that an LDAP server checks, Flask for the page at ``mitm.it`` that hands out mitmproxy's
certificate, the reader of mitmproxy's own configuration, the parser of filters and commands, views of images and of
rare formats, the names of certificates that QUIC checks, and helpers of tests; with what they bring along a half of
what Python has allocated in an idle mitmproxy. All are reached by a few names. In the place of each stands what
loads the modules when it is used for the first time.

Nothing is taken out that anything else refers to, such as a script that has an application of its own.
"""

from __future__ import annotations

import codecs
import gc
import importlib
import linecache
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from mitmproxy import command_lexer, ctx, flowfilter, optmanager

APP = "mitmproxy.addons.onboardingapp"
SHAPES = "mitmproxy.contrib.kaitaistruct"
REACHED: tuple[tuple[tuple[str, ...], Mapping[str, str]], ...] = (
    (("csv",), {"mitmproxy.addons.cut:csv": "csv"}),
    (
        ("pyperclip",),
        {"mitmproxy.addons.cut:pyperclip": "pyperclip", "mitmproxy.addons.export:pyperclip": "pyperclip"},
    ),
    (("pprint",), {"mitmproxy.addonmanager:pprint": "pprint", "mitmproxy.optmanager:pprint": "pprint"}),
    (("html",), {"mitmproxy.proxy.layers.http._base:html": "html"}),
    (("http.cookiejar",), {"mitmproxy.addons.stickycookie:cookiejar": "http.cookiejar"}),
    (
        ("zipfile", "importlib.metadata"),
        {"mitmproxy.utils.magisk:ZipFile": "zipfile:ZipFile", "mitmproxy.contentviews._view_zip:zipfile": "zipfile"},
    ),
    (("service_identity",), {"aioquic.tls:service_identity": "service_identity"}),
    (
        ("mitmproxy.contrib.wbxml", "xml.dom"),
        {"mitmproxy.contentviews._view_wbxml:ASCommandResponse": "mitmproxy.contrib.wbxml.ASCommandResponse"},
    ),
    (
        (f"{SHAPES}.exif", *(f"{SHAPES}.{name}" for name in ("gif", "ico", "jpeg", "png"))),
        {
            f"mitmproxy.contentviews._view_image.image_parser:{name}": f"{SHAPES}.{name}"
            for name in ("gif", "ico", "jpeg", "png")
        },
    ),
)
"""Packages or modules of one use, and all that refers to them: there stands, until it is used, what loads them."""
ALONE = (
    ("unittest", "pyparsing.testing"),
    ("http.server", "socketserver"),
    ("http.client", "urllib.request"),
    ("email.feedparser", "email.header", "email.iterators", "email.message", "email.parser", "email._policybase"),
    ("attr",),
    ("decimal", "numbers"),
    ("difflib",),
    ("idna",),
    ("pkgutil",),
    ("pyasn1",),
)
"""What nothing is put in the place of: only other parts that are taken out refer to it, if anything does."""

_NOTHING = ModuleType("nothing")
type Place = tuple[ModuleType, str]
"""A module and the name of an attribute of it."""


class Later:
    """In the place of a module, class or value, which is loaded when something of it is asked for, or it is called."""

    __slots__ = ("_load",)

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._load()(*arguments, **named)

    def __contains__(self, item: object) -> bool:
        return item in self._load()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


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
    """Packages or modules that are of one use. ``places``: all that refers to them, and what is put there.

    That a package refers to the modules in it goes without saying.
    """

    packages: tuple[str, ...]
    places: Mapping[Place, object] = field(default_factory=dict)
    kept: tuple[Place, ...] = ()
    """Places that stay as they are: a function that needs nothing else of its package."""
    handlers: tuple[str, ...] = ()
    """Names of error handlers of codecs, which the part adds when it is loaded, and by which it would stay."""


def take_out() -> None:
    """Take out what nothing uses, in the process in which mitmproxy runs and before anything else is loaded.

    What is loaded afterwards takes the place of it in memory. Where no mitmproxy runs, nothing is known of its use.
    """
    if not hasattr(ctx, "master"):
        return
    for part in _free(_parts()):
        for name in [name for name in sys.modules if _is_of(name, part.packages)]:
            package, _, tail = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(tail, None)
            del sys.modules[name]
        for (module, name), stand_in in part.places.items():
            setattr(module, name, stand_in)
        for name in part.handlers:
            codecs.register_error(name, codecs.strict_errors)
    typing.clear_overloads()  # they are functions, and each refers to its module
    for forget in getattr(typing, "_cleanups", ()):
        forget()  # what typing remembers refers to classes
    re.purge()
    linecache.clearcache()
    gc.collect()


def _parts() -> list[Part]:
    """What is not in use now."""
    parts = [
        *(Part(packages) for packages in ALONE),
        *(Part(packages, _stand_ins(places)) for packages, places in REACHED),
        Part(
            ("ruamel",),
            {
                (optmanager, "ruamel"): Later(lambda: import_module("ruamel.yaml") and sys.modules["ruamel"]),
                **_stand_ins({"mitmproxy.contentviews._utils:YAML": "ruamel.yaml:YAML"}),
            },
        ),
        Part(("pickle", "_compat_pickle"), kept=((sys.modules.get("_pickle", _NOTHING), "PickleBuffer"),)),
        Part(
            ("pyparsing",),
            {
                **_stand_ins({f"mitmproxy.{user}:pyparsing": "pyparsing" for user in ("command", "command_lexer")}),
                **_stand_ins({"mitmproxy.flowfilter:pp": "pyparsing"}),
                (flowfilter, "bnf"): Later(cache(flowfilter._make)),
                **{(command_lexer, name): Later(partial(_lexer, name)) for name in ("PartialQuotedString", "expr")},
            },
        ),
        Part(
            ("mitmproxy.utils.emoji",),
            {
                **_stand_ins({f"mitmproxy.{user}:emoji": "mitmproxy.utils.emoji" for user in ("addons.core", "types")}),
                **{place: Later(_markers) for place in _stand_ins({"mitmproxy.types:ALL_MARKERS": ""})},
            },
        ),
    ]
    if not str(getattr(ctx.options, "proxyauth", None) or "").startswith("ldap"):
        parts.append(Part(("ldap3",), _stand_ins({"mitmproxy.addons.proxyauth:ldap3": "ldap3"})))
    onboarding = import_module("mitmproxy.addons.onboarding")
    app, wsgi = vars(onboarding)["app"], getattr(ctx.master.addons.get("onboarding"), "asgi_app", None)
    if wsgi is not None and getattr(wsgi, "wsgi_application", None) is app:
        stand_in = PageApp({"CONFDIR": getattr(app, "config", {}).get("CONFDIR")})
        parts.append(
            Part(
                (APP, "flask", "werkzeug", "jinja2", "click", "itsdangerous", "blinker", "markupsafe"),
                {(onboarding, "app"): stand_in, (wsgi, "wsgi_application"): stand_in},
                kept=((sys.modules["mitmproxy.addons.maplocal"], "safe_join"),),
                handlers=("werkzeug.url_quote",),
            )
        )
    return parts


def _stand_ins(places: Mapping[str, str]) -> dict[Place, object]:
    """``module:name`` for each place, of those that are there, and what it refers to: ``module`` or ``module:name``."""
    found: dict[Place, object] = {}
    for place, target in places.items():
        module, _, name = place.partition(":")
        if name in vars(sys.modules.get(module, _NOTHING)):
            found[sys.modules[module], name] = Later(partial(_load, target))
    return found


def _load(target: str) -> Any:
    name, _, attribute = target.partition(":")
    module = import_module(name)
    return getattr(module, attribute) if attribute else module


def _lexer(name: str) -> Any:
    """The parser of commands under this name: the module makes all of its own anew, in the place of the stand-ins."""
    if isinstance(vars(command_lexer)[name], Later):
        importlib.reload(command_lexer)
    return vars(command_lexer)[name]


def _markers() -> list[str]:
    """What mitmproxy takes as the mark of a flow."""
    return ["true", "false", *import_module("mitmproxy.utils.emoji").emoji]


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
    return place in part.places or place in part.kept


def _referred_to(parts: list[Part]) -> list[set[int | Place]]:
    """For each part what refers to anything of it: another part, by its number, or a place outside of all parts."""

    by_package = {package: number for number, part in enumerate(parts) for package in part.packages}

    @cache  # for as long as this takes
    def part_of(name: object) -> int:
        while isinstance(name, str) and name:
            if (number := by_package.get(name)) is not None:
                return number
            name = name.rpartition(".")[0]
        return -1

    of_class: dict[int, frozenset[int]] = {}  # by identity: a class may compare and hash as it likes
    found: list[set[int | Place]] = [set() for _ in parts]
    for module in [each for each in list(sys.modules.values()) if isinstance(each, ModuleType)]:
        own = part_of(module.__name__)
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType):
                numbers: Iterable[int] = (part_of(value.__module__),)
            elif isinstance(value, ModuleType):
                # That a package has a module in it is no use of it.
                numbers = () if value.__name__ == f"{module.__name__}.{name}" else (part_of(value.__name__),)
            else:
                kind = value if isinstance(value, type) else type(value)
                if (known := of_class.get(id(kind))) is None:
                    known = frozenset(part_of(each.__module__) for each in kind.__mro__) - {-1}
                    of_class[id(kind)] = known
                numbers = known
            for number in numbers:
                if number not in (-1, own):
                    found[number].add(own if own >= 0 else (module, name))
    return found


def _is_of(name: str, packages: Iterable[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in packages)
