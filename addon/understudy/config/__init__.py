"""The pool file, and where secrets come from: a file that a person wrote becomes a Pool, or errors with line numbers.

``pool_file`` finds, checks and loads it; ``pool_reader`` knows its keys; ``fields`` its single values; ``secrets`` the
sources. All problems are told at once, as ``path:line: what is wrong: what to write``. The package never replaces a
pool that is in use and never sends a request. Start with ``pool_file``.
"""

from understudy.config.fields import suggestion
from understudy.config.pool_file import (
    default_pool_path,
    lint,
    load,
    no_pool_file,
)
from understudy.config.pool_reader import HOLD_FOR, MOST_HOURS
from understudy.config.unreachable_routes import dialects, spoken
from understudy.config.vendors import dialects_named
from understudy.config.watched_file import FileChange, WatchedFile

__all__ = [
    "HOLD_FOR",
    "MOST_HOURS",
    "FileChange",
    "WatchedFile",
    "default_pool_path",
    "dialects",
    "dialects_named",
    "init_pool",
    "lint",
    "load",
    "no_pool_file",
    "pool_file",
    "spoken",
    "suggestion",
]
