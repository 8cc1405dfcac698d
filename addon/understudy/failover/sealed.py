"""What of one request only some accounts can read: where it should go, and what a candidate has to go without.

While the owner of the latest sealed part is free the request goes there. Elsewhere it goes without the parts that are
known to be another account's, and without those of unknown origin beside them: a conversation's parts were sealed
together, and one that the candidate cannot read has the whole request refused. A refusal that names sealed state is
answered once without any part (docs/architecture.md, section 5d).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from understudy.failover.generations import own_name
from understudy.failover.ledger import Ledger
from understudy.model import Candidate, Credential, Upstream
from understudy.requests import sealed

ANTHROPIC_HOSTS = ("api.anthropic.com",)
ANTHROPIC_DIALECTS = ("anthropic-vertex", "bedrock")
ANTHROPIC_SUFFIXES = (".services.ai.azure.com",)
ORGANIZATION = "openai-organization"


class Sealed:
    """The sealed parts of one request, by their names in the order of the body.

    ``all_parts`` gives the names when they are asked for: without a ledger they were not read before. ``credentials``:
    those of the pool, by name. ``remembers`` False: nothing is learnt of what is only tried out.
    """

    def __init__(
        self,
        parts: tuple[str, ...],
        ledger: Ledger,
        credentials: Mapping[str, Credential],
        all_parts: Callable[[], tuple[str, ...]] | None = None,
        *,
        remembers: bool = True,
    ) -> None:
        self._known = parts
        self._all_parts = all_parts
        self.ledger = ledger
        self.credentials = credentials
        self.remembers = remembers
        self._refused: set[tuple[str, str]] = set()
        """What was refused in this exchange, each with the credential."""

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts, in the order of the body."""
        return self._known or (self._all_parts() if self._all_parts is not None else ())

    @cached_property
    def latest(self) -> str:
        """The latest part of which it is known where it belongs, "" without one."""
        known, ledger = reversed(self._known), self.ledger
        return next((each for each in known if ledger.home(each) or ledger.owner_of(each)), "")

    @cached_property
    def prefers(self) -> str:
        """The credential with which the conversation is: that of the latest part, or where it has moved since."""
        if not self.latest:
            return ""
        home = self.ledger.home(self.latest) or self.ledger.owner_of(self.latest)
        return home if own_name(home) in self.credentials else ""

    def reads(self, part: str, candidate: Candidate) -> bool | None:
        """Whether a candidate can read a part; None: nobody knows."""
        name = candidate.credential.name
        if (part, name) in self._refused or self.ledger.was_refused(part, name):
            return False
        owner = self.ledger.owner_of(part)
        if not owner:
            return None
        return own_name(owner) == own_name(name) or is_portable(
            part, self.credentials.get(own_name(owner)), candidate.credential
        )

    def without(self, candidate: Candidate) -> frozenset[str]:
        """The parts that a candidate has to go without."""
        parts = self.parts if self._refused else self._known
        read = [self.reads(part, candidate) for part in parts]
        if False not in read and not self._refused:
            return frozenset()
        # What came after the last foreign part is its own, if the conversation is there already.
        is_home = own_name(self.prefers) == own_name(candidate.credential.name) and False in read
        last = len(read) - 1 - read[::-1].index(False) if is_home else len(read)
        found = [part for at, part in enumerate(parts) if read[at] is False or (read[at] is None and at < last)]
        return frozenset(("", *found))

    def refused(self, candidate: Candidate) -> None:
        """A candidate refuses what it was sent: what is not known to be its own goes, or else all of it. Remembered."""
        name = candidate.credential.name
        left = [each for each in self.parts if self.reads(each, candidate) is not False]
        foreign = [each for each in left if own_name(self.ledger.owner_of(each)) != own_name(name)]
        self._refused.update((each, name) for each in foreign or left)
        if self.remembers:
            self.ledger.refuse(foreign or left, name)

    def answered(self, candidate: Candidate, without: frozenset[str]) -> None:
        """A candidate has answered a request without these parts: what it was sent, it could read."""
        name = candidate.credential.name
        if not self.remembers:
            return
        if self.latest and own_name(self.prefers) != own_name(name):
            self.ledger.move(self.latest, name)
        if self._known:
            unknown = [each for each in self._known if each not in without and not self.ledger.owner_of(each)]
            self.ledger.learn(unknown, name)


def counted_parts(names: frozenset[str]) -> int:
    """How many parts have these names: reasoning has two, its id and its content."""
    ids = sum(name.startswith("rs_") for name in names)
    return max(ids, len(names - {""}) - ids)


def is_portable(part: str, owner: Credential | None, reader: Credential) -> bool:
    """Whether another account than a part's own can read it.

    Anthropic's signatures hold on every platform that Anthropic's models run on (Anthropic, "Extended thinking":
    "`signature` values are compatible across platforms"); of another vendor of the dialect that is assumed within one
    upstream only. OpenAI seals for an organization ("Encrypted content organization_id did not match the target
    organization"), so two credentials that name the same one share it. Gemini's signatures are bound to the account.
    """
    if owner is None:
        return False
    kind = sealed.kind_of(part)
    if kind == sealed.THINKING:
        return owner.upstream.name == reader.upstream.name or (
            _is_anthropic(owner.upstream) and _is_anthropic(reader.upstream)
        )
    if kind == sealed.REASONING:
        there, here = dict(owner.headers).get(ORGANIZATION), dict(reader.headers).get(ORGANIZATION)
        return bool(here) and here == there and owner.upstream.name == reader.upstream.name
    return False


def _is_anthropic(upstream: Upstream) -> bool:
    return (
        upstream.host in ANTHROPIC_HOSTS
        or upstream.dialect in ANTHROPIC_DIALECTS
        or upstream.host.endswith(ANTHROPIC_SUFFIXES)
    )
