"""Started once a rank by ``test_batch_norm.py``: a network with batch norm on a part of the rows; rank 0 writes.

``python -m tests.parallel.normalizing_world OUT.pt``
"""

import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from c2al.interaction.dnn import dnn
from c2al.parallel import ranks as process_group
from c2al.parallel.batch_norm import normalize_over_ranks

ROWS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) + 3
PARTS = (slice(0, 5), slice(5, 12))  # of two ranks, uneven


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(*dnn(4, [6, 5], batch_norm=True), torch.nn.Linear(5, 1))


def train(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Three steps of gradient descent on the sum over this rank's rows."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x).sigmoid() - 0.3).square().sum().backward()
        optimizer.step()


def main() -> None:
    ranks = process_group.start()
    model = network()
    normalize_over_ranks(model)
    summed = DistributedDataParallel(model, broadcast_buffers=False, static_graph=True)
    summed.register_comm_hook(None, sum_of_bucket)
    train(summed, ROWS[PARTS[ranks.rank]])
    states = process_group.gather(model.state_dict())
    if ranks.is_first:
        torch.save(states, sys.argv[1])
    process_group.stop()


def sum_of_bucket(_: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


if __name__ == "__main__":
    main()
