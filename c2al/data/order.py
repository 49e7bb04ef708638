"""Which row comes at which step on which rank: arithmetic on row numbers, no files.

The split's row groups, permuted by seed and epoch when shuffling, make the epoch's sequence of rows. It is cut into
windows, each a multiple of ``batch_size * world_size`` rows; every rank takes its contiguous part of each window (and
so reads only the row groups under it), permutes the part when shuffling, and cuts it into batches. The last window has
the rest, dealt as evenly as can be; a rank with one row fewer than another repeats a row as a filler. So all ranks have
the same steps and the same batch length at each, and no row is lost or comes twice.

An epoch may be gone on with by other ranks, batches or windows: what is left of its sequence is then ordered anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

GROUPS, ROWS = 1, 2  # what a stream of random numbers is for; numpy pads seeds with zeros, so this stands first


@dataclass(frozen=True)
class Part:
    """A rank's share of a window: places ``[start, stop)`` of what is ordered, the last one once more as filler?"""

    start: int
    stop: int
    filler: bool


@dataclass(frozen=True)
class Leg:
    """The steps that so many ranks have taken in an epoch, with batches and windows of these sizes."""

    world_size: int
    batch_size: int
    window_rows: int
    steps: int


@dataclass(frozen=True, eq=False)
class Left:
    """What is left of an epoch's sequence: some rows here and there, ascending, then all from row ``then`` on."""

    strewn: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    then: int = 0

    def at(self, places: np.ndarray) -> np.ndarray:
        """The rows of the epoch's sequence at these places of what is left."""
        if not len(self.strewn):
            return places + self.then
        inside = self.strewn[np.minimum(places, len(self.strewn) - 1)]
        return np.where(places < len(self.strewn), inside, places - len(self.strewn) + self.then)


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of ``num_rows`` rows, as one rank sees them; after ``num_legs`` legs, those of what was left."""

    num_rows: int
    batch_size: int
    window_rows: int
    rank: int = 0
    world_size: int = 1
    shuffle: bool = False
    seed: int = 0
    num_legs: int = 0
    left: Left = Left()

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
        first = self._start(window)
        num_rows = self._start(window + 1) - first
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
        legs = [self.num_legs] if self.num_legs else []
        random = np.random.default_rng([ROWS, self.seed, epoch, window, self.rank, *legs])
        return random.permutation(part.stop - part.start)

    def after(self, epoch: int, legs: Sequence[Leg]) -> "Order":
        """The order of what these legs have left of an epoch, for this rank.

        First comes the rest of the window that was under way, its rows sorted, then the rows after it.
        """
        order = self
        for leg in legs:
            then = replace(
                order, rank=0, world_size=leg.world_size, batch_size=leg.batch_size, window_rows=leg.window_rows
            )
            left = then._left_after(epoch, leg.steps)
            num_rows = order.num_rows - (len(order.left.strewn) - len(left.strewn)) - (left.then - order.left.then)
            order = replace(order, num_rows=num_rows, num_legs=order.num_legs + 1, left=left)
        return order

    def _start(self, window: int) -> int:
        return min(window * self.steps_per_window * self.rows_per_step, self.num_rows)

    def _left_after(self, epoch: int, steps: int) -> Left:
        """What all ranks together have left after so many steps."""
        window, inside = divmod(steps, self.steps_per_window)
        tails, stop = [np.empty(0, np.int64)], self._start(window)
        if inside:
            for order in (replace(self, rank=rank) for rank in range(self.world_size)):
                rows = order.part(window).start + order.rows(epoch, window)
                tails.append(rows[inside * self.batch_size :])
            stop = self._start(window + 1)
        rest = self.left.at(np.sort(np.concatenate(tails)))
        then = self.left.then + max(0, stop - len(self.left.strewn))
        return Left(np.concatenate([rest, self.left.strewn[stop:]]), then)


def picked(sizes: Sequence[int] | np.ndarray, rows: np.ndarray) -> list[tuple[int, int, int, np.ndarray]]:
    """Where ascending rows lie in consecutive runs of these sizes: (run, first in it, last + 1 in it, places from the
    first on) of each run that has one."""
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(rows, ends)
    found = []
    for run in np.flatnonzero(np.diff(cuts, prepend=0)).tolist():
        inside = rows[cuts[run - 1] if run else 0 : cuts[run]] - (ends[run] - sizes[run])
        first = int(inside[0])
        found.append((run, first, int(inside[-1]) + 1, inside - first))
    return found
