import pytest
import torch

from c2al.interaction.beside import BesideFMAttention
from c2al.interaction.deepfm import DeepFM
from c2al.interaction.dlrm import DLRM
from c2al.interaction.fm_attention import FMBlock
from tests import contracts


def beside(architecture: type) -> BesideFMAttention:
    sizes = {"num_tokens": contracts.NUM_TOKENS, "dim": contracts.DIM}
    module = BesideFMAttention(architecture(**sizes), FMBlock(**sizes, out_tokens=2))
    module.first_order = getattr(architecture, "first_order", False)
    return module


@pytest.mark.parametrize("architecture", [DeepFM, DLRM])
def test_the_block_comes_first_and_sees_no_first_order_weight(architecture):
    module = beside(architecture).eval()
    x_BFD = contracts.tokens(module)
    block = module.block(x_BFD[..., : contracts.DIM]).flatten(1)
    torch.testing.assert_close(module(x_BFD), torch.cat([block, module.architecture(x_BFD)], 1))
    assert module.additive_features == (architecture is DeepFM)


@pytest.mark.parametrize("check", contracts.ARCHITECTURE_CHECKS)
def test_contracts(check):
    check(lambda: beside(DeepFM))
