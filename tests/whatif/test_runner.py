"""`understudy replay` and `understudy explain`, as somebody calls them."""

from __future__ import annotations

import base64
import io
import json
import sys
import tracemalloc
from pathlib import Path
from urllib.parse import quote

import pytest
from mitmproxy import http

from tests.support.decisions import NOW
from tests.support.saved_flows import LIMITED, MISSING, ODD, SECRET, attempt, dump, flow, har, noted
from understudy.cli import command_line

POOL = """\
upstreams: {main: {dialect: openai, url: "https://openai.example/v1"}}
credentials:
  work: {upstream: main, secret: {env: NEVER_SET_ANYWHERE}}
  home: {upstream: main, secret: {env: NEVER_SET_EITHER}}
routes: {gpt-5: [{credential: work, model: m1}, {credential: home, model: m1}]}
"""


@pytest.fixture(autouse=True)
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pool file that is found without being named. Its secrets are nowhere to be found."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "understudy" / "pool.yaml"
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    path.write_text(POOL)
    return path


def saved(tmp_path: Path, *flows: http.HTTPFlow, name: str = "saved.mitm") -> str:
    path = tmp_path / name
    path.write_bytes(har(*flows) if name.endswith(".har") else dump(*flows))
    return str(path)


def replayed() -> list[http.HTTPFlow]:
    return [
        attempt(1, "work", "model_unsupported", 404, MISSING),
        flow(facts=noted(("work", "model_unsupported"), ("home", "ok"))),
        flow(at=NOW + 4, facts=noted(("home", "ok"), exchange="b")),
        flow(path="/v1/models", at=NOW + 9),
    ]


@pytest.mark.parametrize("name", ["saved.mitm", "saved.har"])
def test_replay_says_it_for_each_call_and_in_sum(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["replay", saved(tmp_path, flow(404, MISSING), flow(at=NOW + 3), name=name)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "#1" in out
    assert "asked    work m1: model_unsupported by general/model_unsupported, suspended 1" in out
    assert "skipped  work m1" in out
    assert "2 flows: 2 model calls, 0 others" in out


def test_replay_finds_the_attempts_of_a_dump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["replay", saved(tmp_path, *replayed())]) == 0
    out = capsys.readouterr().out
    assert "now      rescued by home m1" in out
    assert "4 flows: 2 model calls, 1 abandoned attempt of theirs, 1 other" in out
    assert "0 calls would end differently now" in out


def test_replay_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["replay", "--json", saved(tmp_path, *replayed())]) == 0
    first, second, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["end"], first["answer"], second["end"]) == ("rescued", "home m1", "answered")
    assert second["skipped"][0]["candidate"] == "work m1"
    assert summary["summary"]["ends"]["rescued"] == 1


def test_replay_of_several_files_is_one_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A suspension that one file earns counts for what another one has later."""
    later = saved(tmp_path, flow(at=NOW + 5), name="later.mitm")
    earlier = saved(tmp_path, flow(404, MISSING), name="earlier.har")
    assert command_line.main(["replay", later, earlier]) == 0
    out = capsys.readouterr().out
    assert out.index("earlier.har#1") < out.index("later.mitm#1")
    assert "asked    home m1: ok" in out


def test_only_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path, flow(), flow(418, ODD, at=NOW + 5))
    assert command_line.main(["replay", "--only-errors", file]) == 0
    out = capsys.readouterr().out
    assert "#1 " not in out
    assert "#2 " in out
    assert "2 model calls" in out


def test_rules_of_ones_own_and_another_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = tmp_path / "rules" / "acme" / "seat.yaml"
    rule.parent.mkdir(mode=0o700, parents=True)
    rule.write_text(
        "id: acme/seat\nlabel: model_unsupported\nabout: x\nsource: https://acme.example\nstatus: stable\n"
        "when: {message|contains: not staffed}\nexamples:\n"
        "  matches: [{status: 418, body: {error: It is not staffed}}]\n"
        "  near_misses: [{status: 418, body: {error: It is taken}}]\n"
    )
    other = tmp_path / "other.yaml"
    other.touch(mode=0o600)
    other.write_text(POOL.replace("gpt-5:", "default:"))
    file = saved(tmp_path, flow(418, ODD))
    assert command_line.main(["replay", "--rules", str(tmp_path / "rules"), "--pool", str(other), file]) == 0
    out = capsys.readouterr().out
    assert "by route default" in out
    assert "model_unsupported by acme/seat" in out


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.mitm"
    path.write_bytes(dump(flow(), flow(at=NOW + 2))[:-30])
    assert command_line.main(["replay", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "1 model call" in out
    assert f"understudy: {path}: this flow dump cannot be read from flow 2 on" in err
    assert command_line.main(["replay", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_without_a_pool_file(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """O09: none is looked for in the working directory; explain tells what happened all the same."""
    pool.unlink()
    file = saved(tmp_path, *replayed())
    assert command_line.main(["replay", file]) == 2
    assert f"there is no pool file at {pool}: write one, or name one with --pool" in capsys.readouterr().err
    assert command_line.main(["explain", file, "2"]) == 0
    assert "asked    work m1: model_unsupported" in capsys.readouterr().out


def test_a_broken_pool_file_is_told_with_its_line(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool.write_text(POOL.replace("routes:", "routs:"))
    for command in ("replay", "explain"):
        assert command_line.main([command, saved(tmp_path, flow())]) == 1
        assert f"{pool}:5: " in capsys.readouterr().err
    pool.write_text(POOL)
    pool.chmod(0o666)
    assert command_line.main(["replay", saved(tmp_path, flow())]) == 1
    assert command_line.main(["replay", "--rules", str(tmp_path / "none"), saved(tmp_path, flow())]) == 1


def test_explain_lists_the_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path, *replayed())
    assert command_line.main(["explain", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("#2 ")
    assert lines[0].endswith("gpt-5 (chat/completions)  HTTP 200: ok by home m1, 2 attempts")
    assert lines[2:] == [
        "and 1 flow that is no model call of a known dialect",
        f"`understudy explain {file} NUMBER` tells the story of one",
    ]


def test_explain_finds_a_call_by_number_id_and_attempt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flows = replayed()
    file = saved(tmp_path, *flows)
    stories = set()
    for wanted in ("2", flows[1].id, flows[1].id[:18], "1", flows[0].id):
        assert command_line.main(["explain", file, wanted]) == 0
        stories.add(capsys.readouterr().out)
    (story,) = stories
    assert "asked    home m1: ok" in story
    assert "the tool got HTTP 200" in story


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("9", "there is no flow '9' in it"),
        ("zz", "there is no flow 'zz' in it"),
        ("4", "#4 is no model call that is known here: POST api.openai.com/v1/models"),
        ("", "more than one id begins with '' (#1, #2, #3, #4)"),
    ],
)
def test_explain_says_what_it_did_not_find(
    wanted: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path, *replayed())
    assert command_line.main(["explain", file, wanted]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert f"see `understudy explain {file}`" in err


def test_standard_input_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["replay", "-"], ["explain", "-", "1"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(dump(flow(404, MISSING)))))
        assert command_line.main(command) == 0
        assert "model_unsupported by general/model_unsupported" in capsys.readouterr().out


FORMS = {
    "plain": SECRET,
    "url": quote(SECRET, safe=""),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 of more": base64.b64encode(f"user:{SECRET}".encode()).decode(),
}


@pytest.mark.parametrize("name", ["saved.mitm", "saved.har"])
@pytest.mark.parametrize("form", FORMS)
def test_nothing_that_is_said_holds_a_secret(
    form: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R04, R06, R07: a dump of another recorder holds the real keys, in headers, queries, bodies and echoes."""
    echo = FORMS[form]
    error = {"error": {"message": f"Seat of {echo} is not staffed", "code": echo[:90], "param": echo}}
    flows = [
        flow(418, error, path=f"/v1/chat/completions?key={quote(SECRET, safe='')}", headers={"x-echo": echo}),
        flow(418, error, at=NOW + 5, sent={"authorization": "Bearer other"}),
        flow(404, MISSING, at=NOW + 9, model=echo),
        flow(0, error=f"cannot connect to {echo}", at=NOW + 700, connected=False),
        flow(200, error, at=NOW + 800, streamed=True),
        flow(path=f"/v1/{echo}", at=NOW + 900),
    ]
    file = saved(tmp_path, *flows, name=name)
    commands = [["replay", file], ["replay", "--json", file], ["replay", "--only-errors", file], ["explain", file]]
    commands += [["explain", file, str(number)] for number in range(1, 7)]
    for command in commands:
        command_line.main(command)
        out, err = capsys.readouterr()
        assert out + err
        for secret in (SECRET, SECRET[8:24], *FORMS.values(), *(value[4:24] for value in FORMS.values())):
            assert secret not in out + err, command
    command_line.main(["explain", file, "1"])
    assert "<understudy:client>" in capsys.readouterr().out


def test_a_secret_that_no_flow_sent_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R07: what a user pasted into a prompt and an upstream repeats."""
    pasted = "sk-pasted-0123456789abcdefghijkl"
    command_line.main(["replay", saved(tmp_path, flow(418, {"error": {"message": f"do not send {pasted}"}}))])
    out = capsys.readouterr().out
    assert pasted not in out
    assert "sk-..." in out


def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`understudy replay FILE | head` ends without a traceback."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert command_line.main(["replay", saved(tmp_path, flow(429, LIMITED))]) == 1


def test_memory_is_bounded_whatever_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Law 10: some tens of MiB are played in a part of that."""
    path = tmp_path / "big.mitm"
    with path.open("wb") as file:
        for number in range(40):
            big = {"error": {"message": "x" * 500_000}} if number % 2 else {"choices": [{"text": "x" * 1_000_000}]}
            file.write(dump(flow(418 if number % 2 else 200, big, at=NOW + number)))
    assert path.stat().st_size > 28 << 20
    assert command_line.main(["replay", saved(tmp_path, flow())]) == 0  # everything is loaded now
    tracemalloc.start()
    assert command_line.main(["replay", "--json", str(path)]) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert '"calls": 40' in capsys.readouterr().out
    assert peak < 24 << 20
