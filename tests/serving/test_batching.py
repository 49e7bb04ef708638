import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from c2al.serving.batching import Batcher, Limits, ModelError, NotFiniteError, QueueFullError
from c2al.serving.inputs import Bags, Inputs

POISON = 666  # an id at which the model fails


class Gated:
    """A model that waits for ``gate``; logits depend on every input of a row and on nothing else."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, inputs: Inputs) -> np.ndarray:
        self.entered.set()
        assert self.gate.wait(900)
        self.sizes.append(len(inputs))
        if (inputs.ids_BS == POISON).any():
            raise ValueError("poison")
        ends = np.cumsum(inputs.bags["history"].lengths_B)
        sums = np.append(0, np.cumsum(inputs.bags["history"].values_V))
        bag_B = sums[ends] - sums[ends - inputs.bags["history"].lengths_B]
        return (inputs.dense_BN.sum(1) + inputs.ids_BS.sum(1) + bag_B).astype(np.float32)


def rows(num: int, seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, num)
    bags = {"history": Bags(rng.integers(0, 9, lengths.sum()), lengths)}
    return Inputs(rng.integers(0, 9, (num, 2)).astype(np.float32), rng.integers(0, 9, (num, 3)), bags)


def held(limits: Limits, **options: Callable) -> tuple[Gated, Batcher, "Future[np.ndarray]"]:
    """A batcher whose thread is inside the model with a first request, so that what is submitted next waits."""
    model = Gated()
    batcher = Batcher(model, limits, **options)
    first = batcher.submit(rows(1, 0))
    assert model.entered.wait(900)
    return model, batcher, first


def alone(inputs: Inputs) -> np.ndarray:
    model = Gated()
    model.gate.set()
    return model(inputs)


def test_batched_is_the_same_as_alone():
    model, batcher, first = held(Limits(rows=100, wait_s=0))
    asked = [rows(num, seed) for seed, num in enumerate([3, 1, 0, 7, 2])]
    futures = [batcher.submit(each) for each in asked]
    assert len(batcher) == 5
    model.gate.set()
    for inputs, future in zip(asked, futures, strict=True):
        np.testing.assert_array_equal(future.result(30), alone(inputs))
    assert len(first.result(30)) == 1
    assert model.sizes == [1, 13]


def test_batches_end_at_the_limit_and_a_large_request_is_cut():
    model, batcher, _ = held(Limits(rows=8, wait_s=0))
    asked = [rows(num, seed) for seed, num in enumerate([5, 3, 1, 20, 4])]
    futures = [batcher.submit(each) for each in asked]
    model.gate.set()
    for inputs, future in zip(asked, futures, strict=True):
        np.testing.assert_array_equal(future.result(30), alone(inputs))
    assert model.sizes == [1, 8, 1, 8, 8, 4, 4]


def test_a_bad_request_spoils_no_other():
    model, batcher, _ = held(Limits(rows=100, wait_s=0))
    bad = rows(2, 1)
    bad.ids_BS[1, 0] = POISON
    asked = [rows(2, 0), bad, rows(3, 2)]
    futures = [batcher.submit(each) for each in asked]
    model.gate.set()
    np.testing.assert_array_equal(futures[0].result(30), alone(asked[0]))
    np.testing.assert_array_equal(futures[2].result(30), alone(asked[2]))
    with pytest.raises(ValueError, match="poison"):
        futures[1].result(30)


def test_a_row_without_a_finite_logit_fails_its_request_alone():
    model, batcher, _ = held(Limits(rows=100, wait_s=0))
    bad = rows(2, 1)
    bad.dense_BN[1, 0] = np.nan
    futures = [batcher.submit(each) for each in (rows(2, 0), bad)]
    model.gate.set()
    assert len(futures[0].result(30)) == 2
    with pytest.raises(NotFiniteError, match="nan for row 1"):
        futures[1].result(30)


def test_logits_of_another_shape_are_refused():
    batcher = Batcher(lambda inputs: np.zeros((len(inputs), 1), np.float32), Limits())
    with pytest.raises(ModelError, match=r"shape \(2, 1\) for 2 rows"):
        batcher.submit(rows(2, 0)).result(30)


def test_the_queue_is_bounded():
    model, batcher, first = held(Limits(queue=2))
    futures = [batcher.submit(rows(1, 0)) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 requests wait"):
        batcher.submit(rows(1, 0))
    model.gate.set()
    assert all(len(future.result(30)) == 1 for future in (first, *futures))


def test_a_cancelled_request_is_not_scored():
    model, batcher, _ = held(Limits(wait_s=0))
    cancelled, kept = batcher.submit(rows(3, 0)), batcher.submit(rows(1, 0))
    assert cancelled.cancel()
    model.gate.set()
    assert len(kept.result(30)) == 1
    assert model.sizes == [1, 1]


def test_closing_scores_what_waits():
    model, batcher, _ = held(Limits())
    future = batcher.submit(rows(2, 0))
    batcher.close()
    with pytest.raises(QueueFullError):
        batcher.submit(rows(1, 0))
    assert not batcher.ended(0)
    model.gate.set()
    assert len(future.result(30)) == 2
    assert batcher.ended(900)


def test_waits_for_those_under_way_alone():
    """With an hour to wait, a batch goes as soon as all requests that there are wait in it."""
    under_way = [1]
    model = Gated()
    model.gate.set()
    seen: list[int] = []
    batcher = Batcher(
        model, Limits(wait_s=3600), under_way=lambda: under_way[0], observe=lambda rows, _: seen.append(rows)
    )
    assert len(batcher.submit(rows(2, 0)).result(30)) == 2
    under_way[0] = 2
    futures = [batcher.submit(rows(1, 0)), batcher.submit(rows(1, 0))]
    assert all(len(future.result(30)) == 1 for future in futures)
    assert seen == [2, 2]


def test_a_full_batch_does_not_wait():
    model = Gated()
    model.gate.set()
    batcher = Batcher(model, Limits(rows=4, wait_s=3600))
    assert len(batcher.submit(rows(4, 0)).result(30)) == 4
