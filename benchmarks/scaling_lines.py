"""What ``benchmarks.scaling`` found, in the terminal and as Markdown."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.plan_lines import about, grid

KINDS = ("weak", "strong")
HEAD = ("", "ranks x threads", "rows a rank", "rows/s", "times 1x1", "stock rows/s", "times 1x1", "c2al : stock")
WANTED = 0.9  # rows/s of 2 ranks x 1 thread over those of 1 rank x 2 threads, for table-wise Complete Journey


def scaling_table(found: Mapping[str, Any]) -> Table:
    """A line a case."""
    shown = Table(title=title(found), title_justify="left", box=SIMPLE_HEAD)
    for name in HEAD:
        shown.add_column(name, justify="right" if name else "left")
    for line in lines(found):
        shown.add_row(*line)
    return shown


def title(found: Mapping[str, Any]) -> str:
    """What was measured."""
    tables, settings = found["tables"], found["settings"]
    shapes = f"{found['name']}: {tables['count']} tables, {tables['rows']:,} rows, parallel={settings['sharding']}"
    return f"{shapes}; {settings['batch_size']:,} rows a step and rank (weak) or in all (strong)"


def lines(found: Mapping[str, Any]) -> list[list[str]]:
    """The cells of each case, weak ones first."""
    return [
        [
            case["kind"],
            f"{case['ranks']}x{case['threads']}{' (more than there are cores)' if case['oversubscribed'] else ''}",
            f"{case['batch_size']:,}",
            *(
                cell
                for own in ("", "stock_")
                for cell in (_middle(case.get(f"{own}rows_per_s"), ",.0f"), _middle(case.get(f"{own}speedup"), ".2f"))
            ),
            _middle(case.get("to_stock"), ".3f"),
        ]
        for kind in KINDS
        for case in found["cases"]
        if case["kind"] == kind
    ]


def words(found: Mapping[str, Any]) -> list[str]:
    """The ratio of two ranks to two threads, against what is wanted."""
    said = []
    for kind, ratio in found["two_ranks"].items():
        own = ratio["rows_per_s"]
        line = f"{kind}: rows/s of 2 ranks x 1 thread over 1 rank x 2 threads: {own['median']:.2f} "
        line += f"({own['low']:.2f} to {own['high']:.2f})"
        line += f"; stock {ratio['stock_rows_per_s']['median']:.2f}" if "stock_rows_per_s" in ratio else ""
        if kind == "weak" and "journey" in found["name"] and found["settings"]["sharding"] == "table_wise":
            line += f" (wanted at least {WANTED}: {'met' if own['median'] >= WANTED else 'MISSED'})"
        said.append(line)
    return said


def _middle(found: Mapping[str, Any] | None, form: str) -> str:
    return f"{found['median']:{form}}" if found else ""


def scaling_markdown(found: Mapping[str, Any]) -> str:
    """The same for docs/benchmarks.md."""
    said = "\n".join(f"* {line}" for line in words(found))
    return f"{title(found)}. {about(found)}\n\n{grid(HEAD, lines(found))}\n\n{said}\n"
