"""Several real proxies over one real Valkey or Redis server (M01 to M05)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from tests.support.store_server import StoreServer, executable

from .behaviours import Behaviour, Gate, echo_credential, json_reply
from .proxy import Proxy, StartProxy
from .stage import CHAT, ENVIRONMENT, SECRETS, Stage, crashes, pool_yaml, refusal
from .upstream import Upstream

Start = Callable[[int], list[Stage]]


@pytest.fixture
def server() -> Iterator[StoreServer]:
    """A server of the test's own."""
    if executable() is None:
        pytest.skip("no valkey-server or redis-server is installed")
    running = StoreServer()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def start(mitmdump: StartProxy, server: StoreServer, upstream: Upstream, other_upstream: Upstream) -> Iterator[Start]:
    """Start so many proxies of one pool, which share, and wait until they do."""
    begun: list[Proxy] = []

    def begin(count: int) -> list[Stage]:
        # So long, because one probe is promised only to proxies that reach the server: on a machine whose cores are all
        # busy, the default of 0.1 s passes before a server that works has its turn, and a proxy alone probes by itself.
        state = f"state: {{url: '{server.url}', prefix: team, timeout: 3}}"
        pool = pool_yaml(upstream, other_upstream, "  default: [a, b]", extra=state)
        begun.extend(mitmdump(pool_yaml=pool, env=ENVIRONMENT) for _ in range(count))
        for proxy in begun:
            proxy.wait_for_log("what is learnt is shared")
        return [Stage(proxy, upstream, other_upstream) for proxy in begun]

    yield begin
    assert not [line for proxy in begun for line in crashes(proxy)]


def limited(seconds: int) -> Behaviour:
    """A reply that says when to come back."""
    return json_reply(429, {"error": {"message": "slow down", "type": "rate_limit"}}, [("retry-after", str(seconds))])


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.005)


def test_m01_what_one_proxy_was_refused_another_does_not_ask(start: Start, server: StoreServer) -> None:
    """M01: and a success of the other one brings it back for both."""
    one, two = start(2)
    model = one.alias()
    one.play(model, {"a": refusal(CHAT, model), "b": CHAT.answers()})
    assert one.call(CHAT, model).status == 200
    assert one.order(model) == ["a", "b"]
    until(lambda: model.encode() in server.everything())
    assert two.call(CHAT, model).status == 200
    assert two.order(model) == ["a", "b", "b"]


def test_m03_one_probe_of_all_proxies_when_a_suspension_expires(start: Start) -> None:
    """M03: 500 calls over 4 proxies around the moment of expiry: while the probe is not answered, no second is sent."""
    stages = start(4)
    model = stages[0].alias()
    gate = Gate()
    good = {"choices": [{"message": {"role": "assistant", "content": "ok"}}]}
    stages[0].play(model, {"a": [limited(4), json_reply(200, good, gate=gate)], "b": CHAT.answers()})
    assert stages[0].call(CHAT, model).status == 200

    def probes() -> int:
        return stages[0].order(model).count("a") - 1

    with ThreadPoolExecutor(8) as pool:
        under_way = {pool.submit(stages[number % 4].call, CHAT, model) for number in range(8)}
        answered = []
        begun, since = len(under_way), 0
        # Until 500 calls were answered while the probe, which is one of those under way, was not.
        while since < 500:
            done, under_way = wait(under_way, 30, FIRST_COMPLETED)
            assert done, "no call is answered"
            answered += [each.result().status for each in done]
            since += len(done) if probes() else 0
            assert begun < 5000, "what has expired is not probed"
            for _ in done:
                under_way.add(pool.submit(stages[begun % 4].call, CHAT, model))
                begun += 1
        assert probes() == 1
        gate.open()
        answered += [each.result().status for each in wait(under_way, 30).done]
    assert set(answered) == {200}


@pytest.mark.parametrize("trouble", ["freeze", "kill"])
def test_m04_calls_go_on_and_the_proxies_say_so_once(start: Start, server: StoreServer, trouble: str) -> None:
    """M04: alone with the time in log and status, and back without a restart, with what was learnt meanwhile."""
    one, two = start(2)
    model, later = one.alias(), one.alias()
    one.play(model, {"a": refusal(CHAT, model), "b": CHAT.answers()})
    one.play(later, {"a": CHAT.answers(), "b": CHAT.answers()})
    getattr(server, trouble)()
    assert one.call(CHAT, model).status == 200
    assert two.call(CHAT, later).status == 200
    for stage in (one, two):
        stage.proxy.wait_for_log("alone since [0-9:]{8}")
    assert one.call(CHAT, model).status == 200
    if trouble == "freeze":
        server.thaw()
    else:
        server.start()
    for stage in (one, two):
        stage.proxy.wait_for_log("is back after")
    until(lambda: model.encode() in server.everything())
    assert two.call(CHAT, model).status == 200
    assert one.order(model) == ["a", "b", "b", "b"]
    for stage in (one, two):
        assert len(re.findall("alone since", stage.proxy.log_text())) == 1


def test_m05_an_echo_of_a_secret_is_not_stored(start: Start, server: StoreServer) -> None:
    """M05: evidence is masked before it leaves."""
    one, two = start(2)
    model = one.alias()
    one.play(model, {"a": echo_credential(401), "b": CHAT.answers()})
    assert one.call(CHAT, model).status == 200
    until(lambda: b"credential_rejected" in server.everything())
    stored = server.everything()
    for secret in SECRETS.values():
        assert secret.encode() not in stored
        assert secret.encode()[8:] not in stored
    assert two.call(CHAT, model).status == 200
    assert one.order(model) == ["a", "b", "b"]
