"""YAML as pool and rule files are read: values with their lines, and errors that name them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from understudy.codec import yaml_nodes
from understudy.codec.yaml_nodes import (
    LARGEST,
    POOL,
    RULE,
    ConfigError,
    FileError,
    Kind,
    Listing,
    Problem,
    RuleError,
    Scalar,
    Table,
    Value,
    read,
)


def clean(text: str, manner: yaml_nodes.Manner = POOL) -> Value:
    """What a file without any problem holds."""
    problems: list[Problem] = []
    value = read(text, "p.yaml", problems, manner)
    assert problems == []
    return value


def problems_of(text: str, manner: yaml_nodes.Manner = POOL) -> list[str]:
    """What is wrong with a file, whether it can be stepped over or not."""
    problems: list[Problem] = []
    try:
        read(text, "p.yaml", problems, manner)
    except manner.error as error:
        return str(error).splitlines()
    return [str(problem) for problem in problems]


@pytest.mark.parametrize("manner", [POOL, RULE], ids=["pool", "rule"])
def test_every_value_knows_its_line(manner: yaml_nodes.Manner) -> None:
    found = clean("# x\n\na: 1\nb:\n  - x\n  - {c: ~}\n'd':\n  é: |\n    two\n    lines\n", manner)
    assert found == Table(
        3,
        {
            "a": (Scalar(3, "a", Kind.TEXT), Scalar(3, "1", Kind.NUMBER)),
            "b": (
                Scalar(4, "b", Kind.TEXT),
                Listing(
                    5,
                    (
                        Scalar(5, "x", Kind.TEXT),
                        Table(6, {"c": (Scalar(6, "c", Kind.TEXT), Scalar(6, "~", Kind.NOTHING))}),
                    ),
                ),
            ),
            "d": (
                Scalar(7, "d", Kind.TEXT),
                Table(8, {"é": (Scalar(8, "é", Kind.TEXT), Scalar(8, "two\nlines\n", Kind.TEXT))}),
            ),
        },
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x", Kind.TEXT), ("'1'", Kind.TEXT), ("=", Kind.TEXT), ("1", Kind.NUMBER), ("1.5", Kind.NUMBER),
        ("0x1F", Kind.NUMBER), ("yes", Kind.BOOLEAN), ("true", Kind.BOOLEAN), ("2024-01-01", Kind.DATE),
        ("~", Kind.NOTHING), ("", Kind.NOTHING), ("null", Kind.NOTHING),
    ],
)  # fmt: skip
def test_what_a_value_is_taken_for(text: str, kind: Kind) -> None:
    """The text stays as it was written, whatever it is taken for."""
    assert clean(f"a: {text}") == Table(1, {"a": (Scalar(1, "a", Kind.TEXT), Scalar(1, text.strip("'"), kind))})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1: the file is empty: write upstreams, credentials and routes"),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML (but found another document): correct this line or the one before it"),
        ("a: 1\n\na: 2", "3: the key 'a' is written twice: keep this one or that of line 1"),
        ("b: 1\n? [a]\n: 1", "2: a key that is a list or a mapping: write a text as key"),
        ("b: 1\n<<: {a: 1}", "2: a merge key: write the keys themselves in place of `<<`"),
        ("b: 1\na: !x 1", "2: a YAML tag that is not supported: write a plain value"),
        ("b: 1\na: !!set {c}", "2: a YAML tag that is not supported: write a plain list or mapping"),
        ("b: 1\na: !x [c]", "2: a YAML tag that is not supported: write a plain list or mapping"),
        ("x: 1\ny: 2\nz: \x07", "3: not valid YAML (a character that YAML does not allow): "),
        ("\x07", "1: not valid YAML (a character that YAML does not allow): "),
        ("a: 1\nb: \"\\q\"", "2: not valid YAML (a backslash in double quotes): use single quotes"),
        ("a: 1\nb:\n\tc: 1", "3: not valid YAML (a tab): indent with spaces"),
        ("a: 1\nb: {c: 1\n\nd: 2", "2: not valid YAML (a `{` is not closed): add the missing `}` to this line"),
        ("a: 1\nb: 'c\n\nd: 2", "2: not valid YAML (a quotation mark is not closed): close it on this line"),
        ("- a\nb: 1", "2: not valid YAML (a key among the entries of a list): indent it like"),
        ("a: 1\n%x", "2: not valid YAML ("),
        ("%x", "1: not valid YAML (expected '<document start>', but found '<stream end>'): correct this line"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, problem: str) -> None:
    [found] = problems_of(text)
    assert found.startswith(f"p.yaml:{problem}")


def test_what_can_be_stepped_over_is_all_told() -> None:
    """And the rest of the file is read."""
    problems: list[Problem] = []
    found = read("<<: {x: 1}\na: !x 1\na: 2\n[b]: 3\nc: 4\n", "p", problems)
    assert [problem.line for problem in problems] == [1, 2, 3, 4]
    assert isinstance(found, Table)
    assert list(found.entries) == ["a", "c"]


def test_what_the_parser_quotes_is_not_repeated() -> None:
    """R07: it may be a piece of a secret."""
    for quoted in ("found 'sk-secret'", "expected '<x>', but found 'sk-secret'", "'ab' or 'sk-secret'"):
        assert "secret" not in str(yaml_nodes._syntax("p", 1, quoted))
    assert "(expected '<x>' or 'ab')" in str(yaml_nodes._syntax("p", 1, "expected '<x>' or 'ab'"))
    assert "(x this y)" in str(yaml_nodes._syntax("p", 1, "x 'abcd'\ny"))
    assert "(x 'abc' y)" in str(yaml_nodes._syntax("p", 1, "x 'abc' y"))


@pytest.mark.parametrize("manner", [POOL, RULE], ids=["pool", "rule"])
def test_as_deep_and_as_large_as_a_file_may_be(manner: yaml_nodes.Manner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: one level, one value or one byte more is refused, and said where."""
    flow = "a: 1\nb: " + "[" * (manner.deepest - 2) + "x" + "]" * (manner.deepest - 2)
    clean(flow, manner)
    assert problems_of(flow.replace("x", "[x]"), manner) == [
        "p.yaml:2: values are nested too deeply: write a flat file"
    ]
    deep = "".join(f"{' ' * level}a:\n" for level in range(manner.deepest - 1))
    clean(deep, manner)
    assert problems_of(deep + " " * manner.deepest + "a:\n", manner) == [
        f"p.yaml:{manner.deepest}: values are nested too deeply: write a flat file"
    ]
    clean("a" * LARGEST, manner)
    for text in ("a" * (LARGEST + 1), "é" * (LARGEST // 2) + "a"):
        assert problems_of(text, manner) == [f"p.yaml:1: the file is larger than {LARGEST} bytes: write a shorter one"]
    monkeypatch.setattr(yaml_nodes, "_MOST_VALUES", 4)
    clean("- a\n- b\n- c", manner)
    found = problems_of("- !x a\n- b\n- c\n- d", manner)
    assert found[1:] == ["p.yaml:4: more than 4 values: write fewer, or use fewer aliases"]
    assert "a YAML tag" in found[0]
    clean("a: {b: 1}\nc: 2", manner)
    assert len(problems_of("a: {b: 1}\nc: [2]", manner)) == 1


def test_what_is_too_deep_to_be_parsed_is_told_at_its_beginning() -> None:
    """The parser gives up without a line."""
    assert problems_of("a: 1\nb: " + "[" * 50_000) == ["p.yaml:1: values are nested too deeply: write a flat file"]


def test_each_kind_of_file_has_its_error() -> None:
    for manner, error in ((POOL, ConfigError), (RULE, RuleError)):
        with pytest.raises(error, match=manner.lacks):
            read("", "p", [], manner)
        with pytest.raises(error):
            read("a: [", "p", [], manner)
    slow = replace(RULE, loader=POOL.loader)
    assert clean("a: [b]", slow) == clean("a: [b]", RULE)


def test_problems_are_told_once_and_by_their_lines() -> None:
    one, other = Problem("p", 2, "b", "c"), Problem("p", 10, "a", "c")
    assert str(FileError([other, one, one])) == "p:2: b: c\np:10: a: c"
