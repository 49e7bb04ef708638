import torch

from c2al.interaction.linear import TokenLinear


def test_equals_the_matrix_product():
    linear, x_BFD = TokenLinear(num_tokens=5, dim=4, out_tokens=3), torch.randn(6, 5, 4)
    expected = torch.einsum("mf,bfd->bmd", linear.weight_MF, x_BFD)
    torch.testing.assert_close(linear(x_BFD), expected)
    out = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((z * out).sum(), linear.weight_MF)[0] for z in (linear(x_BFD), expected))
    torch.testing.assert_close(ours, theirs)
