"""One exchange as a story: who refused, why, and what the tool got."""

from __future__ import annotations

from collections.abc import Iterable

from mitmproxy import http

from tests.support.decisions import NOW, candidate, route
from tests.support.saved_flows import LIMITED, MISSING, ODD, attempt, flow, noted, pool_of, recorder, rules, values
from tests.whatif.test_simulation import POOL, SURE, play
from understudy.model.pool import Budget, Pool
from understudy.whatif.narrative import listing, story
from understudy.whatif.recorder import RecordedCall


def told(saved: Iterable[http.HTTPFlow], pool: Pool = POOL, *, number: int = -1, path: str = "pool.yaml") -> list[str]:
    return list(story(play(saved, pool)[number], rules(), path))


def replayed() -> list[http.HTTPFlow]:
    facts = noted(("work", "model_unsupported"), ("home", "ok"))
    facts["tried"][0] |= {
        "evidence": "HTTP 404: model_not_found: The model `gpt-5` does not exist",
        "suspended": {"what": "candidate work m1", "seconds": 600.0, "until": NOW + 600},
    }
    return [attempt(1, "work", "model_unsupported", 404, MISSING), flow(facts=facts)]


def test_a_rescue_that_would_happen_again() -> None:
    lines = told(replayed())
    assert lines[0].endswith(": openai chat/completions")
    assert lines[1:] == [
        "The tool asked api.openai.com for gpt-5.",
        "",
        "What happened, as understudy noted it:",
        "  asked    work m1: model_unsupported by general/model_unsupported; candidate work m1 suspended for 10m",
        "           HTTP 404: model_not_found: The model `gpt-5` does not exist",
        "  asked    home m1: ok",
        "  the tool got HTTP 200 of home m1",
        "",
        "With pool.yaml and the current rules:",
        "  route gpt-5: 1 work m1, 2 home m1",
        "  the same would happen again",
    ]


def test_without_a_pool_only_the_rules_speak() -> None:
    assert told(replayed(), path="")[-2:] == ["The current rules, without a pool file:", "  the same"]
    lines = told([flow(404, MISSING)], path="")
    assert lines[-1].startswith("  model_unsupported by general/model_unsupported: HTTP 404: ")
    assert told([flow(0, error="Client disconnected.")], path="")[-1] == "  no reply is recorded"


def test_a_call_of_another_recorder() -> None:
    lines = told([flow(429, LIMITED, headers={"retry-after": "20"})])
    assert "What happened (recorded without understudy):" in lines
    assert "  the tool got HTTP 429" in lines
    assert "  asked    work m1: rate_limited by general/rate_limited, suspended 20s: HTTP 429: " in "\n".join(lines)
    assert lines[-1] == "  open: home m1 is asked next, and what it would say is not recorded"


def test_who_was_skipped_then_and_who_is_now() -> None:
    facts = noted(("home", "ok"), skipped=[{"credential": "work", "model": "m1", "why": "suspended for its sins"}])
    limited = flow(429, LIMITED, headers={"retry-after": "20"})
    lines = told([limited, flow(at=NOW + 4, facts=facts)])
    assert "  skipped  work m1: suspended for its sins" in lines
    assert lines[-1] == "  the same would happen again"
    lines = told([limited, flow(at=NOW + 4)])
    assert any(line.startswith("  skipped  work m1: rate_limited by general/rate_limited, susp") for line in lines)


def test_an_unknown_error_is_told_with_the_rules_near_to_it() -> None:
    lines = told([flow(418, ODD), flow(418, {"error": {"message": "x", "code": "429"}}, at=NOW + 5)], SURE)
    assert "  failed: the tool gets HTTP 418 of work m1" in lines
    assert "  no rule recognises it: understudy rules new FILE 2 --label LABEL --id VENDOR/NAME makes a draft" in lines


def test_a_second_opinion_is_told() -> None:
    """J01: who is asked, what for, and what the tool gets otherwise."""
    lines = told([flow(418, ODD)])
    assert (
        "  open: home m1 is asked for a second opinion, and what it would say is not recorded; "
        "if it refuses too, the tool gets HTTP 418 of work m1" in lines
    )


def test_our_own_answer_has_a_line_for_each_candidate() -> None:
    pool = pool_of(route(candidate("work"), budget=Budget(wait=0)))
    lines = told([flow(401, {"error": {"message": "Incorrect API key provided"}})], pool)
    assert "  refused: understudy answers itself with HTTP 400" in lines
    assert any(line.startswith("    - work m1: credential_rejected by general/credential_rejected") for line in lines)


def test_a_call_without_a_route() -> None:
    lines = told([flow(404, MISSING, model="other")])
    assert "  no route serves it: it passes with the tool's own credential" in lines


def test_a_wait_stands_where_it_was() -> None:
    """Who is asked after a wait was out of rotation until then, and that is told."""
    facts = noted(("work", "ok"), waits=[{"before": 1, "seconds": 4.94, "why": "every candidate is suspended"}])
    lines = told([flow(facts=facts)])
    assert lines.index("  waited   4.9s: every candidate is suspended") + 1 == lines.index("  asked    work m1: ok")
    limited = flow(429, LIMITED, headers={"retry-after": "6"}, facts={**noted(("work", "x")), "attempts": 1})
    another = flow(at=NOW + 4)
    another.request.content = b'{"model": "gpt-5", "n": 1}'  # no retry of the first one: that does not wait (A10)
    lines = told([limited, another], pool_of(route(candidate("work"))))
    steps = [line.split()[0] for line in lines[-4:]]
    assert steps == ["skipped", "waited", "asked", "answered"]


def test_earlier_versions_tell_it_in_the_comment() -> None:
    saved = flow(facts={"route": "gpt-5", "alias": "gpt-5", "attempts": 2, "credential": "home", "model": "m1"})
    saved.comment = "1/2 work m1: overloaded\x1b → 2/2 home m1: answered"
    lines = told([saved])
    at = lines.index("What happened, as understudy noted it:")
    assert lines[at + 1 : at + 4] == [
        "  1/2 work m1: overloaded\\x1b",
        "  2/2 home m1: answered",
        "  the tool got HTTP 200 of home m1",
    ]


def test_the_list_says_what_came_of_each_call() -> None:
    def listed(saved: http.HTTPFlow) -> str:
        made = recorder(POOL).read(values(saved)[0])
        assert isinstance(made, RecordedCall)
        return listing(made, rules()).partition(f"  {made.id[:8]}  ")[2]

    assert listed(flow(404, MISSING)) == "gpt-5 (chat/completions)  HTTP 404: model_unsupported"
    assert listed(replayed()[1]) == "gpt-5 (chat/completions)  HTTP 200: ok by home m1, 2 attempts"
    assert listed(flow(0, error="refused", connected=False)) == "gpt-5 (chat/completions)  no reply: overloaded"
    assert listed(flow(0, error="Client disconnected.")) == "gpt-5 (chat/completions)  the tool went away"
    own = flow(429, MISSING, headers={"x-understudy": "answer"}, facts=noted(("work", "overloaded"), answer=0))
    assert listed(own) == "gpt-5 (chat/completions)  HTTP 429 by understudy itself"
