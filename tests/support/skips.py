"""In continuous integration a test that is skipped is a failure: nobody reads the list of what was not tested.

A skip stays one where the system can never do what the test needs. These are listed here, by system and by the reason
that the test gives; what can be installed (a browser, a server) is never among them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

NEVER_THERE: dict[str, dict[str, str]] = {
    "darwin": {
        "the system does not say who it is": "macOS has no SO_PEERCRED",
        "this system does not tell": "macOS has no /proc",
        "this system does not tell which signals are ignored": "macOS has no /proc",
    },
    "linux": {},
}
"""By ``sys.platform``: the reason that a skipped test gives, and why no installation changes it."""


def is_integration() -> bool:
    """Whether this runs in continuous integration: all common systems set ``CI``."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def refused(longrepr: Any, platform: str = sys.platform) -> str | None:
    """What to say of a skip that may not be one, None where it may.

    ``longrepr`` is pytest's account of a skip, ``(path, line, "Skipped: reason")``.
    """
    reason = str(longrepr[2] if isinstance(longrepr, tuple) else longrepr).removeprefix("Skipped: ")
    if reason in NEVER_THERE.get(platform, {}):
        return None
    return f"skipped, and with CI={os.environ.get('CI')} no test may be: {reason}"


def _fail_if_refused(report: Any) -> None:
    # An expected failure is reported as skipped, too, and is none.
    if report.outcome != "skipped" or hasattr(report, "wasxfail") or not is_integration():
        return
    said = refused(report.longrepr)
    if said is not None:
        report.outcome, report.longrepr = "failed", said


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """A test that is skipped, by a mark or while it runs."""
    report = yield
    _fail_if_refused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """A whole module that is skipped."""
    report = yield
    _fail_if_refused(report)
    return report
