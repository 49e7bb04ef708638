import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from c2al.data import column_facts
from c2al.data.column_facts import ColumnFacts, Distinct, moment_of

RNG = np.random.default_rng(0)


def facts_of(values: pa.Array, label=None, parts: int = 4) -> ColumnFacts:
    values = values if isinstance(values, pa.Array) else pa.array(values)
    facts = ColumnFacts(values.type)
    label = np.zeros(len(values), np.int8) if label is None else label
    for rows in np.array_split(np.arange(len(values)), parts):
        facts.update(values.slice(rows[0], len(rows)), label[rows], "file")
    return facts


@pytest.mark.parametrize(
    "values",
    [
        pa.array(RNG.integers(-50, 50, 1_000)),
        pa.array(RNG.integers(0, 50, 1_000), pa.uint8()),
        pa.array(RNG.integers(2**63, 2**63 + 50, 1_000, dtype=np.uint64)),
        pa.array(RNG.integers(0, 50, 1_000).astype(float), mask=RNG.random(1_000) < 0.2),
        pa.array([0.0, -0.0, float("nan"), None] * 250),
        pa.array([f"{i % 50}" for i in range(1_000)]),
        pa.array([b"a", b"\xff", None, b""] * 250),
        pa.array([True, False, None, True] * 250),
        pa.array([datetime.date(2024, 1, 1 + i % 28) for i in range(1_000)]),
        pa.array([datetime.datetime(2024, 1, 1, i % 24, tzinfo=datetime.UTC) for i in range(1_000)]),
        pa.array(RNG.integers(0, 90, 1_000), pa.timestamp("ns")),
        pa.array([datetime.time(i % 24) for i in range(1_000)]),
        pa.array(RNG.integers(0, 90, 1_000), pa.duration("ns")),
        pa.array([decimal.Decimal(i % 70) / 4 for i in range(1_000)], pa.decimal128(12, 2)),
        pa.nulls(1_000),
        pa.nulls(1_000, pa.string()),
    ],
)
def test_values_of_any_type_are_counted(values):
    facts = facts_of(values)
    known = [value for value in values if value.is_valid and value.as_py() != b"" and str(value) != "nan"]
    assert (facts.num_rows, facts.num_nulls) == (1_000, 1_000 - len(known))
    if facts.countable:
        seen = {"0.0" if str(value) == "-0.0" else str(value) for value in known}
        assert facts.distinct == len(seen)
        assert facts.values.exact
    assert facts.known_L.tolist() == [len(known), 0]


def test_elements_of_lists_are_counted_and_empty_lists_are_not_there():
    label = np.array([0, 0, 1, 1, 0, 0, 1, 0], np.int8)
    facts = facts_of(pa.array([["a"], [], None, ["a", "b", None], [], ["c"], None, []]), label)
    assert (facts.distinct, facts.num_nulls) == (3, 2)
    assert facts.known_L.tolist() == [2, 1]


def test_many_values_are_estimated_and_said_to_be(monkeypatch):
    monkeypatch.setattr(column_facts, "MAX_HASHES", 4_096)
    few = Distinct()
    few.update(np.arange(4_096, dtype=np.uint64))
    facts = facts_of(pa.array(RNG.permutation(200_000)))
    assert (few.count, few.exact) == (4_096, True)
    assert not facts.values.exact
    assert facts.distinct == pytest.approx(200_000, rel=0.08)


def test_the_auc_of_a_number_is_that_of_its_order():
    label = (RNG.random(20_000) < 0.1).astype(np.int8)
    for values in (RNG.normal(size=20_000) + label, RNG.integers(-3, 4, 20_000) + label, np.zeros(20_000)):
        facts = facts_of(pa.array(values), label)
        assert facts.auc == pytest.approx(roc_auc_score(label, values), abs=0.01)


def test_values_are_tallied_by_label():
    label = (np.arange(1_000) % 10 == 0).astype(np.int8)
    facts = facts_of(pa.array(["a", "b"] * 500), label)
    assert facts.tally_is_whole
    assert {value: rows_L.tolist() for value, rows_L in facts.tally.items()} == {"a": [400, 100], "b": [500, 0]}
    facts = facts_of(pa.array([f"{i}" if i % 3 else "often" for i in range(1_000)]), label)
    assert not facts.tally_is_whole
    assert facts.tally["often"].sum() == 334
    assert len(facts.tally) <= column_facts.MAX_KEPT


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime.datetime(2026, 11, 1)),
        ("20261101", datetime.datetime(2026, 11, 1)),
        ("2026/11/01", datetime.datetime(2026, 11, 1)),
        ("2026-11", datetime.datetime(2026, 11, 1)),
        ("2026110113", datetime.datetime(2026, 11, 1, 13)),
        ("2026-11-01 12:30", datetime.datetime(2026, 11, 1, 12, 30)),
        ("2026-11-01T12:30:05.5", datetime.datetime(2026, 11, 1, 12, 30, 5, 500_000)),
        ("2026-11-01T23:30:00+02:00", datetime.datetime(2026, 11, 1, 23, 30)),
        ("2026-11-01T23:30:00Z", datetime.datetime(2026, 11, 1, 23, 30)),
        *((text, None) for text in ("1", "2026", "20261301", "20261132", "1700000000", "abc", "", "12345678", "1.5")),
    ],
)
def test_dates_are_read_as_people_write_them(text, moment):
    assert moment_of(text) == moment


@pytest.mark.parametrize(
    ("values", "is_date", "has_hours"),
    [
        (["2026-11-01", "2026-11-02"] * 4, True, False),
        ([20261101, 20261102] * 4, True, False),
        (["2026-11-01", "2026-11-02 05:00"] * 4, True, True),
        (["2026-11-01", "2026-11-02", "never", "x"] * 2, False, False),
        ([1, 2] * 4, False, False),
    ],
)
def test_a_column_of_dates(values, is_date, has_hours):
    facts = facts_of(values)
    assert (facts.is_date, facts.is_date and facts.has_hours) == (is_date, has_hours)


def test_seconds_since_1970_with_a_few_zeros_are_still_times():
    seconds = 1_700_000_000 + np.arange(1_000)
    seconds[5] = 0
    assert facts_of(pa.array(seconds)).epoch == "s"
    assert facts_of(pa.array(seconds * 1_000)).epoch == "ms"
    assert facts_of(pa.array(np.arange(1_000))).epoch is None


def test_what_is_encoded_as_null_is_counted_as_null():
    label = np.array([0, 1, 0, 1], np.int8)
    for values in (["", "a", "", "b"], [float("nan"), 1.0, float("inf"), 2.0]):
        facts = facts_of(pa.array(values), label)
        assert (facts.num_nulls, facts.known_L.tolist(), facts.distinct) == (2, [0, 2], 2)
    assert facts_of(pa.array([["", "a"]] * 4), label).distinct == 1
