"""An FM-attention block beside any architecture: ``model.fm_attention=true``.

FM-attention modules stand beside others in the layers of DHEN (arXiv 2510.02215) and Wukong (arXiv 2403.02545); here
one stands beside a whole network, and the heads see both. Ours; no paper's model.
"""

import torch
from torch import nn

from c2al.interaction.fm_attention import FMBlock


class BesideFMAttention(nn.Module):
    """``x_BFD -> [flatten(block(x)), architecture(x)]``; first-order weights are the architecture's alone."""

    def __init__(self, architecture: nn.Module, block: FMBlock) -> None:
        super().__init__()
        self.architecture, self.block = architecture, block
        self.additive_features: int = getattr(architecture, "additive_features", 0)
        self.out_features: int = block.out_tokens * block.dim + architecture.out_features  # type: ignore[assignment,operator]

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """The block's features first, so that what is added to the logits stays last."""
        own = self.architecture(x_BFD)
        return torch.cat([self.block(x_BFD[..., : self.block.dim]).flatten(1), own], dim=1)
