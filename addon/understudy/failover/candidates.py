"""Who can still be asked in one exchange: picks, skips, waits and early probes, over the lineup of its route.

Three sets of members, as bits, say who is left out. ``out``: not asked again in this exchange, whatever happens.
``tried``, and ``aside`` (what a tried one spoke for as well): not asked again unless a wait has brought them back. A
member that is asked for the second time is out (law 2), and what is suspended is skipped without cost (law 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from understudy.failover.affinity import Sessions
from understudy.failover.default_actions import Default, Next
from understudy.failover.refusal import CURABLE
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Outcome, Request
from understudy.model import Candidate, Key, Label, Scope, Suspension, key_of, keys_of
from understudy.suspensions import PROBED

UPSTREAM_WIDE = 2
"""After so many candidates of one upstream that are overloaded, the others there are asked last."""


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
        self.behind = 0
        """Asked only when nobody else is left."""
        self.passed = 0
        """Tried and free when the current wait began: not whom it is for."""
        if request.blocked or request.barred or request.bound_to:
            for position, member in enumerate(lineup.members):
                if request.why_not(member):
                    self.out |= 1 << position
        self._unusable = self.out
        self.home = lineup.mask(Key(Scope.CREDENTIAL, request.prefers)) if request.prefers else 0
        """Who can read the sealed parts of the conversation, as bits: they go first while they are free."""
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
        at_home = self.home and self.home & self.lineup.available() & ~(excluded | self.behind)
        if at_home and (seat is None or not self.lineup.bit(seat) & at_home):
            return self.lineup.pick(self.lineup.everyone & ~at_home, advance=False)
        if seat is not None and self.lineup.bit(seat) & self.lineup.available() & ~(excluded | self.behind):
            return seat
        advance = self.request.generating
        ahead = self.lineup.pick(excluded | self.behind, advance=advance) if self.behind else None
        return ahead or self.lineup.pick(excluded, advance=advance)

    def untried_besides(self, candidate: Candidate) -> int:
        """How many others are free and were not tried in this exchange."""
        return (self.lineup.available() & ~(self.used | self.lineup.bit(candidate))).bit_count()

    def has_other_credential(self, candidate: Candidate) -> bool:
        """Whether another credential of the same upstream could be asked right now."""
        there = self.lineup.mask(Key(Scope.UPSTREAM, candidate.upstream.name))
        own = self.lineup.mask(key_of(candidate, Scope.CREDENTIAL))
        return bool(self.lineup.available() & there & ~(own | self.used))

    def has_other_than(self, candidate: Candidate) -> bool:
        """Whether somebody else could be asked right now."""
        return bool(self.lineup.available() & ~(self.used | self.lineup.bit(candidate)))

    def witness(self, candidate: Candidate) -> Candidate | None:
        """Who can be asked for a second opinion on what a candidate says (J01); None when there is nobody right now.

        Another credential; at another upstream if one is free, because two keys of one account are wrong together.
        """
        if self.only is not None or self.request.bound_to:
            return None
        name, upstream = candidate.credential.name, candidate.upstream.name
        free = self.lineup.available() & ~self.used
        if not free:
            return None
        free &= ~self.lineup.mask(Key(Scope.CREDENTIAL, name))
        elsewhere = free & ~self.lineup.mask(Key(Scope.UPSTREAM, upstream))
        wanted = elsewhere or free
        return self.lineup.pick(~wanted & self.lineup.everyone, advance=False) if wanted else None

    @property
    def has_several_credentials(self) -> bool:
        """Whether candidates of two credentials or more may be asked."""
        if self._unusable == self.lineup.out_of_use:
            return self.lineup.has_several_credentials  # the common case, and every exchange asks
        usable = self.lineup.members_of(self.lineup.everyone & ~self._unusable)
        return len({each.credential.name for each in usable}) > 1

    def in_doubt(self) -> Candidate | None:
        """Somebody who is out only because everybody refused another request alike: this one is asked at once (J04).

        Of what a limit, an overload or a refused model has put in doubt, each is asked once in 30 s.
        """
        suspensions = self.selector.suspensions
        if self.only is not None or not suspensions.has_doubts:
            return None
        for member in self.lineup.members_of(self.lineup.everyone & ~self.used):
            if not suspensions.is_in_doubt(member):
                continue
            labels = {each.label for each in self.selector.suspensions_of(member)}
            if Label.MODEL_UNSUPPORTED in labels and not (self.request.generating and self.all_refuse()):
                continue
            if labels.isdisjoint(PROBED) or suspensions.begin_early_probe(key_of(member, Scope.CANDIDATE)):
                return member
        return None

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

    def withheld(self) -> Candidate | None:
        """Somebody whose probe another process may be sending: asked all the same where a call cannot wait for that."""
        suspensions = self.selector.suspensions
        if self.only is not None or not suspensions.withheld or not self.request.generating:
            return None
        for member in self.lineup.members_of(self.lineup.everyone & ~self.used):
            held = [key for key in keys_of(member) if suspensions.is_blocked(key)]
            if held and all(key in suspensions.withheld for key in held):
                return member
        return None

    def due(self, now: float, limit: float, hopeless: Callable[[Suspension], bool]) -> float | None:
        """When the first comes back that is worth waiting for; None when nobody does by ``limit``.

        ``hopeless``: whether this request need not wait for the end of a suspension.
        """
        if self.only is not None and self.tried:
            return None  # its own error is what the tool should see
        found = math.inf
        for member in self.lineup.members_of(self.lineup.everyone & ~self.out):
            suspension = self.suspension_of(member)
            if suspension is not None:
                found = found if hopeless(suspension) else min(found, suspension.until)
            elif self.only is None and self.selector.is_probed(member):
                found = min(found, limit)
        return found if now < found <= limit else None

    def seat(self) -> Candidate | None:
        """Who answered this session last."""
        return self.sessions.seat(self.lineup, self.request.session) if self.sessions else None

    def seat_back_in(self, now: float, patience: float) -> tuple[Candidate, float] | None:
        """A session waits out a limit that ends in a moment rather than lose its prompt cache: for whom, how long."""
        seat = self.seat()
        if self.home and (seat is None or not self.lineup.bit(seat) & self.home):
            seat = self.lineup.members_of(self.home)[0]
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
            self.behind |= self.lineup.mask(Key(Scope.UPSTREAM, candidate.upstream.name))

    def exclude_all(self) -> None:
        """Nobody is asked any more."""
        self.out = self.lineup.everyone

    def take_seat(self, candidate: Candidate) -> None:
        """The candidate has answered: the session stays with it."""
        if self.sessions and self.request.generating:
            self.sessions.take_seat(self.lineup, self.request.session, candidate)
