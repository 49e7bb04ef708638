"""Schedule, clipping and the finite check, on a dense part and tables as they are in a run."""

import math

import pytest
import torch
from torch import nn
from torchrec.optim.keyed import KeyedOptimizerWrapper

from c2al.parallel import ranks as process_group
from c2al.parallel.optimizers import (
    NonFiniteError,
    Optimizers,
    Schedule,
    all_finite,
    dense_adam,
    replicated_tables,
)
from c2al.parallel.shard import shard, table_shards
from tests.parallel import sharded_world as world


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, *(0.5 + 0.5 * math.cos(math.pi * k / 4) for k in (1, 2, 3, 4))]),
    ],
)
def test_schedule_by_hand(decay, expected):
    """Four steps of warm-up, then four of decay."""
    schedule = Schedule(8, 4, decay)
    assert [schedule(step) for step in range(9)] == pytest.approx(expected)


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_schedule_stays_within_bounds(decay):
    for num_steps, warmup in ((1, 0), (1, 1), (5, 5), (100, 3)):
        shares = [Schedule(num_steps, warmup, decay)(step) for step in range(num_steps + 5)]
        assert all(0 <= share <= 1 for share in shares)
        assert shares[0] > 0


def step(sharded: nn.Module, optimizers: Optimizers, number: int = 0) -> None:
    """As TorchRec's pipelines do it."""
    optimizers.zero_grad()
    loss, _ = sharded(world.draw(number, 16).batch())
    loss.sum().backward()
    optimizers.step()


def tables(sharded: nn.Module) -> dict[str, torch.Tensor]:
    return {name: shards[0][0].clone() for name, shards in table_shards(sharded).items()}


def test_tables_follow_the_schedule(sharded):
    """SGD's step is proportional to the rate: none at 0, half as far at half of it."""
    optimizers = Optimizers(
        sharded.fused_optimizer,
        dense_adam(sharded, learning_rate=0.0),
        schedule=[1.0, 0.5, 0.0].__getitem__,
        max_grad_norm=None,
    )
    start, moves = tables(sharded), []
    for _ in range(3):
        step(sharded, optimizers)
        moves.append({name: after - start[name] for name, after in tables(sharded).items()})
        for name, shards in table_shards(sharded).items():
            shards[0][0].detach().copy_(start[name])
    for name in moves[0]:
        assert moves[0][name].abs().max() > 0
        torch.testing.assert_close(moves[1][name], moves[0][name] / 2, atol=1e-7, rtol=1e-5)
        assert moves[2][name].abs().max() == 0


def test_learning_rates_of_a_run(sharded):
    optimizers = Optimizers(
        sharded.fused_optimizer,
        dense_adam(sharded, learning_rate=0.01),
        schedule=Schedule(4, 2),
        max_grad_norm=1.0,
    )
    seen = []
    for number in range(4):
        step(sharded, optimizers, number)
        seen.append((optimizers.learning_rates[0], optimizers.learning_rates[-1]))
    assert seen == [(0.5, 0.005), (1.0, 0.01), (1.0, 0.01), (0.5, 0.005)]
    assert optimizers.num_steps == 4


def test_adam_steps_all_that_no_fused_optimizer_does(sharded):
    optimizer = dense_adam(sharded, learning_rate=0.01)
    assert not any("tables" in name for name in optimizer.params)
    own = {name for name, _ in sharded.named_parameters() if "tables" not in name}
    assert set(optimizer.params) == own
    assert len(own) == 6  # two layers of the dense tokens, one of the head: weight and bias


def bare(weights: dict[str, nn.Parameter], **options) -> Optimizers:
    """A dense part under SGD of rate 1, and no tables."""
    dense = KeyedOptimizerWrapper(weights, lambda ps: torch.optim.SGD(ps, lr=1.0))
    none = KeyedOptimizerWrapper({}, lambda ps: torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    return Optimizers(none, dense, schedule=Schedule(10, 0, "constant"), **options)


def test_clipping_is_by_the_norm_of_the_whole_dense_part():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizers = bare({"a": a, "b": b}, max_grad_norm=1.0)
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizers.step()
    assert optimizers.grad_norm == pytest.approx(5.0)
    assert (a.item(), b.item()) == pytest.approx((-0.6, -0.8), rel=1e-5)
    a.grad, b.grad = torch.tensor([0.3]), torch.tensor([0.4])
    optimizers.step()
    assert (a.item(), b.item()) == pytest.approx((-0.9, -1.2), rel=1e-5), "a shorter one is left as it is"


def test_no_clipping():
    a = nn.Parameter(torch.zeros(1))
    optimizers = bare({"a": a}, max_grad_norm=None)
    a.grad = torch.tensor([1e6])
    optimizers.step()
    assert a.item() == -1e6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_gradient_that_is_not_finite_changes_no_weight(bad, limit):
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizers = bare({"a": a, "b": b}, max_grad_norm=limit)
    a.grad, b.grad = torch.ones(2), torch.tensor([0.0, bad])
    with pytest.raises(NonFiniteError, match="norm"):
        optimizers.step()
    assert torch.equal(a, torch.ones(2))
    assert torch.equal(b, torch.ones(2))
    assert optimizers.num_steps == 0


def test_the_dense_part_takes_one_step_for_several_batches():
    """With the mean of their gradients, clipped as one."""
    a = nn.Parameter(torch.zeros(1))
    optimizers = bare({"a": a}, max_grad_norm=1.0, accumulate=2)
    for gradient, expected in ((1.0, 0.0), (3.0, -1.0), (0.5, -1.0), (0.5, -1.5)):
        optimizers.zero_grad()
        a.grad = (0 if a.grad is None else a.grad) + torch.tensor([gradient])
        optimizers.step()
        assert a.item() == pytest.approx(expected)
    assert optimizers.num_steps == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_finite_gradients_of_tables(bad):
    """Also where their sum overflows."""
    assert all_finite([])
    assert all_finite([torch.full((9,), 3e38), torch.ones(2)])
    assert not all_finite([torch.ones(2), torch.tensor([1.0, bad])])
    assert not all_finite([torch.tensor([bad, -bad])])


def test_data_parallel_tables_are_neither_adams_nor_clipped():
    ranks = process_group.start()
    try:
        case = world.Case("data_parallel", "adagrad")
        places = case.place(ranks)
        tokens = world.FeatureTokens(
            world.embedding_tables(world.COLUMNS, dim=world.DIM),
            world.DenseTokens(num_dense=world.NUM_DENSE, dim=world.DIM),
        )
        model = world.TrainingModel(
            world.Ranker(tokens, nn.Identity(), world.Flat()), world.Fixed(weights=[1.0]), auxiliaries=[]
        )
        sharded = shard(model, placements=places, rates=case.rates, ranks=ranks, seed=0)
        replicated = replicated_tables(sharded, places, case.rates)
        dense = dense_adam(sharded, learning_rate=0.0)
        optimizers = Optimizers(
            sharded.fused_optimizer,
            dense,
            replicated=replicated,
            schedule=Schedule(10, 0, "constant"),
            max_grad_norm=1e-12,
        )
        start = tables(sharded)
        step(sharded, optimizers)
        assert not any("embedding_bags" in name for name in dense.params)
        assert len(replicated.params) == len(world.COLUMNS)
        assert all((after - start[name]).abs().max() > 0.1 for name, after in tables(sharded).items())
        next(iter(replicated.params.values())).grad.fill_(float("nan"))
        with pytest.raises(NonFiniteError, match="data-parallel table"):
            optimizers.step()
    finally:
        process_group.stop()
