"""What a rank really holds: bytes of tables, optimizer state and dense part, and the memory that training added."""

import ctypes
import gc
import platform
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from c2al.embedding.tables import table_of
from c2al.parallel.ranks import Ranks
from c2al.parallel.shard import table_shards


def held_bytes(sharded: nn.Module, optimizer: Any) -> dict[str, int]:
    """Of this rank, counted on the live tensors; gradients of the dense part are as large as its parameters."""
    tables = sum(_bytes(tensor) for shards in table_shards(sharded).values() for tensor, _ in shards)
    dense = sum(_bytes(each) for name, each in sharded.named_parameters() if table_of(name) is None)
    state = {"tables": 0, "dense": 0}
    for name, values in optimizer.state_dict()["state"].items():
        state["tables" if table_of(name) else "dense"] += sum(_bytes(value) for value in values.values())
    return {"tables": tables, "table_optimizer": state["tables"], "dense": 2 * dense + state["dense"]}


def _bytes(value: Any) -> int:
    if hasattr(value, "local_shards"):
        return sum(_bytes(shard.tensor) for shard in value.local_shards())
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) and value.dim() else 0


class Peak:
    """The most memory that was added since it was made: of the device's allocator, or of this process (Linux).

    Freed memory is given back to the system before, so that what an earlier plan left is not used for nothing.
    """

    def __init__(self, ranks: Ranks) -> None:
        gc.collect()
        self.on_gpu = ranks.device.type == "cuda"
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before: int | None = torch.cuda.memory_allocated()
            return
        pa.default_memory_pool().release_unused()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        self.before = _status("VmRSS") if _forget_peak() else None

    def added(self) -> int | None:
        """Bytes; None where the system does not say."""
        if self.before is None:
            return None
        return (torch.cuda.max_memory_allocated() if self.on_gpu else _status("VmHWM")) - self.before


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0
