"""For ``mitmdump -s addon/understudy/main.py``: the addon as a script, in whatever mitmproxy that is."""

import importlib.util
import sys
from pathlib import Path

from mitmproxy import version

NEEDED = (("cachetools", "cachetools>=6.0"), ("yaml", "PyYAML>=6.0"))
"""Modules that mitmproxy does not bring along, and what pip calls them: the dependencies in pyproject.toml."""
_HERE = Path(__file__).resolve().parent


def missing() -> str:
    """What this mitmproxy lacks and how to install it, "" when nothing. Read by old releases of Python as well."""
    if sys.version_info < (3, 12):  # noqa: UP036  (pip has not looked at the version where this is only a script)
        found = ".".join(map(str, sys.version_info[:2]))
        return f"needs Python 3.12 or newer, and this mitmproxy runs on {found}: install mitmproxy for a newer Python"
    major = version.VERSION.partition(".")[0]
    if major != "12":
        return f"needs mitmproxy 12, and this is {version.VERSION}: run `pip install 'mitmproxy>=12.0,<13'`"
    lacks = [package for module, package in NEEDED if importlib.util.find_spec(module) is None]
    if not lacks:
        return ""
    names = " and ".join(package.partition(">")[0] for package in lacks)
    if getattr(sys, "frozen", False):
        return f"needs {names}, which mitmproxy's stand-alone program cannot load: install mitmproxy with pip or pipx"
    packages = " ".join(f"'{package}'" for package in lacks)
    return f"needs {names}: run `{sys.executable} -m pip install {packages}`, then start mitmproxy again"


if trouble := missing():
    # Not an exception: mitmproxy would show a traceback, and go on without the addon.
    sys.exit(f"understudy {trouble}")

# mitmproxy puts the script's folder on the path. There our packages would stand beside the installed ones: ``requests``
# would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

from understudy.proxy import unused_modules  # noqa: E402  (the path has to be right first)

unused_modules.take_out()

from understudy.addon import Understudy  # noqa: E402  (what it loads takes the place of what was taken out)

addons = [Understudy()]
