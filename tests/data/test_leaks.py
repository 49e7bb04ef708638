import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import raw_files
from c2al.data.inference import infer
from c2al.data.raw_files import RawFiles

NUM = 20_000
RNG = np.random.default_rng(0)
Y = RNG.random(NUM) < 0.05
CLICK = Y | (RNG.random(NUM) < 0.1)
POSITIVE = np.flatnonzero(Y)
SOME = Y & (RNG.random(NUM) < 0.3)


def flipped(values: np.ndarray, num: int) -> np.ndarray:
    out = values.copy()
    out[RNG.choice(len(values), num, replace=False)] ^= True
    return out


def where(there: np.ndarray, values) -> pa.Array:
    return pa.array(values, mask=~there)


def warnings(tmp_path, monkeypatch, values, label=Y, **options) -> list[str]:
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 3_000)
    table = pa.table({"y": label.astype(np.int8), "item_id": RNG.integers(0, 500, NUM), "it": values})
    pq.write_table(table, tmp_path / "rows.parquet")
    asked = {"sparse": None, "dense": None, "axes": None} | options
    return list(infer(RawFiles(str(tmp_path)), special={"label": "y"}, **asked).warnings)


@pytest.mark.parametrize(
    ("values", "figure"),
    [
        (CLICK, "100.00% of the positives and 1"),  # the label implies it
        (CLICK.astype(int), "100.00% of the positives"),
        (CLICK.astype(float), "100.00% of the positives"),
        (np.where(CLICK, "yes", "no"), "value 'yes' in 100.00% of the positives"),
        (flipped(CLICK, 60), "of the positives and 1"),  # nearly
        (SOME, "0.00% of the negatives"),  # it implies the label
        (Y, "tells the label of 100.00% of the rows"),  # a copy
        (~Y, "tells the label of 100.00%"),  # and a negated one
        (flipped(Y, 3), "tells the label of 99.9"),
        (np.where(Y, RNG.integers(4, 6, NUM), RNG.integers(1, 4, NUM)), "tells the label of 100.00%"),  # its rating
        (np.where(Y, RNG.lognormal(3, 1, NUM), 0.0), "above 0 in 100.00% of the positives and 0.00%"),  # dwell time
        (np.where(SOME, RNG.lognormal(3, 1, NUM), 0.0), "above 0 in"),  # revenue of some
        (where(SOME, RNG.lognormal(3, 1, NUM)), "there in"),
        (where(~Y, RNG.lognormal(3, 1, NUM)), "missing in 100.00% of the positives and 0.00%"),
        (np.where(Y, RNG.normal(9, 1, NUM), RNG.normal(0, 1, NUM)), "AUC of 1.0000"),
        (np.where(Y, RNG.normal(9, 1, NUM), RNG.normal(30, 1, NUM)), "AUC of 1.0000"),
        (np.where(Y, "converted", np.char.add("browse ", RNG.integers(0, 900, NUM).astype(str))), "value 'converted'"),
        (where(Y, np.full(NUM, np.datetime64("2026-11-01T12:00", "us"))), "there in 100.00%"),
        (pa.array([["a", "b"] if y else [] for y in Y.tolist()]), "there in 100.00%"),
        (pa.array([["a"] if y else None for y in Y.tolist()]), "there in 100.00%"),
    ],
)
def test_what_gives_the_label_away_is_named_with_its_figure(tmp_path, monkeypatch, values, figure):
    (said,) = warnings(tmp_path, monkeypatch, values)
    assert said.startswith("column it may give the label away: ")
    assert figure in said
    assert said.endswith("pass exclude=[it]")
    assert not warnings(tmp_path, monkeypatch, values, exclude=["it"])


@pytest.mark.parametrize(
    "values",
    [
        RNG.random(NUM) < 0.5,
        RNG.integers(0, 3_000, NUM),
        RNG.normal(size=NUM) + Y,  # a good feature
        np.where(RNG.random(NUM) < 0.99, "web", "app"),
        np.ones(NUM, bool) ^ (RNG.random(NUM) < 0.02) & ~Y,  # logged in: all who buy, and nearly all others
        flipped(Y, NUM // 5),
        where(RNG.random(NUM) < 0.02, RNG.normal(size=NUM)),
        np.where(RNG.random(NUM) < 0.2, RNG.lognormal(3, 1, NUM), 0.0),
        np.where(Y & (np.cumsum(Y) < 15), "rare", "usual"),  # too few to say
        pa.array([["a"] * int(n) for n in RNG.integers(0, 3, NUM)]),
    ],
)
def test_what_only_goes_with_the_label_is_not(tmp_path, monkeypatch, values):
    assert not warnings(tmp_path, monkeypatch, values)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_users_with_only_positives_are_no_leak_where_most_rows_are_positive(tmp_path, monkeypatch, rate):
    label = RNG.random(NUM) < rate
    assert not warnings(tmp_path, monkeypatch, RNG.integers(0, 40, NUM), label=label)
    assert not warnings(tmp_path, monkeypatch, RNG.integers(0, 900, NUM), label=label)
    assert warnings(tmp_path, monkeypatch, label, label=label)


def test_what_comes_late_in_the_rows_is_seen(tmp_path, monkeypatch):
    late = (np.arange(NUM) > 0.9 * NUM) & Y
    pages = np.char.add("page ", RNG.integers(0, 99, NUM).astype(str))
    assert warnings(tmp_path, monkeypatch, np.where(late, "done", pages), label=late)
