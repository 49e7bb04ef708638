"""Ids and cohorts of The Complete Journey that the training weeks fix, by household, basket, product or promotion.

A vocabulary holds the values with ``MIN_EXPOSURES`` exposures or more in the training weeks, the most exposed first, so
it does not hang on the share of negatives that is kept. All rarer and newer values share id 0.
"""

from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al.cohorts import axes
from c2al.data.complete_journey_exposures import Exposures, ranges
from c2al.data.complete_journey_history import BAGS, HISTORY_NAMES, KINDS, RECENCY_NAMES
from c2al.data.complete_journey_package import DISPLAY_CODES, MAILER_CODES, Journey
from c2al.schema import CohortAxis, SparseColumn

LAST_TRAINING_WEEK = 40
MIN_EXPOSURES = 500  # products below have 0.6 % of the training rows, enough to train id 0 for the new ones
MIN_BASKETS = 5  # products bought less often in the training weeks stay out of the bag of recent products
REVENUE_CUTS = (0.1, 0.25, 0.5, 0.75, 0.9)
ADVERTISER_CUTS = (0.1, 0.25, 0.5, 0.7)  # the retailer's own brand alone has 26 % of the rows, and is not to be parted
SURFACES = (
    "display end cap",
    "display aisle",  # in the aisle or on the shelf
    "display other",  # front or rear of the store, a second place
    "mailer inside",
    "mailer cover",  # front or back page
    "mailer wrap",
    "display + mailer inside",
    "display + mailer cover",  # or wrap
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass
class Lookup:
    """One column as an array over households, baskets, products or promotions, by the name of ``place``."""

    name: str
    place: str
    ids: np.ndarray


@dataclass
class Columns:
    """Of each exposure: the sparse ids, the cohorts; and what History needs."""

    sparse: list[SparseColumn] = field(default_factory=list)
    axes: list[CohortAxis] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    vocabularies: dict[str, list[Any]] = field(default_factory=dict)
    codes: dict[str, np.ndarray] = field(default_factory=dict)  # of each product's category and manufacturer
    bag_ids: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, place: str, ids: np.ndarray, vocabulary: list[Any], multi: bool = False) -> None:
        """A sparse column whose id i > 0 means ``vocabulary[i - 1]``; no lookup where ``place`` is "history"."""
        path = f"vocabularies/{name}.parquet"
        self.sparse.append(SparseColumn(name, len(vocabulary) + 1, multi, path, drop_unknown=multi))
        self.vocabularies[path] = vocabulary
        if place != "history":
            self.lookups.append(Lookup(name, place, ids.astype(np.int32)))

    def add_axis(self, place: str, ids: np.ndarray, axis: CohortAxis) -> None:
        """A cohort axis, stored with the rows."""
        self.axes.append(axis)
        self.lookups.append(Lookup(axis.column, place, ids.astype(np.int16)))

    def save_vocabularies(self, folder: str) -> None:
        """Write each as parquet of (value, id); every value is text, as other sources have it."""
        fsspec.url_to_fs(folder)[0].makedirs(f"{folder}/vocabularies", exist_ok=True)
        for path, values in self.vocabularies.items():
            ids = pa.array(range(1, len(values) + 1), pa.int32())
            table = pa.table({"value": pa.array([str(value) for value in values], pa.string()), "id": ids})
            with fsspec.open(f"{folder}/{path}", "wb") as file:
                pq.write_table(table, file)


def make_columns(journey: Journey) -> Columns:
    """All of them, in the order of the schema."""
    columns = Columns()
    seen = {place: _training_exposures(journey, place) for place in ("household", "store", "product")}
    _of_households(columns, journey, seen["household"])
    _of_baskets(columns, journey, seen["store"])
    _of_products(columns, journey, seen["product"])
    _of_promotions(columns, journey)
    _of_history(columns, journey)
    _axes(columns, journey, seen)
    return columns


def places(journey: Journey, rows: Exposures) -> dict[str, np.ndarray]:
    """Where the rows stand in the arrays of each place."""
    return {
        "household": journey.baskets["household"][rows.basket],
        "basket": rows.basket,
        "product": journey.promotions["product"][rows.promotion],
        "promotion": rows.promotion,
    }


def _of_households(columns: Columns, journey: Journey, seen: np.ndarray) -> None:
    columns.add("household", "household", *_vocabulary(journey.household_ids, seen))
    for name, values in journey.demographics.items():
        columns.add(name, "household", *_vocabulary(values, seen))


def _of_baskets(columns: Columns, journey: Journey, seen: np.ndarray) -> None:
    store_ids, stores = _vocabulary(journey.store_ids, seen)
    columns.add("store", "basket", store_ids[journey.baskets["store"]], stores)
    moment = journey.baskets["seconds"].astype("datetime64[s]")
    day = moment.astype("datetime64[D]")
    columns.add("hour", "basket", (moment - day).astype(np.int64) // 3600 + 1, list(range(24)))
    columns.add("weekday", "basket", (day.astype(np.int64) + 3) % 7 + 1, list(WEEKDAYS))  # 1970 began on a Thursday
    of_month = (day - day.astype("datetime64[M]")).astype(np.int64) // 7 + 1
    columns.add("week_of_month", "basket", of_month, list(range(1, 6)))


def _of_products(columns: Columns, journey: Journey, seen: np.ndarray) -> None:
    columns.add("product", "product", *_vocabulary(journey.product_ids, seen))
    for name, values in journey.attributes.items():
        columns.add(name, "product", *_vocabulary(values, seen))
        columns.codes[name] = _codes(values)[0]


def _of_promotions(columns: Columns, journey: Journey) -> None:
    for name, codes in (("display", DISPLAY_CODES), ("mailer", MAILER_CODES)):
        columns.add(name, "promotion", journey.promotions[name] + 1, list(codes))


def _of_history(columns: Columns, journey: Journey) -> None:
    """Recencies and bags: their ids come from History; what is not in a bag's vocabulary is left out of the bag."""
    nothing = np.empty(0)
    for kind in KINDS:
        columns.add(f"{kind}_recency", "history", nothing, list(RECENCY_NAMES))
    columns.add("history_weeks", "history", nothing, list(HISTORY_NAMES))
    training = journey.baskets["week"][journey.purchases["basket"]] <= LAST_TRAINING_WEEK
    num_baskets = np.bincount(journey.purchases["product"][training], minlength=len(journey.product_ids))
    values = {"product": journey.product_ids, "category": journey.attributes["category"]}
    for name, (kind, _) in BAGS.items():
        ids, vocabulary = _vocabulary(values[kind], num_baskets, MIN_BASKETS)
        columns.add(name, "history", nothing, vocabulary, multi=True)
        columns.bag_ids[name] = ids


def _axes(columns: Columns, journey: Journey, seen: dict[str, np.ndarray]) -> None:
    """Shares in the names are shares of the training exposures; who bought or sold nothing is at the bottom."""
    basket, sales = journey.purchases["basket"], journey.purchases["sales"]
    training = journey.baskets["week"][basket] <= LAST_TRAINING_WEEK
    household = journey.baskets["household"][basket[training]]
    spend = np.bincount(household, sales[training], minlength=len(journey.household_ids))
    columns.add_axis("household", *axes.quantile(spend, name="revenue", cuts=REVENUE_CUTS, weights=seen["household"]))
    for name, column in (("age", "age"), ("kids", "kids_count")):
        columns.add_axis("household", *axes.category(journey.demographics[column], name=name))
    ids, surface = _surface(journey)
    columns.add_axis("promotion", ids, surface)
    manufacturer = columns.codes["manufacturer"]
    sold = np.bincount(manufacturer[journey.purchases["product"][training]], sales[training], manufacturer.max() + 1)
    columns.add_axis(
        "product",
        *axes.quantile(sold[manufacturer], name="advertiser_size", cuts=ADVERTISER_CUTS, weights=seen["product"]),
    )


def _surface(journey: Journey) -> tuple[np.ndarray, CohortAxis]:
    """One cohort for each pair of codes; "neither" only where the data has such promotions."""
    table = np.full((len(DISPLAY_CODES), len(MAILER_CODES)), len(SURFACES))
    for d, display in enumerate(DISPLAY_CODES):
        for m, mailer in enumerate(MAILER_CODES):
            if (name := surface_of(display, mailer)) is not None:
                table[d, m] = SURFACES.index(name)
    ids = table[journey.promotions["display"], journey.promotions["mailer"]]
    names = (*SURFACES, *["neither"] * bool((ids == len(SURFACES)).any()))
    return ids, CohortAxis("surface", names)


def surface_of(display: str, mailer: str) -> str | None:
    """The cohort of a display code and a mailer code, as the R package ``completejourney`` describes them."""
    if display == "0" and mailer == "0":
        return None
    inside = mailer in "ACPX"
    if display == "0":
        return "mailer inside" if inside else "mailer cover" if mailer in "DFZ" else "mailer wrap"
    if mailer == "0":
        return "display end cap" if display in "3456" else "display aisle" if display in "7A" else "display other"
    return "display + mailer inside" if inside else "display + mailer cover"


def _training_exposures(journey: Journey, place: str) -> np.ndarray:
    """How many exposures of the training weeks each household, store or product has."""
    grid = {name: values[journey.grid["week"] <= LAST_TRAINING_WEEK] for name, values in journey.grid.items()}
    if place == "store":
        return np.bincount(grid["store"], grid["num_baskets"] * grid["num_promotions"], len(journey.store_ids))
    if place == "household":
        basket = ranges(grid["first_basket"], grid["num_baskets"])
        num_promotions = np.repeat(grid["num_promotions"], grid["num_baskets"])
        return np.bincount(journey.baskets["household"][basket], num_promotions, len(journey.household_ids))
    promotion = ranges(grid["first_promotion"], grid["num_promotions"])
    num_baskets = np.repeat(grid["num_baskets"], grid["num_promotions"])
    return np.bincount(journey.promotions["product"][promotion], num_baskets, len(journey.product_ids))


def _codes(values: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """A code for each distinct value, None included."""
    encoded = pa.array(values, from_pandas=True).dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def _vocabulary(values: np.ndarray, counts: np.ndarray, minimum: float | None = None) -> tuple[np.ndarray, list[Any]]:
    """The id of each value, and the values of ids 1, 2, …: those that count enough, the greatest count first."""
    codes, distinct = _codes(values)
    count = np.bincount(codes, counts, len(distinct))
    known = [i for i, value in enumerate(distinct) if value is not None]
    enough = MIN_EXPOSURES if minimum is None else minimum
    order = [i for i in sorted(known, key=lambda i: (-count[i], str(distinct[i]))) if count[i] >= enough]
    id_of_code = np.zeros(len(distinct), dtype=np.int32)
    id_of_code[order] = np.arange(1, len(order) + 1)
    return id_of_code[codes], [distinct[i] for i in order]
