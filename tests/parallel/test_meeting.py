"""Ranks meet in a store that still holds the cards of the dead."""

import threading
from datetime import timedelta

import pytest
import torch.distributed as dist

from c2al.parallel.endings import RankLostError
from c2al.parallel.meeting import meet


def met(store, rank, world_size, found, timeout_s=900.0):
    try:
        found[rank] = meet(store.clone(), rank=rank, world_size=world_size, timeout_s=timeout_s)
    except RankLostError as error:
        found[rank] = error


def together(store, ranks, world_size, **options):
    found = {}
    threads = [threading.Thread(target=met, args=(store, rank, world_size, found), kwargs=options) for rank in ranks]
    for each in threads:
        each.start()
    for each in threads:
        each.join(900)
    return found


@pytest.fixture
def store():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=900))


def test_all_get_one_store_and_know_each_other(store):
    found = together(store, range(3), 3)
    assert {len(members) for _, members in found.values()} == {3}
    assert [member.rank for member in found[1][1]] == [0, 1, 2]
    found[2][0].set("x", "of this group")
    assert found[0][0].get("x") == b"of this group"


def test_what_a_former_group_left_is_not_read(store):
    first = together(store, range(2), 2)
    first[0][0].set("address", "of a dead process")
    again = together(store, range(2), 2)
    assert not again[1][0].check(["address"])


def test_a_card_of_a_dead_process_opens_nothing(store):
    """Rank 1 came and died before rank 0 was there; only its successor counts."""
    together(store, range(2), 2)
    found = {}
    alone = threading.Thread(target=met, args=(store, 0, 2, found))
    alone.start()
    alone.join(0.5)
    assert not found, "the old card alone does not do"
    met(store, 1, 2, found)
    alone.join(900)
    assert found[0][1] == found[1][1]


def test_who_does_not_come_is_named(store):
    found = together(store, [0, 1], 3, timeout_s=3.5)
    assert "rank 2 did not come to the start in time" in str(found[0])
    assert "rank 2 did not come" in str(found[1])
    assert [found[0].speaks, found[1].speaks] == [True, False]
    found = together(store, [1], 2, timeout_s=1)
    assert "rank 0 did not come" in str(found[1])
