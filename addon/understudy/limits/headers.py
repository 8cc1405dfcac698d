"""The headers in which vendors say what is left of a limit: ``limits.yaml`` -> what one reply's headers say.

Vendors are data: a new one is a few lines of that file, with examples that are tested. Which of its windows a header
belongs to is found once for each name and kept, so that a reply costs one look-up a header, and nothing more where no
header speaks of a limit.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

from understudy.codec.file_permissions import check_file_is_private
from understudy.codec.yaml_nodes import (
    LARGEST,
    RULE,
    FileError,
    Listing,
    Problem,
    RuleError,
    Scalar,
    Table,
    Value,
    read,
)
from understudy.model import host_regex, printable
from understudy.replies import seconds_until
from understudy.rules import LIMITS_FILE, shipped_folder

MOST_NAMES = 2048
"""Header names whose place is remembered, for each host; an upstream can make up as many as it likes."""
MOST_WINDOWS = 16
"""Windows that one reply is believed to have."""
LONGEST_VALUE = 256
"""Characters of a header's value that are looked at."""
MOST_HOSTS = 256
"""Hosts whose headers are remembered."""

_VALUES = ("limit", "remaining", "used", "used_percent", "left_percent", "reset", "minutes", "family")
_KEYS = ("name", "of", "whose", "length", "header", "policy", "fields", *_VALUES)
_OF = ("requests", "tokens", "input tokens", "output tokens", "plan")
_LENGTH = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_PAIR = re.compile(r"([A-Za-z_]{1,20})=([^;&,\"]{0,80})")


class Whose(StrEnum):
    """Who shares a window."""

    CREDENTIAL = "credential"  # all models of the credential
    FAMILY = "family"  # its models that have the family's name in theirs
    MODEL = "model"  # the one upstream model


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reply says of one window.

    ``subject``: "" for a credential, else the family, or the upstream model. ``left``: the share that is left, 0 to 1,
    None where only ``remaining`` is known. ``reset``: seconds until the window begins anew, infinite where that was not
    said. ``length``: of the window in seconds, 0 where that is not known.
    """

    name: str
    of: str
    whose: Whose
    subject: str
    left: float | None
    limit: float | None
    remaining: float | None
    reset: float
    length: float

    def __str__(self) -> str:
        who = {Whose.CREDENTIAL: "the credential", Whose.MODEL: "the model"}.get(
            self.whose, f"all {self.subject} models"
        )
        parts = [f"{self.name} of {who}"]
        if self.left is not None:
            parts.append(f"{self.left * 100:.1f} % left")
        if self.remaining is not None:
            parts.append(f"{self.remaining:g}" if self.limit is None else f"{self.remaining:.12g} of {self.limit:.12g}")
            if self.limit is None:
                parts[-1] += " left"
        if self.reset < math.inf:
            parts.append(f"resets in {self.reset:.12g} s")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Spec:
    """One window of a vendor: which header gives which value; ``*`` in a name stands for a part of it."""

    name: str
    of: str
    whose: Whose
    families: tuple[str, ...]
    length: float
    headers: tuple[tuple[str, str], ...]
    """Value -> header, the first of the same value going before the second."""
    fields: Mapping[str, str]
    """Of a header that holds all values: value -> name in it."""


@dataclass(frozen=True, slots=True)
class Example:
    """Headers, and the words for what is read from them."""

    line: int
    host: str
    model: str
    headers: Mapping[str, str]
    read: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vendor:
    """One entry of the file."""

    name: str
    source: str
    hosts: tuple[str, ...]
    specs: tuple[Spec, ...]
    examples: tuple[Example, ...]
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class _Place:
    """What a header is: a value of a window, with what its ``*`` stood for. ``order``: which of several counts."""

    spec: Spec
    value: str
    part: str
    order: int


@dataclass
class _Names:
    """The header names of one host. ``known``: the places of those about a limit; ``silent``: those about none."""

    specs: tuple[Spec, ...]
    exact: dict[str, list[_Place]] = field(default_factory=dict)
    globs: list[tuple[str, str, _Place]] = field(default_factory=list)
    known: dict[str, tuple[_Place, ...]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for spec in self.specs:
            for order, (value, header) in enumerate(spec.headers):
                before, star, after = header.partition("*")
                place = _Place(spec, value, "", order)
                if star:
                    self.globs.append((before, after, place))
                else:
                    self.exact.setdefault(header, []).append(place)

    def find(self, name: str) -> tuple[_Place, ...]:
        """The places of a header, remembered; none for one that is about no limit."""
        lower, found = name.lower(), []
        if lower in self.exact:
            # The first vendor that has it: those with hosts of their own come first.
            places = self.exact[lower]
            found = [place for place in places if place.spec is places[0].spec]
        else:
            for before, after, place in self.globs:
                part = lower[len(before) : len(lower) - len(after)]
                if lower.startswith(before) and lower.endswith(after) and part and "-" not in part:
                    found.append(_Place(place.spec, place.value, part, place.order))
        if len(self.known) + len(self.silent) >= MOST_NAMES:
            self.known.clear()
            self.silent.clear()
        if found:
            self.known[name] = tuple(found)
        else:
            self.silent.add(name)
        return tuple(found)


class LimitTable:
    """What the files say, ready to read replies with."""

    def __init__(self, vendors: Sequence[Vendor]) -> None:
        self.vendors = tuple(vendors)
        self._hosts: dict[str, _Names] = {}

    def spoken(self, host: str, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of a reply's headers that may speak of a limit: mostly none, and every reply asks."""
        names = self._hosts.get(host) or self._names_of(host)
        silent = names.silent
        return [header for header in headers if header[0] not in silent]

    def read(self, host: str, model: str, headers: Iterable[tuple[str, str]], now: float) -> list[Reading]:
        """What a reply's headers say. ``model``: the upstream model asked; ``now``: Unix time, for dates.

        What cannot be understood is left out: a limit that is misread would only put a candidate behind its equals.
        """
        names = self._hosts.get(host) or self._names_of(host)
        known = names.known
        found: list[tuple[_Place, str]] = []
        for name, value in headers:
            places = known.get(name) or names.find(name)
            found += [(place, value) for place in places]
        return _readings(found, model, now) if found else []

    def _names_of(self, host: str) -> _Names:
        own = [each for each in self.vendors if any(host_regex(name).fullmatch(host) for name in each.hosts)]
        general = [each for each in self.vendors if not each.hosts]
        names = _Names(tuple(spec for vendor in (*own, *general) for spec in vendor.specs))
        if len(self._hosts) >= MOST_HOSTS:
            self._hosts.clear()
        self._hosts[host] = names
        return names


def _readings(found: Sequence[tuple[_Place, str]], model: str, now: float) -> list[Reading]:
    windows: dict[tuple[int, str], tuple[Spec, dict[str, tuple[int, str]]]] = {}
    for place, text in found:
        key = id(place.spec), place.part
        if key not in windows:
            if len(windows) >= MOST_WINDOWS:
                continue
            windows[key] = place.spec, {}
        values, text = windows[key][1], text[:LONGEST_VALUE]
        if place.value in ("header", "policy"):
            pairs = dict(_PAIR.findall(text))
            for value, name in place.spec.fields.items():
                if name in pairs:
                    values.setdefault(value, (place.order, unquote(pairs[name])))
        elif place.value not in values or values[place.value][0] > place.order:
            values[place.value] = place.order, text
    told = (
        _reading(spec, part, {name: text for name, (_, text) in values.items()}, model, now)
        for (_, part), (spec, values) in windows.items()
    )
    return [reading for reading in told if reading is not None]


def _reading(spec: Spec, part: str, values: Mapping[str, str], model: str, now: float) -> Reading | None:
    limit, remaining = _number(values.get("limit")), _number(values.get("remaining"))
    if "limit" in values and "limit" in spec.fields and (limit is None or limit <= 0):
        return None  # an entitlement of -1: there is none
    left: float | None = None
    if (used := _number(values.get("used"))) is not None:
        left = 1 - used
    elif (percent := _number(values.get("used_percent"))) is not None:
        left = 1 - percent / 100
    elif (percent := _number(values.get("left_percent"))) is not None:
        left = percent / 100
    elif remaining is not None and limit:
        left = remaining / limit
    if left is None and remaining is None:
        return None
    if left is not None:
        left = min(1.0, max(0.0, left))
        if remaining is None and limit:
            remaining = left * limit
    length, name = spec.length, spec.name
    if "minutes" in values:
        minutes = _number(values["minutes"])
        if not minutes:
            return None  # a plan without this window
        length = minutes * 60
        name = " ".join([_words(length), *name.split(" ")[1:]])
    reset = seconds_until(values["reset"], now) if "reset" in values else None
    whose, subject = spec.whose, ""
    if whose is Whose.FAMILY:
        stated = values.get("family", part).strip().lower()
        if "family" in values or stated in spec.families:
            subject = printable(stated, 80)
        else:
            whose = Whose.MODEL
    if whose is Whose.MODEL:
        subject = model
    shown = printable(name.replace("*", part).replace("_", " "), 40)
    return Reading(shown, spec.of, whose, subject, left, limit, remaining, math.inf if reset is None else reset, length)


def _words(seconds: float) -> str:
    """``5h``, ``7d``, ``90m``."""
    for unit, size in (("d", 86400.0), ("h", 3600.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds / 60:g}m"


def _number(text: str | None) -> float | None:
    """A number from 0 to a million billions, None for everything else."""
    if text is None or len(text) > 24:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1e15 else None


# -- the file ------------------------------------------------------------------------------------------------------


def load_table(folders: Sequence[Path] = ()) -> LimitTable:
    """The vendors of these folders' ``limits.yaml``, where they have one, then the shipped ones. Raises RuleError."""
    files = [file for folder in folders if (file := folder / LIMITS_FILE).is_file() and folder != shipped_folder()]
    for file in files:
        try:
            check_file_is_private(file)
        except FileError as error:
            raise RuleError(error.problems) from None
    return LimitTable([vendor for file in files for vendor in read_file(file)] + list(shipped_table().vendors))


@functools.cache
def shipped_table() -> LimitTable:
    """What comes with understudy, read once. Raises RuleError."""
    return LimitTable(read_file(shipped_folder() / LIMITS_FILE))


def read_file(path: Path) -> list[Vendor]:
    """The entries of one file. Raises RuleError with everything that is wrong."""
    problems: list[Problem] = []
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1).decode()
    except (OSError, ValueError) as error:
        what = "this cannot be read" if isinstance(error, OSError) else "this is not UTF-8"
        raise RuleError([Problem(str(path), 1, what, "write a YAML list of vendors")]) from None
    vendors = _File(str(path), problems).vendors(read(text, str(path), problems, RULE))
    if problems:
        raise RuleError(problems)
    return vendors


class _File:
    """Reads one file, and notes what is wrong in it."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path, self.problems = path, problems

    def vendors(self, value: Value) -> list[Vendor]:
        if not isinstance(value, Listing):
            self._add(value.line, "this is no list of vendors", "write `- vendor: NAME` and what belongs to it")
            return []
        return [self._vendor(item) for item in value.items if self._is_table(item)]

    def _vendor(self, value: Value) -> Vendor:
        keys = ("vendor", "source", "hosts", "whose", "families", "windows", "examples")
        table = self._table(value, keys, ("vendor", "source", "windows", "examples"))
        whose = self._whose(table, Whose.CREDENTIAL)
        families = tuple(text.lower() for text in self._texts(table, "families"))
        specs = tuple(self._spec(item, whose, families) for item in self._items(table, "windows"))
        examples = tuple(self._example(item) for item in self._items(table, "examples"))
        if "examples" in table.entries and not examples:
            self._add(value.line, "a vendor without examples", "write `examples: [{headers: ..., read: ...}]`")
        return Vendor(
            self._text(table, "vendor"),
            self._text(table, "source"),
            tuple(self._texts(table, "hosts")),
            specs,
            examples,
            self.path,
            value.line,
        )

    def _spec(self, value: Value, whose: Whose, families: tuple[str, ...]) -> Spec:
        table = self._table(value, _KEYS, ("name", "of"))
        of = self._text(table, "of")
        if of not in _OF:
            self._add(value.line, "`of` says nothing that is known", f"write one of {', '.join(_OF)}")
        headers = [(name, text.lower()) for name in ("header", "policy", *_VALUES) for text in self._texts(table, name)]
        if not any(name in ("header", "remaining", "used", "used_percent", "left_percent") for name, _ in headers):
            self._add(value.line, "a window of which nothing says what is left", "add `remaining` or `used`")
        if any(header.count("*") > 1 for _, header in headers):
            self._add(value.line, "a header with more than one `*`", "write one")
        return Spec(
            self._text(table, "name"),
            of,
            self._whose(table, whose),
            families,
            self._length(table),
            tuple(headers),
            self._fields(table),
        )

    def _example(self, value: Value) -> Example:
        table = self._table(value, ("host", "model", "headers", "read"), ("headers", "read"))
        headers = table.entries.get("headers", (None, None))[1]
        pairs = headers.entries.items() if isinstance(headers, Table) else ()
        return Example(
            value.line,
            self._text(table, "host"),
            self._text(table, "model"),
            {name: item.text for name, (_, item) in pairs if isinstance(item, Scalar)},
            tuple(self._texts(table, "read")),
        )

    def _whose(self, table: Table, default: Whose) -> Whose:
        text = self._text(table, "whose") or default.value
        if text not in Whose:
            self._add(table.line, "`whose` names nobody that is known", f"write one of {', '.join(Whose)}")
            return default
        return Whose(text)

    def _length(self, table: Table) -> float:
        text = self._text(table, "length")
        if not text:
            return 0.0
        if found := re.fullmatch(r"(\d{1,4})([mhd])", text):
            return int(found[1]) * _LENGTH[found[2]]
        self._add(table.line, "a `length` that cannot be read", "write `5h`, `7d` or `30m`")
        return 0.0

    def _fields(self, table: Table) -> dict[str, str]:
        value = table.entries.get("fields", (None, None))[1]
        if value is None:
            return {}
        if not isinstance(value, Table) or not value.entries.keys() <= set(_VALUES):
            self._add(value.line, "`fields` that are not known", f"write a mapping of {', '.join(_VALUES)}")
            return {}
        return {name: item.text for name, (_, item) in value.entries.items() if isinstance(item, Scalar)}

    def _is_table(self, value: Value) -> bool:
        if not isinstance(value, Table):
            self._add(value.line, "this is no mapping", "write `- vendor: NAME` and what belongs to it")
        return isinstance(value, Table)

    def _table(self, value: Value, known: Sequence[str], needed: Sequence[str]) -> Table:
        if not isinstance(value, Table):
            self._add(value.line, "this is no mapping", f"write a mapping of {', '.join(known)}")
            return Table(value.line, {})
        for key, (where, _) in value.entries.items():
            if key not in known:
                self._add(where.line, f"unknown key `{printable(key, 40)}`", f"write one of {', '.join(known)}")
        for key in needed:
            if key not in value.entries:
                self._add(value.line, f"`{key}` is missing", f"add `{key}`")
        return value

    def _text(self, table: Table, key: str) -> str:
        return next(iter(self._texts(table, key)), "")

    def _texts(self, table: Table, key: str) -> Iterator[str]:
        value = table.entries.get(key, (None, None))[1]
        for item in value.items if isinstance(value, Listing) else [value] if value is not None else []:
            if isinstance(item, Scalar):
                yield item.text
            else:
                self._add(item.line, f"`{key}` is no text", "write a text, or a list of texts")

    def _items(self, table: Table, key: str) -> tuple[Value, ...]:
        value = table.entries.get(key, (None, None))[1]
        if value is not None and not isinstance(value, Listing):
            self._add(value.line, f"`{key}` is no list", "write a list")
        return value.items if isinstance(value, Listing) else ()

    def _add(self, line: int, what: str, write: str) -> None:
        self.problems.append(Problem(self.path, line, what, write))
