import json
from typing import Any

import pyarrow as pa
import pytest

from c2al.schema import DataError
from c2al.serving.bodies import MOST_COLUMNS
from c2al.serving.json_rows import check_known, given, names_of, parsed, table_of
from c2al.serving.json_values import Kind
from c2al.serving.refusals import RefusalError, row_of

KINDS = {"age": Kind("numbers"), "country": Kind("texts"), "seen": Kind("texts", bag=True)}
PREPARED = {"age": Kind("numbers"), "country": Kind("prepared"), "seen": Kind("prepared", bag=True)}


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


def test_prepared_values():
    rows = [{"age": 1, "country": 4, "seen": [1, 2]}, {"age": -0.5, "country": None, "seen": []}]
    found = table({"rows": rows}, PREPARED)
    assert found.schema.types == [pa.float64(), pa.int64(), pa.list_(pa.int64())]
    assert found["country"].to_pylist() == [4, None]


def test_a_key_that_some_rows_lack_is_a_missing_column():
    content = {"rows": [{"age": 1, "country": "de"}, {"age": 2}]}
    assert fault(content) == ("country", 1, "row 1 lacks a column")
    found = table(content, missing="default")
    assert found.to_pydict() == {"age": [1, 2], "country": ["de", None], "seen": [None, None]}
    assert table({"rows": [{}, {}]}).num_rows == 2


@pytest.mark.parametrize("content", [{"rows": []}, {"columns": {}}, {"columns": {"age": []}}])
def test_a_body_without_rows_lacks_no_column(content):
    """Else an empty body is an error alone, and none beside others."""
    found = table(content)
    assert found.num_rows == 0
    assert found.schema == table({"rows": ROWS}).schema


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"age": "31"}, "age"),
        ({"age": [31]}, "age"),
        ({"age": 10**400}, "age"),
        ({"age": float("inf")}, "age"),
        ({"country": float("-inf")}, "country"),
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
    "body",
    [
        *(b"", b"{", b'{"rows": [{"age": NaN}]}', b"[" * 100_000, b"\xff", b'{"rows": 1' + b"0" * 5000 + b"}"),
        *(b'{"a":' * 100_000, b'{"rows": [{"country": "\xed\xa0\x80"}]}', '{"rows": []}'.encode("utf-16")),
    ],
)
def test_what_is_no_json(body):
    with pytest.raises(RefusalError, match="not JSON") as raised:
        parsed(body)
    assert raised.value.status == 400


def test_a_byte_order_mark_is_passed_over():
    assert parsed(b"\xef\xbb\xbf" + b'{"rows": []}') == {"rows": []}


@pytest.mark.parametrize(
    "body",
    [
        '{"rows": [], "rows": [{"age": 1}]}',
        '{"rows": [{"age": 1, "age" : 2}]}',
        '{"columns": {"age": [1], "seen": [[]], "age": [2]}}',
        '{"rows": [{"age": 1, "other": {"a": 1, "a": 2}}]}',
    ],
)
def test_a_key_that_is_there_twice_is_refused(body):
    with pytest.raises(RefusalError, match="twice") as raised:
        parsed(body.encode())
    assert raised.value.status == 400


def test_colons_in_values_are_no_keys():
    content = {"rows": [{"time": "07:30:00", 'a"': '":', "b": {"c": {"d": [{"a": 1}, {"a": 2}]}}}, {"time": "1:2"}]}
    assert parsed(json.dumps(content).encode()) == content


@pytest.mark.parametrize("depth", [10, 300, 900, 950, 980, 990])
def test_what_is_nested_deeply_is_shown_in_short(depth):
    """The JSON is read, and is deeper than what Python could print of it."""
    deep = "[" * depth + "]" * depth
    rows, columns = f'{{"rows": [{{"age": {deep}}}]}}', f'{{"columns": {{"age": {{"a": {deep}}}}}}}'
    for body in (rows, columns, f'{{"rows": [{deep}]}}'):
        with pytest.raises((DataError, RefusalError)) as raised:  # the second beyond what Python follows here
            table(parsed(body.encode()))
        assert len(str(raised.value)) < 1000


def test_names_are_limited():
    names = {f"c{i}": [] for i in range(MOST_COLUMNS + 1)}
    for content in ({"columns": names}, {"rows": [names]}):
        with pytest.raises(RefusalError, match="too many columns") as raised:
            given(content, KINDS, most_rows=10)
        assert raised.value.status == 413
    with pytest.raises(DataError) as data_error:
        check_known({"a" * 7_000_000}, list(KINDS))
    assert len(str(data_error.value)) < 1000


def test_columns_that_the_model_does_not_read():
    for content in ({"rows": [{"age": 1}, {"contry": 2}]}, {"columns": {"age": [1], "contry": [2]}}):
        assert names_of(parsed(json.dumps(content).encode())) == {"age", "contry"}
    check_known({"age"}, list(KINDS))
    with pytest.raises(DataError, match=r"column contry.*did you mean country\?"):
        check_known({"age", "contry"}, list(KINDS))
