"""What a reply means: rules look at its unwrapped error, and at most one of them speaks.

Laws of this module:
- a verdict is a pure function of the reply: no clock, no memory, no exception;
- specific before general: a vendor's folder is asked first, then `general`, then `fallback`;
- within these, labels are asked in the order of `ASKED`: everything that could be mistaken for a missing model (length,
  filter, balance, limit, credential, feature) is asked before `model_unsupported`;
- a 2xx is judged by its structure: words in it prove nothing;
- what nothing recognises is `unknown`, which suspends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from understudy.reply import ERROR_EVENTS, ErrorInfo, Reply


class Label(StrEnum):
    """What a reply was judged to be."""

    MODEL_UNSUPPORTED = "model_unsupported"
    CAPABILITY_UNSUPPORTED = "capability_unsupported"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    CREDENTIAL_REJECTED = "credential_rejected"
    OVERLOADED = "overloaded"
    CONTEXT_EXCEEDED = "context_exceeded"
    CONTENT_FILTERED = "content_filtered"
    REQUEST_INVALID = "request_invalid"
    OK = "ok"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What a suspension takes out of rotation."""

    CANDIDATE = "candidate"
    CREDENTIAL = "credential"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Then:
    """What a rule changes in the action of its label; None leaves the label's default."""

    replay: bool | None = None
    retry_same: int | None = None  # how often the same candidate is sent again first
    scope: Scope | None = None
    seconds: float | None = None  # how long to suspend when the reply does not say


@dataclass(frozen=True, slots=True)
class Verdict:
    """The label of a reply and why."""

    label: Label
    rule: str
    evidence: str = ""  # at most 200 characters, one line
    then: Then = Then()
    names_model: bool = False


ASKED = (
    Label.OK,
    Label.UNKNOWN,
    Label.CONTEXT_EXCEEDED,
    Label.CONTENT_FILTERED,
    Label.QUOTA_EXHAUSTED,
    Label.RATE_LIMITED,
    Label.CREDENTIAL_REJECTED,
    Label.CAPABILITY_UNSUPPORTED,
    Label.REQUEST_INVALID,
    Label.OVERLOADED,
    Label.MODEL_UNSUPPORTED,
)
"""The order in which labels are asked among rules of the same folder rank: vetoes first."""


class Status(StrEnum):
    """Whether a rule acts. Drafts are loaded and checked, and never act."""

    STABLE = "stable"
    DRAFT = "draft"


type Test = Callable[[Reply, ErrorInfo], bool]
"""One condition. It sees the reply and one of its errors as rules see them (`Reply.said`)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """OR over alternatives, each the AND of its tests, the cheapest first. One alternative is about one error."""

    alternatives: tuple[tuple[Test, ...], ...]

    def holds(self, reply: Reply, info: ErrorInfo) -> bool:
        for tests in self.alternatives:  # plain loops: this is the innermost part of judging
            for test in tests:
                if not test(reply, info):
                    break
            else:
                return True
        return False


@dataclass(frozen=True, slots=True)
class AppliesTo:
    """Where a rule is asked at all. Empty: everywhere. Hosts are globs; all in lower case."""

    dialects: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def covers(self, reply: Reply) -> bool:
        return (
            (not self.dialects or reply.dialect.lower() in self.dialects)
            and (not self.kinds or reply.kind.lower() in self.kinds)
            and (not self.hosts or any(fnmatchcase(reply.host.lower(), host) for host in self.hosts))
        )


_EVERYWHERE = AppliesTo()


@dataclass(frozen=True, slots=True)
class Example:
    """A reply that a rule file shows, and the line it stands on."""

    reply: Reply
    line: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One label of one vendor, with its own examples."""

    id: str
    label: Label
    about: str
    source: str
    when: Condition
    status: Status = Status.STABLE
    applies_to: AppliesTo = _EVERYWHERE
    unless: Condition | None = None
    then: Then = Then()
    matches: tuple[Example, ...] = ()
    near_misses: tuple[Example, ...] = ()

    @property
    def rank(self) -> tuple[int, int]:
        """When the rule is asked: vendors, then `general`, then `fallback`; in each, vetoes first."""
        return {"general": 1, "fallback": 2}.get(self.id.partition("/")[0], 0), ASKED.index(self.label)

    def find(self, reply: Reply) -> int | None:
        """The index of the error that this rule speaks about, None when it is silent. `unless` looks at all errors."""
        if self.applies_to is not _EVERYWHERE and not self.applies_to.covers(reply):
            return None
        infos = reply.said or _NOTHING_SAID
        for index, info in enumerate(infos):
            if self.when.holds(reply, info):
                vetoed = self.unless is not None and any(self.unless.holds(reply, other) for other in infos)
                return None if vetoed else index
        return None

    def matches_reply(self, reply: Reply) -> bool:
        return self.find(reply) is not None


_NOTHING_SAID = (ErrorInfo(),)

# A successful JSON reply without any of these is not even parsed. They are the keys that `reply` reads from a 2xx.
_FAILURE_MARKS = (
    b'"error', b'"Error', b'"base_resp"', b'"blockReason"', b'"code"', b'"success"', b'"failed"', b'"failure"',
    b'"response.failed"',
)  # fmt: skip


def _failed(reply: Reply) -> bool:
    """Whether a 2xx is none: an error event, or a body whose structure carries an error."""
    if reply.event in ERROR_EVENTS:
        return True
    return any(mark in reply.body for mark in _FAILURE_MARKS) and bool(reply.errors)


@dataclass(frozen=True)
class Ruleset:
    """Rules in the order in which they are asked.

    A later rule replaces an earlier one with the same id, so a folder of one's own can correct a shipped rule.
    """

    rules: tuple[Rule, ...]
    drafts: tuple[Rule, ...] = field(init=False)
    _asked: tuple[Rule, ...] = field(init=False, repr=False)

    def __init__(self, rules: Iterable[Rule]) -> None:
        unique: Mapping[str, Rule] = {rule.id: rule for rule in rules}
        ordered = tuple(sorted(unique.values(), key=lambda rule: (rule.rank, rule.id)))
        object.__setattr__(self, "rules", ordered)
        object.__setattr__(self, "drafts", tuple(rule for rule in ordered if rule.status is Status.DRAFT))
        object.__setattr__(self, "_asked", tuple(rule for rule in ordered if rule.status is Status.STABLE))

    def judge(self, reply: Reply) -> Verdict:
        """The verdict on a reply. Pure; whatever the reply holds, this does not raise."""
        if reply.fault is not None:
            evidence = f"{reply.fault.kind}: {reply.fault.message}"
            return Verdict(Label.OVERLOADED, "builtin/fault", _one_line(evidence), Then(scope=Scope.UPSTREAM))
        if reply.succeeded and not _failed(reply):
            return Verdict(Label.OK, "builtin/ok", f"HTTP {reply.status}")
        if not reply.succeeded and reply.status < 400:
            return Verdict(Label.UNKNOWN, "builtin/unknown", f"HTTP {reply.status}")
        for rule in self._asked:
            if (index := rule.find(reply)) is not None:
                return Verdict(rule.label, rule.id, _evidence(reply, index), rule.then, reply.names_model())
        return Verdict(Label.UNKNOWN, "builtin/unknown", _evidence(reply, 0), names_model=reply.names_model())


def _evidence(reply: Reply, index: int) -> str:
    """Status, code or type, and message of the error that decided."""
    info = reply.errors[index] if index < len(reply.errors) else ErrorInfo()
    word = info.code if info.code and not info.code.isdecimal() else info.type or info.code
    return _one_line(": ".join(part for part in (f"HTTP {reply.status}", word, info.message[:400]) if part))


def _one_line(text: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:800]).split())
    return line if len(line) <= 200 else f"{line[:199]}…"
