"""Named phrases: what a vocabulary may hold, what an owner adds to it, and that the shipped one is true to itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.codec.yaml_nodes import LARGEST, RuleError
from understudy.model.verdict import Label
from understudy.replies.reply import Reply
from understudy.rules.folders import (
    RuleLibrary,
    load_folder,
    load_folders,
    load_vocabulary,
    shipped_folder,
    shipped_vocabulary,
    stamp,
)
from understudy.rules.ruleset import Ruleset
from understudy.rules.vocabulary import make_vocabulary

SEAT = """\
seat:
  about: What Acme calls a model.
  phrases: [the seat, "[our] chair(s)"]
  examples: [the seat, our chairs]
  near_misses: [a seat, armchair]
"""
RULE = """\
id: acme/model_unsupported
label: model_unsupported
about: Acme takes seats away.
source: https://acme.example/errors
status: stable
when: {message|says: "<seat> [*] <is-retired>"}
examples:
  matches: [{status: 400, message: The seat has been retired}]
  near_misses: [{status: 400, message: The seat is taken}]
"""


def folder(tmp_path: Path, vocabulary: str, rule: str = RULE) -> Path:
    (tmp_path / "acme").mkdir(mode=0o700)
    (tmp_path / "acme" / "model_unsupported.yaml").write_text(rule)
    (tmp_path / "vocabulary.yaml").write_text(vocabulary)
    return tmp_path


def refusal(message: str) -> Reply:
    return Reply(400, body=json.dumps({"error": {"message": message}}).encode(), model="acme-1")


def test_the_shipped_vocabulary_matches_its_examples_and_not_its_near_misses() -> None:
    vocabulary = shipped_vocabulary()
    assert list(vocabulary.faults()) == []
    assert len(vocabulary.entries) > 40
    assert {entry.name for entry in vocabulary.entries} == set(vocabulary.nodes)


def test_every_shipped_name_is_used() -> None:
    """A name that no rule and no other name speaks of helps nobody."""
    texts = [path.read_text("utf-8") for path in shipped_folder().rglob("*.yaml")]
    unused = [
        entry.name for entry in shipped_vocabulary().entries if not any(f"<{entry.name}>" in each for each in texts)
    ]
    assert unused == []


def test_no_line_of_the_shipped_rules_is_long() -> None:
    """Every line can be read at a glance: at most 140 characters."""
    for path in sorted(shipped_folder().rglob("*.yaml")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert len(line) <= 140, f"{path.name}:{number}"


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("  about: What Acme calls a model.\n", "", 1, "<seat> has no `about`"),
        ("  near_misses: [a seat, armchair]\n", "", 1, "<seat> has no `near_misses`"),
        ("seat:\n", "Seat:\n", 1, "`<Seat>` is no name"),
        ("seat:\n", "a-name:\n", 1, "<a-name> has its meaning already"),
        ('the seat, "', 'the (seat, "', 1, "<seat>: a `)` is missing"),
        ('the seat, "', '<chair>, "', 1, "<seat>: the vocabulary has no <chair>"),
        ('the seat, "', 'x <seat>, "', 1, "<seat>: <seat> is defined by itself"),
        ("about:", "abut:", 2, "the key `abut` is not known"),
        ("[a seat, armchair]", "[{a: b}]", 5, "a text is expected here"),
        ("seat:\n  about", "- about", 1, "a mapping is expected here"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert old in SEAT
    text = SEAT.replace(old, new) if not new.startswith("- ") else "- a\n"
    with pytest.raises(RuleError) as caught:
        load_folder(folder(tmp_path, text))
    problem = caught.value.problems[0]
    assert (problem.path, problem.line) == (str(tmp_path / "vocabulary.yaml"), line)
    assert what in problem.what


def test_a_rule_that_speaks_an_unknown_name_is_refused(tmp_path: Path) -> None:
    rule = RULE.replace("<seat>", "<sofa>")
    with pytest.raises(RuleError, match="the vocabulary has no <sofa>"):
        load_folder(folder(tmp_path, SEAT, rule))


def test_an_owner_adds_names(tmp_path: Path) -> None:
    """A rule of a folder speaks the shipped vocabulary and its folder's own; the vocabulary is no rule."""
    rules = load_folder(folder(tmp_path, SEAT))
    assert [rule.id for rule in rules] == ["acme/model_unsupported"]
    assert Ruleset(rules).judge(refusal("Our chairs were retired")).rule == "acme/model_unsupported"


def test_an_owner_adds_phrases_to_a_shipped_name(tmp_path: Path) -> None:
    """The shipped rules hear the owner's words as well, as long as the folder is in use."""
    more = SEAT + (
        "is-retired:\n  about: Acme's words.\n  phrases: [(is|was) put out to pasture]\n"
        "  examples: [was put out to pasture]\n  near_misses: [was put out]\n"
    )
    own = folder(tmp_path, more)
    said = refusal("The model acme-1 was put out to pasture")
    assert Ruleset(*load_folders([own])).judge(said).rule == "general/model_unsupported"
    assert Ruleset(*load_folders([])).judge(said).rule == "fallback/request_invalid"
    assert list(load_vocabulary([own]).faults()) == []


def test_the_rules_in_use_follow_a_changed_vocabulary(tmp_path: Path) -> None:
    """O02: a change counts from the next look on; a broken vocabulary is told and the last good rules stay."""
    own = folder(tmp_path, SEAT)
    library = RuleLibrary()
    assert library.use([str(own)]).judge(refusal("The seat was retired")).label is Label.MODEL_UNSUPPORTED
    file = own / "vocabulary.yaml"
    file.write_text(SEAT.replace("the seat, ", "the stool, the seat, "))
    refreshed = library.refresh()
    assert refreshed is not None
    assert refreshed.judge(refusal("The stool was retired")).rule == "acme/model_unsupported"
    file.write_text("seat: [")
    with pytest.raises(RuleError, match=r"vocabulary\.yaml:2"):
        library.refresh()
    assert library.ruleset is refreshed
    assert library.refresh() is None
    assert stamp(own)


def test_a_vocabulary_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """O09: whoever can write a phrase can have candidates suspended."""
    own = folder(tmp_path, SEAT)
    (own / "vocabulary.yaml").chmod(0o666)
    with pytest.raises(RuleError, match=r"vocabulary\.yaml"):
        load_folders([own])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff", "this is not UTF-8: save the file as UTF-8"),
        (b"".ljust(LARGEST + 1, b"#"), f"the file is larger than {LARGEST} bytes"),
        (b"- seat", "a mapping is expected here"),
        (None, "it cannot be read (No such file or directory): check its permissions"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, what: str
) -> None:
    """With its place; also one that is gone between two looks."""
    file = tmp_path / "vocabulary.yaml"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    with pytest.raises(RuleError) as caught:
        make_vocabulary([file])
    assert str(caught.value).startswith(f"{file}:1: {what}")


def test_faults_are_told(tmp_path: Path) -> None:
    text = SEAT.replace("our chairs]", "a sofa]").replace("armchair]", "the seat]")
    (tmp_path / "vocabulary.yaml").write_text(text)
    path = str(tmp_path / "vocabulary.yaml")
    assert list(make_vocabulary([Path(path)]).faults()) == [
        f"{path}:4: <seat> does not match its example",
        f"{path}:5: <seat> matches its near miss: 'the seat'",
    ]


def test_what_a_phrase_heard_is_told_to_people() -> None:
    vocabulary = shipped_vocabulary()
    said = "sorry, the model {model} has been retired now"
    assert vocabulary.heard("<the-model> <is-retired>", said) == (
        "'the model {model} has been retired' (<the-model> 'the model {model}', <is-retired> 'has been retired')"
    )
    assert vocabulary.heard("<the-model> <is-retired>", "the model is fine") == ""
    meaning = list(vocabulary.meaning("<be> not <served>"))
    assert any(line.startswith("<be> = (is|are|") for line in meaning)
    assert any(line.startswith("<served> = (found|") for line in meaning)
    twice = list(vocabulary.meaning("<served> <be> <served>"))
    assert len(twice) == len(set(twice)) and set(twice) == set(meaning), "each once, however often it is used"


def test_an_unknown_key_is_repeated_in_part(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.yaml").write_text(SEAT + f"  {'k' * 61}: x\n")
    with pytest.raises(RuleError, match=rf":6: the key `{'k' * 60}` is not known"):
        make_vocabulary([tmp_path / "vocabulary.yaml"])
