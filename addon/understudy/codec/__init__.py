"""Bytes in, values out: content encodings, JSON and form edits, frames of streams, YAML with line numbers, masks; the
clock by which durations are measured, times as people read them, and how a value is written that nobody changes.

Nothing here knows what a call, a candidate or an error is. Every function is bounded in time and in memory, because
a peer chooses its input. The package never does I/O, but that ``file_permissions`` looks at who owns a file.

There are no names to hand on: each module is one format. Start with ``json_edit`` to see how a request body is changed.
"""

__all__ = [
    "abridged",
    "amazon_frames",
    "body_text",
    "content_encoding",
    "event_stream",
    "events",
    "file_permissions",
    "in_pieces",
    "json_edit",
    "json_rows",
    "masking",
    "multipart",
    "pattern_cost",
    "patterns",
    "record",
    "steady_clock",
    "time_text",
    "yaml_nodes",
]
