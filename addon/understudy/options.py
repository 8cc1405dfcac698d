"""The options that the addon adds to mitmproxy. What they mean: docs/operations.md, "Options"."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mitmproxy import exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.utils import human

from understudy.config import HOLD_FOR, MOST_HOURS
from understudy.proxy.engine import CONNECT_LIMIT

DECRYPT = ("pooled", "all")


def add(loader: Loader) -> None:
    """Add all of them."""
    loader.add_option(
        "pool_file", str, "", "The pool file. Default: understudy/pool.yaml in the user's configuration folder."
    )
    loader.add_option(
        "pool_rules", Sequence[str], [], "More folders of rules, asked before the shipped ones in this order."
    )
    loader.add_option("pool_decrypt", str, "pooled", "Which TLS connections are looked into.", choices=list(DECRYPT))
    loader.add_option(
        "pool_allow_remote",
        bool,
        False,
        "Spend pool credentials on requests that come in over a listener beyond loopback without proxyauth.",
    )
    loader.add_option(
        "pool_keep_streams", int, 0, "Bytes of each live stream that are kept for inspection; 0 keeps none."
    )
    loader.add_option(
        "pool_mask_streams",
        bool,
        True,
        "Mask an echo of a secret in live streams on their way to the tool, too; false: only in what is kept of them.",
    )
    loader.add_option(
        "pool_connect_timeout",
        str,
        f"{CONNECT_LIMIT:g}",
        "Seconds for a connection to an upstream, TLS included, before the next candidate is tried.",
    )
    loader.add_option(
        "pool_request_limit",
        str,
        "64m",
        "The largest request body, decoded, that is served from the pool (with a suffix such as k, m or g).",
    )
    loader.add_option(
        "pool_users",
        Sequence[str],
        [],
        "More local users (names or ids) that may spend pool credentials; yours and root always may (Linux only).",
    )
    loader.add_option(
        "pool_wait",
        str,
        "false",
        "How long calls are held until a known reset when every candidate is out: false, true (6 hours) or hours. "
        "For routes without `until_reset`.",
    )
    loader.add_option("pool_control", bool, True, "Let `understudy status` and the like ask this proxy.")
    loader.add_option(
        "pool_attempt_flows", bool, True, "Show and save attempts that the tool did not get as flows of their own."
    )
    loader.add_option(
        "pool_journal", str, "", "Append one JSON object per pooled call to this file; '-' is standard output."
    )
    loader.add_option(
        "pool_shortcuts",
        bool,
        True,
        "Shorter ways through mitmproxy's core: hooks by table, checks, garbage collection.",
    )
    loader.add_option(
        "pool_metrics", bool, False, "Collect metrics for Prometheus (needs mitmproxy-understudy[metrics])."
    )
    loader.add_option(
        "pool_metrics_port", int, 0, "Collect metrics and serve them at http://127.0.0.1:PORT/metrics; 0: do not."
    )


def seconds(option: str, written: str) -> float:
    """A time span above 0. mitmproxy's options know no fractions, so this one is a text. Raises OptionsError."""
    try:
        found = float(written)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise exceptions.OptionsError(f"{option} is {written!r}, which is no number of seconds: write one such as 10")
    return found


def hold(option: str, written: str) -> float:
    """Seconds for which calls are held until a reset, written as ``until_reset`` of a route is. Raises OptionsError."""
    word = written.strip().lower()
    if word in ("true", "false"):
        return HOLD_FOR if word == "true" else 0.0
    try:
        hours = float(word)
    except ValueError:
        hours = math.nan
    if not 0 <= hours <= MOST_HOURS:
        raise exceptions.OptionsError(
            f"{option} is {written!r}, which is no time to hold calls: write true, false, or hours up to {MOST_HOURS}"
        )
    return hours * 3600


def size(option: str, written: str) -> int:
    """A number of bytes above 0, as mitmproxy's own options write it: ``64m``. Raises OptionsError."""
    try:
        found = human.parse_size(written)
    except ValueError:
        found = None
    if not found or found < 0:
        raise exceptions.OptionsError(f"{option} is {written!r}, which is no size: write one such as 64m")
    return found
