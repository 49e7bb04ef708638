import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from c2al.schema import DataError
from c2al.serving.bodies import ARROW, JSON, Asked
from c2al.serving.gauges import Gauges
from c2al.serving.inputs import Inputs
from c2al.serving.loaded import Loaded
from c2al.serving.reading import MOST_BYTES, Reader
from c2al.serving.refusals import RefusalError
from c2al.serving.service_settings import Settings
from tests.serving.fake_model import SCHEMA, FakeArtefact
from tests.serving.http_client import ROWS, TIMEOUT_S, stream

Body = tuple[str, Asked, bytes]
TYPES = {"age": pa.float64(), "country": pa.string(), "city": pa.int64(), "seen": pa.list_(pa.string())}


def loaded(artefact: FakeArtefact | None = None, settings: Settings | None = None) -> Loaded:
    gauges = Gauges(lambda: 0, lambda: 0)
    return Loaded(artefact or FakeArtefact(), settings or Settings(), under_way=lambda: 0, gauges=gauges)


def of_json(rows: list[dict[str, Any]], prepared: bool = False) -> Body:
    return JSON, Asked(prepared=prepared), json.dumps({"rows": rows}).encode()


def of_arrow(rows: list[dict[str, Any]], city: pa.DataType = TYPES["city"]) -> Body:
    return ARROW, Asked(), stream(pa.Table.from_pylist(rows, pa.schema(TYPES | {"city": city})))


@contextmanager
def reading(settings: Settings | None = None) -> Iterator[tuple[Reader, threading.Event, list[float]]]:
    """A reader that does nothing until the event, and what it observed."""
    gate, seen = threading.Event(), []
    reader = Reader(settings or Settings(), observe=seen.append)
    reader._thread.submit(lambda: gate.wait(TIMEOUT_S))
    yield reader, gate, seen
    gate.set()
    reader.close()


def read(model: Loaded, bodies: Sequence[Body], settings: Settings | None = None) -> tuple[list[Any], int]:
    """What came of bodies that waited together (rows or an error), and in how many passes."""
    with reading(settings) as (reader, gate, seen):
        futures = [reader.submit(model, *body) for body in bodies]
        gate.set()
        found = [future.exception(TIMEOUT_S) or future.result() for future in futures]
        reader._thread.submit(bool).result(TIMEOUT_S)
    return found, len(seen)


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, Exception):
        assert (type(found), str(found)) == (type(expected), str(expected))
        return
    assert isinstance(found, Inputs), found
    np.testing.assert_array_equal(found.dense_BN, expected.dense_BN)
    np.testing.assert_array_equal(found.ids_BS, expected.ids_BS)
    for name, bag in expected.bags.items():
        np.testing.assert_array_equal(found.bags[name].values_V, bag.values_V)
        np.testing.assert_array_equal(found.bags[name].lengths_B, bag.lengths_B)


class Counting(Loaded):
    """Counts its passes over columns."""

    passes = 0

    def encode(self, table: pa.Table, prepared: bool) -> Inputs:
        self.passes += 1
        return super().encode(table, prepared)


def counting() -> Counting:
    model = Counting(FakeArtefact(), Settings(), under_way=lambda: 0, gauges=Gauges(lambda: 0, lambda: 0))
    model.passes = 0
    return model


def some_rows(rng: np.random.Generator, num: int) -> list[dict[str, Any]]:
    return [
        {"age": float(rng.normal(40, 9)), "country": str(rng.choice(["de", "fr", "xx"])), "city": int(rng.integers(99))}
        | {"seen": [str(each) for each in rng.choice(["a", "b", "z"], rng.integers(4))]}
        for _ in range(num)
    ]


def test_bodies_that_wait_together_take_one_pass_and_get_their_own_rows():
    rng = np.random.default_rng(0)
    rows = [some_rows(rng, num) for num in (1, 3, 0, 2, 1)]
    for form in (of_json, of_arrow):
        bodies = [form(each) for each in rows if each or form is of_json]
        model = counting()
        found, passes = read(model, bodies)
        assert (model.passes, passes) == (1, 1)
        for body, each in zip(bodies, found, strict=True):
            same(each, read(loaded(), [body])[0][0])


def test_each_form_model_and_schema_is_a_table_of_its_own():
    prepared = of_json([{"age": 0.5, "country": 2, "city": 8, "seen": [1, 4]}], prepared=True)
    numbers = of_arrow([{"age": 50, "country": "de", "city": 12, "seen": ["a"]}])
    texts = of_arrow([{"age": 50, "country": "de", "city": "12", "seen": ["a"]}], pa.string())
    bodies = [of_json(ROWS[:1]), prepared, numbers, texts, of_json(ROWS[:1])]
    model, other = counting(), counting()
    with reading() as (reader, gate, seen):
        futures = [reader.submit(model, *body) for body in bodies] + [reader.submit(other, *bodies[0])]
        gate.set()
        found = [future.result(TIMEOUT_S) for future in futures]
    assert (model.passes, other.passes, len(seen)) == (4, 1, 1)
    for body, each in zip([*bodies, bodies[0]], found, strict=True):
        same(each, read(loaded(), [body])[0][0])


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ((JSON, Asked(), b"{"), "not JSON"),
        ((ARROW, Asked(), b"no"), "not an Arrow stream"),
        (of_json([ROWS[0], ROWS[0] | {"age": "old"}]), "in row 1"),
        (of_json([ROWS[0] | {"contry": "de"}]), "reads no such column"),
        (of_json([{name: value for name, value in ROWS[0].items() if name != "city"}]), "column missing"),
        (of_json([ROWS[0]] * 4097), "too many rows"),
        (of_json([ROWS[0] | {"city": "x" * 20_000}]), "too long in row 0"),
    ],
)
def test_a_bad_body_spoils_no_other(bad, problem):
    model = loaded()
    good = [of_json([row]) for row in (ROWS[0], ROWS[2])]
    found, _ = read(model, [good[0], bad, good[1]])
    assert isinstance(found[1], DataError | RefusalError)
    assert problem in str(found[1])
    for body, each in zip(good, (found[0], found[2]), strict=True):
        same(each, read(model, [body])[0][0])


def test_values_of_other_types_beside_it_change_no_row():
    """A time as a text, as seconds and as both: each body as it is alone."""
    artefact = FakeArtefact()
    sparse = (replace(SCHEMA.sparse[0], vocabulary=None, num_rows=25, source="time", part="hour", hashed=True),)
    artefact.schema = replace(SCHEMA, sparse=(*sparse, *SCHEMA.sparse[1:]))
    model = loaded(artefact)
    times: list[Any] = ["2026-01-05T07:30:00", 1767598200, None, "no time", 1767598200.0]
    bodies = [of_json([{"age": 50, "time": time, "city": 1, "seen": [1]}]) for time in times]
    found, _ = read(model, bodies)
    for body, each in zip(bodies, found, strict=True):
        same(each, read(model, [body])[0][0])
    assert isinstance(found[3], DataError)
    assert (found[0].ids_BS == found[1].ids_BS).all()


def test_a_long_body_waits_for_no_short_one_and_a_cancelled_one_is_not_read():
    model = counting()
    long = (JSON, Asked(), json.dumps({"rows": ROWS[:1]}).encode() + b" " * MOST_BYTES)
    with reading() as (reader, gate, seen):
        futures = [reader.submit(model, *body) for body in (of_json(ROWS[:1]), long, of_json(ROWS), of_json(ROWS))]
        assert futures[2].cancel()
        gate.set()
        assert [len(futures[i].result(TIMEOUT_S)) for i in (0, 1, 3)] == [1, 1, 3]
    assert (model.passes, len(seen)) == (3, 3)
