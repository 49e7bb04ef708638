"""The whole model: ``Ranker`` is what ships, ``TrainingModel`` adds labels, losses and the objective's weights."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from c2al.batch import Batch
from c2al.embedding.tables import table_of
from c2al.embedding.tokens import FeatureTokens
from c2al.objectives.gramian import cosines, gramian
from c2al.objectives.labels import head_labels
from c2al.objectives.per_head import per_head_losses, per_row_loss
from c2al.objectives.weighting import Weighting


class Ranker(nn.Module):
    """``Batch -> logits_BH``: feature tokens, interaction, heads."""

    def __init__(self, embedding: FeatureTokens, interaction: nn.Module, heads: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.interaction = interaction
        self.heads = heads

    def forward(self, batch: Batch) -> torch.Tensor:
        """Head 0 is the primary one."""
        return self.heads(self.represent(batch))

    def represent(self, batch: Batch) -> torch.Tensor:
        """``z_BE``, what all heads share."""
        return self.interaction(self.embedding(batch))


class RowWeights(Protocol):
    """A module that says what each row's weight is multiplied by, and what it has to tell the log."""

    def __call__(self, loss_B: torch.Tensor, weight_B: torch.Tensor, cohort_B: torch.Tensor) -> torch.Tensor:
        """``factor_B``."""
        ...

    def told(self) -> dict[str, torch.Tensor]:
        """By name."""
        ...


def num_parameters(ranker: Ranker) -> dict[str, int]:
    """Of the dense part and of the tables, sharded or on meta; columns that only pad a table's rows are none."""
    dense = (p.numel() for name, p in ranker.named_parameters() if table_of(name) is None)
    return {"dense": sum(dense), "tables": ranker.embedding.num_table_parameters}


class Objective(nn.Module):
    """Logits and a batch's labels to one scalar; a leaf for the pipeline's tracing.

    ``rows`` weighs rows by their cohort of the axis at ``rows_axis`` before the heads' losses are taken.
    """

    def __init__(
        self,
        weighting: Weighting,
        auxiliaries: Sequence[tuple[int, int]],
        loss_unit: float,
        *,
        members: bool = False,
        rows: RowWeights | None = None,
        rows_axis: int = 0,
    ) -> None:
        super().__init__()
        self.weighting = weighting
        self.rows = rows
        self.auxiliaries, self.members, self.rows_axis = list(auxiliaries), members, rows_axis
        self.loss_unit = loss_unit
        self.last_losses_H = torch.empty(0)
        self._last: dict[str, torch.Tensor] = {}

    def forward(
        self,
        logits_BH: torch.Tensor,
        label_B: torch.Tensor,
        weight_B: torch.Tensor,
        cohort_BA: torch.Tensor,
        z_BE: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scalar to go backward from, and ``losses_H`` for the log; zeros in evaluation, which needs none."""
        if not self.training:
            return logits_BH.new_zeros(()), logits_BH.new_zeros(logits_BH.shape[1])
        if self.rows is not None:
            loss_B = per_row_loss(logits_BH[:, 0].detach(), label_B)
            weight_B = weight_B * self.rows(loss_B, weight_B, cohort_BA[:, self.rows_axis])
        label_BH = head_labels(label_B, cohort_BA, self.auxiliaries, members=self.members)
        losses_H = per_head_losses(logits_BH, label_BH, weight_B) / self.loss_unit
        self.last_losses_H = losses_H.detach()
        gramian_HH = None
        if self.weighting.needs_gramian:
            assert z_BE is not None, "the Gramian is of gradients with respect to z_BE"
            gramian_HH = gramian(losses_H, z_BE)
        weights_H = self.weighting(self.last_losses_H, gramian_HH)
        self._remember(weights_H, gramian_HH)
        return (weights_H * losses_H).sum() + self.weighting.penalty(losses_H), self.last_losses_H

    def at(self, step: int, num_steps: int) -> None:
        """Told before each step where training stands; steps count from 0."""
        self.weighting.at(step, num_steps)

    def told(self) -> dict[str, list[float]]:
        """What the method made of the last step, for the log: weights of heads or cohorts, cosines of gradients."""
        return {name: value.tolist() for name, value in self._last.items()}

    def _remember(self, weights_H: torch.Tensor, gramian_HH: torch.Tensor | None) -> None:
        self._last = {} if self.rows is None else dict(self.rows.told())
        if self.weighting.makes_weights:
            self._last["weights"] = weights_H
        if gramian_HH is not None:
            self._last["cosines"] = cosines(gramian_HH)


class TrainingModel(nn.Module):
    """``Batch -> (loss, (losses_H, logits_BH))``, the form that TorchRec's pipelines take.

    ``auxiliaries`` names each auxiliary head's cohort as (position of the axis in the batch, cohort id); with
    ``members`` those heads predict the cohort itself. ``loss_unit`` is what all losses are divided by: a row's mean
    weight times the entropy of the training part's mean label. The primary loss is then the batch's normalized entropy,
    and learning rates and clipping mean the same on any data. ``rows`` and ``rows_axis``: see ``Objective``.
    """

    def __init__(
        self,
        ranker: Ranker,
        weighting: Weighting,
        *,
        auxiliaries: Sequence[tuple[int, int]],
        loss_unit: float = 1.0,
        members: bool = False,
        rows: RowWeights | None = None,
        rows_axis: int = 0,
    ) -> None:
        super().__init__()
        self.ranker = ranker
        self.objective = Objective(weighting, auxiliaries, loss_unit, members=members, rows=rows, rows_axis=rows_axis)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """One forward through all heads."""
        z_BE = self.ranker.represent(batch)
        logits_BH = self.ranker.heads(z_BE)
        loss, losses_H = self.objective(logits_BH, batch.label_B, batch.weight_B, batch.cohort_BA, z_BE)
        return loss, (losses_H, logits_BH.detach())
