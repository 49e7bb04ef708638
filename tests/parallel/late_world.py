"""Started by ``test_ranks.py``: a rank ends while a thread of gloo's still lets go of the last collective.

``python -m tests.parallel.late_world`` prints ``ended``. Were the group not to outlive the reducer, some starts would
hang for good.
"""

import sys
import time

import torch
from torch.nn.parallel import DistributedDataParallel

from c2al.parallel import endings
from c2al.parallel import ranks as process_group
from tests.parallel import normalizing_world as world


class Late:
    """Its end takes a second, after which it wants Python's lock again."""

    def __del__(self) -> None:
        time.sleep(1)


def work() -> None:
    process_group.start()
    summed = DistributedDataParallel(world.network(), broadcast_buffers=False, static_graph=True)
    summed.register_comm_hook(None, world.sum_of_bucket)
    world.train(summed, world.ROWS)
    late, tensor = Late(), torch.ones(20_000_000)
    queue = [torch.distributed.all_reduce(tensor, async_op=True) for _ in range(20)]
    ended = queue[-1].get_future().then(lambda _, late=late: None)
    del late
    ended.wait()
    del queue, ended
    process_group.stop()


if __name__ == "__main__":
    work()
    print("ended", flush=True)
    if "leave" in sys.argv:
        endings.leave(0, "", alone=False)
