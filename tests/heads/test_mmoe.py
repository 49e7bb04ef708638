import pytest
import torch

from c2al.heads.mmoe import MMoE


def made(**options) -> MMoE:
    torch.manual_seed(0)
    module = MMoE(in_features=6, **{"num_heads": 3, "num_experts": 4, "expert": [5], "hidden": [4], **options})
    for gate in module.gates:
        torch.nn.init.normal_(gate.weight)
    return module


def test_the_formula():
    """tower_h(Σ_n softmax(W_h z)_n f_n(z)), head by head."""
    module, z_BE = made(), torch.randn(7, 6)
    for head in range(3):
        share_BN = (z_BE @ module.gates[head].weight.T).softmax(1)
        mixed = sum(share_BN[:, [n]] * expert(z_BE) for n, expert in enumerate(module.experts))
        torch.testing.assert_close(module(z_BE)[:, [head]], module.towers[head](mixed))


def test_it_is_as_deep_as_its_widths():
    sizes = [each.weight.shape for each in made(expert=[9, 8, 5]).experts[0].modules() if hasattr(each, "weight")]
    assert sizes == [(9, 6), (8, 9), (5, 8)]


def test_every_head_starts_with_the_mean_of_the_experts():
    module, z_BE = MMoE(in_features=6, num_heads=2), torch.randn(3, 6)
    mean = torch.stack([expert(z_BE) for expert in module.experts]).mean(0)
    torch.testing.assert_close(module(z_BE)[:, [1]], module.towers[1](mean))


@pytest.mark.parametrize("options", [{"num_experts": 0}, {"expert": []}, {"num_heads": 0}])
def test_what_cannot_be(options):
    with pytest.raises(ValueError):
        made(**options)
