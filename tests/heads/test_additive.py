import pytest
import torch

from c2al.heads.additive import AddedLogits, Biases
from c2al.heads.towers import Towers


def test_the_last_features_are_added_to_every_logit():
    towers = Towers(in_features=4, num_heads=3, hidden=())
    heads, z_BE = AddedLogits(towers, additive_features=2), torch.randn(5, 6)
    torch.testing.assert_close(heads(z_BE), towers(z_BE[:, :4]) + z_BE[:, 4:].sum(1, keepdim=True))
    assert heads.num_heads == 3


def test_without_other_features_a_head_is_its_bias():
    heads = AddedLogits(Biases(num_heads=2), additive_features=1)
    heads.set_biases([0.5, -2.0])
    assert heads(torch.tensor([[1.0], [3.0]])).tolist() == [[1.5, -1.0], [3.5, 1.0]]
    assert sum(p.numel() for p in heads.parameters()) == 2
    with pytest.raises(ValueError, match="1 biases for 2 heads"):
        heads.set_biases([0.0])
    with pytest.raises(ValueError, match="looks at no features"):
        Biases(in_features=3)


@pytest.mark.parametrize("inner", [Towers(in_features=3, num_heads=3), Biases(num_heads=3)], ids=["towers", "biases"])
def test_serving_keeps_the_primary_head_alone(inner):
    heads = AddedLogits(inner, additive_features=1)
    heads.set_biases([0.1, 0.2, 0.3])
    z_BE = torch.randn(5, 4 if isinstance(inner, Towers) else 1)
    served = heads.without_auxiliary()
    torch.testing.assert_close(served(z_BE), heads(z_BE)[:, :1])
    assert (served.num_heads, heads.num_heads) == (1, 3)
