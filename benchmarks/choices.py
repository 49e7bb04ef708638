"""The models and methods that there are, as a Markdown table: what the first line of each config says of it.

    python -m benchmarks.choices
    python -m benchmarks.choices --into README.md

``--into`` replaces what is between the lines ``<!-- choices -->`` and ``<!-- end of choices -->``.
"""

import argparse
from importlib.resources import files
from pathlib import Path

from benchmarks.page import between

START, END = "<!-- choices -->", "<!-- end of choices -->"
CONF = Path(str(files("c2al.conf")))


def table(*groups: str) -> str:
    """One row a choice, in the order of names."""
    rows = ["| | |", "|---|---|"]
    for group in groups:
        rows += [f"| `{group}={path.stem}` | {_said(path)} |" for path in sorted((CONF / group).glob("*.yaml"))]
    return "\n".join(rows)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, help="a page with both marks")
    asked = parser.parse_args(words)
    text = table("model", "method")
    if not asked.into:
        print(text)
    elif not between(asked.into, text, START, END):
        parser.error(f"{asked.into} has not both marks, {START} and {END}")


def _said(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("# ") for line in lines if line.startswith("# ") and "@package" not in line)


if __name__ == "__main__":
    main()
