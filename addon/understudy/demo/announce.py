"""A second addon of the demonstration: says what to try once the proxy listens."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from mitmproxy import ctx

from understudy import demo
from understudy.codec.yaml_nodes import ConfigError
from understudy.config import default_pool_path

logger = logging.getLogger("understudy")

HEAD = """
There is no pool file yet, so this is the demonstration: every candidate is a made-up credential at an upstream on this
machine, and nothing leaves it. In another terminal, try:
"""
LOOK = """\
Look at the log here, and in mitmweb at the comment and the marker of each flow: they say which candidate refused, why,
and who answered. Ask the same again: the suspended candidate is skipped.{web}
Started with -w FILE, the flows are saved as well, and `understudy explain FILE` tells each call as a story.

To use your own credentials, write {pool}: `understudy init` makes a first one from the
API keys in the environment, and docs/getting-started.md shows how. `understudy run` and `understudy env` never lead a
tool to the demonstration.
"""
INTERVAL = 1.0
"""Seconds between two looks for a pool file."""


class Announce:
    """Prints the commands to try, and says once that there is a pool file now."""

    def __init__(self) -> None:
        self._looking: asyncio.Task[None] | None = None

    def done(self) -> None:
        """The proxy ends."""
        if self._looking is not None:
            self._looking.cancel()

    def running(self) -> None:
        """Called when the proxy listens."""
        self._looking = asyncio.get_running_loop().create_task(_look(usual_place()), name="understudy demonstration")
        addresses = ctx.master.addons.get("proxyserver").listen_addrs()
        if not addresses:
            return
        ca = Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"
        print(HEAD, flush=True)
        port = addresses[0][1]
        drill = [demo.drill_line(port, str(ca), os.getpid())] if os.name == "posix" else []
        for title, command in [*demo.curl_lines(port, str(ca)), *drill]:
            print(f"  # {title}\n  {command}\n", flush=True)
        web = ""
        if hasattr(ctx.master, "web_url"):
            from understudy.control import page as webpage  # here: mitmdump has no use for a web server

            page = webpage.address(ctx.master.web_url)
            web = f"\n\nmitmweb: {ctx.master.web_url}\nWho is free, who is suspended and why, live: {page}"
        print(LOOK.format(web=web, pool=usual_place()), flush=True)


def usual_place() -> Path:
    """Where the pool file belongs."""
    try:
        return default_pool_path(os.environ)
    except ConfigError:
        return Path("~/.config/understudy/pool.yaml")


async def _look(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(INTERVAL)
    logger.warning(
        f"understudy: {path} exists now, and this is still the demonstration: end it and start understudy again"
    )


addons = [Announce()]
