"""Which single failure leaves a route without a candidate, read from a pool alone, and what to add (H12).

What can fail by itself is an upstream, a credential, an upstream model, or a host with every upstream that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from understudy.model import Candidate, Credential, Mode, Pool, Route, is_glob, printable


class Failing(StrEnum):
    """What fails; in the order of the table."""

    UPSTREAM = "upstream"
    CREDENTIAL = "credential"
    MODEL = "model"
    HOST = "host"


_NAMES: dict[Failing, Callable[[Candidate], str]] = {
    Failing.UPSTREAM: lambda each: each.upstream.name,
    Failing.CREDENTIAL: lambda each: each.credential.name,
    Failing.MODEL: lambda each: each.model,
    Failing.HOST: lambda each: each.upstream.host,
}
OPEN_MODEL = "(as asked)"
"""What stands for the upstream model of a candidate that is asked for whatever the tool asks for."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A single failure with nobody left. ``add``: what to write into the pool file."""

    failing: Failing
    name: str
    add: str


@dataclass(frozen=True, slots=True)
class Backing:
    """A route in one dialect: how many candidates it has, and its gaps.

    ``left``: for each kind of failure that leaves somebody, the smallest number of those who are left.
    """

    pattern: str
    dialect: str
    candidates: int
    gaps: tuple[Gap, ...]
    left: dict[Failing, int]


def backings(pool: Pool, dialects_of: Callable[[Route], Iterator[str] | list[str]]) -> list[Backing]:
    """Every route that may replay, for each dialect that is asked for in it. ``dialects_of(route)`` tells these."""
    return [
        _backing(pool, route, dialect)
        for route in pool.routes.values()
        if route.mode is Mode.ENFORCE
        for dialect in sorted(dialects_of(route))
    ]


def _backing(pool: Pool, route: Route, dialect: str) -> Backing:
    alias = OPEN_MODEL if route.is_default or is_glob(route.pattern) else route.pattern
    members = [each for each in route.members(alias, dialect) if not each.credential.missing]
    gaps: list[Gap] = []
    left: dict[Failing, int] = {}
    for failing, name_of in _NAMES.items():
        for name in dict.fromkeys(map(name_of, members)):
            others = [each for each in members if name_of(each) != name]
            if others:
                left[failing] = min(left.get(failing, len(others)), len(others))
            else:
                gaps.append(Gap(failing, name, _advice(pool, route, dialect, failing, members[0])))
    return Backing(route.pattern, dialect, len(members), tuple(gaps), left)


def _advice(pool: Pool, route: Route, dialect: str, failing: Failing, last: Candidate) -> str:
    named = {choice.credential.name for choice in route.choices}
    unused = [each for each in pool.credentials.values() if _could_serve(each, dialect) and each.name not in named]
    match failing:
        case Failing.CREDENTIAL:
            here = [each for each in unused if each.upstream.name == last.upstream.name] or unused
            if here:
                return f"add `{here[0].name}` to its candidates"
            return f"add a second credential, of upstream {last.upstream.name} or another one"
        case Failing.MODEL:
            return (
                "add a candidate with another upstream model: `{credential: " + last.credential.name + ", model: ...}`"
            )
        case Failing.UPSTREAM | Failing.HOST:
            elsewhere = [each for each in unused if each.upstream.host != last.upstream.host]
            if elsewhere:
                return f"add `{elsewhere[0].name}` (upstream {elsewhere[0].upstream.name}) to its candidates"
            return f"add an upstream with `dialect: {dialect}` at another host, and a credential of it"


def _could_serve(credential: Credential, dialect: str) -> bool:
    return credential.upstream.serves(dialect) and not credential.missing and not credential.secret.is_client


def table(found: list[Backing]) -> list[str]:
    """Routes by failures, as lines: how many candidates are left at worst, or whose failure leaves nobody."""
    head = ["route", "dialect", "candidates", *(f"one {failing} fails" for failing in Failing)]
    rows = [
        [printable(each.pattern), each.dialect, str(each.candidates), *(_cell(each, failing) for failing in Failing)]
        for each in found
    ]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _cell(backing: Backing, failing: Failing) -> str:
    if not backing.candidates:
        return "nobody anyway"
    names = [printable(gap.name) for gap in backing.gaps if gap.failing is failing]
    return f"nobody without {', '.join(names)}" if names else f"{backing.left[failing]} left"


def advice(found: list[Backing]) -> list[str]:
    """What to add, a line for each gap; what one line mends that another names as well is said once."""
    lines: dict[str, None] = {}
    for each in found:
        by_add: dict[str, list[str]] = {}
        for gap in each.gaps:
            by_add.setdefault(gap.add, []).append(f"{gap.failing} {printable(gap.name)}")
        for add, names in by_add.items():
            lines.setdefault(f"{printable(each.pattern)} ({each.dialect}): without {' or '.join(names)}: {add}")
    return list(lines)
