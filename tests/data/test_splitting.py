import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import kstest

from c2al.data import raw_files, splitting
from c2al.data.column_facts import count_columns
from c2al.data.raw_files import RawFiles
from c2al.data.splitting import check_splits, make_splitter, time_column, uniform
from c2al.schema import DataError


def split_of(tmp_path, table: pa.Table, split_by: str | None = None, seed: int = 0, split=None) -> np.ndarray:
    pq.write_table(table, tmp_path / "rows.parquet")
    raw = RawFiles(str(tmp_path))
    splitter = make_splitter(raw, split_by, seed, split=split)
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


DAYS = np.repeat([datetime.date(2026, 11, day) for day in range(1, 11)], 10)  # ten days of ten rows
FORMS = {
    "date": lambda day: day,
    "datetime": lambda day: datetime.datetime(day.year, day.month, day.day, 13, 5),
    "zone": lambda day: datetime.datetime(day.year, day.month, day.day, 23, 5, tzinfo=ZoneInfo("America/New_York")),
    "text": lambda day: str(day),
    "compact": lambda day: f"{day:%Y%m%d}",
    "slashes": lambda day: f"{day:%Y/%m/%d}",
    "integer": lambda day: int(f"{day:%Y%m%d}"),
    "text with hours": lambda day: f"{day} 05:00:00",
    "hours": lambda day: f"{day:%Y%m%d}07",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_days", [3, 4, 10])
def test_dates_of_every_form_are_split_in_order_and_no_day_is_torn(tmp_path, form, num_days):
    days = DAYS[: 10 * num_days]
    order = np.random.default_rng(0).permutation(len(days))
    split = split_of(tmp_path, pa.table({"dt": [FORMS[form](day) for day in days[order]]}), "dt")
    of_day = {day: set(split[days[order] == day]) for day in days}
    assert all(len(splits) == 1 for splits in of_day.values())
    in_order = [of_day[day].pop() for day in sorted(of_day)]
    assert in_order == [0] * (num_days - 2) + [1, 2]


def test_a_day_of_timestamps_is_whole(tmp_path):
    """Cuts at 80 and 90 % of the rows would fall into the day."""
    hours = np.datetime64("2026-11-01T00", "us") + np.arange(24 * 4) * np.timedelta64(1, "h")
    split = split_of(tmp_path, pa.table({"ts": hours}), "ts")
    assert split.tolist() == [0] * 48 + [1] * 24 + [2] * 24


def test_timestamps_of_less_than_three_days_are_cut_within_a_day(tmp_path):
    hours = np.datetime64("2026-11-01T00", "us") + np.arange(40) * np.timedelta64(1, "h")
    assert np.bincount(split_of(tmp_path, pa.table({"ts": hours}), "ts")).tolist() == [32, 4, 4]


@pytest.mark.parametrize("num_days", [1, 2])
@pytest.mark.parametrize("form", ["date", "text", "compact", "integer"])
def test_two_days_are_too_few(tmp_path, form, num_days):
    table = pa.table({"dt": [FORMS[form](day) for day in DAYS[: 10 * num_days]]})
    message = rf"has {num_days} distinct values, and .* need one each .*column dt, value 2026-11-01"
    with pytest.raises(DataError, match=message):
        split_of(tmp_path, table, "dt")


def test_numbers_as_text_are_ordered_as_numbers(tmp_path):
    """As ``week=9`` and ``week=10`` folders give them."""
    weeks = np.repeat(np.arange(1, 21), 5)
    split = split_of(tmp_path, pa.table({"week": [str(week) for week in weeks]}), "week")
    assert np.array_equal(split, np.searchsorted([16, 18], weeks))


RANGES = {"train": ["2026-11-01", "2026-11-07"], "validation": "2026-11-08", "test": "2026-11-09"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", [str, lambda text: text.replace("-", ""), datetime.date.fromisoformat])
def test_ranges_hold_their_last_day_and_other_days_are_left_out(tmp_path, form, written):
    split = {name: [*map(written, said)] if isinstance(said, list) else written(said) for name, said in RANGES.items()}
    found = split_of(tmp_path, pa.table({"dt": [FORMS[form](day) for day in DAYS]}), "dt", split=split)
    assert np.array_equal(found, np.repeat([0] * 7 + [1, 2, 3], 10))


@pytest.mark.parametrize(
    ("values", "split", "expected"),
    [
        (np.arange(1, 7), {"train": [1, 3], "validation": 4, "test": [5, 6]}, [0, 0, 0, 1, 2, 2]),
        (["1", "2", "9", "10", "11", "12"], {"train": [1, 9], "validation": "10", "test": [11]}, [0, 0, 0, 1, 2, 3]),
        (
            [f"2026-{month:02d}-28" for month in range(7, 13)],
            {"train": ["2026-07", "2026-09"], "validation": "2026-10", "test": ["2026-11", "2026-12"]},
            [0, 0, 0, 1, 2, 2],
        ),
        (
            [datetime.datetime(2026, 11, 1, hour) for hour in range(6)],
            {"train": ["2026-11-01T00:00", "2026-11-01 02:00"], "validation": "2026110103", "test": "2026-11-01 05:00"},
            [0, 0, 0, 1, 3, 2],
        ),
    ],
)
def test_ranges_of_numbers_months_and_hours(tmp_path, values, split, expected):
    assert split_of(tmp_path, pa.table({"t": values}), "t", split=split).tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valid": "2026-11-08"}, r"no such split in split= \(value valid\).*did you mean validation\?"),
        ({"validation": None}, "no values for validation"),
        (
            {"validation": "2026-11-07"},
            r"ranges of split= overlap .*column dt, value train: .* validation: 2026-11-07",
        ),
        ({"train": ["2026-11-07", "2026-11-01"]}, "the range of train in split= is empty"),
        ({"train": ["2026-11-01", "2026-11-02", "2026-11-03"]}, "train in split= is neither a value nor a range"),
        ({"train": []}, "neither a value nor a range"),
        ({"train": {"from": "2026-11-01"}}, "neither a value nor a range"),
        ({"test": "tomorrow"}, "test in split= is no date .*column dt, value tomorrow"),
        ({"test": "2026-11-32"}, "test in split= is no date"),
    ],
)
def test_bad_ranges_are_one_line(tmp_path, change, message):
    with pytest.raises(DataError, match=message) as caught:
        split_of(tmp_path, pa.table({"dt": DAYS}), "dt", split=RANGES | change)
    assert "\n" not in str(caught.value)


def test_texts_that_are_no_dates_have_no_ranges(tmp_path):
    with pytest.raises(DataError, match=r"no order to take ranges of .*column dt"):
        split_of(tmp_path, pa.table({"dt": ["a", "b"] * 5}), "dt", split=RANGES)
    with pytest.raises(DataError, match=r"something else than train.*value 2026-11-01"):
        split_of(tmp_path, pa.table({"dt": ["2026-11-01", "2026-13-01"] * 5}), "dt")


def columns_of(folder, **columns) -> str:
    pq.write_table(pa.table({"n": range(100), **columns}), folder / "rows.parquet")
    raw = RawFiles(str(folder))
    return time_column(raw, count_columns(raw, None))


def test_the_column_that_ranges_speak_of(tmp_path):
    assert columns_of(tmp_path, day=DAYS) == "day"
    assert columns_of(tmp_path, day=[str(day) for day in DAYS], hour=[datetime.time(1)] * 100) == "day"
    with pytest.raises(DataError, match=r"could speak of day, ts .*split_by=day"):
        columns_of(tmp_path, day=DAYS, ts=DAYS)
    with pytest.raises(DataError, match=r"needs a column of dates .*split_by=…; columns: n"):
        columns_of(tmp_path)
    (tmp_path / "rows.parquet").unlink()
    (tmp_path / "dt=2026-11-01").mkdir()
    assert columns_of(tmp_path / "dt=2026-11-01", day=DAYS) == "day"
    raw = RawFiles(str(tmp_path))
    assert time_column(raw, count_columns(raw, None)) == "dt", "the folders' date comes first"


@pytest.mark.parametrize("value", [float("nan"), None])
@pytest.mark.parametrize("split", [None, {"train": [0, 40], "validation": [41, 45], "test": [46, 60]}])
def test_a_time_that_is_no_number_is_an_error(tmp_path, value, split):
    with pytest.raises(DataError, match=r"the time to split by is (NaN|null) in row 7.*column t"):
        split_of(tmp_path, pa.table({"t": [float(i) if i != 7 else value for i in range(60)]}), "t", split=split)


def test_a_date_that_is_an_empty_text_is_an_error(tmp_path):
    days = [f"2024-01-{i % 9 + 1:02}" if i != 7 else "" for i in range(60)]
    with pytest.raises(DataError, match=r"the time to split by is empty in row 7"):
        split_of(tmp_path, pa.table({"t": days}), "t")


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_long_integers_are_split_with_every_digit(tmp_path, kind):
    big = 2**60 if kind == pa.int64() else 2**64 - 61
    table = pa.table({"t": pa.array([big + i for i in range(60)], kind)})
    ranges = {"train": [big, big + 39], "validation": [big + 40, big + 49], "test": [big + 50, big + 59]}
    assert np.bincount(split_of(tmp_path, table, "t", split=ranges)).tolist() == [40, 10, 10]
    assert np.bincount(split_of(tmp_path, table, "t")).tolist() == [48, 6, 6]


def test_a_bound_that_is_no_number_is_named(tmp_path):
    with pytest.raises(DataError, match="train in split= is no number"):
        split_of(tmp_path, pa.table({"t": range(60)}), "t", split={"train": ["nan", 4], "validation": 5, "test": 6})


def test_times_beyond_the_year_9999_are_split(tmp_path):
    seconds = [1_714_500_000_000 + i * 86_400_000 for i in range(60)]
    split = split_of(tmp_path, pa.table({"t": pa.array(seconds, pa.timestamp("s"))}), "t")
    assert np.bincount(split).tolist() == [48, 6, 6]
    days = [datetime.date(2024, 1 + i // 10, 1) for i in range(60)]
    ranges = {"train": "2024-01", "validation": "2024-02", "test": ["2024-03", "9999-12"]}
    assert np.bincount(split_of(tmp_path, pa.table({"t": days}), "t", split=ranges)).tolist() == [10, 10, 40]


def test_an_unknown_zone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Foo/Bar.*column t"):
        split_of(tmp_path, pa.table({"t": pa.array(range(60), pa.timestamp("s", "Foo/Bar"))}), "t")
