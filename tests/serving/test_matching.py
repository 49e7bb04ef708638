from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.schema import DataError, DenseColumn, Schema, SparseColumn, View
from c2al.serving.matching import check_same

SCHEMA = Schema(
    name="mine",
    label="y",
    sparse=(
        SparseColumn("user", 4, vocabulary="vocabularies/user.parquet"),
        SparseColumn("place", 50, hashed=True),
        SparseColumn("tags", 9, multi=True),
    ),
    dense=(DenseColumn("age", "log1p", 1.0, 2.0),),
)
KNOWN = ["a", "b", "c"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocabularies").mkdir()
    pq.write_table(pa.table({"value": KNOWN, "id": [1, 2, 3]}), tmp_path / "vocabularies" / "user.parquet")
    return str(tmp_path)


def model_of(**changes) -> Schema:
    sparse = tuple(replace(column, **changes.get(column.name, {})) for column in SCHEMA.sparse)
    dense = tuple(replace(column, **changes.get(column.name, {})) for column in SCHEMA.dense)
    return replace(SCHEMA, sparse=sparse, dense=dense)


def values(_: str) -> pa.Array:
    return pa.array(KNOWN)


def test_the_same_columns_pass_and_more_of_them_too(folder):
    check_same(folder, SCHEMA, SCHEMA, values)
    check_same(folder, replace(SCHEMA, sparse=(*SCHEMA.sparse, SparseColumn("x", 3))), SCHEMA, values)
    check_same("elsewhere", replace(SCHEMA, view=View(folder, "", ())), SCHEMA, values)


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("user", {"num_rows": 5}, "num_rows 4, the model's 5"),
        ("user", {"multi": True}, "multi"),
        ("place", {"hashed": False}, "hashed"),
        ("age", {"mean": 1.5}, "mean 1.0, the model's 1.5"),
        ("age", {"std": 2.5}, "std"),
        ("age", {"transform": "none"}, "transform"),
        ("age", {"name": "aeg"}, "did you mean age"),
        ("age", {"name": "user"}, "the column is sparse, the model's is dense"),
    ],
)
def test_the_first_column_that_differs_is_named(folder, column, change, said):
    with pytest.raises(DataError, match=rf"(?s){said}.*") as caught:
        check_same(folder, SCHEMA, model_of(**{column: change}), values)
    assert caught.value.where["column"] == change.get("name", column)
    assert "schema.yaml" in str(caught.value)


@pytest.mark.parametrize(("known", "place"), [(["a", "c", "b"], 2), (["a", "b"], 3), (["x", "b", "c"], 1)])
def test_another_vocabulary_is_found_by_its_values(folder, known, place):
    with pytest.raises(DataError, match=rf"from id {place} on.*column user"):
        check_same(folder, SCHEMA, SCHEMA, lambda _: pa.array(known))


def test_a_vocabulary_that_one_of_both_lacks(folder):
    with pytest.raises(DataError, match=r"the model lacks the column's vocabulary.*column user"):
        check_same(folder, SCHEMA, SCHEMA, lambda _: pa.array([], pa.string()))
    with pytest.raises(DataError, match=r"has no vocabulary, the model's has one.*column user"):
        check_same(folder, model_of(user={"vocabulary": None}), SCHEMA, values)


def test_a_vocabulary_of_a_stranger_is_not_unfolded(folder):
    many = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), pa.array(["x" * 60_000]))
    pq.write_table(pa.table({"value": many, "id": range(2000)}), f"{folder}/vocabularies/user.parquet")
    with pytest.raises(DataError, match=r"the vocabulary does not read.*texts have more than.*column user"):
        check_same(folder, SCHEMA, SCHEMA, values)


def test_a_vocabulary_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"user\.parquet"):
        check_same(str(tmp_path), SCHEMA, SCHEMA, values)
