"""Which values get an id, which row is in which cohort, what the clock said."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from c2al.data import complete_journey_columns
from c2al.data.complete_journey import prepare
from c2al.data.complete_journey_columns import surface_of
from tests.data.fake_journey import PRODUCTS, cross_join, fake_package, fake_tables, read_all


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return fake_package(tmp_path, monkeypatch)


def test_time_is_local_and_place_is_the_basket_s(package: str, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    schema = prepare(to=to, keep_negatives=1, package_folder=package)
    rows = read_all(to, schema)
    moments = {}
    for line in fake_tables()["transactions"]:
        summer = np.datetime64("2017-03-12T07") <= line["transaction_timestamp"] < np.datetime64("2017-11-05T06")
        local = (line["transaction_timestamp"] - np.timedelta64(4 if summer else 5, "h")).item()
        at = (str(local.hour), local.strftime("%A"), str((local.day - 1) // 7 + 1))
        moments.setdefault((line["household_id"], str(line["store_id"])), set()).add(at)
    found = zip(*(rows[name] for name in ("unit", "store", "hour", "weekday", "week_of_month")), strict=True)
    assert all(tuple(at) in moments[unit, store] for unit, store, *at in found)


def test_rare_values_share_id_0(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = [int(row["product"]) for row in cross_join(fake_tables()) if row["week"] <= 40]
    counts = {product: training.count(product) for product in PRODUCTS}
    middle = sorted(counts.values())[len(counts) // 2]
    monkeypatch.setattr(complete_journey_columns, "MIN_EXPOSURES", middle)
    to = str(tmp_path / "to")
    prepare(to=to, keep_negatives=0.5, package_folder=package)
    vocabulary = pq.read_table(f"{to}/vocabularies/product.parquet").to_pydict()
    vocabulary["value"] = [int(product) for product in vocabulary["value"]]
    assert set(vocabulary["value"]) == {product for product, count in counts.items() if count >= middle}
    assert [counts[product] for product in vocabulary["value"]] == sorted(
        (counts[product] for product in vocabulary["value"]), reverse=True
    )


def test_cohorts_of_households_and_makers(package: str, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    schema = prepare(to=to, keep_negatives=1, package_folder=package)
    rows = read_all(to, schema)
    training = [line for line in fake_tables()["transactions"] if line["week"] <= 40]
    spend, sales = defaultdict(float), defaultdict(float)
    for line in training:
        spend[line["household_id"]] += line["sales_value"]
        sales[line["product_id"] % 5] += line["sales_value"]
    for values, name, of in (
        (spend, "revenue", rows["unit"]),
        (sales, "advertiser_size", [int(product) % 5 for product in rows["product"]]),
    ):
        cohort = dict(zip(of, rows[f"cohort_{name}"], strict=True))
        assert len(set(cohort.values())) > 2
        ranked = [cohort[key] for key in sorted(cohort, key=lambda key: values[key])]
        assert ranked == sorted(ranked)
    names = schema.axis("age").cohorts
    assert names == ("19-24", "65+", "unknown")
    wanted = ["unknown" if unit > 5 else ("19-24", "65+")[unit % 2] for unit in rows["unit"]]
    assert [names[i] for i in rows["cohort_age"]] == wanted
    surface = schema.axis("surface").cohorts
    wanted = [surface_of(d, m) for d, m in zip(rows["display"], rows["mailer"], strict=True)]
    assert [surface[i] for i in rows["cohort_surface"]] == wanted
    assert len(schema.axis("age_x_surface").cohorts) == 24


@pytest.mark.parametrize(
    ("display", "mailer", "cohort"),
    [
        ("0", "0", None),
        ("3", "0", "display end cap"),
        ("A", "0", "display aisle"),
        ("9", "0", "display other"),
        ("0", "A", "mailer inside"),
        ("0", "F", "mailer cover"),
        ("0", "L", "mailer wrap"),
        ("7", "X", "display + mailer inside"),
        ("1", "H", "display + mailer cover"),
    ],
)
def test_surfaces(display: str, mailer: str, cohort: str | None) -> None:
    assert surface_of(display, mailer) == cohort
