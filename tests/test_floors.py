"""The floors: a package imports from those below it only, and from their faces; the order stands in one place."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import understudy

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "addon" / "understudy"
FLOORS = tuple(re.findall(r"^    (\w+) +\S", (understudy.__doc__ or ""), re.MULTILINE))
"""From bottom to top, as the docstring of ``understudy`` lists them."""
CORE = ("codec", "model", "dialects", "requests", "replies", "sockets", "rules", "limits", "suspensions", "failover")
"""These know neither mitmproxy nor asyncio, but for what ``KNOWN`` names."""
KNOWN = {
    ("requests.rewrite", "mitmproxy"): "mitmproxy's plain messages: the request is rewritten as one of them",
    ("requests.model_list", "mitmproxy"): "the same: the list of models is extended in place",
    ("suspensions.persistence", "asyncio"): "writes the state file as a task; not in the package's face",
}


@dataclass(frozen=True)
class Import:
    """One import of ours: in which module, of which module, and which name of it."""

    where: str
    line: int
    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: from understudy.{self.module} import {self.name}"


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    """Every module by its dotted name below ``understudy``, parsed."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name, ast.parse(path.read_text("utf-8"))))
    return found


def imports(name: str, tree: ast.Module) -> Iterator[Import]:
    """What a module imports of ours, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: imports are absolute here"
            if node.module == "understudy" or (node.module or "").startswith("understudy."):
                for alias in node.names:
                    yield Import(name, node.lineno, (node.module or "")[len("understudy.") :], alias.name)


def floor(module: str) -> str:
    """The package that a module belongs to, "" for the root."""
    return module.partition(".")[0] if module.partition(".")[0] in FLOORS else ""


@functools.cache
def all_imports() -> list[Import]:
    """What every module imports of ours."""
    return [found for name, tree in modules() for found in imports(name, tree)]


def test_the_order_names_every_package() -> None:
    """Also the other way round: a new package has to say where it stands."""
    assert sorted(FLOORS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_imports_point_down() -> None:
    upward = [
        str(each)
        for each in all_imports()
        if floor(each.where)
        and (target := floor(each.module) or floor(each.name)) != floor(each.where)
        and (
            (target == "" and each.name != "__version__")
            or (target and FLOORS.index(target) > FLOORS.index(floor(each.where)))
        )
    ]
    assert upward == []


def face(package: str) -> set[str]:
    """What a package hands on."""
    return set(getattr(import_module(f"understudy.{package}"), "__all__", ()))


def test_other_packages_are_used_through_their_faces() -> None:
    """A name is imported from the package, or from one of the modules that it names in its ``__all__``."""
    past = []
    for each in all_imports():
        target = floor(each.module)
        if not target or target == floor(each.where):
            continue
        parts = each.module.split(".")
        inner = ".".join(parts[:2]) if ".".join(parts[:2]) == "config.secrets" else target
        rest = each.module[len(inner) + 1 :]
        if (rest or each.name) not in face(inner):
            past.append(str(each))
    assert past == []


@pytest.mark.parametrize("package", FLOORS)
def test_every_name_of_a_face_is_there(package: str) -> None:
    found = import_module(f"understudy.{package}")
    for name in face(package):
        assert hasattr(found, name) or import_module(f"understudy.{package}.{name}")


@pytest.mark.parametrize("package", FLOORS)
def test_every_package_says_what_it_decides_and_never_does(package: str) -> None:
    """In at most ten lines, with a place to begin reading."""
    said = import_module(f"understudy.{package}").__doc__ or ""
    assert len(said.strip().splitlines()) <= 12
    said = " ".join(said.split())
    assert re.search(r"\b(never|nothing)\b", said, re.IGNORECASE), said
    assert "Start with ``" in said


def test_the_core_knows_nobody() -> None:
    """Neither mitmproxy nor asyncio, but for the named modules; whoever is named has to need it."""
    found = set()
    for name, tree in modules():
        if floor(name) in CORE:
            for node in ast.walk(tree):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found |= {(name, top) for each in names if (top := each.partition(".")[0]) in ("mitmproxy", "asyncio")}
    assert found == set(KNOWN)


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also inside a package; what only a function imports does not count."""
    below: dict[str, set[str]] = {}
    names = {name for name, _ in modules()}
    for each in all_imports():
        target = f"{each.module}.{each.name}" if f"{each.module}.{each.name}" in names else each.module
        if target in names and target.count(".") and each.where.count("."):
            below.setdefault(each.where, set()).add(target)
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in below.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in below:
        visit(name, ())
