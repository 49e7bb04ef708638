import torch
from torch import nn

from c2al.interaction.batch_norm import BatchNorm


def pair() -> tuple[BatchNorm, nn.BatchNorm1d]:
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
    for module in (ours, theirs):
        nn.init.constant_(module.weight, 1.5)
        nn.init.constant_(module.bias, 0.5)
    return ours, theirs


def assert_same(ours: BatchNorm, theirs: nn.BatchNorm1d) -> None:
    """Three batches far from zero, forward and backward, and the running moments they leave."""
    for seed in range(3):
        x = 2 * torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) + 5
        first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = ours(first), theirs(second)
        torch.testing.assert_close(out, expected)
        out.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_equals_torchs_own():
    assert_same(*pair())


def test_a_sum_over_one_rank_equals_torchs_own():
    """``tests/parallel/test_batch_norm.py`` sums over two."""
    ours, theirs = pair()
    ours.sum_over_ranks = lambda sums: sums
    assert_same(ours, theirs)


def test_a_single_row_is_normalized_by_the_running_moments():
    ours, theirs = pair()
    x = torch.randn(1, 3)
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    ours.sum_over_ranks = lambda sums: sums
    assert ours(x).isfinite().all()
