"""mitmproxy's checks of values, without the work that only a value of the wrong type needs.

Every request, response and option value is checked against its declared type. mitmproxy makes the error first, text
and all, and throws it away where the value fits; an optional type costs one more for each alternative, with a traceback
that only the garbage collector takes away: some thirty errors a call. Reading an option copies its value deeply, twice
where it is the default, also where it is a string or a number. Here what fits is found first. What does not fit, and
what is more than a plain type, goes mitmproxy's own way, with its own error. Of a call's host name, two codecs and
several patterns find up to four times that it is one; one that was checked lately is not checked again.

Each hook, and each end of a command, checks when it is made that its class is a dataclass, up to three times. Here a
class is checked once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, BinaryIO, TextIO, Union, get_args, get_origin

from mitmproxy import hooks, http, optmanager
from mitmproxy.net.http import url
from mitmproxy.proxy import commands, events
from mitmproxy.utils import typecheck

_UNCHANGING = frozenset((str, bytes, int, float, bool, NoneType))
"""Types whose values need no copy."""
_SPECIAL: tuple[Any, ...] = (Any, TextIO, BinaryIO)
"""Classes by name only: mitmproxy does not ask whether a value is an instance of them."""
_FITTING: dict[Any, tuple[type, ...]] = {}
"""By declared type, the classes whose instances fit; none where that is not all there is to it."""
_PARTS: dict[type[http.MessageData], tuple[Callable[[Any], tuple[Any, ...]], tuple[tuple[type, ...], ...]]] = {}
"""By class of a request's or response's data: what gives all its parts, and the classes whose instances fit each."""
_NEW: dict[type, Any] = {
    kind: vars(kind)["__new__"] for kind in (hooks.Hook, commands.StartHook, events.CommandCompleted)
}
"""How these make an instance, and those of the classes below them."""
_SOUND: set[type] = set()
"""Classes of which one was made, with no other step."""
_parse_authority = url.parse_authority
_MOST_AUTHORITIES = 64
_check, _current = typecheck.check_option_type, optmanager._Option.current
_check_parts = vars(http.MessageData).get("__post_init__")
"""None where Python was started without assertions."""


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it."""
    if typecheck.check_option_type is not _check or optmanager._Option.current is not _current:
        return lambda: None
    typecheck.check_option_type = check_option_type
    optmanager._Option.current = current  # type: ignore[assignment, method-assign]
    if _check_parts is not None and vars(http.MessageData).get("__post_init__") is _check_parts:
        http.MessageData.__post_init__ = check_parts  # type: ignore[method-assign]
    ours = {kind: staticmethod(new) for kind, own in _NEW.items() if vars(kind).get("__new__") is own}
    for kind, method in ours.items():
        kind.__new__ = method  # type: ignore[method-assign, assignment]
    parse_authority = lru_cache(_MOST_AUTHORITIES)(_parse_authority)
    if url.parse_authority is _parse_authority:
        url.parse_authority = parse_authority

    def uninstall() -> None:
        if typecheck.check_option_type is check_option_type:
            typecheck.check_option_type = _check
        if optmanager._Option.current is current:
            optmanager._Option.current = _current  # type: ignore[method-assign]
        if vars(http.MessageData).get("__post_init__") is check_parts:
            http.MessageData.__post_init__ = _check_parts  # type: ignore[method-assign, assignment]
        for kind, method in ours.items():
            if vars(kind).get("__new__") is method:
                kind.__new__ = _NEW[kind]  # type: ignore[method-assign]
        _SOUND.clear()
        if url.parse_authority is parse_authority:
            url.parse_authority = _parse_authority

    return uninstall


def check_option_type(name: str, value: Any, typeinfo: Any) -> None:
    """What mitmproxy's function of this name does. Raises TypeError as it does."""
    try:
        fitting = _FITTING[typeinfo]
    except KeyError:
        fitting = _FITTING[typeinfo] = _classes(typeinfo)
    except TypeError:  # a type that cannot be a key
        fitting = ()
    if not isinstance(value, fitting):
        _check(name, value, typeinfo)


def check_parts(message: http.MessageData) -> None:
    """What mitmproxy does with a request's or response's data that was just made. Raises TypeError as it does."""
    kind = type(message)
    if (known := _PARTS.get(kind)) is None:
        parts = fields(kind)
        known = _PARTS[kind] = attrgetter(*[part.name for part in parts]), tuple(_classes(part.type) for part in parts)
    if not all(map(isinstance, known[0](message), known[1])) and _check_parts is not None:
        _check_parts(message)


def new(kind: type, *arguments: Any, **named: Any) -> Any:
    """An instance of a hook or the end of a command, still empty. Raises an error as mitmproxy does."""
    if kind in _SOUND:
        return object.__new__(kind)
    own = kind if kind in _NEW else hooks.Hook if issubclass(kind, hooks.Hook) else events.CommandCompleted
    made = _NEW[own](kind, *arguments, **named)
    if all(each in _NEW or each is object or "__new__" not in vars(each) for each in kind.__mro__):
        _SOUND.add(kind)
    return made


def current(option: optmanager._Option) -> Any:
    """What mitmproxy's method of this name does."""
    value = option._default if option.value is optmanager.unset else option.value
    return value if type(value) in _UNCHANGING else _current(option)


def _classes(typeinfo: Any) -> tuple[type, ...]:
    """Instances of these pass mitmproxy's check; it has to be asked about all others."""
    if get_origin(typeinfo) in (Union, UnionType):
        return tuple(kind for each in get_args(typeinfo) for kind in _classes(each))
    if not isinstance(typeinfo, type) or get_origin(typeinfo) is not None or typeinfo in _SPECIAL:
        return ()
    return (float, int) if typeinfo is float else (typeinfo,)
