"""Gradients of heads for tests of what is made from their Gramian."""

import torch


def jacobian(seed: int, heads: int = 3, size: int = 20, scale: float = 1e-4) -> torch.Tensor:
    """``[H, X]``, some rows in conflict, of the size that gradients of a mean over a batch have."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(heads, size, generator=random)
    rows[1] -= rows[0]
    return scale * rows


def gramian(jacobian_HX: torch.Tensor) -> torch.Tensor:
    return jacobian_HX @ jacobian_HX.T
