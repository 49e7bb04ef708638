"""Every model and method beside the DHEN baseline: parameters, FLOPs a row, rows/s, and how long its step takes.

    python -m benchmarks.architectures
    python -m benchmarks.architectures --cells wukong/c2al dhen/c2al --threads 1
    python -m benchmarks.page benchmarks/results/architectures_….json --into docs/models.md

A cell is a model and a method. Without ``--cells``: every model with baseline and C2AL, and DHEN with every method.
Each takes turns with the DHEN baseline, a block of steps each, the whole way (reader, pipeline, fused tables,
optimizers), and the ratio is the median over rounds. FLOPs are torch's count of the dense part's matrix products,
forward and backward. The rows are random, with columns and table sizes like those of ``source=complete_journey``.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from typing import Any

import torch
from rich.console import Console
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architecture_lines import architecture_table
from benchmarks.record import record
from benchmarks.rows import Ids, write_pairs, write_rows
from benchmarks.shapes import JOURNEY_LONGEST_BAG, schema
from c2al.cli import compose
from c2al.key_help import CONF
from c2al.model import Ranker, num_parameters
from c2al.parallel import ranks as process_group
from c2al.parallel.ranks import Ranks
from c2al.training.run_folder import RunFolder
from c2al.training.train import Training

REFERENCE = "dhen/baseline"
HISTORY = ["model.sequences={m0:20}", "model.target=s0"]  # recent_products and product, in journey's shape
WINDOW_STEPS = 16  # short, so that reading ahead never rests


class Cell:
    """One run under way: blocks of its steps by the clock, and what it counts."""

    def __init__(self, name: str, settings: argparse.Namespace, folder: RunFolder, ranks: Ranks) -> None:
        model, _, method = name.partition("/")
        self.num_steps, self.batch_size, self.device = settings.steps, settings.batch_size, ranks.device
        overrides = [f"data.path={settings.data}", f"run_dir={folder.path}", f"model={model}", f"method={method}"]
        overrides += ["cohorts.axis=revenue", "cohorts.head=low", "cohorts.tail=top", "training.steps=1000000"]
        if method == "c2al_least":  # it looks for one pair of several
            overrides.append(f"cohorts.pair={settings.pairs}")
        if model == "sasrec":
            overrides += HISTORY
        overrides += [f"training.batch_size={settings.batch_size}", "training.evaluations=0"]
        overrides += [f"training.window_rows={WINDOW_STEPS * settings.batch_size}"]
        self.training = Training(compose("config", overrides + settings.overrides), ranks, folder)
        self.training.begin()
        self.steps = iter(self.training.loop)
        self.step_s()  # warms up

    def step_s(self) -> float:
        """Seconds a step, mean over a block."""
        start_s = self._now()
        for _ in range(self.num_steps):
            next(self.steps)
        return (self._now() - start_s) / self.num_steps

    def counts(self) -> dict[str, Any]:
        """Parameters, and FLOPs of a row; attention is counted by its matrix products, of which kernels hide some."""
        assert self.training.loop.fed
        batch = self.training.loop.fed.recent[-1][1].to(self.device)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            loss = self.training.sharded(batch)[0]
            forward = counter.get_total_flops()
            loss.backward()
        flops = {"forward": forward / len(batch), "step": counter.get_total_flops() / len(batch)}
        ranker = next(each for each in self.training.sharded.modules() if isinstance(each, Ranker))
        return {"parameters": num_parameters(ranker), "flops_per_row": flops}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def main(words: list[str] | None = None) -> None:
    """Measure, print and record."""
    settings = _settings(words)
    with tempfile.TemporaryDirectory() as temporary:
        settings.data = f"{temporary}/data"
        settings.pairs = write_pairs(f"{temporary}/pairs.json", "revenue", ("low", "top"), ("middle", "high"))
        rows = {"train": settings.rows, "validation": settings.rows}
        write_rows(settings.data, schema("journey", 0), rows, Ids(longest_bag=JOURNEY_LONGEST_BAG))
        ranks = process_group.start(threads=settings.threads)
        try:
            cells = {name: _measure(name, settings, temporary, ranks) for name in settings.cells}
        finally:
            process_group.stop()
    settings.data, settings.pairs = "random rows", "of revenue"
    Console().print(architecture_table(cells))
    print(record("architectures", {"settings": vars(settings), "reference": REFERENCE, "cells": cells}))


def _measure(name: str, settings: argparse.Namespace, temporary: str, ranks: Ranks) -> dict[str, Any]:
    """A cell beside the reference, in turns; who comes first changes every round."""
    with ExitStack() as stack:
        own, reference = (
            Cell(each, settings, stack.enter_context(RunFolder(f"{temporary}/{name}/{i}", ranks=ranks)), ranks)
            for i, each in enumerate((name, REFERENCE))
        )
        rounds = []
        for index in range(settings.rounds):
            order = (own, reference) if index % 2 else (reference, own)
            seconds = {each: each.step_s() for each in order}
            rounds.append((seconds[own], seconds[reference]))
        counts = own.counts()
    ratios = [ours / theirs for ours, theirs in rounds]
    step_s = statistics.median(ours for ours, _ in rounds)
    return counts | {
        "step_ms": round(1000 * step_s, 3),
        "rows_per_s": round(settings.batch_size / step_s),
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "rounds": ratios},
    }


def _all_cells() -> list[str]:
    """Every model with and without the cohort heads, and DHEN with every other method."""
    models, methods = (sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("model", "method"))
    first = [f"{model}/{method}" for model in models for method in ("baseline", "c2al")]
    return first + [cell for method in methods if (cell := f"dhen/{method}") not in first]


def _settings(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=_all_cells(), help="model/method")
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=6, help="in a block")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", help="config keys, e.g. model.dim=32")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
