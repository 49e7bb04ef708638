"""Is the GPU path right, and how fast is it? One command of at most eight minutes, on one GPU.

    python -m benchmarks.gpu
    python -m benchmarks.gpu seconds=300 only=[train/dhen,plans]
    CUDA_VISIBLE_DEVICES= python -m benchmarks.gpu scale=small      # a dry run on a CPU

Right: short runs of dhen, dcnv2 and sasrec, each as baseline, c2al and pcgrad, are trained on the GPU and on the CPU
from the same weights and rows, in fp32. The losses of the first steps and the normalized entropy (NE) on the test part
must agree within a tolerance. One run of each model is also resumed from its half-way checkpoint and exported with its
proof, for the CPU and for the GPU. Then every sharding plan trains dcnv2 on the one GPU.

Fast: rows/s on the table shapes of ``benchmarks.sharding_plans`` in fp32 and bf16, with the base and the sparse_dist
pipeline, and compiled; which share of a plain copy's bandwidth the lookups reach, and of a large product's rate the
dense part; how often a step makes the host wait for the device, and from which lines.

Each group of cells is a process of its own. Every finished cell is on disk at once, and the results' JSON is written
again after every group, so that a time-out loses nothing that was measured. Exit status 1 where a cell is wrong or
failed, 0 where all that was run is right; what there was no time for is listed.

Runs with torch 2.13, torchrec and fbgemm 1.8, and with torch 2.11, torchrec and fbgemm 1.6. Whatever is not installed
and not needed here (the service, TorchX, TorchJD unless pcgrad is asked for) may be missing.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch  # noqa: F401 so that the record names the GPU
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from benchmarks.record import RESULTS, record
from benchmarks.shapes import make
from c2al.schema import DataError

FIRST_STEPS = 6  # whose losses are compared: later ones tell less, as training amplifies rounding
LOSS_TOLERANCE = 1e-4  # relative, of the first steps' losses, fp32
NE_TOLERANCE = 2e-3  # of NE on the test part after the short run
RESUMED_TOLERANCE = 1e-5  # a GPU adds up gradients in an order that may differ from run to run
MODELS = ("dhen", "dcnv2", "sasrec")
ENDS_S = 10.0  # for a group that was told to end
VARIANTS = {
    "speed": {
        "fp32 base": ["training.precision=fp32", "parallel.pipeline=base"],
        "fp32 sparse_dist": ["training.precision=fp32", "parallel.pipeline=sparse_dist"],
        "bf16 base": ["training.precision=bf16", "parallel.pipeline=base"],
        "bf16 sparse_dist": ["training.precision=bf16", "parallel.pipeline=sparse_dist"],
    },
    "compiled": {
        "bf16 sparse_dist compiled": [
            *("training.precision=bf16", "parallel.pipeline=sparse_dist", "training.compile=true"),
        ],
        "fp32 sparse_dist compiled": [
            *("training.precision=fp32", "parallel.pipeline=sparse_dist", "training.compile=true"),
        ],
    },
}
SCALES: dict[str, dict[str, Any]] = {
    "full": {
        **{
            "num_rows": 60_000,
            "steps": 24,
            "batch_size": 1024,
            "batches": 8,
            "blocks": 3,
            "block_steps": 20,
            "most_s": 6.0,
        },
        **{"table_rows": 10_000_000, "overrides": ["model.dim=64"]},
        "batch_sizes": {"criteo": 16_384, "multi_hot": 8_192, "journey": 16_384},
    },
    "small": {
        **{"num_rows": 4_000, "steps": 8, "batch_size": 64, "batches": 2, "blocks": 1, "block_steps": 2, "most_s": 2.0},
        **{"table_rows": 5_000, "overrides": ["model.dim=8"]},
        "batch_sizes": {"criteo": 64, "multi_hot": 64, "journey": 64},
    },
}


@dataclass
class Wanted:
    """The command's own settings."""

    seconds: float = 460.0  # for all of it; a machine is lent for minutes
    scale: str = "full"  # or small: the dry run on a CPU
    only: list[str] | None = None  # groups, such as train/dhen, plans, speed/criteo, compiled/criteo; null: all
    models: list[str] = field(default_factory=lambda: list(MODELS))
    methods: list[str] = field(default_factory=lambda: ["baseline", "pcgrad", "c2al"])
    plans: list[str] | None = None  # null: all shardings
    variants: list[str] | None = None  # of speed, such as "bf16 base"; null: all
    threads: int | None = None  # of each process; null: the cores shared out
    name: str = "gpu"
    to: str = str(RESULTS)


def main(words: Sequence[str] | None = None) -> int:
    """Run the groups, print and record."""
    wanted = _parse(sys.argv[1:] if words is None else words)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="c2al-gpu-") as name:
        folder = Path(name)
        run = Run(wanted, folder, deadline=started + wanted.seconds)
        run.prepare()
        run.everything()
        found = run.found()
    Console(width=150).print(*tables(found))
    for line in words_of(found):
        print(line)
    print(f"{record(wanted.name, found, folder=Path(wanted.to))} ({time.monotonic() - started:.0f} s)")
    return int(bool(found["wrong"]))


class Run:
    """The groups in their order, against the clock."""

    def __init__(self, wanted: Wanted, folder: Path, *, deadline: float) -> None:
        self.wanted, self.folder, self.deadline = wanted, folder, deadline
        self.ended: dict[str, str] = {}
        self.scale = SCALES[wanted.scale]
        training = [f"train/{model}" for model in wanted.models]
        kinds = [kind for kind in VARIANTS if self._variants()[kind]]
        speed = [f"{kind}/{shapes}" for kind in kinds for shapes in self.scale["batch_sizes"]]
        self.groups = [*training, "plans", *speed]
        if wanted.only:
            unknown = set(wanted.only) - set(self.groups)
            if unknown:
                raise DataError("no such group", value=min(unknown), remedy=f"only=[…] of {', '.join(self.groups)}")
            self.groups = [group for group in self.groups if group in wanted.only]

    def prepare(self) -> None:
        """Rows for all groups, and the job that the workers read."""
        from c2al.data import synthetic

        cores = len(os.sched_getaffinity(0))
        sides = 2 * max(1, sum(group.startswith(("train", "plans")) for group in self.groups))
        job = {
            **{key: value for key, value in self.scale.items() if key != "num_rows"},
            **{"methods": self.wanted.methods, "plans": self.wanted.plans, "variants": self._variants()},
            **{"rows": f"{self.folder}/rows", "shapes": f"{self.folder}/shapes"},
            "threads": self.wanted.threads or max(1, cores // sides),
        }
        (self.folder / "job.json").write_text(json.dumps(job))
        synthetic.prepare(to=job["rows"], rows=self.scale["num_rows"], history=8)
        for shapes in {group.partition("/")[2] for group in self.groups if group.startswith(tuple(VARIANTS))}:
            rows = self.scale["batches"] * self.scale["batch_sizes"][shapes]
            make(shapes, f"{job['shapes']}/{shapes}", table_rows=self.scale["table_rows"], train_rows=rows)

    def _variants(self) -> dict[str, dict[str, list[str]]]:
        names = self.wanted.variants
        return {
            kind: {name: words for name, words in variants.items() if names is None or name in names}
            for kind, variants in VARIANTS.items()
        }

    def everything(self) -> None:
        """Groups of training side by side, on the device and on the CPU; then speeds, one after another, alone."""
        together = [group for group in self.groups if group.startswith(("train", "plans"))]
        with self._started([(group, side) for group in together for side in ("device", "reference")]):
            pass
        self._keep()
        for group in self.groups:
            if group not in together:
                with self._started([(group, "device")]):
                    pass
                self._keep()

    @contextmanager
    def _started(self, groups: Sequence[tuple[str, str]]) -> Iterator[None]:
        """Workers of these groups; at the end all have ended, at the deadline by force."""
        workers = {(group, side): self._start(group, side) for group, side in groups}
        try:
            yield
            for key, worker in workers.items():
                try:
                    status = worker.wait(max(0.0, self.deadline - time.monotonic()))
                    self.ended["/".join(key)] = (
                        "done" if status == 0 else f"ended with status {status}: {self._last_line(key)}"
                    )
                except subprocess.TimeoutExpired:
                    self.ended["/".join(key)] = "no time was left"
        finally:
            for worker in workers.values():
                if worker.poll() is None:
                    worker.send_signal(signal.SIGTERM)
            for worker in workers.values():
                try:
                    worker.wait(ENDS_S)
                except subprocess.TimeoutExpired:
                    worker.kill()

    def _start(self, group: str, side: str) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parents[1])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths}
        if side == "reference":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with self._log((group, side)).open("wb") as log:
            words = [sys.executable, "-m", "benchmarks.gpu_worker", str(self.folder), group, side]
            return subprocess.Popen(words, stdout=log, stderr=log, env=environment)

    def _log(self, key: tuple[str, str]) -> Path:
        return self.folder / f"{'_'.join(key).replace('/', '_')}.log"

    def _last_line(self, key: tuple[str, str]) -> str:
        lines = self._log(key).read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it printed nothing"

    def _keep(self) -> None:
        record(self.wanted.name, self.found(), folder=Path(self.wanted.to))

    def found(self) -> dict[str, Any]:
        """All cells so far: of the device, beside the CPU's where both have them."""
        cells: dict[str, dict[str, Any]] = {}
        wrong: list[str] = []
        for group in self.groups:
            for path in sorted((self.folder / "found" / "device" / group).glob("*.json"), key=os.path.getmtime):
                if path.stem == "about":
                    continue
                cell = json.loads(path.read_text())
                reference = self.folder / "found" / "reference" / group / path.name
                if "losses" in cell and reference.exists():
                    cell |= beside(cell, json.loads(reference.read_text()))
                cell.pop("logits", None)
                cells[f"{group}: {path.stem}"] = cell
                refused = "refused" in cell and group.startswith(
                    "train"
                )  # a plan may refuse one rank, a method may not
                if "failed" in cell or refused or not right(path.stem, cell):
                    wrong.append(f"{group}: {path.stem}")
        about = next((self.folder / "found" / "device").rglob("about.json"), None)
        return {
            "device": json.loads(about.read_text()) if about else None,
            "settings": {key: value for key, value in vars(self.wanted).items() if key != "to"} | {"scale": self.scale},
            "tolerances": {"losses": LOSS_TOLERANCE, "ne": NE_TOLERANCE, "resumed": RESUMED_TOLERANCE},
            "cells": cells,
            "groups": self.ended,
            "wrong": [*wrong, *(group for group, how in self.ended.items() if how.startswith("ended with"))],
            "not_run": [group for group in self.groups if self.ended.get(f"{group}/device", "no") != "done"],
        }


def beside(cell: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """How far a run is from the CPU's: relative, of the first steps' losses, and the difference of NE and of logits."""
    if "losses" not in reference:
        return {"reference": reference}
    pairs = list(zip(cell["losses"], reference["losses"], strict=False))
    apart = [abs(one / other - 1) for one, other in pairs]
    found = {
        "first_step": apart[0],
        "first_steps": max(apart[:FIRST_STEPS]),
        "last_step": apart[-1],
        "ne_difference": cell["ne"] - reference["ne"],
    }
    try:
        found["greatest_logit_difference"] = float(
            abs(logits_of(cell["logits"]) - logits_of(reference["logits"])).max()
        )
    except OSError as gone:
        found["greatest_logit_difference"] = str(gone)
    return found


def logits_of(path: str) -> np.ndarray:
    """The logits that a run has written for a split."""
    return pq.read_table(path, columns=["logit"])["logit"].to_numpy()


def right(name: str, cell: Mapping[str, Any]) -> bool:
    """Whether a cell's numbers are within the tolerances; cells without any are right."""
    if name == "resume" and "greatest_difference" in cell and cell["greatest_difference"] > RESUMED_TOLERANCE:
        return False
    if "first_steps" not in cell:
        return "reference" not in cell
    return bool(cell["first_steps"] <= LOSS_TOLERANCE and abs(cell["ne_difference"]) <= NE_TOLERANCE)


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Correctness and speed."""
    correct = Table(
        *("cell", "loss of step 1", f"of steps 1 to {FIRST_STEPS}", "NE", "logits", "to the bit", "seconds", ""),
        title="apart from the CPU: losses relative, NE and logits absolute",
    )
    fast = Table(
        *("cell", "rows/s", "step ms", "lookups: share of a copy", "dense: share of a product", "host syncs a step"),
        title="speed",
    )
    for name, cell in found["cells"].items():
        if "rows_per_s" in cell:
            syncs = cell["host_syncs"].get("per_step") or sum(cell["host_syncs"]["operators_per_step"].values())
            fast.add_row(
                *(name, f"{cell['rows_per_s']['median']:,.0f}", f"{cell['step_ms']['p50']:.2f}"),
                *(_percent(cell["lookup_share_of_copy"]), _percent(cell["dense_share_of_product"]), f"{syncs:.1f}"),
            )
        else:
            said = str(cell.get("failed") or cell.get("refused") or "")[:90]
            bit = cell.get("to_the_bit", cell.get("bitwise"))
            apart = [
                cell.get(key) for key in ("first_step", "first_steps", "ne_difference", "greatest_logit_difference")
            ]
            if apart[-1] is None:
                apart[-1] = cell.get("greatest_difference")
            shown = ["" if each is None else f"{each:.1e}" if isinstance(each, float) else str(each) for each in apart]
            correct.add_row(name, *shown, "" if bit is None else str(bit), f"{cell['seconds']:.1f}", said)
    return [correct, fast]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def words_of(found: Mapping[str, Any]) -> list[str]:
    """What is wrong, and what there was no time for."""
    lines = [f"device: {found['device'] and found['device'].get('gpu', found['device']['name'])}"]
    lines += [f"wrong: {name}" for name in found["wrong"]]
    lines += [
        f"not finished: {group}: {found['groups'].get(f'{group}/device', 'not started')}" for group in found["not_run"]
    ]
    return lines


def _parse(words: Sequence[str]) -> Wanted:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Wanted), OmegaConf.from_dotlist(list(words)))
        wanted: Any = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        remedy = f"keys: {', '.join(Wanted.__dataclass_fields__)}"
        raise DataError(f"{error.full_key}: {str(error).splitlines()[0]}", remedy=remedy) from None
    if wanted.scale not in SCALES:
        raise DataError("no such scale", value=wanted.scale, remedy=f"scale={' or '.join(SCALES)}")
    return wanted


def run() -> None:
    """The program: one line for an error of the input."""
    try:
        raise SystemExit(main())
    except DataError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    run()
