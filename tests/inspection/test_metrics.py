"""Metrics: what is counted, with labels of a bounded number, and where it can be read."""

from __future__ import annotations

import asyncio
import builtins
import socket
import sys
from typing import Any

import pytest
from mitmproxy.test import tflow
from prometheus_client.parser import text_string_to_metric_families

from tests.inspection.test_journal import Told
from tests.support.decisions import Stage, candidate, reply, route, upstream
from understudy.failover.steps import Attempt, Release
from understudy.inspection import metrics, outlets
from understudy.inspection.journal import FlowJournal
from understudy.inspection.metrics import Metrics
from understudy.inspection.outlets import Inspection
from understudy.model.pool import Budget
from understudy.model.verdict import Label
from understudy.proxy.listener import Abandoned

A, B = candidate("a", "m1"), candidate("b", "m1", upstream("other"))


def samples(text: bytes) -> dict[str, float]:
    """``name{label=value,...}`` to its value, without what only tells when counting began, and without empty labels,
    which are none to Prometheus."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()) if value)
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def counted(stage: Stage, *told: Told) -> dict[str, float]:
    """What these exchanges come to."""
    counting = Metrics(lambda: stage.suspensions)
    for each in told:
        for facts in each.over:
            counting(each.flow, facts)
    return samples(counting.render())


def test_second_opinions_are_counted() -> None:
    """J01, J02: by what they came to."""
    stage = Stage()
    odd, other = (reply(Label.UNKNOWN, certain=False, message=message) for message in ("flux is on", "flux is off"))
    on = route(A, B, pattern="gpt-*")
    found = counted(
        stage, Told(stage, on, [odd, odd]), Told(stage, on, [odd]), Told(stage, on, [other, reply(Label.OK)])
    )
    assert found["understudy_second_opinions_total{compared=request}"] == 1
    assert found["understudy_second_opinions_total{compared=candidate}"] == 1


def test_e01_moves_are_counted() -> None:
    """E01: the turn that moves, and none after it."""
    stage, on = Stage(), route(A, B, pattern="gpt-*")
    stage.ledger.learn(["sealed a"], "a")
    first = Told(
        stage, on, [reply(Label.QUOTA_EXHAUSTED, retry_after="60"), reply(Label.OK)], **stage.sealed(on, "sealed a")
    )
    stage.ledger.move("sealed a", "b")
    second = Told(stage, on, [reply(Label.OK)], **stage.sealed(on, "sealed a"))
    assert counted(stage, first, second)["understudy_moves_total{route=gpt-*}"] == 1


def test_a05_a_hedge_is_an_attempt_of_its_own_kind() -> None:
    """A05: the loser counts as hedged, not as a failure of a label, and earns no suspension; the call was replayed."""
    stage = Stage()
    told = Told(stage, route(A, B, pattern="gpt-*"), [], streamed=True)
    stage.clock.now += 15
    assert told.exchange.hedge(A, stage.now) == Attempt(2, B)
    stage.clock.now += 1
    number = told.exchange.accept(B)
    [lost] = [each for each in told.exchange.outcomes if each.hedged]
    told.journal.abandoned(Abandoned(told.flow, told.exchange, lost, Release(number), lambda: tflow.tflow(resp=True)))
    told.journal.released(told.flow, told.exchange, number)
    told.exchange.succeeded()
    told.journal.finished(told.flow, told.exchange)
    found = counted(stage, told)
    assert found["understudy_attempts_total{credential=a,label=hedged}"] == 1
    assert found["understudy_attempts_total{credential=b,label=ok}"] == 1
    assert found["understudy_verdicts_total{label=hedged,mode=enforce}"] == 1
    assert found["understudy_requests_total{answer=replayed,mode=enforce,route=gpt-*}"] == 1
    assert found["understudy_replays_total{route=gpt-*}"] == 1
    assert not [name for name in found if name.startswith("understudy_suspensions")]


def test_what_is_counted() -> None:
    """Requests, attempts, verdicts, replays, suspensions, and both times, by route and credential."""
    stage = Stage()
    on = route(A, B, pattern="gpt-*", budget=Budget(wait=0))
    told = [
        Told(stage, on, [reply(Label.OK)], streamed=True),
        Told(stage, on, [reply(Label.RATE_LIMITED, retry_after="20"), reply(Label.OK)]),
        Told(stage, on, [reply(Label.CREDENTIAL_REJECTED)]),
    ]
    found = counted(stage, *told)
    assert {name: value for name, value in found.items() if value and "seconds" not in name} == {
        "understudy_requests_total{answer=ok,mode=enforce,route=gpt-*}": 1,
        "understudy_requests_total{answer=replayed,mode=enforce,route=gpt-*}": 1,
        "understudy_requests_total{answer=own,mode=enforce,route=gpt-*}": 1,
        "understudy_attempts_total{credential=a,label=ok}": 1,
        "understudy_attempts_total{credential=a,label=rate_limited}": 1,
        "understudy_attempts_total{credential=b,label=ok}": 1,
        "understudy_attempts_total{credential=b,label=credential_rejected}": 1,
        "understudy_verdicts_total{label=ok,mode=enforce}": 2,
        "understudy_verdicts_total{label=rate_limited,mode=enforce}": 1,
        "understudy_verdicts_total{label=credential_rejected,mode=enforce}": 1,
        "understudy_replays_total{route=gpt-*}": 1,
        "understudy_suspensions_total{credential=a,label=rate_limited}": 1,
        "understudy_suspensions_total{credential=b,label=credential_rejected}": 1,
        "understudy_suspended{scope=candidate}": 1,
        "understudy_suspended{scope=credential}": 1,
    }  # fmt: skip
    assert found["understudy_first_event_seconds_count{route=gpt-*}"] == 1
    assert found["understudy_first_event_seconds_sum{route=gpt-*}"] == 0.25
    assert found["understudy_failover_seconds_count{route=gpt-*}"] == 1
    assert found["understudy_failover_seconds_sum{route=gpt-*}"] == 0.25


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"answer": None, "cancelled": "a m1"}, "none"),
        ({"answer": 1, "tried": [{"credential": "a", "label": "unknown"}]}, "error"),
        ({"mode": "observe", "observed": {"label": "ok"}}, "observed"),
        ({"ended": {"credential": "a", "label": "overloaded", "suspended": {}}, "answer": 0}, "own"),
    ],
)
def test_every_end_has_a_name(change: dict[str, Any], answer: str) -> None:
    """How a call ended."""
    counting = Metrics(list)
    counting(tflow.tflow(), {"route": "r", "tried": [], **change})
    mode = change.get("mode", "enforce")
    found = samples(counting.render())
    assert found[f"understudy_requests_total{{answer={answer},mode={mode},route=r}}"] == 1
    assert found.get("understudy_suspensions_total{credential=a,label=overloaded}") == (1 if answer == "own" else None)


def test_aliases_are_no_labels() -> None:
    """However many names tools invent, the number of time series stays what it was."""
    stage = Stage()
    on = route(A, B, pattern="default")
    told = [Told(stage, on, [reply(Label.OK)], alias=f"invented-{number}") for number in range(50)]
    found = counted(stage, *told)
    assert not [name for name in found if "invented" in name]
    assert len(found) < 30


def test_tools_are_no_labels() -> None:
    """However many tools come with a login of their own, it is one credential of the pool file."""
    stage, told = Stage(), []
    for number in range(1, 51):
        own = candidate("own" if number == 1 else f"own~{number}")
        on = route(own, B, pattern="default", budget=Budget(wait=0))
        told.append(Told(stage, on, [reply(Label.RATE_LIMITED, retry_after="20"), reply(Label.OK)]))
    found = counted(stage, *told)
    assert found["understudy_attempts_total{credential=own,label=rate_limited}"] == 50
    assert found["understudy_suspensions_total{credential=own,label=rate_limited}"] == 50
    assert not [name for name in found if "~" in name]


@pytest.fixture
def looked() -> Inspection:
    """Nothing is counted yet."""
    return Inspection(FlowJournal(), lambda attempt, tool: None, list)


def test_counting_begins_and_ends_by_option(looked: Inspection) -> None:
    """It costs nothing where nobody asked for it."""
    assert looked.journal.listeners == []
    looked.count(wanted=True, port=0)
    first = looked.metrics
    assert first is not None
    looked.count(wanted=True, port=0)
    assert looked.metrics is first
    assert looked.journal.listeners == [first]
    looked.count(wanted=False, port=0)
    assert looked.metrics is None
    assert looked.journal.listeners == []


def test_without_the_library_it_is_said_what_to_install(looked: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional extra is named when it is missed, and not before."""
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.delitem(sys.modules, "understudy.inspection.metrics")
    with pytest.raises(ValueError, match=r"pip install 'mitmproxy-understudy\[metrics\]'"):
        looked.count(wanted=True, port=0)
    assert outlets.NO_LIBRARY


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


async def get(port: int, path: str, host: str) -> tuple[bytes, bytes]:
    """Head and body of one reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def test_served_on_loopback(looked: Inspection) -> None:
    """Law 12: at a loopback address, under loopback's names only; the port is free again afterwards."""
    port = free_port()

    async def play() -> None:
        looked.count(wanted=False, port=port)
        assert looked.metrics is not None
        looked.metrics(tflow.tflow(), {"route": "r", "tried": [], "answer": 0})
        head, body = await get(port, "/metrics", f"127.0.0.1:{port}")
        assert head.startswith(b"HTTP/1.1 200")
        assert metrics.CONTENT_TYPE.encode() in head
        assert samples(body)["understudy_requests_total{answer=own,mode=enforce,route=r}"] == 1
        for path, host in (("/metrics", "evil.example"), ("/", "localhost")):
            head, body = await get(port, path, host)
            assert head.startswith(b"HTTP/1.1 404"), (path, host)
            assert b"understudy" not in body
        busy = Inspection(FlowJournal(), lambda attempt, tool: None, list)
        with pytest.raises(ValueError, match=rf"pool_metrics_port: {port} cannot be used .*name a free port"):
            busy.count(wanted=False, port=port)
        looked.close()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await get(port, "/metrics", "localhost")

    asyncio.run(play())


def test_q03_tokens_are_counted_by_candidate() -> None:
    """Q03, Q04: what tools got, what they did not, and replies of another model; names of tools' own choice are not."""
    stage = Stage()
    counting = Metrics(lambda: stage.suspensions)
    usage = {"input": 100, "output": 30, "cached": 64}

    def entry(number: int, credential: str, model: str, **more: object) -> dict[str, object]:
        head = {"number": number, "credential": credential, "model": model, "label": "ok"}
        return {**head, "usage": usage, **more}

    def call(route: str, alias: str, *tried: dict[str, object]) -> None:
        facts = {"route": route, "alias": alias, "tried": list(tried), "answer": len(tried), "released": 1.0}
        counting(tflow.tflow(), facts)

    call("gpt-5", "gpt-5", entry(1, "a", "gpt-5", lost=True), entry(2, "b", "gpt-5", served_model="x"))
    call("gpt-*", "gpt-secret-name", entry(1, "a", "gpt-secret-name"))
    call("gpt-*", "gpt-4", entry(1, "client~2", "big"))
    text = counting.render()
    found = samples(text)
    assert found["understudy_lost_tokens_total{credential=a,kind=input,model=gpt-5}"] == 100
    assert found["understudy_tokens_total{credential=b,kind=cached,model=gpt-5}"] == 64
    assert found["understudy_tokens_total{credential=a,kind=output,model=*}"] == 30
    assert found["understudy_tokens_total{credential=client,kind=output,model=big}"] == 30
    assert found["understudy_another_model_total{credential=b}"] == 1
    assert b"gpt-secret-name" not in text


def test_q03_the_number_of_models_that_are_told_apart_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q03, law 10: of more, one label stands for all."""
    monkeypatch.setattr(metrics, "MOST_MODELS", 2)
    counting = Metrics(list)
    for name in ("m1", "m2", "m3", "m4"):
        entry = {"number": 1, "credential": "a", "model": name, "label": "ok", "usage": {"input": 1}}
        counting(tflow.tflow(), {"route": name, "alias": name, "tried": [entry], "answer": 1, "released": 1.0})
    found = samples(counting.render())
    assert found["understudy_tokens_total{credential=a,kind=input,model=*}"] == 2
    assert "understudy_tokens_total{credential=a,kind=input,model=m3}" not in found
