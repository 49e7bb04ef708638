"""Dense columns to feature tokens: the bottom MLP of DLRM (Naumov et al. 2019, arXiv 1906.00091, section 2.1)."""

import torch
from torch import nn


class DenseTokens(nn.Module):
    """``dense_BN -> tokens_BTD`` by a network of one hidden layer."""

    def __init__(self, *, num_dense: int, dim: int, num_tokens: int = 1, hidden: int = 64) -> None:
        super().__init__()
        self.dim, self.num_tokens = dim, num_tokens
        self.layers = nn.Sequential(nn.Linear(num_dense, hidden), nn.ReLU(), nn.Linear(hidden, num_tokens * dim))

    def forward(self, dense_BN: torch.Tensor) -> torch.Tensor:
        """Tokens of the same width as the embeddings."""
        return self.layers(dense_BN).view(-1, self.num_tokens, self.dim)
