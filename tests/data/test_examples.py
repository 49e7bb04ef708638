import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import raw_files
from c2al.data.examples import MOST, Examples
from tests.data.raw_rows import prepared, raw_rows, write
from tests.serving.test_encode import encoder, same

ODD = ["c/d", "c_d", "a.b", "a__b", "a", "..", "User", "user", "x" * 300, "nul\0", "ctrl\n", "%2E", "é", "e\u0301"]


def odd_table(num: int = 3_000) -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {name: [f"{i}:{k}" for k in rng.integers(0, 9, num)] for i, name in enumerate(ODD)}
    return pa.table(columns | {"dense.x": rng.normal(size=num), "clicked": rng.integers(0, 2, num)})


@pytest.mark.parametrize("make", [raw_rows, odd_table])
def test_a_prepared_folder_holds_raw_rows_beside_what_became_of_them(tmp_path, monkeypatch, make):
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 700)
    folder = write(tmp_path, make())
    schema, _ = prepared(folder, axes=[])
    to = f"{folder}_prepared"
    raw, rows = (pq.read_table(f"{to}/examples/{name}.parquet") for name in ("raw", "prepared"))
    assert raw.num_rows == rows.num_rows == MOST
    assert set(raw.column_names) == {*(c.raw for c in schema.sparse), *(c.name for c in schema.dense)}
    assert rows.column_names == [column.name for column in (*schema.sparse, *schema.dense)]
    found = encoder(schema, to)(raw, file="raw")
    same(found, encoder(schema, to, prepared=True)(rows, file="prepared"))
    assert max(found.ids_BS.max(axis=0)) > 0


def test_vocabularies_of_odd_names_are_files_of_their_own(tmp_path):
    folder = write(tmp_path, odd_table())
    schema, _ = prepared(folder, axes=[])
    places = {column.name: column.vocabulary for column in schema.sparse}
    assert len({place.lower() for place in places.values()}) == len(ODD)
    for i, name in enumerate(ODD):
        values = pq.read_table(f"{folder}_prepared/{places[name]}")["value"].to_pylist()
        assert sorted(values) == [f"{i}:{k}" for k in range(9)]
    assert places["c_d"] == "vocabularies/c_d.parquet"


def test_rare_values_are_among_the_examples():
    examples = Examples(["x"], ["x", "tags"], [])
    rng = np.random.default_rng(0)
    for first in range(0, 10_000, 1000):
        ids = np.where(rng.random(1000) < 0.001, 50 + first // 1000, 1).astype(np.int32)
        tags = pa.array([[1, 2]] * 998 + [[], [900]], pa.list_(pa.int32()))
        prepared_rows = pa.table({"x": ids, "tags": tags})
        examples.update(pa.table({"x": ids}), prepared_rows, np.arange(first, first + 1000))
    assert examples._prepared.num_rows == MOST
    kept = examples._prepared["x"].to_pylist()
    assert len({value for value in kept if value >= 50}) >= 4
    assert [900] in examples._prepared["tags"].to_pylist()
    assert examples._raw["x"].to_pylist() == kept
    assert (np.diff(examples._rows) > 0).all()


def test_few_rows_are_all_examples():
    examples = Examples(["x"], ["x"], [])
    examples.update(pa.table({"x": [5, 6]}), pa.table({"x": np.array([1, 2], np.int32)}), np.arange(2))
    examples.update(pa.table({"x": [7]}), pa.table({"x": np.array([3], np.int32)}), np.arange(2, 3))
    assert examples._raw["x"].to_pylist() == [5, 6, 7]
