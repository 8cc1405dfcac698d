"""Folders of rules: what is read, what is refused, and what the shipped one promises.

The rules in use: the owner's folders first, read again when they change, the last good ones kept.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.rule_files import GOOD, write
from understudy.codec import pattern_cost
from understudy.codec.yaml_nodes import RuleError
from understudy.model.verdict import Label
from understudy.replies.reply import Reply
from understudy.rules import folders as module
from understudy.rules.conditions import CODE_OR_TYPE, INFO_FIELDS, MODIFIERS
from understudy.rules.folders import (
    RuleLibrary,
    load_folder,
    load_folders,
    load_shipped,
    load_vocabulary,
    rule_files,
    shipped,
    shipped_folder,
    shipped_vocabulary,
    stamp,
)
from understudy.rules.near_misses import faults
from understudy.rules.phrases import BUILT_IN
from understudy.rules.ruleset import Ruleset
from understudy.rules.speaker import Rule


def named(identity: str, unless: str = "") -> str:
    return GOOD.replace("vendor/thing", identity) + unless


def test_a_folder_reports_every_broken_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("label: model_unsupported", "label: x"), "vendor/one.yaml")
    write(tmp_path, "nothing", "vendor/two.yml")
    with pytest.raises(RuleError) as caught:
        load_folder(tmp_path)
    assert [Path(problem.path).name for problem in caught.value.problems] == ["one.yaml", "two.yml"]


def test_a_folder_holds_rules_and_other_things(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "not a rule", "README.md")
    write(tmp_path, "not a rule", ".hidden/x.yaml")
    assert [rule.id for rule in load_folder(tmp_path)] == ["vendor/thing"]


def test_two_files_for_one_rule_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD, "vendor/thing.yml")
    with pytest.raises(RuleError, match=r"thing.yml:1: two files make the rule"):
        load_folder(tmp_path)


def test_o02_the_shipped_rules_are_read_anew_only_for_words_of_the_owners(tmp_path: Path) -> None:
    """O02: a folder without a vocabulary hears what all others hear."""
    write(tmp_path, GOOD)
    own, shipped_rules = load_folders([tmp_path])
    assert [rule.id for rule in own] == ["vendor/thing"]
    assert shipped_rules is load_shipped()
    (tmp_path / "vocabulary.yaml").write_text(
        "seat:\n  about: x\n  phrases: [a seat]\n  examples: [a seat]\n  near_misses: [seats]\n"
    )
    assert load_folders([tmp_path])[-1] is not load_shipped()


@pytest.mark.parametrize(("most", "taken"), [(2, True), (1, False)])
def test_law_10_a_folder_holds_so_many_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, taken: bool
) -> None:
    """Law 10: a home folder that was named by mistake is not read through."""
    monkeypatch.setattr(module, "MOST_FILES", most)
    write(tmp_path, GOOD)
    write(tmp_path, named("v/two"), "v/two.yaml")
    if taken:
        assert len(load_folder(tmp_path)) == 2
    else:
        with pytest.raises(RuleError, match=f"{tmp_path}:1: there are more than 1 rule files: name the folder"):
            load_folder(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"none:1: there is no such folder"):
        load_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(RuleError, match=r"file:1: this is not a folder"):
        load_folder(tmp_path / "file")


def test_the_shipped_rules_load() -> None:
    assert isinstance(shipped(), Ruleset)
    assert (shipped_folder() / "README.md").is_file()
    for rule in shipped().rules:
        assert rule.source.startswith("https://")
        several = rule.id in ("general/credential_blocked", "general/other_thing", "general/sealed_state")
        assert rule.id.endswith(f"/{rule.labels[0]}") or several


def test_the_manual_has_the_table_of_rules() -> None:
    """rules/README.md has a table of rules, written by `scripts/rules-table`; it says what the files say."""
    manual = (shipped_folder() / "README.md").read_text("utf-8")
    lines = ["| rule | label | about |", "|---|---|---|"]
    for rule in sorted(load_folder(shipped_folder()), key=lambda rule: rule.id):
        about = re.sub(r"(?<=[.:;])\s.*", "", rule.about).rstrip(":;")
        labels = ", ".join(f"`{label}`" for label in rule.labels)
        lines.append(f"| `{rule.id}` | {labels} | {about} |")
    assert manual.partition("<!-- rules -->\n")[2].strip().splitlines() == lines, "run scripts/rules-table"


def test_the_examples_of_the_manual_are_rules(tmp_path: Path) -> None:
    """What rules/README.md shows in YAML and in Python can be used as it stands."""
    manual = (shipped_folder() / "README.md").read_text("utf-8")
    write(tmp_path, re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL)[0], "acme/model_unsupported.yaml")
    write(tmp_path, re.findall(r"```python\n(.*?)```", manual, re.DOTALL)[0], "acme/seats.py")
    write(tmp_path, named("acme/overloaded"), "acme/overloaded.yaml")
    rules = load_folder(tmp_path)
    assert list(faults(Ruleset(rules), rules)) == []


def test_vetoes_name_rules_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, named("v/one", "unless: [{rule: v/two}]\n"), "v/one.yaml")
    with pytest.raises(RuleError, match=r"v/one.yaml:1: `unless` names the rule 'v/two', which is not in this folder"):
        load_folder(tmp_path)
    write(tmp_path, named("v/two"), "v/two.yaml")
    assert [rule.vetoed_by for rule in load_folder(tmp_path)] == [{"v/two"}, frozenset()]
    write(tmp_path, named("v/two", "unless: [{rule: v/one}]\n"), "v/two.yaml")
    with pytest.raises(RuleError, match=r"v/one.yaml:1: this rule and 'v/two' veto each other"):
        load_folder(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="files have no owner there")
@pytest.mark.parametrize("place", ["vendor/thing.yaml", "vendor", "."])
def test_what_others_can_write_is_refused(tmp_path: Path, place: str) -> None:
    """Law 12: files and folders that are group- or world-writable are refused, with what to run."""
    write(tmp_path / "rules", GOOD)
    assert load_folder(tmp_path / "rules", private=True)
    for mode in (0o020, 0o002):
        (tmp_path / "rules" / place).chmod(0o700 | mode)
        with pytest.raises(RuleError, match="can be written by others: run `chmod go-w"):
            load_folder(tmp_path / "rules", private=True)
    assert load_folder(tmp_path / "rules")


def test_a_linked_file_is_judged_by_its_target(tmp_path: Path) -> None:
    """Law 12: a symbolic link does not hide who can write the rule."""
    target = write(tmp_path / "elsewhere", GOOD, "thing.yaml")
    target.parent.chmod(0o777)
    (tmp_path / "rules" / "vendor").mkdir(parents=True)
    (tmp_path / "rules" / "vendor" / "thing.yaml").symlink_to(target)
    with pytest.raises(RuleError, match="can be written by others"):
        load_folder(tmp_path / "rules", private=True)


def test_a_stamp_changes_with_the_files(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    first = stamp(tmp_path)
    assert stamp(tmp_path) == first
    file.write_text(GOOD + "# more\n")
    second = stamp(tmp_path)
    other = write(tmp_path, named("vendor/other"), "vendor/other.yaml")
    third = stamp(tmp_path)
    other.unlink()
    assert len({first, second, third}) == 3
    assert stamp(tmp_path) == second
    assert stamp(tmp_path / "none") == stamp(tmp_path / "none")


def test_rule_files_are_yaml_and_python_and_nothing_hidden(tmp_path: Path) -> None:
    for name in (
        "a/x.yaml",
        "a/y.yml",
        "a/z.py",
        "a/__init__.py",
        "a/__pycache__/z.py",
        ".git/x.yaml",
        "a/.x.yaml",
        "r.md",
    ):
        write(tmp_path, "", name)
    assert [file.name for file in rule_files(tmp_path)] == ["x.yaml", "y.yml", "z.py"]


LABELLED = """\
id: acme/{name}
label: {label}
about: Why.
source: https://acme.example/docs
status: stable
when: {{code: {name}}}
examples:
  matches: [{{status: 400, body: {{code: {name}}}}}]
  near_misses: [{{status: 400, body: {{code: x}}}}]
"""
SPOKEN = Reply(400, body=b'{"code": "gone", "message": "no such model"}')


def write_labelled(folder: Path, label: str = "rate_limited", name: str = "gone") -> Path:
    file = folder / "acme" / f"{name}.yaml"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(LABELLED.format(name=name, label=label))
    return file


def test_folders_are_asked_in_order_before_the_shipped_rules(tmp_path: Path) -> None:
    library = RuleLibrary()
    assert library.ruleset.judge(SPOKEN).rule == "general/model_unsupported"
    write_labelled(tmp_path / "one")
    write_labelled(tmp_path / "two", "overloaded", "gone")
    write_labelled(tmp_path / "two", "overloaded", "other")
    ruleset = library.use([str(tmp_path / "one"), str(tmp_path / "two")])
    assert ruleset.judge(SPOKEN).label is Label.RATE_LIMITED
    assert [rule.id for rule in ruleset.rules[:2]] == ["acme/gone", "acme/other"]
    assert library.use([str(tmp_path / "two"), str(tmp_path / "one")]).judge(SPOKEN).label is Label.OVERLOADED
    assert library.use([]).judge(SPOKEN).rule == "general/model_unsupported"


def test_a_change_is_read_once_and_the_old_ruleset_stays_as_it_was(tmp_path: Path) -> None:
    """O01: who holds the old ruleset goes on with it."""
    file = write_labelled(tmp_path)
    library = RuleLibrary()
    before = library.use([str(tmp_path)])
    assert library.refresh() is None
    file.write_text(LABELLED.format(name="gone", label="content_filtered"))
    after = library.refresh()
    assert after is library.ruleset
    assert after is not None
    assert (before.judge(SPOKEN).label, after.judge(SPOKEN).label) == (Label.RATE_LIMITED, Label.CONTENT_FILTERED)
    assert library.refresh() is None
    file.unlink()
    assert library.refresh() is not None
    assert library.ruleset.judge(SPOKEN).rule == "general/model_unsupported"


def test_what_was_read_of_other_folders_is_not_used(tmp_path: Path) -> None:
    """Another thread reads, and meanwhile the folders may be others."""
    file = write_labelled(tmp_path)
    library = RuleLibrary()
    library.use([str(tmp_path)])
    file.write_text(LABELLED.format(name="gone", label="content_filtered"))
    looked = library.look()
    assert looked is not None
    before = library.ruleset
    assert library.look() is not None, "a look changes nothing"
    assert library.ruleset is before
    now = library.use([])
    assert library.take(looked) is None
    assert (library.ruleset, library.refresh()) == (now, None)


def test_a_proxy_keeps_no_example_and_nothing_that_only_reading_needs(tmp_path: Path) -> None:
    """Judging asks for neither; without a folder of the owner's and with one that adds words."""
    (tmp_path / "words").mkdir()
    own = tmp_path / "words" / "vocabulary.yaml"
    own.write_text("seat: {about: a seat, phrases: [a seat], examples: [no seat], near_misses: [a chair]}\n")
    library = RuleLibrary()
    for folders in ([], [str(own.parent)]):
        ruleset = library.use(folders)
        rules = [rule for rule in ruleset.rules if isinstance(rule, Rule)]
        assert len(rules) > 50
        assert [rule.id for rule in rules if rule.matches or rule.near_misses] == []
        assert pattern_cost._members.cache_info().currsize == pattern_cost._meet.cache_info().currsize == 0
    vocabulary = shipped_vocabulary(examples=False)
    load_shipped(examples=False)
    assert vocabulary.is_at_rest and not vocabulary.listener._graph.same
    assert [entry.name for entry in vocabulary.entries if entry.examples or entry.near_misses] == []
    assert vocabulary.entries[0].name in vocabulary.nodes  # worked out again when asked for
    assert all(rule.matches and rule.near_misses for rule in load_shipped())


def test_a_broken_file_leaves_the_last_good_rules(tmp_path: Path) -> None:
    """O02: told once with its line, and the rules in use stay until it is mended."""
    file = write_labelled(tmp_path)
    library = RuleLibrary()
    good = library.use([str(tmp_path)])
    file.write_text("id: acme/gone\nlabel: x\n")
    with pytest.raises(RuleError, match=r"gone\.yaml:1: `about` is missing"):
        library.refresh()
    assert library.refresh() is None
    assert library.ruleset is good
    write_labelled(tmp_path, "overloaded")
    assert library.refresh() is library.ruleset
    assert library.ruleset.judge(SPOKEN).label is Label.OVERLOADED


def test_folders_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    write_labelled(tmp_path / "good")
    library = RuleLibrary()
    good = library.use([str(tmp_path / "good")])
    for folders in ([tmp_path / "none"], [tmp_path / "good", tmp_path / "good"]):
        with pytest.raises(RuleError):
            library.use([str(folder) for folder in folders])
        assert (library.ruleset, library.folders) == (good, (tmp_path / "good",))
    assert library.refresh() is None


def test_the_manual_documents_the_language(tmp_path: Path) -> None:
    """Every modifier, field, kind of word and bracket is in rules/README.md; the vocabulary that it shows is one."""
    manual = (shipped_folder() / "README.md").read_text("utf-8")
    assert [name for name in MODIFIERS if f"`field|{name}`" not in manual] == []
    assert [name for name in (*INFO_FIELDS, CODE_OR_TYPE, "status", "text") if f"`{name}`" not in manual] == []
    chapter = manual.partition("## The language of phrases")[2].partition("\n## ")[0].replace("\\|", "|")
    written = [f"<{name}>" for name in BUILT_IN]
    written += ["model(s)", "(a|b c)", "[a|b]", "<name>", "*", "*_key", "...", "^", "$", "~(a|b)", "!(a|b)"]
    assert [each for each in written if f"`{each}`" not in chapter] == []
    (example,) = re.findall(r"```yaml\n(.*?)```", chapter, re.DOTALL)
    (tmp_path / "vocabulary.yaml").write_text(example)
    assert list(load_vocabulary([tmp_path]).faults()) == []
    assert "seat" in load_vocabulary([tmp_path]).nodes
