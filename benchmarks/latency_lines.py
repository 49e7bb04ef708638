"""What ``benchmarks.serving`` measured, as a table for the terminal and as Markdown for docs/serving.md."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from benchmarks.plan_lines import grid

MIB = 2**20


def _head(found: Mapping[str, Any]) -> list[str]:
    batches = found["settings"]["batches"]
    return [
        "form, tables, run",
        *(f"{rows:,}: p50, p99 ms" for rows in batches),
        "rows/s at most",
        "file MiB",
        "memory MiB",
    ]


def _rows(found: Mapping[str, Any]) -> list[list[str]]:
    lines = []
    for name, cell in found["cells"].items():
        times = [f"{each['p50_ms']:.2f}, {each['p99_ms']:.2f}" for each in cell["batches"].values()]
        fastest = max(each["rows_per_s"] for each in cell["batches"].values())
        sizes = [f"{cell[key] / MIB:.1f}" if key in cell else "" for key in ("file_bytes", "memory_bytes")]
        lines.append([name, *times, f"{fastest:,.0f}", *sizes])
    return lines


def _ratio_rows(found: Mapping[str, Any]) -> list[list[str]]:
    lines = []
    for form, each in found["ratios"].items():
        times = [each[str(rows)] for rows in found["settings"]["batches"]]
        told = [f"{one['median']:.2f} ({one['low']:.2f} to {one['high']:.2f})" for one in times]
        lines.append([form, *told, *(f"{each[key]:.3f}" if key in each else "" for key in ("file", "memory"))])
    return lines


def latency_table(found: Mapping[str, Any]) -> Table:
    """One line a cell."""
    table = Table(*_head(found), title="Latency by rows in a call, on one process")
    for line in _rows(found):
        table.add_row(*line)
    return table


def latency_markdown(found: Mapping[str, Any]) -> str:
    """The same, the ratios, and with where and how it was measured."""
    hardware, settings = found["hardware"], found["settings"]
    machine = f"{hardware.get('gpu', hardware['processor'])}, {hardware['cores']} cores"
    where = f"{settings['threads']} threads; {machine}, torch {found['versions']['torch']}, {found['date'][:10]}."
    head = ["C2AL : baseline", *(f"{rows:,} rows" for rows in settings["batches"]), "file", "memory"]
    return (
        f"{where} Memory is what opening and scoring 1,024 rows add to a process.\n\n"
        f"{grid(_head(found), _rows(found))}\n\n"
        f"Call by call, median (quartiles):\n\n{grid(head, _ratio_rows(found))}\n"
    )
