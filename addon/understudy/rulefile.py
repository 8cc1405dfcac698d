"""One .yaml file -> one Rule; a folder -> the rules in it.

Rules are data that people write, so this module is strict: a key, label or modifier that nobody knows is an error with
file, line and what to write instead, never something that silently matches nothing. `rules/README.md` is the manual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import partial
from pathlib import Path
from typing import Any, Never

import yaml

from understudy.patterns import compile_pattern, needles
from understudy.reply import Reply
from understudy.rules import AppliesTo, Condition, Example, Label, Rule, Ruleset, Scope, Status, Test, Then

LARGEST = 256 * 1024  # bytes of one rule file
DEEPEST = 32  # a value inside a value inside a value ...
SUFFIXES = (".yaml", ".yml")
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RuleError(ValueError):
    """A rule file that cannot be used. Each line of its text: `path:line: what is wrong: what to write`."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def load_folder(path: str | Path) -> tuple[Rule, ...]:
    """Every rule file below a folder, by path. Raises RuleError that names everything wrong in any of them."""
    folder = Path(path)
    if not folder.is_dir():
        raise RuleError(f"{folder}:1: this is not a folder: name a folder with <vendor>/<label>.yaml files")
    rules: dict[str, Rule] = {}
    problems: list[str] = []
    for file in sorted(folder.rglob("*")):
        if file.suffix not in SUFFIXES or any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        try:
            rule = load_file(file, folder)
        except RuleError as error:
            problems += error.problems
            continue
        if rule.id in rules:
            problems.append(f"{file}:1: two files make the rule {rule.id!r}: keep one suffix, .yaml or .yml")
        rules[rule.id] = rule
    if problems:
        raise RuleError(*problems)
    return tuple(rules.values())


def load_file(path: str | Path, folder: str | Path) -> Rule:
    """The rule in one file of a folder. Raises RuleError."""
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RuleError(f"{file}:1: it cannot be read ({error.strerror}): check its permissions") from None
    if len(data) > LARGEST:
        raise RuleError(f"{file}:1: it is larger than {LARGEST} bytes: split it into several rules")
    identity = file.relative_to(folder).with_suffix("").as_posix()
    try:
        node = yaml.compose(data.decode("utf-8"), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = " ".join((error.problem or "a mistake").split())
        raise RuleError(f"{file}:{line}: this is not YAML ({what}): correct this line or the one before") from None
    except (yaml.YAMLError, ValueError, RecursionError, ArithmeticError, LookupError) as error:
        # PyYAML lets a few of its own slips escape, e.g. OverflowError for the escape "\UFFFFFFFF".
        what = " ".join(str(error).split())[:120]
        raise RuleError(f"{file}:1: this is not YAML ({what}): write UTF-8 text without odd characters") from None
    return _FileReader(str(file)).rule(node, identity)


def shipped_folder() -> Path:
    """Where the rules are that come with understudy: beside the modules in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent.parent / "rules"


def shipped() -> Ruleset:
    """The rules that come with understudy."""
    return Ruleset(load_folder(shipped_folder()))


_RULE_KEYS = ("id", "label", "about", "source", "status", "applies_to", "when", "unless", "then", "examples")
_NEEDED = ("id", "label", "about", "source", "status", "when", "examples")
_EXAMPLE_KEYS = (
    "status", "body", "headers", "dialect", "model", "alias", "event", "host", "kind", "endpoint", "streamed",
)  # fmt: skip
_INFO_FIELDS = ("code", "type", "param", "message")
_MODIFIERS = ("contains", "re", "glob")
_SCALARS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool")


@dataclass(frozen=True, slots=True)
class _FileReader:
    """Turns the node tree of one file into a Rule; knows the file's name for its errors."""

    file: str

    def fail(self, node: yaml.Node | None, what: str, write: str) -> Never:
        line = node.start_mark.line + 1 if node is not None else 1
        raise RuleError(f"{self.file}:{line}: {what}: {write}")

    def rule(self, root: yaml.Node | None, identity: str) -> Rule:
        self.refuse_aliases(root)
        fields = self.mapping(root, _RULE_KEYS)
        for key in _NEEDED:
            if key not in fields:
                self.fail(root, f"`{key}` is missing", f"add `{key}:`")
        if self.text(fields["id"]) != identity:
            self.fail(fields["id"], "the id is not the path of the file", f"write `id: {identity}`")
        examples = self.mapping(fields["examples"], ("matches", "near_misses"))
        shown = {}
        for key in ("matches", "near_misses"):
            items = self.sequence(examples[key]) if key in examples else []
            if not items:
                self.fail(fields["examples"], f"there are no `{key}`", "show at least one reply")
            shown[key] = tuple(self.example(item) for item in items)
        return Rule(
            id=identity,
            label=self.choice(fields["label"], Label),
            about=self.text(fields["about"]),
            source=self.text(fields["source"]),
            status=self.choice(fields["status"], Status),
            **({"applies_to": self.applies_to(fields["applies_to"])} if "applies_to" in fields else {}),
            when=self.condition(fields["when"]),
            unless=self.condition(fields["unless"]) if "unless" in fields else None,
            then=self.then(fields["then"]) if "then" in fields else Then(),
            matches=shown["matches"],
            near_misses=shown["near_misses"],
        )

    # -- YAML nodes ---------------------------------------------------------------------------------------------

    def refuse_aliases(self, root: yaml.Node | None) -> None:
        """An alias is the same node twice: a few of them can stand for billions of values or for a value in itself."""
        seen: set[int] = set()
        waiting = [root] if root is not None else []
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                self.fail(node, "an alias (`*name`) points here", "write the value out")
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                waiting += [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                waiting += node.value

    def mapping(self, node: yaml.Node | None, keys: Iterable[str] | None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, "a mapping is expected here", "write `key: value` lines")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self.text(key_node)
            if keys is not None and key not in keys:
                self.fail(key_node, f"the key `{key[:60]}` is not known", f"write one of {', '.join(keys)}")
            if key in found:
                self.fail(key_node, f"the key `{key[:60]}` is there twice", "write it once")
            found[key] = value
        return found

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "a list is expected here", "write lines that begin with `- `")
        return list(node.value)

    def text(self, node: yaml.Node, empty: bool = False) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS or not (empty or node.value.strip()):
            self.fail(node, "a text is expected here", "write a text, in quotes if it holds special characters")
        return str(node.value)

    def texts(self, node: yaml.Node) -> list[str]:
        if isinstance(node, yaml.SequenceNode):
            if not node.value:
                self.fail(node, "the list is empty", "write at least one value")
            return [self.text(item) for item in node.value]
        return [self.text(node)]

    def choice[E: (Label, Scope, Status)](self, node: yaml.Node, choices: type[E]) -> E:
        value = self.text(node)
        try:
            return choices(value)
        except ValueError:
            known = ", ".join(choices)
            self.fail(node, f"`{value[:60]}` is not a {choices.__name__.lower()}", f"write one of {known}")

    def number(self, node: yaml.Node, least: float, most: float) -> float:
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS[1:3]:
            try:
                value = float(node.value)
            except ValueError:
                value = -1.0
            if least <= value <= most:
                return value
        return self.fail(node, "this is not a number in range", f"write a number from {least:g} to {most:g}")

    def flag(self, node: yaml.Node) -> bool:
        if isinstance(node, yaml.ScalarNode) and node.value.lower() in ("true", "false"):
            return bool(node.value.lower() == "true")
        return self.fail(node, "this is neither true nor false", "write true or false")

    # -- parts of a rule ----------------------------------------------------------------------------------------

    def applies_to(self, node: yaml.Node) -> AppliesTo:
        fields = self.mapping(node, ("dialect", "host", "kind"))
        values = {key: tuple(text.lower() for text in self.texts(value)) for key, value in fields.items()}
        if unknown := [kind for kind in values.get("kind", ()) if kind not in ("generating", "auxiliary")]:
            self.fail(fields["kind"], f"`{unknown[0][:60]}` is not a kind", "write generating or auxiliary")
        return AppliesTo(values.get("dialect", ()), values.get("host", ()), values.get("kind", ()))

    def then(self, node: yaml.Node) -> Then:
        fields = self.mapping(node, ("replay", "retry_same", "scope", "seconds"))
        return Then(
            replay=self.flag(fields["replay"]) if "replay" in fields else None,
            retry_same=int(self.number(fields["retry_same"], 0, 1)) if "retry_same" in fields else None,
            scope=self.choice(fields["scope"], Scope) if "scope" in fields else None,
            seconds=self.number(fields["seconds"], 0, 86400) if "seconds" in fields else None,
        )

    def condition(self, node: yaml.Node) -> Condition:
        nodes = self.sequence(node) if isinstance(node, yaml.SequenceNode) else [node]
        if not nodes or any(isinstance(item, yaml.MappingNode) and not item.value for item in nodes):
            self.fail(node, "the condition is empty", "write `field: value` lines")
        return Condition(tuple(self.tests(item) for item in nodes))

    def tests(self, node: yaml.Node) -> tuple[Test, ...]:
        priced = []
        for key, value in self.mapping(node, None).items():
            field, bar, modifier = key.partition("|")
            if bar and modifier not in _MODIFIERS:
                known = ", ".join(_MODIFIERS)
                self.fail(value, f"the modifier `{modifier[:60]}` is not known", f"write one of {known}")
            if field == "status":
                if bar:
                    self.fail(value, "`status` takes no modifier", "write numbers or a class such as 4xx")
                priced.append((0, self.status_test(value)))
            elif field in _INFO_FIELDS or field == "text" or re.fullmatch(r"(?:header|json)\.\S+", field):
                price = 1 if field in _INFO_FIELDS[:3] else 2 if not bar or modifier == "contains" else 3
                price += 0 if field in _INFO_FIELDS else 3
                priced.append((price, self.field_test(field, modifier, value)))
            else:
                known = "status, code, type, param, message, text, header.<name> or json.<path>"
                self.fail(value, f"the field `{field[:60]}` is not known", f"write {known}")
        return tuple(test for _price, test in sorted(priced, key=lambda item: item[0]))

    def status_test(self, node: yaml.Node) -> Test:
        wanted: set[int] = set()
        for value in self.texts(node):
            if re.fullmatch(r"[1-5]xx", value.lower()):
                wanted.update(range(int(value[0]) * 100, int(value[0]) * 100 + 100))
            elif re.fullmatch(r"[1-9]\d\d", value):
                wanted.add(int(value))
            else:
                self.fail(node, f"`{value[:60]}` is not a status", "write a number such as 404 or a class such as 4xx")
        return lambda reply, info: reply.status in wanted

    def field_test(self, field: str, modifier: str, node: yaml.Node) -> Test:
        values = [value.lower() if modifier != "re" else value for value in self.texts(node)]
        holds = self.value_test(modifier, values, node)
        match field:
            case "code":
                return lambda reply, info: holds(info.code)
            case "type":
                return lambda reply, info: holds(info.type)
            case "param":
                return lambda reply, info: holds(info.param)
            case "message":
                return lambda reply, info: holds(info.message)
            case "text":
                return lambda reply, info: holds(reply.folded_text)
        place, _, name = field.partition(".")
        if place == "header":
            return lambda reply, info: holds(reply.header(name).lower())
        keys = tuple(name.split("."))
        return lambda reply, info: any(holds(text) for text in _leaves(reply.follow(keys)))

    def value_test(self, modifier: str, values: list[str], node: yaml.Node) -> Callable[[str], bool]:
        """A test of one text in lower case. Several values are alternatives."""
        if not modifier:
            wanted = frozenset(values)
            return lambda text: text in wanted
        if modifier == "contains":
            return partial(_contains_one, tuple(values))
        if modifier == "glob":
            return partial(_matches_one, tuple(((), re.compile(translate(value)).match) for value in values))
        tries = []
        for value in values:
            try:
                search = compile_pattern(value).search
                tries.append((tuple(needles(value)), search))
            except ValueError as error:
                self.fail(node, str(error), "write an expression without it")
        return partial(_matches_one, tuple(tries))

    def example(self, node: yaml.Node) -> Example:
        fields = self.mapping(node, _EXAMPLE_KEYS)
        if "status" not in fields:
            self.fail(node, "the example has no `status`", "write `status: 404` or what the reply had")
        body = self.plain(fields["body"]) if "body" in fields else ""
        names = ("dialect", "endpoint", "kind", "host", "alias", "model", "event")
        texts = {key: self.text(fields[key], empty=True) for key in names if key in fields}
        headers = self.mapping(fields["headers"], None) if "headers" in fields else {}
        reply = Reply(
            status=int(self.number(fields["status"], 100, 599)),
            dialect=texts.get("dialect", ""),
            endpoint=texts.get("endpoint", ""),
            kind=texts.get("kind", "generating"),
            host=texts.get("host", ""),
            alias=texts.get("alias", ""),
            model=texts.get("model", ""),
            event=texts.get("event", ""),
            streamed=self.flag(fields["streamed"]) if "streamed" in fields else False,
            headers=tuple((name, self.text(value, empty=True)) for name, value in headers.items()),
            body=(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode(),
        )
        return Example(reply, node.start_mark.line + 1)

    def plain(self, node: yaml.Node, depth: int = 0) -> object:
        """The value of a node as JSON would have it."""
        if depth > DEEPEST:
            self.fail(node, "values are nested too deeply", "write a smaller body")
        match node:
            case yaml.MappingNode():
                return {self.text(key): self.plain(value, depth + 1) for key, value in node.value}
            case yaml.SequenceNode():
                return [self.plain(item, depth + 1) for item in node.value]
        match node.tag:
            case "tag:yaml.org,2002:null":
                return None
            case "tag:yaml.org,2002:bool":
                return node.value.lower() in ("true", "yes", "on")
            case "tag:yaml.org,2002:int" if re.fullmatch(r"-?\d{1,18}", node.value):
                return int(node.value)
        return str(node.value)


def _contains_one(values: tuple[str, ...], text: str) -> bool:
    for value in values:  # noqa: SIM110  a plain loop: this runs for every rule and every reply
        if value in text:
            return True
    return False


type _Search = Callable[[str], re.Match[str] | None]


def _matches_one(tries: tuple[tuple[tuple[str, ...], _Search], ...], text: str) -> bool:
    """Whether one expression is found. Those whose necessary words are not in the text are not even started."""
    if not text:
        return any(not words and search(text) is not None for words, search in tries)
    for words, search in tries:  # noqa: SIM110  as above
        if (not words or _contains_one(words, text)) and search(text) is not None:
            return True
    return False


def _leaves(value: object | None) -> list[str]:
    """The scalars that a path led to, as lower-case texts; nothing for what is absent, null or a mapping."""
    match value:
        case bool():
            return ["true" if value else "false"]
        case str() | float():
            return [str(value).lower()]
        case int() if abs(value) < 1 << 63:
            return [str(value)]
        case list():
            return [leaf for item in value[:64] if not isinstance(item, list) for leaf in _leaves(item)]
    return []
