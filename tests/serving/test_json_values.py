"""Each value becomes the same in any company: beside others, alone, in a bag; and the type is the column's."""

import random
from typing import Any

import pyarrow as pa
import pytest

from c2al.data.raw_types import like_trained
from c2al.data.raw_values import part_of
from c2al.schema import DataError, SparseColumn
from c2al.serving.json_values import Kind, array_of, kind_of

BAD = object()  # a value that the column cannot take
TABLE: dict[Kind, tuple[pa.DataType, list[tuple[Any, Any]]]] = {
    Kind("numbers"): (
        pa.float64(),
        [
            *[(1, 1.0), (2.5, 2.5), (True, 1.0), (None, None), (2**53 + 1, 2.0**53), (1e308, 1e308), (-0.0, 0.0)],
            *[("1", BAD), ([1], BAD), ({}, BAD), (1e999, BAD), (-1e999, BAD), (10**400, BAD), (-(10**4000), BAD)],
        ],
    ),
    Kind("float32"): (
        pa.float64(),
        [
            (1, 1.0),
            (3.4e38, 3.4e38),
            (None, None),
            (True, 1.0),
            (3.5e38, BAD),
            (-1e39, BAD),
            (1e999, BAD),
            (10**39, BAD),
        ],
    ),
    Kind("texts"): (
        pa.string(),
        [
            *[(17, "17"), ("17", "17"), (17.0, "17"), (1e3, "1000"), ("1e3", "1e3"), ("007", "007"), (2.5, "2.5")],
            *[(True, "true"), (False, "false"), (None, None), ("", ""), ("é", "é"), (2**53 + 1, "9007199254740993")],
            *[(2**63, "9223372036854775808"), (-(2**70), "-1180591620717411303424"), (1, "1"), (-1.0, "-1")],
            *[([1], BAD), ({}, BAD), ("\ud800", BAD), (1e999, BAD)],
        ],
    ),
    Kind("texts", raw_type="bool"): (
        pa.string(),
        [(True, "true"), (1, "true"), (0.0, "false"), ("1", "true"), ("True", "True"), (2, "2"), (None, None)],
    ),
    Kind("ids"): (
        pa.int64(),
        [
            *[(17, 17), ("17", 17), (17.0, 17), (1e3, 1000), (-1, -1), ("-1", -1), (None, None), (0, 0)],
            *[(2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (-0.0, 0), ("9223372036854775807", 2**63 - 1)],
            *[
                (17.5, BAD),
                (True, BAD),
                ("x", BAD),
                ("", None),
                ("007", BAD),
                ("1e3", BAD),
                (" 1", BAD),
                ("\ud800", BAD),
            ],
            *[
                (2**63, BAD),
                (1e30, BAD),
                (1e999, BAD),
                ([1], BAD),
                ("\ud800", BAD),
                ("9" * 5000, BAD),
                ("9223372036854775808", BAD),
            ],
        ],
    ),
    Kind("prepared"): (
        pa.int64(),
        [
            *[(4, 4), (4.0, 4), (None, None), (-1, -1)],
            *[("4", BAD), ("de", BAD), (True, BAD), (4.5, BAD), (2**63, BAD), ([4], BAD)],
        ],
    ),
    Kind("times", raw_type="timestamp[us]"): (
        pa.string(),
        [
            *[("2026-01-05T07:30:00", "2026-01-05T07:30:00"), (1767598200, "2026-01-05T07:30:00"), ("", "")],
            *[(1767598200.9, "2026-01-05T07:30:00"), (1767598200123, "2026-01-05T07:30:00"), (None, None)],
            *[("2026-01-05T07:30:00Z", "2026-01-05T07:30:00"), ("2026-01-05T09:30+02:00", "2026-01-05T07:30:00")],
            *[("2026-01-05", "2026-01-05"), (True, BAD), (1e30, BAD), ("xT09:30Z", BAD), ("\ud800", BAD), ([1], BAD)],
        ],
    ),
    Kind("times", raw_type="timestamp[us, tz=Europe/Berlin]"): (
        pa.string(),
        [(1767598200, "2026-01-05T07:30:00Z"), ("2026-01-05T07:30:00+01:00", "2026-01-05T07:30:00+01:00")],
    ),
    Kind("times", raw_type="time64[us]"): (pa.string(), [(27000, "07:30:00"), ("07:30:00", "07:30:00")]),
    Kind("times", raw_type="int64"): (
        pa.int64(),
        [
            *[(1767598200, 1767598200), (1767598200.9, 1767598200), ("2026-01-05T07:30:00", 1767598200)],
            *[("2026-01-05T09:30:00+02:00", 1767598200), ("", None), (None, None)],
            *[("no", BAD), (True, BAD), (1e30, BAD), (2**63, BAD)],
        ],
    ),
}
CASES = [(kind, value, read) for kind, (_, pairs) in TABLE.items() for value, read in pairs]


@pytest.mark.parametrize(("kind", "value", "read"), CASES)
def test_a_value_alone(kind, value, read):
    bag = Kind(kind.values, True, kind.raw_type)
    if read is BAD:
        for each, values in ((kind, [None, value]), (bag, [None, [None, value]])):
            with pytest.raises(DataError, match="row 1") as raised:
                array_of("c", each, values)
            assert raised.value.where["column"] == "c"
            assert len(str(raised.value)) < 1000
        return
    found = array_of("c", kind, [value])
    assert (found.type, found.to_pylist()) == (TABLE[kind][0], [read])
    listed = array_of("c", bag, [[value, None, value], None, []])
    assert (listed.type, listed.to_pylist()) == (pa.list_(TABLE[kind][0]), [[read, None, read], None, []])


@pytest.mark.parametrize("kind", TABLE, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_values_beside_each_other(kind, seed):
    draw = random.Random(seed)
    chosen = draw.choices([pair for pair in TABLE[kind][1] if pair[1] is not BAD], k=draw.randrange(9))
    found = array_of("c", kind, [value for value, _ in chosen])
    assert (found.type, found.to_pylist()) == (TABLE[kind][0], [read for _, read in chosen])


def test_a_bag_is_a_list_or_null():
    for value in (1, "a", {}, True):
        with pytest.raises(DataError, match=r"list.*row 1|row 1.*list"):
            array_of("c", Kind("texts", True), [["a"], value])


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (SparseColumn("a", 9), Kind("ids")),
        (SparseColumn("a", 9, hashed=True, raw_type="int64"), Kind("texts", raw_type="int64")),
        (SparseColumn("a", 9, vocabulary="a", multi=True), Kind("texts", bag=True)),
        (SparseColumn("a", 9, hashed=True, part="hour", raw_type="date32"), Kind("times", raw_type="date32")),
    ],
)
def test_what_a_column_takes(column, kind):
    assert kind_of(column, prepared=False) == kind
    assert kind_of(column, prepared=True) == Kind("prepared", column.multi)


@pytest.mark.parametrize(
    "raw_type", ["timestamp[s]", "timestamp[us]", "date32[day]", "int64", "double", "string", None]
)
def test_a_time_has_one_hour_in_all_its_spellings(raw_type):
    same = ["2026-01-05T07:30:00", "2026-01-05 07:30", "2026-01-05T09:30:00+02:00", 1767598200, 1767598200999]
    found = array_of("c", Kind("times", raw_type=raw_type), same)
    for part, expected in (("hour", 7), ("weekday", 0)):
        assert part_of(like_trained(found, raw_type, part), part).to_pylist() == [expected] * len(same)
