import pytest
import torch

from c2al.interaction.finalmlp import FinalMLP

SIZES = {"num_tokens": 4, "dim": 3, "hidden_1": [6], "hidden_2": [4], "num_heads": 2, "batch_norm": False}


@pytest.mark.parametrize("contexts", [[[], []], [[1], [0, 2]]])
def test_equals_the_formula(contexts):
    model, x_BFD = FinalMLP(**SIZES, contexts=contexts), torch.randn(5, 4, 3)
    outs = []
    for context, gate, stream in zip(contexts, model.gates, model.streams, strict=True):
        seen = x_BFD[:, context].flatten(1) if context else gate.learned_D.expand(5, -1)
        outs.append(stream(2 * torch.sigmoid(gate.mlp(seen)) * x_BFD.flatten(1)))
    first, second = (out.view(5, 2, -1) for out in outs)
    fused = torch.einsum("bki,kij,bkj->b", first, model.weight_KIJ, second)
    torch.testing.assert_close(model(x_BFD), torch.cat([*outs, fused.unsqueeze(1)], 1))
    assert model.out_features == 6 + 4 + model.additive_features


def test_streams_must_divide():
    with pytest.raises(ValueError, match="streams of 6 and 4 features do not divide into 4 parts"):
        FinalMLP(**SIZES | {"num_heads": 4})
