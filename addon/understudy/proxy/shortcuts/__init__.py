"""Shorter ways through mitmproxy's core and the libraries under it, for the sake of speed and memory.

Each module takes the place of some steps of mitmproxy's and does the same in fewer: the same values, errors and order,
which its test compares with mitmproxy's own over random inputs. What is unusual goes mitmproxy's own way. The package
never decides anything about a call, and works without a pool. ``pool_shortcuts=false`` leaves all of it out. Start with
``hook_table``, which saves most.
"""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.addonmanager import AddonManager

from understudy.proxy.shortcuts import (
    event_handling,
    flow_parts,
    header_lookup,
    hook_table,
    http1_messages,
    http2_fields,
    idle_timer,
    small_queues,
    tls_records,
    value_checks,
)

__all__ = ["install"]


def install(addons: AddonManager) -> Callable[[], None]:
    """Put all in place, for the whole process and the hooks of ``addons``; returns what undoes it without a trace."""
    undo = [hook_table.install(addons)]
    for module in (
        value_checks,
        header_lookup,
        http1_messages,
        http2_fields,
        tls_records,
        flow_parts,
        event_handling,
        small_queues,
        idle_timer,
    ):
        undo.append(module.install())

    def uninstall() -> None:
        for each in reversed(undo):
            each()

    return uninstall
