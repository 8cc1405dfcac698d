"""Write the table of the shipped rules into rules/README.md."""

from __future__ import annotations

import re

from understudy.rules.folders import load_folder, shipped_folder

MARK = "<!-- rules -->\n"


def main() -> None:
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
