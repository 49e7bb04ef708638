"""Every plan that cannot be is refused with its table and what would do."""

import pytest

from c2al.parallel.conflicts import check_kernel
from c2al.parallel.plan import TableOptions, place_tables
from c2al.schema import DataError, SparseColumn


def place(options, *, world_size=4, optimizer="adagrad", dim=32, ranks_per_host=2):
    return place_tables(
        [SparseColumn("item", 100), SparseColumn("shop", 7)],
        dim=dim,
        sharding="table_wise",
        world_size=world_size,
        ranks_per_host=ranks_per_host,
        optimizer=optimizer,
        own={"item": options},
    )[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TableOptions(ranks=(0, 1)), r"table_wise cannot have these ranks.*column item, value \[0, 1\].*one rank"),
        (TableOptions(ranks=(4,)), r"different ranks from 0 to 3"),
        (TableOptions("column_wise", ranks=(0, 0)), r"column_wise.*different ranks"),
        (TableOptions("row_wise", ranks=(0, 1)), r"row_wise.*takes all of them"),
        (TableOptions("data_parallel", ranks=(1,)), r"data_parallel.*takes all of them"),
        (TableOptions("table_row_wise", ranks=(1, 2)), r"all ranks of a host in order, such as \[0, 1\]"),
        (TableOptions("table_column_wise", ranks=(0, 1, 2, 3)), r"the ranks of one host; or grid"),
        (TableOptions("table_row_wise", host=2), r"a host from 0 to 1"),
        (TableOptions("row_wise", host=0), r"no host of its own"),
        (TableOptions("table_wise", ranks=(0,), host=0), r"host or ranks, not both"),
        (TableOptions("column_wise", dim=24), r"24 columns cannot be cut into 4 shards.*model\.dims\.item=32"),
        (TableOptions("column_wise", optimizer="rowwise_adagrad"), r"4 column shards a row moment.*=row_wise"),
        (TableOptions("grid", optimizer="rowwise_adagrad"), r"2 column shards a row moment"),
        (TableOptions(kernel="fused_uvm"), r"fused_uvm is for GPUs.*kernel=fused"),
        (TableOptions(kernel="dense"), r"another optimizer.*value dense"),
        (TableOptions(kernel="fast"), r"no such kernel"),
        (TableOptions("data_parallel", kernel="fused"), r"no fused kernel.*kernel=dense"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(DataError, match=words) as refused:
        place(options)
    assert "item" in str(refused.value)
    assert "Remedy" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        (TableOptions(ranks=(3,)), (3,)),
        (TableOptions(host=1), (2,)),
        (TableOptions("column_wise", ranks=(2, 0)), (2, 0)),
        (TableOptions("table_column_wise", host=1), (2, 3)),
        (TableOptions("table_row_wise", ranks=(2, 3)), (2, 3)),
        (TableOptions("grid", ranks=(0, 1, 2, 3)), (0, 1, 2, 3)),
        (TableOptions("grid", ranks=(2, 3), optimizer="rowwise_adagrad"), (2, 3)),
        (TableOptions("row_wise", ranks=(0, 1, 2, 3)), (0, 1, 2, 3)),
    ],
)
def test_what_can_be_is_placed(options, ranks):
    assert place(options).ranks == ranks


def test_hosts_must_be_alike():
    with pytest.raises(DataError, match=r"3 ranks are not hosts of 2.*row_wise"):
        place(TableOptions("table_row_wise"), world_size=3)
    assert place(TableOptions("row_wise"), world_size=3).ranks == (0, 1, 2)


def test_kernels_by_device():
    assert check_kernel("item", "row_wise", "fused_uvm_caching", "cuda") == "fused_uvm_caching"
    assert check_kernel("item", "row_wise", None, "cuda") == "fused"
    assert check_kernel("item", "data_parallel", None, "cuda") == "dense"
