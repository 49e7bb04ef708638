"""One small exchange a step, by which all ranks learn the same at the same step: to stop, or that a save is written."""

from datetime import timedelta

import torch
import torch.distributed as dist

from c2al.parallel.ranks import Ranks


class Pulse:
    """Flags of each rank, joined over all ranks by "or"; over a gloo group of its own, beside the step's collectives.

    The exchange runs while the step does, so a beat gives what was sent at the beat before, and the first gives False.
    A rank alone gets its own flags at once.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._underway: tuple[dist.Work, torch.Tensor] | None = None
        self._group: dist.ProcessGroup | None = None
        if ranks.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=ranks.timeout_s))

    def beat(self, *flags: bool) -> tuple[bool, ...]:
        """Send ``flags``, as many at each beat; what all ranks sent at the beat before. Collective."""
        if self._group is None:
            return flags
        before = self.rest() or (False,) * len(flags)
        sent = torch.tensor(flags, dtype=torch.uint8)
        work = dist.all_reduce(sent, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._underway = work, sent
        return before

    def rest(self) -> tuple[bool, ...]:
        """Wait for what is under way, before the group is left or other work takes long; its flags, if any."""
        if self._underway is None:
            return ()
        (work, sent), self._underway = self._underway, None
        work.wait()
        return tuple(bool(flag) for flag in sent.tolist())
