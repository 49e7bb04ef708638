import torch

from c2al.interaction.dlrm import DLRM


def test_equals_the_formula():
    """All pairs once, no token with itself; the last tokens as they are."""
    model, x_BFD = DLRM(num_tokens=4, dim=3, hidden=[5], passed_tokens=2), torch.randn(6, 4, 3)
    dots = [(x_BFD[:, i] * x_BFD[:, j]).sum(1, keepdim=True) for i in range(4) for j in range(i + 1, 4)]
    torch.testing.assert_close(model(x_BFD), model.top(torch.cat([x_BFD[:, 2], x_BFD[:, 3], *dots], 1)))
    assert "pairs" not in model.state_dict()
