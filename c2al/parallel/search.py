"""The least number of ranks at which something holds, where it may never hold and need not hold for good."""

from collections.abc import Callable

MOST_RANKS = 4096
NEIGHBOURS = 16  # sizes that are tried one by one before they double


def least_world_size(fits: Callable[[int], bool], *, ranks_per_host: int, at_least: int = 1) -> int | None:
    """Part of a host in powers of two, then whole hosts; None if none up to 4,096 ranks fits.

    More ranks are no sure remedy: each may hold less of the tables, but all of them send their ids and take their rows.
    So sizes are tried upwards from ``at_least``, which a caller knows from what all ranks must hold together: one by
    one at first, then doubled, then halved back to the least that still fits.
    """
    parts = [1 << power for power in range(ranks_per_host.bit_length()) if 1 << power < ranks_per_host]
    for world_size in parts:
        if world_size >= at_least and fits(world_size):
            return world_size
    most = max(1, MOST_RANKS // ranks_per_host)
    hosts = first = max(1, -(-at_least // ranks_per_host))
    failed = first - 1
    while failed < hosts <= most:
        if fits(hosts * ranks_per_host):
            return ranks_per_host * _least_between(failed, hosts, lambda n: fits(n * ranks_per_host))
        failed, hosts = hosts, min(most, hosts + (1 if hosts - first < NEIGHBOURS else hosts))
    return None


def _least_between(failed: int, fitted: int, fits: Callable[[int], bool]) -> int:
    while fitted - failed > 1:
        middle = (failed + fitted) // 2
        failed, fitted = (failed, middle) if fits(middle) else (middle, fitted)
    return fitted
