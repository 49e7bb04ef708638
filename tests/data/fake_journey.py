"""A tiny package of The Complete Journey's form, and its exposures and their columns written out in plain Python."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.data import complete_journey_columns
from c2al.data.complete_journey_history import HISTORY_NAMES
from c2al.schema import SPLITS, Schema

PRODUCTS, HOUSEHOLDS, STORES = range(100, 114), range(1, 9), (7, 8, 300)  # store 300 promotes nothing
Row = dict[str, Any]


def fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The package's folder; vocabularies then hold every value of the training weeks, however rare."""
    monkeypatch.setattr(complete_journey_columns, "MIN_EXPOSURES", 1)
    monkeypatch.setattr(complete_journey_columns, "MIN_BASKETS", 1)
    return str(write_package(fake_tables(), tmp_path / "package"))


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
                    "store": str(store),
                    "product": str(product_id),
                    "display": promotion["display_location"],
                    "mailer": promotion["mailer_location"],
                    "purchased": product_id in {line["product_id"] for line in lines},
                    "product_recency": _recency(week, same),
                    "history_weeks": _bucket(week - 1),
                    "category_recency": _recency(week, kind),
                    "manufacturer_recency": _recency(week, maker),
                    "recent_products": list(dict.fromkeys(str(line["product_id"]) for line in mine))[:20],
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
    """Rows of all splits with ids turned back into the values' texts and dense columns into raw numbers."""
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
