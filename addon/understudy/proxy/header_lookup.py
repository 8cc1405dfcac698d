"""mitmproxy's look-ups of a header, without an exception for each header that is not there.

``in``, ``get`` and ``[]`` of its headers convert the name and each field's name by calls of their own, make a list of
all values and raise KeyError for what is missing, which most headers that are asked for are: some thirty times a call.
Here one pass over the fields finds the same. What is no plain name, and names that cannot be written, go mitmproxy's
own way, with its own error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.http import Headers

_NAMES = ("__contains__", "__getitem__", "get")
_OWN = {name: getattr(Headers, name) for name in _NAMES}
"""What mitmproxy uses: it inherits all three."""


def install() -> Callable[[], None]:
    """Put all three in place, for the whole process; returns what undoes it."""
    methods: dict[str, Any] = {"__contains__": contains, "__getitem__": item, "get": get}
    taken = any(name in vars(Headers) for name in _NAMES)
    if taken or any(getattr(Headers, name) is not own for name, own in _OWN.items()) or not _is_known():
        return lambda: None
    for name, method in methods.items():
        setattr(Headers, name, method)

    def uninstall() -> None:
        for name, method in methods.items():
            if vars(Headers).get(name) is method:
                delattr(Headers, name)

    return uninstall


def contains(headers: Headers, name: object) -> bool:
    """What ``name in headers`` does."""
    found = _values(headers, name)
    return bool(_OWN["__contains__"](headers, name)) if found is None else bool(found)


def item(headers: Headers, name: Any) -> str:
    """What ``headers[name]`` does. Raises KeyError as it does."""
    found = _values(headers, name)
    if found is None:
        return str(_OWN["__getitem__"](headers, name))
    if not found:
        raise KeyError(name)
    return _text(found)


def get(headers: Headers, name: Any, default: Any = None) -> Any:
    """What ``headers.get(name, default)`` does."""
    found = _values(headers, name)
    if found is None:
        return _OWN["get"](headers, name, default)
    return _text(found) if found else default


def _values(headers: Headers, name: object) -> list[bytes] | None:
    """The values of all fields of this name; None where mitmproxy has to be asked."""
    if type(headers) is not Headers:
        return None
    try:
        if type(name) is str:
            wanted = name.encode().lower()
        elif type(name) is bytes:
            wanted = name.lower()
        else:
            return None
        return [value for each, value in headers.fields if each.lower() == wanted]
    except (UnicodeError, TypeError, ValueError, AttributeError):
        return None


def _text(values: list[bytes]) -> str:
    if len(values) == 1:
        return values[0].decode("utf-8", "surrogateescape")
    return ", ".join([value.decode("utf-8", "surrogateescape") for value in values])


def _is_known() -> bool:
    """Whether this release reads its fields as the look-ups here do."""
    return "get_all" in vars(Headers) and Headers.__bases__ == (MultiDict,)
