"""mitmproxy's headers: made, looked up and set in few steps, without an exception for each that is not there.

``in``, ``get`` and ``[]`` of its headers convert the name and each field's name by calls of their own, make a list of
all values and raise KeyError for what is missing, which most headers that are asked for are: some thirty times a call.
Here the fields are put into a dictionary when they are first asked for, and each look-up finds the same in it. Headers
are made and one of them is set by five functions, which look at each field by itself; here that is one for each. What
is no plain name, and what cannot be written, goes mitmproxy's own way, with its own error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.http import Headers

_NAMES = ("__contains__", "__getitem__", "__setitem__", "get")
_OWN = {name: getattr(Headers, name) for name in _NAMES}
"""What mitmproxy uses: it inherits all four."""
_init = Headers.__init__
_INDICES: dict[int, tuple[object, Mapping[bytes, bytes]]] = {}
"""By ``id``, the fields that were asked for last, and these by name. While they are here, nothing else has their id."""
_MOST_INDICES = 16
"""Those of a call are asked for in a row, so few are enough."""
_SEVERAL = bytes(bytearray(b"several"))
"""Compared by identity, so made anew: it is no field's value."""
_TWO, _BYTES = {2}, {bytes}
_KNOWN: dict[str, bytes] = {}
"""Names as they are looked for, in lower case; code asks for some fifty."""
_MOST, _LONGEST = 500, 100
"""Names that are kept, and characters of one: peers choose those of their fields."""


def install() -> Callable[[], None]:
    """Put all in place, for the whole process; returns what undoes it."""
    methods: dict[str, Any] = {"__contains__": contains, "__getitem__": item, "__setitem__": set_item, "get": get}
    taken = any(name in vars(Headers) for name in _NAMES) or Headers.__init__ is not _init
    if taken or any(getattr(Headers, name) is not own for name, own in _OWN.items()) or not _is_known():
        return lambda: None
    for name, method in methods.items():
        setattr(Headers, name, method)
    Headers.__init__ = make  # type: ignore[assignment, method-assign]

    def uninstall() -> None:
        _INDICES.clear()
        if vars(Headers)["__init__"] is make:
            Headers.__init__ = _init  # type: ignore[method-assign]
        for name, method in methods.items():
            if vars(Headers).get(name) is method:
                delattr(Headers, name)

    return uninstall


def make(headers: Headers, fields: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> None:
    """What ``Headers(fields, **more)`` does. Raises TypeError as it does."""
    taken: Any = tuple(map(tuple, fields))
    if more or type(headers) is not Headers or {*map(len, taken)} - _TWO or {*map(type, chain(*taken))} - _BYTES:
        _init(headers, taken, **more)
    else:
        headers.fields = taken


def set_item(headers: Headers, name: Any, value: Any) -> None:
    """What ``headers[name] = value`` does. Raises an error as it does."""
    index, wanted = _index(headers), _lower(name)
    found = index.get(wanted) if index is not None and wanted is not None else _SEVERAL
    if found is _SEVERAL or type(value) is not str:
        _OWN["__setitem__"](headers, name, value)
        return
    written = value.encode("utf-8", "surrogateescape")
    if found is None:
        headers.fields = (*headers.fields, (name if type(name) is bytes else name.encode(), written))
    else:
        headers.fields = tuple((each[0], written) if each[0].lower() == wanted else each for each in headers.fields)


def contains(headers: Headers, name: object) -> bool:
    """What ``name in headers`` does."""
    index, wanted = _index(headers), _lower(name)
    if index is None or wanted is None:
        return bool(_OWN["__contains__"](headers, name))
    return wanted in index


def item(headers: Headers, name: Any) -> str:
    """What ``headers[name]`` does. Raises KeyError as it does."""
    index, wanted = _index(headers), _lower(name)
    if index is None or wanted is None:
        return str(_OWN["__getitem__"](headers, name))
    if (found := index.get(wanted)) is None:
        raise KeyError(name)
    return _text(headers, wanted) if found is _SEVERAL else found.decode("utf-8", "surrogateescape")


def get(headers: Headers, name: Any, default: Any = None) -> Any:
    """What ``headers.get(name, default)`` does."""
    index, wanted = _index(headers), _lower(name)
    if index is None or wanted is None:
        return _OWN["get"](headers, name, default)
    if (found := index.get(wanted)) is None:
        return default
    return _text(headers, wanted) if found is _SEVERAL else found.decode("utf-8", "surrogateescape")


def _index(headers: Headers) -> Mapping[bytes, bytes] | None:
    """The value of each field by its name in lower case, ``_SEVERAL`` of one that is there more than once.

    It is kept for the next look-up in these very fields, which are a tuple and so never change. None where mitmproxy
    has to be asked.
    """
    if type(headers) is not Headers:
        return None
    fields = headers.fields
    if (known := _INDICES.get(id(fields))) is not None:
        return known[1]
    try:
        index = {name.lower(): value for name, value in fields}
        if len(index) != len(fields):
            names = Counter(name.lower() for name, _ in fields)
            index.update((name, _SEVERAL) for name, count in names.items() if count > 1)
    except (TypeError, ValueError, AttributeError):
        return None
    if type(fields) is tuple:
        if len(_INDICES) >= _MOST_INDICES:
            _INDICES.clear()
        _INDICES[id(fields)] = fields, index
    return index


def _lower(name: object) -> bytes | None:
    """A name as it is looked for; None of what is no plain name, and of one that cannot be written."""
    if type(name) is str:
        try:
            return _KNOWN[name]
        except KeyError:
            return _learn(name)
    return name.lower() if type(name) is bytes else None


def _learn(name: str) -> bytes | None:
    try:
        wanted = name.encode().lower()
    except UnicodeError:
        return None
    if len(_KNOWN) < _MOST and len(name) <= _LONGEST:
        _KNOWN[name] = wanted
    return wanted


def _text(headers: Headers, wanted: bytes) -> str:
    values = (value for name, value in headers.fields if name.lower() == wanted)
    return ", ".join(value.decode("utf-8", "surrogateescape") for value in values)


def _is_known() -> bool:
    """Whether this release reads its fields as the look-ups here do."""
    return "get_all" in vars(Headers) and Headers.__bases__ == (MultiDict,)
