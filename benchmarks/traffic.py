"""Bytes that leave a rank, counted at every collective as it is called, whoever calls it: TorchRec, DDP or c2al.

``torch.distributed``, TorchRec's ``comm_ops`` and DDP's reducer all go through the operators ``c10d::…``, where a
dispatch mode sees them, in backward too. What is counted is the payload: for an all-to-all, what is not for the rank
itself; for the others what a ring sends, ``(n - 1) / n`` of the whole, twice that for an all-reduce. What gloo or NCCL
add, or save by another algorithm, is not in it.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

REDUCED = "all-reduce: dense part, data-parallel tables"


class Traffic(TorchDispatchMode):
    """``sent[what]``: bytes by what ``part()`` says is under way; all-reduces apart: DDP's go along with backward."""

    def __init__(self, part: Callable[[], str]) -> None:
        super().__init__()
        self.part = part
        self.sent: defaultdict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a collective; everything is computed as usual."""
        if func.namespace == "c10d" and (count := COUNTS.get(func.overloadpacket.__name__)):
            what = REDUCED if "allreduce" in func.overloadpacket.__name__ else self.part()
            self.sent[what] += count(args)
        return func(*args, **(kwargs or {}))


def _group(argument: Any) -> dist.ProcessGroup:
    """Operators get it as a script object."""
    return argument if isinstance(argument, dist.ProcessGroup) else dist.ProcessGroup.unbox(argument)


def _bytes(tensors: Any) -> int:
    if isinstance(tensors, torch.Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(_bytes(each) for each in tensors)


def _all_to_all(args: Any) -> float:
    """``(output, input, group, output splits, input splits)``; without splits, equal ones."""
    sent, group, splits = args[1], args[2], args[4]
    if not splits:
        return _bytes(sent) * (1 - 1 / _group(group).size())
    per_entry = _bytes(sent) / max(1, sum(splits))
    return per_entry * (sum(splits) - splits[_group(group).rank()])


def _all_to_all_lists(args: Any) -> float:
    sent, group = args[1], args[2]
    return _bytes(sent) - _bytes(sent[_group(group).rank()])


def _ring(times: float, argument: int) -> Callable[[Any], float]:
    """Of the whole in one argument."""

    def count(args: Any) -> float:
        n = _group(args[1] if argument == 0 else args[2]).size()
        return times * (n - 1) / n * _bytes(args[argument])

    return count


def _gathered(args: Any) -> float:
    """An all-gather's argument is a rank's own part: it goes to all others."""
    return (_group(args[2]).size() - 1) * _bytes(args[1])


COUNTS: dict[str, Callable[[Any], float]] = {
    "alltoall_base_": _all_to_all,
    "alltoall_": _all_to_all_lists,
    "allreduce_": _ring(2, 0),
    "allreduce_coalesced_": _ring(2, 0),
    "_reduce_scatter_base_": _ring(1, 1),
    "reduce_scatter_": _ring(1, 1),
    "reduce_scatter_tensor_coalesced_": _ring(1, 1),
    "_allgather_base_": _gathered,
    "allgather_": _gathered,
    "allgather_into_tensor_coalesced_": _gathered,
}
