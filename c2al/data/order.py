"""Which row comes at which step on which rank: arithmetic on row numbers, no files.

The split's row groups, permuted by seed and epoch when shuffling, make the epoch's sequence of rows. It is cut into
windows, each a multiple of ``batch_size * world_size`` rows; every rank takes its contiguous part of each window (and
so reads only the row groups under it), permutes the part when shuffling, and cuts it into batches. The last window has
the rest, dealt as evenly as can be; a rank with one row fewer than another repeats a row as a filler. So all ranks have
the same steps and the same batch length at each, and no row is lost or comes twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GROUPS, ROWS = 1, 2  # what a stream of random numbers is for; numpy pads seeds with zeros, so this stands first


@dataclass(frozen=True)
class Part:
    """A rank's share of a window: rows ``[start, stop)`` of the epoch's sequence, the last one once more as filler?"""

    start: int
    stop: int
    filler: bool


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of ``num_rows`` rows, as one rank sees them."""

    num_rows: int
    batch_size: int
    window_rows: int
    rank: int = 0
    world_size: int = 1
    shuffle: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.window_rows < 1 or not 0 <= self.rank < self.world_size or self.seed < 0:
            raise ValueError(f"sizes must be positive, the rank below world_size and the seed not negative: {self}")

    @property
    def rows_per_step(self) -> int:
        """Rows of one step on all ranks."""
        return self.batch_size * self.world_size

    @property
    def steps_per_window(self) -> int:
        """Steps of a full window."""
        return max(1, round(self.window_rows / self.rows_per_step))

    @property
    def num_windows(self) -> int:
        """Windows of an epoch, the last of which may be short."""
        return -(-self.num_rows // (self.steps_per_window * self.rows_per_step))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        return -(-self.num_rows // self.rows_per_step)

    def part(self, window: int) -> Part:
        """This rank's share of a window; a rank without a row of its own gets one of another rank's, as filler."""
        first = window * self.steps_per_window * self.rows_per_step
        num_rows = min(self.steps_per_window * self.rows_per_step, self.num_rows - first)
        each, longer = divmod(num_rows, self.world_size)
        start = first + self.rank * each + min(self.rank, longer)
        return Part(start, start + each + (self.rank < longer), filler=bool(longer) and self.rank >= longer)

    def groups(self, epoch: int, num_groups: int) -> np.ndarray:
        """The order of the row groups in an epoch."""
        if not self.shuffle:
            return np.arange(num_groups)
        return np.random.default_rng([GROUPS, self.seed, epoch]).permutation(num_groups)

    def rows(self, epoch: int, window: int) -> np.ndarray:
        """The order of the rows of this rank's part of a window, without the filler."""
        part = self.part(window)
        if not self.shuffle:
            return np.arange(part.stop - part.start)
        random = np.random.default_rng([ROWS, self.seed, epoch, window, self.rank])
        return random.permutation(part.stop - part.start)


def overlaps(sizes: Sequence[int] | np.ndarray, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Where ``[start, stop)`` lies in consecutive runs of these sizes: (run, start in it, stop in it) of each."""
    ends = np.cumsum(sizes)
    found, run = [], int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        begin = int(ends[run]) - int(sizes[run])
        end = min(stop, int(ends[run]))
        found.append((run, start - begin, end - begin))
        start, run = end, run + 1
    return found
