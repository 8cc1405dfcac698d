"""``from understudy.reply import Reply``: as Python rules of earlier releases do; new ones use ``understudy.rules``."""

from understudy.replies import Reply

__all__ = ["Reply"]
