"""Who can still be asked in one exchange: picks, skips, waits and early probes, over the lineup of its route.

Three sets of members, as bits, say who is left out. ``out``: not asked again in this exchange, whatever happens.
``tried``, and ``aside`` (what a tried one spoke for as well): not asked again unless a wait has brought them back. A
member that is asked for the second time is out (law 2), and what is suspended is skipped without cost (law 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from understudy.failover.actions import Default, Next
from understudy.failover.affinity import Sessions
from understudy.failover.refusal import CURABLE
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Outcome, Request
from understudy.model import Candidate, Key, Label, Scope, Suspension, key_of

UPSTREAM_WIDE = 2
"""After so many candidates of one upstream that are overloaded, the others there are not asked any more."""


class Chooser:
    """The members of a lineup, as far as they are left for one request."""

    def __init__(self, request: Request, lineup: Lineup, selector: Selector, sessions: Sessions | None) -> None:
        self.request = request
        self.lineup = lineup
        self.selector = selector
        self.sessions = sessions
        self.out = lineup.out_of_use
        self.tried = 0
        self.aside = 0
        self.passed = 0
        """Tried and free when the current wait began: not whom it is for."""
        if request.blocked or request.barred or request.bound_to:
            for position, member in enumerate(lineup.members):
                if request.why_not(member):
                    self.out |= 1 << position
        fit = lineup.members_of(lineup.everyone & ~self.out) if lineup.is_single or request.bound_to else []
        self.only = fit[0] if len(fit) == 1 else None
        """The one candidate there is: it is always sent, except inside a window that it stated itself (law 6)."""

    @property
    def used(self) -> int:
        """Who is not asked again without a wait, as bits."""
        return self.out | self.tried | self.aside

    # -- questions -----------------------------------------------------------------------------------------------

    def choose(self, *, anew: bool = False) -> Candidate | None:
        """Whom to ask next, None when there is nobody right now. ``anew``: a wait has brought somebody back."""
        excluded = self.out | self.passed if anew else self.used
        if self.only is not None:
            free = not self.lineup.bit(self.only) & excluded and self.suspension_of(self.only) is None
            return self.only if free else None
        seat = self.seat()
        if seat is not None and self.lineup.bit(seat) & self.lineup.available() & ~excluded:
            return seat
        return self.lineup.pick(excluded, advance=self.request.generating)

    def has_other_than(self, candidate: Candidate) -> bool:
        """Whether somebody else could be asked right now."""
        return bool(self.lineup.available() & ~(self.used | self.lineup.bit(candidate)))

    def suspension_of(self, candidate: Candidate) -> Suspension | None:
        """What keeps a candidate from being sent. An only one is kept by nothing but a stated window."""
        return self.selector.suspension_of(candidate, stated=self.only is not None)

    def is_free(self, candidate: Candidate, ticket: int) -> bool:
        """Whether a candidate can be sent: it is not suspended, and no other attempt is probing it."""
        probed = self.only is None and self.selector.is_probed(candidate, ticket)
        return self.suspension_of(candidate) is None and not probed

    def has_come_back(self, candidate: Candidate | None) -> bool:
        """Whether the one that is waited for, or with None anybody, can be picked again."""
        wanted = self.lineup.everyone & ~(self.out | self.passed) if candidate is None else self.lineup.bit(candidate)
        return bool(self.lineup.available() & wanted)

    def all_refuse(self) -> bool:
        """Whether everybody who could be asked is suspended for having refused the model."""
        members = [each for each in self.lineup.members if not self.request.why_not(each)]
        labels = [{each.label for each in self.selector.suspensions_of(member)} for member in members]
        return bool(labels) and all(said == {Label.MODEL_UNSUPPORTED} for said in labels)

    def early_probe(self) -> Candidate | None:
        """Somebody who may be asked although suspended: all refuse the model, and a refusal may have passed (F17)."""
        if self.only is not None or not self.request.generating or not self.all_refuse():
            return None
        for member in self.lineup.members_of(self.lineup.everyone & ~self.out):
            if self.selector.is_probed(member):
                continue  # whether its upstream is there at all is being found out
            if self.selector.suspensions.begin_early_probe(key_of(member, Scope.CANDIDATE)):
                return member
        return None

    def due(self, now: float, limit: float) -> float | None:
        """When the first comes back that is worth waiting for; None when nobody does by ``limit``."""
        if self.only is not None and self.tried:
            return None  # its own error is what the tool should see
        found = math.inf
        for member in self.lineup.members_of(self.lineup.everyone & ~self.out):
            suspension = self.suspension_of(member)
            if suspension is not None:
                found = min(found, suspension.until)
            elif self.only is None and self.selector.is_probed(member):
                found = min(found, limit)
        return found if now < found <= limit else None

    def seat(self) -> Candidate | None:
        """Who answered this session last."""
        return self.sessions.seat(self.lineup, self.request.session) if self.sessions else None

    def seat_back_in(self, now: float, patience: float) -> tuple[Candidate, float] | None:
        """A session waits out a limit that ends in a moment rather than lose its prompt cache: for whom, how long."""
        seat = self.seat()
        if seat is None or self.lineup.bit(seat) & self.out:
            return None
        limit = self.selector.suspension_of(seat)
        if limit is None or not limit.stated or not 0 < limit.until - now <= patience:
            return None
        return seat, limit.until - now

    # -- changes -------------------------------------------------------------------------------------------------

    def begin_wait(self) -> None:
        """A wait begins: whoever is free and was tried is not whom it is for."""
        self.passed = self.lineup.available() & (self.tried | self.aside)

    def send(self, candidate: Candidate) -> bool:
        """The candidate is asked; returns whether for the second time."""
        bit = self.lineup.bit(candidate)
        again = bool(self.tried & bit)
        self.out |= bit if again else 0
        self.tried |= bit
        return again

    def was_repeated(self, candidate: Candidate) -> bool:
        """Whether a candidate was asked twice already."""
        return bool(self.lineup.bit(candidate) & self.out)

    def exclude(self, candidate: Candidate, default: Default, outcomes: Sequence[Outcome]) -> None:
        """Leave out whatever this verdict speaks about; what time cures, until a wait."""
        covered = self.lineup.mask(key_of(candidate, default.scope or Scope.CANDIDATE)) | self.lineup.bit(candidate)
        if default.hope >= CURABLE:
            self.aside |= covered
        else:
            self.out |= covered
        if default.next is Next.OTHER_MODEL:
            self.out |= self.lineup.same_model(candidate)
        overloaded = {
            outcome.attempt.candidate
            for outcome in outcomes
            if outcome.verdict.label is Label.OVERLOADED and outcome.attempt.candidate.upstream == candidate.upstream
        }
        if len(overloaded) >= UPSTREAM_WIDE:
            self.out |= self.lineup.mask(Key(Scope.UPSTREAM, candidate.upstream.name))

    def exclude_all(self) -> None:
        """Nobody is asked any more."""
        self.out = self.lineup.everyone

    def take_seat(self, candidate: Candidate) -> None:
        """The candidate has answered: the session stays with it."""
        if self.sessions and self.request.generating:
            self.sessions.take_seat(self.lineup, self.request.session, candidate)
