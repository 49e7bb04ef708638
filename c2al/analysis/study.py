"""Arms × seeds, paired: train the reference, find the pair on its predictions, train the arms, compare, write it down.

Goes on where it stopped: finished runs are kept, killed ones resumed, and the pair is found once.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c2al.analysis.arms import Run, run_all
from c2al.analysis.attention import compare_density
from c2al.analysis.bootstrap import row_errors
from c2al.analysis.significance import check_identity, compare
from c2al.analysis.study_file import read_json
from c2al.cohorts.pairs import load_pair
from c2al.json_text import to_json
from c2al.plain_files import write_whole
from c2al.schema import DataError, Schema

Compose = Callable[[Sequence[str]], dict[str, Any]]
FindPairs = Callable[[str, str], None]


@dataclass(frozen=True)
class Plan:
    """What a study consists of. ``arms`` are overrides by name; ``bootstraps`` of units within a seed, 0 for none."""

    name: str
    folder: str
    arms: Mapping[str, Sequence[str]]
    reference: str
    seeds: Sequence[int]
    split: str
    bootstraps: int
    workers: int
    devices: int = 0

    def check(self) -> None:
        """DataError where the arms, the reference or the seeds make no study."""
        if self.reference not in self.arms:
            raise DataError("the reference is none of the arms", value=self.reference, remedy=f"{', '.join(self.arms)}")
        if len(self.arms) < 2 or not self.seeds:
            raise DataError(
                "a study compares two arms or more over at least one seed", remedy="study.arms, study.seeds"
            )
        if self.split == "validation":
            raise DataError(
                "the pair is found on validation, so the arms must not be compared there",
                value=self.split,
                remedy="study.split=test",
            )


def run_study(plan: Plan, *, compose: Compose, find_pairs: FindPairs) -> dict[str, Any]:
    """Run all that is left of a study and write ``study.json``; its content.

    ``compose`` makes a run's config from overrides; ``find_pairs(run, folder)`` writes a run's ``pairs.json`` there.
    """
    plan.check()
    for arm in plan.arms:
        _runs(plan, arm, compose, pair=None)  # an arm that cannot be composed stops the study before it has trained any
    started = time.perf_counter()
    folder = Path(plan.folder)
    folder.mkdir(parents=True, exist_ok=True)
    reference = _runs(plan, plan.reference, compose, pair=None)
    run_all(reference, workers=plan.workers, devices=plan.devices, title=plan.reference)
    pair_file = None if _pair_given(reference[0].config) else str(folder / "pairs.json")
    if pair_file and not Path(pair_file).exists():
        find_pairs(str(reference[0].folder), str(folder))
    others = {arm: _runs(plan, arm, compose, pair=pair_file) for arm in plan.arms if arm != plan.reference}
    by_seed = [run for paired in zip(*others.values(), strict=True) for run in paired]  # whole seeds come first
    run_all(by_seed, workers=plan.workers, devices=plan.devices, title="arms")
    study = summarise(plan, {plan.reference: reference, **others}, pair_file=pair_file)
    study["seconds"] = round(_seconds_before(folder) + time.perf_counter() - started, 1)
    write_whole(folder / "study.json", to_json(study, indent=1))
    return study


def summarise(plan: Plan, runs: Mapping[str, Sequence[Run]], *, pair_file: str | None) -> dict[str, Any]:
    """The content of ``study.json`` from finished runs."""
    reports = {arm: {str(run.seed): run.report(plan.split) for run in each} for arm, each in runs.items()}
    metrics = {
        arm: {seed: report["metrics"][plan.split] for seed, report in each.items()} for arm, each in reports.items()
    }
    for arm in metrics:
        for seed in metrics[arm]:
            check_identity(metrics[plan.reference][seed], metrics[arm][seed])
    cells = compare(metrics, reference=plan.reference)
    last = next(run for arm, each in runs.items() if arm != plan.reference for run in each)
    schema = Schema.load(last.config["data"]["path"])
    if plan.bootstraps:
        _add_row_errors(cells, plan, runs, schema)
    report = last.report(plan.split)
    return {
        "name": plan.name,
        **{key: report[key] for key in ("c2al", "commit", "versions", "hardware")},
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "config": last.config,
        "data": {
            "path": os.path.relpath(last.config["data"]["path"]),
            "name": schema.name,
            "rows": {name: split.rows for name, split in schema.splits.items()},
            "positives": {name: split.positives for name, split in schema.splits.items()},
            "notes": schema.notes,
        },
        "reference": plan.reference,
        "arms": {
            arm: {
                "overrides": list(plan.arms[arm]),
                "runs": {str(run.seed): os.path.relpath(run.folder, plan.folder) for run in each},
                "rows_per_s": {seed: report["rows_per_s"] for seed, report in reports[arm].items()},
            }
            for arm, each in runs.items()
        },
        "split": plan.split,
        "pair": _pair(last.config, pair_file),
        "pairs_file": "pairs.json" if pair_file else None,
        "cells": cells,
        "density": compare_density(
            {arm: {str(run.seed): str(run.folder) for run in each} for arm, each in runs.items()},
            reference=plan.reference,
        ),
    }


def _runs(plan: Plan, arm: str, compose: Compose, *, pair: str | None) -> list[Run]:
    runs = []
    for seed in plan.seeds:
        folder = Path(plan.folder, "runs", arm, f"seed_{seed}")
        own = [*plan.arms[arm], f"seed={seed}", f"run_dir={folder}", "progress=false"]
        config = compose(own)
        if pair and not _pair_given(config):  # an arm may have a pair of its own
            config = compose([*own, f"cohorts.pair={pair}"])
        runs.append(Run(arm=arm, seed=seed, folder=folder, config=config))
    return runs


def _pair_given(config: dict[str, Any]) -> bool:
    return bool(config["cohorts"]["pair"] or config["cohorts"]["axis"])


def _pair(config: dict[str, Any], pair_file: str | None) -> dict[str, Any]:
    cohorts = config["cohorts"]
    path = pair_file or cohorts["pair"]
    if not path:
        return {key: cohorts[key] for key in ("axis", "head", "tail")}
    axis, head, tail = load_pair(path, cohorts["index"])
    found = read_json(Path(path), remedy="run `c2al discover` again")["pairs"][cohorts["index"]]
    judged = {"significant": bool(found["significant"])} if "significant" in found else {}
    return {"axis": axis, "head": head, "tail": tail, **judged, **{k: found[k] for k in ("p_holm",) if k in found}}


def _add_row_errors(cells: list[dict[str, Any]], plan: Plan, runs: Mapping[str, Sequence[Run]], schema: Schema) -> None:
    """``row_error`` of every cell: the standard error of its mean difference over rows."""
    scores = {
        (arm, run.seed): str(run.folder / "scores" / f"{plan.split}.parquet") for arm in runs for run in runs[arm]
    }
    axes = list(dict.fromkeys(row["axis"] for row in cells if row["axis"] != "overall"))
    for arm in (name for name in runs if name != plan.reference):
        found = row_errors(
            [(scores[plan.reference, seed], scores[arm, seed]) for seed in plan.seeds],
            schema=schema,
            axes=axes,
            num_bootstraps=plan.bootstraps,
        )
        for row in cells:
            if row["arm"] == arm:
                row["row_error"] = found.get((row["axis"], row["cohort"]))


def _seconds_before(folder: Path) -> float:
    path = folder / "study.json"
    remedy = "delete this file: the study's runs are kept, and it is written anew"
    found = read_json(path, remedy=remedy).get("seconds") if path.exists() else None
    return float(found) if isinstance(found, int | float) else 0.0
