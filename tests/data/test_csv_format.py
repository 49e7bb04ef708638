import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from c2al.data import csv_format
from c2al.data.csv_format import CsvFile, CsvFormat
from c2al.data.prepare import prepare_parquet
from c2al.data.raw_files import RawFiles
from c2al.schema import DataError


def read(path, **said) -> dict[str, list]:
    raw = RawFiles(str(path), csv=CsvFormat.of(**said))
    return pa.concat_tables([chunk.table for chunk in raw.chunks(list(raw.types))]).to_pydict()


def refused(path, **said) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **said)
    assert str(path.name) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-8-sig"])
def test_an_encoding_is_read(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("Größe,s\n1,ä\n2,ß\n".encode(encoding))
    assert read(tmp_path / "a.csv", encoding=encoding) == {"Größe": [1, 2], "s": ["ä", "ß"]}


def test_chinese_is_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_format, "BLOCK_BYTES", 1 << 10)
    names = [f"中文{i}" for i in range(2_000)]
    for encoding in ("gbk", "utf-16", "big5", "utf-8"):
        (tmp_path / "a.csv").write_bytes(("城市::x\n" + "".join(f"{n}::1\n" for n in names)).encode(encoding))
        assert read(tmp_path / "a.csv", encoding=encoding) == {"城市": names, "x": [1] * 2_000}


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_bytes("x,y\n1,2\n".encode("utf-8-sig"))
    assert read(tmp_path / "a.csv") == {"x": [1], "y": [2]}
    assert read(tmp_path / "a.csv", delimiter=",") == {"x": [1], "y": [2]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Größe,x\n1,2\n".encode("latin-1"), "not UTF-8.*line 1.*encoding=latin-1"),
        ("x,s\n1,a\n2,ö\n".encode("latin-1"), "not UTF-8.*line 3.*encoding=latin-1"),
        (b"x,s\n" + b"1,a\n" * 100_000 + "2,ö\n".encode("latin-1"), "not UTF-8.*line 100002"),
        ("x,y\n1,2\n".encode("utf-16"), "not UTF-8: it is UTF-16.*encoding=utf-16"),
        (("x,y\n" + "1,2\n" * 90).encode("utf-16-le"), "not UTF-8: it is UTF-16-LE.*encoding=utf-16-le"),
        (("x,y\n" + "1,2\n" * 90).encode("utf-16-be"), "not UTF-8: it is UTF-16-BE.*encoding=utf-16-be"),
        ("x,y\n1,2\n".encode("utf-32"), "not UTF-8: it is UTF-32.*encoding=utf-32"),
    ],
)
def test_what_is_not_utf8_is_said_with_the_remedy(tmp_path, content, told):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read(tmp_path / "a.csv")


def test_another_wrong_encoding_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes("x,y\n1,ö\n".encode())
    assert "not ascii" in refused(tmp_path / "a.csv", encoding="ascii")
    with pytest.raises(DataError, match="no such encoding"):
        CsvFormat.of(encoding="utf-7000")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        (b"a,b\n1,2\n3,4,5\n", "Expected 2 columns, got 3"),
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,a\n1,2\n", "two columns have one name"),
        (b'a,b\n1,"x\n2,y\n3,z\n', "a quote that is not closed"),
        (b'a,b\n1,"x\n2,"y"\n3,z\n', "a quote that is not closed|does not read"),
        (b"1,1,a\n0,1,b\n", "looks like values, not names.*names=.*3 columns"),
    ],
)
def test_a_file_that_does_not_read_is_one_line(tmp_path, content, told):
    (tmp_path / "b.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"a,b\r\n1,x\r\n2,y\r\n", ["x", "y"]),
        (b"a,b\r1,x\r2,y\r", ["x", "y"]),
        (b'a,b\n1,"x\ny"\n2,"p,q"\n', ["x\ny", "p,q"]),
        (b'a,b\n1,x"y\n2,5"\n', ['x"y', '5"']),
        (b"a,b\n1,x\0y\n2,z\n", ["x\0y", "z"]),
        (b"a,b\n1,\n2,y", [None, "y"]),
        (b'a,b\n1,""\n2,y', [None, "y"]),
        (b"a,b\n\n1,x\n\n2,y\n", ["x", "y"]),
    ],
)
def test_what_is_odd_and_right_is_read(tmp_path, content, values):
    (tmp_path / "b.csv").write_bytes(content)
    assert read(tmp_path / "b.csv") == {"a": [1, 2], "b": values}


def test_a_packed_file_that_is_cut_short_is_named(tmp_path):
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a,b\n" + bytes(range(48, 58)) * 10_000)[:-20])
    assert "does not read" in refused(tmp_path / "b.csv.gz")


@pytest.mark.parametrize("separator", ["\t", "\x01", "::", "||", " ", ";", "\\t", "\\x01", "tab", "space"])
def test_a_separator_is_taken(tmp_path, separator):
    sign = {"\\t": "\t", "tab": "\t", "\\x01": "\x01", "space": " "}.get(separator, separator)
    rows = [["1", "a,b", "0.5"], ["2", "c:d", "1.5"]]
    (tmp_path / "a.csv").write_text("".join(sign.join(row) + "\n" for row in [["n", "s", "x"], *rows]))
    assert read(tmp_path / "a.csv", delimiter=separator) == {"n": [1, 2], "s": ["a,b", "c:d"], "x": [0.5, 1.5]}
    if sign != "||":
        assert read(tmp_path / "a.csv") == read(tmp_path / "a.csv", delimiter=separator)


@pytest.mark.parametrize("separator", ["", '"', "\n", "ä"])
def test_what_is_no_separator_is_refused(separator):
    with pytest.raises(DataError, match="no separator"):
        CsvFormat.of(delimiter=separator)


def test_names_are_given_to_a_file_without_a_header(tmp_path):
    (tmp_path / "a.csv").write_text("1\tx\n0\ty\n")
    assert read(tmp_path / "a.csv", names=["label", "C1"]) == {"label": [1, 0], "C1": ["x", "y"]}
    assert "3 names for 2 columns" in refused(tmp_path / "a.csv", names=["label", "C1", "C2"])
    (tmp_path / "a.csv").write_text("label\tC1\n0\ty\n")
    assert "first line holds the names" in refused(tmp_path / "a.csv", names=["label", "C1"])
    with pytest.raises(DataError, match="not different"):
        CsvFormat.of(names=["a", "a"])


def test_a_log_without_a_header_says_what_to_pass(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{i % 2}\t{n}\t{k:08x}" for i, (n, k) in enumerate(rng.integers(0, 2**31, (500, 2)))]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"looks like values, not names.*names=.*3 columns"):
        prepare_parquet(folder=str(tmp_path / "train.txt"), to=str(tmp_path / "out"), label="label")
    assert not (tmp_path / "out").exists()
    options = {"names": ["label", "I1", "C1"], "sparse": ["C1"]}
    schema = prepare_parquet(folder=str(tmp_path / "train.txt"), to=str(tmp_path / "out"), label="label", **options)
    assert sum(split.rows for split in schema.splits.values()) == 500
    assert schema.csv == {"names": ["label", "I1", "C1"]}


def test_numbers_as_names_are_names_where_the_label_is_one(tmp_path):
    (tmp_path / "a.csv").write_text("0,1,click\n5,6,1\n7,8,0\n")
    assert read(tmp_path / "a.csv") == {"0": [5, 7], "1": [6, 8], "click": [1, 0]}


WORDS = ["NA", "null", "nan", "N/A", "NULL", "None", "NaN"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_text_unless_it_is_said_to_be_null(tmp_path, word):
    (tmp_path / "a.csv").write_text(f'c,n\n{word},1\n,2\n"{word}",{word}\n')
    assert read(tmp_path / "a.csv") == {"c": [word, None, word], "n": ["1", "2", word]}
    assert RawFiles(str(tmp_path)).notes["n"].startswith(f"text because of {word}")
    assert read(tmp_path / "a.csv", nulls=["", word]) == {"c": [None, None, word], "n": [1, 2, None]}
    assert read(tmp_path / "a.csv", nulls=word) == {"c": [None, None, word], "n": [1, 2, None]}


def test_what_is_said_is_kept_where_it_is_no_default():
    assert CsvFormat.of().said == {}
    said = {"nulls": ["", "NA"], "encoding": "utf-16", "names": ["a", "b"], "delimiter": "\t"}
    assert CsvFormat.of(**said).said == said
    assert CsvFormat.of(**CsvFormat.of(encoding="latin-1").said) == CsvFormat.of(encoding="latin-1")


def lines_of(**changed: str) -> str:
    return "".join(["y,g,x\n", *(changed.get(f"line{i}", f"{i % 2},g{i % 5},{i}") + "\n" for i in range(60))])


@pytest.mark.parametrize("block", [64, 1 << 20])
@pytest.mark.parametrize(
    "torn",
    [
        {"line10": '0,10,"g1'},
        {"line10": '0,"g1,10', "line20": '0,"g2,20'},
        {"line10": '0,"g1,10', "line20": '0,"g2,20', "line25": '0,"a ""b"" c",1'},
        {"line10": '0,10,"g1', "line20": '0,20,"g2', "line30": '0,30,"g1', "line40": '0,40,"g2'},
        {"line59": '0,10,"g1'},
    ],
)
@pytest.mark.parametrize("separator", [",", "::"])
def test_quotes_that_are_not_closed_lose_no_row(tmp_path, monkeypatch, block, torn, separator):
    (tmp_path / "a.csv").write_text(lines_of(**torn).replace(",", separator))
    types = {"y": pa.float64(), "g": pa.string()}
    raw = RawFiles(str(tmp_path / "a.csv"), csv=CsvFormat.of(delimiter=separator), types=types, only=types)
    if block == 64:
        monkeypatch.setattr(CsvFile, "utf8_blocks", lambda file: blocks_of(tmp_path / "a.csv", file.sign, separator))
    for columns in (["y", "g"], ["y"]):  # the damaged column is read, or is not
        with pytest.raises(DataError, match=r"a quote that is not closed takes in whole lines.*a\.csv"):
            list(raw.chunks(columns))


def blocks_of(path, sign, separator):
    data = path.read_bytes().replace(separator.encode(), sign.encode())
    return (data[i : i + 7] for i in range(0, len(data), 7))


def test_values_of_several_lines_in_quotes_are_read(tmp_path, monkeypatch):
    values = ['a\nb"c"', "\n", "d\n\ne", '5" pipe', "", "f,g\n", '"', "last\n"]
    rows = ['x"y' if value == '5" pipe' else '"' + value.replace('"', '""') + '"' for value in values]
    (tmp_path / "a.csv").write_text("n,v\n\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    expected = [None if not value else 'x"y' if value == '5" pipe' else value for value in values]
    assert read(tmp_path / "a.csv") == {"n": list(range(len(values))), "v": expected}
    monkeypatch.setattr(CsvFile, "utf8_blocks", lambda file: blocks_of(tmp_path / "a.csv", ",", ","))
    assert read(tmp_path / "a.csv")["v"] == expected


def test_a_separator_of_several_characters_stays_within_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('"p::q"::x\n"a::b"::1\n"c:::d"::2\n')
    assert read(tmp_path / "a.csv", delimiter="::") == {"p::q": ["a::b", "c:::d"], "x": [1, 2]}
    (tmp_path / "b.csv").write_text('"a::b"::1\n"c"::2\n')
    assert read(tmp_path / "b.csv", delimiter="::", names=["v", "x"]) == {"v": ["a::b", "c"], "x": [1, 2]}


def test_a_zip_file_holds_one_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as packed:
        packed.writestr("a.csv", "a,b\n1,x\n")
    assert read(tmp_path / "a.csv.zip") == {"a": [1], "b": ["x"]}
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "a") as packed:
        packed.writestr("b.csv", "a,b\n2,y\n")
    assert "the zip file holds 2 files" in refused(tmp_path / "a.csv.zip")
