"""The wheel: its name, its command, and that the shipped rules are in it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from understudy import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_the_name_and_the_extras(wheel: Path) -> None:
    """The distribution is mitmproxy-understudy: `understudy` is another project on the package index."""
    with zipfile.ZipFile(wheel) as files:
        (metadata,) = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        said = message_from_string(files.read(metadata).decode())
        commands = files.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert said["Name"] == "mitmproxy-understudy"
    assert said["Version"] == __version__
    assert {"bedrock", "metrics"} <= set(said.get_all("Provides-Extra", []))
    assert commands.split() == ["[console_scripts]", "understudy", "=", "understudy.cli:main"]


def test_the_installed_program_knows_the_shipped_rules(wheel: Path, tmp_path: Path) -> None:
    """`understudy rules list` from the files of the wheel alone lists what it lists in the checkout."""
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path)
    code = "import sys, understudy, understudy.cli as cli; print(understudy.__file__); sys.exit(cli.main(sys.argv[1:]))"
    ran = {}
    for name, place in (("wheel", tmp_path), ("checkout", ROOT / "addon")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, "rules", "list"],
            env={**os.environ, "PYTHONPATH": str(place)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        imported, _, ran[name] = done.stdout.partition("\n")
        assert Path(imported).is_relative_to(place)
    assert "general/model_unsupported" in ran["wheel"]
    assert ran["wheel"] == ran["checkout"]
