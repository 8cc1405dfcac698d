"""What the layer tells of a reply that is over: tokens, model and time, each attempt once (Q03, Q04, Q05)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.proxy import events

from tests.support.layer import STREAM_HEAD, Core, chunk
from tests.support.rule_files import write
from understudy.model import Usage
from understudy.model.pool import Budget
from understudy.model.verdict import Label
from understudy.proxy.listener import UnderstudyAttemptHook
from understudy.replies.hold import BODY_LIMIT
from understudy.rules.folders import load_folders
from understudy.rules.ruleset import Ruleset

USAGE = {"prompt_tokens": 100, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 64}}
TAKEN = Usage(100, 30, 64)
RULE = """\
id: own/downgrade
label: model_unsupported
about: Another model answers in the place of the one that was asked for.
source: seen here
status: stable
when:
  served_model|glob: "*-mini"
examples:
  matches:
    - {dialect: openai, status: 200, model: gpt-x, body: {model: gpt-x-mini, choices: [{message: {content: hi}}]}}
  near_misses:
    - {dialect: openai, status: 200, model: gpt-x, body: {model: gpt-x-2025-08-07, choices: [{message: {content: a}}]}}
    - {dialect: openai, status: 200, model: gpt-x, body: {model: other, choices: [{message: {content: gpt-x-mini}}]}}
"""


@pytest.fixture
def core() -> Iterator[Core]:
    """Two candidates, and a budget that lets a stream be hedged after ten seconds."""
    made = Core(Budget(hedge_after=10))
    yield made
    made.uninstall()


def plain(document: object, status: int = 200) -> bytes:
    """A whole reply."""
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def said(text: str, **more: object) -> bytes:
    """A chunk of a chat."""
    return chunk(f"data: {json.dumps({'choices': [{'delta': {'content': text}}], **more})}\n\n".encode())


END = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def answer(**more: object) -> dict[str, object]:
    """A plain answer."""
    return {"choices": [{"message": {"content": "hi"}}], **more}


def test_q03_a_plain_reply_is_measured_once(core: Core) -> None:
    """Q03: the attempt that the tool got, with its tokens; a reply that counts none is told as such."""
    core.ask(stream=False)
    server = core.opened()
    core.receive(server, plain(answer(usage=USAGE, model="gpt-x-2025-08-07")))
    assert [(each.attempt.number, each.usage, each.served, each.lost) for each in core.journal.taken] == [
        (1, TAKEN, "", False)
    ]
    core.ask(stream=False)
    core.receive(server, plain(answer()))
    assert core.journal.taken[1].usage is None


def test_q03_a_stream_is_measured_at_its_end(core: Core) -> None:
    """Q03, Q05: its tokens, and how long it took from its first event."""
    core.ask(stream=True)
    server = core.opened()
    core.pass_time(3)
    core.receive(server, STREAM_HEAD + said("a", model="gpt-x"))
    core.pass_time(2)
    assert core.journal.taken == []
    core.receive(server, said("b", usage=USAGE) + END)
    [taken] = core.journal.taken
    assert (taken.usage, taken.seconds, taken.lost) == (TAKEN, 2.0, False)


def test_q03_a_stream_that_the_tool_leaves_is_measured_as_far_as_it_came(core: Core) -> None:
    """Q03: it was paid for."""
    core.ask(stream=True)
    core.receive(core.opened(), STREAM_HEAD + said("a", usage=USAGE))
    core.client.state = core.client.state.CLOSED
    core.feed(events.ConnectionClosed(core.client))
    assert [(each.usage, each.lost) for each in core.journal.taken] == [(TAKEN, False)]


def test_q03_a_body_that_outgrows_its_bound_is_measured_by_its_end(core: Core) -> None:
    """Q03: what is too large to be parsed."""
    core.ask(stream=False)
    head, end, body = plain(answer(padding="x" * BODY_LIMIT, usage=USAGE)).partition(b"\r\n\r\n")
    server = core.opened()
    core.receive(server, head + end)
    for at in range(0, len(body), BODY_LIMIT):
        core.receive(server, body[at : at + BODY_LIMIT])
    assert [each.usage for each in core.journal.taken] == [TAKEN]


def test_q03_a_replay_is_lost_and_stands_apart(core: Core) -> None:
    """Q03: a 200 that is no answer was paid for as well; the answer that the tool got is not lost."""
    core.ask(stream=False)
    core.receive(core.opened(), plain({"choices": [], "usage": USAGE}))
    core.receive(core.opened(), plain(answer(usage={"prompt_tokens": 7})))
    assert [(each.attempt.candidate.credential.name, each.usage, each.lost) for each in core.journal.taken] == [
        ("c0", TAKEN, True),
        ("c1", Usage(7), False),
    ]


def test_q03_a_refusal_takes_nothing(core: Core) -> None:
    """Q03: only what succeeded was paid for."""
    core.ask(stream=False)
    core.receive(core.opened(), plain({"error": {"message": "slow down"}}, 429))
    core.receive(core.opened(), plain(answer(usage=USAGE)))
    assert [each.attempt.number for each in core.journal.taken] == [2]


def test_q03_the_loser_of_a_hedge_is_lost(core: Core) -> None:
    """Q03: it counts as far as it has said what it took."""
    core.ask(stream=True)
    slow = core.opened()
    core.pass_time(10)
    fast = core.opened()
    core.receive(slow, STREAM_HEAD + said("", usage={"prompt_tokens": 100}))
    core.receive(fast, STREAM_HEAD + said("a") + said("b", usage=USAGE) + END)
    told = {each.attempt.candidate.credential.name: (each.usage, each.lost) for each in core.journal.taken}
    assert told == {"c0": (Usage(100), True), "c1": (TAKEN, False)}


def test_q03_what_generates_nothing_takes_nothing(core: Core) -> None:
    """Q03: a count of tokens says what a call would take, and takes nothing itself."""
    core.post("/v1/responses/input_tokens", {"model": "gpt-x", "input": "hi"})
    core.receive(core.opened(), plain({"object": "response.input_tokens", "input_tokens": 11}))
    assert core.to_client.endswith(b"11}")
    assert core.journal.taken == []


def test_q03_to_measure_never_costs_a_call(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q03, O08: the tool has its whole reply, whatever goes wrong in counting."""

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(core.journal, "measured", broken)
    core.ask(stream=True)
    core.receive(core.opened(), STREAM_HEAD + said("a") + END)
    assert core.to_client.endswith(b"0\r\n\r\n")
    assert core.journal.over == 1


# -- another model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_q04_another_model_is_told_before_the_reply_is_over(core: Core, stream: bool) -> None:
    """Q04: plain and streamed, with the release, so that the comment has it; and once more when it is counted."""
    core.ask(stream=stream)
    server = core.opened()
    core.receive(server, STREAM_HEAD + said("a", model="mini-1") if stream else plain(answer(model="mini-1")))
    assert core.journal.named == [(1, "mini-1")]
    if stream:
        core.receive(server, END)
    assert [each.served for each in core.journal.taken] == ["mini-1"]


def with_rule(core: Core, folder: Path) -> None:
    """A rule of the owner's minds another model."""
    write(folder, RULE, "own/downgrade.yaml")
    core.engine.use_rules(Ruleset(*load_folders([folder])))


@pytest.mark.parametrize("stream", [False, True])
def test_q04_a_rule_may_mind_another_model(core: Core, tmp_path: Path, stream: bool) -> None:
    """Q04: `served_model`: the reply is judged before the tool has a byte of it, and another candidate answers."""
    with_rule(core, tmp_path)
    core.ask(stream=stream)
    first, good = core.opened(), answer(model="gpt-x", usage=USAGE)
    core.receive(first, STREAM_HEAD + said("a", model="gpt-x-mini") if stream else plain(answer(model="gpt-x-mini")))
    assert core.to_client == b""
    core.receive(core.opened(), STREAM_HEAD + said("b", model="gpt-x") + END if stream else plain(good))
    assert b"gpt-x-mini" not in core.to_client
    [abandoned] = [hook.args()[0] for hook in core.hooks if isinstance(hook, UnderstudyAttemptHook)]
    verdict = abandoned.outcome.verdict
    assert (verdict.label, verdict.rule) == (Label.MODEL_UNSUPPORTED, "own/downgrade")
    assert verdict.evidence == "HTTP 200: the reply names gpt-x-mini"
    assert [(each.attempt.number, each.served, each.lost) for each in core.journal.taken] == [
        (1, "gpt-x-mini", True),
        (2, "", False),
    ]


def test_q04_a_stream_that_was_cut_for_its_model_is_never_released(core: Core, tmp_path: Path) -> None:
    """Q04, S04: with nothing better the tool gets an answer of ours, not the beginning as if that were all."""
    with_rule(core, tmp_path)
    core.ask(stream=True)
    core.receive(core.opened(), STREAM_HEAD + said("a", model="gpt-x-mini"))
    core.receive(core.opened(), plain({"error": {"message": "invalid key"}}, 401))
    assert b'"content": "a"' not in core.to_client
    assert core.to_client.startswith((b"HTTP/1.1 400", b"HTTP/1.1 503", b"HTTP/1.1 429"))


def test_q04_the_only_candidate_is_released_whoever_answers(tmp_path: Path) -> None:
    """Q04, W06: there is no other to ask, so the stream goes on live."""
    core = Core(Budget(), credentials=1)
    with_rule(core, tmp_path)
    core.ask(stream=True)
    server = core.opened()
    core.receive(server, STREAM_HEAD + said("a", model="gpt-x-mini"))
    core.receive(server, said("b") + END)
    core.uninstall()
    assert b'"content": "a"' in core.to_client
    assert core.to_client.endswith(b"0\r\n\r\n")
    assert [(each.served, each.lost) for each in core.journal.taken] == [("gpt-x-mini", False)]
