"""Your own model and tables under every sharding plan, beside TorchRec's plain loop: which plan to take, and why.

    python -m benchmarks.sharding_plans data=complete_journey data.path=DIR
    python -m benchmarks.sharding_plans data=parquet data.path=DIR parallel.plans=[auto,table_wise] world_size=2
    python -m benchmarks.sharding_plans shapes=criteo rows=10_000_000

Takes every override of ``c2al train``. Ranks are started here, as torchrun starts them, on this host. A round is one
process group, which builds the plans one after another, each round in another order; a plan's memory is what it added
after all of the one before was given back. In a round a plan's loops take turns in blocks of steps on batches that are
held in memory: reading is in no step. Plans are refused by ``c2al plan``'s rules, with the reason. Learning rates are
constant. Exit status 1 where a plan did not train what the others did.

docs/benchmarks.md says what is in each column.
"""

import copy
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from benchmarks.launching import on_ranks
from benchmarks.plan_bars import draw
from benchmarks.plan_findings import beside_estimate, equal_losses, plan_findings, recommended
from benchmarks.plan_lines import plan_tables, words
from benchmarks.record import record
from benchmarks.wanted import (
    SETTINGS,
    TOLERANCES,
    Measuring,
    PlansWanted,
    config_for,
    cores,
    make_rows,
    parse,
    shapes_of,
)
from c2al.parallel.quiet import silence
from c2al.schema import DataError, Schema

WIDTH = 140  # of the tables where there is no terminal
PROGRAM = "benchmarks.plan_ranks"


def main(arguments: Sequence[str] | None = None) -> int:
    wanted, others = parse(sys.argv[1:] if arguments is None else arguments, PlansWanted)
    silence()
    threads = wanted.threads or max(1, cores() // wanted.world_size)
    folder = Path(tempfile.mkdtemp(prefix="c2al-plans-"))
    try:
        found = _measured(wanted, others, threads, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(plan_tables(found))
    print("\n".join(words(found)))
    path = record(f"sharding_plans_{found['name']}", found, folder=Path(wanted.to))
    with path.with_suffix(".png").open("wb") as file:
        draw(file, found)
    print(f"{path}\n{path.with_suffix('.png')}")
    return 0 if all(plan["equal"] for plan in found["plans"].values()) else 1


def _measured(wanted: PlansWanted, others: Sequence[str], threads: int, folder: Path) -> dict[str, Any]:
    from c2al.training.preview import Planner  # torch comes in here

    config = config_for(wanted, others, world_size=wanted.world_size, threads=threads, folder=folder)
    make_rows(wanted, others, config, ranks=wanted.world_size)
    schema = Schema.load(config.data.path)
    planner = Planner(config, schema)
    plans = _plans(planner, wanted.plans or planner.comparable)
    if not any("preview" in plan for plan in plans.values()):
        raise DataError(
            f"no plan can run: {next(iter(plans.values()))['refused']}", remedy="other plans, or more ranks"
        )
    names = [name for name, plan in plans.items() if "preview" in plan]
    configs = {name: _as_plain(_of_plan(config, name)) for name in names}
    rounds = list(_rounds(wanted, configs, threads, folder))
    rows = wanted.world_size * config.training.batch_size
    tolerance = wanted.tolerance or TOLERANCES[config.training.precision]
    losses = equal_losses(
        {name: rounds[0]["plans"][name]["losses"] for name in names}, last=wanted.steps, tolerance=tolerance
    )
    found = {}
    for name in names:
        own = [each["plans"][name] for each in rounds]
        plan = plan_findings(own, rows=rows, peaks=rounds[0].get("peaks", {})) | losses["plans"][name]
        preview = plans[name]["preview"]
        plan["estimated_ms"] = preview.step_ms
        slowest = max(preview.report()["ranks"], key=lambda rank: rank["ms"]["total"])
        plan["estimated_bytes"] = [each.total for each in preview.memory]
        if "parts_ms" in plan:
            plan["beside_estimate"] = beside_estimate(plan["parts_ms"], slowest["ms"])
        found[name] = plan
    tables = plans[names[0]]["preview"].placements
    order = sorted(found, key=lambda name: -found[name]["rows_per_s"]["median"])
    return {
        "name": wanted.name or config.data.name,
        "settings": _settings(wanted, others, threads, config, rounds[0]["plans"][names[0]]["batches"]),
        "tables": {"count": len(tables), "rows": sum(each.num_rows for each in tables)},
        "plans": {name: found[name] for name in order},
        "refused": {name: plan["refused"] for name, plan in plans.items() if "refused" in plan},
        "losses": {key: losses[key] for key in ("compared", "steps", "tolerance")},
        "peaks": rounds[0].get("peaks"),
        "recommended": recommended(found),
    }


def _plans(planner: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A preview of each plan, or why it is not measured."""
    plans: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in planner.comparable:
            raise DataError("no such sharding", value=name, remedy=f"parallel.plans={planner.comparable}")
        try:
            preview = planner.preview(name)
        except DataError as refused:
            plans[name] = {"refused": str(refused)}
            continue
        if preview.first_over is None:
            plans[name] = {"preview": preview}
        else:
            heaviest, limit = preview.heaviest / 2**30, preview.limit / 2**30
            reason = f"does not fit: {heaviest:.1f} GiB on rank {preview.first_over}, and there are {limit:.1f}"
            plans[name] = {"refused": reason}
    return plans


def _of_plan(config: DictConfig, sharding: str) -> DictConfig:
    """As ``c2al plan`` compares: the config's own plan with its own tables, others without."""
    if sharding == config.parallel.sharding:
        return config
    config = copy.deepcopy(config)
    config.parallel.sharding, config.parallel.tables = sharding, {}
    return config


def _rounds(wanted: Measuring, configs: dict[str, Any], threads: int, folder: Path) -> Any:
    """What the ranks found in each round; the order of plans turns by one, and runs backwards every other time."""
    names, started = list(configs), time.monotonic()
    measuring = {key: getattr(wanted, key) for key in SETTINGS}
    measuring["loops"] = ["c2al", "bare", "stock"] if wanted.stock else ["c2al", "bare"]
    world_size = next(iter(configs.values()))["parallel"]["world_size"]
    for index in range(wanted.rounds):
        turned = names[index % len(names) :] + names[: index % len(names)]
        order = turned[:: -1 if index % 2 else 1]
        job = {"measuring": measuring, "plans": {name: configs[name] for name in order}}
        yield on_ranks(PROGRAM, job, world_size=world_size, threads=threads, folder=folder / "ranks")
        spent = time.monotonic() - started
        print(f"round {index + 1} of {wanted.rounds}: {', '.join(order)} ({spent:.0f} s)", file=sys.stderr, flush=True)


def _settings(
    wanted: PlansWanted, others: Sequence[str], threads: int, config: DictConfig, batches: int
) -> dict[str, Any]:
    """Without paths of this machine."""
    kept = [word for word in others if not word.startswith(("data.path=", "run_dir=", "cohorts.pair="))]
    own = {key: getattr(wanted, key) for key in (*SETTINGS, "rounds", "world_size")}
    own["shapes"] = shapes_of(wanted, others)
    own |= {"rows": wanted.rows} if own["shapes"] in ("criteo", "multi_hot") else {}
    training = {key: config.training[key] for key in ("batch_size", "precision", "compile")}
    return own | training | {"threads": threads, "batches": batches, "overrides": kept, "method": config.method.name}


def _as_plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def run() -> None:
    try:
        raise SystemExit(main())
    except DataError as error:
        print(f"benchmarks.sharding_plans: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    run()
