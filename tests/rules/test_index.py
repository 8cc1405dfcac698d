"""Which rules are asked at all: by what each of them needs of a reply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.rule_files import write
from understudy.replies.reply import Reply
from understudy.rules.folders import load_folder
from understudy.rules.index import MOST_PLACES, Index, needs_of

RULE = """
id: vendor/thing
label: model_unsupported
about: Something.
source: https://vendor.example/errors
status: stable
when: {when}
examples:
  matches: [{match}]
  near_misses: [{{status: 418, message: Something else}}]
"""
A_MATCH = "{status: 404, message: acme-1 is gone}"


def index_of(folder: Path, when: str, match: str = A_MATCH) -> Index:
    example = match if "status" in match else f"{{status: 400, {match[1:]}"
    write(folder, RULE.format(when=when, match=example), "vendor/thing.yaml")
    return Index(load_folder(folder))


def reply(status: int = 400, **error: object) -> Reply:
    return Reply(status, model="acme-1", body=json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("when", "match", "asked", "not_asked"),
    [
        ("{code: gone}", "{code: gone}", reply(code="GONE"), reply(code="gone_too")),
        ("{status: 4xx}", "{status: 404}", reply(404), reply(500)),
        ("{message|says: is gone}", A_MATCH, reply(message="It is gone."), reply(message="It was gone")),
        ("{code-or-type|says: is gone}", "{type: IsGone}", reply(code="x", type="IsGone"), reply(code="is_going")),
        ("{type|says: ^ gone $}", "{type: gone}", reply(code="x", type="gone"), reply(type="gone_too")),
        ("{message|contains: Gone}", A_MATCH, reply(message="it's gone"), reply(message="it went")),
        ("{message|re: 'gone|went'}", A_MATCH, reply(message="it went"), reply(message="it goes")),
        ("{param|re: '^gone'}", "{param: gone}", reply(param="x", message="m"), reply(message="gone")),
        ("{json.error.code: gone}", "{code: gone}", reply(code="gone"), Reply(400, body=b'{"code": "gone"}')),
    ],
)
def test_a_rule_is_asked_only_where_what_it_needs_is_there(
    when: str, match: str, asked: Reply, not_asked: Reply, tmp_path: Path
) -> None:
    index = index_of(tmp_path, when, match)
    assert [rule.id for rule in index.asked(asked)] == ["vendor/thing"]
    assert index.asked(not_asked) == []


def test_one_alternative_is_enough(tmp_path: Path) -> None:
    index = index_of(tmp_path, "[{code: gone, status: 404}, {message|says: is gone, status: 400}]")
    assert index.asked(reply(500, message="is gone"))  # worth asking, although it will not speak
    assert index.asked(reply(500, code="gone"))
    assert not index.asked(reply(404, message="went"))


@pytest.mark.parametrize(
    "when",
    [
        "{text|contains: gone}",
        "{header.server: acme}",
        "{message|says-not: is here}",
        "{message|re: '^$|gone'}",
        "{json.*.code: gone}",
        "{json.0.code: gone}",
        "{param|re: '^$'}",
    ],
)
def test_what_cannot_be_known_beforehand_is_always_asked(when: str, tmp_path: Path) -> None:
    match = "{status: 404, headers: {server: acme}, body: 'gone'}"
    if when.startswith("{json.*"):
        match = "{status: 404, body: {a: {code: gone}, b: {code: gone}}}"
    if when.startswith("{json."):
        match = "{status: 404, body: [{code: gone}, {code: gone}]}"
    index = index_of(tmp_path, when, match)
    assert index.asked(Reply(500))
    assert all(needs_of(rule) is None for rule in load_folder(tmp_path))


def test_a_body_of_one_element_is_entered(tmp_path: Path) -> None:
    """As ``Reply.follow`` does: Gemini wraps its errors so."""
    index = index_of(tmp_path, "{json.error.code: gone}", "{code: gone}")
    assert index.asked(Reply(400, body=b'[{"error": {"code": "gone"}}]'))


def test_law_10_the_places_that_are_remembered_are_bounded(tmp_path: Path) -> None:
    """Law 10: a host is remembered for each upstream, and a pool file may be read again and again."""
    index = index_of(tmp_path, "{code: gone}", "{code: gone}")
    for number in range(MOST_PLACES + 3):
        found = index.asked(Reply(400, host=f"h{number}", body=b'{"error": {"code": "gone"}}'))
        assert [rule.id for rule in found] == ["vendor/thing"]
        assert len(index._places) <= MOST_PLACES
