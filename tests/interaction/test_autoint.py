import torch

from c2al.interaction.autoint import AutoInt, InteractingLayer


def test_layer_equals_the_formula():
    """Head by head: softmax of unscaled dot products."""
    layer, x = InteractingLayer(in_dim=5, num_heads=2, head_dim=3), torch.randn(4, 6, 5)
    query, key, value = layer.query_key_value.weight.view(3, 2, 3, 5)
    heads = []
    for h in range(2):
        weights = torch.softmax((x @ query[h].T) @ (x @ key[h].T).transpose(1, 2), dim=-1)
        heads.append(weights @ (x @ value[h].T))
    expected = torch.relu(torch.cat(heads, -1) + x @ layer.shortcut.weight.T)
    torch.testing.assert_close(layer(x), expected)


def test_a_deep_network_may_stand_beside():
    x_BFD = torch.randn(4, 6, 5)
    model = AutoInt(num_tokens=6, dim=5, num_layers=2, head_dim=3, hidden=[7])
    z_BE = model(x_BFD)
    torch.testing.assert_close(z_BE[:, : 6 * 6], model.layers(x_BFD).flatten(1))
    torch.testing.assert_close(z_BE[:, 6 * 6 :], model.deep(x_BFD.flatten(1)))
    assert AutoInt(num_tokens=6, dim=5).out_features == 6 * 16
