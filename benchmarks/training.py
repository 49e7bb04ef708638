"""Training DHEN in one process: rows/s, the parts of a step, the price of the C2AL heads, the distance to the floor.

    python -m benchmarks.training
    python -m benchmarks.training --data DIR --axis revenue --threads 1

Two runs, baseline and C2AL, go the whole way (reader, pipeline, fused tables, optimizers) in blocks of steps that take
turns, so that a disturbance meets both; a round is a block of each, then its products and table reads alone. Ratios are
medians over rounds. Wanted: the C2AL heads cost at most 5 % of a step, and a step takes at most 2 times the matrix
products and table reads that it cannot do without. Table reads alone are given twice: the lookup, and lookup, backward
and fused update. The bar is the stricter of the two, the lookup.

Without ``--data`` the rows are random, with columns and table sizes like those of ``source=complete_journey``.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.alone import Products, TableReads
from benchmarks.record import record
from benchmarks.rows import Ids, write_rows
from benchmarks.shapes import JOURNEY_LONGEST_BAG, schema
from benchmarks.stopwatch import PARTS, Stopwatch
from c2al.cli import compose
from c2al.data.reader import Reader
from c2al.model import Ranker
from c2al.parallel import ranks as process_group
from c2al.parallel.ranks import Ranks
from c2al.schema import Schema
from c2al.training.run_folder import RunFolder
from c2al.training.train import Training

METHODS = ("baseline", "c2al")
WANTED_HEADS, WANTED_FLOOR = 1.05, 2.0
WINDOW_STEPS = 16  # short, so that reading ahead never rests


class Arm:
    """One run under way: blocks of its steps by the clock, and what a step needs at the least."""

    def __init__(self, method: str, settings: argparse.Namespace, folder: RunFolder, ranks: Ranks) -> None:
        self.num_steps = settings.steps
        cohorts = Schema.load(settings.data).axis(settings.axis).cohorts
        overrides = [f"data.path={settings.data}", f"run_dir={folder.path}", f"method={method}"]
        overrides += [f"cohorts.axis={settings.axis}", f"cohorts.head='{cohorts[0]}'", f"cohorts.tail='{cohorts[-1]}'"]
        overrides += [f"training.batch_size={settings.batch_size}", "training.steps=1000000"]
        overrides += [f"training.window_rows={WINDOW_STEPS * settings.batch_size}"]
        config = compose("config", overrides + settings.overrides)
        self.training = Training(config, ranks, folder)
        self.training.begin()
        self.stopwatch = Stopwatch(self.training)
        self.steps = iter(self.training.loop)
        self.block()
        assert self.training.loop.fed
        batch = self.training.loop.fed.recent[-1][1].to(ranks.device)
        with Products() as self.products:
            self.training.sharded(batch)[0].backward()
        ranker = next(each for each in self.training.sharded.modules() if isinstance(each, Ranker))
        self.tables = TableReads(ranker.embedding, batch)

    def block(self) -> dict[str, float]:
        """Seconds a step of each part, mean over a block of steps."""
        self.stopwatch.start()
        for _ in range(self.num_steps):
            next(self.steps)
        self.stopwatch.mark("rest")
        return {part: self.stopwatch.seconds[part] / self.num_steps for part in PARTS}

    def alone(self) -> dict[str, float]:
        """Seconds of a step's products, of its lookup, and of its lookup with backward and update."""
        work: dict[str, Callable[[], None]] = {
            "products": self.products.replay,
            "lookup": self.tables.lookup,
            "lookup and update": self.tables.update,
        }
        return {name: self._mean_s(function) for name, function in work.items()}

    def _mean_s(self, function: Callable[[], None]) -> float:
        start_s = self.stopwatch.now()
        for _ in range(self.num_steps):
            function()
        return (self.stopwatch.now() - start_s) / self.num_steps


def main() -> None:
    settings = _settings()
    with tempfile.TemporaryDirectory() as temporary:
        if settings.data is None:
            settings.data, settings.axis = f"{temporary}/data", "revenue"
            rows = dict.fromkeys(("train", "validation"), settings.rows)
            write_rows(settings.data, schema("journey", 0), rows, Ids(longest_bag=JOURNEY_LONGEST_BAG))
        ranks = process_group.start()
        try:
            with ExitStack() as stack:
                folders = {each: RunFolder(f"{temporary}/{each}", ranks=ranks) for each in METHODS}
                arms = {each: Arm(each, settings, stack.enter_context(folders[each]), ranks) for each in METHODS}
                cases = [_measure(arms, threads, settings) for threads in settings.threads]
        finally:
            process_group.stop()
    products = {name: arm.products.shapes() for name, arm in arms.items()}
    for case in cases:
        _print(case, {name: sum(each["flops"] for each in shapes) for name, shapes in products.items()})
    wanted = {"heads_cost": WANTED_HEADS, "step_to_floor": WANTED_FLOOR}
    settings.data = "random rows" if settings.data.startswith(temporary) else Path(settings.data).name
    print(record("training", {"settings": vars(settings), "wanted": wanted, "cases": cases, "products": products}))


def _measure(arms: dict[str, Arm], threads: int, settings: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(threads)
    rounds = []
    for index in range(settings.rounds + 1):
        names = list(arms)[:: 1 if index % 2 else -1]
        measured = {name: {"parts": arms[name].block(), "alone": arms[name].alone()} for name in names}
        if index:  # the first warms the allocator up at this number of threads
            rounds.append(measured)
    case: dict[str, Any] = {
        "threads": threads,
        "heads_cost": _median([_step_s(each["c2al"]) / _step_s(each["baseline"]) for each in rounds]),
        "reading_alone": _reading_alone(settings),
    }
    for name in arms:
        step_s = _median([_step_s(each[name]) for each in rounds])
        case[name] = {
            "rows_per_s": round(settings.batch_size / step_s),
            "step_ms": _ms(step_s),
            "parts_ms": {part: _ms(_median([each[name]["parts"][part] for each in rounds])) for part in PARTS},
            "alone_ms": {
                key: _ms(_median([each[name]["alone"][key] for each in rounds])) for key in rounds[0][name]["alone"]
            },
            "step_to_floor": _median([_step_s(each[name]) / _floor_s(each[name], "lookup") for each in rounds]),
            "step_to_floor_with_update": _median(
                [_step_s(each[name]) / _floor_s(each[name], "lookup and update") for each in rounds]
            ),
        }
    return case


def _step_s(measured: dict[str, dict[str, float]]) -> float:
    return sum(measured["parts"].values())


def _floor_s(measured: dict[str, dict[str, float]], reads: str) -> float:
    return measured["alone"]["products"] + measured["alone"][reads]


def _reading_alone(settings: argparse.Namespace) -> int:
    """Of the same rows at the same size of batch and cores, nothing else running."""
    reader = Reader(
        folder=settings.data, split="train", batch_size=settings.batch_size, axes=[settings.axis], shuffle=True
    )
    start_s = time.perf_counter()
    num_rows = sum(len(batch) for batch in reader.batches())
    return round(num_rows / (time.perf_counter() - start_s))


def _print(case: dict[str, Any], flops: dict[str, int]) -> None:
    arms = {name: case[name] for name in flops}
    table = Table(title=f"DHEN, one process, {case['threads']} thread{'s' * (case['threads'] > 1)}: ms a step (share)")
    for name in ("", *arms):
        table.add_column(name, justify="right" if name else "left")
    for part in PARTS:
        each = (arm["parts_ms"][part] for arm in arms.values())
        table.add_row(
            part, *(f"{ms:.2f} ({ms / arm['step_ms']:4.0%})" for ms, arm in zip(each, arms.values(), strict=True))
        )
    table.add_row("step", *(f"{arm['step_ms']:.2f}" for arm in arms.values()), end_section=True)
    for key in next(iter(arms.values()))["alone_ms"]:
        table.add_row(f"alone: {key}", *(f"{arm['alone_ms'][key]:.2f}" for arm in arms.values()))
    table.add_row("products, Gflop", *(f"{flops[name] / 1e9:.2f}" for name in arms), end_section=True)
    table.add_row("rows/s", *(f"{arm['rows_per_s']:,}" for arm in arms.values()))
    for key, text in (("step_to_floor", "lookup"), ("step_to_floor_with_update", "lookup and update")):
        table.add_row(f"step / (products + {text})", *(f"{arm[key]:.2f}" for arm in arms.values()))
    Console().print(table)
    floor, cost, reading = max(arm["step_to_floor"] for arm in arms.values()), case["heads_cost"], case["reading_alone"]
    print(f"C2AL step / baseline step: {cost:.3f} (wanted ≤ {WANTED_HEADS}: {_verdict(cost <= WANTED_HEADS)})")
    print(f"step / floor: {floor:.2f} (wanted ≤ {WANTED_FLOOR}: {_verdict(floor <= WANTED_FLOOR)})")
    print(f"reading alone: {reading:,} rows/s, {reading / arms['baseline']['rows_per_s']:.0f} times training")


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a prepared folder; random rows without")
    parser.add_argument("--axis", default="revenue", help="whose first and last cohort get the heads")
    parser.add_argument("--rows", type=int, default=524_288, help="of random data")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=16, help="in a block")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", help="config keys, e.g. model.dim=32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
