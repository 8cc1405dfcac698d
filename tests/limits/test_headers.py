"""What the headers of good replies say (Q01): every example of the shipped file, and what is no limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec.yaml_nodes import LARGEST, RuleError
from understudy.limits import Whose, load_table, shipped_table
from understudy.limits.headers import (
    LONGEST_VALUE,
    MOST_HOSTS,
    MOST_NAMES,
    MOST_WINDOWS,
    Example,
    LimitTable,
    Vendor,
    read_file,
)

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


@pytest.mark.parametrize(("name", "what"), [("limits.yaml", "this file"), (".", "its folder")])
def test_law12_a_file_that_others_can_write_is_refused(tmp_path: Path, name: str, what: str) -> None:
    """Law 12: as for rules; whoever can write the folder can put another file there."""
    file = tmp_path / "limits.yaml"
    file.write_text(VENDOR)
    (tmp_path / name).chmod(0o777)
    with pytest.raises(RuleError, match=re.escape(f"{file}:1: {what} can be written by others")):
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


# -- numbers and names -----------------------------------------------------------------------------------------------


def codex(**values: str) -> list[str]:
    """What Codex's headers of the first window say."""
    headers = [(f"x-codex-primary-{name.replace('_', '-')}", value) for name, value in values.items()]
    return [str(each) for each in shipped_table().read("h", "m", headers, NOW)]


@pytest.mark.parametrize(
    ("minutes", "words"),
    [("300", "5h"), ("1440", "1d"), ("10080", "7d"), ("1500", "25h"), ("90", "90m"), ("60", "1h"), ("30", "30m")],
)
def test_a_length_in_minutes_is_told_in_the_largest_unit_that_fits(minutes: str, words: str) -> None:
    [told] = codex(used_percent="10", window_minutes=minutes)
    assert told.startswith(f"{words} ") and told.endswith(", 90.0 % left")


@pytest.mark.parametrize(
    ("percent", "left"),
    [
        ("0", "100.0"),
        ("100", "0.0"),
        ("250", "0.0"),
        ("1e15", "0.0"),
        ("1000000000000001", None),
        ("1e16", None),
        ("-0.1", None),
        ("nan", None),
        ("1" + "0" * 2 + "." + "0" * 20, "0.0"),
        ("1" + "0" * 2 + "." + "0" * 21, None),
    ],
)
def test_a_number_is_from_nothing_to_a_million_billions(percent: str, left: str | None) -> None:
    """H02: and no longer than people write them."""
    found = codex(used_percent=percent)
    assert [each.rpartition(", ")[2] for each in found] == ([f"{left} % left"] if left else [])


def table_of(tmp_path: Path, *windows: str, more: str = "") -> LimitTable:
    """A vendor with these windows, without any shipped one."""
    file = tmp_path / "limits.yaml"
    examples = '  examples: [{headers: {a: "1"}, read: ["x"]}]\n'
    file.write_text(
        f"- vendor: V\n  source: s\n{more}  windows:\n" + "".join(f"    - {w}\n" for w in windows) + examples
    )
    return LimitTable(read_file(file))


def read(table: LimitTable, model: str = "m", **headers: str) -> list[str]:
    return [str(each) for each in table.read("h", model, [(k.replace("_", "-"), v) for k, v in headers.items()], NOW)]


def test_a_share_may_be_used_left_or_a_quotient(tmp_path: Path) -> None:
    """The more direct one counts; what remains follows from the share, where only that is told."""
    table = table_of(
        tmp_path,
        "{name: w, of: tokens, limit: l, remaining: r, used: u, used_percent: up, left_percent: lp, reset: t}",
    )
    assert read(table, u="0.25", up="50", lp="10", l="10", r="9") == ["w of the credential, 75.0 % left, 9 of 10"]
    assert read(table, up="50", lp="10", l="10") == ["w of the credential, 50.0 % left, 5 of 10"]
    assert read(table, lp="10", l="10", r="9") == ["w of the credential, 10.0 % left, 9 of 10"]
    assert read(table, l="10", r="9") == ["w of the credential, 90.0 % left, 9 of 10"]
    assert read(table, l="0", r="9") == ["w of the credential, 9 of 0"]
    assert read(table, r="9") == ["w of the credential, 9 left"]
    assert read(table, l="10") == []
    assert read(table, l="10", r="20") == ["w of the credential, 100.0 % left, 20 of 10"]
    assert read(table, r="9", t="40s") == ["w of the credential, 9 left, resets in 40 s"]
    assert read(table, r="1234567", l="12345678901") == ["w of the credential, 0.0 % left, 1234567 of 12345678901"]


def test_an_entitlement_of_none_is_no_window(tmp_path: Path) -> None:
    """Of a header that holds all values; elsewhere a limit of nothing is just that."""
    table = table_of(tmp_path, "{name: w, of: requests, header: q, fields: {limit: ent, remaining: rem}}")
    assert read(table, q="ent=10&rem=4") == ["w of the credential, 40.0 % left, 4 of 10"]
    assert read(table, q="ent=-1&rem=4") == read(table, q="ent=0&rem=4") == []
    assert read(table, q="rem=4") == ["w of the credential, 4 left"]
    assert read(table, q="ent=1&rem=1") == ["w of the credential, 100.0 % left, 1 of 1"]
    assert read(table, q="ent=1%30&rem=4") == ["w of the credential, 40.0 % left, 4 of 10"]


def test_of_several_headers_for_one_value_the_first_of_the_file_counts(tmp_path: Path) -> None:
    """In whatever order the reply has them."""
    table = table_of(tmp_path, "{name: w, of: requests, remaining: [first, second]}")
    assert read(table, first="1", second="2") == read(table, second="2", first="1") == ["w of the credential, 1 left"]
    assert read(table, second="2") == ["w of the credential, 2 left"]
    [twice] = table.read("h", "m", [("first", "1"), ("first", "2")], NOW)
    assert twice.remaining == 1.0


def test_a_star_stands_for_one_word_that_is_not_empty(tmp_path: Path) -> None:
    table = table_of(tmp_path, '{name: "* requests", of: requests, remaining: left-*-now}')
    assert read(table, left_big_model_now="1") == []
    assert [str(each) for each in table.read("h", "m", [("left-big_one-now", "1")], NOW)] == [
        "big one requests of the credential, 1 left"
    ]
    assert read(table, left__now="1") == read(table, left_now="1") == read(table, xleft_a_now="1") == []
    assert read(table, left_a_nowx="1") == []


def test_whose_a_window_is(tmp_path: Path) -> None:
    """A family that is known by name, or that the reply states; else the model that was asked."""
    families = "  whose: family\n  families: [opus]\n"
    table = table_of(tmp_path, '{name: w, of: requests, remaining: "r-*", family: "f-*"}', more=families)
    assert read(table, r_opus="1") == ["w of all opus models, 1 left"]
    assert read(table, r_other="1") == ["w of the model, 1 left"]
    assert read(table, r_other="1", f_other=" Big ") == ["w of all big models, 1 left"]
    assert read(table, r_other="1", f_other="x" * 90) == [f"w of all {'x' * 80} models, 1 left"]
    [model] = table.read("h", "gpt", [("r-other", "1")], NOW)
    assert (model.whose, model.subject) == (Whose.MODEL, "gpt")
    [credential] = table_of(tmp_path, "{name: w, of: requests, remaining: r}").read("h", "gpt", [("r", "1")], NOW)
    assert (credential.whose, credential.subject, credential.length) == (Whose.CREDENTIAL, "", 0.0)


def test_a_vendor_with_hosts_speaks_there_and_first(tmp_path: Path) -> None:
    """Others do not know its headers; what both name is read as it says."""
    general = table_of(tmp_path, "{name: general, of: requests, remaining: r}")
    own = table_of(
        tmp_path,
        "{name: own, of: requests, remaining: r}",
        "{name: more, of: requests, remaining: m}",
        more="  hosts: [api.vendor.example]\n",
    )
    both = LimitTable([*general.vendors, *own.vendors])
    headers = [("r", "1"), ("m", "2")]
    assert [each.name for each in both.read("api.vendor.example", "m", headers, NOW)] == ["own", "more"]
    assert [each.name for each in both.read("elsewhere.example", "m", headers, NOW)] == ["general"]


def test_headers_that_say_nothing_are_known_as_such(tmp_path: Path) -> None:
    """Mostly all are, and every reply asks."""
    table = table_of(tmp_path, "{name: w, of: requests, remaining: r}")
    headers = [("date", "today"), ("r", "1"), ("server", "x"), ("via", "y")]
    assert table.spoken("h", headers) == headers
    table.read("h", "m", headers, NOW)
    assert table.spoken("h", headers) == [("r", "1")]
    assert table.spoken("other", headers) == headers
    table.read("other", "m", headers, NOW)
    assert table.spoken("h", headers) == [("r", "1")], "what one host says is nobody else's"


def test_a_long_value_is_read_as_far_as_values_go(tmp_path: Path) -> None:
    """H02."""
    table = table_of(tmp_path, "{name: w, of: requests, header: q, fields: {remaining: rem}}")
    assert read(table, q="x=" + "y" * (LONGEST_VALUE - 8) + "&rem=4") == ["w of the credential, 4 left"]
    assert read(table, q="x=" + "y" * LONGEST_VALUE + "&rem=4") == []


@pytest.mark.parametrize(("length", "seconds"), [("5h", 18000.0), ("7d", 604800.0), ("30m", 1800.0), ("0m", 0.0)])
def test_a_length_in_the_file(tmp_path: Path, length: str, seconds: float) -> None:
    [found] = table_of(tmp_path, f"{{name: w, of: requests, remaining: r, length: {length}}}").read(
        "h", "m", [("r", "1")], NOW
    )
    assert found.length == seconds


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("windows: [", "windows: ["), ""),
        (
            (
                "of: requests",
                "of: requests, fields: {limit: a, remaining: b, used: c, used_percent: d, left_percent: e, "
                "reset: f, minutes: g, family: h}",
            ),
            "",
        ),
        (("  whose: credential\n", "  whose: credential\n  families: [{a: b}]\n"), "`families` is no text"),
        (("- headers:", "- [x]\n    - headers:"), "this is no mapping"),
        (("windows: [{", "windows: {a: 1}\n  hosts: [{"), "`windows` is no list"),
        (("x-acme-seats,", "[x-acme-seats, {a: b}],"), "`limit` is no text"),
        (("read: [", "red: ["), "unknown key `red`"),
        (("read: [", f"{'x' * 60}: ["), f"unknown key `{'x' * 40}`"),
        ((VENDOR, "- just a text"), "this is no mapping"),
    ],
)
def test_what_else_can_be_wrong_in_a_file(tmp_path: Path, change: tuple[str, str], what: str) -> None:
    """H09: each is told with its line."""
    file = tmp_path / "limits.yaml"
    file.write_text(VENDOR.replace(*change))
    if not what:
        assert read_file(file)
        return
    with pytest.raises(RuleError, match=re.escape(what)):
        read_file(file)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff\xfe", "this is not UTF-8"),
        (None, "this cannot be read"),
        (VENDOR.encode().ljust(LARGEST + 1, b"\n"), f"the file is larger than {LARGEST} bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, what: str) -> None:
    file = tmp_path / "limits.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RuleError, match=what) as told:
        read_file(file)
    assert [problem.line for problem in told.value.problems] == [1]


def test_law_10_names_with_a_star_are_bounded(tmp_path: Path) -> None:
    """Law 10: an upstream may name as many as it likes."""
    table = table_of(tmp_path, '{name: "*", of: requests, remaining: left-*-now}')
    for number in range(MOST_NAMES + 10):
        table.read("h", "m", [(f"left-{number}-now", "1")], NOW)
    names = table._hosts["h"]
    assert len(names.known) + len(names.silent) <= MOST_NAMES


def test_the_name_of_a_window_is_short(tmp_path: Path) -> None:
    """H02: an upstream chooses a part of it."""
    table = table_of(tmp_path, '{name: "*", of: requests, remaining: left-*}')
    [found] = table.read("h", "m", [(f"left-{'x' * 60}", "1")], NOW)
    assert found.name == "x" * 40
