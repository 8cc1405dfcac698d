"""``understudy rules``: what it says, with which exit status, and that no secret is ever written."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.support.saved_flows import SECRET as KEY
from tests.support.saved_flows import dump, flow, har
from understudy.cli import command_line
from understudy.rules.folders import shipped
from understudy.rules.yaml_rule import parse_rule

SECRET = "sk-live-0123456789abcdef"
REFUSAL = {"error": {"message": "The model `acme-1` does not exist", "code": "model_not_found"}}
ODD = {"error": {"message": f"Seat 17 of acme-1 is not staffed today (key {SECRET})", "extra": ["x"] * 50}}
RULE = """\
id: acme/seat
label: {label}
about: Why.
source: https://acme.example/docs
status: {status}
when: {{message|contains: is not staffed}}
examples:
  matches: [{{status: 400, body: {{error: The seat is not staffed}}}}]
  near_misses: [{{status: 400, body: {{error: The seat is taken}}}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules" / "acme").mkdir(mode=0o700, parents=True)
    (tmp_path / "rules" / "acme" / "seat.yaml").write_text(RULE.format(label="overloaded", status="stable"))
    return tmp_path / "rules"


def saved(tmp_path: Path, body: object, status: int = 404, model: str = "acme-1") -> str:
    path = tmp_path / "reply.json"
    path.write_text(json.dumps({"status": status, "model": model, "body": body}))
    return str(path)


def test_list_and_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["rules", "list", "--rules", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["acme/seat", "overloaded"]
    assert len(lines) == 1 + len(shipped().rules)
    assert command_line.main(["rules", "show", "acme/seat", "--rules", str(folder)]) == 0
    assert "is not staffed" in capsys.readouterr().out
    assert command_line.main(["rules", "show", "general/overloaded"]) == 0
    for unknown in ("acme/none", "../../etc/passwd", "../tests/conftest"):
        assert command_line.main(["rules", "show", unknown]) == 2


def test_test_tries_the_examples_of_a_folder_and_of_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["rules", "test"]) == 0
    assert " 0 problems" in capsys.readouterr().out
    for path in (folder, folder / "acme" / "seat.yaml"):
        assert command_line.main(["rules", "test", str(path)]) == 0
        assert capsys.readouterr().out == "1 rule, 2 examples, 0 problems\n"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("The seat is not staffed}", "The seat is free}", "acme/seat: the match in line 8 is not matched by its rule"),
        ("The seat is taken", "It is not staffed", "acme/seat: the near miss in line 9 is matched by its rule"),
        ("label: overloaded", "label: gone", "seat.yaml:2: `gone` is not a label"),
    ],
)
def test_test_says_what_is_wrong(
    folder: Path, old: str, new: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "acme" / "seat.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert command_line.main(["rules", "test", str(folder)]) == 1
    assert told in capsys.readouterr().err


def test_two_labels_in_one_folder_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two labels for one reply among rules of one folder is a failure, not an order."""
    other = RULE.format(label="rate_limited", status="stable").replace("acme/seat", "other/seat")
    (folder / "other").mkdir(mode=0o700)
    (folder / "other" / "seat.yaml").write_text(other)
    assert command_line.main(["rules", "test", str(folder)]) == 1
    assert "gets two labels: other/seat (rate_limited), acme/seat (overloaded)" in capsys.readouterr().err


def test_judge_says_label_rule_evidence_action_and_near_misses(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["rules", "judge", saved(tmp_path, REFUSAL)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "label:    model_unsupported\n"
        "rule:     general/model_unsupported\n"
        "evidence: HTTP 404: model_not_found: The model `acme-1` does not exist\n"
        "action:   replayed to the next candidate, the candidate suspended for 10m\n"
        "certain:  yes\n"
    )
    assert "near:     fallback/request_invalid" in out
    (folder / "acme" / "seat.yaml").write_text(RULE.format(label="overloaded", status="draft"))
    assert command_line.main(["rules", "judge", saved(tmp_path, ODD, 400), "--rules", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "draft:    acme/seat: overloaded" in out
    assert "certain:  no (open)" in out
    assert "near:     acme/seat (overloaded): it matches, but it is a draft" in out
    assert "released as it is, nothing suspended" in out


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (
            {"error": {"code": "DeploymentNotFound", "message": "x"}},
            404,
            "general/model_unsupported (model_unsupported): it matches, but azure/model_unsupported is asked before",
        ),
        ({"error": {"code": 429, "message": "Quota"}}, 400, "fallback/rate_limited"),
        (
            {"error": {"message": "The model does not exist, try again later", "param": "messages[0]"}},
            400,
            "general/model_unsupported (model_unsupported): it matches, but general/request_invalid vetoes it",
        ),
        (
            {"error": {"message": "No available channel for model acme-1, try again later"}},
            400,
            "`when` holds, but so does `unless`: message|says: <try-later>",
        ),
    ],
)
def test_judge_says_why_a_rule_kept_silent(
    tmp_path: Path, body: object, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["rules", "judge", saved(tmp_path, body, status)]) == 0
    out = capsys.readouterr().out
    assert told in out or told == "fallback/rate_limited", out


def test_judge_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = b"HTTP/1.1 429 X\r\nretry-after: 120\r\n\r\n{}"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert command_line.main(["rules", "judge"]) == 0
    assert "suspended for 2m (stated by retry-after)" in capsys.readouterr().out


def test_new_writes_a_draft_that_loads_and_holds_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R07: what was sent as a credential, or looks like one, is in no file that is written."""
    har = {
        "log": {
            "entries": [
                {
                    "request": {
                        "method": "POST",
                        "url": f"https://api.openai.com/v1/chat/completions?key={SECRET}2",
                        "headers": [
                            {"name": "authorization", "value": f"Bearer {SECRET}"},
                            {"name": "cookie", "value": "session=hunter2hunter2"},
                        ],
                        "postData": {"text": json.dumps({"model": "acme-1"})},
                    },
                    "response": {
                        "status": 400,
                        "headers": [
                            {"name": "set-cookie", "value": "session=hunter3hunter3"},
                            {"name": "retry-after", "value": "7"},
                        ],
                        "content": {"text": json.dumps({**ODD, "session": "hunter2hunter2", SECRET: 1})},
                    },
                }
            ]
        }
    }
    source = tmp_path / "saved.har"
    source.write_text(json.dumps(har))
    arguments = ["rules", "new", str(source), "--label", "overloaded", "--id", "acme/seat"]
    assert command_line.main([*arguments, "--folder", str(tmp_path / "mine")]) == 0
    file = tmp_path / "mine" / "acme" / "seat.yaml"
    assert file.stat().st_mode & 0o077 == 0
    text = file.read_text()
    out, err = capsys.readouterr()
    for secret in (SECRET, "hunter2", "hunter3", "Bearer", "cookie"):
        assert secret not in text + out + err
    rule = parse_rule(text, str(file), "acme/seat")
    assert rule.status == "draft"
    assert rule.matches[0].reply.headers == (("retry-after", "7"),)
    assert rule.matches_reply(rule.matches[0].reply)
    assert command_line.main(["rules", "test", str(tmp_path / "mine")]) == 0
    assert command_line.main([*arguments, "--folder", str(tmp_path / "mine")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_new_prints_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rules", "new", saved(tmp_path, ODD), "--label", "overloaded", "--id", "acme/seat"]
    assert command_line.main(arguments) == 0
    assert 'message|contains: "of {model} is not staffed today' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 500), ({"choices": []}, 200), ("<html><p></p></html>", 502), ({"error": {"message": "17"}}, 400)],
)
def test_new_refuses_what_no_rule_can_be_made_of(
    tmp_path: Path, body: object, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["rules", "new", saved(tmp_path, body, status, ""), "--label", "overloaded", "--id", "acme/seat"]
    assert command_line.main(arguments) == 1
    assert "no rule can be made of this reply" in capsys.readouterr().err


def test_new_makes_a_draft_of_a_flow_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R07: chosen by number or id, with what else it matches, and no secret of any flow in it."""
    flows = [
        flow(418, {"error": {"message": f"Seat 1 is not staffed today, {KEY}"}}),
        flow(418, {"error": {"message": f"Seat 2 is not staffed today, {KEY}"}}, sent={"authorization": "none"}),
        flow(404, {"error": {"message": "Not here"}}),
        flow(),
        flow(0, error="refused"),
    ]
    for name, data in (("saved.mitm", dump(*flows)), ("saved.har", har(*flows))):
        source = tmp_path / name
        source.write_bytes(data)
        arguments = ["rules", "new", str(source), "2", "--label", "overloaded", "--id", "acme/seat"]
        assert command_line.main([*arguments, "--folder", str(tmp_path / name[6:])]) == 0
        out, err = capsys.readouterr()
        file = tmp_path / name[6:] / "acme" / "seat.yaml"
        lines = out.splitlines()
        assert lines[0] == f"{file}: a draft; finish it, then run `understudy rules test {file.parent.parent}`"
        assert lines[1] == "it was made of flow 2: POST api.openai.com/v1/chat/completions"
        assert lines[2] == f"it also matches 1 of the 2 other failed replies in {source}, which are judged without it:"
        assert lines[3].startswith("  flow 1: POST api.openai.com/v1/chat/completions: unknown by builtin/unknown: ")
        assert "Seat 2 is not staffed today" in file.read_text()
        assert KEY not in out + err + file.read_text()
    assert command_line.main([*arguments[:2], str(tmp_path / "saved.mitm"), flows[0].id[:20], *arguments[4:]]) == 0
    out, err = capsys.readouterr()
    assert parse_rule(out, "x", "acme/seat").status == "draft"
    assert "Seat 1" in out
    assert "it was made of flow 1" in err
    assert command_line.main([*arguments[:2], str(tmp_path / "saved.mitm"), *arguments[4:]]) == 0
    assert "it was made of flow 3" in capsys.readouterr().err, "the last one that failed"


@pytest.mark.parametrize(
    ("file", "wanted", "told"),
    [
        ("saved.mitm", "7", "there is no flow '7' in it"),
        ("saved.mitm", "", "more than one id begins with ''"),
        ("saved.mitm", "2", "flow 2 has no reply: refused by"),
        ("good.mitm", None, "no reply in it has failed"),
        ("cut.mitm", None, "this flow dump cannot be read from flow 2 on"),
        ("reply.json", "1", "FLOW is for a FILE that is a dump or a HAR"),
        ("none.mitm", "1", "none.mitm: No such file or directory"),
    ],
)
def test_new_says_which_flow_it_did_not_find(
    file: str, wanted: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = dump(flow(404, REFUSAL), flow(0, error=f"refused by {KEY}"))
    for name, data in (("saved.mitm", both), ("good.mitm", dump(flow())), ("cut.mitm", both[:-9])):
        (tmp_path / name).write_bytes(data)
    saved(tmp_path, ODD)
    arguments = ["rules", "new", str(tmp_path / file), "--label", "overloaded", "--id", "acme/seat"]
    assert command_line.main([*arguments[:3], *([] if wanted is None else [wanted]), *arguments[3:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert KEY not in err


@pytest.mark.parametrize("identity", ["acme", "../x/y", "a/b/c", "a/", "a/b.c"])
def test_an_id_is_a_vendor_and_a_name(tmp_path: Path, identity: str) -> None:
    arguments = ["rules", "new", saved(tmp_path, ODD), "--label", "overloaded", "--id", identity]
    assert command_line.main(arguments) == 2


def test_a_missing_file_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["rules", "judge", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
