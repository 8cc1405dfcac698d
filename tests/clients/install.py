"""Installs the programs of the matrix from their registries, by pinned version, into .clients of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.clients.catalogue import CACHE, SCRIPTS

HERE = Path(__file__).parent


def install() -> list[str]:
    """Install what is not there in this version yet; returns what could not be installed."""
    CACHE.mkdir(exist_ok=True)
    failed = []
    for line in (HERE / "requirements.txt").read_text().splitlines():
        name, colon, packages = line.partition(": ")
        if colon and not line.startswith("#") and not _python(name, packages.split()):
            failed.append(packages)
    if not _npm():
        failed.append("npm packages")
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, CACHE / "npm")
    return failed


def _python(name: str, packages: Sequence[str]) -> bool:
    stamp = CACHE / name / "installed"
    if stamp.exists() and stamp.read_text() == " ".join(packages):
        return True
    interpreter: str | Path = CACHE / name / "bin" / "python"
    pip = [interpreter, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages]
    fine = _run([sys.executable, "-m", "venv", "--clear", CACHE / name]) and _run(pip)
    if fine:
        stamp.write_text(" ".join(packages))
    return fine


def _npm() -> bool:
    folder, wanted = CACHE / "npm", (HERE / "package.json").read_text()
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text(wanted)
    # Their install scripts put the program for this machine in place; npm 11 wants them to be named in package.json.
    fine = _run(["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel", "error"])
    if fine:
        stamp.write_text(wanted)
    return fine


def _run(command: Sequence[str | Path]) -> bool:
    print("==>", *command, flush=True)
    try:
        return subprocess.run([str(word) for word in command], check=False).returncode == 0
    except OSError as error:
        print(f"{command[0]}: {error.strerror}")
        return False
