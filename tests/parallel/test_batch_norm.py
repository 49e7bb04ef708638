"""Two ranks with uneven parts of the rows train what one trains with all of them."""

import torch

from c2al.parallel.batch_norm import normalize_over_ranks
from tests import runs
from tests.parallel import normalizing_world as world


def test_two_ranks_equal_one(tmp_path):
    out = tmp_path / "states.pt"
    ended = runs.on_ranks(["-m", "tests.parallel.normalizing_world", str(out)])
    assert [status for status, _, _ in ended] == [0, 0], ended
    alone = world.network()
    world.train(alone, world.ROWS)
    for state in torch.load(out):
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)


def test_one_rank_alone_keeps_torchs_own():
    model = world.network()
    normalize_over_ranks(model)
    assert all(getattr(module, "sum_over_ranks", None) is None for module in model.modules())
