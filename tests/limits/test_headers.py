"""What the headers of good replies say (Q01): every example of the shipped file, and what is no limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec.yaml_nodes import RuleError
from understudy.limits import load_table, shipped_table
from understudy.limits.headers import MOST_HOSTS, MOST_NAMES, MOST_WINDOWS, Example, Vendor, read_file

NOW = 1_700_000_000.0
EXAMPLES = [(vendor, example) for vendor in shipped_table().vendors for example in vendor.examples]
VENDOR = """\
- vendor: Acme
  source: https://acme.example/limits
  whose: credential
  windows: [{name: seats, of: requests, limit: x-acme-seats, remaining: x-acme-seats-left, reset: x-acme-reset}]
  examples:
    - headers: {x-acme-seats: "10", x-acme-seats-left: "4"}
      read: ["seats of the credential, 40.0 % left, 4 of 10"]
"""


@pytest.mark.parametrize(("vendor", "example"), EXAMPLES, ids=[f"{v.name}:{e.line}" for v, e in EXAMPLES])
def test_every_example_is_read_as_it_says(vendor: Vendor, example: Example) -> None:
    """Q01: the headers of each vendor become windows with their share, reset, unit and owner."""
    host = example.host or "api.example.com"
    found = shipped_table().read(host, example.model or "some-model", example.headers.items(), NOW)
    assert [str(each) for each in found] == list(example.read)
    # The case of a name is the upstream's to choose.
    upper = [(name.upper(), value) for name, value in example.headers.items()]
    assert shipped_table().read(host, example.model or "some-model", upper, NOW) == found


def test_q01_all_vendors_of_the_promise_are_there() -> None:
    """Q01: each has a source and examples."""
    said = " ".join(f"{vendor.name} {vendor.source}" for vendor in shipped_table().vendors)
    for name in ("OpenAI", "Azure", "Groq", "Cerebras", "Mistral", "OpenRouter", "Copilot", "Codex", "Anthropic"):
        assert name in said
    assert all(vendor.source and vendor.examples for vendor in shipped_table().vendors)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json", "x-request-id": "1", "x-ratelimit-tokens-query-cost": "52"},
        {"x-ratelimit-remaining-tokens": "many", "x-ratelimit-limit-tokens": "nan"},
        {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-limit-requests": "inf"},
        {"x-ratelimit-limit-requests": "100"},
        {"anthropic-ratelimit-unified-5h-utilization": "1e400", "anthropic-ratelimit-unified-5h-reset": "soon"},
        {"x-quota-snapshot-chat": "ent=300&ov=1"},
        {"x-codex-primary-used-percent": "10", "x-codex-primary-window-minutes": "0"},
        {"x-ratelimit-remaining-": "3", "x-ratelimit-limit-requests-a-b": "1"},
    ],
)
def test_what_says_nothing_of_a_limit_is_none(headers: dict[str, str]) -> None:
    assert shipped_table().read("api.example.com", "m", headers.items(), NOW) == []


def test_a_reset_that_is_past_or_absurd_is_none_and_the_share_counts_all_the_same() -> None:
    for reset in ("2001-01-01T00:00:00Z", "99999999999999999", "-5", "1600000000"):
        [found] = shipped_table().read(
            "h",
            "m",
            {
                "anthropic-ratelimit-unified-5h-utilization": "0.5",
                "anthropic-ratelimit-unified-5h-reset": reset,
            }.items(),
            NOW,
        )
        assert str(found) == "5h of the credential, 50.0 % left"


def test_a_use_above_all_leaves_nothing() -> None:
    [found] = shipped_table().read("h", "m", [("anthropic-ratelimit-unified-7d-utilization", "1.07")], NOW)
    assert found.left == 0.0


def test_a_new_vendor_is_a_few_lines_of_an_owners_folder(tmp_path: Path) -> None:
    """Q01: data, not code; the owner's entries stand beside the shipped ones."""
    (tmp_path / "limits.yaml").write_text(VENDOR)
    table = load_table([tmp_path])
    [found] = table.read("h", "m", [("X-Acme-Seats", "10"), ("X-Acme-Seats-Left", "4")], NOW)
    assert str(found) == "seats of the credential, 40.0 % left, 4 of 10"
    assert len(table.vendors) == len(shipped_table().vendors) + 1
    assert load_table([tmp_path / "none"]).vendors == shipped_table().vendors


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("vendor: Acme", "vender: Acme"), "unknown key `vender`"),
        (("source: https://acme.example/limits", "families: []"), "`source` is missing"),
        (("whose: credential", "whose: everybody"), "`whose` names nobody that is known"),
        (("of: requests", "of: beans"), "`of` says nothing that is known"),
        (("remaining: x-acme-seats-left, ", ""), "a window of which nothing says what is left"),
        (("x-acme-reset", "x-*-acme-*-reset"), "a header with more than one `*`"),
        (("name: seats", "length: 5 hours, name: seats"), "a `length` that cannot be read"),
        (("of: requests", "of: requests, fields: {rest: r}"), "`fields` that are not known"),
        ((VENDOR[VENDOR.index("examples:") :], "examples: []"), "a vendor without examples"),
        ((VENDOR, "vendor: Acme"), "this is no list of vendors"),
    ],
)
def test_a_broken_file_says_where_and_what(tmp_path: Path, change: tuple[str, str], what: str) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(VENDOR.replace(*change))
    with pytest.raises(RuleError) as caught:
        read_file(file)
    assert what in str(caught.value)
    assert all(str(problem).startswith(f"{file}:{problem.line}: ") for problem in caught.value.problems)


def test_q01_the_documentation_names_every_header_and_its_source() -> None:
    """Documented or failing: docs/foresight.md has the table, written by `scripts/rules-table`."""
    page = (Path(__file__).parents[2] / "docs" / "foresight.md").read_text("utf-8")
    table = page.partition("<!-- limits -->")[2].partition("<!-- end of limits -->")[0]
    assert table
    for vendor in shipped_table().vendors:
        [row] = [line for line in table.splitlines() if line.startswith(f"| {vendor.name} |")]
        for spec in vendor.specs:
            assert all(f"`{header}`" in row for _, header in spec.headers), f"{vendor.name}: run scripts/rules-table"
        assert all(word in row for word in vendor.source.replace(",", " ").split() if "http" not in word)


def test_law12_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Law 12: as for rules."""
    file = tmp_path / "limits.yaml"
    file.write_text(VENDOR)
    file.chmod(0o666)
    with pytest.raises(RuleError, match=re.escape(str(file))):
        load_table([tmp_path])


def test_what_is_remembered_of_names_and_hosts_is_bounded() -> None:
    table = load_table()
    for number in range(MOST_NAMES + 10):
        table.read("one", "m", [(f"x-made-up-{number}", "1")], NOW)
    names = table._hosts["one"]
    assert len(names.known) + len(names.silent) <= MOST_NAMES
    assert table.spoken("one", [("x-made-up-1", "1"), ("x-made-up-2065", "1"), ("x-new", "1")])[-1] == ("x-new", "1")
    assert ("x-made-up-2057", "1") not in table.spoken("one", [("x-made-up-2057", "1")])
    for number in range(MOST_HOSTS + 10):
        table.read(f"host-{number}", "m", [("x-ratelimit-remaining-tokens", "1")], NOW)
    assert len(table._hosts) <= MOST_HOSTS
    many = [(f"x-ratelimit-remaining-tokens-{number}", "1") for number in range(100)]
    assert len(table.read("one", "m", many, NOW)) <= MOST_WINDOWS


NAMES = sorted({name for vendor, example in EXAMPLES for name in example.headers})


@given(st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=40), st.text(max_size=300)), max_size=30))
def test_hostile_headers_never_raise(headers: list[tuple[str, str]]) -> None:
    """H02: whatever an upstream writes, shares stay between 0 and 1."""
    for reading in shipped_table().read("api.example.com", "m", headers, NOW):
        assert reading.left is None or 0 <= reading.left <= 1
        assert reading.reset >= 0 and len(reading.name) <= 120
