"""Write the table of the shipped rules into rules/README.md, and that of headers with limits into docs/foresight.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from understudy.limits import shipped_table
from understudy.rules.folders import load_folder, shipped_folder

MARK = "<!-- rules -->\n"


LIMITS_MARK = ("<!-- limits -->\n", "<!-- end of limits -->\n")


def limits() -> Iterator[str]:
    """The table of vendors and their headers, line by line."""
    yield from ("| vendor | headers, for each window | whose | source |", "|---|---|---|---|")
    for vendor in shipped_table().vendors:
        windows = []
        for spec in vendor.specs:
            names = ", ".join(f"`{header}`" for _, header in spec.headers)
            windows.append(f"{spec.name.replace('*', '…')}: {names}")
        whose = ", ".join(dict.fromkeys(spec.whose.value for spec in vendor.specs))
        source = re.sub(r"https://[^ ,]+", lambda found: f"<{found.group()}>", vendor.source)
        yield f"| {vendor.name} | {'<br>'.join(windows)} | {whose} | {source} |"


def write_limits(page: Path) -> None:
    """Put the table of headers between its marks."""
    before, _, rest = page.read_text("utf-8").partition(LIMITS_MARK[0])
    after = rest.partition(LIMITS_MARK[1])[2]
    table = "\n".join(limits())
    page.write_text(f"{before}{LIMITS_MARK[0]}\n{table}\n\n{LIMITS_MARK[1]}{after}", "utf-8")


def main() -> None:
    write_limits(Path(__file__).parents[2] / "docs" / "foresight.md")
    manual = shipped_folder() / "README.md"
    text = manual.read_text("utf-8")
    lines = ["| rule | label | about |", "|---|---|---|"]
    for rule in sorted(load_folder(shipped_folder()), key=lambda rule: rule.id):
        about = re.sub(r"(?<=[.:;])\s.*", "", rule.about).rstrip(":;")
        labels = ", ".join(f"`{label}`" for label in rule.labels)
        lines.append(f"| `{rule.id}` | {labels} | {about} |")
    manual.write_text(text.partition(MARK)[0] + MARK + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
