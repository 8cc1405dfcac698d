"""A second addon of the demonstration: says what to try once the proxy listens."""

from __future__ import annotations

from pathlib import Path

from mitmproxy import ctx

from understudy import demo

HEAD = """
There is no pool file yet, so this is the demonstration: every candidate is a made-up credential at an upstream on this
machine, and nothing leaves it. In another terminal, try:
"""
LOOK = """\
Look at the log here, and in mitmweb at the comment and the marker of each flow: they say which candidate refused, why,
and who answered. Ask the same again: the suspended candidate is skipped.{web}
Started with -w FILE, the flows are saved as well, and `understudy explain FILE` tells each call as a story.

To use your own credentials, write {pool}: docs/getting-started.md shows how.
"""


class Announce:
    """Prints the commands to try."""

    def running(self) -> None:
        """Called when the proxy listens."""
        addresses = ctx.master.addons.get("proxyserver").listen_addrs()
        if not addresses:
            return
        ca = Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"
        print(HEAD, flush=True)
        for title, command in demo.curl_lines(addresses[0][1], str(ca)):
            print(f"  # {title}\n  {command}\n", flush=True)
        web = ""
        if hasattr(ctx.master, "web_url"):
            from understudy.control import page as webpage  # here: mitmdump has no use for a web server

            page = webpage.address(ctx.master.web_url)
            web = f"\n\nmitmweb: {ctx.master.web_url}\nWho is free, who is suspended and why, live: {page}"
        print(LOOK.format(web=web, pool="~/.config/understudy/pool.yaml"), flush=True)


addons = [Announce()]
