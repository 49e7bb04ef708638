import pytest
import torch

from c2al.heads.towers import Towers


def towers(num_heads: int, seed: int = 0) -> Towers:
    torch.manual_seed(11)
    return Towers(in_features=6, num_heads=num_heads, hidden=(5, 4), seed=seed)


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.flatten() for p in module.parameters()])


def test_primary_tower_and_later_draws_do_not_depend_on_the_auxiliary_heads():
    primaries, draws = [], []
    for num_heads in (1, 3, 9):
        primaries.append(weights(towers(num_heads).towers[0]))
        draws.append(torch.rand(4))
    assert all(torch.equal(p, primaries[0]) for p in primaries)
    assert all(torch.equal(d, draws[0]) for d in draws)


def test_auxiliary_towers_are_their_own_and_follow_seed_and_head():
    three, five, other = towers(3), towers(5), towers(3, seed=1)
    distinct = [weights(tower) for tower in five.towers]
    assert not any(torch.equal(a, b) for i, a in enumerate(distinct) for b in distinct[:i])
    assert torch.equal(weights(three.towers[2]), distinct[2])
    assert not torch.equal(weights(other.towers[2]), distinct[2])
    assert torch.equal(weights(other.towers[0]), distinct[0])


def test_each_logit_is_that_of_its_tower():
    module, z_BE = towers(3), torch.randn(7, 6)
    logits_BH = module(z_BE)
    assert logits_BH.shape == (7, module.num_heads)
    for head, tower in enumerate(module.towers):
        torch.testing.assert_close(logits_BH[:, head], tower(z_BE)[:, 0])


def test_biases_start_at_the_base_rates():
    module, rates = towers(3), torch.tensor([0.2, 0.05, 0.01])
    module.set_biases(torch.logit(rates).tolist())
    torch.testing.assert_close(torch.sigmoid(module(torch.zeros(1, 6)))[0], rates)
    with pytest.raises(ValueError):
        module.set_biases([0.0])


def test_serving_keeps_the_primary_tower_alone():
    module, z_BE = towers(3), torch.randn(7, 6)
    served = module.without_auxiliary()
    assert torch.equal(served(z_BE), module.towers[0](z_BE))
    assert served.num_heads == 1
    assert served.state_dict().keys() == towers(1).state_dict().keys()
    assert module.num_heads == 3
    served.towers[0][0].weight.data.zero_()
    assert module.towers[0][0].weight.abs().max() > 0, "the copy shares memory with the original"


def test_no_auxiliary_gradient_reaches_the_primary_tower():
    module = towers(2)
    module(torch.randn(7, 6))[:, 1].sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in module.towers[0].parameters())


def test_there_is_always_a_primary_head():
    with pytest.raises(ValueError, match="always the primary head"):
        Towers(in_features=6, num_heads=0)
