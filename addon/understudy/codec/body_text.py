"""A body -> its text and its structure: JSON, JSON inside JSON, the events of a stream, also where it was cut.

Nothing here raises, and no more is parsed than a reply is worth. The peer names the charset, so only those are used
that are known to be tables or simple state machines: Python has codecs with quadratic cost (``punycode``) and codecs
that are no charsets at all (``zlib``, ``idna``), and looking up a name imports a module of that name.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

MAX_PARSED = 1 << 17  # characters of JSON that are parsed; of a longer object only its first members are
MAX_MEMBERS = 12  # of an object that is too long to be parsed
MAX_FRAMES = 64  # events of a stream that are looked at

ERROR_EVENTS = frozenset({"error", "response.failed", "response.error", "exception"})
"""Names of stream events that are an error by themselves."""

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_REPLACED = 1 << 15
"""Bytes that are read with replacement where a charset other than UTF-8 does not fit: each wrong byte costs a call."""
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CHARSETS = {
    "utf-8": "utf8 unicode-1-1-utf-8",
    "utf-16-le": "utf-16le utf-16 utf16",
    "utf-16-be": "utf-16be",
    "ascii": "us-ascii ansi-x3.4-1968",
    "latin-1": "iso-8859-1 iso8859-1 latin1",
    "iso8859-2": "iso-8859-2 latin2",
    "iso8859-5": "iso-8859-5 cyrillic",
    "iso8859-9": "iso-8859-9 latin5",
    "iso8859-15": "iso-8859-15 latin9",
    "cp1250": "windows-1250",
    "cp1251": "windows-1251",
    "cp1252": "windows-1252",
    "cp1254": "windows-1254",
    "cp866": "ibm866 866",
    "koi8-r": "koi8r",
    "koi8-u": "koi8u",
    "gbk": "gb2312 gb-2312 cp936 936 x-gbk windows-936",
    "gb18030": "gb-18030",
    "big5": "big5-tw",
    "big5hkscs": "big5-hkscs",
    "shift_jis": "shift-jis sjis x-sjis",
    "cp932": "windows-31j ms-kanji ms932",
    "euc_jp": "euc-jp eucjp x-euc-jp",
    "iso2022_jp": "iso-2022-jp",
    "euc_kr": "euc-kr euckr ks-c-5601-1987",
    "cp949": "windows-949 uhc",
}
_CODECS = {name.replace("_", "-"): codec for codec, others in _CHARSETS.items() for name in (codec, *others.split())}
"""Names of charsets that a peer may choose (IANA's, and what servers call them), and Python's names of them."""


def contains_any(data: bytes, parts: Iterable[bytes]) -> bool:
    """Whether one of these parts at least stands in the bytes.

    By ``find``: for bytes ``in`` first makes an error that they are no number, which takes longer than to look.
    """
    find = data.find
    for part in parts:  # noqa: SIM110 (a plain loop: every call comes through here)
        if find(part) >= 0:
            return True
    return False


def text_of(body: bytes, content_type: str = "") -> str:
    """The body as text, without a byte order mark: by its byte order mark, the charset that the type names, or UTF-8.

    A charset that is not known here, or that does not fit, is no reason to raise: what cannot be read is replaced.
    """
    named = _CHARSET.search(content_type)
    codec = _CODECS.get(named[1].lower().replace("_", "-"), "utf-8") if named else "utf-8"
    for mark, marked in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            body, codec = body[len(mark) :], marked
    if codec == "utf-8":
        return body.decode(codec, "replace")
    try:
        # A body that was cut may end in the middle of a character.
        return codecs.getincrementaldecoder(codec)().decode(body)
    except UnicodeError:
        return body[:_REPLACED].decode(codec, "replace")


def names_utf_8(content_type: str) -> bool:
    """Whether a type says that a body is UTF-8, or says nothing."""
    named = _CHARSET.search(content_type)
    return named is None or named[1].lower().replace("_", "-") in ("utf-8", "utf8")


def parse(text: str) -> object | None:
    """JSON, or JSON inside a JSON string; None for anything else. Of a very long object only the first members."""
    value: object = text
    for _ in range(2):
        if not isinstance(value, str):
            break
        stripped = value.strip()
        if stripped[:1] not in ("{", "[", '"'):
            return value if value is not text else None
        if len(stripped) > MAX_PARSED:
            return _first_members(stripped[:MAX_PARSED])
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            partial = _first_members(stripped) if value is text else None
            return partial if value is text else value
    return value


_DECODER = json.JSONDecoder()
_NEXT_KEY = re.compile(r'[\s,]*"(\w{1,40})"\s*:\s*')


def _first_members(text: str) -> object | None:
    """The members of an object that are whole before it is cut: errors stand in front, echoes of requests behind."""
    fields: dict[str, object] = {}
    at = 1 if text[:1] == "{" else len(text)
    while len(fields) < MAX_MEMBERS and (key := _NEXT_KEY.match(text, at)):
        try:
            fields[key[1]], at = _DECODER.raw_decode(text, key.end())
        except (ValueError, RecursionError):
            break
    return fields or None


def follow(value: object, keys: tuple[str, ...]) -> object | None:
    """The value at a path: keys, numbers that index lists, `*` for all elements; None if absent."""
    for index, key in enumerate(keys):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key == "*":
            gathered = (follow(item, keys[index + 1 :]) for item in value[:MAX_FRAMES])
            flat = (leaf for item in gathered for leaf in (item if isinstance(item, list) else [item]))
            return [leaf for leaf in flat if leaf is not None] or None
        elif isinstance(value, list) and key.isdecimal() and len(key) < 6:
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def frames(text: str) -> Iterator[tuple[str, object]]:
    """Name and parsed data of the first events of a stream (WHATWG event stream, CRLF or LF)."""
    blocks = re.split(r"\r?\n\r?\n", text[:MAX_PARSED], maxsplit=MAX_FRAMES)
    for block in blocks[:MAX_FRAMES]:
        name, data = "", []
        for line in block.splitlines():
            key, _, value = line.partition(":")
            if key == "event":
                name = value.strip()
            elif key == "data":
                data.append(value.removeprefix(" "))
        parsed = parse("\n".join(data)) if data else None
        if parsed is not None:
            yield name, parsed
        elif name in ERROR_EVENTS and data:
            yield name, "\n".join(data)
