"""The whole model: ``Ranker`` is what ships, ``TrainingModel`` adds labels, losses and the objective's weights."""

from collections.abc import Sequence

import torch
from torch import nn

from c2al.batch import Batch
from c2al.embedding.tokens import FeatureTokens
from c2al.objectives.labels import head_labels
from c2al.objectives.per_head import per_head_losses


class Ranker(nn.Module):
    """``Batch -> logits_BH``: feature tokens, interaction, heads."""

    def __init__(self, embedding: FeatureTokens, interaction: nn.Module, heads: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.interaction = interaction
        self.heads = heads

    def forward(self, batch: Batch) -> torch.Tensor:
        """Head 0 is the primary one."""
        return self.heads(self.interaction(self.embedding(batch)))


def num_parameters(ranker: Ranker) -> dict[str, int]:
    """Of the dense part and of the tables, sharded or on meta; columns that only pad a table's rows are none."""
    dense = (p.numel() for name, p in ranker.named_parameters() if not name.startswith("embedding.tables."))
    return {"dense": sum(dense), "tables": ranker.embedding.num_table_parameters}


class Objective(nn.Module):
    """Logits and a batch's labels to one scalar; a leaf for the pipeline's tracing."""

    def __init__(self, weighting: nn.Module, auxiliaries: Sequence[tuple[int, int]], loss_unit: float) -> None:
        super().__init__()
        self.weighting = weighting
        self.auxiliaries = list(auxiliaries)
        self.loss_unit = loss_unit
        self.last_losses_H = torch.empty(0)

    def forward(
        self, logits_BH: torch.Tensor, label_B: torch.Tensor, weight_B: torch.Tensor, cohort_BA: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scalar to go backward from, and ``losses_H`` for the log; zeros in evaluation, which needs none."""
        if not self.training:
            return logits_BH.new_zeros(()), logits_BH.new_zeros(logits_BH.shape[1])
        label_BH = head_labels(label_B, cohort_BA, self.auxiliaries)
        losses_H = per_head_losses(logits_BH, label_BH, weight_B) / self.loss_unit
        self.last_losses_H = losses_H.detach()
        return (self.weighting(losses_H) * losses_H).sum(), self.last_losses_H


class TrainingModel(nn.Module):
    """``Batch -> (loss, (losses_H, logits_BH))``, the form that TorchRec's pipelines take.

    ``auxiliaries`` names each auxiliary head's cohort as (position of the axis in the batch, cohort id). ``loss_unit``
    is what all losses are divided by: a row's mean weight times the entropy of the training part's mean label. The
    primary loss is then the batch's normalized entropy, and learning rates and clipping mean the same on any data.
    """

    def __init__(
        self, ranker: Ranker, weighting: nn.Module, *, auxiliaries: Sequence[tuple[int, int]], loss_unit: float = 1.0
    ) -> None:
        super().__init__()
        self.ranker = ranker
        self.objective = Objective(weighting, auxiliaries, loss_unit)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """One forward through all heads."""
        logits_BH = self.ranker(batch)
        loss, losses_H = self.objective(logits_BH, batch.label_B, batch.weight_B, batch.cohort_BA)
        return loss, (losses_H, logits_BH.detach())
