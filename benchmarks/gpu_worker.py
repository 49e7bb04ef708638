"""One group of cells of ``benchmarks.gpu``, in a process of its own: training runs, plans, exports, or speeds.

    python -m benchmarks.gpu_worker FOLDER GROUP SIDE

``FOLDER/job.json`` has the settings. Each cell is written as ``FOLDER/found/SIDE/GROUP/CELL.json`` when it is done, so
that a group that is stopped has lost only the cell under way. Groups of training run on both sides: on the device, and
on the CPU, where no GPU is visible: that is the reference against which ``benchmarks.gpu`` holds the device's numbers.
"""

import json
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.peaks import peaks
from benchmarks.plan_findings import plan_findings
from benchmarks.plan_ranks import Measured, read
from benchmarks.record import hardware, write_whole
from benchmarks.wanted import Measuring, config_for
from c2al.cli import compose
from c2al.parallel import ranks as process_group
from c2al.parallel.plan import SHARDINGS
from c2al.schema import DataError
from c2al.training.run_folder import RunFolder
from c2al.training.train import train

PAIR = ("cohorts.axis=segment", "cohorts.head=loyal", "cohorts.tail=occasional")
QUIET = (
    "progress=false",
    "data.prepare=null",
    "training.snapshots=0",
    "training.evaluations=1",
    "training.log_every=1",
)
SYNC_STEPS = 4  # over which host synchronizations are counted


class Cells:
    """Runs a group's cells one after another and writes down how each ended."""

    def __init__(self, folder: Path, group: str) -> None:
        self.folder = folder / "found" / group
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run one cell; an error is its result, with the last line of its traceback, and the next cell follows."""
        started = time.perf_counter()
        try:
            found = measure()
        except DataError as refused:
            found = {"refused": str(refused)}
        except Exception as error:
            traceback.print_exc()
            where = traceback.extract_tb(error.__traceback__)[-1]
            found = {
                "failed": f"{type(error).__name__}: {error}"[:2000],
                "at": f"{Path(where.filename).name}:{where.lineno}",
            }
        found["seconds"] = round(time.perf_counter() - started, 2)
        write_whole(self.folder / f"{name}.json", found)
        return found


# --- correctness ---


def train_group(cells: Cells, job: dict[str, Any], work: Path, model: str) -> None:
    """The model with each method; for the last one also a resumption and an export."""
    runs = work / model
    words = [*_training_words(job), f"model={model}"]
    for method in job["methods"]:
        own = [*words, f"method={method}", f"run_dir={runs / method}"]
        cells.run(method, lambda own=own, run=runs / method: _trained(own, run))  # type: ignore[misc]
    run, own = runs / job["methods"][-1], [*words, f"method={job['methods'][-1]}"]
    cells.run("resume", lambda: _resumed(own, run, runs / "resumed", step=job["steps"] // 2))
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        cells.run(f"export_{device}", lambda device=device: _exported(run, runs / f"{device}.pt2", device))  # type: ignore[misc]


def plan_group(cells: Cells, job: dict[str, Any], work: Path) -> None:
    """One model under every sharding plan, on one rank."""
    words = [*_training_words(job), "model=dcnv2", "method=baseline"]
    for sharding in job["plans"] or SHARDINGS:
        run = work / "plans" / sharding
        own = [*words, f"parallel.sharding={sharding}", f"run_dir={run}"]
        cells.run(sharding, lambda own=own, run=run: _trained(own, run))  # type: ignore[misc]


def _training_words(job: dict[str, Any]) -> list[str]:
    return [
        *(
            *QUIET,
            *PAIR,
            f"data.path={job['rows']}",
            f"training.steps={job['steps']}",
            f"training.threads={job['threads']}",
        ),
        *(
            f"training.batch_size={job['batch_size']}",
            f"training.checkpoint_every={job['steps'] // 2}",
            "overwrite=true",
        ),
        "training.final_splits=[test]",
    ]


def _trained(words: list[str], run: Path) -> dict[str, Any]:
    """A short run: the primary head's loss of every step, NE on the test part, and where its logits are."""
    try:
        report = train(compose("config", words))
    finally:
        process_group.stop()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "device": report["hardware"]["device"],
        "losses": [line["losses"][0] for line in lines if line["split"] == "train"],
        "ne": report["metrics"]["test"]["overall"]["ne"],
        "logits": str(run / "scores" / "test.parquet"),
    }


def _resumed(words: list[str], run: Path, to: Path, *, step: int) -> dict[str, Any]:
    """The run again from its checkpoint of ``step``, beside the undisturbed one."""
    shutil.copytree(run, to, dirs_exist_ok=True)
    (to / "report.json").unlink()
    for checkpoint in (to / "checkpoints").glob("step_*"):
        if int(checkpoint.name.removeprefix("step_")) > step:
            shutil.rmtree(checkpoint)
    found = _trained([*words, f"run_dir={to}", "overwrite=false", "resume=true"], to)
    whole = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["losses"][0] for line in whole if line["split"] == "train"]
    pairs = list(zip(found["losses"], losses, strict=True))
    apart = max(abs(one / other - 1) for one, other in pairs)
    return found | {"to_the_bit": found["losses"] == losses, "greatest_difference": apart}


def _exported(run: Path, to: Path, device: str) -> dict[str, Any]:
    from c2al.serving.export import export

    try:
        manifest = export(str(run), to=str(to), device=device, proof_rows=512, say=lambda stage: None)
    finally:
        process_group.stop()
    scores = manifest["parity"]["scores"]
    return {key: scores[key] for key in ("rows", "bitwise", "greatest_difference")} | {"against": scores["against"]}


# --- speed ---


def speed_group(cells: Cells, job: dict[str, Any], work: Path, shapes: str, variants: dict[str, list[str]]) -> None:
    """Rows/s, parts of a step, shares of the device's rates and host synchronizations, of every variant."""
    ranks = process_group.start(threads=job["threads"])
    wanted = Measuring(shapes=shapes, rows=job["table_rows"], warmup=4, blocks=job["blocks"], steps=job["block_steps"])
    rates: dict[str, dict[str, Any]] = {}
    batches: dict[int, Any] = {}

    def measure(words: list[str]) -> dict[str, Any]:
        config = config_for(wanted, words, world_size=1, threads=job["threads"], folder=Path(job["shapes"]))
        config.run_dir = str(work / shapes / "run")
        size, precision = config.training.batch_size, config.training.precision
        if precision not in rates:
            rates[precision] = peaks(ranks.device, precision)
        if size not in batches:
            batches[size] = [batch.to(ranks.device) for batch in read(config, ranks, job["batches"])]
        measuring = {
            "warmup": 4,
            "blocks": job["blocks"],
            "steps": job["block_steps"],
            "most_s": job["most_s"],
            "parts": 3,
        }
        with RunFolder(config.run_dir, ranks=ranks, overwrite=True) as opened:
            measured = Measured(config, measuring | {"loops": ["c2al", "bare"]}, ranks, batches[size], opened)
            measured.blocks()
            found = measured.found()
            syncs = host_syncs(measured)
            measured.end()
        said = plan_findings([found], rows=size, peaks=rates[precision])
        loss = found["losses"]["c2al"][-1]
        return {**said, "host_syncs": syncs, "peaks": rates[precision], "batch_size": size, "last_loss": loss}

    try:
        for name, words in variants.items():
            own = [*words, f"training.batch_size={job['batch_sizes'][shapes]}", *job["overrides"]]
            cells.run(name, lambda own=own: measure(own))  # type: ignore[misc]
    finally:
        process_group.stop()


def host_syncs(measured: Measured) -> dict[str, Any]:
    """How often a training step makes the host wait for the device, and from which lines of code."""
    counted = Synchronizations()
    with counted, _sync_warnings() as places:
        for _ in range(SYNC_STEPS):
            measured.loops["c2al"]()
    found: dict[str, Any] = {"operators_per_step": {name: count / SYNC_STEPS for name, count in counted.calls.items()}}
    if torch.cuda.is_available():
        found["per_step"] = sum(places.values()) / SYNC_STEPS
        found["places"] = {place: count / SYNC_STEPS for place, count in places.most_common(12)}
    return found


class Synchronizations(TorchDispatchMode):
    """Counts operators whose result the host needs: a number out of a tensor, shapes that depend on values, copies
    from the device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and compute as usual."""
        name = func.overloadpacket.__name__
        if name in self.WAITING:
            self.calls[name] += 1
        result = func(*args, **(kwargs or {}))
        if name == "_to_copy" and isinstance(args[0], torch.Tensor) and args[0].is_cuda and not result.is_cuda:
            self.calls["copy to the host"] += 1
        return result


@contextmanager
def _sync_warnings() -> Iterator[Counter[str]]:
    """CUDA's own count: torch warns at each synchronizing call, with the Python line that made it."""
    places: Counter[str] = Counter()
    if not torch.cuda.is_available():
        yield places
        return

    def note(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if "synchronizing" in str(message):
            places[f"{'/'.join(Path(filename).parts[-2:])}:{lineno}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown, warnings.showwarning = warnings.showwarning, note  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = shown


def about() -> dict[str, Any]:
    """The device and the versions."""
    return hardware() | {"torch": torch.__version__, "cuda": torch.version.cuda, "capability": _capability()}


def _capability() -> list[int] | None:
    return list(torch.cuda.get_device_capability()) if torch.cuda.is_available() else None


def main(folder: str, group: str, side: str) -> int:
    """Run a group; ``side`` is "device" or "reference"."""
    place = Path(folder)
    job = json.loads((place / "job.json").read_text())
    cells, work = Cells(place, f"{side}/{group}"), place / "work" / side
    write_whole(cells.folder / "about.json", about())
    kind, _, name = group.partition("/")
    if kind == "train":
        train_group(cells, job, work, name)
    elif kind == "plans":
        plan_group(cells, job, work)
    else:
        speed_group(cells, job, work / kind, name, job["variants"][kind])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
