"""Who has what: learnt as hashes, bounded, and forgotten after a day."""

from __future__ import annotations

from tests.support.decisions import Clock
from understudy.failover.ledger import ENTRIES, SECONDS, Ledger


def test_the_ledger_forgets_after_its_time() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    assert not ledger
    ledger.learn(["resp_1", "rs_2"], "a")
    ledger.learn(["resp_3"], "b")
    ledger.move("rs_2", "b")
    assert ledger
    assert ledger.owner(["unknown", "resp_3", "resp_1"]) == "b"
    assert ledger.first_owned(["unknown", "resp_1"]) == ("resp_1", "a")
    assert ledger.owner(["unknown"]) == ledger.owner_of("unknown") == ""
    assert (ledger.owner_of("rs_2"), ledger.home("rs_2"), ledger.home("resp_1")) == ("a", "b", "")
    clock.now += SECONDS + 1
    assert ledger.owner(["resp_3"]) == ledger.home("rs_2") == ""


def test_a_refusal_is_remembered_for_one_credential() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.refuse(["rs_1"], "a")
    assert ledger
    assert ledger.was_refused("rs_1", "a")
    assert not ledger.was_refused("rs_1", "b")
    clock.now += SECONDS + 1
    assert not ledger.was_refused("rs_1", "a")


def test_the_ledger_is_bounded_and_holds_hashes_only() -> None:
    """Law 8, law 10: neither an id nor a piece of reasoning stays in memory."""
    ledger, told = Ledger(Clock()), list[tuple[str, str]]()
    ledger.learnt = lambda mark, owner: told.append((mark, owner))
    ledger.learn((f"resp_{number}" for number in range(ENTRIES + 1)), "a")
    assert ledger.owner_of("resp_0") == ""
    assert ledger.owner_of("resp_1") == "a"
    ledger.learn(["resp_1"], "a")
    assert len(told) == ENTRIES + 1
    assert {len(mark) for mark, _ in told} == {24}
    assert not any("resp" in mark for mark, _ in told)
    ledger.take(told[0][0], "b")
    assert ledger.owner_of("resp_0") == "b"
