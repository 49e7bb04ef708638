import pytest
import torch

from c2al.heads.mmoe import Gate
from c2al.heads.ple import PLE


def made(num_levels: int = 2, **options) -> PLE:
    torch.manual_seed(0)
    module = PLE(in_features=6, num_levels=num_levels, **{"num_heads": 3, "expert": [5], "hidden": [4], **options})
    for gate in module.modules():
        if isinstance(gate, Gate):
            torch.nn.init.normal_(gate.weight)
    return module


def mixture(weight, x_BE, made_N):
    share_BN = (x_BE @ weight.T).softmax(1)
    return sum(share_BN[:, [n]] * made for n, made in enumerate(made_N))


def test_the_formula_of_two_levels():
    """Head 1: its own experts and the shared ones, twice; the shared path mixes all experts between."""
    module, z_BE = made(), torch.randn(7, 6)
    first, second = module.levels
    shared = [expert(z_BE) for expert in first.shared]
    own = [[expert(z_BE) for expert in experts] for experts in first.own]
    path = mixture(first.gates[1].weight, z_BE, [*own[1], *shared])
    shared_path = mixture(first.shared_gate.weight, z_BE, [*own[0], *own[1], *own[2], *shared])
    made_second = [*(e(path) for e in second.own[1]), *(e(shared_path) for e in second.shared)]
    expected = module.towers[1](mixture(second.gates[1].weight, path, made_second))
    torch.testing.assert_close(module(z_BE)[:, [1]], expected)
    assert second.shared_gate is None


@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_export_keeps_what_the_primary_head_uses_and_no_more(num_levels):
    module, z_BE = made(num_levels), torch.randn(64, 6)
    alone = module.without_auxiliary()
    assert torch.equal(alone(z_BE), module(z_BE)[:, :1])
    alone(z_BE).sum().backward()
    assert all(p.grad is not None for p in alone.parameters()), "nothing idle is left"
    used = torch.autograd.grad(module(z_BE)[:, 0].sum(), list(module.parameters()), allow_unused=True)
    names = {name for (name, _), g in zip(module.named_parameters(), used, strict=True) if g is not None and g.any()}
    assert names == {name for name, _ in alone.named_parameters()}


@pytest.mark.parametrize("options", [{"num_levels": 0}, {"num_experts": 0}, {"expert": []}, {"num_heads": 0}])
def test_what_cannot_be(options):
    with pytest.raises(ValueError):
        made(**options)
