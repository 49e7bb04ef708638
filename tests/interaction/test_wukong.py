from functools import partial

import pytest
import torch
from torch.nn import functional

from c2al.interaction.fm_attention import FMAttention, FMBlock
from c2al.interaction.wukong import Wukong, WukongLayer


@pytest.mark.parametrize("attentive", [True, False])
@pytest.mark.parametrize("num_tokens", [7, 5])
def test_layer_equals_the_formula(attentive, num_tokens):
    """LN(concat(FMB, LCB) + X), X by way of a linear recombination where their numbers differ."""
    block = partial(FMBlock, rank=2, attentive=attentive)
    layer = WukongLayer(num_tokens=num_tokens, dim=4, fm_tokens=3, linear_tokens=4, fm_block=block)
    x = torch.randn(6, num_tokens, 4)
    gram = x @ x.transpose(1, 2)
    fm = layer.fm_block.fm
    g = gram @ (fm.attention(x) if attentive else fm.y_FK)
    fmb = layer.fm_block.mlp(functional.layer_norm(g.flatten(1), (num_tokens * 2,))).view(6, 3, 4)
    shortcut = x if num_tokens == 7 else layer.shortcut.weight_MF @ x
    expected = functional.layer_norm(torch.cat([fmb, layer.linear.weight_MF @ x], 1) + shortcut, (4,))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_y_is_attentive_or_learned_in_every_layer():
    for attentive in (True, False):
        model = Wukong(num_tokens=5, dim=4, num_layers=3, fm_block=partial(FMBlock, attentive=attentive))
        found = [each for each in model.modules() if isinstance(each, FMAttention)]
        assert [each.attention is not None for each in found] == [attentive] * 3
