"""For ``mitmdump -s addon/understudy/main.py``: the addon as a script."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# mitmproxy puts the script's folder on the path. There our packages would stand beside the installed ones: ``requests``
# would hide the library of that name.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

from understudy.addon import Understudy  # noqa: E402  (the path has to be right first)

addons = [Understudy()]
