"""Rows/s over ranks and threads, weak and strong, of c2al and of TorchRec's plain loop, on one host.

    python -m benchmarks.scaling data=complete_journey data.path=DIR
    python -m benchmarks.scaling shapes=criteo rows=10_000_000 parallel=row_wise sizes=[1x1,2x1,4x1]

``sizes`` are ranks x threads. Weak: ``training.batch_size`` rows a step and rank; strong: as many on all ranks.
Takes every override of ``c2al train``; the plan is ``parallel=…``, here table_wise by default. A round starts each size
once, in a process group of its own, each round in another order; c2al's loop and the plain one take turns in it.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from benchmarks.launching import on_ranks
from benchmarks.plan_findings import paired, spread, step_s
from benchmarks.record import record
from benchmarks.scaling_lines import KINDS, scaling_table, words
from benchmarks.scaling_picture import draw
from benchmarks.wanted import SETTINGS, ScalingWanted, config_for, cores, make_rows, parse, shapes_of
from c2al.parallel.quiet import silence
from c2al.schema import DataError, Schema

PROGRAM = "benchmarks.plan_ranks"


@dataclass(frozen=True)
class Size:
    """Ranks of one host, and the threads of each."""

    ranks: int
    threads: int

    @classmethod
    def of(cls, word: str) -> "Size":
        """From ``2x1``; a DataError at anything else."""
        ranks, _, threads = word.partition("x")
        if not (ranks.isdecimal() and threads.isdecimal() and int(ranks) and int(threads)):
            raise DataError("no such size", value=word, remedy="ranks x threads, such as sizes=[1x2,2x1]")
        return cls(int(ranks), int(threads))

    def __str__(self) -> str:
        return f"{self.ranks}x{self.threads}"


def main(arguments: Sequence[str] | None = None) -> int:
    wanted, others = parse(sys.argv[1:] if arguments is None else arguments, ScalingWanted)
    silence()
    if not any(word.startswith("parallel=") for word in others):
        others = ["parallel=table_wise", *others]
    folder = Path(tempfile.mkdtemp(prefix="c2al-scaling-"))
    try:
        found = _measured(wanted, others, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    Console().print(scaling_table(found))
    print("\n".join(words(found)))
    path = record(f"scaling_{found['name']}", found, folder=Path(wanted.to))
    with path.with_suffix(".png").open("wb") as file:
        draw(file, found)
    print(f"{path}\n{path.with_suffix('.png')}")
    return 0


def _measured(wanted: ScalingWanted, others: Sequence[str], folder: Path) -> dict[str, Any]:
    sizes = [Size.of(word) for word in wanted.sizes or _sizes()]
    most = max(size.ranks for size in sizes)
    base = config_for(wanted, others, world_size=most, threads=1, folder=folder)
    make_rows(wanted, others, base, ranks=most)
    jobs = {size: _job(wanted, others, size, base.training.batch_size, folder) for size in sizes}
    rounds = list(_rounds(wanted, jobs, folder))
    cases = [
        _case(size, kind, config["training"]["batch_size"], [each[size]["plans"][kind] for each in rounds])
        for size, job in jobs.items()
        for kind, config in job["plans"].items()
    ]
    cases += [case | {"kind": "strong"} for case in cases if case["ranks"] == 1]  # one rank's batch is all there is
    _rate(cases)
    settings = {key: getattr(wanted, key) for key in (*SETTINGS, "rounds")} | {"shapes": shapes_of(wanted, others)}
    settings |= {"batch_size": base.training.batch_size, "sharding": base.parallel.sharding}
    settings["overrides"] = [
        word for word in others if not word.startswith(("data.path=", "run_dir=", "cohorts.pair="))
    ]
    schema = Schema.load(base.data.path)
    return {
        "name": wanted.name or base.data.name,
        "settings": settings,
        "tables": {"count": len(schema.sparse), "rows": sum(column.num_rows for column in schema.sparse)},
        "cores": cores(),
        "cases": cases,
        "two_ranks": {kind: ratio for kind in KINDS if (ratio := _two_ranks(cases, kind))},
    }


def _sizes() -> list[str]:
    """Powers of two up to the GPUs; on a CPU its cores as threads and as ranks, and twice as many ranks as cores."""
    import torch

    if torch.cuda.is_available():
        return [f"{1 << power}x1" for power in range(torch.cuda.device_count().bit_length())]
    return list(dict.fromkeys(["1x1", f"1x{cores()}", "2x1", "4x1"]))


def _job(wanted: ScalingWanted, others: Sequence[str], size: Size, rows: int, folder: Path) -> dict[str, Any]:
    """What a size's ranks are to do: weak, and strong where it differs."""
    kinds = {"weak": rows} | ({"strong": max(1, rows // size.ranks)} if size.ranks > 1 else {})
    measuring = {key: getattr(wanted, key) for key in SETTINGS}
    measuring["loops"] = ["c2al", "stock"] if wanted.stock else ["c2al"]
    return {
        "measuring": measuring,
        "plans": {kind: _config(wanted, others, size, n, folder) for kind, n in kinds.items()},
    }


def _config(wanted: ScalingWanted, others: Sequence[str], size: Size, rows: int, folder: Path) -> Any:
    config: DictConfig = config_for(
        wanted, others, world_size=size.ranks, threads=size.threads, folder=folder, batch_size=rows
    )
    return OmegaConf.to_container(config, resolve=True)


def _rounds(wanted: ScalingWanted, jobs: Mapping[Size, Any], folder: Path) -> Any:
    started, sizes = time.monotonic(), list(jobs)
    for index in range(wanted.rounds):
        order = (sizes[index % len(sizes) :] + sizes[: index % len(sizes)])[:: -1 if index % 2 else 1]
        found = {}
        for size in order:
            found[size] = on_ranks(
                PROGRAM, jobs[size], world_size=size.ranks, threads=size.threads, folder=folder / "ranks"
            )
        said = f"round {index + 1} of {wanted.rounds}: {', '.join(map(str, order))}"
        print(f"{said} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
        yield found


def _case(size: Size, kind: str, batch_size: int, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one size and kind: rows/s of both loops, and their ratio."""
    rows = size.ranks * batch_size
    steps = {loop: [step_s(each["step_s"][loop]) for each in rounds] for loop in rounds[0]["step_s"]}
    case: dict[str, Any] = {"kind": kind, "ranks": size.ranks, "threads": size.threads, "batch_size": batch_size}
    case |= {"oversubscribed": size.ranks * size.threads > cores()}
    case |= {"rows_per_s": spread([rows / s for s in steps["c2al"]])}
    if "stock" in steps:
        case["stock_rows_per_s"] = spread([rows / s for s in steps["stock"]])
        case["to_stock"] = spread(paired(rounds, "stock", "c2al"))
    return case


def _rate(cases: Sequence[dict[str, Any]]) -> None:
    """Beside one rank with one thread: how many times its rows/s, in pairs by round."""
    for loop in ("rows_per_s", "stock_rows_per_s"):
        for case in cases:
            one = next((each for each in cases if (each["ranks"], each["threads"]) == (1, 1)), None)
            if one and loop in case:
                pairs = zip(case[loop]["rounds"], one[loop]["rounds"], strict=True)
                case[loop.replace("rows_per_s", "speedup")] = spread([a / b for a, b in pairs])


def _two_ranks(cases: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any] | None:
    """Rows/s of 2 ranks x 1 thread over 1 rank x 2 threads, of both loops, in pairs by round."""
    found = {(case["ranks"], case["threads"]): case for case in cases if case["kind"] == kind}
    if not {(2, 1), (1, 2)} <= set(found):
        return None
    loops = [loop for loop in ("rows_per_s", "stock_rows_per_s") if loop in found[2, 1]]
    pairs = {loop: zip(found[2, 1][loop]["rounds"], found[1, 2][loop]["rounds"], strict=True) for loop in loops}
    return {loop: spread([a / b for a, b in each]) for loop, each in pairs.items()}


def run() -> None:
    try:
        raise SystemExit(main())
    except DataError as error:
        print(f"benchmarks.scaling: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    run()
