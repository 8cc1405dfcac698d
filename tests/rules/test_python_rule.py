"""Rules in Python: what they have to hold, and that their mistakes are silence."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from understudy.codec.yaml_nodes import LARGEST, RuleError
from understudy.model.verdict import Label, Then, Verdict
from understudy.replies.reply import Reply
from understudy.rules import python_rule
from understudy.rules.python_rule import PythonRule, load_python_rule
from understudy.rules.ruleset import Ruleset, Status

GOOD = '''\
"""Acme tells a missing model by a seat that is gone.

Source: https://acme.example/errors
"""

from understudy.reply import Reply
from understudy.rules import Label, Then, Verdict

EXAMPLES = {
    "matches": [{"label": "model_unsupported", "status": 400, "body": {"seat": "gone"}}],
    "near_misses": [{"status": 400, "body": {"seat": "taken"}}],
}


def classify(reply: Reply) -> Verdict | None:
    if reply.path("seat") == "gone":
        return Verdict(Label.MODEL_UNSUPPORTED, then=Then(seconds=60))
    return None
'''
GONE = Reply(400, body=b'{"seat": "gone", "message": "m"}')


def write(folder: Path, text: str) -> Path:
    file = folder / "acme" / "seats.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def load(folder: Path, text: str = GOOD) -> PythonRule:
    return load_python_rule(write(folder, text), "acme/seats")


def with_body(body: str) -> str:
    return GOOD.partition("    if reply.path")[0] + body


def test_a_file_becomes_a_rule(tmp_path: Path) -> None:
    rule = load(tmp_path)
    assert rule.about == "Acme tells a missing model by a seat that is gone."
    assert (rule.source, rule.status, rule.labels) == (
        "https://acme.example/errors",
        Status.STABLE,
        (Label.MODEL_UNSUPPORTED,),
    )
    assert (rule.matches[0].reply.body, rule.matches[0].line) == (b'{"seat": "gone"}', 9)
    verdict = Ruleset([rule]).judge(GONE)
    assert (verdict.label, verdict.rule) == (Label.MODEL_UNSUPPORTED, "acme/seats")
    assert (verdict.evidence, verdict.then) == ("HTTP 400: m", Then(seconds=60))
    assert Ruleset([rule]).judge(Reply(400, body=b'{"seat": "taken"}')).label is Label.UNKNOWN


def test_a_rule_says_whether_it_is_certain(tmp_path: Path) -> None:
    def said(text: str, identity: str = "acme/seats") -> Verdict:
        rule = load_python_rule(write(tmp_path, text), identity)
        return Ruleset([rule]).judge(GONE)

    assert said(GOOD).certain
    assert said(GOOD.replace("seconds=60)", "seconds=60), certain=False")).is_open
    assert said(GOOD, "fallback/seats").is_open


def test_a_draft_and_a_veto_can_be_written(tmp_path: Path) -> None:
    rule = load(tmp_path, GOOD + 'STATUS = "draft"\nUNLESS_RULE = ["acme/other"]\n')
    assert (rule.status, rule.vetoed_by) == (Status.DRAFT, frozenset({"acme/other"}))


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("def classify", "def klassify", 1, "there is no `classify`"),
        ("Source:", "See:", 1, "no docstring with a line `Source: https"),
        ('"label": "model_unsupported", ', "", 9, "an example of matches has no label"),
        ("model_unsupported", "model_gone", 9, "an example of matches has no label"),
        ('"status": 400, "body": {"seat": "taken"}', '"stat": 1', 9, "an example is no mapping with a status"),
        ('"body": {"seat": "taken"}', '"bdy": 1', 9, "the key 'bdy' of an example is not known"),
        ('[{"status": 400, "body": {"seat": "taken"}}]', "[]", 9, "there are no near_misses"),
        ("near_misses", "others", 9, "EXAMPLES is not a mapping with matches and near_misses"),
        ("EXAMPLES =", "STATUS = 'beta'\nEXAMPLES =", 9, "STATUS is neither stable nor draft"),
        ("EXAMPLES =", "globals()['STATUS'] = 'beta'\nEXAMPLES =", 1, "STATUS is neither stable nor draft"),
        ("EXAMPLES =", "UNLESS_RULE = 'a/b'\nEXAMPLES =", 9, "UNLESS_RULE is no list of ids"),
        ("EXAMPLES =", "UNLESS_RULE = ['a/b', 1]\nEXAMPLES =", 9, "UNLESS_RULE is no list of ids"),
        ("EXAMPLES =", "1 / 0\nEXAMPLES =", 9, "running it raised ZeroDivisionError"),
        ("EXAMPLES =", "raise SystemExit\nEXAMPLES =", 9, "running it raised SystemExit"),
        ("EXAMPLES =", "EXAMPLES = (", 9, "this is not Python"),
    ],
)
def test_errors_name_file_line_and_remedy(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert old in GOOD
    with pytest.raises(RuleError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/acme/seats.py:{line}: "), text
    assert what in text


def test_where_another_tool_traces_a_slow_rule_is_noticed_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A debugger or a coverage tool, which goes on tracing."""
    rule = load(tmp_path)
    monkeypatch.setattr(python_rule, "LIMIT", 0.0)
    before = sys.gettrace()
    tracer = before or (lambda frame, event, argument: None)
    sys.settrace(tracer)
    try:
        assert rule.speak(GONE) is None
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert "took more than 0 ms" in caplog.text


def test_an_example_is_the_reply_as_it_is_written(tmp_path: Path) -> None:
    rule = load(tmp_path, GOOD.replace('{"seat": "taken"}', '{"seat": "besetzt, verehrter Gast: é"}'))
    assert rule.near_misses[0].reply.body == '{"seat": "besetzt, verehrter Gast: é"}'.encode()


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
def test_law_10_a_file_is_read_as_far_as_files_go(tmp_path: Path, more: int, taken: bool) -> None:
    text = GOOD.ljust(LARGEST + more, "#")
    if taken:
        assert load(tmp_path, text).id == "acme/seats"
    else:
        with pytest.raises(RuleError, match=f"it is larger than {LARGEST} bytes"):
            load(tmp_path, text)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('    raise KeyError("words of the reply")\n', "raised KeyError in line 16"),
        ("    raise SystemExit\n", "raised SystemExit in line 16"),
        ("    while True:\n        pass\n", "took more than 50 ms"),
        ("    try:\n        while True: pass\n    except Exception: return None\n", "took more than 50 ms"),
        ("    return 'model_unsupported'\n", "returned str, not a Verdict"),
        ("    return Verdict('gone')\n", "returned Verdict, not a Verdict with a Label"),
        ("    return Verdict(Label.OK)\n", "returned ok, which no rule can say"),
    ],
)
def test_a_mistake_is_silence_and_logged_once(
    tmp_path: Path, body: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception or more than 50 ms counts as silent; the log says it once, without the reply's words."""
    rule = load(tmp_path, with_body(body))
    with caplog.at_level(logging.ERROR, "understudy"):
        for _ in range(3):
            assert Ruleset([rule]).judge(GONE).label is Label.UNKNOWN
    assert len(caplog.records) == 1
    assert told in caplog.text
    assert "words of the reply" not in caplog.text
