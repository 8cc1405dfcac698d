"""Minimal byte edits of forms: the ``model`` field of a multipart/form-data body (RFC 7578)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))', re.DOTALL)
_LONGEST_PADDING = 256  # blanks allowed between a boundary and its line break; a bound on what hostile forms cost
_LONGEST_HEAD = 16 * 1024
"""Bytes of one part's headers."""
_MOST_MARKS = 10_000
"""How often the boundary may occur: a form has a handful of parts, and each occurrence takes a step."""
_TRUE_FIELDS = frozenset({"true", "1"})


def read_multipart_model(content_type: str, body: bytes) -> tuple[str | None, bool]:
    """Return (alias, stream) from the fields of a multipart/form-data body; (None, False) if it is not one."""
    alias: str | None = None
    stream = False
    for name, start, end in _fields(content_type, body):
        try:
            if name == "model":
                alias = body[start:end].decode("utf-8")
            elif name == "stream":
                stream = body[start:end].decode("utf-8").strip().lower() in _TRUE_FIELDS
        except UnicodeDecodeError:
            return None, False
    return alias, stream


def write_multipart_model(content_type: str, body: bytes, model: str) -> bytes:
    """Replace the ``model`` field of a multipart/form-data body, each of them if it is repeated (RFC 7578).

    Raises ValueError where ``read_multipart_model`` finds no alias, and for a model name that would break the framing.
    """
    if read_multipart_model(content_type, body)[0] is None:
        raise ValueError("no model field in the form")
    if "\r" in model or "\n" in model:
        raise ValueError("a model name in a form cannot contain line breaks")
    pieces: list[bytes] = []
    done = 0
    for name, start, end in _fields(content_type, body):
        if name == "model":
            pieces += (body[done:start], model.encode())
            done = end
    pieces.append(body[done:])
    return b"".join(pieces)


def set_multipart_model(content_type: str, body: bytes, model: str) -> bytes:
    """As :func:`write_multipart_model`, but a form without such a field gets one in front.

    Raises ValueError for what is no form, and for a model name that would break the framing.
    """
    if read_multipart_model(content_type, body)[0] is not None:
        return write_multipart_model(content_type, body, model)
    boundary = header_parameter(content_type, "boundary")
    mark = b"--" + (boundary or "").encode("utf-8", "replace")
    if not boundary or not body.startswith(mark + b"\r\n"):
        raise ValueError("the form cannot be read")
    if "\r" in model or "\n" in model:
        raise ValueError("a model name in a form cannot contain line breaks")
    field = b'\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model.encode() + b"\r\n"
    return mark + field + body


def header_parameter(value: str, name: str) -> str | None:
    """A parameter of a header such as Content-Type: ``boundary`` of ``multipart/form-data; boundary="x"``."""
    for match in _PARAMETER.finditer(value):
        if match[1].lower() == name:
            if match[2] is not None:
                return re.sub(r"\\(.)", r"\1", match[2], flags=re.DOTALL)
            return match[3].strip()
    return None


def _fields(content_type: str, body: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, start, end of content) of the plain fields of a form; files are passed over."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return
    boundary = header_parameter(content_type, "boundary")
    if not boundary:
        return
    mark = b"--" + boundary.encode("utf-8", "replace")
    if body.count(mark) > _MOST_MARKS:
        return
    content_start: int | None = None
    name = ""
    at = 0
    while (at := body.find(mark, at)) >= 0:
        after = at + len(mark)
        padded, line_break, _ = body[after : after + _LONGEST_PADDING].partition(b"\r\n")
        rest = padded.strip(b" \t")
        # The mark counts only as a line of its own: one boundary may be the beginning of another.
        if (at and body[at - 2 : at] != b"\r\n") or rest not in (b"", b"--"):
            at = after
            continue
        # An empty part's line break is the one that ends its headers, not a content of -2 bytes.
        if name and content_start is not None and at - 2 >= content_start:
            yield name, content_start, at - 2
        if rest == b"--" or not line_break:
            return
        name, content_start = "", None
        line_end = after + len(padded)
        head_end = body.find(b"\r\n\r\n", line_end, line_end + _LONGEST_HEAD)
        if head_end == -1:
            return
        name, content_start = _field_name(body[line_end:head_end]), head_end + 4
        at = content_start
    # No closing mark: the form is cut, and nothing after the last mark is a field.


def _field_name(head: bytes) -> str:
    """The name of a plain field from its part's headers; "" for a file or anything else."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition" and header_parameter(value, "filename") is None:
            if header_parameter(value, "filename*") is None:
                return header_parameter(value, "name") or ""
            return ""
    return ""
