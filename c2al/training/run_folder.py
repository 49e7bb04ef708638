"""A run is a folder: config, report, metrics, checkpoints, scores, weights, curves and logs under one path."""

import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from c2al import __version__
from c2al.parallel.ranks import Ranks, agree, gather
from c2al.schema import DataError

log = logging.getLogger(__name__)


class RunFolder:
    """The files of one run. Rank 0 writes all but the other ranks' logs; one folder whatever the number of ranks."""

    def __init__(self, path: str, *, ranks: Ranks, resume: bool = False, overwrite: bool = False) -> None:
        self.path, self.ranks = Path(path), ranks
        error: Exception | None = None
        if ranks.is_first:
            error = self._open(resume=resume, overwrite=overwrite)
        agree(error)
        self._log_to_file()
        self._tensorboard: Any = None

    def _open(self, *, resume: bool, overwrite: bool) -> Exception | None:
        try:
            if overwrite and not resume and (self.path / "config.yaml").exists():
                shutil.rmtree(self.path)
            if (self.path / "config.yaml").exists() and not resume:
                return DataError(
                    "a run is there already",
                    file=str(self.path),
                    remedy="go on with it by resume=true, replace it by overwrite=true, or choose another name=…",
                )
            for each in ("checkpoints", "scores", "weights", "tensorboard", "logs"):
                (self.path / each).mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            return DataError(f"the run folder cannot be made: {cause}", file=str(self.path), remedy="mend run_dir=…")
        return None

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all (rank 0)."""
        if self.ranks.is_first:
            partial = self.path / f"{name}.partial"
            partial.write_text(text)
            partial.rename(self.path / name)

    def log_metrics(self, line: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl`` and its numbers to TensorBoard (rank 0)."""
        if not self.ranks.is_first:
            return
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter  # half a second, on rank 0 alone

            self._tensorboard = SummaryWriter(str(self.path / "tensorboard"))
        for name, value in line.items():
            if isinstance(value, (int, float)) and name not in ("step", "epoch"):
                self._tensorboard.add_scalar(f"{line.get('split', 'run')}/{name}", value, line["step"])

    def forget_after(self, step: int) -> None:
        """Drop the metrics and weights that a killed run wrote beyond the checkpoint from which it goes on (rank 0)."""
        if not self.ranks.is_first:
            return
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            kept = [line for line in metrics.read_text().splitlines() if _step_of(line) <= step]
            self.write("metrics.jsonl", "".join(f"{line}\n" for line in kept))
        for path in (self.path / "weights").glob("step_*.npz"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()

    def write_weights(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write ``weights/step_<8 digits>.npz`` (rank 0)."""
        if self.ranks.is_first:
            path = self.path / "weights" / f"step_{step:08d}.npz"
            with path.with_suffix(".partial").open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            path.with_suffix(".partial").rename(path)

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``: the run is finished."""
        self.write("report.json", json.dumps(report, indent=1))

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Log a failure, flush the curves, leave the log."""
        if isinstance(error, BaseException):
            log.error("the run failed", exc_info=error)
        if self._tensorboard is not None:
            self._tensorboard.close()
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()

    def _log_to_file(self) -> None:
        gather(None)  # rank 0 has made the folder
        self._handler = logging.FileHandler(self.path / "logs" / f"rank_{self.ranks.rank}.log")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.handlers = [self._handler]  # the console has the bar and the results; TorchRec's INFO is for its authors
        root.setLevel(logging.WARNING)
        logging.getLogger("c2al").setLevel(logging.INFO)


def provenance(ranks: Ranks) -> dict[str, Any]:
    """What a report must say of code and machine."""
    return {
        "c2al": __version__,
        "commit": _commit(),
        "versions": {name: _version(name) for name in ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "numpy")},
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "device": ranks.device.type,
            "python": platform.python_version(),
        },
        "world_size": ranks.world_size,
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    asked = subprocess.run(["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return asked.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line that the kill cut short
        return 1 << 62
