import pytest
import torch
from torch import nn

from c2al.interaction.self_attention import SelfAttention


def test_equals_torchs_own():
    """nn.MultiheadAttention with the same weights is the oracle."""
    ours = SelfAttention(num_tokens=5, dim=8, out_tokens=5, num_heads=2)
    theirs = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    theirs.load_state_dict({"in_proj_weight": ours.query_key_value.weight, "out_proj.weight": ours.project.weight})
    x_BFD = torch.randn(6, 5, 8)
    torch.testing.assert_close(ours(x_BFD), theirs(x_BFD, x_BFD, x_BFD, need_weights=False)[0])


def test_tokens_have_no_order():
    module, x_BFD = SelfAttention(num_tokens=5, dim=8, out_tokens=5), torch.randn(2, 5, 8)
    order = [4, 2, 0, 1, 3]
    torch.testing.assert_close(module(x_BFD[:, order]), module(x_BFD)[:, order])


def test_width_must_divide():
    with pytest.raises(ValueError, match="width 10 does not divide into 4"):
        SelfAttention(num_tokens=5, dim=10, out_tokens=5, num_heads=4)
