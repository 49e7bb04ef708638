"""Per-head losses: weighted binary cross-entropy over all rows, whichever the head."""

import torch
from torch.nn import functional


def per_head_losses(logits_BH: torch.Tensor, label_BH: torch.Tensor, weight_B: torch.Tensor) -> torch.Tensor:
    """``losses_H = Σ_b w_b BCE_bh / B``, in float32 whatever the logits' type.

    Divided by the rows, not by their weight: a batch of light rows takes a light step, and a filler none.
    """
    loss_BH = functional.binary_cross_entropy_with_logits(logits_BH.float(), label_BH, reduction="none")
    return weight_B @ loss_BH / weight_B.shape[0]


def per_row_loss(logits_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    """``loss_B``, the log loss of each row in nats."""
    return functional.binary_cross_entropy_with_logits(logits_B.float(), label_B, reduction="none")
