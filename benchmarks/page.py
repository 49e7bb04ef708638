"""Results of the benchmarks that have a page, as Markdown with their pictures; into that page, or printed.

    python -m benchmarks.page benchmarks/results/sharding_plans_*.json benchmarks/results/scaling_*.json
    python -m benchmarks.page benchmarks/results/sharding_plans_*.json --into docs/benchmarks.md

``--into`` replaces what is between the lines ``<!-- results -->`` and ``<!-- end of results -->``.
"""

import argparse
import json
import os
from pathlib import Path

from benchmarks.architecture_lines import architecture_markdown
from benchmarks.latency_lines import latency_markdown
from benchmarks.load_lines import load_markdown
from benchmarks.plan_lines import markdown
from benchmarks.scaling_lines import scaling_markdown

START, END = "<!-- results -->", "<!-- end of results -->"


def section(path: Path, *, beside: Path) -> str:
    """One result: a heading, its picture by a path from where the page is, and its tables."""
    found = json.loads(path.read_text())
    if found["what"] == "architectures":
        return architecture_markdown(found)
    if found["what"] == "serving":
        return latency_markdown(found)
    if found["what"].startswith("serving_load"):
        return load_markdown(found)
    kind = "Scaling" if found["what"].startswith("scaling") else "Plans"
    picture = os.path.relpath(path.with_suffix(".png"), beside)
    shown = f"![{found['what']}]({picture})\n\n" if path.with_suffix(".png").exists() else ""
    text = scaling_markdown(found) if kind == "Scaling" else markdown(found)
    return f"### {kind}: {found['name']}\n\n{shown}{text}"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, help="a page with both marks")
    asked = parser.parse_args(words)
    beside = asked.into.parent if asked.into else Path()
    text = "\n".join(section(path, beside=beside) for path in asked.results)
    if not asked.into:
        print(text)
        return
    if not between(asked.into, text, START, END):
        parser.error(f"{asked.into} has not both marks, {START} and {END}")


def between(page: Path, text: str, start: str, end: str) -> bool:
    """Put a text between two marks of a page; False where the page has not both."""
    before, _, rest = page.read_text(encoding="utf-8").partition(start)
    _, found, after = rest.partition(end)
    if found:
        page.write_text(f"{before}{start}\n\n{text}\n{end}{after}", encoding="utf-8")
    return bool(found)


if __name__ == "__main__":
    main()
