import datetime

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al.data import csv_format
from c2al.data.raw_files import RawFiles
from c2al.schema import DataError


def table_of(raw: RawFiles, *columns: str) -> pa.Table:
    return pa.concat_tables([chunk.table for chunk in raw.chunks(columns or list(raw.types))])


def test_files_come_by_name_rows_are_numbered_and_bookkeeping_is_skipped(tmp_path):
    for name, values in (("b", [3, 4]), ("a", [1, 2]), ("c", [5])):
        pq.write_table(pa.table({"x": values}), tmp_path / f"{name}.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".crc.parquet").touch()
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / "half.parquet").touch()
    raw = RawFiles(str(tmp_path))
    assert table_of(raw).to_pydict() == {"x": [1, 2, 3, 4, 5]}
    assert [chunk.first_row for chunk in raw.chunks(["x"])] == [0, 2, 4]
    assert raw.num_rows == 5


def test_types_are_widened_over_files_and_columns_that_lack_are_null(tmp_path):
    words = pa.array(["u", "v"])
    pq.write_table(
        pa.table({"n": pa.array([1, 2], pa.int8()), "s": words.dictionary_encode(), "z": pa.nulls(2)}),
        tmp_path / "a.parquet",
    )
    pq.write_table(
        pa.table({"n": [1.5, None], "s": words.cast(pa.large_string()), "z": [7, 8], "late": [True, False]}),
        tmp_path / "b.parquet",
    )
    raw = RawFiles(str(tmp_path))
    assert raw.types == {"n": pa.float64(), "s": pa.string(), "z": pa.int64(), "late": pa.bool_()}
    assert table_of(raw).to_pydict() == {
        "n": [1.0, 2.0, 1.5, None],
        "s": ["u", "v", "u", "v"],
        "z": [None, None, 7, 8],
        "late": [None, None, True, False],
    }
    assert raw.files_without("late")[0].endswith("a.parquet")


def test_types_that_conflict_name_both_files_and_the_column(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"string here and int64 in .*a\.parquet \(file .*b\.parquet, column x\)"):
        RawFiles(str(tmp_path))


def test_key_value_folders_are_columns_and_split_folders_are_splits(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / split / "day=2024-01-02").mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), tmp_path / split / "day=2024-01-02" / "p.parquet")
    raw = RawFiles(str(tmp_path))
    assert table_of(raw, "day", "x").to_pydict() == {"day": ["2024-01-02"] * 3, "x": [1, 1, 1]}
    assert [chunk.split for chunk in raw.chunks(["x"])] == ["test", "train", "validation"]


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [
        *(("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "\x01"), ("a.csv", "::"), ("a.csv.gz", ",")),
        *(("a.csv.bz2", ","), ("a.tsv.xz", "\t")),
    ],
)
def test_csv_is_typed_and_empty_is_null(tmp_path, name, delimiter):
    lines = ["n|s|when", "1||2024-01-02 03:04:05", "|x|"]
    with fsspec.open(str(tmp_path / name), "wt", compression="infer") as file:
        file.write("\n".join(lines).replace("|", delimiter))
    raw = RawFiles(str(tmp_path))
    when = datetime.datetime(2024, 1, 2, 3, 4, 5)
    assert table_of(raw).to_pydict() == {"n": [1, None], "s": [None, "x"], "when": [when, None]}


def test_what_is_text_in_one_csv_is_text_in_all(tmp_path):
    (tmp_path / "a.csv").write_text("zip\n1234\n")
    (tmp_path / "b.csv").write_text("zip\nK1A\n")
    assert table_of(RawFiles(str(tmp_path))).to_pydict() == {"zip": ["1234", "K1A"]}


def test_the_type_of_a_csv_column_is_that_of_all_its_rows_in_all_files(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_format, "BLOCK_BYTES", 1 << 12)
    rows = "\n".join(str(i) for i in range(5_000))
    (tmp_path / "a.csv").write_text(f"x\n{rows}\nabc\n")
    assert table_of(RawFiles(str(tmp_path)))["x"].to_pylist()[-2:] == ["4999", "abc"]
    (tmp_path / "a.csv").write_text(f"x\n{rows}\n")
    (tmp_path / "b.csv").write_text("x\n007\n")
    raw = RawFiles(str(tmp_path))
    assert raw.num_rows == 5_001
    assert table_of(raw)["x"].to_pylist()[-1] == "007"


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64(), pa.bool_(), pa.date32()])
def test_a_value_that_is_none_of_a_type_that_was_asked_for_is_shown(tmp_path, kind):
    (tmp_path / "a.csv").write_text("x,y\n,1\nabc,2\n")
    with pytest.raises(DataError, match=r"no .*a\.csv, column x, value 'abc'.*nulls=\['',abc\]"):
        table_of(RawFiles(str(tmp_path), types={"x": kind}))


def test_any_fsspec_path_and_a_single_file_will_do():
    with fsspec.open("memory://raw/a.parquet", "wb") as file:
        pq.write_table(pa.table({"x": [1, 2]}), file)
    for path in ("memory://raw", "memory://raw/", "memory://raw/a.parquet"):
        assert table_of(RawFiles(path)).to_pydict() == {"x": [1, 2]}


@pytest.mark.parametrize(
    ("folder", "column", "value"),
    [
        ("city=S%C3%A3o%20Paulo", "city", "São Paulo"),
        ("city=__HIVE_DEFAULT_PARTITION__", "city", None),
        ("city=", "city", None),
        ("a%2Fb=c%3Dd", "a/b", "c=d"),
        ("city=a=b", "city", "a=b"),
        ("city=100%", "city", "100%"),
        ("city=%FF", "city", "%FF"),
        ("city=a+b", "city", "a+b"),
        ("city=007", "city", "007"),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_values_of_hive_folders_are_decoded(tmp_path, folder, column, value, ending):
    (tmp_path / folder).mkdir()
    if ending == "csv":
        (tmp_path / folder / "a.csv").write_text("x\n1\n2\n")
    else:
        pq.write_table(pa.table({"x": [1, 2]}), tmp_path / folder / "a.parquet")
    raw = RawFiles(str(tmp_path))
    assert raw.types == {"x": pa.int64(), column: pa.string()}
    assert table_of(raw).to_pydict() == {"x": [1, 2], column: [value] * 2}


def test_what_was_prepared_below_the_folder_is_not_read_as_raw(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    (tmp_path / "out" / "train").mkdir(parents=True)
    pq.write_table(pa.table({"x": [2]}), tmp_path / "out" / "train" / "part.parquet")
    assert table_of(RawFiles(str(tmp_path), skip=str(tmp_path / "out"))).num_rows == 1


def truncated(path):
    pq.write_table(pa.table({"x": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-100])


def corrupt(path):
    pq.write_table(pa.table({"x": [f"{i}" for i in range(1000)]}), path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[40:400] = b"\xff" * 360
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "spoil", [truncated, corrupt, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no")]
)
def test_a_broken_file_is_named(tmp_path, spoil):
    pq.write_table(pa.table({"x": ["1"]}), tmp_path / "a.parquet")
    spoil(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"does not read.*b\.parquet.*Remedy"):
        table_of(RawFiles(str(tmp_path)), "x")


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        RawFiles(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no file that ends in"):
        RawFiles(str(tmp_path))
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match="mixed"):
        RawFiles(str(tmp_path))


def test_two_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="one name"):
        RawFiles(str(tmp_path))


def test_text_that_is_not_utf8_is_one_error(tmp_path):
    """Parquet says that a column is text; Arrow believes it until somebody decodes it."""
    offsets = pa.py_buffer(np.array([0, 2, 4], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ab\xff\xe4")])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"s": texts}), path)
    with pytest.raises(DataError, match="UTF") as error:
        table_of(RawFiles(str(path)))
    assert error.value.where["file"].endswith("a.parquet")


def test_long_integers_beside_doubles_are_read_as_numbers_or_as_texts(tmp_path):
    big = 2**60 + 1
    pq.write_table(pa.table({"x": [big]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "b.parquet")
    raw = RawFiles(str(tmp_path))
    assert table_of(raw)["x"].to_pylist() == [float(big), 1.0]
    raw.read_as_text("x")
    assert table_of(raw)["x"].to_pylist() == [str(big), "1"]
