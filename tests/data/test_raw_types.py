import datetime

import pyarrow as pa
import pytest

from c2al.data.raw_types import arrow_type, like_trained
from c2al.data.raw_values import part_of, texts_of
from c2al.schema import DataError


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.int8(), pa.float32(), pa.bool_(), pa.date32(), pa.timestamp("ns"), pa.timestamp("us", "UTC")],
)
def test_a_type_is_found_by_its_words(kind):
    assert arrow_type(str(kind)) == kind
    assert arrow_type(str(pa.list_(kind))) == kind


def test_a_decimal_is_found_and_strange_words_are_nothing():
    for kind in (pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal256(70, 3), pa.decimal128(5, -3)):
        assert arrow_type(str(kind)) == kind
    assert arrow_type(None) is None
    assert arrow_type("struct<a: int64>") is None


@pytest.mark.parametrize(
    ("trained", "given", "texts"),
    [
        ("int64", pa.array(["7", "007", "x", None, ""]), ["7", "007", "x", None, None]),
        ("int64", pa.array(["7.0", "+7", "-0", " 7", "7.5"]), ["7", "+7", "-0", " 7", "7.5"]),
        ("int64", pa.array(["9007199254740993", "9007199254740993.0"]), ["9007199254740993"] * 2),
        ("uint64", pa.array(["18446744073709551615"]), ["18446744073709551615"]),
        ("decimal128(38, 0)", pa.array(["7000000000000000001", "7.00"]), ["7000000000000000001", "7"]),
        ("decimal128(38, 2)", pa.array(["7000000000000000001.50", "0.00"]), ["7000000000000000001.5", "0"]),
        ("decimal128(38, 2)", pa.array([7, None]), ["7", None]),
        ("double", pa.array(["007", "1e3"]), ["007", "1000"]),
        ("bool", pa.array(["1", "0", "TRUE"]), ["true", "false", "true"]),
        ("double", pa.array(["7.0", "0.5", "1e3", "x"]), ["7", "0.5", "1000", "x"]),
        ("decimal128(5, 2)", pa.array(["5.50"]), ["5.5"]),
        ("bool", pa.array(["True", "false", "x"]), ["true", "false", "x"]),
        ("bool", pa.array([1, 0, 2, None]), ["true", "false", "2", None]),
        ("string", pa.array([7, 8]), ["7", "8"]),
        ("timestamp[s]", pa.array(["2024-05-01T17:30:00", None]), ["2024-05-01 17:30:00", None]),
        ("timestamp[s]", pa.array(["x"]), ["x"]),
        ("string", pa.array(["007"]), ["007"]),
        ("int64", pa.array([7.0, None]), ["7", None]),
        (None, pa.array(["007"]), ["007"]),
    ],
)
def test_other_types_give_the_texts_of_the_trained_one(trained, given, texts):
    assert texts_of(like_trained(given, trained)).to_pylist() == texts


@pytest.mark.parametrize(
    ("trained", "text", "hour"),
    [
        ("timestamp[us]", "2024-05-01T17:30:00", 17),
        ("timestamp[us]", "2024-05-01 17:30:00", 17),
        ("timestamp[us]", "2024-05-01T17:30:00Z", 17),
        ("timestamp[us]", "2024-05-01T17:30:00+02:00", 15),
        ("timestamp[ms, tz=Europe/Berlin]", "2024-05-01T17:30:00Z", 19),
        ("int64", "2024-05-01T17:30:00", 17),
        (None, "2024-05-01T17:30:00.123456", 17),
        ("time64[us]", "17:30:00", 17),
        ("int64", "1714584600", 17),
        ("int64", "1714584600000", 17),
    ],
)
def test_texts_of_times_are_read(trained, text, hour):
    times = like_trained(pa.array([text, None, ""]), trained, "hour")
    assert part_of(times, "hour").to_pylist() == [hour, None, None]


def test_times_that_are_no_text_stay_as_they_are():
    moment = pa.array([datetime.datetime(2024, 5, 1, 17)])
    assert like_trained(moment, "timestamp[us]", "hour").equals(moment)
    assert part_of(like_trained(pa.array([1714584600]), "timestamp[us]", "hour"), "hour").to_pylist() == [17]


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01T00:00:00"])
def test_a_text_that_is_no_time_is_named(text):
    with pytest.raises(DataError, match=text):
        like_trained(pa.array(["2024-05-01T17:30:00", text]), "timestamp[us]", "hour")


def test_booleans_are_no_times():
    with pytest.raises(DataError, match="bool"):
        like_trained(pa.array([True]), "timestamp[us]", "hour")


def test_clocks_are_those_of_the_zone_of_training():
    moments = pa.array([1_714_500_000], pa.timestamp("s", "UTC"))
    for trained in ("timestamp[s, tz=America/New_York]", "timestamp[ns, tz=America/New_York]"):
        assert part_of(like_trained(moments, trained, "hour"), "hour").to_pylist() == [14]
    for trained in ("timestamp[s, tz=UTC]", "timestamp[s]", None):
        assert part_of(like_trained(moments, trained, "hour"), "hour").to_pylist() == [18]


@pytest.mark.parametrize("fraction", ["", ".1", ".123", ".123456", ".123456789"])
@pytest.mark.parametrize("trained", ["timestamp[s]", "timestamp[ms]", "date32[day]", "timestamp[s, tz=UTC]"])
def test_times_may_have_more_digits_than_in_training(trained, fraction):
    texts = pa.array([f"2024-05-01T17:30:00{fraction}{'Z' if 'tz' in trained else ''}"])
    assert part_of(like_trained(texts, trained, "hour"), "hour").to_pylist() == [17]


@pytest.mark.parametrize(
    "kind", [pa.uint8(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(30, 3)]
)
def test_seconds_are_numbers_of_any_type(kind):
    assert part_of(pa.array([3, None]).cast(kind), "hour").to_pylist() == [0, None]


def test_seconds_with_fractions_and_nulls():
    """Which is what pandas makes of whole seconds beside nulls."""
    seconds = pa.array([1767598200.5, float("nan"), float("inf"), 1767598200500.5, -5.5, None])
    assert part_of(seconds, "hour").to_pylist() == [7, None, None, 7, 23, None]


@pytest.mark.parametrize("value", [2**62, -(2**62), 1e17, -1e17])
@pytest.mark.parametrize("part", ["hour", "weekday"])
def test_numbers_beyond_all_years_are_no_times(value, part):
    """Arrow gives hours beyond 23 for them."""
    with pytest.raises(DataError, match="no time"):
        part_of(pa.array([0, None, value]), part)
