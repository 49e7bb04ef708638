"""What single tables have of their own: read whole, and refused by name."""

import pytest

from c2al.cli import compose
from c2al.parallel.plan import TableOptions
from c2al.schema import DataError, SparseColumn
from c2al.training.table_options import own_dims, table_options, table_rates

COLUMNS = [SparseColumn("item", 100), SparseColumn("shop", 7)]


def options(*words):
    return table_options(compose("config", list(words)), COLUMNS)


def test_tables_have_nothing_of_their_own_unless_it_is_said():
    config = compose("config", [])
    assert table_options(config, COLUMNS) == {}
    assert table_rates(config).of("item") == table_rates(config).all


def test_words_of_the_command_line():
    found = options(
        "parallel.tables.item=row_wise",
        "parallel.tables.shop={sharding: column_wise, ranks: [1, 0]}",
        "model.dims.shop=32",
        "training.sparse.tables.shop.optimizer=sgd",
    )
    assert found["item"] == TableOptions("row_wise")
    assert found["shop"] == TableOptions("column_wise", ranks=(1, 0), dim=32, optimizer="sgd")


def test_rates_of_a_table():
    config = compose("config", ["training.sparse.tables.item.learning_rate=0.5", "training.sparse.eps=0.1"])
    rates = table_rates(config)
    assert (rates.of("item").learning_rate, rates.of("item").eps) == (0.5, 0.1)
    assert rates.of("shop").learning_rate == config.training.sparse.learning_rate


def test_widths():
    assert own_dims(compose("config", ["model.dims.item=64"]), COLUMNS) == {"item": 64}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["parallel.tables.itm=row_wise"], r"parallel\.tables names a table.*value itm.*did you mean item\?"),
        (["model.dims.items=8"], r"model\.dims names a table.*did you mean item\?"),
        (["training.sparse.tables.x.eps=1"], r"training\.sparse\.tables names a table.*tables: item, shop"),
        (["model.dims.item=0"], r"no width.*column item, value 0.*a whole number from 1"),
        (
            ["parallel.tables.item={shards: 3}"],
            r"parallel\.tables\.item has no such key.*value shards.*sharding, ranks",
        ),
        (["parallel.tables.item=3"], r"cannot be that.*value 3.*\{sharding"),
        (["parallel.tables.item={ranks: 1}"], r"ranks are whole numbers.*column item, value 1.*ranks=\[0,1\]"),
        (["parallel.tables.item={host: a}"], r"a host is a whole number.*value a"),
        (["training.sparse.tables.item.optimizer=adam"], r"no such optimizer.*value adam.*adagrad"),
        (["training.sparse.tables.item.learning_rate=-1"], r"no such learning_rate.*value -1"),
    ],
)
def test_what_cannot_be_is_refused(words, said):
    with pytest.raises(DataError, match=said):
        options(*words)
