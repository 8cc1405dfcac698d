"""Several processes over one real server: what one learns holds for the others, and no trouble of the server is theirs.

The promises are M01 to M05.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import pytest

from tests.e2e.authority import Authority
from tests.shared.workers import SECRETS, Worker, key, pool_of, until, working
from tests.support.decisions import NOW, Source
from tests.support.store_server import StoreServer
from understudy.model import Key, Label, Scope, Suspension
from understudy.model.suspension import BY_HAND


def test_m01_what_one_suspends_another_skips(each_server: StoreServer) -> None:
    """M01: with deadline, label, rule and evidence; the bound of 50 ms is measured by scripts/bench --shared."""

    async def scene() -> None:
        one, two = Worker(pool_of(each_server.url)), Worker(pool_of(each_server.url))
        async with working(one, two):
            one.suspend(seconds=60)
            await until(lambda: key() in two.known)
            theirs, ours = two.suspensions.get(key()), one.suspensions.get(key())
            assert theirs is not None and ours is not None
            assert abs(theirs.until - ours.until) < 1
            assert (theirs.label, theirs.rule, theirs.evidence) == (ours.label, ours.rule, ours.evidence)
            assert theirs.candidate == "a/gpt-5"

    asyncio.run(scene())


def test_m01_clocks_that_differ_do_not_matter(server: StoreServer) -> None:
    """M01: deadlines are readings of the server's clock; a machine whose clock is an hour off skips for as long."""

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        two.clock.now += 3600
        async with working(one, two):
            one.suspend(seconds=60)
            await until(lambda: key() in two.known)
            theirs = two.suspensions.get(key())
            assert theirs is not None
            assert abs(theirs.until - (NOW + 3660)) < 1

    asyncio.run(scene())


def test_m01_who_comes_later_knows_what_was_learnt_before(each_server: StoreServer) -> None:
    """M01: also what has expired and was not disproved: it is half-open there, with its step of the ladder."""

    async def scene() -> None:
        one, two = Worker(pool_of(each_server.url)), Worker(pool_of(each_server.url))
        async with working(one):
            one.suspend("a", 60)
            one.suspend("b", 5)
            await until(lambda: not one.sharing._changes)
            two.clock.now += 0
            async with working(two):
                assert two.known == {key("a"), key("b")}
                two.clock.now += 10
                two.suspensions.expire()
                assert two.known == {key("a")}
                assert two.suspensions.half_open(key("b")) is not None

    asyncio.run(scene())


def test_m02_a_shorter_deadline_never_wins(each_server: StoreServer) -> None:
    """M02: whichever of two arrives first, both processes end up with the longer one, its label and its evidence."""

    async def scene() -> None:
        one, two, three = (Worker(pool_of(each_server.url)) for _ in range(3))
        async with working(one, two, three):
            for model, first, second in (("long-first", 600, 10), ("short-first", 10, 600)):
                one.suspend(seconds=first, model=model, label=Label.OVERLOADED)
                two.suspend(seconds=second, model=model, label=Label.RATE_LIMITED)
                longer = Label.OVERLOADED if first > second else Label.RATE_LIMITED

                def agreed(model: str = model, longer: Label = longer) -> bool:
                    found = [each.suspensions.get(key("a", model)) for each in (one, two, three)]
                    return all(each and each.until > NOW + 500 and each.label is longer for each in found)

                await until(agreed)

    asyncio.run(scene())


def test_m02_a_success_frees_the_others_and_what_is_newer_stays(each_server: StoreServer) -> None:
    """M02: compare-and-delete: the success of an attempt undoes what was known then, and no later refusal."""

    async def scene() -> None:
        one, two = Worker(pool_of(each_server.url)), Worker(pool_of(each_server.url))
        async with working(one, two):
            one.suspend()
            await until(lambda: key() in two.known)
            two.suspensions.prove(two.candidate(), two.suspensions.ticket())
            await until(lambda: key() not in one.known)
            # An attempt of two begins; meanwhile one is refused; then the attempt ends well.
            ticket = two.suspensions.ticket()
            one.suspend()
            await until(lambda: key() in two.known)
            assert two.suspensions.prove(two.candidate(), ticket) is None
            two.suspend("b")
            await until(lambda: key("b") in one.known)
            assert key() in one.known
            assert key() in two.known

    asyncio.run(scene())


def test_m02_a_late_clear_does_not_win_over_a_newer_refusal(each_server: StoreServer) -> None:
    """M02: the server compares: what two has cleared while it was away was refused anew by one meanwhile."""

    async def scene() -> None:
        one, two = Worker(pool_of(each_server.url)), Worker(pool_of(each_server.url))
        async with working(one, two):
            one.suspend()
            await until(lambda: key() in two.known)
            await away(two)
            two.suspensions.prove(two.candidate(), two.suspensions.ticket())
            revision = one.sharing._written[key()]
            one.suspend(seconds=90)
            await until(lambda: one.sharing._written[key()] > revision)
            back(two)
            await until(lambda: two.is_shared and key() in two.known)
            assert key() in one.known

    asyncio.run(scene())


async def away(worker: Worker) -> None:
    """It loses the server, and only it."""
    task = worker.sharing._task
    assert task is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    worker.sharing._task = None


def back(worker: Worker) -> None:
    """It may connect again."""
    worker.sharing._begin()


def test_m02_another_secret_is_another_candidate(server: StoreServer) -> None:
    """M02: what was learnt with an old secret, and its late success, say nothing about a new one."""

    async def scene() -> None:
        old = Worker(pool_of(server.url))
        new = Worker(pool_of(server.url, secrets={**SECRETS, "a": "sk-a-another"}))
        async with working(old, new):
            old.suspend("a")
            old.suspend("b")
            await until(lambda: key("b") in new.known)
            assert new.known == {key("b")}
            new.suspend("a")
            await until(lambda: not new.sharing._changes and not new.sharing._under_way)
            old.suspensions.prove(old.candidate("a"), old.suspensions.ticket())
            old.suspensions.prove(old.candidate("b"), old.suspensions.ticket())
            await until(lambda: key("b") not in new.known)
            assert new.known == {key("a")}

    asyncio.run(scene())


def test_m02_resume_all_is_an_epoch(each_server: StoreServer) -> None:
    """M02: whoever was away gets to know; what it had learnt before and tells afterwards is dropped."""

    async def scene() -> None:
        one, two, three = (Worker(pool_of(each_server.url)) for _ in range(3))
        async with working(one, two, three):
            one.suspend("a")
            await until(lambda: key("a") in two.known and key("a") in three.known)
            await away(two)
            two.suspend("b")
            one.suspensions.resume_all()
            await until(lambda: not three.known)
            one.suspend("a", model="later")
            await until(lambda: three.known == {key("a", "later")})
            back(two)
            await until(lambda: two.is_shared and two.known == {key("a", "later")})
            assert one.known == three.known == {key("a", "later")}

    asyncio.run(scene())


def test_m03_one_process_probes_what_has_expired(each_server: StoreServer) -> None:
    """M03: it stays blocked in all of them until a request could use it; then one has the lease, and one probe."""

    async def scene() -> None:
        workers = [Worker(pool_of(each_server.url)) for _ in range(4)]
        async with working(*workers):
            workers[0].suspend(seconds=30)
            await until(lambda: all(key() in each.known for each in workers))
            for each in workers:
                each.clock.now += 31
                each.suspensions.expire()
                assert each.suspensions.is_blocked(key())
                each.suspensions.want({key()})
            await until(lambda: any(not each.suspensions.is_blocked(key()) for each in workers))
            await until(lambda: all(key() in each.sharing._denied or key() in each.sharing._leases for each in workers))
            free = [each for each in workers if not each.suspensions.is_blocked(key())]
            assert len(free) == 1
            ticket = free[0].suspensions.ticket()
            free[0].suspensions.begin_probe(free[0].candidate(), ticket)
            free[0].suspensions.end_probe(ticket)
            free[0].suspensions.prove(free[0].candidate(), ticket)
            await until(lambda: not any(each.suspensions.is_held(key()) for each in workers))

    asyncio.run(scene())


def test_m03_a_lease_that_nobody_uses_goes_to_who_asks(server: StoreServer) -> None:
    """M03: the request it was for has gone elsewhere; another process's request gets its turn."""

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        now = [0.0]
        one.sharing.monotonic = lambda: now[0]
        async with working(one, two):
            one.suspend(seconds=30)
            await until(lambda: key() in two.known)
            for each in (one, two):
                each.clock.now += 31
                each.suspensions.expire()
            one.suspensions.want({key()})
            await until(lambda: not one.suspensions.is_blocked(key()))
            two.suspensions.want({key()})
            await until(lambda: key() in one.sharing._asked)
            assert two.suspensions.is_blocked(key())
            now[0] += 2.0
            await until(lambda: not two.suspensions.is_blocked(key()))
            assert one.suspensions.is_blocked(key())

    asyncio.run(scene())


def test_m03_alone_everybody_probes(server: StoreServer) -> None:
    """M03, M04: nobody waits for a lease that a server does not give."""

    async def scene() -> None:
        one = Worker(pool_of(server.url))
        async with working(one):
            one.suspend(seconds=30)
            server.kill()
            await until(lambda: one.is_alone)
            one.clock.now += 31
            one.suspensions.expire()
            assert not one.suspensions.is_blocked(key())

    asyncio.run(scene())


@pytest.mark.parametrize("trouble", ["freeze", "kill"])
def test_m04_alone_is_told_once_and_ends_by_itself(
    server: StoreServer, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    """M04: a server that hangs or dies: what is learnt meanwhile, and what was before, is shared when it is back."""
    caplog.set_level(logging.INFO, "understudy")

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        async with working(one, two):
            one.suspend("a", 600)
            await until(lambda: key("a") in two.known)
            getattr(server, trouble)()
            one.suspend("b", 600)
            await until(lambda: one.is_alone and two.is_alone)
            if trouble == "freeze":
                server.thaw()
            else:
                server.start()
            await until(lambda: one.is_shared and two.is_shared and key("b") in two.known)
            assert one.known == two.known == {key("a"), key("b")}
            assert server.ask("ZCARD", "understudy:team:until").startswith(b":2")

    asyncio.run(scene())
    said = [each.getMessage() for each in caplog.records]
    assert len([each for each in said if "alone since" in each]) == 2
    assert len([each for each in said if "is back after" in each]) == 2


def test_m04_a_lease_is_not_waited_for_while_the_server_hangs(server: StoreServer) -> None:
    """M04: what a call waits for, a probe's turn, is its own as soon as the server does not answer in time."""

    async def scene() -> None:
        one = Worker(pool_of(server.url))
        async with working(one):
            one.suspend(seconds=30)
            await until(lambda: not one.sharing._changes and not one.sharing._under_way)
            one.clock.now += 31
            one.suspensions.expire()
            assert one.suspensions.is_blocked(key())
            server.freeze()
            one.suspensions.want({key()})
            await until(lambda: not one.suspensions.is_blocked(key()))
            server.thaw()

    asyncio.run(scene())


def test_m04_a_full_server_leaves_the_process_alone_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """M04: noeviction, and no memory left."""

    async def scene(server: StoreServer) -> None:
        one = Worker(pool_of(server.url))
        async with working(one):
            server.ask("CONFIG", "SET", "maxmemory", "1")
            one.suspend()
            await until(lambda: one.is_alone)
            state = one.sharing.state
            assert state is not None and "full" in state.reason
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await until(lambda: one.is_shared)
            assert server.ask("ZCARD", "understudy:team:until").startswith(b":1")

    server = StoreServer("--maxmemory-policy", "noeviction")
    try:
        asyncio.run(scene(server))
    finally:
        server.close()
    assert len([each for each in caplog.records if "alone since" in each.getMessage()]) == 1


def test_m04_an_emptied_server_gets_back_what_is_known(server: StoreServer) -> None:
    """M04: FLUSHALL by somebody: the version begins anew, so every process tells what it knows."""

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        async with working(one, two):
            one.suspend("a")
            two.suspend("b")
            await until(lambda: one.known == two.known == {key("a"), key("b")})
            server.ask("FLUSHALL")
            await until(lambda: server.ask("ZCARD", "understudy:team:until").startswith(b":2"))
            late = Worker(pool_of(server.url))
            async with working(late):
                assert late.known == {key("a"), key("b")}
            assert one.known == two.known == {key("a"), key("b")}

    asyncio.run(scene())


def test_m04_a_missed_message_is_found_by_the_version(each_server: StoreServer) -> None:
    """M04: publish alone loses."""

    async def scene() -> None:
        one, two = Worker(pool_of(each_server.url)), Worker(pool_of(each_server.url))
        async with working(one, two):
            heard, two.sharing.hear = two.sharing.hear, lambda news: None  # type: ignore[method-assign]
            one.suspend("a")
            await until(lambda: key("a") in two.known)
            one.suspensions.resume(key("a"))
            await until(lambda: key("a") not in two.known)
            two.sharing.hear = heard  # type: ignore[method-assign]

    asyncio.run(scene())


def test_m04_a_replica_takes_over(server: StoreServer) -> None:
    """M04: the old server becomes read-only, the address moves to the replica, and everything goes on there."""
    replica = StoreServer()
    port = _listen(server)
    try:
        replica.ask("REPLICAOF", "127.0.0.1", str(port))
        address = server.folder / "address.sock"
        address.symlink_to(server.socket)

        async def scene() -> None:
            one, two = (Worker(pool_of(f"unix://{address}")) for _ in range(2))
            async with working(one, two):
                one.suspend("a")
                await until(lambda: key("a") in two.known)
                await until(lambda: replica.ask("ZCARD", "understudy:team:until").startswith(b":1"))
                replica.ask("REPLICAOF", "NO", "ONE")
                address.unlink()
                address.symlink_to(replica.socket)
                server.ask("CLIENT", "KILL", "TYPE", "normal")
                server.ask("CLIENT", "KILL", "TYPE", "pubsub")
                two.suspend("b")
                await until(lambda: one.is_shared and two.is_shared and one.known == {key("a"), key("b")})
                assert replica.ask("ZCARD", "understudy:team:until").startswith(b":2")

        asyncio.run(scene())
    finally:
        replica.close()


def _listen(server: StoreServer) -> int:
    """Have a server listen on a free port of loopback."""
    from tests.support.store_server import free_port

    port = free_port()
    server.ask("CONFIG", "SET", "bind", "127.0.0.1")
    assert server.ask("CONFIG", "SET", "port", str(port)).startswith(b"+OK")
    return port


def test_m04_a_read_only_server_leaves_the_process_alone(server: StoreServer) -> None:
    """M04: a failover that has not reached this process yet."""

    async def scene() -> None:
        one = Worker(pool_of(server.url))
        async with working(one):
            port = _listen(server)
            other = StoreServer()
            try:
                _listen(other)
                server.ask("REPLICAOF", "127.0.0.1", str(port))
                one.suspend()
                await until(lambda: one.is_alone)
                state = one.sharing.state
                assert state is not None and "replica" in state.reason
                server.ask("REPLICAOF", "NO", "ONE")
                await until(lambda: one.is_shared)
            finally:
                other.close()

    asyncio.run(scene())


@pytest.mark.parametrize("password", ["", "wrong-password-0123"])
def test_m04_a_wrong_password_is_told_without_it(caplog: pytest.LogCaptureFixture, password: str) -> None:
    """M04, M05: alone, said once, and neither password in any log."""
    caplog.set_level(logging.DEBUG)

    async def scene(server: StoreServer) -> None:
        one = Worker(pool_of(server.url, password=Source(password) if password else None))
        async with working(one, connected=False):
            await until(lambda: any("alone since" in each.getMessage() for each in caplog.records))
            state = one.sharing.state
            assert state is not None and "password" in state.reason
        right = Worker(pool_of(server.url, password=Source("right-password-0123")))
        async with working(right):
            assert right.is_shared

    server = StoreServer("--requirepass", "right-password-0123")
    try:
        asyncio.run(scene(server))
    finally:
        server.close()
    said = "\n".join(str(each.__dict__) for each in caplog.records)
    assert "right-password-0123" not in said
    assert "wrong-password-0123" not in said


def test_m05_no_secret_is_stored(server: StoreServer) -> None:
    """M05: neither a secret nor a piece of it, in keys, values or names."""

    async def scene() -> None:
        one = Worker(pool_of(server.url))
        async with working(one):
            one.suspend("a")
            one.suspend("b")
            await until(lambda: server.ask("ZCARD", "understudy:team:until").startswith(b":2"))

    asyncio.run(scene())
    stored = server.everything()
    assert b"gpt-5" in stored
    for secret in SECRETS.values():
        assert secret.encode() not in stored
        assert secret.encode()[3:12] not in stored


def test_two_pools_on_one_server_do_not_meet(server: StoreServer) -> None:
    """Another prefix is another pool, whatever else is the same."""

    async def scene() -> None:
        one, other = Worker(pool_of(server.url)), Worker(pool_of(server.url, prefix="other"))
        third = Worker(pool_of(server.url))
        async with working(one, other, third):
            one.suspend("a")
            await until(lambda: key("a") in third.known)
            other.suspensions.resume_all()
            other.suspend("b")
            await until(lambda: server.ask("ZCARD", "understudy:other:until").startswith(b":1"))
            assert other.known == {key("b")}
            assert one.known == {key("a")}

    asyncio.run(scene())


def test_pools_that_differ_share_what_both_have(server: StoreServer) -> None:
    """A candidate that one pool file lacks does not get in there."""

    async def scene() -> None:
        one = Worker(pool_of(server.url))
        two = Worker(pool_of(server.url, secrets={"b": SECRETS["b"]}))
        async with working(one, two):
            one.suspend("a")
            one.suspend("b")
            await until(lambda: two.known == {key("b")})
            two.suspensions.prove(two.candidate("b"), two.suspensions.ticket())
            await until(lambda: one.known == {key("a")})

    asyncio.run(scene())


def test_an_unreachable_upstream_is_not_shared_and_a_hand_is(server: StoreServer) -> None:
    """What one machine cannot reach may be that machine's network; what a person says holds for all."""

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        upstream = Key(Scope.UPSTREAM, "openai")
        async with working(one, two):
            now = one.clock()
            one.suspensions.suspend(Suspension(upstream, now, now + 60, Label.OVERLOADED, "builtin/no_connection"))
            one.suspend("a")
            await until(lambda: key("a") in two.known)
            assert upstream not in two.known
            one.suspensions.suspend(Suspension(upstream, now, now + 90, Label.UNKNOWN, BY_HAND))
            await until(lambda: upstream in two.known)

    asyncio.run(scene())


def test_a_step_of_the_ladder_is_shared(server: StoreServer) -> None:
    """The next failure is the second one, whichever process sees it."""
    from understudy.suspensions import Rung

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        async with working(one, two):
            held = one.suspend(seconds=10)
            assert held is not None
            one.suspensions.ladders.climb(key(), Label.RATE_LIMITED, Rung(0, held.order, NOW + 10))
            await until(lambda: key() in two.known)
            ladders = two.suspensions.ladders
            assert ladders.next_step(key(), Label.RATE_LIMITED, 1000, NOW + 11) == 1

    asyncio.run(scene())


def test_a_reload_to_another_server_begins_anew(server: StoreServer) -> None:
    """Nothing of the old pool's goes there, and without a server nothing is shared."""

    async def scene() -> None:
        one = Worker(pool_of(server.url))
        async with working(one):
            one.suspend("a")
            await until(lambda: server.ask("ZCARD", "understudy:team:until").startswith(b":1"))
            one.sharing.use(pool_of(server.url, prefix="other"))
            await until(lambda: one.is_shared)
            one.suspend("b")
            await until(lambda: server.ask("ZCARD", "understudy:other:until").startswith(b":1"))
            one.sharing.use(Worker(pool_of(server.url)).pool.__class__())
            assert one.sharing.state is None
            assert one.suspensions.peers is None

    asyncio.run(scene())


def test_what_one_request_may_have_brought_about_is_not_held_against_the_others(server: StoreServer) -> None:
    """J04: where all refuse one request alike, the request is the suspect: other processes go on asking."""

    async def scene() -> None:
        one, two = Worker(pool_of(server.url)), Worker(pool_of(server.url))
        async with working(one, two):
            held = one.suspend("a")
            await until(lambda: key("a") in two.known)
            assert held is not None
            one.suspensions.put_in_doubt([held])
            await until(lambda: key("a") not in two.known)
            assert key("a") in one.known

    asyncio.run(scene())


def test_who_knows_a_response_is_known_to_all(each_server: StoreServer) -> None:
    """P04: a conversation that reaches another process goes to the account that has its history; stored as a hash."""

    async def scene() -> None:
        one, two = Worker(pool_of(each_server.url)), Worker(pool_of(each_server.url))
        async with working(one, two):
            one.ledger.learn(["resp_0123456789"], "a")
            one.ledger.learn(["resp_of_the_tool"], "the tool")
            one.ledger.learn(["resp_later"], "b")
            await until(lambda: two.ledger.owner(["resp_later"]) == "b")
            assert two.ledger.owner(["resp_0123456789"]) == "a"
            assert two.ledger.owner(["resp_of_the_tool"]) == ""
            each_server.freeze()
            one.ledger.learn(["resp_meanwhile"], "b")
            await until(lambda: one.is_alone)
            each_server.thaw()
            await until(lambda: two.ledger.owner(["resp_meanwhile"]) == "b")
        late = Worker(pool_of(each_server.url))
        async with working(late):
            assert late.ledger.owner(["resp_0123456789"]) == "a"
        other = Worker(pool_of(each_server.url, secrets={"b": SECRETS["b"]}))
        async with working(other):
            assert other.ledger.owner(["resp_0123456789"]) == ""

    asyncio.run(scene())
    assert b"resp_" not in each_server.everything()


def test_a_user_with_the_documented_rights_can_do_everything(each_server: StoreServer) -> None:
    """docs/scale-out.md lists the commands; keys and channel are those of the prefix."""
    page = (Path(__file__).parents[2] / "docs" / "scale-out.md").read_text(encoding="utf-8")
    listed = page.partition("The user needs the commands")[2].partition("on the keys")[0]
    rights = [f"+{name.lower()}" for name in re.findall(r"`([A-Z]+)`", listed)]
    assert len(rights) > 20
    place = "understudy:team:*"
    rules = ("on", ">the-password-0123", f"~{place}", f"&{place}", "-@all", *rights)
    assert each_server.ask("ACL", "SETUSER", "me", *rules).startswith(b"+OK")

    async def scene() -> None:
        pool = pool_of(each_server.url, user="me", password=Source("the-password-0123"))
        one, two = Worker(pool), Worker(pool)
        async with working(one, two):
            one.suspend("a", 30)
            one.ledger.learn(["resp_1"], "a")
            await until(lambda: key("a") in two.known and two.ledger.owner(["resp_1"]) == "a")
            one.clock.now += 31
            one.suspensions.expire()
            one.suspensions.want({key("a")})
            await until(lambda: not one.suspensions.is_blocked(key("a")))
            one.suspensions.resume_all()
            await until(lambda: not two.known)
            assert one.is_shared and two.is_shared

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("host", "trusts", "said"),
    [
        ("localhost", True, ""),
        ("localhost", False, "not accepted (unable to get local issuer certificate)"),
        ("127.0.0.1", True, "not accepted (IP address mismatch"),
    ],
    ids=["own-ca", "unknown-ca", "another-name"],
)
def test_m05_over_tls_the_server_proves_who_it_is(tmp_path: Path, host: str, trusts: bool, said: str) -> None:
    """M01, M05: `rediss://` with a CA of the user's own; a server that cannot prove its name is told nothing."""

    async def scene(server: StoreServer) -> None:
        url, ca = server.url.replace("localhost", host), str(authority.path) if trusts else ""
        one, two = Worker(pool_of(url, ca=ca)), Worker(pool_of(url, ca=ca))
        async with working(one, two, connected=not said):
            one.suspend(seconds=60)
            if not said:
                await until(lambda: key() in two.known)
                return
            # In so many words, in log, status and page.
            await until(lambda: all((state := each.sharing.state) and said in state.reason for each in (one, two)))
            assert server.ask("DBSIZE") == b":0\r\n"

    authority = Authority(tmp_path)
    server = StoreServer(tls=authority.server_file(["localhost"]))
    try:
        asyncio.run(scene(server))
    finally:
        server.close()


def test_m04_a_server_without_tls_is_said_to_have_none() -> None:
    """M04: `rediss://` to a port where something else answers, such as a web server. (A plain Redis stays silent.)"""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scene() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            worker = Worker(pool_of(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
            async with working(worker, connected=False):
                await until(lambda: (state := worker.sharing.state) is not None and "no TLS" in state.reason)

    asyncio.run(scene())
