"""What happens between steps: a line in the log, an evaluation, a snapshot of the weights, a checkpoint, a stop."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from c2al.data.reader import Reader
from c2al.interaction.fm_attention import FMAttention
from c2al.interaction.masked_attention import AttentionWeights
from c2al.parallel.optimizers import Optimizers
from c2al.parallel.ranks import Ranks, gather, sum_over_ranks
from c2al.training.averaging import WeightAverage, with_average
from c2al.training.evaluate import evaluate, nothing
from c2al.training.loop import Progress
from c2al.training.run_folder import RunFolder


class TrainLog:
    """Losses, learning rates and rows/s every few steps; the losses are means over the steps and ranks between."""

    def __init__(self, folder: RunFolder, ranks: Ranks, progress: Progress, *, every: int) -> None:
        self.folder, self.ranks, self.every = folder, ranks, every
        kept = progress.losses_since if len(progress.losses_since) == ranks.world_size else [[]] * ranks.world_size
        self._losses = [torch.tensor(each) for each in kept[ranks.rank]]
        self._rows, self._seconds = progress.rows, progress.seconds
        self.last: dict[str, Any] = {}

    def keep(self, progress: Progress) -> None:
        """Put every rank's losses since the last line into ``progress``, for a checkpoint: the next line is the same.

        Collective.
        """
        progress.losses_since = gather([each.tolist() for each in self._losses])

    def after_step(
        self,
        progress: Progress,
        losses_H: torch.Tensor,
        optimizers: Optimizers,
        told: Callable[[], dict[str, list[float]]] = dict,
    ) -> None:
        """Keep the losses; every ``every`` steps write one line, with what the method has ``told`` of this step."""
        self._losses.append(losses_H)
        if progress.step % self.every:
            return
        mean_H = torch.stack([each.to(losses_H.device) for each in self._losses]).mean(0).double().cpu()
        sum_over_ranks([mean_H])
        mean_H /= self.ranks.world_size
        rows, seconds = progress.rows - self._rows, progress.seconds - self._seconds
        self.last = {
            "step": progress.step,
            "num_steps": optimizers.schedule.num_steps,
            "epoch": progress.epoch,
            "rows": progress.rows,
            "seconds": round(progress.seconds, 3),
            "split": "train",
            "loss": float(mean_H[0]),
            "losses": mean_H.tolist(),
            "lr": optimizers.learning_rates[-1],
            "rows_per_s": round(rows / seconds, 1),
            "grad_norm": optimizers.grad_norm,
            **told(),
        }
        self._losses, self._rows, self._seconds = [], progress.rows, progress.seconds
        self.folder.log_metrics(self.last)


class Snapshots:
    """``weights/step_*.npz``: dense weights; on fixed validation rows Y and feature tokens, and attention's weights."""

    def __init__(self, folder: RunFolder, sharded: nn.Module, reader: Reader, ranks: Ranks) -> None:
        self.folder, self.sharded, self.ranks = folder, sharded, ranks
        self.sample = next(iter(reader.batches())).to(ranks.device)

    @torch.no_grad()
    def take(self, step: int) -> None:
        """Write the weights of the interaction and the heads, and the activations."""
        ranker = next(each for name, each in self.sharded.named_modules() if name.endswith("ranker"))
        arrays = {
            name: parameter.detach().float().cpu().numpy()
            for name, parameter in ranker.named_parameters()
            if name.startswith(("interaction.", "heads."))
        }
        hooks = [
            hook
            for name, module in ranker.named_modules()
            if isinstance(module, FMAttention | AttentionWeights)
            for hook in _record(arrays, name, module)
        ]
        was_training = self.sharded.training
        self.sharded.eval()(self.sample)
        self.sharded.train(was_training)
        for hook in hooks:
            hook.remove()
        self.folder.write_weights(step, arrays)


def _record(
    arrays: dict[str, np.ndarray], name: str, attention: FMAttention | AttentionWeights
) -> list[RemovableHandle]:
    """Keep what an FM attention reads, ``input.…`` [B, F, D], and the Y that it makes, ``activation.…`` [B, F, K].

    Of other attention its weights, ``activation.…`` [B, heads, queries, places].
    """

    def keep(key: str, tensor: torch.Tensor) -> None:
        arrays[key] = tensor.detach().float().cpu().numpy()

    if isinstance(attention, AttentionWeights):
        return [attention.register_forward_hook(lambda _, __, output: keep(f"activation.{name}", output))]
    hooks = [attention.register_forward_hook(lambda _, inputs, output: keep(f"input.{name}", inputs[0]))]
    if attention.attention is not None:
        key = f"activation.{name}.attention"
        hooks.append(attention.attention.register_forward_hook(lambda _, inputs, output: keep(key, output)))
    return hooks


class Validation:
    """Normalized entropy on validation rows along training, for the curves and for early stopping."""

    def __init__(
        self,
        folder: RunFolder,
        sharded: nn.Module,
        reader: Reader,
        ranks: Ranks,
        *,
        average: WeightAverage | None,
        num_steps: int | None,
        patience: int | None,
    ) -> None:
        self.folder, self.sharded, self.reader, self.ranks = folder, sharded, reader, ranks
        self.average, self.num_steps, self.patience = average, num_steps, patience
        self.last: dict[str, Any] = {}

    def run(self, progress: Progress, between: Callable[[], None] = nothing) -> bool:
        """Evaluate and log; True where it was the best so far. ``between`` is called after each step of it."""
        steps = self.num_steps
        with with_average(self.average):
            metrics, _ = evaluate(
                self.sharded, self.reader, axes=[], ranks=self.ranks, num_steps=steps, between=between
            )
        overall = {name: metrics["overall"][name] for name in ("ne", "auc", "calibration", "log_loss")}
        where = {"step": progress.step, "epoch": progress.epoch, "rows": progress.rows, "split": "validation"}
        self.last = where | overall
        self.folder.log_metrics(self.last)
        if overall["ne"] is None:  # a sample with one kind of label judges nothing
            return False
        if progress.best_ne is None or overall["ne"] < progress.best_ne:
            progress.best_ne, progress.best_step = overall["ne"], progress.step
            progress.evaluations_since_best = 0
            return True
        progress.evaluations_since_best += 1
        progress.stopped_early = self.patience is not None and progress.evaluations_since_best >= self.patience
        return False
