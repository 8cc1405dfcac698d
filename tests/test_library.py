"""The rules in use: the owner's folders first, read again when they change, the last good ones kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.library import RuleLibrary
from understudy.reply import Reply
from understudy.rules import Label
from understudy.yamlnodes import RuleError

GOOD = """\
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


def write(folder: Path, label: str = "rate_limited", name: str = "gone") -> Path:
    file = folder / "acme" / f"{name}.yaml"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(GOOD.format(name=name, label=label))
    return file


def test_folders_are_asked_in_order_before_the_shipped_rules(tmp_path: Path) -> None:
    library = RuleLibrary()
    assert library.ruleset.judge(SPOKEN).rule == "general/model_unsupported"
    write(tmp_path / "one")
    write(tmp_path / "two", "overloaded", "gone")
    write(tmp_path / "two", "overloaded", "other")
    ruleset = library.use([str(tmp_path / "one"), str(tmp_path / "two")])
    assert ruleset.judge(SPOKEN).label is Label.RATE_LIMITED
    assert [rule.id for rule in ruleset.rules[:2]] == ["acme/gone", "acme/other"]
    assert library.use([str(tmp_path / "two"), str(tmp_path / "one")]).judge(SPOKEN).label is Label.OVERLOADED
    assert library.use([]).judge(SPOKEN).rule == "general/model_unsupported"


def test_a_change_is_read_once_and_the_old_ruleset_stays_as_it_was(tmp_path: Path) -> None:
    """O01: who holds the old ruleset goes on with it."""
    file = write(tmp_path)
    library = RuleLibrary()
    before = library.use([str(tmp_path)])
    assert library.refresh() is None
    file.write_text(GOOD.format(name="gone", label="content_filtered"))
    after = library.refresh()
    assert after is library.ruleset
    assert after is not None
    assert (before.judge(SPOKEN).label, after.judge(SPOKEN).label) == (Label.RATE_LIMITED, Label.CONTENT_FILTERED)
    assert library.refresh() is None
    file.unlink()
    assert library.refresh() is not None
    assert library.ruleset.judge(SPOKEN).rule == "general/model_unsupported"


def test_a_broken_file_leaves_the_last_good_rules(tmp_path: Path) -> None:
    """O02: told once with its line, and the rules in use stay until it is mended."""
    file = write(tmp_path)
    library = RuleLibrary()
    good = library.use([str(tmp_path)])
    file.write_text("id: acme/gone\nlabel: x\n")
    with pytest.raises(RuleError, match=r"gone\.yaml:1: `about` is missing"):
        library.refresh()
    assert library.refresh() is None
    assert library.ruleset is good
    write(tmp_path, "overloaded")
    assert library.refresh() is library.ruleset
    assert library.ruleset.judge(SPOKEN).label is Label.OVERLOADED


def test_folders_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    write(tmp_path / "good")
    library = RuleLibrary()
    good = library.use([str(tmp_path / "good")])
    for folders in ([tmp_path / "none"], [tmp_path / "good", tmp_path / "good"]):
        with pytest.raises(RuleError):
            library.use([str(folder) for folder in folders])
        assert (library.ruleset, library.folders) == (good, (tmp_path / "good",))
    assert library.refresh() is None
