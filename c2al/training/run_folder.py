"""A run is a folder: config, report, metrics, checkpoints, scores, weights, curves and logs under one path."""

import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from c2al import __version__
from c2al.json_text import to_json
from c2al.parallel.endings import full_disk
from c2al.parallel.environment import own_rank
from c2al.parallel.ranks import Ranks, agree, broadcast
from c2al.parallel.signals import Stopped
from c2al.parallel.threads import usable_cores
from c2al.plain_files import whole_file, write_whole
from c2al.schema import DataError
from c2al.training.lock import FolderLock, goes_on
from c2al.training.run_dir import clear_run, refuse_existing, refuse_links

log = logging.getLogger(__name__)


class RunFolder:
    """The files of one run. Rank 0 writes all but the other ranks' logs; one folder whatever the number of ranks."""

    def __init__(
        self, path: str, *, ranks: Ranks, resume: bool = False, overwrite: bool = False, locked: bool = True
    ) -> None:
        self.path, self.ranks, self.resume = Path(path), ranks, resume
        self._lock = FolderLock(self.path)
        error: Exception | None = None
        if ranks.is_first:
            error = self._open(overwrite=overwrite, locked=locked)
        agree(error)
        self.resume = broadcast(self.resume)
        self._log_to_file()
        self._tensorboard: Any = None

    def _open(self, *, overwrite: bool, locked: bool) -> Exception | None:
        try:
            if self.path.is_dir():
                refuse_links(self.path, checkpoints=locked)
            if locked:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock.take()
                self._begin(overwrite)
            for each in ("checkpoints", "scores", "weights", "tensorboard", "logs"):
                (self.path / each).mkdir(parents=True, exist_ok=True)
        except DataError as error:
            self._lock.release()
            return error
        except OSError as cause:
            return DataError(
                f"the run folder cannot be made: {cause}",
                file=str(self.path),
                remedy="set run_dir=… to a folder that can be written",
            )
        return None

    def _begin(self, overwrite: bool) -> None:
        """Go on, clear the folder, or refuse. A job that is started again goes on with its own run."""
        before = self._lock.read()
        self.resume = self.resume or goes_on(before)
        clearing = bool(before.get("clearing"))
        if not self.resume:
            refuse_existing(self.path, overwrite=overwrite, clearing=clearing)
        if clearing or (overwrite and not self.resume):
            clear_run(self.path, self._lock)
        self._lock.write()

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all (rank 0)."""
        if self.ranks.is_first:
            write_whole(self.path / name, text)

    def log_metrics(self, line: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl`` and its numbers to TensorBoard (rank 0)."""
        if not self.ranks.is_first:
            return
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(to_json(line) + "\n")
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter  # half a second, on rank 0 alone

            self._tensorboard = SummaryWriter(str(self.path / "tensorboard"))
        for name, value in line.items():
            if name not in ("step", "epoch"):
                for key, number in _numbers(name, value):
                    self._tensorboard.add_scalar(f"{line.get('split', 'run')}/{key}", number, line["step"])

    def forget_after(self, step: int, *, validated: bool = True) -> None:
        """Drop the metrics and weights that a killed run wrote beyond the checkpoint from which it goes on (rank 0).

        Where the step is not ``validated``, what is of its validation goes as well: it will be done again.
        """
        if not self.ranks.is_first:
            return
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            lines = [(line, *_place_of(line)) for line in metrics.read_text().splitlines()]
            kept = [line for line, at, split in lines if at < step or (at == step and (validated or split == "train"))]
            self.write("metrics.jsonl", "".join(f"{line}\n" for line in kept))
        for path in (self.path / "weights").glob("step_*.npz"):
            at = path.stem.removeprefix("step_")
            if at.isascii() and at.isdecimal() and int(at) > step:
                path.unlink()

    def write_weights(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write ``weights/step_<8 digits>.npz`` (rank 0)."""
        if self.ranks.is_first:
            path = self.path / "weights" / f"step_{step:08d}.npz"
            with whole_file(path) as file:
                np.savez(file, allow_pickle=False, **arrays)

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``: the run is finished."""
        self.write("report.json", to_json(report, indent=1))

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Log how the run ended, flush the curves, leave the log and the lock. An error of a full disk gets a name."""
        if isinstance(error, Stopped):
            log.info("%s", error)
        elif isinstance(error, BaseException):
            self._name(error)
            self._handler.handle(_failure(error, self._handler.baseFilename))
        try:
            if self._tensorboard is not None:
                self._tensorboard.close()
        except OSError as of_the_curves:
            if error is None:
                self._name(of_the_curves)
                raise
        finally:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
            self._lock.release()

    def _name(self, error: BaseException) -> None:
        """A write into an open file does not say which: all that a run writes is in its folder."""
        if isinstance(error, OSError) and error.filename is None and full_disk(error):
            error.filename = str(self.path)

    def _log_to_file(self) -> None:
        self._handler = _LogFile(self.path, self.ranks.rank)
        root = logging.getLogger()
        root.handlers = [self._handler]  # the console has the bar and the results; TorchRec's INFO is for its authors
        root.setLevel(logging.WARNING)
        logging.getLogger("c2al").setLevel(logging.INFO)


class _LogFile(logging.FileHandler):
    """``logs/rank_<n>.log``, appended to. On a full disk it is silent: what fills the disk is said by what fails."""

    def __init__(self, run: Path, rank: int) -> None:
        super().__init__(run / "logs" / f"rank_{rank}.log")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the record."""

    def close(self) -> None:
        """Drop what could not be written: its error would stand in the place of the one that says why."""
        with suppress(OSError):
            super().close()


@contextmanager
def start_logged(path: str) -> Iterator[None]:
    """Log a failure that comes before the run folder is open, such as ranks that do not find each other."""
    try:
        yield
    except Exception as error:
        run, rank = Path(path), own_rank()
        try:
            (run / "logs").mkdir(parents=True, exist_ok=True)
            handler = _LogFile(run, rank)
        except OSError:
            raise error from None
        handler.handle(_failure(error, handler.baseFilename))
        handler.close()
        raise


def _failure(error: BaseException, path: str) -> logging.LogRecord:
    """The record of a failure, with its traceback; the error gets a note that says where it is."""
    error.add_note(f"traceback in {path}")
    trace = (type(error), error, error.__traceback__)
    return log.makeRecord(log.name, logging.ERROR, __file__, 0, "the run failed: %s", (error,), trace)


def provenance(ranks: Ranks) -> dict[str, Any]:
    """What a report must say of code and machine."""
    return {
        "c2al": __version__,
        "commit": _commit(),
        "versions": {name: _version(name) for name in ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "numpy")},
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "usable_cores": usable_cores(),
            "threads": ranks.threads.number,
            "threads_by": ranks.threads.why,
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


def _numbers(name: str, value: Any) -> list[tuple[str, float]]:
    """A number, or those of a list as ``name/0``, ``name/1``, …"""
    if isinstance(value, list):
        return [(f"{name}/{index}", number) for index, number in enumerate(value)]
    return [(name, value)] if isinstance(value, int | float) else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _place_of(line: str) -> tuple[int, str]:
    try:
        found = json.loads(line)
        return int(found["step"]), str(found["split"])
    except (ValueError, KeyError, TypeError):  # a line that the kill cut short
        return 1 << 62, ""
