import itertools

import numpy as np
import pytest

from c2al.data.order import Order, overlaps

SIZES = list(itertools.product((1, 2, 5, 16, 37, 100), (1, 3, 4), (1, 10, 24, 1000)))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_row_once_and_equal_lengths(world_size: int, shuffle: bool) -> None:
    for num_rows, batch_size, window_rows in SIZES:
        orders = [
            Order(
                num_rows=num_rows,
                batch_size=batch_size,
                window_rows=window_rows,
                rank=rank,
                world_size=world_size,
                shuffle=shuffle,
            )
            for rank in range(world_size)
        ]
        rows = [row for order in orders for window in range(order.num_windows) for row in rows_of(order, window)]
        assert sorted(rows) == list(range(num_rows))
        lengths = [lengths_of(order) for order in orders]
        assert all(length == lengths[0] for length in lengths)


def rows_of(order: Order, window: int) -> list[int]:
    part, within = order.part(window), order.rows(3, window)
    assert sorted(within) == list(range(part.stop - part.start))
    assert part.stop > 0  # there is a row to fill up with
    return (part.start + within).tolist()


def lengths_of(order: Order) -> list[int]:
    """Batch lengths of an epoch; all windows but the last have full batches only."""
    parts = [order.part(window) for window in range(order.num_windows)]
    lengths = [part.stop - part.start + part.filler for part in parts]
    assert all(length == order.steps_per_window * order.batch_size for length in lengths[:-1])
    assert sum(-(-length // order.batch_size) for length in lengths) == order.steps_per_epoch
    return lengths


def test_permutations_depend_on_all_they_should() -> None:
    def rows(*, seed: int = 0, epoch: int = 0, window: int = 0, rank: int = 0) -> list[int]:
        order = Order(num_rows=200, batch_size=5, window_rows=100, world_size=2, rank=rank, shuffle=True, seed=seed)
        return order.rows(epoch, window).tolist()

    assert rows() == rows()
    others = [rows(seed=1), rows(epoch=1), rows(window=1), rows(rank=1)]
    assert all(first != second for first, second in itertools.combinations([rows(), *others], 2))

    def groups(*, seed: int, epoch: int) -> list[int]:
        return Order(num_rows=9, batch_size=1, window_rows=9, shuffle=True, seed=seed).groups(epoch, 50).tolist()

    assert groups(seed=0, epoch=0) == groups(seed=0, epoch=0)
    assert groups(seed=0, epoch=1) != groups(seed=0, epoch=0) != groups(seed=1, epoch=0)
    assert sorted(groups(seed=0, epoch=0)) == list(range(50))


def test_overlaps() -> None:
    assert overlaps([3, 4, 5], 0, 12) == [(0, 0, 3), (1, 0, 4), (2, 0, 5)]
    assert overlaps([3, 4, 5], 2, 8) == [(0, 2, 3), (1, 0, 4), (2, 0, 1)]
    assert overlaps([3, 4, 5], 3, 7) == [(1, 0, 4)]
    sizes = np.array([2, 1, 6])
    concatenated = [(run, place) for run, size in enumerate(sizes) for place in range(size)]
    for start, stop in itertools.combinations(range(10), 2):
        found = [(run, place) for run, begin, end in overlaps(sizes, start, stop) for place in range(begin, end)]
        assert found == concatenated[start:stop]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"window_rows": 0}, {"rank": 2}, {"seed": -1}])
def test_impossible_sizes(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Order(**({"num_rows": 5, "batch_size": 1, "window_rows": 5, "world_size": 2} | wrong))
