"""From a saved reply to a rule file: where it may be written, and what else it matches."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.decisions import NOW
from tests.support.saved_flows import MISSING, ODD, SECRET, flow, rules, values
from understudy.authoring.new_rule import (
    SHOWN,
    NewRuleError,
    check_identity,
    failed,
    find_matches,
    make_draft,
    with_masks,
    write_draft,
)
from understudy.authoring.reply_file import Saved, of_flow
from understudy.flows.masks import Masks
from understudy.model.verdict import Label
from understudy.rules.yaml_rule import parse_rule


def saved(body: object = ODD, status: int = 418) -> Saved:
    (found,) = map(of_flow, values(flow(status, body)))
    assert found is not None
    return found


def test_the_file_is_ones_own_and_nobody_elses(tmp_path: Path) -> None:
    text = make_draft(saved(), "acme/seat", Label.OVERLOADED)
    file = write_draft(text, tmp_path / "a" / "rules", "acme/seat")
    assert file == tmp_path / "a" / "rules" / "acme" / "seat.yaml"
    assert parse_rule(file.read_text(), str(file), "acme/seat").status == "draft"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "rules").stat().st_mode) == 0o700
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    write_draft("first", tmp_path, "acme/seat")
    with pytest.raises(NewRuleError, match="is there already: choose another id"):
        write_draft("second", tmp_path, "acme/seat")
    (tmp_path / "acme" / "link.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NewRuleError, match="is there already"):
        write_draft("third", tmp_path, "acme/link")
    assert (tmp_path / "acme" / "seat.yaml").read_text() == "first"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("open_to_all", ["", "acme"])
def test_a_folder_that_others_can_write_is_refused(open_to_all: str, tmp_path: Path) -> None:
    """Law 12: who can write there can write rules."""
    (tmp_path / "acme").mkdir(mode=0o700)
    (tmp_path / open_to_all).chmod(0o777)
    with pytest.raises(NewRuleError, match="can be written by others: run `chmod go-w"):
        write_draft("text", tmp_path, "acme/seat")
    assert not (tmp_path / "acme" / "seat.yaml").exists()


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NewRuleError, match="file cannot be a rule folder"):
        write_draft("text", tmp_path / "file", "acme/seat")


@pytest.mark.parametrize("identity", ["acme", "../x/y", "a/b/c", "a/", "/a", "a/b.c", "a/b\n"])
def test_an_id_is_a_vendor_and_a_name(identity: str, tmp_path: Path) -> None:
    with pytest.raises(NewRuleError, match="is no id"):
        check_identity(identity)
    with pytest.raises(NewRuleError, match="is no id"):
        write_draft("text", tmp_path, identity)


def test_what_else_a_draft_matches_and_how_that_is_judged_today() -> None:
    text = make_draft(saved(), "acme/seat", Label.OVERLOADED)
    others = [
        flow(418, {"error": {"message": "Seat 4 is not staffed today"}}),
        flow(404, MISSING, at=NOW + 1),
        flow(200, {"text": "Seat 4 is not staffed today"}),
        flow(0, error="refused"),
        flow(429, {"error": {"message": "Seat 5 is not staffed today", "code": "rate_limit_exceeded"}}),
    ]
    found = find_matches(text, "acme/seat", [rules().rules], values(*others), Masks())
    assert (found.looked_at, found.count) == (3, 2)
    assert found.lines("in FILE") == [
        "it also matches 2 of the 3 other failed replies in FILE, which are judged without it:",
        "  flow 1: POST api.openai.com/v1/chat/completions: unknown by builtin/unknown: "
        "HTTP 418: Seat 4 is not staffed today",
        "  flow 5: POST api.openai.com/v1/chat/completions: rate_limited by general/rate_limited: "
        "HTTP 429: rate_limit_exceeded: Seat 5 is not staffed today",
    ]


def test_none_and_many_are_told_shortly() -> None:
    text = make_draft(saved(), "acme/seat", Label.OVERLOADED)
    assert find_matches(text, "acme/seat", [], [], Masks()).lines("in view") == [
        "it matches none of the 0 other failed replies in view"
    ]
    found = find_matches(text, "acme/seat", [], values(*(flow(418, ODD) for _ in range(SHOWN + 5))), Masks())
    assert len(found.shown) == SHOWN
    assert found.lines("in view")[-1] == "  and 5 more"


def test_a_secret_of_a_flow_beside_it_is_in_no_draft_and_no_line() -> None:
    """R07: the reply of one flow can hold what another one sent."""
    masks = Masks()
    echo = {"error": {"message": f"Seat of {SECRET} is not staffed today", SECRET: SECRET}}
    beside, *others = values(flow(), flow(418, echo, sent={"authorization": "Bearer none-of-it"}))
    masks.learn_flow(beside)
    (found,) = map(of_flow, others)
    assert found is not None
    text = make_draft(with_masks(found, masks), "acme/seat", Label.OVERLOADED)
    lines = find_matches(text, "acme/seat", [], others, masks).lines("in view")
    assert "not staffed" in text + str(lines)
    assert SECRET not in text + str(lines)
    assert "<understudy:client>" in text


def test_what_has_failed() -> None:
    flows = [flow(), flow(418), flow(200, {"error": {"message": "x"}}), flow(0, error="refused"), flow(302)]
    assert [failed(each) for each in values(*flows)] == [False, True, True, False, True]
