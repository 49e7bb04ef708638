"""What a run's model makes of each unit (a user, a household): the mean of z_BE over its rows of a split.

Written beside the scores as ``scores/<split>_units.npz``: ``unit`` [U], ``rows`` [U] and ``z_UE`` float32, with
``scores/<split>.parquet``, in one pass over the rows and on any number of ranks.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from c2al.data.scan import read_columns
from c2al.model import Ranker
from c2al.parallel.ranks import Ranks, sum_over_ranks, together
from c2al.plain_files import whole_file
from c2al.schema import DataError, Schema
from c2al.training import build
from c2al.training.evaluate import evaluate_splits
from c2al.training.evaluate_run import loaded_run


def represent_run(run: str, *, split: str = "train", trusted: Sequence[str] = ()) -> Path:
    """Write the units' means and the scores of a finished run; the file of the means."""
    with loaded_run(run, trusted=trusted) as (training, folder):
        config, ranks = training.config, training.ranks
        units = together(lambda: _units(training.schema, config.data.path, split))
        reader = build.build_reader(config, ranks, split=split, axes=[], shuffle=False)
        with UnitMeans(training.sharded, units) as means:
            evaluate_splits(
                training.sharded,
                {split: reader},
                axes=[],
                folder=config.data.path,
                run=folder.path,
                average=training.average,
                ranks=ranks,
            )
        path = folder.path / "scores" / f"{split}_units.npz"
        means.write(path, ranks)
        return path


def _units(schema: Schema, folder: str, split: str) -> np.ndarray:
    if schema.unit is None:
        raise DataError(
            "users can be told apart only by a unit column",
            file="schema.yaml",
            remedy="prepare the data with unit=…, or ask for axes=[learned_tree], which goes by columns",
        )
    return read_columns(folder, split, [schema.unit])[schema.unit]


class UnitMeans(AbstractContextManager):
    """Watches a model's forwards and keeps, for each unit, the sum of z_BE over the rows that went by."""

    def __init__(self, sharded: nn.Module, unit_R: np.ndarray) -> None:
        self.unit, code_R, self.rows = np.unique(unit_R, return_inverse=True, return_counts=True)
        self._code_R = torch.from_numpy(code_R.astype(np.int64))
        self._sum_UE = torch.empty(0)
        ranker = next(module for module in sharded.modules() if isinstance(module, Ranker))
        self._hooks = [
            ranker.interaction.register_forward_hook(self._take),
            sharded.register_forward_hook(self._add),
        ]

    def _take(self, _: nn.Module, __: Any, z_BE: torch.Tensor) -> None:
        self._z_BE = z_BE.detach().float().cpu()

    def _add(self, _: nn.Module, arguments: Any, __: torch.Tensor) -> None:
        row_B = arguments[0].row_B.cpu()
        real = row_B >= 0
        if not len(self._sum_UE):
            self._sum_UE = torch.zeros(len(self.unit), self._z_BE.shape[1], dtype=torch.float64)
        self._sum_UE.index_add_(0, self._code_R[row_B[real]], self._z_BE[real].double())

    def write(self, path: Path, ranks: Ranks) -> None:
        """Sum over ranks and divide by the rows; rank 0 writes. Collective."""
        sum_UE = self._sum_UE.to(ranks.device)
        sum_over_ranks([sum_UE])
        if not ranks.is_first:
            return
        z_UE = (sum_UE.cpu().numpy() / self.rows[:, None]).astype(np.float32)
        with whole_file(path) as file:
            np.savez(file, unit=self.unit, rows=self.rows, z_UE=z_UE)

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
