"""Random changes of the core, each tried against the tests that run it: what no test notices is listed.

A change is one of: a comparison turned round, ``and`` for ``or``, a condition negated, a number off by one, a boolean
flipped, ``+`` for ``-``, ``min`` for ``max``, a statement left out. A change is noticed when a test fails, or hangs
(then it is killed). Changes that mean the same as before exist, so not every line of the list is a missing test.

Per package one process loads the package's tests once, from a copy of the project, so that work may go on meanwhile.
It runs them unchanged to see which test runs which line (``sys.monitoring``), and then forks for each change: the fork
puts the changed code into the loaded functions and runs the tests that come by the changed statement, the quickest
first. So most changes cost less than a second. What a module does once, while it is imported, is not changed: neither
what stands outside of functions, nor a function that is called there and by no test.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import gc
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import CodeType, FunctionType

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "addon" / "understudy"
PACKAGES = ("failover", "suspensions", "requests", "replies", "codec")
MORE_TESTS = {
    "codec": (
        "tests/requests",
        "tests/replies",
        "tests/config",
        "tests/rules",
        "tests/flows",
        "tests/proxy/test_masking_gate.py",
    ),
    "replies": (
        "tests/rules",
        "tests/inspection",
        "tests/authoring",
        "tests/proxy/test_measuring.py",
        "tests/proxy/test_proving.py",
    ),
    "suspensions": ("tests/failover", "tests/drill"),
    "failover": ("tests/drill",),
    "dialects": ("tests/requests", "tests/replies", "tests/rules"),
    "config": ("tests/codec/test_steady_clock.py",),
}
"""Packages whose behaviour is tested a floor higher, too."""
SECONDS = 300
"""For the tests of one change, which may wait for something, beyond thirty times what they compute."""
CPU_SECONDS = 10
"""For a test that computes, beyond three times what it takes without a change: then its loop has no end."""
MEMORY = 4 << 30
"""Bytes of address space of one change's process beyond what the tests need."""
LEFT_BEHIND = (".git", ".venv*", ".clients", ".hypothesis", ".*_cache", "__pycache__", "node_modules", "site")
"""What the copy of the project is made without."""

TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, range]]:
    """Everything that can be changed inside functions, the kind of change, and the lines of the statement it is in."""
    seen: set[ast.AST] = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for statement in (found for line in function.body for found in ast.walk(line)):
            if isinstance(statement, ast.stmt) and statement not in seen:
                seen.add(statement)
                lines = _lines(statement)
                for node in _own(statement):
                    if kind := _kind(node):
                        yield node, kind, lines


def _lines(statement: ast.stmt) -> range:
    """The lines of a statement, without those of the statements in it."""
    inner = [child.lineno for child in ast.walk(statement) if isinstance(child, ast.stmt) and child is not statement]
    return range(statement.lineno, max(statement.lineno + 1, min(inner, default=(statement.end_lineno or 0) + 1)))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The statement and what is in it, without the statements in it and what is evaluated only once."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and isinstance(node, ast.stmt):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.stmt):
                yield from _own(child)


def _kind(node: ast.AST) -> str:
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in TURNED:
            return "comparison"
        case ast.BoolOp():
            return "and/or"
        case ast.If() | ast.IfExp() | ast.While():
            return "negated"
        case ast.BinOp(op=operation) if type(operation) in OPERATORS:
            return "operator"
        case ast.Constant(value=bool()):
            return "boolean"
        case ast.Constant(value=int() | float()):
            return "number"
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            return "function"
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            return "left out"
    return ""


def change(node: ast.AST, kind: str) -> None:
    """Make the change, in place."""
    match node:
        case ast.Compare():
            node.ops = [TURNED[type(node.ops[0])]()]
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.If() | ast.IfExp() | ast.While():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.BinOp():
            node.op = OPERATORS[type(node.op)]()
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Call(func=ast.Name() as function):
            function.id = NAMES[function.id]
        case ast.Expr():
            node.value = ast.Constant(None)
        case ast.AugAssign():
            node.value = ast.Constant(0) if isinstance(node.op, ast.Add | ast.Sub | ast.BitOr) else node.value
        case _:
            raise AssertionError(f"cannot change {kind}")


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of every function in a module."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _compiled(path: Path, tree: ast.Module) -> dict[tuple[str, int], list[CodeType]]:
    """By name in the module and first line: a line may hold several lambdas."""
    found: dict[tuple[str, int], list[CodeType]] = {}
    for code in _codes(compile(tree, str(path), "exec")):
        found.setdefault((code.co_qualname, code.co_firstlineno), []).append(code)
    return found


def _changed(path: Path, before: ast.Module, after: ast.Module) -> dict[CodeType, CodeType]:
    """The code of each function that a change has made another one. One that it has left out is changed nowhere."""
    same, other = _compiled(path, before), _compiled(path, after)
    kept = [(same[key], codes) for key, codes in other.items() if len(codes) == len(same[key])]
    return {old: new for codes, others in kept for old, new in zip(codes, others, strict=True) if old != new}


def _put_in(path: Path, codes: dict[CodeType, CodeType]) -> None:
    """Give the loaded functions of a module other code, and forget what they have remembered."""
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and found.__code__.co_filename == str(path):
            found.__code__ = codes.get(found.__code__, found.__code__)
    for cache in _caches():
        cache.cache_clear()


def _caches() -> list[functools._lru_cache_wrapper[object]]:
    """What the functions of the core have remembered."""
    return [
        found
        for found in gc.get_objects()
        if isinstance(found, functools._lru_cache_wrapper) and found.__module__.startswith("understudy.")
    ]


class _Trial:
    """A plugin that runs a package's tests once for the lines they come by, and then some of them for each change."""

    def __init__(self, chosen: list[tuple[Path, int]], tell: Callable[[dict[str, object]], None]) -> None:
        self.chosen = chosen
        self.tell = tell
        self.failed = False
        self.here: set[str] = set()
        self._watch()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def _watch(self) -> None:
        """From here on the lines of the core that are come by are in ``here``, each once."""
        watch = sys.monitoring
        watch.use_tool_id(watch.COVERAGE_ID, "tests.mutate")
        root = str(SOURCE)

        def came_by(code: CodeType, line: int) -> object:
            if code.co_filename.startswith(root):
                self.here.add(f"{code.co_filename}:{line}")
            return watch.DISABLE

        watch.register_callback(watch.COVERAGE_ID, watch.events.LINE, came_by)
        watch.set_events(watch.COVERAGE_ID, watch.events.LINE)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running every test."""
        imported = self.here.copy()
        items = [item for item in session.items if isinstance(item, pytest.Item)]
        came_by = json.loads(_in_a_fork(lambda: self._run_unchanged(items), None) or "null")
        sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, sys.monitoring.events.NO_EVENTS)
        sys.monitoring.free_tool_id(sys.monitoring.COVERAGE_ID)
        if came_by is None:
            self.tell({"error": "the tests fail without any change"})
            return True
        checked = False
        for path, index in self.chosen:
            before = ast.parse(path.read_text("utf-8"))
            after = copy.deepcopy(before)
            node, kind, lines = list(places(after))[index]
            change(node, kind)
            ast.fix_missing_locations(after)
            changed = _changed(path, before, after)
            if not changed:
                continue  # the compiler sees no difference

            def tried(some: range, path: Path = path) -> list[tuple[float, pytest.Item]]:
                run_by = {found for line in some for found in came_by["lines"].get(f"{path}:{line}", ())}
                return [
                    (came_by["seconds"][found], items[found])
                    for found in sorted(run_by, key=came_by["seconds"].__getitem__)
                ]

            # What fails when the same code is put in says nothing about a change.
            if not checked:
                same = {code: code for codes in _compiled(path, before).values() for code in codes}
                if self._try(path, same, tried(range(len(path.read_bytes())))):
                    self.tell({"error": "the tests fail when the code is replaced by itself"})
                    return True
                checked = True
            timed = tried(lines)
            if not timed and any(f"{path}:{line}" in imported for line in lines):
                continue
            noticed = self._try(path, changed, timed)
            self.tell(
                {"path": str(path), "line": getattr(node, "lineno", lines.start), "kind": kind, "noticed": noticed}
            )
        return True

    def _try(self, path: Path, codes: dict[CodeType, CodeType], timed: list[tuple[float, pytest.Item]]) -> bool:
        most = SECONDS + 30 * sum(seconds for seconds, _ in timed)
        return _in_a_fork(lambda: self._run_changed(path, codes, timed), most) != "survived"

    def _run_unchanged(self, items: list[pytest.Item]) -> str:
        lines: dict[str, list[int]] = {}
        seconds: list[float] = []
        caches = _caches()
        for index, item in enumerate(items):
            for cache in caches:  # a test that finds an answer remembered does not come by the lines that give it
                cache.cache_clear()
            self.here.clear()
            sys.monitoring.restart_events()
            began = time.process_time()
            self._run(items, index)
            seconds.append(time.process_time() - began)
            for line in self.here:
                lines.setdefault(line, []).append(index)
            if self.failed:
                print(f"{item.nodeid} fails without any change", file=sys.stderr)
                return ""
        return json.dumps({"lines": lines, "seconds": seconds})

    def _run_changed(self, path: Path, codes: dict[CodeType, CodeType], timed: list[tuple[float, pytest.Item]]) -> str:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY + pages * resource.getpagesize(), most))
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _put_in(path, codes)
        items = [item for _, item in timed]
        for index, (seconds, _) in enumerate(timed):
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + CPU_SECONDS + 3 * seconds), most))
            self._run(items, index)
            if self.failed:
                return "noticed"
        return "survived"

    def _run(self, items: list[pytest.Item], index: int) -> None:
        following = items[index + 1] if index + 1 < len(items) else None
        items[index].config.hook.pytest_runtest_protocol(item=items[index], nextitem=following)


def _in_a_fork(work: Callable[[], str], seconds: float | None) -> str:
    """What the work gives in a process of its own; "" when that fails, dies or takes longer."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        try:
            os.close(reading)
            result = work().encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(result)
        finally:
            os._exit(0)  # without what pytest would print
    os.close(writing)
    said = bytearray()
    end = None if seconds is None else time.monotonic() + seconds
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], None if end is None else max(0.0, end - time.monotonic()))[0]:
            if not (more := pipe.read(1 << 16)):
                break
            said += more
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # the session that was made above, with what its tests have started
    os.waitpid(child, 0)
    return said.decode()


def try_package(
    package: str, chosen: list[tuple[Path, int]], tell: Callable[[dict[str, object]], None], *, own: bool
) -> None:
    """Try changes of one package's modules; ``tell`` gets one mapping for each. ``own``: with its own tests only."""
    tests = [f"tests/{package}", *(() if own else MORE_TESTS.get(package, ()))]
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler"]
    status = pytest.main([*options, *tests], plugins=[_Trial(chosen, tell)])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        tell({"error": f"pytest ended with {status!r}"})


def listed(known: list[tuple[Path, int]], output: str) -> Iterator[tuple[Path, int]]:
    """The changes that an earlier run has listed as not noticed, wherever their lines are now.

    Where a line can be changed in several ways of the same kind, these are all of them.
    """
    wanted = set()
    for line in output.splitlines():
        if line.startswith("not noticed: "):
            place, kind, said = line.removeprefix("not noticed: ").split(": ", 2)
            wanted.add((ROOT / place.rpartition(":")[0], kind, said))
    trees = {path: list(places(ast.parse(path.read_text("utf-8")))) for path in {path for path, _, _ in wanted}}
    for path, index in known:
        if path in trees:
            node, kind, lines = trees[path][index]
            said = path.read_text("utf-8").splitlines()[getattr(node, "lineno", lines.start) - 1].strip()
            if (path, kind, said) in wanted:
                yield path, index


def main() -> int:
    """Try the changes and print what was not noticed; exit status 1 when fewer than 95 % were."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--again", type=Path, default=None, metavar="FILE", help="what an earlier run has listed")
    parser.add_argument("--own", action="store_true", help="only the tests of the package itself, which is quicker")
    parser.add_argument("--here", default=None, metavar="PACKAGE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here is not None:
        told = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what pytest prints
        chosen = [(ROOT / path, int(index)) for path, index in json.load(sys.stdin)]
        try_package(
            arguments.here,
            chosen,
            lambda result: print(json.dumps(result), file=told, flush=True),
            own=arguments.own,
        )
        return 0
    seed = arguments.seed if arguments.seed is not None else Random().randrange(1 << 30)
    print(f"seed {seed}", flush=True)
    modules = [SOURCE / f"{name.removesuffix('.py')}.py" for name in arguments.modules] or [
        path for package in PACKAGES for path in sorted((SOURCE / package).glob("*.py")) if path.name != "__init__.py"
    ]
    known = [(path, index) for path in modules for index, _ in enumerate(places(ast.parse(path.read_text("utf-8"))))]
    if arguments.again is not None:
        picked = sorted(listed(known, arguments.again.read_text("utf-8")))
    else:
        picked = sorted(Random(seed).sample(known, min(arguments.count, len(known))))
    by_package: dict[str, list[tuple[str, int]]] = {}
    for path, index in picked:
        by_package.setdefault(path.relative_to(SOURCE).parts[0], []).append((str(path.relative_to(ROOT)), index))
    tried = noticed = 0
    with tempfile.TemporaryDirectory(prefix="understudy-mutate-") as made:
        folder = Path(made) / "understudy"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        for package, chosen in by_package.items():
            environment = {**os.environ, "PYTHONPATH": str(folder / "addon"), "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, "-m", "tests.mutate", "--here", package, *(["--own"] if arguments.own else [])]
            with subprocess.Popen(
                command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as running:
                assert running.stdin is not None
                assert running.stdout is not None
                json.dump(chosen, running.stdin)
                running.stdin.close()
                before = tried
                for result in map(json.loads, running.stdout):
                    if "error" in result:
                        print(f"{package}: {result['error']}", file=sys.stderr)
                        return 2
                    tried += 1
                    noticed += result["noticed"]
                    if not result["noticed"]:
                        path = Path(result["path"])
                        said = path.read_text("utf-8").splitlines()[result["line"] - 1].strip()
                        place = f"{path.relative_to(folder)}:{result['line']}"
                        print(f"not noticed: {place}: {result['kind']}: {said}", flush=True)
            print(f"{package}: {tried - before} tried", flush=True)
    print(f"{noticed} of {tried} changes were noticed ({100 * noticed / max(1, tried):.1f} %)")
    return int(not tried or noticed < 0.95 * tried)


if __name__ == "__main__":
    sys.exit(main())
