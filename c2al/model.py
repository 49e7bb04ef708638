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


class Objective(nn.Module):
    """Logits and a batch's labels to one scalar; a leaf for the pipeline's tracing."""

    def __init__(self, weighting: nn.Module, auxiliaries: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.weighting = weighting
        self.auxiliaries = list(auxiliaries)

    def forward(
        self, logits_BH: torch.Tensor, label_B: torch.Tensor, weight_B: torch.Tensor, cohort_BA: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scalar to go backward from, and ``losses_H`` for the log."""
        label_BH = head_labels(label_B, cohort_BA, self.auxiliaries)
        losses_H = per_head_losses(logits_BH.float(), label_BH, weight_B)
        weights_H = self.weighting(losses_H)
        return (weights_H * losses_H).sum(), losses_H.detach()


class TrainingModel(nn.Module):
    """``Batch -> (loss, (losses_H, logits_BH))``, the form that TorchRec's pipelines take.

    ``auxiliaries`` names each auxiliary head's cohort as (position of the axis in the batch, cohort id).
    """

    def __init__(self, ranker: Ranker, weighting: nn.Module, auxiliaries: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.ranker = ranker
        self.objective = Objective(weighting, auxiliaries)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """One forward through all heads."""
        logits_BH = self.ranker(batch)
        loss, losses_H = self.objective(logits_BH, batch.label_B, batch.weight_B, batch.cohort_BA)
        return loss, (losses_H, logits_BH.detach())
