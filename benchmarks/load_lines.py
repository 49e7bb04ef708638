"""What ``serving_load`` measured, as a table for the terminal and as Markdown for docs/http.md."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.plan_lines import grid

Case = Mapping[str, Any]
COLUMNS: dict[str, Callable[[Case], str]] = {
    "rows": lambda case: f"{case['rows']:,}",
    "clients": lambda case: f"{case['concurrency']}",
    "requests/s": lambda case: f"{case['requests_per_s']:,.0f}",
    "rows/s": lambda case: f"{case['rows_per_s']:,.0f}",
    "p50 ms": lambda case: _number(case["p50_ms"]),
    "p95 ms": lambda case: _number(case["p95_ms"]),
    "p99 ms": lambda case: _number(case["p99_ms"]),
    "rows a run": lambda case: _number(case["rows_per_run"]),
    "model busy": lambda case: f"{case['model_share']:.0%}",
    "errors": lambda case: f"{case['errors']:,}",
}


def load_table(found: Mapping[str, Any]) -> Table:
    """One line a case."""
    table = Table("form", title=_about(found), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for case in found["cases"]:
        table.add_row(case["form"], *(show(case) for show in COLUMNS.values()))
    return table


def load_markdown(found: Mapping[str, Any]) -> str:
    """The same, with where and how it was measured."""
    hardware, settings = found["hardware"], found["settings"]
    machine = f"{hardware.get('gpu', hardware['processor'])}, {hardware['cores']} cores that the clients share"
    words = f"`c2al serve {' '.join(['model=…', *settings['serve']])}`" if settings["model"] else "a running service"
    how = f"{words}, {settings['seconds']:g} s a line, closed loop over loopback"
    text = f"{_about(found)}. {how}; {machine}, torch {found['versions']['torch']}, {found['date'][:10]}."
    rows = [[case["form"], *(show(case) for show in COLUMNS.values())] for case in found["cases"]]
    return f"{text}\n\n{grid(['form', *COLUMNS], rows)}\n"


def _about(found: Mapping[str, Any]) -> str:
    model, rows = found["model"], "prepared" if found["settings"]["prepared"] else "raw"
    counts = model["columns"]
    columns = f"{counts['dense']} numbers, {counts['single']} single ids, {counts['bags']} bags"
    return f"{model['name']} ({model['kind']}, {model['dtype']}), {rows} rows of {columns}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
