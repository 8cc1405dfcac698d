"""The words in which a judgement is spoken: labels, scopes, and the verdict itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    hope: int | None = None  # how likely a later try cures it; not for rule files to say
    without_sealed: bool = False  # whether the same candidate is sent the request again without its sealed parts


AS_USUAL = Then()
"""The label's defaults."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The label of a reply and why."""

    label: Label
    rule: str = ""
    evidence: str = ""  # at most 200 characters, one line
    then: Then = AS_USUAL
    names_model: bool = False
    drafts: tuple[str, ...] = ()
    """What draft rules would have said, as ``id: label``. They are logged and never acted on."""
    certain: bool = True
    """Whether words of the reply say so. What only status or type say, or no rule recognised, is open."""

    @property
    def is_open(self) -> bool:
        """Whether another candidate's reply to the same request could show that this verdict is wrong."""
        return not self.certain

    @property
    def in_words(self) -> str:
        """``request_invalid by fallback/request_invalid (open)``."""
        return f"{self.label} by {self.rule}{OPEN_MARK if self.is_open else ''}"


OPEN_MARK = " (open)"
"""What stands behind the rule of an open verdict wherever people read it."""


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
"""Which label is asked first where rules say nothing else: what could be mistaken for a missing model goes first."""
