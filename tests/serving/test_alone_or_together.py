"""What one request is told is the same alone and beside any others, in any order: its status and every bit."""

import decimal
import json
import random
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from c2al.schema import DataError, DenseColumn, Schema, SparseColumn
from c2al.serving.bodies import ARROW, JSON, Asked
from c2al.serving.gauges import Gauges
from c2al.serving.inputs import Inputs
from c2al.serving.loaded import Loaded
from c2al.serving.refusals import RefusalError
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import FakeArtefact
from tests.serving.http_client import stream
from tests.serving.test_reading import Body, read, same

SCHEMA = Schema(
    "fake",
    "clicked",
    (
        SparseColumn("user", 20),
        SparseColumn("city", 101, hashed=True, raw_type="string"),
        SparseColumn("country", 4, vocabulary="country", raw_type="string"),
        SparseColumn("shop", 5, vocabulary="shop", raw_type="int64"),
        SparseColumn("size", 5, vocabulary="size", raw_type="double"),
        SparseColumn("flag", 3, vocabulary="flag", raw_type="bool"),
        SparseColumn("hour", 25, hashed=True, source="time", part="hour", raw_type="timestamp[us]"),
        SparseColumn("history", 20, multi=True),
        SparseColumn("seen", 5, multi=True, vocabulary="seen", raw_type="list<element: string>", drop_unknown=True),
    ),
    (DenseColumn("age", mean=40.0, std=10.0), DenseColumn("spend", transform="log1p", mean=1.0, std=0.5)),
)
VOCABULARIES = {
    **{"country": ["de", "fr", "17"], "shop": ["17", "4", "0", "-1"], "size": ["17", "2.5", "1000", "0.1"]},
    **{"flag": ["true", "false"], "seen": ["a", "b", "17", "true"]},
}
GOOD = {
    **{"age": 31, "spend": 2.5, "user": 17, "city": "Köln", "country": "de", "shop": 17, "size": 2.5, "flag": True},
    **{"time": "2026-01-05T07:30:00", "history": [2, 5], "seen": ["a", "z"]},
}
PREPARED = {
    **{"age": 0.5, "spend": -1, "user": 17, "city": 3, "country": 2, "shop": 4, "size": 1, "flag": 2, "hour": 8},
    **{"history": [2, 5], "seen": [1]},
}
VALUES: list[Any] = [
    *(None, 17, "17", 17.0, 17.5, 1e3, "1e3", True, False, 0, 1, -1, 21, 2**53 + 1, 2**63 - 1, 2**63, -(2**70), 1e30),
    *(3.4e38, 1e39, 1.7e308, float("inf"), "", "x", "007", "de", "é", "\ud800", "2026-01-05T07:30:00Z", 1767598200),
    *([], [None], [17], ["17"], [17.0, None], [1, "a", True], [[1]], {}, {"a": 1}, [2**63], ["\ud800"], "a" * 17_000),
]
POLICIES: list[dict[str, str | None]] = [
    {},
    {"null": "error"},
    {"unknown": "error"},
    {"missing": "default"},
    {"missing": "default", "null": "error", "unknown": "error"},
]


SINGLE = tuple(column.name for column in SCHEMA.sparse if not column.multi)


class Artefact(FakeArtefact):
    """One with a column of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.schema = SCHEMA
        self.columns = SimpleNamespace(dense=("age", "spend"), single=SINGLE, bags=("history", "seen"))
        self.manifest["schema"] = {
            part: [asdict(each) for each in getattr(SCHEMA, part)] for part in ("dense", "sparse")
        }

    def vocabulary(self, column: str) -> pa.Array:
        return pa.array(VOCABULARIES[column])


def of_rows(rows: list[dict[str, Any]], prepared: bool) -> Body:
    return JSON, Asked(prepared=prepared), json.dumps({"rows": rows}).encode().replace(b"Infinity", b"1e999")


def of_columns(rows: list[dict[str, Any]], prepared: bool) -> Body | None:
    """The same rows as columns; None where a row lacks one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if any(set(row) != set(names) for row in rows):
        return None
    columns = {name: [row[name] for row in rows] for name in names}
    return JSON, Asked(prepared=prepared), json.dumps({"columns": columns}).encode().replace(b"Infinity", b"1e999")


def of_arrow(rows: list[dict[str, Any]], prepared: bool) -> Body | None:
    """The same rows in Arrow; None where a column has no one type there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None
    return ARROW, Asked(prepared=prepared), stream(table)


def some_rows(draw: random.Random, prepared: bool) -> list[dict[str, Any]]:
    """A few rows with odd values, and keys that are missing or too many."""
    rows = []
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        row = dict(PREPARED if prepared else GOOD)
        for name in draw.sample(sorted(row), draw.choice([0, 1, 1, 2])):
            row[name] = draw.choice(VALUES)
        if draw.random() < 0.1:
            del row[draw.choice(sorted(row))]
        if draw.random() < 0.03:
            row["other"] = 1
        rows.append(row)
    return rows


FIXED: list[Body] = [
    (JSON, Asked(), body)
    for body in (
        *(b"", b"{}", b"[]", b"null", b"{", b'{"rows": []}', b'{"columns": {}}', b'{"columns": {"user": []}}'),
        *(b'{"rows": [{}]}', b'{"rows": [null]}', b'{"rows": {}}', b'{"rows": [], "columns": {}}', b"[" * 100_000),
        *(b'{"rows": [], "rows": []}', b'{"columns": {"user": 1}}', b'{"columns": {"user": [], "othr": []}}', b"\xff"),
    )
]
FIXED += [
    (ARROW, Asked(), body) for body in (b"", b"no", stream(pa.table({})), stream(pa.table({"user": pa.nulls(0)})))
]


def some_bodies(draw: random.Random, num: int) -> list[Body]:
    bodies: list[Body] = list(FIXED)
    while len(bodies) < num:
        prepared = draw.random() < 0.3
        rows = some_rows(draw, prepared)
        made = [form(rows, prepared) for form in (of_rows, of_columns, of_arrow)]
        bodies += [body for body in made if body is not None]
    draw.shuffle(bodies)
    return bodies


def model(policy: dict[str, str | None]) -> Loaded:
    gauges = Gauges(lambda: 0, lambda: 0)
    return Loaded(Artefact(), Settings(policy=policy), under_way=lambda: 0, gauges=gauges)


def outcome(model: Loaded, body: Body) -> Any:
    return read(model, [body])[0][0]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_mixed_requests_in_any_order(policy):
    draw = random.Random(str(policy))
    loaded = model(policy)
    bodies = some_bodies(draw, 100)
    alone = [outcome(loaded, body) for body in bodies]
    unexpected = [each for each in alone if type(each).__name__ not in ("Inputs", "DataError", "RefusalError")]
    assert not unexpected, unexpected[0]
    assert sum(isinstance(each, Inputs) for each in alone) > 15
    for _ in range(2):
        order = draw.sample(range(len(bodies)), len(bodies))
        together, passes = read(loaded, [bodies[i] for i in order])
        assert passes < len(bodies) / 10
        for i, found in zip(order, together, strict=True):
            same(found, alone[i])


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_rows_and_columns_are_told_the_same(policy):
    draw = random.Random(1)
    loaded = model(policy)
    for _ in range(30):
        prepared = draw.random() < 0.3
        rows = some_rows(draw, prepared)
        if rows and (columns := of_columns(rows, prepared)):
            same(outcome(loaded, columns), outcome(loaded, of_rows(rows, prepared)))


@pytest.mark.parametrize("prepared", [False, True])
def test_json_and_arrow_agree_on_what_both_take(prepared):
    loaded, both = model({}), 0
    good = PREPARED if prepared else GOOD
    for name in good:
        for value in VALUES:
            rows = [good | {name: value}, good]
            body = of_arrow([good | {name: value}], prepared)
            found = outcome(loaded, of_rows(rows, prepared))
            if body and isinstance(arrow := outcome(loaded, body), Inputs) and isinstance(found, Inputs):
                both += 1
                np.testing.assert_array_equal(found.rows(0, 1).ids_BS, arrow.ids_BS, err_msg=f"{name}: {value!r}")
                np.testing.assert_array_equal(found.rows(0, 1).dense_BN, arrow.dense_BN, err_msg=f"{name}: {value!r}")
                for bag, values in arrow.bags.items():
                    np.testing.assert_array_equal(found.rows(0, 1).bags[bag].values_V, values.values_V)
    assert both > 50


ARROW_COLUMNS = [
    *(pa.array([1], kind) for kind in (pa.int8(), pa.uint8(), pa.int32(), pa.uint64(), pa.float32(), pa.float64())),
    *(pa.array([2**64 - 1], pa.uint64()), pa.array([-(2**63)]), pa.array([float("nan")]), pa.array([float("inf")])),
    *(pa.array(["17"]), pa.array(["x"], pa.large_string()), pa.array([""]), pa.array([True]), pa.nulls(1)),
    *(pa.array([decimal.Decimal("1.5")]), pa.array([decimal.Decimal(7)], pa.decimal256(40, 2))),
    *(pa.array([1767598200], kind) for kind in (pa.timestamp("s"), pa.timestamp("ns", "UTC"), pa.duration("s"))),
    *(pa.array([2**62], pa.timestamp("s")), pa.array([-(2**62)], pa.timestamp("s", "Europe/Berlin"))),
    *(pa.array([1], pa.timestamp("us", "no/zone")), pa.array([1], pa.date32()), pa.array([1], pa.time64("us"))),
    *(pa.array(["17"]).dictionary_encode(), pa.array([17]).dictionary_encode(), pa.array([None, 1])[:1]),
    *(pa.array([[1]]), pa.array([["a", None]]), pa.array([[]]), pa.array([None], pa.list_(pa.int64()))),
    *(pa.array([[1.5]], pa.large_list(pa.float32())), pa.array([[True]]), pa.array([[[1]]]), pa.array([{"a": 1}])),
    *(pa.array([b"a"]), pa.array(["a"], pa.string_view()), pa.array([[1, 2]], pa.list_(pa.int64(), 2))),
    pa.array([[1767598200]], pa.list_(pa.timestamp("s"))),
]


@pytest.mark.parametrize("prepared", [False, True])
def test_any_type_of_arrow_has_an_answer(prepared):
    """Rows or a refusal, and the same beside all others."""
    loaded = model({})
    good = pa.Table.from_pylist([PREPARED if prepared else GOOD])
    bodies: list[Body] = []
    for name in good.column_names:
        place = good.column_names.index(name)
        for column in ARROW_COLUMNS:
            bodies.append((ARROW, Asked(prepared=prepared), stream(good.set_column(place, name, column))))
    together, _ = read(loaded, bodies)
    unexpected = [each for each in together if not isinstance(each, Inputs | DataError | RefusalError)]
    assert not unexpected, unexpected[0]
    for body, found in random.Random(3).sample(list(zip(bodies, together, strict=True)), 60):
        same(found, outcome(loaded, body))


def test_a_row_is_the_same_in_any_request():
    """One row of a request does not change another: rows that are taken alone are the same side by side."""
    draw = random.Random(2)
    loaded = model({})
    rows = [row for _ in range(80) for row in some_rows(draw, False)]
    taken = [(row, found) for row in rows if isinstance(found := outcome(loaded, of_rows([row], False)), Inputs)]
    assert len(taken) > 25
    joined = outcome(loaded, of_rows([row for row, _ in taken], False))
    same(joined, Inputs.joined([found for _, found in taken]))


@pytest.mark.parametrize("body", FIXED[5:8] + FIXED[-2:])
def test_no_rows_have_no_scores(body):
    for policy in POLICIES:
        assert len(outcome(model(policy), body)) == 0


@pytest.mark.parametrize(
    ("name", "values", "ids"),
    [
        ("user", [17, "17", 17.0], 17),
        ("user", [None], 0),
        ("user", [-1, 21, 2**53 + 1], 0),
        ("country", [17, "17", 17.0], 3),
        ("shop", [17, "17", 17.0], 1),
        ("size", [1000, 1e3, "1e3", "1000"], 3),
        ("flag", [True, 1, 1.0, "true", "1"], 1),
        ("flag", [None, 2, "x"], 0),
    ],
)
def test_values_that_are_the_same(name, values, ids):
    loaded = model({})
    place = SINGLE.index(name)
    found = outcome(loaded, of_rows([GOOD | {name: value} for value in values], False))
    assert found.ids_BS[:, place].tolist() == [ids] * len(values)


@pytest.mark.parametrize(
    ("name", "bag", "ids"),
    [
        ("history", [2, "5", 17.0], [2, 5, 17]),
        *[("history", bag, []) for bag in ([], [None], None)],
        ("history", [None, 2], [2]),
        ("seen", ["a", 17, True, None, "unknown"], [1, 3, 4]),
        *[("seen", bag, []) for bag in ([], [None], None)],
    ],
)
def test_bags(name, bag, ids):
    found = outcome(model({}), of_rows([GOOD | {name: bag}, GOOD], False))
    assert found.rows(0, 1).bags[name].values_V.tolist() == ids
