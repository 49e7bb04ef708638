"""A prepared split -> a stream of Batch: split over ranks, shuffled by seed and epoch, resumable at any step.

    reader = Reader(folder="data/synthetic", split="train", batch_size=4096, axes=["age"], shuffle=True)
    for epoch in range(2):
        for batch in reader.batches(epoch):
            ...

A thread of the reader's own reads and checks the next window of rows while the batches of the present one are used.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from functools import partial

import numpy as np

from c2al.background import Background
from c2al.batch import Batch
from c2al.data.columns import axis_columns, pick, stored_columns
from c2al.data.order import Leg, Order, picked
from c2al.data.row_groups import OpenFiles, SplitFiles
from c2al.data.window import Selection, Window
from c2al.schema import CohortAxis, DataError, Schema

Agree = Callable[[DataError | None], None]


def raise_alone(error: DataError | None) -> None:
    """What a single rank agrees on."""
    if error:
        raise error


class Reader:
    """Batches of one split for one rank.

    The order of rows is described in ``order.py``. ``window_rows`` are the rows over all ranks that are mixed (and held
    twice in memory: in use, and read ahead); below a row group for each rank, row groups are read more than once.
    ``sparse`` and ``dense`` choose columns (all, if not given), which come in the order of the schema; ``axes`` may
    name crossed ones (``age_x_gender``), and may be axes themselves.

    ``agree`` is called with this rank's error or None, equally often on all ranks: once when the reader is made, once
    before each window. It must raise on all ranks if any has an error; bad data on one rank then stops all.
    """

    def __init__(
        self,
        *,
        folder: str,
        split: str,
        batch_size: int,
        axes: Sequence[str | CohortAxis],
        sparse: Sequence[str] | None = None,
        dense: Sequence[str] | None = None,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        window_rows: int = 524_288,
        agree: Agree | None = None,
    ) -> None:
        self._agree = agree or raise_alone
        self._thread = Background("c2al-reader")
        error = None
        try:
            self.schema = Schema.load(folder)
            self._chosen = _select(self.schema, sparse, dense, axes)
            self._files = SplitFiles(folder=folder, split=split, schema=self.schema, columns=self._chosen.columns)
        except Exception as found:
            error = _data_error(found)
        self._settle(error)
        self.num_rows = self._files.num_rows
        self._order = Order(
            num_rows=self.num_rows,
            batch_size=batch_size,
            window_rows=window_rows,
            rank=rank,
            world_size=world_size,
            shuffle=shuffle,
            seed=seed,
        )
        self.steps_per_epoch = self._order.steps_per_epoch

    def steps(self, epoch: int, legs: Sequence[Leg] = ()) -> int:
        """The steps of what earlier legs have left of an epoch; without any, of the whole one."""
        return self._order.after(epoch, legs).steps_per_epoch

    def rows_left(self, epoch: int, legs: Sequence[Leg]) -> int:
        """The rows that earlier legs have left of an epoch, over all ranks."""
        return self._order.after(epoch, legs).num_rows

    def batches(self, epoch: int = 0, start_step: int = 0, legs: Sequence[Leg] = ()) -> Iterator[Batch]:
        """The batches of an epoch from a step on, the same whether or not those before were read.

        Where ranks of another number, or with other batches, have begun the epoch, ``legs`` says so: the steps are
        then those of what they have left.
        """
        order = self._order.after(epoch, legs)
        if not 0 <= start_step <= order.steps_per_epoch:
            raise ValueError(f"start_step {start_step} is not within the epoch's {order.steps_per_epoch} steps")
        return self._batches(order, epoch, start_step)

    def _batches(self, order: Order, epoch: int, start_step: int) -> Iterator[Batch]:
        stop = threading.Event()
        first, skipped = divmod(start_step, order.steps_per_window)
        with OpenFiles(self._files) as files:
            load = partial(self._load, files, order, epoch, stop)
            ahead = self._thread.submit(partial(load, first)) if first < order.num_windows else None
            try:
                while ahead:
                    window = self._taken(ahead)
                    first += 1
                    ahead = self._thread.submit(partial(load, first)) if first < order.num_windows else None
                    for start in range(skipped * order.batch_size, window.num_rows, order.batch_size):
                        yield window.batch(start, start + order.batch_size)
                    skipped = 0
            finally:
                stop.set()
                if ahead:
                    wait([ahead])  # before the files are closed

    def _taken(self, ahead: "Future[Window | None]") -> Window:
        error = ahead.exception()
        self._settle(_data_error(error) if error else None)
        window = ahead.result()
        assert window is not None
        return window

    def _settle(self, error: DataError | None) -> None:
        self._agree(error)
        raise_alone(error)

    def _load(self, files: OpenFiles, order: Order, epoch: int, stop: threading.Event, window: int) -> Window | None:
        part = order.part(window)
        groups = [self._files.groups[index] for index in order.groups(epoch, len(self._files.groups))]
        # A rank without a row of its own still reads one, for its filler.
        wanted = order.left.at(np.arange(min(part.start, part.stop - 1), part.stop))
        pieces, places, num_read = [], [], 0
        for index, start, stop_row, inside in picked([g.num_rows for g in groups], wanted):
            if stop.is_set():
                return None
            pieces.append(files.read(groups[index], start, stop_row))
            places.append(num_read + inside)
            num_read += stop_row - start
        place = np.concatenate(places)
        rows = place[order.rows(epoch, window)]
        if part.filler:
            rows = np.append(rows, place[-1])
        return Window(self._chosen, pieces, rows, filler=part.filler)


def _data_error(error: BaseException) -> DataError:
    """An error of any kind as one that can be agreed on: the other ranks wait for this one and must hear of it."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, MemoryError):  # Arrow's is one
        remedy = "give the process more memory, or take a smaller training.window_rows"
        wrapped = DataError(
            "memory ran out while rows were read", value=f"{type(error).__name__}: {error}", remedy=remedy
        )
    else:
        wrapped = DataError(f"reading failed: {error!r}", remedy="see the cause above it in the log")
    wrapped.__cause__ = error
    return wrapped


def _select(
    schema: Schema, sparse: Sequence[str] | None, dense: Sequence[str] | None, axes: Sequence[str | CohortAxis]
) -> Selection:
    stored = stored_columns(schema)
    ids = {column.name: stored[column.name] for column in schema.sparse}
    numbers = {column.name: stored[column.name] for column in schema.dense}
    wanted = {column.name for column in [*pick(ids, sparse or ()), *pick(numbers, dense or ())]}
    return Selection(
        schema=schema,
        sparse=[column for name, column in ids.items() if sparse is None or name in wanted],
        dense=[column for name, column in numbers.items() if dense is None or name in wanted],
        label=stored[schema.label],
        weight=stored[schema.weight] if schema.weight else None,
        cohorts=[stored[name] for name in axis_columns(schema, axes)],
        axes=[schema.axis(name) for name in axes],
    )
