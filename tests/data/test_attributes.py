import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data.attributes import attribute_values, attributes, of_units
from c2al.data.scan import read_columns
from c2al.data.view import write_view
from c2al.schema import CohortAxis, DataError, Schema, SparseColumn

ON_SYNTHETIC = ["price", "recency", "activity", "category", "brand", "price_band", "taste", "age_band", "hour"]


def test_axes_numbers_and_columns_of_few_values(tiny_rows):
    """An axis hides the columns of its name: segment, region, device (ids), activity (a number)."""
    found = {each.name: each for each in attributes(Schema.load(tiny_rows), tiny_rows)}
    expected = {"segment", "region", "device", *ON_SYNTHETIC}
    assert set(found) == expected, "neither user and item nor bags"
    assert found["segment"].labels[:3] == ("none", "regular", "loyal")
    assert found["segment"].column == "cohort_segment"
    assert found["activity"].column == "cohort_activity"
    assert found["price"].is_number
    assert found["price"].transform == "log1p"
    assert found["age_band"].labels[:3] == ("none", "unknown", "1")


def test_values_by_stored_column(tiny_rows):
    chosen = attributes(Schema.load(tiny_rows), tiny_rows, ["region", "price", "hour"])
    values = attribute_values(tiny_rows, "test", chosen)
    expected = read_columns(tiny_rows, "test", ["price", "hour"], axes=["region"])
    assert set(values) == set(expected)
    for name, column in expected.items():
        np.testing.assert_array_equal(values[name], column)


def test_what_is_said_of_a_user_is_the_same_in_all_rows(tiny_rows):
    chosen = attributes(Schema.load(tiny_rows), tiny_rows)
    values = attribute_values(tiny_rows, "train", chosen)
    unit = read_columns(tiny_rows, "train", ["unit"])["unit"]
    assert {each.name for each in of_units(chosen, values, unit)} == {
        *("segment", "region", "activity", "taste", "age_band")
    }


def test_vocabularies_name_the_values_also_through_a_view(prepared, tmp_path):
    folder, _ = prepared(20, folder=str(tmp_path / "rows"))
    schema = Schema.load(folder)
    named = SparseColumn("store", 5, vocabulary="vocabularies/store.parquet")
    (tmp_path / "rows" / "vocabularies").mkdir()
    pq.write_table(pa.table({"value": ["Oslo", "Bergen"], "id": [1, 2]}), f"{folder}/{named.vocabulary}")
    Schema(**{**vars(schema), "sparse": (*schema.sparse[:2], named)}).save(folder)
    learned = CohortAxis("learned_tree", ("tree 1",), "learned", words=("all rows",))
    view = str(tmp_path / "view")
    write_view(view, rows=folder, axes=[learned], ids={"train": {"learned_tree": np.zeros(20, np.int16)}})
    for path in (folder, view):
        found = {each.name: each for each in attributes(Schema.load(path), path)}
        assert found["store"].labels == ("none", "unknown", "Oslo", "Bergen", "3", "4")
        assert "learned_tree" not in found


@pytest.mark.parametrize(
    ("name", "said"), [("hours", "did you mean hour"), ("user", "at most 256"), ("recent_categories", "at most 256")]
)
def test_columns_that_will_not_do(tiny_rows, name, said):
    with pytest.raises(DataError, match=said):
        attributes(Schema.load(tiny_rows), tiny_rows, ["region", name])
