"""Rule files: what they may hold, and the errors that name file, line and remedy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.rule_files import GOOD, write
from understudy.codec.yaml_nodes import RuleError
from understudy.model.verdict import Label, Scope, Then
from understudy.replies.reply import Reply
from understudy.rules.folders import shipped, shipped_vocabulary
from understudy.rules.ruleset import Rule, Ruleset, Status
from understudy.rules.yaml_rule import NO_SOURCE, read_rule


def load_file(file: Path, folder: Path) -> Rule:
    return read_rule(file, file.relative_to(folder).with_suffix("").as_posix())


def rule_with(folder: Path, when: str, extra: str = "") -> Rule:
    text = GOOD.replace("when:\n  code: gone\n", f"when: {when}\n{extra}")
    return load_file(write(folder, text), folder)


def reply(message: str = "", status: int = 400, **fields: object) -> Reply:
    headers = fields.pop("headers", ())
    body = {"error": {"message": message, **{key: value for key, value in fields.items() if key != "model"}}}
    return Reply(status, body=json.dumps(body).encode(), model=str(fields.get("model", "")), headers=headers)  # type: ignore[arg-type]


def test_a_file_becomes_a_rule(tmp_path: Path) -> None:
    then = "then: {replay: true, retry_same: 1, scope: credential, seconds: 60}\napplies_to: {host: '*.x'}\n"
    rule = load_file(write(tmp_path, GOOD + then), tmp_path)
    assert (rule.id, rule.label, rule.status) == ("vendor/thing", Label.MODEL_UNSUPPORTED, Status.STABLE)
    assert rule.then == Then(replay=True, retry_same=1, scope=Scope.CREDENTIAL, seconds=60)
    assert rule.applies_to.hosts == ("*.x",)
    assert json.loads(rule.matches[0].reply.body) == {"error": {"code": "gone"}}
    assert rule.matches[0].line == 10


@pytest.mark.parametrize(
    ("when", "hit", "miss"),
    [
        ("{status: 404}", reply(status=404), reply(status=400)),
        ("{status: [4xx, 500]}", reply(status=409), reply(status=501)),
        ("{code: Gone}", reply(code="GONE"), reply(code="gone2")),
        ("{code: [a, b]}", reply(code="b"), reply(code="c")),
        ("{code: 1211}", reply(code=1211), reply(code=1212)),
        ("{type|glob: 'not_*_error'}", reply(type="Not_found_error"), reply(type="not_found")),
        ("{param: model}", reply("m", param="model"), reply("m", param="models")),
        ("{message|contains: [gone, lost]}", reply("it is LOST"), reply("it is here")),
        ("{message|re: 'go(?:ne|ing)'}", reply("Going"), reply("go")),
        ("{message|re: '^{model} is gone$'}", reply("`X-1` is gone", model="x-1"), reply("`x-2` is gone", model="x-1")),
        ("{message|contains: 'of {model}'}", reply("end of models/x-1", model="x-1"), reply("end of y", model="x-1")),
        ("{header.x-odd|contains: y}", reply(headers=(("X-Odd", "xYz"),)), reply()),
        ("{json.error.extra.0: true}", reply(extra=[True]), reply(extra=[False])),
        ("{json.error.list.*.n: '2'}", reply(list=[{"n": 1}, {"n": 2}]), reply(list=[{"n": 3}])),
        ("{text|contains: 'odd thing'}", Reply(400, body=b"<p>ODD\n thing"), Reply(400, body=b"<p>odd")),
        ("{code: a, message|contains: b}", reply("b", code="a"), reply("c", code="a")),
        ("[{code: a}, {message|contains: b}]", reply("b"), reply("c")),
    ],
)
def test_conditions(tmp_path: Path, when: str, hit: Reply, miss: Reply) -> None:
    rule = rule_with(tmp_path, when)
    assert rule.matches_reply(hit)
    assert not rule.matches_reply(miss)


def test_unless_vetoes(tmp_path: Path) -> None:
    rule = rule_with(tmp_path, "{code: a}", "unless: [{message|contains: later}]\n")
    assert rule.matches_reply(reply("now", code="a"))
    assert not rule.matches_reply(reply("Later", code="a"))


@pytest.mark.parametrize(
    ("applies_to", "hit", "miss"),
    [
        ("{dialect: gemini}", {"dialect": "gemini"}, {"dialect": "openai"}),
        ("{host: ['*.a.example', b.example]}", {"host": "X.A.example"}, {"host": "a.example.org"}),
        ("{kind: auxiliary}", {"kind": "auxiliary"}, {"kind": "generating"}),
    ],
)
def test_applies_to(tmp_path: Path, applies_to: str, hit: dict[str, str], miss: dict[str, str]) -> None:
    rule = rule_with(tmp_path, "{status: 400}", f"applies_to: {applies_to}\n")
    assert rule.matches_reply(Reply(400, **hit))  # type: ignore[arg-type]
    assert not rule.matches_reply(Reply(400, **miss))  # type: ignore[arg-type]


def test_a_rule_says_whether_it_is_certain(tmp_path: Path) -> None:
    for extra, identity, certain in (
        ("", "vendor/thing", True),
        ("certain: false\n", "vendor/thing", False),
        ("", "fallback/thing", False),
        ("certain: true\n", "fallback/thing", True),
    ):
        text = GOOD.replace("vendor/thing", identity) + extra
        rule = load_file(write(tmp_path, text, f"{identity}.yaml"), tmp_path)
        said = rule.speak(reply(code="gone"))
        assert said is not None
        assert (rule.certain, said.certain) == (certain, certain)
    with pytest.raises(RuleError, match="write true or false"):
        load_file(write(tmp_path, GOOD + "certain: perhaps\n"), tmp_path)


def test_an_absent_value_equals_nothing(tmp_path: Path) -> None:
    assert not rule_with(tmp_path, "{json.a.b|re: '.*'}").matches_reply(reply())


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("label: model_unsupported", "label: model_gone", 2, "is not a label: write one of model_unsupported"),
        ("id: vendor/thing", "id: vendor/other", 1, "write `id: vendor/thing`"),
        ("status: stable", "status: beta", 5, "write one of stable, draft"),
        ("about: Why.", "abuot: Why.", 3, "`abuot` is not known: write one of id, label"),
        ("about: Why.\n", "", 1, "`about` is missing"),
        ("about: Why.", "about: Why.\n'': x", 4, "the key is empty"),
        ("about: Why.", f"about: Why.\n{'k' * 61}: x", 4, f"the key `{'k' * 60}` is not known"),
        ("label: model_unsupported", f"label: {'l' * 61}", 2, f"`{'l' * 60}` is not a label"),
        ("about: Why.", "about: ''", 3, "a text is expected here"),
        ("about: Why.", "about: Why.\nabout: Again.", 4, "the key 'about' is written twice"),
        ("  code: gone", "  cod: gone", 7, "the field `cod` is not known"),
        ("  code: gone", "  code|like: gone", 7, "the modifier `like` is not known: write one of contains, re, glob"),
        ("  code: gone", "  message|re: '(a+)+'", 7, "a repetition inside a repetition"),
        ("  code: gone", "  message|re: '(a'", 7, "not a regular expression"),
        ("  code: gone", "  status: 4x4", 7, "`4x4` is not a status"),
        ("  code: gone", "  status|re: '4'", 7, "`status` takes no modifier"),
        ("  code: gone", "  code: []", 7, "the list is empty"),
        ("  code: gone", "  code: {a: b}", 7, "a text is expected here"),
        ("when:\n  code: gone", "when: {}", 6, "the condition is empty"),
        ("when:\n  code: gone", "when: [{}]", 6, "the condition is empty"),
        ("when:\n  code: gone", "when: [{code: gone}, {}]", 6, "the condition is empty"),
        ("when:\n  code: gone", "when: gone", 6, "a mapping is expected here"),
        ("status: stable", "status: stable\nthen: {scope: planet}", 6, "is not a scope: write one of candidate"),
        ("status: stable", "status: stable\nthen: {seconds: .inf}", 6, "a number from 0 to 86400"),
        ("status: stable", "status: stable\nthen: {retry_same: 5}", 6, "a number from 0 to 1"),
        ("status: stable", "status: stable\nthen: {replay: maybe}", 6, "write true or false"),
        ("status: stable", "status: stable\napplies_to: {kind: other}", 6, "write generating or auxiliary"),
        ("    - {status: 404, body: {error: {code: here}}}", "    []", 9, "there are no `near_misses`"),
        (
            "near_misses:\n    - {status: 404, body: {error: {code: here}}}",
            "near_misses: x",
            11,
            "a list is expected here",
        ),
        ("near_misses:\n    - {status: 404, body: {error: {code: here}}}", "near_misses: {}", 11, "a list is expected"),
        ("    - {status: 404, body: {error: {code: here}}}", "    - {body: x}", 12, "the example has no `status`"),
        ("{status: 404, body", "{status: 99, body", 10, "a number from 100 to 599"),
        ("{status: 404, body", "{status: 600, body", 10, "a number from 100 to 599"),
        ("{error: {code: here}}", "{error: *alias}", 12, "not valid YAML"),
        ("{error: {code: here}}", "&a {error: [x, &b [*a]]}", 12, "nested too deeply"),
        ("about: Why.", "about: [", 4, "not valid YAML"),
        ("about: Why.", 'about: "\\UFFFFFFFF"', 1, "not valid YAML"),
        ("about: Why.", "about: \x07", 1, "not valid YAML"),
        ("about: Why.", "about: !!set {Why.}", 3, "a YAML tag that is not supported"),
        ("status: stable", "status: stable\nunless: [{rule: a/b, code: x}]", 6, "`rule` stands beside other fields"),
        ("status: stable", "status: stable\nunless: [{rule: []}]", 6, "the list is empty"),
        (GOOD, "", 1, "the file is empty: write id, label"),
    ],
)
def test_errors_name_file_line_and_remedy(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert old in GOOD
    file = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(RuleError) as caught:
        load_file(file, tmp_path)
    text = str(caught.value)
    assert what in text
    if "not valid YAML" not in text:
        assert text.startswith(f"{file}:{line}: ")
    assert re.fullmatch(re.escape(str(file)) + r":\d+: .+: .+", text)


def test_aliases_cannot_stand_for_billions_of_values(tmp_path: Path) -> None:
    bomb = "x: &a [1, 1]\n" + "".join(f"y{n}: &b{n} [*{'a' if not n else f'b{n - 1}'}]\n" for n in range(30))
    with pytest.raises(RuleError, match=r"more than 100000 values|nested too deeply"):
        load_file(write(tmp_path, GOOD + bomb), tmp_path)


def test_an_example_is_the_reply_that_it_describes(tmp_path: Path) -> None:
    """Its values are those of JSON; what is not said of it is as for a plain reply."""
    values = "{a: true, b: no, c: On, d: ~, e: 12, f: 1.5, g: 'true', h: é, i: [1, {j: x}]}"
    rule = load_file(write(tmp_path, GOOD.replace("{error: {code: here}}", f"{values}, streamed: true")), tmp_path)
    shown = rule.near_misses[0].reply
    assert json.loads(shown.body) == {
        **{"a": True, "b": False, "c": True, "d": None, "e": 12, "f": "1.5", "g": "true", "h": "é"},
        "i": [1, {"j": "x"}],
    }
    assert "é".encode() in shown.body
    assert (shown.streamed, rule.matches[0].reply.streamed) == (True, False)
    assert (shown.status, shown.kind, shown.host) == (404, "generating", "")


def test_only_a_draft_may_have_no_source(tmp_path: Path) -> None:
    text = re.sub(r"source: .*", f"source: {NO_SOURCE}", GOOD)
    assert load_file(write(tmp_path, text.replace("status: stable", "status: draft")), tmp_path).source == NO_SOURCE
    with pytest.raises(RuleError, match=r":4: a stable rule has the source of a draft"):
        load_file(write(tmp_path, text), tmp_path)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuleError) as caught:
        load_file(tmp_path / "vendor" / "thing.yaml", tmp_path)
    said = "it cannot be read (No such file or directory): check its permissions"
    assert str(caught.value) == f"{tmp_path}/vendor/thing.yaml:1: {said}"


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="larger than"):
        load_file(write(tmp_path, GOOD + "#" * 1_100_000), tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(GOOD)), st.text(max_size=6), st.integers(0, 20))
def test_mutated_files_raise_nothing_but_rule_errors(tmp_path: Path, at: int, new: str, gone: int) -> None:
    file = tmp_path / "vendor" / "thing.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes((GOOD[:at] + new + GOOD[at + gone :]).encode("utf-8", "surrogatepass"))
    problem = f"{file}:1: "
    try:
        load_file(file, tmp_path)
    except RuleError as error:
        problem = str(error)
    assert problem.startswith(f"{file}:")


# -- phrases ----------------------------------------------------------------------------------------------------


def says(folder: Path, when: str) -> Rule:
    text = GOOD.replace("when:\n  code: gone\n", f"when:\n{when}")
    return read_rule(write(folder, text), "vendor/thing", shipped_vocabulary())


@pytest.mark.parametrize(
    ("when", "hit", "miss"),
    [
        ("  message|says: <the-model> <is-retired>\n", reply("model x-1 was retired"), reply("The key was retired")),
        ("  message|says: [gone, is <served>]\n", reply("it is supported"), reply("it is empty")),
        ("  code|says: model not found\n", reply(code="ModelNotFound"), reply("model not found")),
        ("  type|says: model not found\n", reply(type="MODEL_NOT_FOUND"), reply(code="model_not_found")),
        ("  code-or-type|says: not found\n", reply(type="not_found"), reply(code="not", type="found")),
        ("  json.error.hint|says: try again\n", reply(hint="Try again!"), reply("try again")),
        ("  message|says: gone\n  message|says-not: <try-later>\n", reply("gone"), reply("gone, try again later")),
        ("  - message|says: gone\n  - status: 404\n", reply(status=404), reply("here")),
    ],
)  # fmt: skip
def test_rules_speak_in_phrases(tmp_path: Path, when: str, hit: Reply, miss: Reply) -> None:
    rule = says(tmp_path, when)
    assert rule.matches_reply(hit)
    assert not rule.matches_reply(miss)
    assert not rule.matches_reply(Reply(400))


def test_an_expression_is_searched_in_the_beginning_of_a_body_only(tmp_path: Path) -> None:
    """H02: an expression may cost the square of the text, so it does not get all of what a peer sends."""
    rule = says(tmp_path, "  text|re: 'odd.*thing'\n")
    assert rule.matches_reply(Reply(403, body=b"<html>" + b"x" * 2500 + b"odd thing"))
    assert not rule.matches_reply(Reply(403, body=b"<html>" + b"x" * 5000 + b"odd thing"))


def test_a_rule_knows_its_phrases(tmp_path: Path) -> None:
    rule = says(tmp_path, "  - message|says: [a b, c]\n  - code|says: d\n    message|says-not: e\n")
    assert rule.phrases == ("a b", "c", "d", "e")


@pytest.mark.parametrize(
    ("when", "what"),
    [
        ("  message|says: a (b\n", "`a (b`: a `)` is missing"),
        ("  message|says: <nobody>\n", "the vocabulary has no <nobody>"),
        ("  code-or-type: gone\n", "`code-or-type` takes only `says`"),
    ],
)
def test_a_phrase_that_means_nothing_is_told_with_its_line(tmp_path: Path, when: str, what: str) -> None:
    with pytest.raises(RuleError) as caught:
        says(tmp_path, when)
    assert what in str(caught.value)
    assert caught.value.problems[0].line == 7


def test_an_example_may_name_the_error_without_a_body(tmp_path: Path) -> None:
    short = "{status: 404, code: gone, message: It is gone, type: t, param: p}"
    rule = load_file(write(tmp_path, GOOD.replace("{status: 404, body: {error: {code: gone}}}", short)), tmp_path)
    assert rule.matches[0].reply.json == {"error": {"message": "It is gone", "code": "gone", "type": "t", "param": "p"}}
    both = "{status: 404, code: gone, body: {error: {code: gone}}}"
    with pytest.raises(RuleError, match="`code` stands beside `body`"):
        load_file(write(tmp_path, GOOD.replace("{status: 404, body: {error: {code: gone}}}", both)), tmp_path)


SERVED = {"model": "gpt-5-mini", "choices": [{"message": {"content": "hi"}}]}


@pytest.mark.parametrize(
    ("when", "speaks"),
    [
        ("{served_model: gpt-5-mini}", True),
        ("{served_model|glob: '*'}", True),
        ("{served_model|contains: mini, status: 200}", True),
        ("[{served_model: other}, {served_model|re: 'mini$'}]", True),
        ("{served_model: gpt-5}", False),
        ("{served_model|glob: '*', header.x-kind: b}", False),
    ],
)
def test_q04_a_rule_may_ask_who_has_answered(tmp_path: Path, when: str, speaks: bool) -> None:
    """Q04: only of a success that names another model than was sent."""
    rules = Ruleset([rule_with(tmp_path, when)])
    served = Reply(200, dialect="openai", model="gpt-5", body=json.dumps(SERVED).encode())
    assert (rules.judge(served).label is Label.MODEL_UNSUPPORTED) is speaks
    assert bool(rules.voices(served)) is speaks
    for other in (
        replace(served, model="gpt-5-mini"),
        replace(served, model="gpt-5-mini-2025-08-07"),
        replace(served, kind="auxiliary"),
        replace(served, body=json.dumps({**SERVED, "model": None}).encode()),
    ):
        assert rules.judge(other).label is Label.OK


def test_q04_a_verdict_on_another_model_says_which(tmp_path: Path) -> None:
    """Q04: and nothing of a secret that the name repeats."""
    rules = Ruleset([rule_with(tmp_path, "{served_model|glob: '*'}")])
    body = json.dumps({**SERVED, "model": "sk-0123456789"}).encode()
    served = Reply(200, dialect="openai", model="gpt-5", body=body, mask=lambda text: text.replace("sk-0", "<masked>"))
    assert rules.judge(served).evidence == "HTTP 200: the reply names <masked>123456789"


def test_q04_what_is_no_answer_is_none_whoever_made_it(tmp_path: Path) -> None:
    """Q04, A01: structure comes first."""
    rules = Ruleset([rule_with(tmp_path, "{served_model|glob: '*'}")])
    empty = json.dumps({**SERVED, "choices": []}).encode()
    found = rules.judge(Reply(200, dialect="openai", endpoint="chat/completions", model="gpt-5", body=empty))
    assert found.rule == "builtin/no_answer"


def test_q04_successes_are_no_place_for_words(tmp_path: Path) -> None:
    """Q04, F08: an alternative without `served_model` would be asked about answers."""
    with pytest.raises(RuleError, match="`served_model` stands in some alternatives only"):
        rule_with(tmp_path, "[{served_model: a}, {message|contains: gone}]")


def test_q04_without_such_a_rule_nothing_is_asked(tmp_path: Path) -> None:
    """Q04: the shipped rules mind nobody's model."""
    assert not Ruleset([rule_with(tmp_path, "{code: gone}")]).asks_served_model
    assert not shipped().asks_served_model
    assert rule_with(tmp_path, "[{served_model: a, status: 200}, {served_model: b}]")
