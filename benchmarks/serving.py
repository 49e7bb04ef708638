"""What a served model costs: latency, rows/s and memory of every form, and C2AL beside the baseline.

    python -m benchmarks.serving
    python -m benchmarks.serving --baseline outputs/cj --c2al outputs/cj-c2al
    python -m benchmarks.page benchmarks/results/serving_….json --into docs/serving.md

Without runs of one's own, both are trained for a few steps on random rows with columns and tables like those of
``source=complete_journey``. A cell is a form (eager, export, aoti), a type of the tables and a run; "plain" is the
same network with one ``nn.EmbeddingBag`` a table, as plain torch has it. All cells of a batch size take turns call by
call, so that a slow minute meets all; ratios are of calls that took turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from benchmarks.latency_lines import latency_table
from benchmarks.record import record
from benchmarks.rows import Ids, write_rows
from benchmarks.shapes import JOURNEY_LONGEST_BAG, schema
from c2al.cli import compose
from c2al.parallel import ranks as process_group
from c2al.serving.artefact import Artefact, open_artefact
from c2al.serving.export import export, model_of
from c2al.serving.inputs import Inputs
from c2al.serving.triton import random_inputs

BATCHES = (1, 64, 1024, 16_384)
FORMS = ("eager", "export", "aoti")
DTYPES = ("fp32", "int8")
LEAST_CALLS, MOST_CALLS = 5, 200
OPENED = """
import sys
from c2al.serving.artefact import open_artefact
from c2al.serving.triton import random_inputs
def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
import numpy, torch
torch.set_num_threads(1)
before = peak()
artefact = open_artefact(sys.argv[1], check=False, trust_code=True)
artefact(random_inputs(artefact, 1024))
print(peak() - before)
"""


class Plain(nn.Module):
    """A served model with a table for each column, as one writes it in plain torch."""

    def __init__(self, artefact: Artefact, model: Any) -> None:
        super().__init__()
        self.columns, self.model = artefact.sparse, model
        matrices = dict(zip(model.lookup.widths, artefact.tables, strict=True))
        self.tables = nn.ModuleList()
        for column in self.columns:
            rows = matrices[column.width][column.base : column.base + column.num_rows].clone()
            self.tables.append(nn.EmbeddingBag.from_pretrained(rows, mode="mean" if column.mean else "sum"))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """One lookup a column, then the same network."""
        single, tokens = iter(torch.from_numpy(inputs.ids_BS).unbind(1)), []
        for column, table in zip(self.columns, self.tables, strict=True):
            if column.multi:
                bag = inputs.bags[column.name]
                lengths = torch.from_numpy(bag.lengths_B)
                tokens.append(table(torch.from_numpy(bag.values_V), lengths.cumsum(0) - lengths))
            else:
                tokens.append(table(next(single).unsqueeze(1)))
        x_BFD = torch.stack(tokens, dim=1)
        if self.model.dense is not None:
            x_BFD = torch.cat([x_BFD, self.model.dense(torch.from_numpy(inputs.dense_BN))], dim=1)
        return self.model.head(self.model.interaction(x_BFD))[:, 0]


def main(words: list[str] | None = None) -> None:
    """Train or take the runs, export, measure, print, record."""
    settings = _settings(words)
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        runs = {"baseline": settings.baseline, "c2al": settings.c2al}
        if None in runs.values():
            runs = {method: _short_run(method, folder, settings) for method in runs}
        files = {
            f"{form} {dtype} {name}": _exported(run, folder, form, dtype, name)
            for form in settings.forms
            for dtype in settings.dtypes
            for name, run in runs.items()
        }
        torch.set_num_threads(settings.threads)  # exporting sets the run's own
        cells: dict[str, Callable[[Inputs], Any]] = {
            name: open_artefact(path, trust_code=True) for name, path in files.items()
        }
        first = next(cell for name, cell in cells.items() if " fp32 " in name)
        assert isinstance(first, Artefact)
        for name, run in runs.items():
            cells[f"plain fp32 {name}"] = Plain(first, model_of(run, step=None, dtype="fp32")).eval()
        found: dict[str, Any] = {name: {"batches": {}} for name in cells}
        for rows in settings.batches:
            _measure(cells, random_inputs(first, rows), rows, settings.seconds, found)
        for name, path in files.items():
            found[name] |= {"file_bytes": Path(path).stat().st_size, "memory_bytes": _memory(path)}
    ratios = {form: _ratios(found, form) for form in dict.fromkeys(name.rpartition(" ")[0] for name in cells)}
    payload = {"settings": vars(settings), "cells": _told(found), "ratios": ratios}
    Console(width=200).print(latency_table(payload))
    print(record("serving", payload))


@torch.inference_mode()
def _measure(
    cells: Mapping[str, Callable[[Inputs], Any]], inputs: Inputs, rows: int, seconds: float, found: dict[str, Any]
) -> None:
    """Every cell in turn, in an order that turns round, until each has had its seconds (5 to 200 calls)."""
    for cell in cells.values():
        cell(inputs)
        cell(inputs)
    times: dict[str, list[float]] = {name: [] for name in cells}
    began = time.perf_counter()
    while True:
        names = list(cells)[:: -1 if len(times[next(iter(cells))]) % 2 else 1]
        for name in names:
            start = time.perf_counter()
            cells[name](inputs)
            times[name].append(time.perf_counter() - start)
        calls = len(times[names[0]])
        if calls >= MOST_CALLS or (calls >= LEAST_CALLS and time.perf_counter() - began > seconds * len(cells)):
            break
    for name, each in times.items():
        found[name]["batches"][str(rows)] = each


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """Times to what they say."""
    told: dict[str, Any] = {}
    for name, cell in found.items():
        batches = {}
        for rows, times in cell["batches"].items():
            p50, p99 = np.percentile(times, [50, 99])
            batches[rows] = {
                "p50_ms": 1000 * p50,
                "p99_ms": 1000 * p99,
                "rows_per_s": int(rows) / p50,
                "calls": len(times),
            }
        told[name] = {**cell, "batches": batches}
    return told


def _ratios(found: Mapping[str, Any], form: str) -> dict[str, Any]:
    """C2AL to baseline, of times call by call, by batch size; and of memory."""
    ours, theirs = found[f"{form} c2al"], found[f"{form} baseline"]
    made: dict[str, Any] = {}
    for rows in ours["batches"]:
        each = [a / b for a, b in zip(ours["batches"][rows], theirs["batches"][rows], strict=True)]
        low, high = np.percentile(each, [25, 75])
        made[rows] = {"median": statistics.median(each), "low": low, "high": high}
    if "memory_bytes" in ours:
        made["memory"] = ours["memory_bytes"] / theirs["memory_bytes"]
        made["file"] = ours["file_bytes"] / theirs["file_bytes"]
    return made


def _memory(path: str) -> int:
    """What opening and scoring 1,024 rows add to a process's peak of resident memory, after the imports."""
    said = subprocess.run([sys.executable, "-c", OPENED, path], capture_output=True, text=True, check=True).stdout
    return 1024 * int(said.split()[-1])


def _exported(run: str, folder: str, form: str, dtype: str, name: str) -> str:
    path = f"{folder}/{form}-{dtype}-{name}.pt2"
    export(run, to=path, format=form, dtype=dtype, say=lambda _: None, quality_rows=4096)
    return path


def _short_run(method: str, folder: str, settings: argparse.Namespace) -> str:
    from c2al.training.train import train

    data, run = f"{folder}/data", f"{folder}/{method}"
    if not Path(data).exists():
        rows = {"train": 65_536, "validation": 8192, "test": 1024}
        write_rows(data, schema("journey", 0), rows, Ids(longest_bag=JOURNEY_LONGEST_BAG))
    words = [f"data.path={data}", f"run_dir={run}", f"method={method}", "data.prepare=null", "progress=false"]
    words += ["cohorts.axis=revenue", "cohorts.head=low", "cohorts.tail=top", "training.steps=5"]
    words += ["training.evaluations=0", "training.snapshots=0", "training.final_splits=[]", *settings.overrides]
    train(compose("config", words))
    process_group.stop()
    return run


def _settings(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", help="a run's folder")
    parser.add_argument("--c2al", help="a run's folder, of the same model on the same data")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--forms", nargs="+", default=list(FORMS))
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell at each batch size")
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", help="config keys, e.g. model=wukong")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
