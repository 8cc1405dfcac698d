"""The command ``understudy``: one module for each group of its commands.

``parsers`` has the words of every command and names the function that does it; ``command_line`` reads the words and
loads that function's module, and nothing that the command does not need. ``launch`` starts mitmweb and mitmdump;
``pool_file`` (``check``, ``init``), ``run``, ``doctor``, ``rules``, ``serve``, ``service`` and ``control`` have the
commands; ``replay`` has ``explain FILE`` too. The package never decides about a call. Start with ``parsers``.
"""

from understudy.cli.command_line import main

__all__ = [
    "main",
]
