"""With CI set no test is skipped without notice; without it a skip is a skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import skips
from tests.support.skips import NEVER_THERE, refused

TESTS = Path(__file__).parent
SKIPPING = """
import pytest

@pytest.mark.skipif(True, reason="no browser is installed")
def test_by_mark(): ...

def test_while_it_runs():
    pytest.skip("no server is installed")

@pytest.fixture
def server():
    pytest.skip("no port is free")

def test_by_fixture(server): ...

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    assert False

def test_that_passes(): ...
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module_of_ours")\ndef test_never(): ...\n'


def run(folder: Path, *arguments: str, ci: str | None) -> tuple[int, str]:
    """Run pytest over a folder with our hooks alone. Returns its status and what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    environment |= {"PYTHONPATH": str(TESTS.parent), "CI": ci or "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.skips", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-rA", "--rootdir", str(folder), *arguments, str(folder)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("spread", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "xdist"])
def test_a_skip_fails_with_ci(tmp_path: Path, spread: tuple[str, ...]) -> None:
    """By a mark, in the test, in a fixture: each fails and says why; an expected failure stays one."""
    (tmp_path / "test_some.py").write_text(SKIPPING)
    status, said = run(tmp_path, *spread, ci="true")
    assert status == 1, said
    for reason in ("no browser is installed", "no server is installed", "no port is free"):
        assert f"skipped, and with CI=true no test may be: {reason}" in said
    counts = said.strip().splitlines()[-1]
    assert "skipped" not in counts
    assert "1 xfailed" in counts
    assert "1 passed" in counts


def test_a_skipped_module_fails_with_ci(tmp_path: Path) -> None:
    """A module that is skipped while it is imported has no test that could fail."""
    (tmp_path / "test_module.py").write_text(MODULE)
    status, said = run(tmp_path, ci="1")
    assert status == 2, said
    assert "no test may be: could not import 'no_such_module_of_ours'" in said


@pytest.mark.parametrize("ci", [None, "false", "0"])
def test_a_skip_is_a_skip_elsewhere(tmp_path: Path, ci: str | None) -> None:
    """On a developer's machine a test that cannot run fails nobody."""
    (tmp_path / "test_some.py").write_text(SKIPPING)
    (tmp_path / "test_module.py").write_text(MODULE)
    status, said = run(tmp_path, ci=ci)
    assert status == 0, said
    assert "1 passed, 4 skipped, 1 xfailed" in said


def test_what_a_system_never_has_is_listed() -> None:
    """macOS has no /proc; Linux has all that the tests need, so nothing is excused there."""
    no_proc = ("tests/test_tools.py", 89, "Skipped: this system does not tell")
    assert refused(no_proc, "darwin") is None
    assert refused(no_proc, "linux") is not None
    assert NEVER_THERE["linux"] == {}


def test_what_is_listed_is_what_tests_say() -> None:
    """A reason that no test gives any more excuses nothing."""
    sources = [path.read_text("utf-8") for path in TESTS.rglob("test_*.py") if path.name != Path(__file__).name]
    for reasons in NEVER_THERE.values():
        for reason, why in reasons.items():
            assert why
            assert any(f'"{reason}"' in source for source in sources), reason


def test_these_tests_run_under_it(pytestconfig: pytest.Config) -> None:
    """The hooks are those of this very test run."""
    for name in ("pytest_runtest_makereport", "pytest_make_collect_report"):
        functions = [each.function for each in getattr(pytestconfig.hook, name).get_hookimpls()]
        assert getattr(skips, name) in functions
