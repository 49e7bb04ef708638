"""What the verbs show a person in the terminal: tables and a bar, in 80 columns."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from c2al.printable import printable
from c2al.schema import Schema


def print_pairs(found: Any, num_pairs: int, *, title: str) -> None:
    """The first pairs of a discovery, two lines each, in 80 columns."""
    table = Table(title=Text(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.caption = "intervals hold for all pairs at once; sure: all of it above what a negligible shift would give"
    table.add_column("head over tail", overflow="fold")
    for name in (found.divergence, "p (Holm)", "rows", "positive rate"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sure", no_wrap=True)
    for row in found.table(num_pairs):
        rows, rates = (row[name].replace(" / ", "\n") for name in ("rows", "positive rate"))
        names = f"{row['rank']}. {row['axis']}: {row['head']}\n   {row['tail']}"
        interval = next(value for name, value in row.items() if name.endswith("interval"))
        table.add_row(
            Text(names), f"{row[found.divergence]}\n{interval}", row["p (Holm)"], rows, rates, row["significant"]
        )
    Console().print(table)
    if found.pairs and not found.pairs[0].significant:
        print(f"the first pair is not a sure one: {found.pairs[0].verdict}")


def print_words(found: Any) -> None:
    """What sets each learned cohort apart, and how far labels bear out the first pair where it is of such cohorts."""
    for axis, words in found.words.items():
        print(printable(axis))
        for cohort, text in words.items():
            print(f"  {printable(cohort)}: {printable(text, most=500)}")
    first = found.pairs[0] if found.pairs else None
    if first and first.borne_out:
        share, least = first.borne_out
        print(f"first pair: labels bear out {share:.2f} of the predicted difference (at least {max(least, 0):.2f})")


class PrepareBar:
    """A bar over the rows that are prepared; spins while their number is unknown."""

    def __init__(self, title: str) -> None:
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> "PrepareBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show so many of all; ``total`` is 0 while unknown."""
        self._bar.update(self._task, completed=done, total=total or None)


def print_data(schema: Schema, folder: str) -> None:
    """What a prepared folder holds, and the numbers to check it by."""
    table = Table(title=Text(printable(f"{schema.name}: {folder}")))
    for name in ("split", "rows", "positives", "weighted rate"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in schema.splits.items():
        rate = split.positive_weight / split.weight if split.weight else float("nan")
        table.add_row(name, f"{split.rows:,}", f"{split.positives:,}", f"{rate:.5%}")
    console = Console()
    console.print(table)
    for note in ("found", "check_numbers"):
        rows = schema.notes.get(note)
        if isinstance(rows, dict):
            rows = [{"": name, **values} for name, values in rows.items() if isinstance(values, dict)]
        if rows:
            title = note.replace("_", " ")
            counted = schema.notes.get("rows_counted") if note == "found" else None
            console.print(_details(f"{title} in all {counted:,} rows" if counted else title, rows))
    if how := schema.notes.get("split"):
        print(f"split {how}")
    if left_out := schema.notes.get("left_out"):
        print(left_out)
    axes = ", ".join(f"{printable(axis.name)} ({len(axis.cohorts)})" for axis in schema.axes)
    for warning in schema.notes.get("warnings", ()):
        print(f"warning: {warning}")
    print(f"{len(schema.sparse)} sparse and {len(schema.dense)} dense columns; cohort axes: {axes or 'none'}")


def _details(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right" if isinstance(rows[0][name], int) else "left")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else Text(printable(value)) for value in row.values()))
    return table


def print_metrics(metrics: dict[str, Any]) -> None:
    """Metrics of each split, overall and per cohort."""
    for split, values in metrics.items():
        table = Table(title=Text(printable(split)))
        for name in ("", "NE", "AUC", "calibration", "rows", "positives"):
            table.add_column(name, justify="right" if name else "left")
        cells = {"overall": values["overall"]}
        cells |= {
            f"{axis}: {cohort}": cell for axis, cohorts in values["cohorts"].items() for cohort, cell in cohorts.items()
        }
        for name, cell in cells.items():
            numbers = [_number(cell[key]) for key in ("ne", "auc", "calibration")]
            if cell.get("auc_error", 0.0) >= 0.5e-5:  # else within the last digit shown
                numbers[1] += f" ±{cell['auc_error']:.0e}"
            table.add_row(Text(printable(name)), *numbers, f"{cell['rows']:,}", f"{cell['positives']:,}")
        Console().print(table)


def _number(value: float | None) -> str:
    """Five decimals, or as many digits where the number is very large; a dash where it is not defined."""
    if value is None:
        return "–"
    return f"{value:.5f}" if abs(value) < 1e6 else f"{value:.5g}"
