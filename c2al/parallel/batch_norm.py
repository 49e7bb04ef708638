"""Batch normalization over the rows of all ranks.

DDP averages gradients and leaves buffers alone (TorchRec's wrapper asks it to), so that each rank would normalize by
its own rows and hold running moments of its own: evaluation would depend on the rank, and two ranks would train another
model than one.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from c2al.interaction.batch_norm import BatchNorm


class _SumOverRanks(torch.autograd.Function):
    """A sum over ranks, whose gradient is the sum over ranks of its gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return _added(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return _added(grads[0])


def _added(tensor: torch.Tensor) -> torch.Tensor:
    total = tensor.contiguous().clone()
    dist.all_reduce(total)
    return total


@torch.compiler.disable
def summed_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor added up over all ranks; differentiable. Collective, also in its backward."""
    return _SumOverRanks.apply(tensor)  # type: ignore[no-any-return]


def normalize_over_ranks(model: nn.Module) -> None:
    """Give every batch norm of a model the rows of all ranks, where there are several."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.sum_over_ranks = summed_over_ranks
