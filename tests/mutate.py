"""Random changes of the core, each tried against the tests of its package: what no test notices is listed.

A change is one of: a comparison turned round, ``and`` for ``or``, a condition negated, a number off by one, a boolean
flipped, ``+`` for ``-``, ``min`` for ``max``, a statement left out. It is made in a copy of the sources that is found
before the installed ones. A change is noticed when the tests of its package fail, or hang (then they are killed).
Changes that mean the same as before exist, so not every line of the list is a missing test.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "addon" / "understudy"
PACKAGES = ("failover", "suspensions", "requests", "replies", "codec")
MORE_TESTS = {"codec": ("tests/requests", "tests/replies"), "suspensions": ("tests/failover",)}
"""Packages whose behaviour is tested a floor higher, too."""
SECONDS = 300
"""For the tests of one change; they take a tenth of it."""

TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Everything that can be changed inside functions, with the kind of change."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            match node:
                case ast.Compare(ops=[operator]) if type(operator) in TURNED:
                    yield node, "comparison"
                case ast.BoolOp():
                    yield node, "and/or"
                case ast.If() | ast.IfExp() | ast.While():
                    yield node, "negated"
                case ast.BinOp(op=operation) if type(operation) in OPERATORS:
                    yield node, "operator"
                case ast.Constant(value=bool()):
                    yield node, "boolean"
                case ast.Constant(value=int() | float()):
                    yield node, "number"
                case ast.Call(func=ast.Name(id=name)) if name in NAMES:
                    yield node, "function"
                case ast.Expr(value=ast.Call()) | ast.AugAssign():
                    yield node, "left out"


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


def tests_of(module: Path) -> list[str]:
    """Where the tests of a module are: in the folder of its package."""
    package = module.relative_to(SOURCE).parts[0]
    return [f"tests/{package}", *MORE_TESTS.get(package, ())]


def is_noticed(module: Path, text: str, folder: Path) -> bool:
    """Whether the tests of its package fail with this text in the place of the module."""
    target = folder / "understudy" / module.relative_to(SOURCE)
    before = target.read_text("utf-8")
    target.write_text(text, "utf-8")
    try:
        # pytest's own ``pythonpath`` would go before PYTHONPATH, which is for the processes that tests start.
        paths = ["-o", f"pythonpath={folder} {ROOT}", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", "-x", *paths, *tests_of(module)]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=SECONDS, check=False)
        return done.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(before, "utf-8")


def main() -> int:
    """Try the changes and print what was not noticed; exit status 1 when fewer than 95 % were."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else Random().randrange(1 << 30)
    print(f"seed {seed}")
    chance = Random(seed)
    modules = [SOURCE / f"{name.removesuffix('.py')}.py" for name in arguments.modules] or [
        path for package in PACKAGES for path in sorted((SOURCE / package).glob("*.py")) if path.name != "__init__.py"
    ]
    trees = {module: ast.parse(module.read_text("utf-8")) for module in modules}
    known = [(module, index) for module in modules for index, _ in enumerate(places(trees[module]))]
    chosen = chance.sample(known, min(arguments.count, len(known)))
    missed = 0
    with tempfile.TemporaryDirectory(prefix="understudy-mutate-") as made:
        folder = Path(made) / "addon"
        shutil.copytree(SOURCE, folder / "understudy", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "rules", Path(made) / "rules")
        for package, module in {module.relative_to(SOURCE).parts[0]: module for module, _ in chosen}.items():
            # As it is written out again, without comments: what fails then says nothing about a change.
            if is_noticed(module, ast.unparse(trees[module]), folder):
                print(f"the tests of {package} fail without any change", file=sys.stderr)
                return 2
            if not is_noticed(module, "raise RuntimeError('for the test of the tests')", folder):
                print(f"the tests of {package} do not run the copy", file=sys.stderr)
                return 2
        for module, index in chosen:
            tree = copy.deepcopy(trees[module])
            node, kind = list(places(tree))[index]
            line = getattr(node, "lineno", 0)
            change(node, kind)
            if not is_noticed(module, ast.unparse(ast.fix_missing_locations(tree)), folder):
                missed += 1
                said = module.read_text("utf-8").splitlines()[line - 1].strip()
                print(f"not noticed: {module.relative_to(ROOT)}:{line}: {kind}: {said}", flush=True)
    noticed = len(chosen) - missed
    print(f"{noticed} of {len(chosen)} changes were noticed ({100 * noticed / max(1, len(chosen)):.1f} %)")
    return int(noticed < 0.95 * len(chosen))


if __name__ == "__main__":
    sys.exit(main())
