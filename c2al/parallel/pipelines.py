"""TorchRec's training pipelines by name: forward, one backward, step, with the next batch under way."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer
from torchrec.distributed.train_pipeline import TrainPipeline, TrainPipelineBase, TrainPipelineSparseDist

__all__ = ["TrainPipeline", "model_alone", "pipeline"]


def pipeline(name: str, model: nn.Module, optimizer: Optimizer, device: torch.device) -> TrainPipeline:
    """``base`` copies the next batch during the step; ``sparse_dist`` also sends its ids to the tables' ranks.

    ``auto`` is sparse_dist on a GPU and base on a CPU, where sparse_dist has nothing to overlap and is slower.
    """
    if name == "auto":
        name = "sparse_dist" if device.type == "cuda" else "base"
    if name == "base":
        return TrainPipelineBase(model, optimizer, device)
    return TrainPipelineSparseDist(model, optimizer, device, execute_all_batches=True)


@contextmanager
def model_alone(pipeline: TrainPipeline) -> Iterator[None]:
    """The model free for forwards of one's own: sparse_dist has rewritten it to read the ids that are under way."""
    rewritten = isinstance(pipeline, TrainPipelineSparseDist)
    if rewritten:
        pipeline.detach()
    try:
        yield
    finally:
        if rewritten:
            pipeline.attach()
