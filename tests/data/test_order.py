import itertools

import numpy as np
import pytest

from c2al.data.order import Leg, Order, picked

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


def test_picked() -> None:
    assert found_in([3, 4, 5], range(12)) == [(0, 0, 3, [0, 1, 2]), (1, 0, 4, [0, 1, 2, 3]), (2, 0, 5, [0, 1, 2, 3, 4])]
    assert found_in([3, 4, 5], range(2, 8)) == [(0, 2, 3, [0]), (1, 0, 4, [0, 1, 2, 3]), (2, 0, 1, [0])]
    assert found_in([3, 4, 5], [1, 8, 11]) == [(0, 1, 2, [0]), (2, 1, 5, [0, 3])]
    sizes = np.array([2, 1, 6])
    concatenated = [(run, place) for run, size in enumerate(sizes) for place in range(size)]
    for rows in (each for count in range(1, 10) for each in itertools.combinations(range(9), count)):
        found = [(run, first + place) for run, first, _, inside in found_in(sizes, rows) for place in inside]
        assert found == [concatenated[row] for row in rows]


def found_in(sizes, rows) -> list:
    return [(run, first, stop, inside.tolist()) for run, first, stop, inside in picked(sizes, np.array(rows))]


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_gone_on_with_by_others_has_every_row_once(shuffle: bool) -> None:
    """Up to four legs of any ranks, batches and windows, each left after any number of steps."""
    random = np.random.default_rng(0)
    chains = 0
    for num_rows in (1, 2, 5, 37, 100, 233) * 40:
        legs: list[Leg] = []
        seen: list[int] = []
        for hop in range(4):
            world_size, batch_size, window_rows = (
                int(random.choice(c)) for c in ((1, 2, 3, 7), (1, 3, 8), (1, 24, 99))
            )
            orders = [
                Order(
                    num_rows=num_rows,
                    batch_size=batch_size,
                    window_rows=window_rows,
                    rank=rank,
                    world_size=world_size,
                    shuffle=shuffle,
                    seed=3,
                ).after(5, legs)
                for rank in range(world_size)
            ]
            assert orders[0].num_rows == num_rows - len(seen)
            assert all(lengths_of(order) == lengths_of(orders[0]) for order in orders)
            steps = orders[0].steps_per_epoch
            steps = steps if hop == 3 else int(random.integers(0, steps + 1))
            seen += [row for order in orders for row in trained_by(order, steps)]
            if steps == orders[0].steps_per_epoch:
                break
            legs += [Leg(world_size, batch_size, window_rows, steps)] if steps else []
        assert sorted(seen) == list(range(num_rows))
        chains += len(legs) > 1
    assert chains > 40


def trained_by(order: Order, steps: int) -> list[int]:
    """The rows of the epoch's sequence that a rank trains in so many steps of its leg."""
    batches = []
    for window in range(order.num_windows):
        rows = order.left.at(order.part(window).start + order.rows(5, window)).tolist()
        length = len(rows) + order.part(window).filler
        batches += [rows[start : start + order.batch_size] for start in range(0, length, order.batch_size)]
    return [row for batch in batches[:steps] for row in batch]


def test_no_legs_change_nothing() -> None:
    order = Order(num_rows=200, batch_size=5, window_rows=100, world_size=2, rank=1, shuffle=True)
    assert order.after(0, []) is order


def test_what_is_left_is_shuffled_anew() -> None:
    order = Order(num_rows=200, batch_size=5, window_rows=100, shuffle=True)
    left = order.after(0, [Leg(1, 5, 100, 4)])
    assert left.num_rows == 180
    assert left.rows(0, 0).tolist() != order.rows(0, 0).tolist()
    assert len(left.left.strewn) == 80


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"window_rows": 0}, {"rank": 2}, {"seed": -1}])
def test_impossible_sizes(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Order(**({"num_rows": 5, "batch_size": 1, "window_rows": 5, "world_size": 2} | wrong))
