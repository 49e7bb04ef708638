"""What each verb does with its config: the programs, and the tables that a person reads."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from c2al.schema import DataError, Schema


def prepare(config: Any) -> int:
    """Run a source's prepare function; print what was found and made."""
    from hydra.utils import instantiate

    with PrepareBar(config._target_.split(".")[-2]) as bar:
        schema: Schema = instantiate(config, progress=bar.update)
    print_data(schema, config.to)
    return 0


def train(config: Any) -> int:
    """One run; rank 0 prints its metrics."""
    from c2al.training.train import train as run

    ensure_data(config)
    report = run(config)
    if _is_first():
        print_metrics(report["metrics"])
        print(f"{report['rows_per_s']:,.0f} rows/s · {config.run_dir}/report.json")
    return 0


def evaluate(config: Any) -> int:
    """Evaluate a run's checkpoint on a split."""
    from c2al.training.evaluate_run import evaluate_run

    metrics = evaluate_run(config.run, split=config.split, step=config.step, axes=config.axes)
    if _is_first():
        print_metrics({config.split: metrics})
    return 0


def discover(config: Any) -> int:
    """Rank the pairs of cohorts by a run's predictions; write pairs.json and pairs.png."""
    found = find_pairs(
        config.run,
        to=config.to,
        split=config.split,
        axes=config.axes,
        divergence=config.divergence,
        min_rows=config.min_rows,
        num_permutations=config.num_permutations,
        num_bootstraps=config.num_bootstraps,
        seed=config.seed,
    )
    table = Table(title=f"pairs of cohorts by {config.divergence} divergence of the predictions on {config.split}")
    rows = found.table(config.show)
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    print(f"{config.to}/pairs.json; next: c2al train method=c2al cohorts.pair={config.to}/pairs.json …")
    return 0


def find_pairs(run: str, *, to: str, split: str, axes: Sequence[str] | None, **settings: Any) -> Any:
    """Discovery on a run's scores, made first where the run has none of that split."""
    from omegaconf import OmegaConf

    from c2al.cohorts.discover import discover as search

    path = Path(run)
    if not (path / "config.yaml").exists():
        raise DataError("no run there", file=run, remedy="mend run=…: a folder that `c2al train` made")
    if not (path / "scores" / f"{split}.parquet").exists():
        from c2al.training.evaluate_run import evaluate_run

        evaluate_run(run, split=split, step=None, axes=None)
    schema = Schema.load(OmegaConf.load(path / "config.yaml").data.path)
    names = list(axes) if axes else [axis.name for axis in schema.axes]
    found = search(scores=str(path / "scores" / f"{split}.parquet"), schema=schema, axes=names, **settings)
    found.save(to)
    return found


def plan(config: Any) -> int:
    """Preview a sharding plan without starting a rank."""
    from c2al.parallel.plan import rank_bytes
    from c2al.training.build import place

    ensure_data(config)
    options, optimizer = config.parallel, config.training.sparse.optimizer
    schema = Schema.load(config.data.path)
    placements = place(config, schema, world_size=options.world_size, ranks_per_host=options.ranks_per_host)
    table = Table(title=f"parallel={options.sharding}, {options.world_size} ranks, {optimizer}")
    for name in ("table", "rows × dim", "sharding", "ranks", "MiB"):
        table.add_column(name, justify="left" if name in ("table", "sharding") else "right")
    for each in placements:
        where = f"{each.ranks[0]}–{each.ranks[-1]}" if len(each.ranks) > 1 else str(each.ranks[0])
        mib = each.num_rows * each.dim * 4 / 2**20
        table.add_row(each.table, f"{each.num_rows:,} × {each.dim}", each.sharding, where, f"{mib:,.2f}")
    loads = Table(title="load by rank")
    for name in ("rank", "shards", "weights MiB", "optimizer MiB", ""):
        loads.add_column(name, justify="right" if name else "left")
    totals = rank_bytes(placements, world_size=options.world_size, optimizer=optimizer)
    heaviest = max(each["weight_bytes"] for each in totals)
    for rank, held in enumerate(totals):
        weights, state = held["weight_bytes"] / 2**20, held["optimizer_bytes"] / 2**20
        bar = "█" * round(40 * held["weight_bytes"] / max(1, heaviest))
        loads.add_row(str(rank), str(held["shards"]), f"{weights:,.2f}", f"{state:,.2f}", bar)
    Console().print(table, loads)
    mean = sum(each["weight_bytes"] for each in totals) / len(totals)
    print(f"balance: the heaviest rank holds {heaviest / max(1, mean):.2f} times the mean")
    return 0


def study(config: Any, compose: Callable[[str, list[str]], Any], words: Sequence[str]) -> int:
    """Arms × seeds, paired: study.json, report.html, and the table."""
    import os
    import shutil

    from omegaconf import OmegaConf

    from c2al.analysis.markdown import write_markdown
    from c2al.analysis.report import write_report
    from c2al.analysis.study import Plan, run_study
    from c2al.analysis.verdict import terminal_table

    options = config.study
    overrides = [word for word in words if not word.startswith(("study.", "-"))]
    if config.overwrite:
        shutil.rmtree(options.dir, ignore_errors=True)
    ensure_data(config)

    def compose_run(own: Sequence[str]) -> dict[str, Any]:
        run = OmegaConf.to_container(compose("study", [*overrides, *own, "overwrite=false"]), resolve=True)
        assert isinstance(run, dict)
        return {str(key): value for key, value in run.items() if key != "study"}

    settings: Any = OmegaConf.to_container(options.discover)
    arms = {name: list(options.variants.get(name, [f"method={name}"])) for name in options.arms}

    def search(run: str, folder: str) -> None:
        Console(stderr=True).print("looking for the pair of cohorts …")
        find_pairs(run, to=folder, split="validation", **settings)

    devices = _num_gpus()
    found = run_study(
        Plan(
            name=options.name,
            folder=options.dir,
            arms=arms,
            reference=options.reference,
            seeds=list(options.seeds),
            split=options.split,
            bootstraps=options.bootstraps,
            workers=options.workers or devices or os.cpu_count() or 1,
            devices=devices,
        ),
        compose=compose_run,
        find_pairs=search,
    )
    path = write_report(found, options.dir)
    write_markdown(found, options.dir)
    Console().print(terminal_table(found))
    print(f"{path} ({found['seconds'] / 60:.1f} min)")
    return 0


def report(config: Any) -> int:
    """Write a study's report again."""
    import json

    from c2al.analysis.markdown import write_markdown
    from c2al.analysis.report import write_report
    from c2al.analysis.verdict import terminal_table

    path = Path(config.study) / "study.json"
    if not path.exists():
        raise DataError("no study there", file=str(path), remedy="mend study=…: a folder that `c2al study` made")
    found = json.loads(path.read_text())
    Console().print(terminal_table(found))
    print(f"{write_report(found, config.study)}\n{write_markdown(found, config.study)}")
    return 0


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


def ensure_data(config: Any) -> None:
    """Make the data that the config can make, where it is not there yet (rank 0; the others wait for the schema)."""
    from hydra.utils import instantiate

    made = Path(config.data.path) / "schema.yaml" if "://" not in config.data.path else None
    if config.data.prepare is None or made is None or made.exists():
        return
    if _is_first():
        print(f"making {config.data.path} …", file=sys.stderr, flush=True)
        instantiate(config.data.prepare, to=config.data.path)
        return
    import time

    while not made.exists():  # before there is a process group to wait in
        time.sleep(0.2)


def print_data(schema: Schema, folder: str) -> None:
    """What a prepared folder holds, and the numbers to check it by."""
    table = Table(title=f"{schema.name}: {folder}")
    for name in ("split", "rows", "positives", "weighted rate"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in schema.splits.items():
        rate = split.positive_weight / split.weight if split.weight else float("nan")
        table.add_row(name, f"{split.rows:,}", f"{split.positives:,}", f"{rate:.5%}")
    console = Console()
    console.print(table)
    for note in ("found", "check_numbers"):
        if isinstance(rows := schema.notes.get(note), list) and rows:
            detail = Table(title=note.replace("_", " "))
            for column in rows[0]:
                detail.add_column(column)
            for row in rows:
                detail.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
            console.print(detail)
        elif rows:
            console.print({note: rows})
    axes = ", ".join(f"{axis.name} ({len(axis.cohorts)})" for axis in schema.axes)
    print(f"{len(schema.sparse)} sparse and {len(schema.dense)} dense columns; cohort axes: {axes or 'none'}")


def print_metrics(metrics: dict[str, Any]) -> None:
    """Metrics of each split, overall and per cohort."""
    for split, values in metrics.items():
        table = Table(title=split)
        for name in ("", "NE", "AUC", "calibration", "rows", "positives"):
            table.add_column(name, justify="right" if name else "left")
        cells = {"overall": values["overall"]}
        cells |= {
            f"{axis}: {cohort}": cell for axis, cohorts in values["cohorts"].items() for cohort, cell in cohorts.items()
        }
        for name, cell in cells.items():
            numbers = ("–" if cell[key] is None else f"{cell[key]:.5f}" for key in ("ne", "auc", "calibration"))
            table.add_row(name, *numbers, f"{cell['rows']:,}", f"{cell['positives']:,}")
        Console().print(table)


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _is_first() -> bool:
    import os

    return int(os.environ.get("RANK", 0)) == 0
