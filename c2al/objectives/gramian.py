"""The Gramian of the heads' gradients with respect to the shared representation, and weights made from it.

``G_hk = Σ_b ⟨∂L_h/∂z_b, ∂L_k/∂z_b⟩`` with ``L`` the mean over the rows of all ranks. Each row of ``z_BE`` lives on one
rank, so the sum over ranks is exact; gradients of parameters would have to be summed before they are multiplied. The
methods that take it are thus applied to the representation, as in MGDA-UB (Sener and Koltun 2018, arXiv 1810.04650,
section 3.3), and not to all shared parameters as in their papers: ``∂L/∂θ = (∂z/∂θ)ᵀ ∂L/∂z``, so what conflicts in z
need not conflict in θ, nor the other way round. The weights also scale each tower's own loss, which Adam hardly sees.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist


def gramian(losses_H: torch.Tensor, z_BE: torch.Tensor) -> torch.Tensor:
    """``gramian_HH``, float32 whatever the type of z, equal on all ranks. Collective; goes through the heads alone.

    Nothing is accumulated and no table takes a step: that happens in the one backward that follows.
    """
    gradients_HX = torch.stack(
        [torch.autograd.grad(loss, z_BE, retain_graph=True)[0].flatten().float() for loss in losses_H]
    )
    with torch.autocast(z_BE.device.type, enabled=False):
        gramian_HH = gradients_HX @ gradients_HX.T
    num_ranks = sum_over_ranks(gramian_HH)
    return gramian_HH / num_ranks**2  # each rank's losses are means over its own rows


def sum_over_ranks(tensor: torch.Tensor) -> int:
    """Replace the tensor by its sum over ranks; their number. Collective."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return 1
    dist.all_reduce(tensor)
    return dist.get_world_size()


def from_gramian(
    method: Callable[[torch.Tensor], torch.Tensor], gramian_HH: torch.Tensor, weights_H: torch.Tensor
) -> torch.Tensor:
    """The method's weights of the losses ``λ_h L_h``, times λ.

    It sees the Gramian divided by its trace: gradients of a mean over a batch are tiny, and thresholds within TorchJD
    would take them for zero. None of the methods depends on the scale. A Gramian of zero, or one that is not finite
    (the step then ends in an error that names the loss), gives the plain λ.
    """
    scaled_HH = gramian_HH * weights_H[:, None] * weights_H
    trace = scaled_HH.trace()
    if not (bool(trace.isfinite()) and float(trace) > 0):
        return weights_H
    return method(scaled_HH / trace).to(weights_H) * weights_H


def cosines(gramian_HH: torch.Tensor) -> torch.Tensor:
    """Of the gradients of each two heads, (0, 1), (0, 2), …, (1, 2), …; 0 where a gradient is zero."""
    norm_H = gramian_HH.diagonal().clamp_min(torch.finfo(gramian_HH.dtype).tiny).sqrt()
    row, column = torch.triu_indices(len(norm_H), len(norm_H), offset=1)
    return (gramian_HH / norm_H[:, None] / norm_H)[row, column]
