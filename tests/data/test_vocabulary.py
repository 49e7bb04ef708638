import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import vocabulary as module
from c2al.data.vocabulary import Lookup, Vocabulary, fnv1a64, hashed_ids, unit_ids


def fnv_by_the_book(text: str) -> int:
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) % 2**64
    return state


def counted(values: list, **options) -> Vocabulary:
    vocabulary = Vocabulary("x", **{"hash_rows": None, **options})
    for value in values:  # in pieces, so that counts are merged
        vocabulary.count(pa.array(value, pa.string()))
    vocabulary.finish()
    return vocabulary


def test_ids_go_by_frequency_then_by_value_and_zero_is_unknown(tmp_path):
    vocabulary = counted([["b", "c", "a", "c"], [None, "d"], [], ["c", "b"]])
    assert vocabulary.encode(pa.array(["c", "b", "a", "d", "new", None])).tolist() == [1, 2, 3, 4, 0, 0]
    column = vocabulary.save(str(tmp_path))
    assert (column.num_rows, column.hashed, column.multi) == (5, False, False)
    stored = pq.read_table(tmp_path / column.vocabulary)
    assert stored.to_pydict() == {"value": ["c", "b", "a", "d"], "id": [1, 2, 3, 4]}


def test_rare_values_and_those_past_the_most_frequent_are_unknown():
    values = [["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2 + ["e"]]
    assert counted(values, min_count=3).values.to_pylist() == ["a", "b", "c"]
    assert counted(values, max_values=2).values.to_pylist() == ["a", "b"]
    assert counted(values, max_values=2).num_distinct == 5


def test_no_value_at_all_gives_a_table_of_one_row():
    vocabulary = counted([[None, None]])
    assert vocabulary.num_rows == 1
    assert vocabulary.encode(pa.array(["a", None])).tolist() == [0, 0]


def test_counting_stays_bounded_and_keeps_what_is_frequent():
    vocabulary = Vocabulary("x", hash_rows=None, max_values=10)
    for piece in range(30):
        often = [f"often{i}" for i in range(10)] * 20
        once = [f"once{piece}_{i}" for i in range(20_000)]
        vocabulary.count(pa.array(often + once))
        assert len(vocabulary._counted) + sum(t.num_rows for t in vocabulary._waiting) < 250_000
    vocabulary.finish()
    assert vocabulary.approximate
    assert set(vocabulary.values.to_pylist()) == {f"often{i}" for i in range(10)}


def test_more_values_than_hash_rows_are_hashed_and_fewer_are_not(tmp_path):
    few = counted([["a", "b"]], hash_rows=4)
    many = counted([[f"v{i}" for i in range(20)]], hash_rows=4)
    assert (few.hashed, many.hashed) == (False, True)
    assert many.num_rows == 4
    ids = many.encode(pa.array(["v1", "never seen", None]))
    assert ids.tolist() == [1 + fnv_by_the_book(text) % 3 for text in ("v1", "never seen")] + [0]
    column = many.save(str(tmp_path))
    assert (column.hashed, column.vocabulary, column.num_rows) == (True, None, 4)


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "hello", "äöü", "x" * 300, "foobar"]])
def test_the_hash_is_fnv_1a(texts):
    assert fnv1a64(pa.array(texts, pa.string())).tolist() == [fnv_by_the_book(text) for text in texts]
    assert fnv_by_the_book("foobar") == 0x85944171F73967E8  # from the authors' test vectors


def test_slices_hash_like_their_values():
    texts = pa.array(["one", "two", "three", None, "five"])
    assert hashed_ids(texts.slice(1, 3), 100).tolist() == hashed_ids(texts, 100)[1:4].tolist()


def test_hashed_ids_fill_their_range_evenly():
    ids = hashed_ids(pa.array([str(i) for i in range(100_000)]), 11)
    counts = np.bincount(ids, minlength=11)
    assert counts[0] == 0
    assert np.all(np.abs(counts[1:] - 10_000) < 500)


def test_units_keep_apart_and_missing_is_zero():
    units = unit_ids(pa.array([str(i) for i in range(10_000)] + [None]))
    assert units.dtype == np.int32
    assert units[-1] == 0
    assert len(set(units[:-1])) == 10_000
    assert units[:-1].min() > 0


@pytest.mark.parametrize("num", [3, 500])
def test_a_lookup_gives_the_ids_of_its_vocabulary(num):
    vocabulary = counted([[f"v{i}" for i in range(num)] + ["", "日本"]])
    texts = pa.array(["v1", "new", None, "日本", "v0", ""] * 40)
    for cut in (texts, texts.slice(1, 5), texts.slice(0, 0)):
        assert Lookup(vocabulary.values)(cut).tolist() == vocabulary.encode(cut).tolist()


def test_a_lookup_tells_values_of_one_hash_apart(monkeypatch):
    values = pa.array(["a", "b", "c"])
    monkeypatch.setattr(module, "fnv1a64", lambda texts: np.zeros(len(texts), np.uint64))
    assert Lookup(values)(pa.array(["b", "x", None, "c"])).tolist() == [2, 0, 0, 3]
    assert Lookup(values.slice(0, 1))(pa.array(["b", "a"])).tolist() == [0, 1]


def test_a_lookup_of_no_values_knows_none():
    assert Lookup(pa.array([], pa.string()))(pa.array(["a", None])).tolist() == [0, 0]


def test_few_texts_have_the_hashes_that_they_have_among_many():
    texts = pa.array(["", "a", "日本", "x" * 50])
    many = pa.concat_arrays([texts] * 10)
    assert fnv1a64(texts).tolist() == fnv1a64(many)[:4].tolist()
    assert fnv1a64(texts).dtype == np.uint64
