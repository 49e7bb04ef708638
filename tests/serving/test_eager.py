import pytest
from torch import nn

from c2al.interaction.dhen import DHEN
from c2al.schema import DataError
from c2al.serving.eager import linear_maps, make
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
