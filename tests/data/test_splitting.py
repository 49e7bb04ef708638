import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import kstest

from c2al.data import raw_files, splitting
from c2al.data.raw_files import RawFiles
from c2al.data.splitting import check_splits, make_splitter, uniform
from c2al.schema import DataError


def split_of(tmp_path, table: pa.Table, split_by: str | None = None, seed: int = 0) -> np.ndarray:
    pq.write_table(table, tmp_path / "rows.parquet")
    raw = RawFiles(str(tmp_path))
    splitter = make_splitter(raw, split_by, seed)
    return np.concatenate([splitter(chunk) for chunk in raw.chunks(list(raw.types))])


def test_uniform_numbers_are_uniform_and_of_row_and_seed_alone():
    rows = np.arange(200_000)
    drawn = uniform(0, rows)
    assert kstest(drawn, "uniform").pvalue > 0.001
    assert np.array_equal(uniform(0, rows[500:600]), drawn[500:600])
    assert abs(np.corrcoef(drawn, uniform(1, rows))[0, 1]) < 0.01
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.01


@pytest.mark.parametrize(
    "convert",
    [
        lambda days: [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=int(day)) for day in days],
        lambda days: [datetime.date(2024, 1, 1) + datetime.timedelta(days=int(day)) for day in days],
        lambda days: [int(day) for day in days],
        lambda days: [float(day) / 7 for day in days],
    ],
)
def test_a_time_is_cut_at_eighty_and_ninety_percent_whatever_its_type(tmp_path, monkeypatch, convert):
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 1_000)
    days = np.random.default_rng(0).permutation(5_000) // 50
    split = split_of(tmp_path, pa.table({"t": convert(days)}), "t")
    assert np.array_equal(split, np.searchsorted([80, 90], days, side="right"))


def test_cuts_stay_near_where_only_a_subsample_of_times_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(splitting, "TIMES_KEPT", 3_000)
    monkeypatch.setattr(raw_files, "ROWS_PER_CHUNK", 1_000)
    split = split_of(tmp_path, pa.table({"t": np.arange(50_000)}), "t")
    assert np.bincount(split) / 50_000 == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_uneven_days_leave_no_split_empty(tmp_path):
    for counts in ([98, 1, 1], [1, 1, 98], [1, 98, 1], [50, 30, 10, 10]):
        split = split_of(tmp_path, pa.table({"t": np.repeat(np.arange(len(counts)), counts)}), "t")
        assert set(split) == {0, 1, 2}
        assert np.all(np.diff(split) >= 0)


def test_empty_splits_and_single_labels_are_refused():
    rows = {"train": 5, "validation": 0, "test": 3}
    with pytest.raises(DataError, match="no rows for validation"):
        check_splits(rows, {"train": 1, "validation": 0, "test": 0}, file="x")
    full = {**rows, "validation": 2}
    with pytest.raises(DataError, match="all training labels are 1"):
        check_splits(full, {"train": 5, "validation": 0, "test": 0}, file="x")
    check_splits(full, {"train": 1, "validation": 0, "test": 0}, file="x")
