"""The parts of a sharded step by the clock, one after another, and the bytes that each sends: instrumented steps.

They are apart from the steps that give rows/s. The sharded tables' forward is taken in pieces (input distribution,
lookup, output distribution), each waited for; ranks meet before each piece, and what that takes is ``waiting``. In
backward ranks do not meet: a rank that waits for another's gradients counts it as gradient distribution.

What cannot be told apart: the fused optimizer steps inside the tables' backward; DDP's all-reduce of the dense part and
of data-parallel tables goes along with backward, so what of it is not hidden is in the backward part during which it is
waited for. Nothing overlaps here that ``sparse_dist`` would overlap. Tables of sequences are not taken in pieces: all
of their time is in the dense forward and backward.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection

from benchmarks.alone import Products
from benchmarks.traffic import Traffic
from c2al.batch import Batch
from c2al.parallel.ranks import Ranks

REST, WAITING, UPDATE = "rest", "waiting", "table backward and update"
INPUT, LOOKUP, OUTPUT, GRADIENTS = "input distribution", "lookup", "output distribution", "gradient distribution"
FORWARD, BACKWARD, OPTIMIZER = "dense forward", "dense backward", "optimizer"
PARTS = (INPUT, LOOKUP, OUTPUT, FORWARD, BACKWARD, GRADIENTS, UPDATE, OPTIMIZER, WAITING, REST)
PLANNED = {  # TorchRec's planner on the same
    "input_comms": (INPUT,),
    "forward_compute": (LOOKUP,),
    "forward_comms": (OUTPUT,),
    "backward": (GRADIENTS, UPDATE),
}
TABLES = tuple(part for parts in PLANNED.values() for part in parts)


class Parts:
    """``seconds[part]`` and ``sent[part]`` a step, of this rank; use inside ``model_alone``."""

    def __init__(self, sharded: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks) -> None:
        self.sharded, self.optimizer, self.device = sharded, optimizer, ranks.device
        self.tables = next(each for each in sharded.modules() if isinstance(each, ShardedEmbeddingBagCollection))
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.rows_read_bytes = 0  # by lookups
        self._last, self._part, self._backward = 0.0, REST, False

    def time(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Seconds a step, by part."""
        self.seconds.clear()
        self.rows_read_bytes = 0
        with self._in_pieces():
            for batch in batches:
                self._step(batch)
        return {part: self.seconds[part] / len(batches) for part in PARTS}

    def send(self, batch: Batch) -> dict[str, float]:
        """Bytes that one step sends from this rank, by part."""
        with self._in_pieces(), Traffic(lambda: self._part) as traffic:
            self._step(batch)
        return dict(traffic.sent)

    def dense_flops(self, batch: Batch) -> float:
        """Floating-point operations of one step's matrix products, forward and backward."""
        with self._in_pieces(), torch.compiler.set_stance("force_eager"), Products() as products:
            self._step(batch)
        return float(sum(each["flops"] for each in products.shapes()))

    def _step(self, batch: Batch) -> None:
        batch = batch.to(self.device)
        dist.barrier()
        self._last = self._now()
        self._begin(REST)
        self.optimizer.zero_grad()
        loss, _ = self.sharded(batch)
        self._end(FORWARD)
        self._backward, self._part = False, BACKWARD
        loss.backward()
        self._end(UPDATE if self._backward else BACKWARD)
        self._begin(OPTIMIZER)
        self.optimizer.step()
        self._end(OPTIMIZER)

    @contextmanager
    def _in_pieces(self) -> Iterator[None]:
        """The tables' forward as ``_forward`` has it, for a while."""
        before = self.tables.__dict__.get("forward")
        self.tables.forward = self._forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            if before is None:
                del self.tables.forward
            else:
                self.tables.forward = before  # type: ignore[method-assign]

    def _forward(self, features: Any) -> Any:
        self._end(REST)
        self._meet()
        self._begin(INPUT)
        context = self.tables.create_context()
        ids = self.tables.input_dist(context, features).wait().wait()
        self._end(INPUT)
        self._begin(LOOKUP)
        pooled = self.tables.compute(context, ids)
        self._end(LOOKUP)
        self._count_reads(ids)
        self._meet()
        self._begin(OUTPUT)
        found: Any = self.tables.output_dist(context, pooled)
        for each in found._awaitables:
            each.callbacks.append(self._hooked)
        found = found._wait_impl()
        for rows in pooled:  # after those above: rows of a data-parallel table are both
            if rows.requires_grad:
                rows.register_hook(self._gradients_came)
        self._end(OUTPUT)
        self._begin(FORWARD)
        return found

    def _hooked(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.requires_grad:
            rows.register_hook(self._gradients_go)
        return rows

    def _gradients_go(self, _: torch.Tensor) -> None:
        self._end(UPDATE if self._backward else BACKWARD)
        self._backward = True
        self._begin(GRADIENTS)

    def _gradients_came(self, _: torch.Tensor) -> None:
        self._end(GRADIENTS)
        self._begin(UPDATE)

    def _count_reads(self, ids: Any) -> None:
        """An id reads one row of its table's shard here."""
        widths = {name: width for sharding in self.tables._lookups for name, width in _widths(sharding)}
        for each in ids:
            for key, count in zip(each.keys(), each.length_per_key(), strict=True):
                self.rows_read_bytes += 4 * widths.get(key, 0) * count

    def _meet(self) -> None:
        self._begin(WAITING)
        dist.barrier()
        self._end(WAITING)

    def _begin(self, part: str) -> None:
        self._part = part

    def _end(self, part: str) -> None:
        now = self._now()
        self.seconds[part] += now - self._last
        self._last = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def _widths(lookup: nn.Module) -> Iterator[tuple[str, int]]:
    """Of a lookup's features, their tables' width on this rank."""
    inner: Any = getattr(lookup, "module", lookup)
    for group in inner.grouped_configs:
        yield from zip(group.feature_names(), group.embedding_dims(), strict=False)
