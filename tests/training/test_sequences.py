"""Which columns are sequences, from config and schema; what cannot be is refused with the column and the remedy."""

import pytest

from c2al.cli import compose
from c2al.schema import DataError, SparseColumn
from c2al.training.sequences import history_and_target, sequence_places

COLUMNS = [
    SparseColumn("seen", 10, multi=True),
    SparseColumn("item", 10),
    SparseColumn("tags", 5, multi=True),
    SparseColumn("user", 7),
]


def config(*own: str):
    return compose("config", ["model=sasrec", "data=parquet", "data.path=rows", *own])


def test_no_model_has_sequences_but_one_that_is_told():
    assert sequence_places(compose("config", []), COLUMNS) == {}
    assert history_and_target(compose("config", []), COLUMNS) == {}


def test_places_of_the_history_and_the_candidates_number_among_pooled_tokens():
    words = config("model.sequences={seen:6}", "model.target=user")
    assert sequence_places(words, COLUMNS) == {"seen": 6}
    assert history_and_target(words, COLUMNS) == {"num_places": 6, "target": 2}


def test_any_model_may_read_sequences_in_the_order_of_columns():
    words = compose("config", ["+model.sequences={tags:3,seen:2}"])
    assert list(sequence_places(words, COLUMNS).items()) == [("seen", 2), ("tags", 3)]


@pytest.mark.parametrize("source", ["complete_journey", "movielens", "synthetic"])
def test_known_data_has_a_history(source):
    known = compose("config", ["model=sasrec", f"data={source}", "data.path=rows"])
    (name,) = known.model.sequences
    columns = [SparseColumn(name, 10, multi=True), SparseColumn(known.model.target, 10)]
    assert history_and_target(known, columns) == {"num_places": known.data.sequences[name], "target": 0}


def test_what_is_named_takes_the_place_of_what_the_data_has():
    named = compose("config", ["model=sasrec", "model.sequences={recent_items:20}", "model.target=item"])
    assert (dict(named.model.sequences), named.model.target) == ({"recent_items": 20}, "item")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([], r"reads one history.*model.sequences=\{\}.*columns of lists: seen, tags"),
        (["model.sequences={seen:3,tags:3}"], "reads one history"),
        (["model.sequences={sean:3}"], r"no multi-valued column.*column sean.*columns of lists: seen, tags"),
        (["model.sequences={item:3}"], "no multi-valued column.*column item"),
        (["model.sequences={seen:0}"], "whole number of places.*column seen, value 0"),
        (["model.sequences={seen:many}"], "whole number of places.*column seen, value many"),
        (["model.sequences={seen:3}", "model.dims.seen=8"], "as wide as the tokens.*column seen"),
        (["model.sequences={seen:3}"], "model.target names no column.*one of item, tags, user"),
        (["model.sequences={seen:3}", "model.target=seen"], "model.target names no column.*column seen"),
    ],
)
def test_refused(own, said):
    with pytest.raises(DataError, match=said):
        history_and_target(config(*own), COLUMNS)


def test_something_must_be_pooled():
    with pytest.raises(DataError, match=r"none is pooled.*column seen"):
        sequence_places(config("model.sequences={seen:3}"), COLUMNS[:1])


def test_data_without_lists_is_told_so():
    with pytest.raises(DataError, match="has no column of lists"):
        history_and_target(config(), [COLUMNS[1]])
