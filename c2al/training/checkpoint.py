"""Checkpoints by torch.distributed.checkpoint: complete under their final name, or not there at all."""

import json
import logging
import random
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from c2al.parallel.optimizers import Optimizers
from c2al.parallel.ranks import Ranks, agree, gather
from c2al.schema import DataError
from c2al.training.averaging import WeightAverage

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, ``checkpoints/step_<8 digits>``: tensors by DCP, ``progress.json``, RNG states.

    Written under ``….partial`` and renamed when every rank has written, so a kill at any moment leaves the one before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sharded: nn.Module,
        optimizers: Optimizers,
        average: WeightAverage | None,
        ranks: Ranks,
        keep: int = 2,
    ) -> None:
        self.folder, self.ranks, self.keep = folder, ranks, keep
        self.sharded, self.optimizers, self.average = sharded, optimizers, average

    def save(self, progress: dict[str, Any], *, protect: int | None = None) -> None:
        """Save all state after ``progress["step"]`` steps; older ones beyond ``keep`` go, but not step ``protect``."""
        final = _path(self.folder, progress["step"])
        if final.exists():
            return
        partial = final.with_suffix(".partial")
        if self.ranks.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        gather(None)
        error: Exception | None = None
        try:
            dcp.save(self._state(), checkpoint_id=str(partial))
            torch.save(_rng_state(), partial / f"rng_rank_{self.ranks.rank}.pt")
        except (OSError, CheckpointException) as cause:
            error = DataError(
                f"the checkpoint could not be written: {_unwrapped(cause)}",
                file=str(final),
                remedy="free disk space, then go on with resume=true; the checkpoint before is whole",
            )
        agree(error)
        if self.ranks.is_first:
            (partial / "progress.json").write_text(json.dumps(progress))
            partial.rename(final)
            for old in complete(self.folder)[: -self.keep]:
                if old != _path(self.folder, protect):
                    shutil.rmtree(old, ignore_errors=True)
        gather(None)

    def load(self, step: int | None = None) -> dict[str, Any] | None:
        """Restore the newest complete checkpoint, or that of a step; its progress, or None where there is none.

        One that is damaged is passed over for the one before, set aside as ``….damaged``, and the user told.
        """
        found = complete(self.folder)
        if step is not None:
            kept = {int(path.name.removeprefix("step_")): path for path in found}
            if step not in kept:
                remedy = f"step={', '.join(map(str, kept)) or 'none is kept'}"
                raise DataError("no checkpoint of that step", file=str(self.folder), value=step, remedy=remedy)
            found = [kept[step]]
        causes: list[str] = []
        for path in reversed(found):
            progress, cause = self._read(path)
            if progress is not None:
                self._set_aside(found[len(found) - len(causes) :], path, causes)
                log.info("loaded %s", path)
                return progress
            causes.append(cause)
        if not causes:
            return None
        error = DataError(
            f"the checkpoint is damaged or does not fit this model and plan: {causes[0]}",
            file=str(found[-1]),
            remedy="resume with the config of the run, or start anew with overwrite=true",
        )
        agree(error)
        raise error

    def _read(self, path: Path) -> tuple[dict[str, Any] | None, str]:
        """The progress of a checkpoint that all ranks could restore, or a cause why one could not. Collective."""
        cause = ""
        try:
            progress = json.loads((path / "progress.json").read_text())
            rng = path / f"rng_rank_{self.ranks.rank}.pt"
            rng_state = torch.load(rng, weights_only=False) if rng.exists() else None
        except Exception as error:  # whatever half a file makes json and pickle say
            cause = _unwrapped(error)
        if not any(causes := gather(cause)):
            _fill_lazy_state(self.optimizers)
            state = self._state()
            try:
                dcp.load(state, checkpoint_id=str(path))
            except (Exception, CheckpointException) as error:
                cause = _unwrapped(error)
            causes = gather(cause)
        if any(causes):
            return None, next(each for each in causes if each)
        self.sharded.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optim"])
        self.optimizers.num_steps = progress["step"]
        if rng_state is not None:
            _set_rng_state(rng_state)
        return progress, ""

    def _set_aside(self, damaged: list[Path], loaded: Path, causes: list[str]) -> None:
        """Out of the way of the checkpoint that will be written there again (rank 0)."""
        if not self.ranks.is_first:
            return
        for path, cause in zip(reversed(damaged), causes, strict=True):
            aside = path.with_suffix(".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            message = f"checkpoint {path} is damaged and set aside, going on from {loaded.name}: {cause}"
            log.warning(message)
            print(f"c2al: {message}", file=sys.stderr, flush=True)

    def _state(self) -> dict[str, Any]:
        state = {"model": self.sharded.state_dict(), "optim": self.optimizers.state_dict()}
        if self.average is not None:
            state["average"] = self.average.state
        return state


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step_????????") if (path / "progress.json").exists())


def _path(folder: Path, step: int | None) -> Path:
    return folder / f"step_{step or 0:08d}"


def _fill_lazy_state(optimizers: Optimizers) -> None:
    """Adam makes its moments at its first step; make them now, by a step of zero gradients, for load to fill."""
    for parameter in optimizers.dense_parameters:
        parameter.grad = torch.zeros_like(parameter)
    dense = optimizers.optimizers[-1][1]
    if not dense.state_dict()["state"] or not all(dense.state_dict()["state"].values()):
        dense.step()
    optimizers.zero_grad()


def _rng_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _unwrapped(error: BaseException) -> str:
    """The cause that ``str(CheckpointException)`` buries, in one short line."""
    causes = [repr(error)]
    if isinstance(error, CheckpointException):
        causes = [f"rank {rank}: {cause[0]!r}" for rank, cause in error.failures.items()]
    return textwrap.shorten("; ".join(causes), 300, placeholder=" …")
