from functools import partial

import pytest
import torch

from c2al.heads.additive import AddedLogits, Biases
from c2al.heads.assembled import assembled, make_heads
from c2al.heads.towers import Towers
from c2al.interaction.beside import BesideFMAttention
from c2al.interaction.dlrm import DLRM
from c2al.interaction.fm import FM
from c2al.interaction.fm_attention import FMBlock
from c2al.schema import DataError

MADE = {"fm": FM, "dlrm": DLRM, "block": partial(FMBlock, out_tokens=2), "towers": Towers}


def make(settings, **sizes):
    return MADE[settings](**sizes)


def built(model, sharing=None):
    torch.manual_seed(0)
    return assembled(model, sharing, num_tokens=5, num_heads=3, seed=0, make=make)


def test_heads_stand_on_the_interaction():
    interaction, heads = built({"interaction": "dlrm", "dim": 8, "heads": "towers"})
    assert heads(interaction(torch.randn(4, 5, 8))).shape == (4, 3)


def test_terms_that_enter_every_logit_and_no_others():
    interaction, heads = built({"interaction": "fm", "dim": 8, "heads": "towers"})
    assert isinstance(heads, AddedLogits)
    assert isinstance(heads.heads, Biases)
    assert heads(interaction(torch.randn(4, 5, 9))).shape == (4, 3)


def test_a_block_beside_where_it_is_asked_for():
    model = {"interaction": "dlrm", "dim": 8, "heads": "towers", "fm_block": "block"}
    assert isinstance(built(model)[0], DLRM)
    assert isinstance(built(model | {"fm_attention": True})[0], BesideFMAttention)


def test_sharing_takes_the_place_of_the_heads():
    assert isinstance(make_heads("towers", 6, num_heads=2, seed=0, make=make), Towers)
    _, heads = built({"interaction": "dlrm", "dim": 8, "heads": "nothing"}, "towers")
    assert isinstance(heads, Towers)


def test_there_is_nothing_to_share_where_all_enters_the_logits():
    with pytest.raises(DataError, match=r"value fm"):
        built({"name": "fm", "interaction": "fm", "dim": 8, "heads": "towers"}, "towers")
