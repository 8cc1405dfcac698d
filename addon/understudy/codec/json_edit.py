"""Minimal byte edits of JSON: where the model name stands in a body, and how to change it and nothing else.

Signatures, prompt caches and plain trust depend on the rest of a body staying what the tool sent, so nothing here
serialises a body again. And a body is not parsed to find a few members of it: 100 MB of ``[],`` would become gigabytes
of lists. It is scanned: its bytes are run through by expressions that cannot backtrack, values that were not asked for
are skipped, and only what was asked for is parsed. The memory this takes is at most a copy of the body, the time is
linear, and a body that would take too many steps or too many levels is no JSON for us.

What is skipped is checked less strictly than a parser would: its brackets and its strings have to end. A body that an
upstream's parser refuses may therefore be edited, and the upstream then refuses it as it would have done without us.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from understudy.codec.abridged import PIECE, abridge, check_utf8, without_escapes
from understudy.codec.in_pieces import copy_to

MOST_LEVELS = 500
"""How deep objects and arrays may be nested."""
MOST_BRACKETS = 1_000_000
"""Opening brackets of a body, also inside strings."""
MOST_STRINGS = 1_000_000
"""Strings of a body, names included."""
MOST_STEPS = 30_000
"""Members, items and brackets that are looked at one by one; what nests up to six levels takes one step altogether."""
MOST_EDIT_STEPS = 200_000
"""The same for an edit, which looks into thousands of items of a conversation."""
TOO_MANY = "too many members, objects and arrays"
_SPACE = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(
    rb"(?:-?(?:0|[1-9][0-9]{0,4299}+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null|NaN|-?Infinity)(?![0-9])"
)
_BOM = b"\xef\xbb\xbf"


def _run_through(levels: int) -> re.Pattern[bytes]:
    """Everything up to the next bracket, with objects and arrays that have so many levels and end. Never backtracks."""
    plain = rb'[^"\[\]{}]++|"[^"]*+"'
    found = rb"(?:" + plain + rb")*+"
    for _ in range(levels):
        found = rb"(?:" + plain + rb"|\{" + found + rb"\}|\[" + found + rb"\])*+"
    return re.compile(found)


_INSIDE = _run_through(6)
_SHALLOW = _run_through(4).pattern
_MEMBER = re.compile(
    rb'[ \t\n\r]*+("[^"]*+")[ \t\n\r]*+:[ \t\n\r]*+("[^"]*+"|%b|\{%b\}|\[%b\])[ \t\n\r]*+(?=[,}])'
    % (_SCALAR.pattern, _SHALLOW, _SHALLOW)
)
"""A whole member up to what follows it, as nearly all are: its name and its value. Never backtracks. Few
levels: each one doubles what there is to compile."""
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}


class Raw(bytes):
    """JSON as it is to stand in a document: it is not written again."""


type Place = Sequence[str]
"""Where a string stands in a JSON document: member names from the top, ``*`` for every item of an array."""


def read_json_model(body: bytes) -> tuple[str | None, bool]:
    """Return (alias, stream) from the top level of a JSON body; (None, False) for whatever is not an object.

    A member that occurs several times counts as its last value, as in the parsers that vendors use.
    """
    alias = stream = None
    try:
        scan = _Scan(body)
        for key, start, end in scan.members(scan.begin, whole=True):
            if key == "model":
                alias = scan.string(start, end)
            elif key == "stream":
                stream = body[start:end] == b"true"
    except ValueError:
        return None, False
    return alias, stream is True


def read_json_flag(body: bytes, name: str) -> bool | None:
    """A member at the top level that is true or false; None for any other value or without one. Never raises."""
    found = None
    try:
        scan = _Scan(body)
        for key, start, end in scan.members(scan.begin, whole=True):
            if key == name:
                found = {b"true": True, b"false": False}.get(body[start:end])
    except ValueError:
        return None
    return found


def read_json_member(body: bytes, name: str) -> object:
    """A member at the top level of a JSON body, the last where it is repeated; None without one. Never raises.

    It is parsed, so a caller bounds the body.
    """
    found = None
    try:
        scan = _Scan(body)
        for key, start, end in scan.members(scan.begin, whole=True):
            if key == name:
                found = (start, end)
        return scan.parsed(*found) if found else None
    except (ValueError, RecursionError):
        return None


def raw_members(body: bytes, names: Collection[str]) -> dict[str, Raw]:
    """The top-level members of a JSON object that have these names, as they stand in it; the last of a repeated one.

    Raises ValueError for a body that is not a JSON object.
    """
    scan = _Scan(body)
    return {key: Raw(body[start:end]) for key, start, end in scan.members(scan.begin, whole=True) if key in names}


def raw_items(array: bytes) -> list[Raw]:
    """The items of a JSON array, as they stand in it. Raises ValueError for what is not an array."""
    scan = _Scan(array)
    return [Raw(array[start:end]) for start, end in scan.items(scan.begin)]


def write_json_model(body: bytes, model: str) -> bytes:
    """Replace the top-level ``model`` of a JSON body, each of them if it is repeated; all other bytes stay.

    Raises ValueError where ``read_json_model`` finds no alias.
    """
    short = abridge(body, b'"model"')
    scan = _Scan(short.text)
    found = [(start, end) for key, start, end in scan.members(scan.begin, whole=True) if key == "model"]
    if not found or scan.string(*found[-1]) is None:
        raise ValueError("no model name at the top level of the body")
    return _splice(body, [(short.place(start), short.place(end), json.dumps(model)) for start, end in found])


def replace_json_strings(body: bytes, places: Sequence[Place], swap: Callable[[str], str | None]) -> bytes:
    """Replace the strings at ``places`` by what ``swap`` makes of them (None: stays); all other bytes stay.

    Places that do not exist are passed over. Raises ValueError for a body that is not a JSON object.
    """
    edits: dict[int, tuple[int, int, str]] = {}
    scan = _Scan(body)
    for start, end, value in _find(scan, scan.begin, places, whole=True):
        new = swap(value)
        if new is not None and new != value:
            edits[start] = (start, end, json.dumps(new))
    return _splice(body, [edits[start] for start in sorted(edits)])


def set_json_members(body: bytes, members: Mapping[str, object]) -> bytes:
    """Set top-level members of a JSON object: None removes, what is there is replaced (each of them if it is repeated),
    what is missing goes in front; all other bytes stay. A :class:`Raw` value is put there as it is.

    Raises ValueError for a body that is not a JSON object.
    """
    short = abridge(body)
    scan = _Scan(short.text)
    found = list(scan.members(scan.begin, whole=True))
    begin = scan.begin + 1
    edits: list[tuple[int, int, str | bytes]] = []
    missing = {name: value for name, value in members.items() if value is not None}
    stays, last = False, begin  # whether a member before this one stays; where the one before it ends
    for key, start, end in found:
        if key in members and members[key] is None:
            edits.append((last, end, ""))  # with the comma before it
        else:
            if not stays and last != begin:
                edits.append((last, short.text.index(b",", last) + 1, ""))
            if key in members:
                edits.append((start, end, _text(members[key])))
                missing.pop(key, None)
            stays = True
        last = end
    if missing:
        added = b", ".join(_text(name) + b": " + _text(value) for name, value in missing.items())
        edits.insert(0, (begin, begin, added + (b", " if stays else b"")))
    return _splice(body, [(short.place(start), short.place(end), value) for start, end, value in edits])


def append_json_items(body: bytes, name: str, items: Sequence[object]) -> bytes:
    """Put items behind those of the array that is the member ``name`` of a JSON object; all other bytes stay.

    Of a repeated member the last one counts. Raises ValueError when there is no such array.
    """
    scan = _Scan(body)
    found = [(start, end) for key, start, end in scan.members(scan.begin, whole=True) if key == name]
    if not found or body[found[-1][0] : found[-1][0] + 1] != b"[":
        raise ValueError(f"no array called {name}")
    start, end = found[-1][0], found[-1][1] - 1
    added = ", ".join(map(json.dumps, items))
    return _splice(body, [(end, end, f", {added}" if scan.space(start + 1) != end and items else added)])


class _Scan:
    """A body and where its values begin and end, in bytes. Raises ValueError for what is no JSON in UTF-8."""

    def __init__(self, body: bytes, most_steps: int = MOST_STEPS) -> None:
        self._most_steps = most_steps
        if not body.isascii():
            check_utf8(body)
        self.body = body
        self._steps = 0
        # The same bytes with every escaped backslash and quote overwritten: here a string ends at the next quote.
        self._marks = without_escapes(body)
        if len(body) > MOST_STRINGS and (
            _count(body, b"[") + _count(body, b"{") > MOST_BRACKETS or _count(self._marks, b'"') > 2 * MOST_STRINGS
        ):
            raise ValueError("too many values")
        self.begin = 0 if body.startswith(b"{") else self.space(len(_BOM) if body.startswith(_BOM) else 0)

    def space(self, at: int) -> int:
        """Where the white space from here on ends."""
        while (match := _SPACE.match(self.body, at, at + PIECE)) and match.end() == at + PIECE:
            at += PIECE
        return match.end() if match else at

    def members(self, at: int, *, whole: bool = False) -> Iterator[tuple[str, int, int]]:
        """Yield (key, start of value, end of value) of the object at ``at``; ``whole``: nothing may follow it."""
        at = self._expect(at, b"{")
        if self.body[at : at + 1] == b'"' or self.body[(at := self.space(at)) : at + 1] != b"}":
            while True:
                if (found := _MEMBER.match(self._marks, at, at + PIECE)) is not None:
                    (_, behind), (begin, end_of_name), (start, end) = found.regs
                    self._steps += 2
                    if self._steps > self._most_steps:
                        raise ValueError(TOO_MANY)
                else:
                    begin, end_of_name, start, end, behind = self._long_member(self.space(at))
                key = self.string(begin, end_of_name)
                if key is None:
                    raise ValueError(f"expected a name at byte {begin}")
                yield key, start, end
                at = behind
                if self.body[at : at + 1] != b",":
                    break
                at += 1
        at = self._expect(at, b"}")
        if whole and at != len(self.body) and self.space(at) != len(self.body):
            raise ValueError("something follows the object")

    def _long_member(self, at: int) -> tuple[int, int, int, int, int]:
        """Where the name of a member of any size and form begins and ends, and its value, and where what follows is."""
        end_of_name = self._end(at)
        start = self.space(self._expect(self.space(end_of_name), b":"))
        end = self._end(start)
        return at, end_of_name, start, end, self.space(end)

    def items(self, at: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of the items of the array at ``at``."""
        at = self.space(self._expect(at, b"["))
        while self.body[at : at + 1] != b"]":
            end = self._end(at)
            yield at, end
            at = self.space(end)
            if self.body[at : at + 1] == b",":
                at = self.space(at + 1)

    def string(self, start: int, end: int) -> str | None:
        """The string that stands here; None for another value."""
        if self.body[start : start + 1] != b'"':
            return None
        raw = self.body[start:end]
        if b"\\" not in raw and raw.isascii() and (text := raw.decode()).isprintable():
            return text[1:-1]
        found: object = json.loads(raw.decode())
        return found if isinstance(found, str) else None

    def parsed(self, start: int, end: int) -> object:
        """The value that stands here."""
        return json.loads(self.body[start:end].decode())

    def _expect(self, at: int, mark: bytes) -> int:
        if self.body[at : at + 1] != mark:
            raise ValueError(f"expected {mark.decode()!r} at byte {at}")
        return at + 1

    def _end(self, at: int) -> int:
        """Where the value that begins here ends."""
        self._count_step()
        marks = self._marks
        if at >= len(marks):
            raise ValueError(f"expected a value at byte {at}")
        if marks[at] in _CLOSING:
            return self._end_of_nested(at)
        if marks[at] == ord('"'):
            return self._end_of_string(at)
        match = _SCALAR.match(marks, at)
        if match is None:
            raise ValueError(f"expected a value at byte {at}")
        return match.end()

    def _end_of_string(self, at: int) -> int:
        end = self._marks.find(b'"', at + 1)
        if end == -1:
            raise ValueError(f"a string that does not end, at byte {at}")
        return end + 1

    def _end_of_nested(self, at: int) -> int:
        marks, run = self._marks, _INSIDE.match
        open_ones = [_CLOSING[marks[at]]]
        at += 1
        while True:
            self._count_step()
            # In pieces: a thread that reads a large body has to let others go on now and then.
            match = run(marks, at, at + PIECE)
            begun, at = at, match.end() if match else at
            if at >= len(marks):
                raise ValueError(f"a value that does not end, at byte {at}")
            mark = marks[at]
            if mark == open_ones[-1]:
                open_ones.pop()
                at += 1
                if not open_ones:
                    return at
            elif mark in _CLOSING and len(open_ones) < MOST_LEVELS:
                open_ones.append(_CLOSING[mark])
                at += 1
            elif mark == ord('"'):  # a string that goes on beyond the piece
                at = self._end_of_string(at)
            elif at < begun + PIECE:
                raise ValueError(f"a bracket that closes another one, or too many levels, at byte {at}")

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > self._most_steps:
            raise ValueError(TOO_MANY)


type Span = tuple[int, int]
"""Where a value begins and ends in a body, in bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object: its name, where the name begins, and its value."""

    name: str
    begin: int
    value: Span


class JsonEdit:
    """A body and the edits that were collected on it; :meth:`result` applies them. All other bytes stay.

    Raises ValueError for what is no JSON object in UTF-8, here and in every method that looks at more of it. Edits must
    not overlap: what is taken out is not edited inside.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._scan = _Scan(body, MOST_EDIT_STEPS)
        self._edits: list[tuple[int, int, str]] = []
        self.top = self._members(self._scan.begin, whole=True)
        """The members at the top level, in order."""

    def members(self, span: Span) -> list[Member]:
        """The members of the object at a place, in order; [] for any other value."""
        return self._members(span[0]) if self.body[span[0] : span[0] + 1] == b"{" else []

    def _members(self, at: int, *, whole: bool = False) -> list[Member]:
        found: list[Member] = []
        begin = self._scan.space(at + 1)
        for name, start, end in self._scan.members(at, whole=whole):
            found.append(Member(name, begin, (start, end)))
            begin = self._scan.space(self._scan.space(end) + 1)  # behind the comma
        return found

    def items(self, span: Span) -> list[Span]:
        """The items of the array at a place; [] for any other value."""
        return list(self._scan.items(span[0])) if self.body[span[0] : span[0] + 1] == b"[" else []

    def text(self, span: Span | None) -> str | None:
        """The string at a place; None for any other value, and for no place."""
        return self._scan.string(*span) if span is not None else None

    def holds(self, span: Span, words: bytes) -> bool:
        """Whether these bytes stand at a place. In quotes they are a whole string: inside of one, quotes are escaped.

        That is how a value is passed over without a look at its members.
        """
        return self.body.find(words, *span) != -1

    def replace(self, span: Span, value: object) -> None:
        """Put another value at a place."""
        self._edits.append((*span, json.dumps(value)))

    def take_out(self, parts: Sequence[Span], which: Collection[int]) -> None:
        """Take some of all items or members of a value out, each with one comma.

        ``parts``: where they begin and end, for members with their names; ``which``: the places among them.
        """
        first = 0
        while first < len(parts):
            if first not in which:
                first += 1
                continue
            last = first
            while last + 1 < len(parts) and last + 1 in which:
                last += 1
            if first > 0:
                self._edits.append((parts[first - 1][1], parts[last][1], ""))
            elif last + 1 < len(parts):
                self._edits.append((parts[first][0], parts[last + 1][0], ""))
            else:
                self._edits.append((parts[first][0], parts[last][1], ""))
            first = last + 1

    def take_members_out(self, members: Sequence[Member], which: Collection[int]) -> None:
        """The same for the members of an object."""
        self.take_out([(each.begin, each.value[1]) for each in members], which)

    def result(self) -> bytes:
        """The body with all edits; the body itself without any."""
        return _splice(self.body, sorted(self._edits)) if self._edits else self.body


def member_of(members: Sequence[Member], name: str) -> Span | None:
    """The value of the last member of this name, which is the one that counts; None without one."""
    return next((each.value for each in reversed(members) if each.name == name), None)


def _find(scan: _Scan, at: int, places: Sequence[Place], *, whole: bool = False) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, value) of every string that stands at one of the places below the object at ``at``."""
    for key, start, end in scan.members(at, whole=whole):
        below = [place[1:] for place in places if place and place[0] == key]
        if below:
            yield from _find_in(scan, start, end, below)


def _find_in(scan: _Scan, start: int, end: int, places: Sequence[Place]) -> Iterator[tuple[int, int, str]]:
    deeper = [place for place in places if place]
    match scan.body[start : start + 1]:
        case b'"' if len(deeper) < len(places):
            if (value := scan.string(start, end)) is not None:
                yield start, end, value
        case b"{" if deeper:
            yield from _find(scan, start, deeper)
        case b"[":
            below = [place[1:] for place in deeper if place[0] == "*"]
            if below:
                for item_start, item_end in scan.items(start):
                    yield from _find_in(scan, item_start, item_end, below)


def _count(body: bytes, mark: bytes) -> int:
    return sum(body.count(mark, at, at + PIECE) for at in range(0, len(body), PIECE))


def _text(value: object) -> bytes:
    return value if isinstance(value, Raw) else json.dumps(value).encode()


def _splice(body: bytes, edits: Sequence[tuple[int, int, str | bytes]]) -> bytes:
    """Put texts at ranges of bytes. Ranges are in order."""
    made, view = BytesIO(), memoryview(body)  # slices of bytes are copies
    done = 0
    for start, end, value in [*edits, (len(body), len(body), b"")]:
        copy_to(made, view, done, start)
        made.write(value if isinstance(value, bytes) else value.encode())
        done = end
    return made.getvalue()
