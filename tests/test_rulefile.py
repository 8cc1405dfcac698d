"""Rule files: what they may hold, and the errors that name file, line and remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.reply import Reply
from understudy.rulefolder import load_file, load_folder, shipped, shipped_folder
from understudy.rules import Label, Rule, Ruleset, Scope, Status, Then
from understudy.yamlnodes import RuleError

GOOD = """\
id: vendor/thing
label: model_unsupported
about: Why.
source: https://vendor.example/docs
status: stable
when:
  code: gone
examples:
  matches:
    - {status: 404, body: {error: {code: gone}}}
  near_misses:
    - {status: 404, body: {error: {code: here}}}
"""


def write(folder: Path, text: str, name: str = "vendor/thing.yaml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


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
        ("about: Why.", "about: ''", 3, "a text is expected here"),
        ("about: Why.", "about: Why.\nabout: Again.", 4, "`about` is there twice"),
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
        ("when:\n  code: gone", "when: gone", 6, "a mapping is expected here"),
        ("status: stable", "status: stable\nthen: {scope: planet}", 6, "is not a scope: write one of candidate"),
        ("status: stable", "status: stable\nthen: {seconds: .inf}", 6, "a number from 0 to 86400"),
        ("status: stable", "status: stable\nthen: {retry_same: 5}", 6, "a number from 0 to 1"),
        ("status: stable", "status: stable\nthen: {replay: maybe}", 6, "write true or false"),
        ("status: stable", "status: stable\napplies_to: {kind: other}", 6, "write generating or auxiliary"),
        ("    - {status: 404, body: {error: {code: here}}}", "    []", 9, "there are no `near_misses`"),
        ("    - {status: 404, body: {error: {code: here}}}", "    - {body: x}", 12, "the example has no `status`"),
        ("{error: {code: here}}", "{error: *alias}", 12, "this is not YAML"),
        ("{error: {code: here}}", "&a {error: [x, &b [*a]]}", 12, "alias"),
        ("about: Why.", "about: [", 4, "this is not YAML"),
        ("about: Why.", 'about: "\\UFFFFFFFF"', 1, "this is not YAML"),
        ("about: Why.", "about: \x07", 1, "this is not YAML"),
    ],
)
def test_errors_name_file_line_and_remedy(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert old in GOOD
    file = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(RuleError) as caught:
        load_file(file, tmp_path)
    text = str(caught.value)
    assert what in text
    if "this is not YAML" not in text:
        assert text.startswith(f"{file}:{line}: ")
    assert re.fullmatch(re.escape(str(file)) + r":\d+: .+: .+", text)


def test_aliases_cannot_stand_for_billions_of_values(tmp_path: Path) -> None:
    bomb = "x: &a [1, 1]\n" + "".join(f"y{n}: &b{n} [*{'a' if not n else f'b{n - 1}'}]\n" for n in range(30))
    with pytest.raises(RuleError, match="alias"):
        load_file(write(tmp_path, GOOD + bomb), tmp_path)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="larger than"):
        load_file(write(tmp_path, GOOD + "#" * 300_000), tmp_path)


def test_a_folder_reports_every_broken_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("label: model_unsupported", "label: x"), "vendor/one.yaml")
    write(tmp_path, "nothing", "vendor/two.yml")
    with pytest.raises(RuleError) as caught:
        load_folder(tmp_path)
    assert [Path(problem.split(":")[0]).name for problem in caught.value.problems] == ["one.yaml", "two.yml"]


def test_a_folder_holds_rules_and_other_things(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "not a rule", "README.md")
    write(tmp_path, "not a rule", ".hidden/x.yaml")
    assert [rule.id for rule in load_folder(tmp_path)] == ["vendor/thing"]


def test_two_files_for_one_rule_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD, "vendor/thing.yml")
    with pytest.raises(RuleError, match="two files make the rule"):
        load_folder(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="this is not a folder"):
        load_folder(tmp_path / "none")


def test_the_shipped_rules_load() -> None:
    assert isinstance(shipped(), Ruleset)
    assert (shipped_folder() / "README.md").is_file()
    for rule in shipped().rules:
        assert rule.source.startswith("https://")
        assert rule.id.endswith(f"/{rule.label}") or rule.id == "general/credential_blocked"


def test_the_manual_lists_every_rule() -> None:
    """rules/README.md has a table of rules; it says what the files say."""
    manual = (shipped_folder() / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w/-]+)` \| `(\w+)` \| (.+?) \|$", manual, re.MULTILINE)
    files = [
        (rule.id, str(rule.label), re.sub(r"(?<=[.:;])\s.*", "", rule.about))
        for rule in sorted(load_folder(shipped_folder()), key=lambda rule: rule.id)
    ]
    expected = "\n".join(f"| `{identity}` | `{label}` | {about} |" for identity, label, about in files)
    assert [row[:2] for row in rows] == [row[:2] for row in files], f"the table should be:\n{expected}"


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
