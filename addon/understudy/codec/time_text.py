"""Times and time spans as people read them, here and in every reply of our own."""

from __future__ import annotations

import math
from datetime import datetime


def clock_time(at: float, now: float) -> str:
    """A time of day on this machine; with the date unless it is today's. Both are Unix times."""
    try:
        moment, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    except (ValueError, OverflowError, OSError):
        return "a time too far away to show"
    return moment.strftime("%H:%M:%S" if moment.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A time span as people read it: ``9s``, ``2m``, ``1h5m``."""
    whole = max(0, math.ceil(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "m"), (rest if not hours else 0, "s")]
    return "".join([f"{value}{unit}" for value, unit in parts if value]) or "0s"
