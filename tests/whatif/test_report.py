"""What `understudy replay` says of a call."""

from __future__ import annotations

import json
import re

from tests.support.decisions import NOW, candidate, route
from tests.support.saved_flows import LIMITED, MISSING, ODD, attempt, flow, noted, pool_of
from tests.whatif.test_simulation import POOL, SURE, play
from understudy.model.pool import Budget
from understudy.whatif.report import failed_somewhere, json_of, lines_of

REPLAYED = [
    attempt(1, "work", "model_unsupported", 404, MISSING),
    flow(facts=noted(("work", "model_unsupported"), ("home", "ok"))),
]


def told(*saved: object, several: bool = False) -> list[list[str]]:
    """The lines of each call, without their times, which are local, and without spans that are drawn by lot."""
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
    return [
        [re.sub(r"suspended 1\dm\w*", "suspended SPAN", stamp.sub("TIME", line)) for line in lines]
        for lines in (lines_of(played, several=several) for played in play(saved))  # type: ignore[arg-type]
    ]


def test_an_answer_at_once_is_one_line() -> None:
    assert told(flow()) == [["#1 TIME gpt-5: work m1: ok"]]
    assert told(flow(), several=True)[0][0].startswith("#1")


def test_a_rescue_says_who_refused_and_why() -> None:
    assert told(*REPLAYED) == [
        [
            "#2 TIME gpt-5 by route gpt-5",
            "    asked    work m1: model_unsupported by general/model_unsupported, suspended SPAN: "
            "HTTP 404: model_not_found: The model `gpt-5` does not exist",
            "    asked    home m1: ok",
            "    now      rescued by home m1",
        ]
    ]


def test_what_differs_from_what_happened_is_told() -> None:
    first, second = told(flow(429, LIMITED, headers={"retry-after": "20"}), flow(at=NOW + 3))
    assert first[-2:] == [
        "    now      open: home m1 is asked next, and what it would say is not recorded",
        "    then     the tool got HTTP 429",
    ]
    assert second[1].startswith("    skipped  work m1: rate_limited by general/rate_limited, suspended for another 18s")
    assert second[-1] == "    now      answered by home m1"


def test_every_other_end_has_its_words() -> None:
    assert told(flow(model="x"))[0] == ["#1 TIME x: no route, passes as it is"]
    assert told(flow(0, error="Client disconnected."))[0][-1] == "    now      unrecorded: the tool went away"
    (failed,) = play([flow(418, ODD)], SURE)
    assert lines_of(failed, several=False)[-1] == "    now      failed: the tool gets HTTP 418 of work m1"
    alone = pool_of(route(candidate("work"), budget=Budget(wait=0)))
    (refused,) = play([flow(401, {"error": {"message": "Incorrect API key provided"}})], alone)
    assert lines_of(refused, several=False)[-2:] == [
        "    now      refused: understudy answers itself with HTTP 400",
        "    then     the tool got HTTP 401",
    ]
    (stood,) = told(flow(facts=noted(("former", "ok"))))
    assert "(the recorded reply of former stands for it)" in stood[1]


def test_the_json_of_a_call() -> None:
    (played,) = play(REPLAYED)
    found = json.loads(json.dumps(json_of(played)))
    suspended = found["tried"][0]["suspended"]
    assert (suspended["what"], suspended["hint"]) == ("candidate work m1", None)
    assert suspended["seconds"] >= 600
    assert (found["flow"], found["end"], found["answer"], found["differs"]) == (2, "rescued", "home m1", False)
    assert found["candidates"] == ["work m1", "home m1"]
    assert [each["recorded_in_flow"] for each in found["tried"]] == [1, 2]
    assert found["then"]["tried"][0] == {"candidate": "work m1", "label": "model_unsupported"}


def test_where_an_error_plays_a_part() -> None:
    saved = [flow(404, MISSING), flow(at=NOW + 2), flow(at=NOW + 700)]
    played = play([*saved, flow(model="x", at=NOW + 800), flow(500, ODD, model="x", at=NOW + 900)])
    assert [failed_somewhere(each) for each in played] == [True, True, False, False, True]


def test_a_model_name_cannot_forge_a_line() -> None:
    (lines,) = told(flow(model="gpt-5\nnow: \x1b[31mforged"))
    assert all(line.isprintable() for line in lines)


def test_the_pool_is_the_usual_one() -> None:
    assert list(POOL.routes) == ["gpt-5"]
