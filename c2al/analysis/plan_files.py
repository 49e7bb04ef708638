"""A plan, or a comparison of plans, as files: .json has all numbers, .png is a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c2al.json_text import to_json
from c2al.output_files import check_plan_file
from c2al.plain_files import whole_file
from c2al.schema import DataError


def files_of(to: Any) -> list[Path]:
    """The files that ``to`` names: one, several or none; a DataError at an ending that is neither .json nor .png."""
    files = [Path(each) for each in ([to] if isinstance(to, str) else to or [])]
    for file in files:
        if file.suffix not in (".json", ".png"):
            raise DataError(
                "a plan goes to .json or .png", file=str(file), remedy="to=plan.png, or to=[plan.json,plan.png]"
            )
        check_plan_file(file)
    return files


def write_plan(files: Sequence[Path], report: dict[str, Any]) -> None:
    """Write each, whole or not at all, and print its name."""
    from c2al.analysis.plan_picture import draw, draw_comparison

    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as opened:
            if file.suffix == ".json":
                opened.write(to_json(report, indent=1).encode())
            elif "plans" in report:
                draw_comparison(opened, report)
            else:
                draw(opened, report)
        print(file)
