"""Which rows train, validate and test: by folder, by a column that says so, by time, or at random."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.inference import require
from c2al.data.raw_files import Chunk, RawFiles
from c2al.data.raw_values import is_number, is_time
from c2al.schema import SPLITS, DataError

SHARES = (0.8, 0.9)  # train up to the first, validation up to the second
TIMES_KEPT = 20_000_000
_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
_SPLIT_OF = {name: SPLITS.index(split) for split, names in _NAMES.items() for name in names}

Splitter = Callable[[Chunk], np.ndarray]


def make_splitter(raw: RawFiles, split_by: str | None, seed: int) -> Splitter:
    """A function from a chunk to each row's split (0 train, 1 validation, 2 test).

    A text column holds the splits' names; one of times or numbers is cut where 80 and 90 % of the rows lie before, and
    equal times are never parted. Without a column, folders named by split decide if there are any; else a hash of
    (seed, row number), 80/10/10.
    """
    if split_by is None:
        return _by_folder if all(file.split for file in raw.files) else lambda chunk: _at_random(chunk, seed)
    require(split_by, raw)
    kind = raw.types[split_by]
    if pa.types.is_string(kind):
        return lambda chunk: _by_name(chunk, split_by)
    if not (is_time(kind) or is_number(kind)):
        remedy = "name a column of train/validation/test, of times or of numbers"
        raise DataError("cannot split by a column of this type", column=split_by, value=str(kind), remedy=remedy)
    cuts = _time_cuts(raw, split_by)
    return lambda chunk: np.searchsorted(cuts, _ticks(chunk, split_by), side="left")


def uniform(seed: int, rows: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each row number, from it and the seed alone (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = rows.astype(np.uint64) + np.uint64(seed) * np.uint64(2**40 + 15)
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)) / 2.0**53


def _by_folder(chunk: Chunk) -> np.ndarray:
    return np.full(chunk.table.num_rows, SPLITS.index(chunk.split or "train"))


def _at_random(chunk: Chunk, seed: int) -> np.ndarray:
    return np.searchsorted(SHARES, uniform(seed, chunk.rows), side="right")


def _by_name(chunk: Chunk, column: str) -> np.ndarray:
    encoded = chunk.table.column(column).combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    unknown = next((name for name in names if name.strip().lower() not in _SPLIT_OF), None)
    if unknown is not None or encoded.null_count:
        raise DataError(
            "the split column holds something else than train, validation, test",
            file=chunk.file,
            column=column,
            value=unknown if unknown is not None else "null",
            remedy="mend the values, or split by time, or leave out split_by",
        )
    split_of = np.array([_SPLIT_OF[name.strip().lower()] for name in names], dtype=np.int64)
    return split_of[encoded.indices.to_numpy()]


def _ticks(chunk: Chunk, column: str) -> np.ndarray:
    """Times as numbers that sort alike."""
    values = chunk.table.column(column).combine_chunks()
    if values.null_count:
        row = int(np.flatnonzero(pc.is_null(values).to_numpy(zero_copy_only=False))[0]) + chunk.first_row
        raise DataError(
            f"the time to split by is null in row {row}",
            file=chunk.file,
            column=column,
            remedy="drop those rows, or split by another column",
        )
    if is_time(values.type):
        narrow = pa.types.is_date32(values.type) or pa.types.is_time32(values.type)
        values = values.cast(pa.int32()).cast(pa.int64()) if narrow else values.cast(pa.int64())
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy())


def _time_cuts(raw: RawFiles, column: str) -> np.ndarray:
    """The last time of train and of validation; over ``TIMES_KEPT`` rows from an even subsample."""
    kept: list[np.ndarray] = []
    share = 1.0
    for chunk in raw.chunks([column]):
        drawn = uniform(0, chunk.rows)
        kept.append(np.stack([_ticks(chunk, column), drawn])[:, drawn < share])
        if sum(part.shape[1] for part in kept) > TIMES_KEPT:
            share /= 2
            kept = [part[:, part[1] < share] for part in kept]
    times, counts = np.unique(np.concatenate([part[0] for part in kept]) if kept else [], return_counts=True)
    if len(times) < 3:
        raise DataError(
            f"the time to split by has {len(times)} distinct values",
            file=raw.folder,
            column=column,
            remedy="split by a finer time, or leave out split_by",
        )
    before = np.cumsum(counts) / counts.sum()
    train = int(np.argmin(np.abs(before[:-2] - SHARES[0])))
    validation = train + 1 + int(np.argmin(np.abs(before[train + 1 : -1] - SHARES[1])))
    return times[[train, validation]]


def check_splits(rows: dict[str, int], positives: dict[str, int], *, file: str) -> None:
    """A DataError where a split is empty, or the training rows all have one label."""
    empty = [split for split in SPLITS if not rows[split]]
    if empty:
        remedy = "leave out split_by for a random split, or give more rows"
        raise DataError(f"no rows for {', '.join(empty)}", file=file, value=rows, remedy=remedy)
    if positives["train"] in (0, rows["train"]):
        remedy = "check the label column and the split"
        raise DataError(f"all training labels are {int(positives['train'] > 0)}", file=file, remedy=remedy)
