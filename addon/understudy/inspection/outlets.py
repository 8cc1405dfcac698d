"""What there is to look at, as the options ask for it: the journal, its file, the content view and the metrics.

It reads no option itself; the addon does. Whatever cannot be done raises ValueError with what to do instead, and what
was there before stays in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from understudy.inspection import content_view
from understudy.inspection.journal import FlowJournal, Show
from understudy.inspection.journal_file import JournalFile
from understudy.model import Suspension

if TYPE_CHECKING:
    from understudy.inspection.metrics import Metrics

NO_LIBRARY = "pool_metrics needs the Prometheus client library: pip install 'mitmproxy-understudy[metrics]'"


class Inspection:
    """One per addon. ``show`` puts an attempt's flow where flows are looked at; ``running`` are the suspensions."""

    def __init__(self, journal: FlowJournal, show: Show, running: Callable[[], Iterable[Suspension]]) -> None:
        self.journal = journal
        self.journal.show = show
        self.running = running
        self.metrics: Metrics | None = None
        """What is counted, if metrics are on: ``metrics.render()`` is Prometheus text."""
        self._file: JournalFile | None = None
        self._port = 0
        self._end_page: Callable[[], None] = _nothing

    def open(self) -> None:
        """Let mitmproxy know the content view."""
        content_view.register()

    def close(self) -> None:
        """Leave mitmproxy as it was, and no file or port open."""
        content_view.unregister()
        self.write_to("")
        self.count(wanted=False, port=0)

    def write_to(self, written: str) -> None:
        """Write the journal to this file from now on; "": nowhere."""
        try:
            opened = JournalFile(written) if written else None
        except OSError as error:
            raise ValueError(
                f"pool_journal: {written} cannot be opened ({error.strerror}): name a file in a folder that exists"
            ) from None
        if self._file is not None:
            self.journal.listeners.remove(self._file)
            self._file.close()
        self._file = opened
        if opened is not None:
            self.journal.listeners.append(opened)

    def count(self, *, wanted: bool, port: int) -> None:
        """Begin or end to count, and to serve what was counted at this port; 0: nowhere."""
        if (wanted or port) and self.metrics is None:
            try:
                from understudy.inspection.metrics import Metrics  # here: it is an extra, and takes its time to load
            except ImportError:
                raise ValueError(NO_LIBRARY) from None
            self.metrics = Metrics(self.running)
            self.journal.listeners.append(self.metrics)
        if port != self._port:
            self._serve(port)
        if not (wanted or port) and self.metrics is not None:
            self.journal.listeners.remove(self.metrics)
            self.metrics = None

    def _serve(self, port: int) -> None:
        served = _nothing
        if port and self.metrics is not None:
            from understudy.inspection.metrics import CONTENT_TYPE, serve

            try:
                served = serve(port, self.metrics.render, CONTENT_TYPE)
            except (OSError, OverflowError) as error:
                raise ValueError(f"pool_metrics_port: {port} cannot be used ({error}): name a free port") from None
        self._end_page()
        self._end_page, self._port = served, port


def _nothing() -> None:
    """What ends a page that is not served."""
