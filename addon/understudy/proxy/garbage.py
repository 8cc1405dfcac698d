"""Python's garbage collector, set for a proxy: what was loaded at start is not walked again and again.

mitmproxy and the addon load some hundred thousand objects that live as long as the process. The collector would look at
all of them whenever enough new objects have gathered, which under load is many times a second. They are frozen once the
proxy runs, and what is young is looked at less often: a call leaves hardly anything behind that only the collector can
take away. While a proxy loads, the collector rests: of a quarter of a million objects, 1,500 could be taken away then,
0.3 MB, and looking for them took a sixth of the start's CPU time.

What was freed while the proxy loaded, such as the text of rules, lies between what stays. Where the C library can, it
hands these pages back to the operating system.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

OF_PYTHON = (700, 2_000)
YOUNG = 5_000
"""Objects that may be made, less those that were freed, before the young ones are looked at; Python's own is 700 or
2,000 (``OF_PYTHON``). A call keeps a few hundred while it is under way."""
TURNS = 3
"""After so many looks at the young ones the next look is at older ones too, and after so many of those at all.

A connection that ends leaves a circle of some hundred objects behind, with the memory of its TLS. It has been looked at
as living by then, so that only a look at all takes it away: there is one for some 80,000 objects.
"""
LOADING = 1_000_000
"""``YOUNG`` while a proxy loads. Not off: should the addon never begin, the collector still comes by."""
_before_loading: tuple[int, int, int] | None = None


def rest() -> None:
    """Before mitmproxy is loaded: leave the collector at rest until :func:`wake`. As :func:`settle`, not always."""
    global _before_loading
    before = gc.get_threshold()
    if gc.isenabled() and before[0] in OF_PYTHON:
        _before_loading = before
        gc.set_threshold(LOADING, *before[1:])


def wake() -> None:
    """End the rest, if there is one."""
    global _before_loading
    if _before_loading is not None and gc.get_threshold()[0] == LOADING:
        gc.set_threshold(*_before_loading)
    _before_loading = None


def settle() -> Callable[[], None]:
    """Freeze what was loaded; returns what undoes it.

    Does nothing where the collector is off, or its thresholds were set by someone else.
    """
    before = gc.get_threshold()
    if not gc.isenabled() or before[0] not in OF_PYTHON:
        return lambda: None
    gc.freeze()
    # The collector puts a look at all off until a quarter as much is new as was there at the last one: nothing is now.
    gc.collect()
    ours = (YOUNG, TURNS, TURNS)
    gc.set_threshold(*ours)

    def undo() -> None:
        gc.unfreeze()
        if gc.get_threshold() == ours:
            gc.set_threshold(*before)

    return undo


def give_back() -> None:
    """Give the operating system the memory that is free by now, on Linux with the GNU C library; elsewhere nothing."""
    import ctypes  # here: every command loads this module, and mitmproxy has loaded that one

    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
