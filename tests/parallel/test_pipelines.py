"""Names of pipelines, and a model that can be asked between two steps. tests/training compares whole runs."""

from itertools import pairwise

import pytest
import torch
from torchrec.distributed.train_pipeline import TrainPipelineBase, TrainPipelineSparseDist

from c2al.parallel import ranks as process_group
from c2al.parallel.optimizers import Optimizers, Schedule, dense_adam
from c2al.parallel.pipelines import model_alone, pipeline
from tests.parallel import sharded_world as world


def piped(name, sharded):
    optimizers = Optimizers(
        sharded.fused_optimizer, dense_adam(sharded, learning_rate=0.01), schedule=Schedule(9), max_grad_norm=None
    )
    return pipeline(name, sharded, optimizers, torch.device("cpu"))


def test_auto_is_base_on_a_cpu(sharded):
    assert type(piped("auto", sharded)) is TrainPipelineBase
    assert type(piped("base", sharded)) is TrainPipelineBase
    assert isinstance(piped("sparse_dist", sharded), TrainPipelineSparseDist)


@pytest.mark.parametrize("name", ["base", "sparse_dist"])
def test_the_model_alone_answers_for_any_batch(name, sharded):
    """Before the first step, between two with batches under way, after the last; and training goes on."""
    sharded.module.eval()
    other = world.draw(99, 5).batch()
    train = piped(name, sharded)
    batches = iter([world.draw(number, 16).batch() for number in range(4)])
    answers, shapes = [], []
    for _ in range(4):
        with model_alone(train), torch.no_grad():
            answers.append(sharded(other)[1][1])
        sharded.train()
        shapes.append(tuple(train.progress(batches)[1].shape))
        sharded.eval()
    with model_alone(train), torch.no_grad():
        answers.append(sharded(other)[1][1])
    assert shapes == [(16, 1)] * 4
    assert {tuple(answer.shape) for answer in answers} == {(5, 1)}
    assert all(not torch.equal(a, b) for a, b in pairwise(answers)), "every step has moved it"
    with pytest.raises(StopIteration):
        train.progress(batches)


def test_a_group_was_left():
    assert not process_group.dist.is_initialized()
