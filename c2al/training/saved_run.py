"""What a run has left, read by one process without a process group: its config, and its weights part by part.

No rank is started and no table is held whole: one that was cut over ranks comes back in the pieces in which it was
saved, whatever the plan and the number of ranks.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from omegaconf import DictConfig, OmegaConf
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from c2al.parallel.rectangles import LoadPlanner, Rectangles
from c2al.schema import DataError, Schema
from c2al.training import checkpoint_files, encoding
from c2al.training.checkpoint_faults import NO_DIGESTS, tell, unwrapped, want_of_memory
from c2al.training.checkpoint_store import Store
from c2al.training.loaded_config import read_run
from c2al.training.progress_file import checked
from c2al.training.run_dir import refuse_links

RANKER = "dense.ranker."


def config_of(run: str, *, trusted: Sequence[str] = ()) -> DictConfig:
    """Return the config that a run was trained with.

    Args:
        run: The run's folder, which may be a stranger's.
        trusted: Packages whose code it may name beside c2al's: ``trusted_modules``.

    Raises:
        DataError: There is no run, its config is none, or it names code that is not trusted; or the folder has links
            by which what is written into it would land elsewhere.
    """
    path = Path(run) / "config.yaml"
    if not path.exists():
        raise DataError("no run there", file=run, remedy="fix run=…: a folder that `c2al train` made")
    refuse_links(Path(run))
    return read_run(path, trusted=trusted)


class SavedRun:
    """A finished run's weights: those that its report is of (the average, the best step), or those of ``step``."""

    def __init__(self, run: str, *, step: int | None = None, trusted: Sequence[str] = ()) -> None:
        """``trusted`` as in ``config_of``; ``config.trusted_modules`` then holds it for whoever builds the model."""
        self.path, self.config = run, config_of(run, trusted=trusted)
        self.schema = Schema.load(self.config.data.path)
        options = self.config.training
        self._store = Store(options.checkpoints or f"{run}/checkpoints")
        self._average = "average." if options.average else ""
        self.step, self.progress = self._choose(step, best=bool(options.early_stopping))
        if data := self.progress["contents"].get("data"):
            encoding.check(data, self.config.data.path, self.schema, file=self._store.where(self.step))

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
    def metrics(self) -> dict[str, Any]:
        """By split, of the run's ``report.json``; empty where that is of another step, or there is none."""
        try:
            report = json.loads((Path(self.path) / "report.json").read_bytes())
            progress, metrics = report["progress"], report["metrics"]
            best = progress["best_step"] if self.config.training.early_stopping else None
            same = self.step == (progress["step"] if best is None else best)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return metrics if same and isinstance(metrics, dict) else {}

    @property
    def versions(self) -> dict[str, Any]:
        """Of c2al and of the libraries with which the checkpoint was written."""
        said = self.progress["contents"]
        return {"c2al": said.get("c2al"), "commit": said.get("commit"), **said.get("versions", {})}

    def _load(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is meant here
            try:
                dcp.load(state, storage_reader=self._reader, planner=LoadPlanner(), no_dist=True)
            except (Exception, CheckpointException) as error:  # of the reader, the file system or the zip files within
                file = self._store.where(self.step)
                raise want_of_memory(error, file) or DataError(
                    f"the checkpoint is damaged: {unwrapped(error)}",
                    file=file,
                    remedy="name another by step=…; c2al checkpoint show lists them",
                ) from None

    def _choose(self, step: int | None, *, best: bool) -> tuple[int, dict[str, Any]]:
        """Open the step asked for, or the one that the report is of; where that is damaged, the newest whole one."""
        there = self._store.steps()
        if not there or (step is not None and step not in there):
            remedy = f"step={', '.join(map(str, there))}" if there else "train it, or resume=true"
            problem = "no checkpoint of that step" if there else "the run has no complete checkpoint"
            raise DataError(problem, file=self._store.place, value=step, remedy=remedy)
        damaged: dict[int, DataError] = {}
        wanted = [step] if step is not None else there[::-1]
        while wanted:
            each = wanted.pop(0)
            try:
                progress = self._open(each)
            except DataError as error:
                damaged[each] = error
                continue
            better = progress["best_step"]
            if step is None and best and better is not None and better not in {each, *damaged}:
                wanted, best = [better, each, *wanted], False
                continue
            for other, cause in damaged.items():
                tell(f"checkpoint {self._store.where(other)} is passed over for that of step {each}: {cause.problem}")
            return each, progress
        raise next(iter(damaged.values()))

    def _open(self, step: int) -> dict[str, Any]:
        """Make ready to read the tensors of a step; its progress. DataError where a file is not as it was written."""
        place = self._store.where(step)
        try:
            progress = checked(self._store.read(step))
            if cause := self._store.damage(step, progress):
                raise ValueError(cause)
            self._reader = checkpoint_files.reader(place, progress["files"], is_url=self._store.is_url)
            self._saved = self._reader.read_metadata().state_dict_metadata
            sizes = progress["contents"]["sizes"]
            if other := [
                name for name, each in self._saved.items() if list(each.size) != sizes.get(name, [*each.size])
            ]:
                raise ValueError(f"progress.json and .metadata have other sizes of {other[0]}")
        except (ValueError, OSError) as error:
            raise DataError(
                f"the checkpoint is damaged: {error}",
                file=place,
                remedy="name another by step=…; c2al checkpoint show lists them",
            ) from None
        if "sha256" not in progress:
            tell(f"checkpoint {place} {NO_DIGESTS}")
        if strangers := self._store.strangers(step, progress):
            tell(f"{place} holds files that are none of the checkpoint's: {', '.join(strangers)}")
        return progress
