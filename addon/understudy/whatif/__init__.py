"""Recorded calls through the current pool and rules, without a network: ``understudy replay`` and ``explain``.

``recorder`` reads calls from saved flows, ``ordering`` puts them in order, ``simulation`` plays them through the real
exchange, ``report``, ``summary`` and ``narrative`` say what came of it. Nothing is sent anywhere. Start with
``runner``.
"""

__all__ = [
    "runner",
]
