"""Batch normalization that can be told to look at all ranks' rows.

Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
arXiv 1502.03167.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm1d):
    """``x_BE -> [B, E]``: torch's own, and the same over several ranks once ``sum_over_ranks`` is given from outside.

    ``sum_over_ranks`` adds a vector up over ranks and lets gradients through. With it the moments are those of the
    global batch, so that two ranks train what one trains, and every rank holds the same running moments; torch's
    SyncBatchNorm works on GPUs alone. A batch of a single row is normalized by the running moments, where torch raises.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    momentum: float
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, x_BE: torch.Tensor) -> torch.Tensor:
        """By the batch's moments in training, by the running ones in evaluation."""
        if self.training and self.sum_over_ranks is not None:
            return self._over_ranks(x_BE, self.sum_over_ranks)
        return functional.batch_norm(
            x_BE,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training and len(x_BE) > 1,
            momentum=self.momentum,
            eps=self.eps,
        )

    def _over_ranks(self, x_BE: torch.Tensor, add_up: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """One sum over ranks forward, one backward; of deviations from the running mean, whose squares stay small."""
        shift_E = self.running_mean.clone()
        away_BE = x_BE.float() - shift_E
        sums = torch.cat([away_BE.sum(0), away_BE.square().sum(0), away_BE.new_tensor([len(x_BE)])])
        sum_E, squares_E, rows = add_up(sums).split([self.num_features, self.num_features, 1])
        mean_E = sum_E / rows
        var_E = (squares_E / rows - mean_E.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean_E + shift_E, self.momentum)
            self.running_var.lerp_(var_E * rows / (rows - 1).clamp(min=1), self.momentum)
        scale_E = torch.rsqrt(var_E + self.eps) * self.weight
        return ((away_BE - mean_E) * scale_E + self.bias).to(x_BE.dtype)
