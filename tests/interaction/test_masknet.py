import torch
from torch.nn import functional

from c2al.interaction.masknet import MaskNet


def test_equals_the_formula():
    x_BFD = torch.randn(5, 4, 3)
    v, normed = x_BFD.flatten(1), functional.layer_norm(x_BFD, (3,)).flatten(1)
    for serial in (False, True):
        model = MaskNet(num_tokens=4, dim=3, num_blocks=2, block_features=6, hidden=[7], serial=serial)
        h, outs = normed, []
        for block in model.blocks:
            first, _, second = block.mask
            mask = second(first(v).relu())
            out = functional.layer_norm((mask * h) @ block.linear.weight.T, (6,)).relu()
            outs.append(out)
            h = out if serial else normed
        expected = outs[-1] if serial else model.deep(torch.cat(outs, 1))
        torch.testing.assert_close(model(x_BFD), expected)
        assert model.out_features == expected.shape[1]


def test_reduction_is_of_the_masks_width():
    model = MaskNet(num_tokens=4, dim=3, num_blocks=2, block_features=6, reduction=2, serial=True)
    assert [block.mask[0].out_features for block in model.blocks] == [24, 12]
