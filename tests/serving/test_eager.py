import pytest
import torch
from safetensors.torch import save
from torch import nn

from c2al.interaction.dhen import DHEN
from c2al.schema import DataError
from c2al.serving.eager import _at_most, linear_maps, loaded, make
from c2al.serving.served import SparseInput

LAYER = {"_target_": "c2al.interaction.linear.TokenLinear", "_partial_": True}


def test_layers_with_layers_inside():
    made = make(
        {"_target_": "c2al.interaction.dhen.DHEN", "num_layers": 1, "modules": {"one": LAYER}}, num_tokens=3, dim=4
    )
    assert isinstance(made, DHEN)


@pytest.mark.parametrize(
    "target", ["os.system", "c2al.cli.main", "c2al.interaction.linear.torch", "c2al.interaction.dhen._shares"]
)
def test_nothing_but_layers_is_made(target):
    with pytest.raises(DataError, match="no layer of c2al's"):
        make({"_target_": target})


def test_maps_for_tables_of_another_width():
    maps = linear_maps([SparseInput("a.b", 3, 8), SparseInput("c", 3, 4)], 4)
    assert list(maps) == ["table_a%2Eb"]
    assert isinstance(maps["table_a%2Eb"], nn.Linear)


DEEP = {"_target_": "c2al.interaction.dhen.DHEN", "num_layers": 10**9, "modules": {"one": LAYER}}


@pytest.mark.parametrize(
    "settings",
    [
        *({"num_heads": 10**9}, {"model": {"interaction": DEEP}}, {"model": {"heads": {"hidden": [2**62]}}}),
        {"sharing": {"num_levels": 4 * 10**8}},
    ],
)
def test_numbers_beyond_all_bounds_build_nothing(settings):
    manifest = {"inputs": {}, "model": {"model": {}, "sharing": None, "num_heads": 1, "asked": {}} | settings}
    with pytest.raises(DataError, match="a setting beyond all bounds"):
        loaded(manifest, save({"w": torch.zeros(1)}), "m.pt2")


def test_modules_without_weights_are_counted():
    with pytest.raises(DataError, match="more layers than weights"), _at_most(1):
        nn.Sequential(*(nn.ReLU() for _ in range(10_011)))
    assert len(nn.Sequential(*(nn.ReLU() for _ in range(10_011)))) == 10_011
