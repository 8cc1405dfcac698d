"""One .py file -> one rule, for what cannot be said in YAML.

The file has a docstring (what it is about, and a line ``Source: https://...``), ``classify(reply) -> Verdict | None``
and ``EXAMPLES``. Its code is the owner's and runs in the proxy, so the bounds here are against mistakes, not against
malice: an exception, a wrong result or more than 50 ms count as silence, and are logged once per file.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from understudy.codec.yaml_nodes import LARGEST, Problem, RuleError
from understudy.model import Label, Then, Verdict
from understudy.replies import Reply
from understudy.rules.speaker import FALLBACK, Example, Status, evidence_of
from understudy.rules.yaml_rule import EXAMPLE_KEYS

LIMIT = 0.05
"""Seconds that one call of ``classify`` may take."""

_SOURCE = re.compile(r"^\s*Source:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)

logger = logging.getLogger("understudy")


@dataclass(frozen=True, slots=True)
class PythonRule:
    """A rule in Python, with its own examples."""

    id: str
    about: str
    source: str
    status: Status
    matches: tuple[Example, ...]
    near_misses: tuple[Example, ...]
    classify: Callable[[Reply], object] = field(repr=False)
    path: str = ""
    vetoed_by: frozenset[str] = frozenset()
    _told: list[str] = field(default_factory=list, repr=False, compare=False)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels that its examples show."""
        return tuple(sorted({example.label for example in self.matches if example.label}))

    def speak(self, reply: Reply) -> Verdict | None:
        """What ``classify`` says, completed; None when it is silent or goes wrong. Never raises."""
        begun = time.perf_counter()
        try:
            with _Deadline(begun + LIMIT):
                said = self.classify(reply)
        except _TooSlowError:
            return _silent(self, f"took more than {LIMIT * 1000:.0f} ms")
        except (Exception, SystemExit) as error:
            return _silent(self, f"raised {type(error).__name__}{_place(error, self.path)}")
        if time.perf_counter() - begun > LIMIT:
            return _silent(self, f"took more than {LIMIT * 1000:.0f} ms")
        if said is None:
            return None
        if not isinstance(said, Verdict) or not isinstance(said.label, Label) or not isinstance(said.then, Then):
            return _silent(self, f"returned {type(said).__name__}, not a Verdict with a Label")
        if said.label in (Label.OK, Label.UNKNOWN):
            return _silent(self, f"returned {said.label}, which no rule can say: return None")
        evidence = " ".join(said.evidence.split())[:200] if isinstance(said.evidence, str) else ""
        certain = said.certain is True and not self.id.startswith(f"{FALLBACK}/")
        return replace(said, rule=self.id, evidence=evidence or evidence_of(reply, 0), drafts=(), certain=certain)


def _silent(rule: PythonRule, what: str) -> Verdict | None:
    if not rule._told:
        rule._told.append(what)
        logger.error(f"understudy: {rule.path}: classify {what}: the rule gives no label then (said once)")
    return None


def load_python_rule(file: Path, identity: str) -> PythonRule:
    """Run a file and take the rule out of it. Raises RuleError with the line, whatever the file does."""
    path = str(file)

    def fail(line: int, what: str, write: str) -> RuleError:
        return RuleError([Problem(path, line, what, write)])

    try:
        text = file.read_bytes()
    except OSError as error:
        raise fail(1, f"it cannot be read ({error.strerror})", "check its permissions") from None
    if len(text) > LARGEST:
        raise fail(1, f"it is larger than {LARGEST} bytes", "split it into several rules")
    module = ModuleType(f"understudy_rule_{re.sub(r'[^0-9A-Za-z]', '_', identity)}")
    module.__file__ = path
    try:
        code = compile(text, path, "exec", dont_inherit=True)
        sys.modules[module.__name__] = module  # dataclasses look their module up
        exec(code, module.__dict__)
    except SyntaxError as error:
        raise fail(error.lineno or 1, f"this is not Python ({error.msg})", "correct this line") from None
    except (Exception, SystemExit) as error:
        line = _line_in(error, path) or 1
        raise fail(line, f"running it raised {type(error).__name__}: {error}", "correct this line") from None

    about = inspect.cleandoc(module.__doc__ or "")
    source = _SOURCE.search(about)
    if not about or not source:
        write = 'begin with """What it is about.\\n\\nSource: https://...\\n"""'
        raise fail(1, "there is no docstring with a line `Source: https://...`", write)
    classify = getattr(module, "classify", None)
    if not callable(classify):
        raise fail(1, "there is no `classify`", "write `def classify(reply: Reply) -> Verdict | None:`")
    line = _line_of(text, "STATUS")
    status = getattr(module, "STATUS", Status.STABLE)
    if status not in tuple(Status):
        raise fail(line, "STATUS is neither stable nor draft", "write `STATUS = 'draft'`")
    vetoes = getattr(module, "UNLESS_RULE", ())
    if not isinstance(vetoes, tuple | list) or not all(isinstance(each, str) for each in vetoes):
        raise fail(_line_of(text, "UNLESS_RULE"), "UNLESS_RULE is no list of ids", "write `UNLESS_RULE = ['a/b']`")
    line = _line_of(text, "EXAMPLES")
    try:
        matches, near_misses = _examples(getattr(module, "EXAMPLES", None), line)
    except (ValueError, TypeError) as error:
        write = 'write `EXAMPLES = {"matches": [{"label": ..., "status": ..., "body": ...}], "near_misses": [...]}`'
        raise fail(line, str(error), write) from None
    return PythonRule(
        id=identity,
        about=_SOURCE.sub("", about).strip(),
        source=source[1],
        status=Status(status),
        matches=matches,
        near_misses=near_misses,
        classify=classify,
        path=path,
        vetoed_by=frozenset(vetoes),
    )


def _examples(value: object, line: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    if not isinstance(value, Mapping) or set(value) != {"matches", "near_misses"}:
        raise ValueError("EXAMPLES is not a mapping with matches and near_misses")
    both = []
    for key in ("matches", "near_misses"):
        items = value[key]
        if not isinstance(items, list | tuple) or not items:
            raise ValueError(f"there are no {key} in EXAMPLES")
        both.append(tuple(_example(item, line, matches=key == "matches") for item in items))
    return both[0], both[1]


def _example(item: object, line: int, *, matches: bool) -> Example:
    if not isinstance(item, Mapping) or not isinstance(item.get("status"), int):
        raise ValueError("an example is no mapping with a status")
    fields = dict(item)
    label = fields.pop("label", None)
    if unknown := set(fields) - set(EXAMPLE_KEYS):
        raise ValueError(f"the key {sorted(map(str, unknown))[0]!r} of an example is not known")
    if matches and label not in tuple(Label):
        raise ValueError("an example of matches has no label")
    body = fields.pop("body", "")
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    headers = tuple((str(name), str(value)) for name, value in dict(fields.pop("headers", {})).items())
    reply = Reply(**fields, headers=headers, body=text.encode("utf-8", "replace"))
    return Example(reply, line, Label(label) if matches else None)


class _TooSlowError(BaseException):
    """Not an Exception, so that ``except Exception`` in a rule does not swallow it."""


class _Deadline:
    """Stops Python code that is still running at a time, a reading of ``time.perf_counter``.

    It works by tracing lines, so a call that stays inside C is not stopped, only noticed afterwards. Where another tool
    traces already (a debugger, a coverage tool), it does nothing.
    """

    def __init__(self, at: float) -> None:
        self.at = at
        self.tracing = False

    def __enter__(self) -> None:
        if sys.gettrace() is None:
            self.tracing = True
            sys.settrace(self._trace)

    def __exit__(self, *exc_info: object) -> None:
        if self.tracing:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if time.perf_counter() > self.at:
            raise _TooSlowError
        return self._trace


def _lines(error: BaseException, path: str) -> Iterator[int]:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            yield trace.tb_lineno
        trace = trace.tb_next


def _line_in(error: BaseException, path: str) -> int:
    return max((0, *list(_lines(error, path))[-1:]))


def _place(error: BaseException, path: str) -> str:
    line = _line_in(error, path)
    return f" in line {line}" if line else ""


def _line_of(text: bytes, name: str) -> int:
    found = re.search(rb"^" + name.encode() + rb"\b", text, re.MULTILINE)
    return text.count(b"\n", 0, found.start()) + 1 if found else 1
