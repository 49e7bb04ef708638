"""What a run has left, read by one process without a process group: its config, and its weights part by part.

No rank is started and no table is held whole: one that was cut over ranks comes back in the pieces in which it was
saved, whatever the plan and the number of ranks.
"""

import json
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from omegaconf import DictConfig, OmegaConf
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from c2al.parallel.rectangles import LoadPlanner, Rectangles
from c2al.schema import DataError, Schema
from c2al.training.checkpoint_store import Store

RANKER = "dense.ranker."


def config_of(run: str) -> DictConfig:
    """The config that a run was trained with; DataError where there is no run."""
    path = Path(run) / "config.yaml"
    if not path.exists():
        raise DataError("no run there", file=run, remedy="mend run=…: a folder that `c2al train` made")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config


class SavedRun:
    """A finished run's weights: those that its report is of (the average, the best step), or those of ``step``."""

    def __init__(self, run: str, *, step: int | None = None) -> None:
        self.path, self.config = run, config_of(run)
        self.schema = Schema.load(self.config.data.path)
        options = self.config.training
        self._store = Store(options.checkpoints or f"{run}/checkpoints")
        self.step, self.progress = self._choose(step, best=bool(options.early_stopping))
        self._average = "average." if options.average else ""
        place = self._store.where(self.step)
        self._reader = FsspecReader(place) if self._store.is_url else dcp.FileSystemReader(place)
        self._saved = self._reader.read_metadata().state_dict_metadata

    def dense(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers of the model but for its tables, by their names in the ``Ranker``."""
        prefix = self._average + RANKER
        state: dict[str, Any] = {
            name: torch.empty(saved.size, dtype=saved.properties.dtype)
            for name, saved in self._saved.items()
            if name.startswith(prefix) and isinstance(saved, TensorStorageMetadata)
        }
        self._load(state)
        return {name.removeprefix(prefix): value for name, value in state.items()}

    def table(self, column: str) -> Iterator[torch.Tensor]:
        """The rows of a column's table, float32, one piece after another."""
        name = f"{self._average}tables.{column}.weight"
        saved = self._saved.get(name)
        if not isinstance(saved, TensorStorageMetadata):
            raise DataError(
                "the checkpoint has no such table",
                file=self._store.where(self.step),
                column=column,
                remedy="name the run that was trained on these columns",
            )
        ends = sorted({0, saved.size[0], *(chunk.offsets[0] for chunk in saved.chunks)})
        for start, stop in pairwise(ends):
            rows = torch.empty(stop - start, saved.size[1])
            self._load({name: Rectangles(saved.size, [(rows, (start, 0))])})
            yield rows

    @property
    def plain(self) -> dict[str, Any]:
        """The config in plain Python."""
        config: Any = OmegaConf.to_container(self.config, resolve=True)
        return config

    @property
    def report(self) -> dict[str, Any]:
        """The run's ``report.json``; empty where it has none yet."""
        path = Path(self.path) / "report.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def versions(self) -> dict[str, Any]:
        """Of c2al and of the libraries with which the checkpoint was written."""
        said = self.progress["contents"]
        return {"c2al": said.get("c2al"), "commit": said.get("commit"), **said.get("versions", {})}

    def _load(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is meant here
            dcp.load(state, storage_reader=self._reader, planner=LoadPlanner(), no_dist=True)

    def _choose(self, step: int | None, *, best: bool) -> tuple[int, dict[str, Any]]:
        whole = self._store.steps()
        if not whole or (step is not None and step not in whole):
            remedy = f"step={', '.join(map(str, whole))}" if whole else "train it, or resume=true"
            problem = "no checkpoint of that step" if whole else "the run has no complete checkpoint"
            raise DataError(problem, file=self._store.place, value=step, remedy=remedy)
        chosen = whole[-1] if step is None else step
        progress = self._read(chosen)
        if step is None and best and progress["best_step"] is not None:
            return progress["best_step"], self._read(progress["best_step"])
        return chosen, progress

    def _read(self, step: int) -> dict[str, Any]:
        try:
            return self._store.read(step)
        except (ValueError, OSError) as error:
            raise DataError(
                f"the checkpoint is damaged: {error}",
                file=self._store.where(step),
                remedy="name another by step=…; c2al checkpoint show lists them",
            ) from None
