"""The same rows as text and as parquet: the same vocabularies and ids, in training and at scoring."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al.data.csv_format import CsvFormat
from c2al.data.prepare import prepare_parquet
from c2al.schema import SPLITS, Schema
from c2al.serving.rows import RawRows
from tests.serving.test_encode import encoder, same

NUM = 1_500


def column_kinds(seed: int) -> dict[str, pa.Array]:
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 40, NUM)
    null = rng.random(NUM) < 0.1
    when = np.datetime64("2024-01-01T00:00:00", "s") + rng.integers(0, 10**6, NUM).astype("timedelta64[s]")
    odd = ["a,b", 'say "x"', "two\nlines", " lead", "ä", "日本", "-", "1e3", "1000"]
    words = np.array(["NA", "nan", "null", "DE", *odd])
    return {
        "small_id": pa.array(few, mask=null),
        "big_id": pa.array(2**53 + few, mask=null),
        "uint_id": pa.array(np.uint64(2**64 - 1) - few.astype(np.uint64), mask=null),
        "minus_id": pa.array(few - 20),
        "decimal_id": pa.array([decimal.Decimal(7 * 10**18 + int(i)) for i in few], pa.decimal128(38, 0)),
        "price_id": pa.array([decimal.Decimal(int(i)) / 100 for i in few], pa.decimal128(10, 2)),
        "half_id": pa.array(few / 2, mask=null),
        "whole_id": pa.array(few.astype(np.float64), mask=null),
        "text_id": pa.array([f"{i:03d}" for i in few], mask=null),
        "long_id": pa.array([f"{10**20 + int(i)}" for i in few], mask=null),
        "word": pa.array(words[few % len(words)].tolist(), mask=null),
        "flag": pa.array(few % 2 == 0, mask=null),
        "moment": pa.array(when, mask=null),
        "day": pa.array(when.astype("datetime64[D]"), mask=null),
        "clock": pa.array([datetime.time(int(i) % 24, 30) for i in few], pa.time64("us")),
    }


def table_of(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed + 1)
    numbers = {"amount": pa.array(rng.normal(size=NUM)), "count": pa.array(rng.geometric(0.1, NUM))}
    split = pa.array(np.array(SPLITS)[rng.integers(0, 3, NUM)])
    return pa.table({**column_kinds(seed), **numbers, "split": split, "clicked": rng.integers(0, 2, NUM)})


@pytest.fixture(params=[0, 1])
def folders(request, tmp_path) -> tuple[str, str]:
    table = table_of(request.param)
    for kind in ("parquet", "csv"):
        (tmp_path / kind).mkdir()
    pq.write_table(table.slice(0, 1_000), tmp_path / "parquet" / "a.parquet")
    pq.write_table(table.slice(1_000), tmp_path / "parquet" / "b.parquet")
    pa.csv.write_csv(table.slice(0, 1_000), tmp_path / "csv" / "a.csv")
    pa.csv.write_csv(table.slice(1_000), tmp_path / "csv" / "b.csv")
    return str(tmp_path / "parquet"), str(tmp_path / "csv")


def vocabularies(folder: str, schema: Schema) -> dict[str, list[str]]:
    return {
        column.name: pq.read_table(f"{folder}/{column.vocabulary}")["value"].to_pylist() for column in schema.sparse
    }


def test_text_files_give_the_vocabularies_and_ids_of_parquet(folders):
    sparse = list(column_kinds(0))
    options = {
        "label": "clicked",
        "sparse": sparse,
        "dense": ["amount", "count"],
        "axes": ["flag"],
        "split_by": "split",
    }
    schemas = {}
    for folder in folders:
        schemas[folder] = prepare_parquet(folder=folder, to=f"{folder}_out", **options)
    parquet, csv = (vocabularies(f"{folder}_out", schema) for folder, schema in schemas.items())
    assert parquet == csv
    for split in SPLITS:
        first, second = (pq.read_table(f"{folder}_out/{split}") for folder in folders)
        assert first.equals(second)
    digits = {"big_id": str(2**53 + 1), "uint_id": str(2**64 - 2), "text_id": "001"}
    digits |= {"decimal_id": str(7 * 10**18 + 1)}
    for name, value in digits.items():
        assert value in csv[name]
    assert {"NA", "nan", "null", "1e3", "1000"} <= set(csv["word"])


@pytest.mark.parametrize("trained_on", [0, 1])
def test_raw_rows_of_either_kind_get_the_ids_of_training(folders, trained_on):
    folder = folders[trained_on]
    sparse = list(column_kinds(0))
    schema = prepare_parquet(
        folder=folder, to=f"{folder}_out", label="clicked", sparse=sparse, dense=["amount", "count"], axes=[]
    )
    encode = encoder(schema, f"{folder}_out")
    found = []
    for data in folders:
        pieces = RawRows(data, None, schema=schema, encoder=encode, keep=["small_id"]).pieces(10**6)
        found.append([encode(rows.table, file=rows.file) for rows in pieces])
        assert pc.all(pc.greater(pa.array(found[-1][0].ids_BS.max(axis=0)), 0)).as_py()
    for one, other in zip(*found, strict=True):
        same(one, other)


def test_the_setting_of_nulls_is_kept_for_scoring(tmp_path):
    lines = [f"{['NA', 'DE', 'FR'][i % 3]},{i % 5},{i % 2}" for i in range(300)]
    (tmp_path / "a.csv").write_text("\n".join(["country,user,clicked", *lines]))
    ids = {}
    for name, nulls in (("text", [""]), ("null", ["", "NA"])):
        to = str(tmp_path / name)
        schema = prepare_parquet(
            folder=str(tmp_path / "a.csv"), to=to, label="clicked", sparse=["country", "user"], nulls=nulls, axes=[]
        )
        assert Schema.load(to).csv == CsvFormat.of(nulls=nulls).said
        encode = encoder(schema, to)
        [rows] = RawRows(str(tmp_path / "a.csv"), None, schema=Schema.load(to), encoder=encode, keep=[]).pieces(10**6)
        ids[name] = encode(rows.table, file=rows.file).ids_BS[:, 0]
        kept = RawRows(str(tmp_path / "a.csv"), None, schema=schema, encoder=encode, keep=[], csv={"nulls": ["", "DE"]})
        [rows] = kept.pieces(10**6)
        assert rows.table["country"].to_pylist()[:3] == ["NA", None, "FR"]
    assert (ids["text"] > 0).all()
    assert (ids["null"][::3] == 0).all()


def test_a_log_without_a_header_is_scored_with_and_without_its_label(tmp_path):
    lines = [f"{i % 2}\tu{i % 7}\t{i % 11}" for i in range(400)]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    names = ["label", "C1", "I1"]
    to = str(tmp_path / "out")
    schema = prepare_parquet(
        folder=str(tmp_path / "train.csv"), to=to, label="label", names=names, sparse=["C1"], dense=["I1"], axes=[]
    )
    encode = encoder(schema, to)
    found = []
    for name, rows in (("a", lines), ("b", [line.partition("\t")[2] for line in lines])):
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
        source = RawRows(str(tmp_path / f"{name}.csv"), None, schema=schema, encoder=encode, keep=[])
        [piece] = source.pieces(10**6)
        assert ("label" in piece.beside) == (name == "a")
        found.append(encode(piece.table, file=""))
    same(*found)
    assert (found[0].ids_BS > 0).all()


EXPLICIT = {
    "1e3 beside 1000": ["1e3", "1000", "1000.5"],
    "1.10 beside 1.1": ["1.10", "1.1"],
    "1 beside 1.0": ["1", "1.0"],
    "zeros": ["007", "7", "0007"],
    "signs": ["+7", "7", "-0", "0"],
    "spaces": [" 7", "7", "7 "],
    "20 digits": ["12345678901234567890", "12345678901234567891"],
    "40 digits": ["1" * 40, "1" * 39 + "2"],
}


@pytest.mark.parametrize("values", EXPLICIT.values(), ids=list(EXPLICIT))
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_text_that_looks_like_numbers_is_text_where_it_is_named_sparse(tmp_path, values, ending):
    table = pa.table({"x": values * 100, "clicked": [0, 1] * (50 * len(values))})
    if ending == "csv":
        (tmp_path / "a.csv").write_text("x,clicked\n" + "".join(f"{x},{y}\n" for x, y in zip(*table, strict=True)))
    else:
        pq.write_table(table, tmp_path / "a.parquet")
    schema = prepare_parquet(
        folder=str(tmp_path / f"a.{ending}"), to=str(tmp_path / "out"), label="clicked", sparse=["x"], axes=[]
    )
    found = pq.read_table(tmp_path / "out" / schema.sparse[0].vocabulary)["value"].to_pylist()
    assert sorted(found) == sorted(values)


def test_a_dense_column_may_be_written_in_any_way(tmp_path):
    numbers = ["1e3", "1000", " 7", "+7", "-0", "1.50", "12345678901234567890", ""]
    rows = "".join(f"{x},u{i % 5},{i % 2}\n" for i, x in enumerate(numbers * 50))
    (tmp_path / "a.csv").write_text(f"x,user,clicked\n{rows}")
    schema = prepare_parquet(
        folder=str(tmp_path / "a.csv"), to=str(tmp_path / "out"), label="clicked", sparse=["user"], dense=["x"], axes=[]
    )
    assert [column.name for column in schema.dense] == ["x"]
