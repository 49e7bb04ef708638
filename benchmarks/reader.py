"""Rows per second of reading alone: parquet -> Batch, one process on two cores.

    python -m benchmarks.reader
    python -m benchmarks.reader --rows 8388608 --epochs 9 --batch-size 8192

Rows have 20 single-valued features, 4 dense columns and 2 cohort axes; a second set has two multi-valued features more.
Epochs of the cases take turns, so that a disturbance meets all. ``parquet`` is pyarrow reading the same columns and
nothing else. At least 1 M rows/s are wanted for shuffled rows without multi-valued features.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.record import record
from benchmarks.rows import Ids, write_rows
from c2al.data.reader import Reader
from c2al.schema import CohortAxis, DenseColumn, Schema, SparseColumn

WANTED_ROWS_PER_S = 1_000_000
NUM_SINGLE, NUM_DENSE, NUM_COHORTS = 20, 4, 7
TABLE_ROWS = (100_000, 10_000, 1_000, 100)  # of the single-valued features in turn
BAG_ROWS, LONGEST_BAG = 50_000, 20


@dataclass
class Case:
    """Something to time: ``run(epoch)`` gives the rows that it read."""

    name: str
    run: Callable[[int], int]
    file_bytes: int
    seconds: list[float]

    def row(self, num_rows: int) -> dict[str, Any]:
        """Rates of the median, slowest and fastest epoch."""
        middle, slowest, fastest = statistics.median(self.seconds), max(self.seconds), min(self.seconds)
        rates = {"rows_per_s": middle, "slowest_rows_per_s": slowest, "fastest_rows_per_s": fastest}
        bytes_per_row = round(self.file_bytes / num_rows, 1)
        return {"case": self.name, "file_bytes_per_row": bytes_per_row} | {
            k: round(num_rows / s) for k, s in rates.items()
        }


def main() -> None:
    settings = _settings()
    _use_cores(settings.cores)
    with tempfile.TemporaryDirectory() as temporary:
        cases = []
        for num_bags in (0, 2):
            folder = f"{temporary}/{num_bags}"
            _generate(folder, settings.rows, num_bags)
            cases += _cases(
                folder, f"{NUM_SINGLE} single" + f" + {num_bags} multi" * bool(num_bags), settings.batch_size
            )
        for epoch in range(settings.epochs + 1):
            for case in cases:
                start_s = time.perf_counter()
                assert case.run(epoch) == settings.rows
                if epoch:  # the first warms the page cache and the allocator
                    case.seconds.append(time.perf_counter() - start_s)
    rows = [case.row(settings.rows) for case in cases]
    for row in rows:
        rates = "  ".join(f"{row[name]:>10,}" for name in list(row)[2:])
        print(f"{row['case']:<32}{row['file_bytes_per_row']:>6} B/row   {rates}  rows/s (median, slowest, fastest)")
    met = rows[0]["rows_per_s"] >= WANTED_ROWS_PER_S
    print(f"wanted: {WANTED_ROWS_PER_S:,} rows/s of {rows[0]['case']}: {'met' if met else 'MISSED'}")
    print(
        record(
            "reader", {"settings": vars(settings), "wanted_rows_per_s": WANTED_ROWS_PER_S, "met": met, "cases": rows}
        )
    )


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_097_152)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--cores", type=int, default=2)
    return parser.parse_args()


def _use_cores(cores: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(cores)
    pa.set_cpu_count(cores)


def _cases(folder: str, name: str, batch_size: int) -> list[Case]:
    axes = ["a0", "a1"]
    shuffled = Reader(folder=folder, split="train", batch_size=batch_size, axes=axes, shuffle=True)
    in_order = Reader(folder=folder, split="train", batch_size=batch_size, axes=axes)
    files = sorted(Path(folder, "train").glob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    return [
        Case(f"{name}, shuffled", partial(_read, shuffled), size, []),
        Case(f"{name}, in order", partial(_read, in_order), size, []),
        Case(f"{name}, parquet", partial(_decode, files), size, []),
    ]


def _read(reader: Reader, epoch: int) -> int:
    return sum(len(batch) for batch in reader.batches(epoch))


def _decode(files: list[Path], _: int) -> int:
    num_rows = 0
    for path in files:
        with pq.ParquetFile(path) as file:
            num_rows += sum(file.read_row_group(index).num_rows for index in range(file.num_row_groups))
    return num_rows


def _generate(folder: str, num_rows: int, num_bags: int) -> None:
    singles = [SparseColumn(f"s{i}", TABLE_ROWS[i % len(TABLE_ROWS)]) for i in range(NUM_SINGLE)]
    bags = [SparseColumn(f"m{i}", BAG_ROWS, multi=True) for i in range(num_bags)]
    dense = [DenseColumn(f"d{i}") for i in range(NUM_DENSE)]
    axes = [CohortAxis(f"a{i}", tuple(str(cohort) for cohort in range(NUM_COHORTS))) for i in range(2)]
    schema = Schema("benchmark", "label", (*singles, *bags), tuple(dense), tuple(axes), "weight")
    write_rows(folder, schema, {"train": num_rows}, Ids(longest_bag=LONGEST_BAG))


if __name__ == "__main__":
    main()
