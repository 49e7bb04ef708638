import pytest
import torch

from c2al.interaction.cross import Cross, FullCross, MixedCross
from c2al.interaction.dcnv2 import DCNv2

SIZES = {"num_tokens": 3, "dim": 2, "num_layers": 2, "hidden": [5], "batch_norm": False}


def test_parallel_and_stacked():
    x_BFD = torch.randn(4, 3, 2)
    for stacked in (False, True):
        model = DCNv2(**SIZES, stacked=stacked)
        x0 = x_BFD.flatten(1)
        x1 = x0 * model.crosses[0].linear(x0) + x0
        x2 = x0 * model.crosses[1].linear(x1) + x1
        expected = model.deep(x2) if stacked else torch.cat([x2, model.deep(x0)], 1)
        torch.testing.assert_close(model(x_BFD), expected)
        assert model.out_features == expected.shape[1]


def test_rank_and_experts_choose_the_cross():
    def kinds(**own):
        return {type(cross) for cross in DCNv2(**SIZES, **own).crosses}

    assert (kinds(), kinds(rank=2), kinds(rank=2, num_experts=3)) == ({FullCross}, {Cross}, {MixedCross})
    with pytest.raises(ValueError, match="3 experts need a rank"):
        kinds(num_experts=3)
