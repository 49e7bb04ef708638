"""What ``architectures`` measured, as a table for the terminal and as Markdown for docs/models.md."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

from benchmarks.plan_lines import about, grid

COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "parameters, dense": lambda cell: f"{cell['parameters']['dense']:,}",
    "in tables": lambda cell: f"{cell['parameters']['tables']:,}",
    "kFLOP a row, forward": lambda cell: f"{cell['flops_per_row']['forward'] / 1e3:,.1f}",
    "and backward": lambda cell: f"{cell['flops_per_row']['step'] / 1e3:,.1f}",
    "rows/s": lambda cell: f"{cell['rows_per_s']:,}",
    "step / DHEN baseline's": lambda cell: f"{cell['ratio']['median']:.2f}",
    "rounds, lowest to highest": lambda cell: f"{cell['ratio']['low']:.2f} to {cell['ratio']['high']:.2f}",
}


def architecture_table(cells: Mapping[str, Mapping[str, Any]]) -> Table:
    """One line a cell."""
    table = Table("model/method", title="One process; ratios are medians over rounds")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, cell in cells.items():
        table.add_row(name, *(show(cell) for show in COLUMNS.values()))
    return table


def architecture_markdown(found: Mapping[str, Any]) -> str:
    """The same, with where and how it was measured."""
    rows = [[name, *(show(cell) for show in COLUMNS.values())] for name, cell in found["cells"].items()]
    settings = found["settings"]
    threads = f", {settings['threads']} threads" if settings["threads"] else ""
    text = f"One process{threads}, batches of {settings['batch_size']:,}, blocks of {settings['steps']} steps."
    return f"{text} {about(found)}\n\n{grid(['model/method', *COLUMNS], rows)}\n"
