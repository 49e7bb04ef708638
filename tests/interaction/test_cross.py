import torch

from c2al.interaction.cross import Cross, CrossBlock, FullCross, MixedCross


def test_layer_equals_the_paper():
    """x0 ⊙ (W x + b) + x with W = U V."""
    layer = Cross(features=6, rank=2)
    torch.nn.init.normal_(layer.expand.bias)
    x0, x = torch.randn(3, 6), torch.randn(3, 6)
    weight = layer.expand.weight @ layer.project.weight
    torch.testing.assert_close(layer(x0, x), x0 * (x @ weight.T + layer.expand.bias) + x)


def test_order_grows_by_one_a_layer():
    """With the biases at zero, the part of degree n + 1 in x is there after n layers, and none above."""
    torch.manual_seed(0)
    block = CrossBlock(num_tokens=3, dim=2, out_tokens=3, rank=4, num_layers=2).double()
    x = torch.randn(1, 3, 2, dtype=torch.float64)
    # f(t x) is a polynomial in t: its degree is that of the highest non-zero finite difference.
    values = torch.stack([block(t * x).flatten() for t in range(6)])
    third, fourth = values.diff(n=3, dim=0), values.diff(n=4, dim=0)
    assert third.abs().max() > 1e-3
    torch.testing.assert_close(fourth, torch.zeros_like(fourth), rtol=0, atol=1e-9)


def test_whole_layer_equals_the_paper():
    layer = FullCross(features=6)
    x0, x = torch.randn(3, 6), torch.randn(3, 6)
    torch.testing.assert_close(layer(x0, x), x0 * (x @ layer.linear.weight.T + layer.linear.bias) + x)


def test_mixture_equals_the_paper():
    """sum_i G_i(x) · x0 ⊙ (U_i g(C_i g(V_i x)) + b) + x, expert by expert."""
    layer = MixedCross(features=6, rank=2, num_experts=3)
    torch.nn.init.normal_(layer.bias_E)
    x0, x = torch.randn(4, 6), torch.randn(4, 6)
    gates = torch.softmax(x @ layer.gate.weight.T, 1)
    expected = x.clone()
    for i in range(3):
        inside = torch.tanh(torch.tanh(x @ layer.project_NER[i]) @ layer.within_NRR[i])
        expected += gates[:, i : i + 1] * (x0 * (inside @ layer.expand_NRE[i] + layer.bias_E))
    torch.testing.assert_close(layer(x0, x), expected)
