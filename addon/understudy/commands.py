"""The commands in mitmproxy's own command system: for its console, mitmweb's command bar, its API and key bindings."""

from __future__ import annotations

from collections.abc import Sequence

from mitmproxy import command, exceptions

from understudy.control import Control
from understudy.results import Result
from understudy.statustext import as_json, as_lines
from understudy.target import ControlError

PREFIX = "pool."
WHO = "a command in the proxy"


class Commands:
    """``pool.*``. All of them return lines, but for ``pool.json``, which returns the same as JSON."""

    def __init__(self, control: Control) -> None:
        self.control = control

    @command.command("pool.status")
    def status(self) -> Sequence[str]:
        """What is out of rotation, until when and why, the earliest due first."""
        return self._lines("status")

    @command.command("pool.explain")
    def explain(self, alias: str, dialect: str = "") -> Sequence[str]:
        """Who can answer for an alias in the order of asking; who is skipped, why, until when, and what clears it."""
        return self._lines("explain", alias, *filter(None, [dialect]))

    @command.command("pool.pick")
    def pick(self, alias: str, dialect: str = "") -> Sequence[str]:
        """Who would serve an alias now; takes nobody's turn."""
        return self._lines("pick", alias, *filter(None, [dialect]))

    @command.command("pool.suspend")
    def suspend(self, *what: str) -> Sequence[str]:
        """Take CREDENTIAL MODEL, credential NAME or upstream NAME out of rotation, for seconds, 10m or 2h (1h)."""
        return self._lines("suspend", *what)

    @command.command("pool.resume")
    def resume(self, *what: str) -> Sequence[str]:
        """Put CREDENTIAL MODEL, credential NAME or upstream NAME with all that is behind it back, or all."""
        return self._lines("resume", *what)

    @command.command("pool.probe")
    def probe(self, *what: str) -> Sequence[str]:
        """Let the next request find out whether CREDENTIAL MODEL, credential NAME or upstream NAME is back."""
        return self._lines("probe", *what)

    @command.command("pool.reload")
    def reload(self) -> Sequence[str]:
        """Read the pool file again; with an error the last good pool stays in use."""
        return self._lines("reload")

    @command.command("pool.json")
    def json(self, name: str, *words: str) -> str:
        """The result of another of these commands as JSON: pool.json explain gpt-5."""
        return as_json(self._run(name.removeprefix(PREFIX), words))

    def _lines(self, name: str, *words: str) -> list[str]:
        return as_lines(self._run(name, words), PREFIX)

    def _run(self, name: str, words: Sequence[str]) -> Result:
        try:
            return self.control.run(name, words, WHO)
        except ControlError as error:
            raise exceptions.CommandError(str(error)) from None
