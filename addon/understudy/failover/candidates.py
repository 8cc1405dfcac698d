"""Who can still be asked in one exchange: picks, skips, waits and early probes, over the lineup of its route.

Three sets of members, as bits, say who is left out. ``out``: not asked again in this exchange, whatever happens.
``tried``, and ``aside`` (what a tried one spoke for as well): not asked again unless a wait has brought them back. A
member that is asked for the second time is out (law 2), and what is suspended is skipped without cost (law 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from understudy.failover import foresight
from understudy.failover.affinity import Sessions
from understudy.failover.default_actions import Default, Next
from understudy.failover.refusal import CURABLE
from understudy.failover.selection import Lineup, Selector
from understudy.failover.steps import Outcome, Request
from understudy.limits import MOST_OUTPUT, NO_NEED, Need
from understudy.model import Candidate, Key, Label, Scope, Suspension, key_of, keys_of
from understudy.requests import tokens_in
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
        """Asked only when no other candidate is left."""
        self.full = 0
        """Those whose queue is full, see ``pacing``: asked only when it has room again."""
        self._need: Need | None = None
        self.passed = 0
        """Tried and free when the current wait began: not whom it is for."""
        if request.blocked or request.barred or request.bound_to:
            for position, member in enumerate(lineup.members):
                if request.why_not(member):
                    self.out |= 1 << position
        self._unusable = self.out
        self.home = lineup.mask(Key(Scope.CREDENTIAL, request.prefers)) if request.prefers else 0
        """Who can read the sealed parts of the conversation, as bits: they go first while they are free."""
        self._twice = 0
        fit = lineup.members_of(lineup.everyone & ~self.out) if lineup.is_single or request.bound_to else []
        self.only = fit[0] if len(fit) == 1 else None
        """The one candidate there is: it is always sent, except inside a window that it stated itself (law 6)."""

    @property
    def used(self) -> int:
        """Who is not asked again without a wait, as bits."""
        return self.excluded | self.full

    @property
    def excluded(self) -> int:
        """The same without those whose queue is full: a moment later they could be asked."""
        return self.out | self.tried | self.aside

    # -- questions -----------------------------------------------------------------------------------------------

    def choose(self, *, anew: bool = False) -> Candidate | None:
        """The candidate to ask next, None when none is free right now. ``anew``: a wait has brought one back."""
        excluded = self.out | self.full | (self.passed if anew else self.tried | self.aside)
        if self.only is not None:
            free = not self.lineup.bit(self.only) & excluded and self.suspension_of(self.only) is None
            return self.only if free else None
        seat = self.seat() if self.request.session else None
        at_home = self.home and self.home & self.lineup.available() & ~(excluded | self.behind)
        if at_home and (seat is None or not self.lineup.bit(seat) & at_home):
            return self.lineup.pick(self.lineup.everyone & ~at_home, advance=False)
        is_plain = not (self.lineup.is_by_reset or self.selector.suspensions.limits.watched)
        if seat is not None and self.lineup.bit(seat) & self.lineup.available() & ~(excluded | self.behind):
            return seat if is_plain else self._before(seat, excluded | self.behind) or seat
        if is_plain and not self.behind:
            return self.lineup.pick(excluded, advance=self.request.generating)  # the common case
        ahead = self._pick(excluded | self.behind) if self.behind else None
        return ahead or self._pick(excluded)

    def _pick(self, excluded: int) -> Candidate | None:
        limits, advance = self.selector.suspensions.limits, self.request.generating
        if not foresight.is_ordered_by_limits(self.lineup, limits):
            return self.lineup.pick(excluded, advance=advance)
        return foresight.pick(self.lineup, excluded, limits, self.need, advance=advance)

    def _before(self, seat: Candidate, excluded: int) -> Candidate | None:
        """Who goes before the one that serves the session: an equal with room, while that one is nearly used up."""
        limits, reserve = self.selector.suspensions.limits, self.lineup.route.reserve
        if not limits.watched or not limits.is_low(seat, reserve, self.need):
            return None
        others = self.lineup.equals(seat) & ~self.lineup.bit(seat)
        found = foresight.pick(
            self.lineup, excluded | (self.lineup.everyone & ~others), limits, self.need, advance=self.request.generating
        )
        return found if found is not None and not limits.is_low(found, reserve, self.need) else None

    def need(self, least: float) -> Need:
        """What the request is estimated to take. ``least``: tokens with which nothing is short, so that a request that
        cannot take as many is not looked into.
        """
        if self._need is None and self.request.tokens is not None:
            self._need = Need(*map(float, self.request.tokens))
        if self._need is None:
            body = self.request.asked() if self.request.asked is not None else b""
            if max(len(body), MOST_OUTPUT) <= least:
                return NO_NEED
            self._need = Need(*map(float, tokens_in(body)))
        return self._need

    def untried_besides(self, candidate: Candidate) -> int:
        """How many others are free and were not tried in this exchange."""
        return (self.lineup.available() & ~(self.used | self.lineup.bit(candidate))).bit_count()

    def has_other_credential(self, candidate: Candidate) -> bool:
        """Whether another credential of the same upstream could be asked right now."""
        there = self.lineup.mask(Key(Scope.UPSTREAM, candidate.upstream.name))
        own = self.lineup.mask(key_of(candidate, Scope.CREDENTIAL))
        return bool(self.lineup.available() & there & ~(own | self.used))

    def has_other_than(self, candidate: Candidate) -> bool:
        """Whether another candidate could be asked right now."""
        return bool(self.lineup.available() & ~(self.used | self.lineup.bit(candidate)))

    def witness(self, candidate: Candidate) -> Candidate | None:
        """Which candidate can give a second opinion on what another says (J01); None when none is free right now.

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

    def has_several_credentials(self) -> bool:
        """Whether candidates of two credentials or more may be asked."""
        if self._unusable == self.lineup.out_of_use:
            return self.lineup.has_several_credentials  # the common case
        usable = self.lineup.members_of(self.lineup.everyone & ~self._unusable)
        return len({each.credential.name for each in usable}) > 1

    def in_doubt(self) -> Candidate | None:
        """A candidate that is out only because all refused another request alike: it is asked at once (J04).

        Of what a limit, an overload or a refused model has put in doubt, each is asked once in 30 s.
        """
        suspensions = self.selector.suspensions
        if self.only is not None or not suspensions.has_doubts:
            return None
        for member in self.lineup.members_of(self.lineup.everyone & ~self.used):
            if not suspensions.is_in_doubt(self.selector.keys_of(member)):
                continue
            labels = {each.label for each in self.selector.suspensions_of(member)}
            if Label.MODEL_UNSUPPORTED in labels and not (self.request.generating and self.all_refuse()):
                continue
            if labels.isdisjoint(PROBED) or suspensions.begin_early_probe(self._early_key(member)):
                return member
        return None

    def suspension_of(self, candidate: Candidate) -> Suspension | None:
        """What keeps a candidate from being sent. An only one is kept by nothing but a stated window."""
        return self.selector.suspension_of(candidate, stated=self.only is not None)

    def serves_session(self, candidate: Candidate) -> bool:
        """Whether this is who answered the session last."""
        return self.seat() == candidate

    def is_full(self, candidate: Candidate) -> None:
        """The queue of its credential is full: the others are asked."""
        self.full |= self.lineup.mask(key_of(candidate, Scope.CREDENTIAL))

    def full_ones(self) -> list[Candidate]:
        """Who was passed over for a full queue, and could be asked otherwise, in order."""
        free = self.lineup.available() & self.full & ~self.excluded
        return self.lineup.members_of(free) if free else []

    def is_free(self, candidate: Candidate, ticket: int) -> bool:
        """Whether a candidate can be sent: it is not suspended, and no other attempt is probing it."""
        probed = self.only is None and self.selector.is_probed(candidate, ticket)
        return self.suspension_of(candidate) is None and not probed

    def has_come_back(self, candidate: Candidate | None) -> bool:
        """Whether the candidate that is waited for, or with None any, can be picked again."""
        wanted = self.lineup.everyone & ~(self.out | self.passed) if candidate is None else self.lineup.bit(candidate)
        return bool(self.lineup.available() & wanted)

    def all_refuse(self) -> bool:
        """Whether everybody who could be asked is suspended for having refused the model."""
        members = [each for each in self.lineup.members if not self.request.why_not(each)]
        labels = [{each.label for each in self.selector.suspensions_of(member)} for member in members]
        return bool(labels) and all(said == {Label.MODEL_UNSUPPORTED} for said in labels)

    def early_probe(self) -> Candidate | None:
        """A candidate that may be asked although suspended: all refuse the model, which may have passed (F17)."""
        if self.only is not None or not self.request.generating or not self.all_refuse():
            return None
        for member in self.lineup.members_of(self.lineup.everyone & ~self.out):
            if self.selector.is_probed(member):
                continue  # whether its upstream is there at all is being found out
            if self.selector.suspensions.begin_early_probe(self._early_key(member)):
                return member
        return None

    def _early_key(self, member: Candidate) -> Key:
        return key_of(member, Scope.CANDIDATE, drill=self.selector.is_drilled)

    def withheld(self) -> Candidate | None:
        """A candidate whose probe another process may be sending: asked all the same if a call cannot wait for that."""
        suspensions = self.selector.suspensions
        if self.only is not None or not suspensions.withheld or not self.request.generating:
            return None
        for member in self.lineup.members_of(self.lineup.everyone & ~self.used):
            held = [key for key in keys_of(member) if suspensions.is_blocked(key)]
            if held and all(key in suspensions.withheld for key in held):
                return member
        return None

    def due(self, now: float, limit: float, hopeless: Callable[[Suspension], bool]) -> float | None:
        """When the first candidate comes back that is worth waiting for; None when none does by ``limit``.

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

    def known_reset(self) -> tuple[float, Candidate] | None:
        """When the first comes back, where everybody is out until a time that a reply stated; None: somebody is not."""
        found: list[tuple[float, Candidate]] = []
        for member in self.lineup.members_of(self.lineup.everyone & ~self._unusable):
            suspension = self.selector.suspension_of(member, stated=True)
            if suspension is None or suspension.by_hand:
                return None
            found.append((suspension.until, member))
        return min(found, key=lambda each: each[0], default=None)

    def start_anew(self) -> None:
        """A reset has come: whoever was not asked twice may be asked again (law 2)."""
        self.out, self.aside, self.full, self.behind, self.passed = self._unusable | self._twice, 0, 0, 0, 0

    def seat(self) -> Candidate | None:
        """Who answered this session last."""
        return self.sessions.seat(self.lineup, self.request.session) if self.sessions else None

    def seat_back_in(self, now: float, patience: float) -> tuple[Candidate, float] | None:
        """A session waits out a limit that ends in a moment rather than lose its prompt cache: for whom, how long."""
        seat = self.seat()
        if self.home and (seat is None or not self.lineup.bit(seat) & self.home):
            seat = self.lineup.members_of(self.home)[0]
        if seat is None or self.lineup.bit(seat) & (self.out | self.lineup.available()):
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
        self._twice |= bit if again else 0
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
        """No candidate is asked any more."""
        self.out = self.lineup.everyone

    def take_seat(self, candidate: Candidate) -> None:
        """The candidate has answered: the session stays with it."""
        if self.sessions and self.request.generating:
            self.sessions.take_seat(self.lineup, self.request.session, candidate)
