from functools import partial

import pytest
import torch
from torch import nn

from c2al.interaction.cross import CrossBlock
from c2al.interaction.dhen import DHEN, DHENLayer
from c2al.interaction.fm_attention import FMAttention, FMBlock
from c2al.interaction.linear import TokenLinear
from c2al.interaction.self_attention import SelfAttention

ALL = {"fm_attention": FMBlock, "linear": TokenLinear, "self_attention": SelfAttention, "cross": CrossBlock}


def layer(**changes) -> DHENLayer:
    torch.manual_seed(0)
    arguments = {"num_tokens": 7, "dim": 4, "out_tokens": 7, "ensemble": "concat"}
    modules = {"fm_attention": FMBlock, "linear": TokenLinear}
    return DHENLayer(**{**arguments, "modules": modules, **changes})


@pytest.mark.parametrize("ensemble", ["concat", "sum", "weighted"])
@pytest.mark.parametrize("out_tokens", [7, 9])
def test_layer_equals_the_formula(ensemble, out_tokens):
    """LayerNorm(ensemble of interactions + shortcut)."""
    dhen_layer, x_BFD = layer(ensemble=ensemble, out_tokens=out_tokens), torch.randn(5, 7, 4)
    parts = [module(x_BFD) for module in dhen_layer.interactions.values()]
    if ensemble == "weighted":
        dhen_layer.weights_M.data = torch.tensor([0.5, 2.0])
        parts = [0.5 * parts[0], 2.0 * parts[1]]
    mixed = torch.cat(parts, dim=1) if ensemble == "concat" else parts[0] + parts[1]
    shortcut = x_BFD if out_tokens == 7 else dhen_layer.shortcut.weight_MF @ x_BFD
    expected = nn.functional.layer_norm(mixed + shortcut, (4,))
    torch.testing.assert_close(dhen_layer(x_BFD), expected)
    assert isinstance(dhen_layer.shortcut, nn.Identity) == (out_tokens == 7)


@pytest.mark.parametrize("ensemble", ["concat", "sum", "weighted"])
@pytest.mark.parametrize("layer_tokens", [None, 4, 13])
def test_every_module_in_every_ensemble(ensemble, layer_tokens):
    torch.manual_seed(0)
    dhen = DHEN(num_tokens=7, dim=4, num_layers=3, modules=ALL, ensemble=ensemble, layer_tokens=layer_tokens)
    z_BE = dhen(torch.randn(5, 7, 4))
    assert z_BE.shape == (5, dhen.out_features)
    assert list(dhen.layers[0].interactions) == list(ALL)
    z_BE.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in dhen.parameters())


def test_a_module_set_to_none_is_left_out_and_partials_configure_one():
    modules = {"fm_attention": partial(FMBlock, rank=3, attentive=False), "linear": None, "cross": CrossBlock}
    dhen = DHEN(num_tokens=7, dim=4, modules=modules)
    assert list(dhen.layers[1].interactions) == ["fm_attention", "cross"]
    assert [m.y_FK.shape for m in dhen.modules() if isinstance(m, FMAttention)] == [(7, 3), (7, 3)]


def test_fm_attention_layers_have_stable_names():
    """Analysis finds Y by these names in a run's weights."""
    names = [name for name, module in DHEN(num_tokens=7, dim=4).named_modules() if isinstance(module, FMAttention)]
    assert names == ["layers.0.interactions.fm_attention.fm", "layers.1.interactions.fm_attention.fm"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "at least one layer"),
        ({"modules": {"linear": None}}, "one interaction module"),
        ({"ensemble": "mean"}, "unknown ensemble 'mean'"),
        ({"layer_tokens": 1}, "cannot be dealt out to 2 modules"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DHEN(num_tokens=7, dim=4, **changes)
