"""What `understudy replay` says in sum: how the calls end, what is suspended, and which errors no rule knows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field

from understudy.drill import Drill
from understudy.model import Label, counted
from understudy.whatif.ordering import Counts
from understudy.whatif.recorded_outcome import differs, failed_then
from understudy.whatif.report import Json, name_of
from understudy.whatif.result import End, Played

KINDS = 50
"""How many different unknown errors and suspended keys are told apart in the sum."""
ASSUMPTIONS = (
    "Where the file names no candidate of the route, its first reply stands for the candidate that is asked first.",
    "A later candidate says what it was recorded to say in the same exchange; that of others is unknown: `open`.",
    "Waits, hints and suspensions follow the times of the flows. Limits on silence are not played.",
)
DRILLED = (
    "What the drill strikes answers at once, or late by what is held back; what is later than `hedge_after` is lost.",
    "What the next candidate would have said is known only where the file has its reply to the same call: else `open`.",
)
"""The same about a drill."""


@dataclass
class Summary:
    """The sum of all calls."""

    counts: Counts
    files: int = 1
    ends: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    suspended: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    witnessed: int = 0
    waits: int = 0
    different: int = 0
    saved: int = 0
    unknown: dict[str, tuple[int, str]] = field(default_factory=dict)
    drill: Drill | None = None
    """The drill that all calls were played in."""

    def add(self, played: Played) -> None:
        """Count one more call."""
        self.ends[played.end] += 1
        self.waits += len(played.waits)
        self.different += differs(played)
        self.witnessed += bool(played.witness)
        self.saved += failed_then(played.call) and played.end in (End.ANSWERED, End.RESCUED)
        _count(self.skipped, [skip.candidate for skip in played.skipped])
        for tried in played.tried:
            outcome = tried.outcome
            self.labels[outcome.verdict.label] += 1
            if outcome.suspension is not None:
                _count(self.suspended, [str(outcome.suspension.key)])
            if outcome.verdict.label is Label.UNKNOWN and outcome.status >= 400 and not outcome.attempt.drilled:
                self._note_unknown(outcome.verdict.evidence, name_of(played.call, several=self.files > 1))

    def _note_unknown(self, evidence: str, name: str) -> None:
        # Request ids and times make the same error look different each time.
        kind = re.sub(r"(?<!HTTP )\b[\w-]*\d[\w-]*", "…", evidence)
        if kind not in self.unknown and len(self.unknown) >= KINDS:
            kind = "others"
        count, first = self.unknown.get(kind, (0, name))
        self.unknown[kind] = (count + 1, first)

    def lines(self) -> list[str]:
        """The sum in words."""
        counts = self.counts
        calls = sum(self.ends.values())
        other = counts.flows - counts.calls - counts.attempts
        attempts = f", {counted(counts.attempts, 'abandoned attempt')} of theirs" if counts.attempts else ""
        lines = [
            f"{counted(counts.flows, 'flow')}: {counted(calls, 'model call')}{attempts}, {counted(other, 'other')}"
        ]
        for end in End:
            if count := self.ends[end]:
                more = (
                    f", {self.witnessed} of them with a recorded answer to this call, or of that candidate to another"
                    if (end is End.OPEN and self.witnessed)
                    else ""
                )
                lines.append(f"  {end:10} {count:6}  {_MEANING[end]}{more}")
        lines.append(f"replies:   {_listed(self.labels)}")
        lines.append(f"suspended: {_listed(self.suspended)}")
        lines.append(f"skipped:   {_listed(self.skipped)}")
        if self.waits:
            lines.append(f"waits:     {self.waits}")
        lines.append(
            f"{counted(self.different, 'call')} would end differently now; {self.saved} of them failed then and would "
            "be answered"
        )
        if counts.strays:
            lines.append(f"attempts whose call is not near them in the file: {counts.strays}")
        lines.append(f"errors that no rule recognises: {sum(count for count, _ in self.unknown.values())}")
        ranked = sorted(self.unknown.items(), key=lambda item: -item[1][0])
        lines += [f"  {count:6}  {kind} (first in {name})" for kind, (count, name) in ranked]
        if self.unknown:
            lines.append("  make a rule of one: understudy rules new FILE NUMBER --label LABEL --id VENDOR/NAME")
        if self.drill is not None:
            lines += [f"drill: {self.drill}", *(f"   {line}" for line in self.drill.summary().lines())]
            return [*lines, *ASSUMPTIONS, *DRILLED]
        return [*lines, *ASSUMPTIONS]

    def as_json(self) -> Json:
        """The sum as one JSON object."""
        counts = self.counts
        return {
            "summary": {
                "files": self.files,
                "flows": counts.flows,
                "calls": counts.calls,
                "attempts": counts.attempts,
                "strays": counts.strays,
                "ends": {str(end): self.ends[end] for end in End},
                "open_with_witness": self.witnessed,
                "labels": dict(self.labels),
                "suspended": dict(self.suspended),
                "skipped": dict(self.skipped),
                "waits": self.waits,
                "differs": self.different,
                "failed_then_answered_now": self.saved,
                "unknown": [
                    {"evidence": kind, "count": count, "first": name} for kind, (count, name) in self.unknown.items()
                ],
                "drill": self._drill_as_json(),
                "assumptions": [*ASSUMPTIONS, *(DRILLED if self.drill is not None else ())],
            }
        }

    def _drill_as_json(self) -> Json | None:
        if self.drill is None:
            return None
        return {"name": str(self.drill), "summary": asdict(self.drill.summary())}


_MEANING = {
    End.ANSWERED: "by the first candidate",
    End.RESCUED: "another recorded reply answers",
    End.OPEN: "replayed to a candidate of which nothing is recorded",
    End.FAILED: "a real error reaches the tool",
    End.REFUSED: "understudy answers itself",
    End.UNROUTED: "no route: passes as it is",
    End.UNRECORDED: "no reply is recorded",
}


def _count(counter: Counter[str], names: list[str]) -> None:
    for name in names:
        counter[name if name in counter or len(counter) < KINDS else "others"] += 1


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "nothing"
