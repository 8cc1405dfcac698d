"""From rounds to figures: percentiles, ratios of pairs, and the rows of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 0 for no values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


class Unit(Enum):
    """What a figure counts, and how it is written."""

    PER_SECOND = "/s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    KIB = "KiB"
    COUNT = ""

    def text(self, value: float) -> str:
        """A figure of this unit as one reads it; times come in microseconds."""
        match self:
            case Unit.PER_SECOND:
                return f"{value:,.0f}/s"
            case Unit.MILLISECONDS:
                return f"{value / 1000:.2f} ms"
            case Unit.MICROSECONDS:
                return f"{value:.1f} us"
            case Unit.KIB:
                return f"{value:,.0f} KiB"
            case Unit.COUNT:
                return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of these values, at least one."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach: how it reads, and whether a value does."""

    text: str
    reached: Callable[[float], bool]


def at_least(least: float) -> Bar:
    """A ratio that must not fall below this."""
    return Bar(f"≥ {least:g}", lambda value: value >= least)


def at_most(greatest: float, text: str) -> Bar:
    """A figure that must not rise above this."""
    return Bar(text, lambda value: value <= greatest)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``rounds`` are the raw figures in the order they were taken."""

    name: str
    bare: str
    ours: str
    ratio: str = "-"
    bar: str = "-"
    reached: bool | None = None
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """The line, cell by cell."""
        verdict = {True: "yes", False: "**no**", None: "-"}[self.reached]
        return [self.name, self.bare, self.ours, self.ratio, self.bar, verdict]


def compare(name: str, unit: Unit, bare: Sequence[float], ours: Sequence[float], bar: Bar | None = None) -> Row:
    """A row of rounds that took turns; the bar is for the median of the ratios understudy / bare."""
    if min(bare) <= 0:
        return Row(name, unit.text(statistics.median(bare)), unit.text(statistics.median(ours)))
    ratio = Spread.of(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    return Row(
        name,
        unit.text(statistics.median(bare)),
        unit.text(statistics.median(ours)),
        f"{ratio.median:.2f} ({ratio.least:.2f}..{ratio.greatest:.2f})",
        bar.text if bar else "-",
        bar.reached(ratio.median) if bar else None,
        {"bare": list(bare), "understudy": list(ours)},
    )


def alone(name: str, unit: Unit, ours: Sequence[float], bar: Bar | None = None) -> Row:
    """A row that has no bare counterpart; the bar is for the median."""
    spread = Spread.of(ours)
    text = f"{unit.text(spread.median)} ({unit.text(spread.least)}..{unit.text(spread.greatest)})"
    reached = bar.reached(spread.median) if bar else None
    return Row(name, "-", text, "-", bar.text if bar else "-", reached, {"understudy": list(ours)})


HEADINGS = ["measurement", "bare", "understudy", "ratio (min..max)", "bar", "ok?"]


def markdown(rows: Sequence[Row], headings: Sequence[str] = HEADINGS) -> str:
    """The table; with fewer headings, its first columns."""
    table = [headings, *(row.cells()[: len(headings)] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(headings))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    lines = [f"| {line} |" for line in lines]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
