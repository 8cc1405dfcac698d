"""A search as Python's engine does it, on the same parse tree, that counts what it tries, in place of seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")

type Go = Callable[[int], bool]


class CountedSearch:
    """Count the parts that are tried until an expression is found in a text, or is not."""

    def __init__(self, expression: str, text: str) -> None:
        self.steps = 0
        self.text = text
        tree = list(_parser.parse(expression, re.IGNORECASE))
        self.found = any(self._go(tree, 0, start, lambda at: True) for start in range(len(text) + 1))

    def _go(self, tree: list[Any], index: int, at: int, then: Go) -> bool:
        if index == len(tree):
            return then(at)
        operation, value = tree[index]
        behind: Go = lambda end: self._go(tree, index + 1, end, then)  # noqa: E731  one of many
        match str(operation):
            case "SUBPATTERN":
                return self._go(list(value[-1]), 0, at, behind)
            case "BRANCH":
                return any(self._go(list(branch), 0, at, behind) for branch in value[1])
            case "ATOMIC_GROUP":
                ends: list[int] = []

                def first_end(end: int) -> bool:
                    ends.append(end)
                    return True

                return self._go(list(value), 0, at, first_end) and behind(ends[0])
            case "ASSERT" | "ASSERT_NOT" if value[0] == 1:
                found = self._go(list(value[1]), 0, at, lambda end: True)
                return found is (str(operation) == "ASSERT") and behind(at)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = int(value[0]), int(value[1]), list(value[2])
                return self._repeat(str(operation) == "MAX_REPEAT", least, most, body, at, behind)
            case "AT":
                self.steps += 1
                return self._holds(str(value), at) and behind(at)
        self.steps += 1
        return at < len(self.text) and self._is_in(str(operation), value, self.text[at]) and behind(at + 1)

    def _repeat(self, greedy: bool, least: int, most: int, body: list[Any], at: int, behind: Go) -> bool:
        def once_more(end: int) -> bool:
            if end == at:  # it has read nothing, and would so for ever
                return behind(end)
            return self._repeat(greedy, max(0, least - 1), most - 1, body, end, behind)

        def more() -> bool:
            return most > 0 and self._go(body, 0, at, once_more)

        if least:
            return more()
        return (more() or behind(at)) if greedy else (behind(at) or more())

    def _holds(self, anchor: str, at: int) -> bool:
        word = [0 <= place < len(self.text) and self.text[place].isalnum() for place in (at - 1, at)]
        match anchor:
            case "AT_BEGINNING" | "AT_BEGINNING_STRING":
                return at == 0
            case "AT_END" | "AT_END_STRING":
                return at == len(self.text)
            case "AT_BOUNDARY":
                return word[0] != word[1]
        raise NotImplementedError(anchor)

    @staticmethod
    def _is_in(name: str, value: Any, char: str) -> bool:
        match name:
            case "LITERAL":
                return char == chr(value)
            case "NOT_LITERAL":
                return char != chr(value)
            case "ANY":
                return char != "\n"
            case "IN":
                negated = str(value[0][0]) == "NEGATE"
                return negated != any(CountedSearch._item(str(kind), item, char) for kind, item in value[negated:])
        raise NotImplementedError(name)

    @staticmethod
    def _item(kind: str, item: Any, char: str) -> bool:
        match kind:
            case "LITERAL":
                return char == chr(item)
            case "RANGE":
                return bool(item[0] <= ord(char) <= item[1])
        return {"CATEGORY_WORD": char.isalnum(), "CATEGORY_SPACE": char.isspace(), "CATEGORY_DIGIT": char.isdigit()}[
            str(item)
        ]
