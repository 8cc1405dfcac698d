"""A user's home folder of its own: with a CA, a pool file, and whatever ``understudy run`` leaves there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.control import registry
from understudy.control.registry import Running

UNDERSTUDY = [sys.executable, "-m", "understudy.cli"]


@dataclass
class Home:
    """``path`` is the home folder; ``extra`` are variables on top of a bare environment."""

    path: Path
    confdir: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.path / ".config" / "understudy").mkdir(parents=True)
        (self.path / ".mitmproxy").symlink_to(self.confdir)

    @property
    def pool_path(self) -> Path:
        """Where the pool file belongs."""
        return self.path / ".config" / "understudy" / "pool.yaml"

    @property
    def environ(self) -> dict[str, str]:
        """The user's environment."""
        bare = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.path), "LC_ALL": "C.UTF-8"}
        return {**bare, **self.extra}

    @property
    def log(self) -> str:
        """The log of the proxies that were started here, "" before the first."""
        path = self.path / ".local" / "state" / "understudy" / "run.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def write_pool(self, text: str) -> None:
        """(Over)write the pool file."""
        self.pool_path.touch(mode=0o600)
        self.pool_path.write_text(text)

    def understudy(
        self, *words: str, stdin: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command to its end. Raises TimeoutExpired after a minute."""
        environ = {**self.environ, **(extra or {})}
        return subprocess.run(
            [*UNDERSTUDY, *words], input=stdin, env=environ, cwd=self.path, capture_output=True, timeout=60, check=False
        )

    def begin(self, words: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """Start a command and do not wait; the options are those of Popen. It is the caller's to end."""
        given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options}
        return subprocess.Popen([*UNDERSTUDY, *words], env=self.environ, cwd=self.path, **given)  # type: ignore[call-overload,no-any-return]

    def proxies(self) -> list[Running]:
        """The proxies that run here."""
        return registry.running_proxies(self.environ)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until a condition holds. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not in {timeout} s")
            time.sleep(0.02)

    def wait_ended(self, pid: int) -> None:
        """Wait until a process has ended. Raises TimeoutError."""
        self.wait_for(lambda: registry.has_ended(pid))

    def close(self) -> None:
        """End the proxies that are left, which a test that failed may leave behind."""
        for proxy in self.proxies():
            os.kill(proxy.pid, signal.SIGTERM)
            self.wait_ended(proxy.pid)
