"""Why a rule kept silent, and what is wrong with a rule's examples."""

from __future__ import annotations

import json
from dataclasses import replace

from understudy.replies.reply import Fault, FaultKind, Reply
from understudy.rules.near_misses import faults, heard, near_misses
from understudy.rules.ruleset import Rule, Ruleset, Speaker
from understudy.rules.yaml_rule import parse_rule

TEXT = """\
id: {name}
label: {label}
about: Why.
source: https://acme.example/docs
status: {status}
applies_to: {{host: "*.acme"}}
when:
  - {{code: gone, message|contains: [seat, chair]}}
unless:
  - message|contains: later
examples:
  matches: [{{status: 400, host: x.acme, body: {{code: gone, message: the seat}}}}]
  near_misses: [{{status: 400, host: x.acme, body: {{code: gone, message: the table}}}}]
"""


def rule(name: str = "acme/one", label: str = "overloaded", status: str = "stable", **changes: str) -> Rule:
    text = TEXT.format(name=name, label=label, status=status)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return parse_rule(text, f"{name}.yaml", name)


def why(message: str, code: str = "gone", host: str = "x.acme", rules: tuple[Speaker, ...] = ()) -> list[str]:
    ruleset = Ruleset(rules or [rule()])
    reply = Reply(400, host=host, body=json.dumps({"code": code, "message": message}).encode())
    return [f"{miss.rule}: {miss.why}" for miss in near_misses(ruleset, reply, ruleset.judge(reply))]


def test_what_was_missing() -> None:
    assert why("the seat") == []
    assert why("the table") == [
        "acme/one: only `message|contains: seat (or one of 1 more)` does not hold: the reply has 'the table' there"
    ]
    assert why("the seat", code="taken") == ["acme/one: only `code: gone` does not hold: the reply has 'taken' there"]
    assert why("the table", code="taken") == []


def test_a_status_alone_is_no_near_miss() -> None:
    """Most errors have it; beside something else that holds it says no less."""
    missing = ["acme/one: only `message|contains: seat (or one of 1 more)` does not hold: the reply has 'a' there"]
    assert why("a", rules=(rule(**{"{code: gone, ": "{status: 400, "}),)) == []
    assert why("a", rules=(rule(**{"{code: gone, ": "{status: 400, code: gone, "}),)) == missing


def test_what_vetoed_it_and_where_it_does_not_apply() -> None:
    assert why("the seat, later") == ["acme/one: `when` holds, but so does `unless`: message|contains: later"]
    assert why("the seat", host="x.example") == ["acme/one: `when` holds, but it applies to *.acme only"]


def test_one_error_of_several_is_enough() -> None:
    """And of several alternatives the one that holds altogether."""
    body = {"errors": [{"code": "x", "message": "m"}, {"code": "gone", "message": "the seat, later"}]}
    several = rule(**{"- message|contains: later": "- {message|contains: later, code: x}\n  - message|contains: late"})
    for host, told in (
        ("x.acme", "`when` holds, but so does `unless`: message|contains: late"),
        ("x.example", "`when` holds, but it applies to *.acme only"),
    ):
        ruleset, reply = Ruleset([several]), Reply(400, host=host, body=json.dumps(body).encode())
        assert [miss.why for miss in near_misses(ruleset, reply, ruleset.judge(reply))] == [told]


def test_what_was_heard() -> None:
    """Of the rule that decided, in the alternative that holds."""
    tables = rule("acme/two", **{"[seat, chair]": "[table]"})
    seats = rule(
        **{
            "  - {code: gone, message|contains: [seat, chair]}": "  - {code: gone, message|says: the table}\n"
            "  - {code-or-type|says: gone, message|says: [a chair, the seat]}"
        }
    )
    ruleset = Ruleset([tables, seats])
    for message, told in (
        ("the seat", ["code-or-type: `gone` in 'gone'", "message: `the seat` in 'the seat'"]),
        ("my table", []),
        ("the stool", []),
    ):
        reply = Reply(400, host="x.acme", body=json.dumps({"code": "gone", "message": message}).encode())
        assert heard(ruleset, reply, ruleset.judge(reply)) == told


def test_who_spoke_first() -> None:
    vetoed = rule("acme/two", "model_unsupported", later="sooner", **{"unless:\n": "unless:\n  - rule: acme/one\n"})
    assert why("the seat", rules=(rule(), vetoed)) == ["acme/two: it matches, but acme/one vetoes it"]
    assert why("the seat", rules=(rule(), rule("general/two"))) == [
        "general/two: it matches, but acme/one is asked before it"
    ]
    assert why("the seat", rules=(rule(), rule("acme/two", status="draft"))) == [
        "acme/two: it matches, but it is a draft"
    ]


def test_a_success_needs_no_explanation() -> None:
    ruleset = Ruleset([rule()])
    reply = Reply(200, body=b"{}")
    assert near_misses(ruleset, reply, ruleset.judge(reply)) == []


def test_a_fault_of_the_transport_is_no_near_miss() -> None:
    """No rule is asked about one."""
    ruleset = Ruleset([rule()])
    reply = Reply(400, host="x.acme", body=b'{"code": "gone", "message": "the table"}')
    cut = replace(reply, fault=Fault(FaultKind.CUT, "closed", sent=True))
    assert near_misses(ruleset, reply, ruleset.judge(reply))
    assert near_misses(ruleset, cut, ruleset.judge(cut)) == []


def test_faults_of_examples() -> None:
    good = rule()
    assert list(faults(Ruleset([good]), (good,))) == []
    rival = rule("acme/two", "rate_limited")
    assert list(faults(Ruleset([good, rival]), (good,))) == [
        "acme/one: the match in line 12 is judged rate_limited by acme/two, not overloaded",
        "acme/one: the match in line 12 gets two labels: acme/two (rate_limited), acme/one (overloaded): let one veto "
        "the other with `unless: {rule: ...}`",
    ]
    others = [rule(f"acme/{label}", label, **{"[seat, chair]": "[table]"}) for label in ("overloaded", "rate_limited")]
    assert list(faults(Ruleset([good, *others]), (good,))) == [
        "acme/one: the near miss in line 13 gets two labels: acme/rate_limited (rate_limited), "
        "acme/overloaded (overloaded)"
    ]
    assert list(faults(Ruleset([good, others[0]]), (good,))) == []
    wrong = rule(**{"the seat}": "the bed}", "the table": "a chair"})
    assert list(faults(Ruleset([wrong]), (wrong,))) == [
        "acme/one: the match in line 12 is not matched by its rule",
        "acme/one: the near miss in line 13 is matched by its rule",
    ]
