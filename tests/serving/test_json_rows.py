import json
from typing import Any

import pyarrow as pa
import pytest

from c2al.schema import DataError
from c2al.serving.json_rows import Kind, check_known, given, names_of, parsed, table_of
from c2al.serving.refusals import RefusalError, row_of

KINDS = {"age": Kind("numbers"), "country": Kind("raw"), "seen": Kind("raw", bag=True)}
PREPARED = {"age": Kind("numbers"), "country": Kind("ids"), "seen": Kind("ids", bag=True)}


def table(content: Any, kinds: dict[str, Kind] = KINDS, missing: str = "error", most_rows: int = 100) -> pa.Table:
    return table_of([given(content, kinds, most_rows=most_rows)], kinds, missing=missing)


def fault(content: Any, kinds: dict[str, Kind] = KINDS) -> tuple[str | None, int | None, str]:
    with pytest.raises(DataError) as raised:
        table(content, kinds)
    return raised.value.where["column"], row_of(raised.value), raised.value.problem


ROWS = [
    {"age": 31, "country": "de", "seen": ["a", "b"]},
    {"age": 2.5, "country": None, "seen": []},
    {"age": None, "country": "fr", "seen": None},
]


def test_rows_and_columns_are_the_same_table():
    by_row = table({"rows": ROWS})
    assert by_row.to_pydict() == {name: [row[name] for row in ROWS] for name in KINDS}
    assert by_row.schema.types == [pa.float64(), pa.string(), pa.list_(pa.string())]
    assert table({"columns": {name: [row[name] for row in ROWS] for name in reversed(KINDS)}}).equals(by_row)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([1, None, -2], pa.array([1, None, -2])),
        ([1, "a", True, None], pa.array(["1", "a", "true", None])),
        ([2**63, 1], pa.array(["9223372036854775808", "1"])),
        ([1.0, 2, 2.5], pa.array(["1", "2", "2.5"])),
        ([2**53 + 1, 1.5], pa.array(["9007199254740993", "1.5"])),
        ([1.5, True], pa.array(["1.5", "true"])),
        ([True, None], pa.array([True, None])),
        ([None, None], pa.array([None, None], pa.string())),
        (["é", ""], pa.array(["é", ""])),
    ],
)
def test_raw_values_of_several_types(values, read):
    found = table({"columns": {"country": values}})["country"].combine_chunks()
    assert found.equals(read)
    bags = table({"rows": [{"seen": values}, {"seen": None}, {"seen": []}]})["seen"]
    assert bags.to_pylist() == [read.to_pylist(), None, []]


def test_prepared_values():
    rows = [{"age": 1, "country": 4, "seen": [1, 2]}, {"age": -0.5, "country": None, "seen": []}]
    found = table({"rows": rows}, PREPARED)
    assert found.schema.types == [pa.float64(), pa.int64(), pa.list_(pa.int64())]
    assert found["country"].to_pylist() == [4, None]


def test_a_key_that_some_rows_lack_is_a_missing_column():
    content = {"rows": [{"age": 1, "country": "de"}, {"age": 2}]}
    assert fault(content) == ("country", 1, "row 1 lacks a column")
    found = table(content, missing="default")
    assert found.to_pydict() == {"age": [1, 2], "country": ["de", None]}  # none has seen: the encoder's policy
    assert table({"rows": [{}, {}]}).num_rows == 2
    assert table({"rows": []}).num_rows == table({"columns": {}}).num_rows == 0


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"age": "31"}, "age"),
        ({"age": [31]}, "age"),
        ({"age": 10**400}, "age"),
        ({"country": ["de"]}, "country"),
        ({"country": {"name": "de"}}, "country"),
        ({"country": "\ud83d"}, "country"),
        ({"seen": "a"}, "seen"),
        ({"seen": ["a", ["b"]]}, "seen"),
        ({"seen": {"a": 1}}, "seen"),
    ],
)
def test_a_value_of_another_kind(row, column):
    good = {"age": 1, "country": "de", "seen": ["a"]}
    assert fault({"rows": [good, good | row, good]})[:2] == (column, 1)
    assert fault({"columns": {column: [good[column], row[column]]}})[:2] == (column, 1)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"country": "de"}, "country"),
        ({"country": 1.0}, "country"),
        ({"country": True}, "country"),
        ({"country": 2**63}, "country"),
        ({"seen": [1, "a"]}, "seen"),
        ({"seen": [-(2**63) - 1]}, "seen"),
    ],
)
def test_prepared_ids_are_whole_numbers(row, column):
    good = {"country": 1, "seen": [1, 2]}
    assert fault({"rows": [good, good | row]}, PREPARED)[:2] == (column, 1)


@pytest.mark.parametrize(
    "content",
    [
        *([], 1, {}, {"rows": [], "columns": {}}, {"rows": {}}, {"rows": [1]}, {"row": []}, {"columns": []}),
        *({"columns": {"age": 1}}, {"columns": {"age": [1], "country": []}}),
    ],
)
def test_another_form(content):
    with pytest.raises(DataError):
        table(content)


@pytest.mark.parametrize("content", [{"rows": [{}] * 101}, {"columns": {"other": [1] * 101}}])
def test_too_many_rows(content):
    with pytest.raises(RefusalError, match="too many rows"):
        table(content)


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"rows": [{"age": NaN}]}', b"[" * 100_000, b"\xff", b'{"rows": 1' + b"0" * 5000 + b"}"]
)
def test_what_is_no_json(body):
    with pytest.raises(RefusalError, match="not JSON") as raised:
        parsed(body)
    assert raised.value.status == 400


def test_columns_that_the_model_does_not_read():
    for content in ({"rows": [{"age": 1}, {"contry": 2}]}, {"columns": {"age": [1], "contry": [2]}}):
        assert names_of(parsed(json.dumps(content).encode())) == {"age", "contry"}
    check_known({"age"}, list(KINDS))
    with pytest.raises(DataError, match=r"column contry.*did you mean country\?"):
        check_known({"age", "contry"}, list(KINDS))
