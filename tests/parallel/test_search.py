import pytest

from c2al.parallel.search import MOST_RANKS, least_world_size


@pytest.mark.parametrize("needed", [1, 2, 3, 4, 5, 8, 9, 24, 25, 130, 1000, 3001])
def test_the_least_that_fits(needed):
    """Parts of a host in powers of two, then whole hosts of 8."""
    sizes = [1, 2, 4, *range(8, MOST_RANKS + 1, 8)]
    expected = next(size for size in sizes if size >= needed)
    assert least_world_size(lambda size: size >= needed, ranks_per_host=8) == expected
    assert least_world_size(lambda size: size >= needed, ranks_per_host=8, at_least=needed) == expected


def test_never():
    tried = []
    assert least_world_size(lambda size: bool(tried.append(size)), ranks_per_host=8) is None
    assert max(tried) > MOST_RANKS / 2
    assert len(tried) < 40


def test_too_many_is_no_remedy():
    """It fits between 16 and 40 ranks only."""
    assert least_world_size(lambda size: 16 <= size <= 40, ranks_per_host=8) == 16


def test_hosts_of_any_size():
    assert least_world_size(lambda size: size >= 4, ranks_per_host=6) == 4
    assert least_world_size(lambda size: size >= 5, ranks_per_host=6) == 6
    assert least_world_size(lambda size: size >= 1, ranks_per_host=1) == 1
