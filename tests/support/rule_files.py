"""A rule file that is fine, and how a test writes one."""

from __future__ import annotations

from pathlib import Path

GOOD = """\
id: vendor/thing
label: model_unsupported
about: Why.
source: https://vendor.example/docs
status: stable
when:
  code: gone
examples:
  matches:
    - {status: 404, body: {error: {code: gone}}}
  near_misses:
    - {status: 404, body: {error: {code: here}}}
"""


def write(folder: Path, text: str, name: str = "vendor/thing.yaml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file
