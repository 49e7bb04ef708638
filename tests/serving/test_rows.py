import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al.data import raw_files
from c2al.schema import DataError, Schema
from c2al.serving.rows import PreparedRows, RawRows, is_prepared
from tests.data.raw_rows import NUM, prepared, raw_rows, write
from tests.serving.test_encode import encoder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, raw_rows())


@pytest.fixture
def schema(folder):
    return prepared(folder, unit="user_id")[0]


def raw_source(data: str, schema: Schema, folder: str, split: str | None = None, keep=(), **policy) -> RawRows:
    return RawRows(data, split, schema=schema, encoder=encoder(schema, f"{folder}_prepared", **policy), keep=keep)


def test_prepared_rows_come_in_order_with_what_is_beside_them(folder, schema):
    to = f"{folder}_prepared"
    assert is_prepared(to)
    assert not is_prepared(folder)
    stored = pq.read_table(f"{to}/train")
    source = PreparedRows(to, "train", schema=schema, columns=["movie", "tags"], keep=["tags", "cohort_country"])
    pieces = list(source.pieces(1000))
    assert max(piece.table.num_rows for piece in pieces) == 1000
    assert [piece.first_row for piece in pieces] == [1000 * i for i in range(len(pieces))]
    assert pa.concat_tables([piece.table for piece in pieces]).equals(stored.select(["movie", "tags"]))
    assert source.num_rows == stored.num_rows
    np.testing.assert_array_equal(np.concatenate([piece.beside["label"] for piece in pieces]), stored["clicked"])
    np.testing.assert_array_equal(np.concatenate([piece.beside["unit"] for piece in pieces]), stored["unit_user_id"])
    assert set(pieces[0].beside) == {"label", "unit", "tags", "cohort_country"}


@pytest.mark.parametrize(
    ("split", "keep", "said"), [(None, (), "train|validation|test"), ("tset", (), "test"), ("test", ("tagz",), "tags")]
)
def test_a_split_or_column_that_there_is_not_is_named(folder, schema, split, keep, said):
    with pytest.raises(DataError, match=said.replace("|", r"\|")):
        PreparedRows(f"{folder}_prepared", split, schema=schema, columns=["movie"], keep=keep)


def test_raw_rows_are_those_of_a_folder_a_file_or_a_pattern(folder, schema, tmp_path, monkeypatch):
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 700)
    pq.write_table(raw_rows(seed=1), tmp_path / "raw" / "b.parquet")
    for data, num in ((folder, 2 * NUM), (f"{folder}/b.parquet", NUM), (f"{folder}/[ab].parquet", 2 * NUM)):
        source = raw_source(data, schema, folder, keep=["title"])
        pieces = list(source.pieces(300))
        assert source.num_rows == num
        assert sum(piece.table.num_rows for piece in pieces) == num
        firsts = np.cumsum([0, *(piece.table.num_rows for piece in pieces)])
        assert [piece.first_row for piece in pieces] == firsts[:-1].tolist()
        assert set(pieces[0].beside) == {"label", "unit", "title"}
    stored = pq.read_table(f"{folder}_prepared/train").column("unit_user_id").to_pylist()
    assert set(stored) <= set(np.concatenate([piece.beside["unit"] for piece in pieces]).tolist())
    with pytest.raises(DataError, match="pattern"):
        raw_source(f"{folder}/c*.parquet", schema, folder)


def test_raw_rows_without_a_label_have_nothing_beside_them(folder, schema, tmp_path):
    pq.write_table(raw_rows().drop_columns(["clicked", "user_id"]), tmp_path / "bare.parquet")
    (piece,) = raw_source(str(tmp_path / "bare.parquet"), schema, folder, missing="default").pieces(10**6)
    assert not piece.beside


def test_csv_is_read_with_the_types_of_training(tmp_path):
    codes = [f"{i % 70:03d}" for i in range(NUM)]  # texts such as 007, which csv would take for integers
    table = raw_rows().select(["movie", "mobile", "clicked"]).append_column("code", pa.array(codes))
    folder = write(tmp_path, table)
    schema, _ = prepared(folder, sparse=["movie", "mobile", "code"])
    as_numbers = table.set_column(1, "mobile", pa.array([int(one) for one in table["mobile"].to_pylist()]))
    pa.csv.write_csv(as_numbers, tmp_path / "rows.csv")
    make = encoder(schema, f"{folder}_prepared", unknown="error")
    (piece,) = raw_source(str(tmp_path / "rows.csv"), schema, folder).pieces(10**6)
    np.testing.assert_array_equal(make(piece.table, file="csv").ids_BS, make(table, file="parquet").ids_BS)


def test_folders_by_split(folder, schema, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "split" / split).mkdir(parents=True)
        pq.write_table(raw_rows().slice(0, 5 if split == "test" else 7), tmp_path / "split" / split / "a.parquet")
    assert raw_source(str(tmp_path / "split"), schema, folder, "test").num_rows == 5
    with pytest.raises(DataError, match="validation"):
        raw_source(str(tmp_path / "split"), schema, folder, "validation")


def test_a_column_that_is_missing_from_all_or_some_files_is_named(folder, schema, tmp_path):
    pq.write_table(
        raw_rows().rename_columns([name.replace("movie", "movies") for name in raw_rows().column_names]),
        tmp_path / "x.parquet",
    )
    with pytest.raises(DataError, match=r"column movie.*did you mean movies"):
        raw_source(str(tmp_path / "x.parquet"), schema, folder)
    with pytest.raises(DataError, match="titel"):
        raw_source(folder, schema, folder, keep=["titel"])
    pq.write_table(raw_rows().drop_columns(["heat"]), tmp_path / "raw" / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet, column heat"):
        raw_source(folder, schema, folder)
    assert raw_source(folder, schema, folder, missing="default").num_rows == 2 * NUM


def compared(folder: str, schema: Schema, tables: dict[str, pa.Table], *columns: str) -> None:
    """The rows of training are scored with the ids and units of training, in any order."""
    make = encoder(schema, f"{folder}_prepared", unknown="error")
    pieces = list(RawRows(folder, None, schema=schema, encoder=make, keep=()).pieces(1000))
    inputs = [make(piece.table, file="f") for piece in pieces]
    places = [make.columns.index(name) - len(make.dense) for name in columns]
    ids = np.concatenate([each.ids_BS[:, places] for each in inputs])
    units = np.concatenate([piece.beside["unit"] for piece in pieces])
    found = sorted(zip(*ids.T.tolist(), units.tolist(), strict=True))
    stored = pa.concat_tables(tables.values())
    assert found == sorted(zip(*(stored[name].to_pylist() for name in (*columns, schema.unit)), strict=True))
    assert len(set(units)) > 2


@pytest.mark.parametrize("wide", [pa.int64(), pa.decimal128(22, 0)])
def test_whole_numbers_beside_doubles_are_scored_as_prepared(tmp_path, wide):
    labels, big = [0, 1] * 30, 10**18 + 1
    (tmp_path / "raw").mkdir()
    for name, numbers, kind in (("a", [big + i % 3 for i in range(60)], wide), ("b", [i % 3 for i in range(60)], None)):
        x = pa.array(numbers, kind) if kind else pa.array([float(i) for i in numbers])
        pq.write_table(pa.table({"clicked": labels, "x": x, "u": x}), tmp_path / "raw" / f"{name}.parquet")
    folder = str(tmp_path / "raw")
    schema, tables = prepared(folder, sparse=["x"], dense=[], axes=[], unit="u")
    assert schema.sparse[0].num_rows == 7
    compared(folder, schema, tables, "x")


@pytest.mark.parametrize("form", ["{:.2f}", "2024-01-0{:.0f}T10:00:00", "{:.0f}", "v{:.0f}"])
def test_units_of_text_files_are_those_of_preparation(tmp_path, form):
    (tmp_path / "raw").mkdir()
    lines = [f"{i % 2},g{i % 3},{form.format(1 + i % 5)}\n" for i in range(60)]
    (tmp_path / "raw" / "a.csv").write_text("clicked,x,u\n" + "".join(lines))
    folder = str(tmp_path / "raw")
    for sparse in (["x"], None):
        schema, tables = prepared(folder, sparse=sparse, dense=[], axes=[], unit="u", overwrite=True)
        compared(folder, schema, tables, "x")


def test_a_stray_quote_and_a_boolean_in_a_text_file_to_be_scored(tmp_path):
    (tmp_path / "raw").mkdir()
    lines = [f"{i % 2},g{i % 3},{'true' if i % 3 else 'false'}\n" for i in range(60)]
    (tmp_path / "raw" / "a.csv").write_text("clicked,x,flag\n" + "".join(lines))
    folder = str(tmp_path / "raw")
    schema, tables = prepared(folder, sparse=["x"], dense=["flag"], axes=[])
    make = encoder(schema, f"{folder}_prepared")
    [piece] = RawRows(folder, None, schema=schema, encoder=make, keep=()).pieces(100)
    found = make(piece.table, file="f").dense_BN[:, 0]
    assert sorted(found) == sorted(pa.concat_tables(tables.values())["flag"].to_pylist())
    lines[9] = '1,"g1,true\n'
    lines[10] = "0,g1,true\n"
    lines[20] = '0,"g2,true\n'
    (tmp_path / "raw" / "a.csv").write_text("clicked,x,flag\n" + "".join(lines))
    with pytest.raises(DataError, match="a quote that is not closed"):
        list(RawRows(folder, None, schema=schema, encoder=make, keep=()).pieces(100))
