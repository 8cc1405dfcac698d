"""The command ``understudy``: one module for each group of its commands.

``command_line`` reads the arguments and runs ``init`` and ``check``; ``launch`` starts mitmweb and mitmdump; ``run``,
``doctor``, ``rules``, ``serve``, ``service`` and ``control`` have the commands of their names; ``replay`` has
``explain FILE`` too. The package never decides about a call. Start with ``command_line``.
"""

from understudy.cli.command_line import main

__all__ = [
    "main",
]
