import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from c2al.data.raw_values import Feature, feature_texts, known_values, numbers_of, texts_of
from c2al.schema import DataError


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array(["a", "", None, " b"]), ["a", None, None, " b"]),
        (pa.array([1, -2, None]), ["1", "-2", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([1.0, -0.0, 2.5, float("nan"), float("inf"), None]), ["1", "0", "2.5", None, None, None]),
        (pa.array([2.0**53, 1e300]), ["9007199254740992", "1e+300"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([b"x", None]), ["x", None]),
        (pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.00")]), ["1.5", "2"]),
        (pa.array([decimal.Decimal(7 * 10**18 + 1), None], pa.decimal128(38, 0)), ["7000000000000000001", None]),
        (pa.array([decimal.Decimal("-12345678901234567890.10")], pa.decimal128(38, 2)), ["-12345678901234567890.1"]),
        (pa.array([decimal.Decimal("0.00000001"), decimal.Decimal(0)], pa.decimal128(12, 8)), ["1e-8", "0"]),
        (pa.array([decimal.Decimal(7000)], pa.decimal128(5, -3)), ["7000"]),
        (pa.array([decimal.Decimal(10**60 + 1)], pa.decimal256(70, 0)), [str(10**60 + 1)]),
        (pa.array([], pa.string()), []),
    ],
)
def test_values_as_text(values, texts):
    assert texts_of(values).to_pylist() == texts


def test_bytes_that_are_no_text_name_the_file_and_column():
    table = pa.table({"x": pa.array([b"\xff"])})
    with pytest.raises(DataError, match=r"not UTF-8 \(file f\.parquet, column x\)"):
        feature_texts(table, Feature("x", "x"), "f.parquet")


def test_bags_lose_nulls_and_keep_their_rows():
    values = pa.array([[9], [1, None, 2], None, [], [None], [3, 3]]).slice(1)
    texts, lengths = feature_texts(pa.table({"x": values}), Feature("x", "x", multi=True), "f")
    assert texts.to_pylist() == ["1", "2", "3", "3"]
    assert lengths.tolist() == [2, 0, 0, 0, 2]


@pytest.mark.parametrize("unit", ["datetime", "zoned", "s", "ms", "date"])
def test_hour_and_weekday(unit):
    moment = datetime.datetime(2024, 2, 29, 17, 5, tzinfo=datetime.UTC)  # a Thursday
    values = {
        "datetime": pa.array([moment.replace(tzinfo=None), None]),
        "zoned": pa.array([moment, None], pa.timestamp("us", tz="America/New_York")),
        "s": pa.array([int(moment.timestamp()), None]),
        "ms": pa.array([int(moment.timestamp() * 1000), None]),
        "date": pa.array([moment.date(), None]),
    }[unit]
    table = pa.table({"t": values})
    weekday, _ = feature_texts(table, Feature("t_weekday", "t", "weekday"), "f")
    assert weekday.to_pylist() == ["3", None]
    if unit != "date":
        hour, _ = feature_texts(table, Feature("t_hour", "t", "hour"), "f")
        assert hour.to_pylist() == ["12" if unit == "zoned" else "17", None]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([1.0, None, 3.0], pa.float32()),
        pa.array([1, None, 3], pa.uint64()),
        pa.array([1, None, 3], pa.duration("s")),
        pa.array([decimal.Decimal(1), None, decimal.Decimal(3)]),
        pa.chunked_array([[1, None], [3]]),
    ],
)
def test_numbers(values):
    np.testing.assert_array_equal(numbers_of(values), [1.0, np.nan, 3.0])


def test_durations_are_seconds_whatever_their_unit():
    seconds = pa.array([1, None, 90], pa.duration("s"))
    for unit in ("s", "ms", "us", "ns"):
        np.testing.assert_array_equal(numbers_of(seconds.cast(pa.duration(unit))), [1.0, np.nan, 90.0])


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (pa.array([0], pa.timestamp("s", "Foo/Bar")), "hour"),
        (pa.array([0], pa.timestamp("s", "Foo/Bar")), ""),
        (pa.array([2**64 - 1], pa.uint64()), "hour"),
    ],
)
def test_times_that_there_are_not_name_the_file_and_column(values, part):
    with pytest.raises(DataError, match=r"nothing can be made of.*\(file f, column t\)"):
        feature_texts(pa.table({"t": values}), Feature("t_hour", "t", part), "f")


def test_what_is_encoded_as_null_is_not_known():
    values = pa.array(["", "a", None]), pa.array([b"", b"a", None]), pa.array([float("nan"), 1.0, None])
    for each in values:
        assert known_values(each).to_pylist() == [False, True, False]
    assert known_values(pa.array([0, None])).to_pylist() == [True, False]
