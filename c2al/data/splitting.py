"""Which rows train, validate and test: by folder, by a column that says so, by time, or at random."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.chunks import Chunk
from c2al.data.column_facts import ColumnFacts, count_columns, moment_of
from c2al.data.draws import uniform as uniform
from c2al.data.inference import is_epoch, require
from c2al.data.raw_files import RawFiles
from c2al.data.raw_values import is_number, is_time, known_values, unreadable_values
from c2al.schema import SPLITS, DataError

SHARES = (0.8, 0.9)  # train up to the first, validation up to the second
TIMES_KEPT = 20_000_000
NOWHERE = len(SPLITS)  # the split of a row that is left out
DAY = 86_400_000_000  # microseconds
_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
_SPLIT_OF = {name: SPLITS.index(split) for split, names in _NAMES.items() for name in names}


@dataclass(frozen=True)
class Splitter:
    """Gives each row of a chunk its split: 0 train, 1 validation, 2 test, 3 none. ``told`` says how, for a person."""

    assign: Callable[[Chunk], np.ndarray]
    told: str

    def __call__(self, chunk: Chunk) -> np.ndarray:
        """Return the split of each row."""
        return self.assign(chunk)


def make_splitter(
    raw: RawFiles,
    split_by: str | None,
    seed: int,
    *,
    split: Mapping[str, Any] | None = None,
    facts: Mapping[str, ColumnFacts] | None = None,
) -> Splitter:
    """Make a function from a chunk to each row's split.

    A text column holds the splits' names, or dates. Dates, times and numbers are cut where 80 and 90 % of the rows lie
    before: between whole days where there are three days or more, and never between equal values. Without a column,
    folders named by split decide if there are any; else a hash of (seed, row number), 80/10/10.

    Args:
        raw: the files.
        split_by: the column, or None.
        seed: of the random split.
        split: split -> first and last value of ``split_by``, or one value; rows of other values are left out.
        facts: what ``count_columns`` found of the column; None: count now.
    """
    if split_by is None:
        if all(file.split for file in raw.files):
            return Splitter(_by_folder, "by folder")
        return Splitter(lambda chunk: _at_random(chunk, seed), f"at random, seed {seed}")
    require(split_by, raw)
    facts = count_columns(raw, None, without=set(raw.types) - {split_by}) if facts is None else facts
    line = _timeline(split_by, raw.types[split_by], facts[split_by])
    if split:
        if line is None:
            remedy = "name a column of dates, times or numbers: split_by=…"
            raise DataError("the column has no order to take ranges of", column=split_by, remedy=remedy)
        return _by_ranges(line, split)
    if line is None:
        return Splitter(lambda chunk: _by_name(chunk, split_by), f"by the names in {split_by}")
    return _by_order(raw, line)


def orders(column: str, kind: pa.DataType, facts: ColumnFacts) -> bool:
    """Whether a split by this column is one by order, not by the names of splits."""
    return _timeline(column, kind, facts) is not None


def time_column(raw: RawFiles, facts: Mapping[str, ColumnFacts]) -> str:
    """Return the column that ranges of ``split=`` speak of: the only date among the folders' keys, or of all columns.

    Raises:
        DataError: there is none, or there are several.
    """
    dated = [
        column
        for column, found in facts.items()
        if found.num_known
        and (
            pa.types.is_date(found.kind)
            or pa.types.is_timestamp(found.kind)
            or found.is_date
            or is_epoch(column, found)
        )
    ]
    keys = {key for file in raw.files for key in file.partitions}
    for columns in ([column for column in dated if column in keys], dated):
        if len(columns) == 1:
            return columns[0]
        if columns:
            problem = f"split= could speak of {', '.join(columns)}"
            raise DataError(problem, file=raw.folder, remedy=f"name one of them, such as split_by={columns[0]}")
    remedy = f"name a column of dates, times or numbers: split_by=…; columns: {', '.join(raw.types)}"
    raise DataError("split= needs a column of dates or times, and there is none", file=raw.folder, remedy=remedy)


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
            "the split column holds something else than train, validation, test, and is no date throughout",
            file=chunk.file,
            column=column,
            value=unknown if unknown is not None else "null",
            remedy="fix the values, or split by a date or time, or leave out split_by",
        )
    split_of = np.array([_SPLIT_OF[name.strip().lower()] for name in names], dtype=np.int64)
    return split_of[encoded.indices.to_numpy()]


@dataclass(frozen=True)
class Timeline:
    """A column as numbers that sort alike: microseconds since 1970 where it holds dates or times, else its numbers.

    Integers stay integers, with every digit.
    """

    column: str
    form: str  # time, text (a date as text or integer), s or ms (since 1970), whole, number
    has_hours: bool  # more than the day is known

    @property
    def is_dated(self) -> bool:
        """Whether its numbers are microseconds since 1970."""
        return self.form not in ("whole", "number")

    def ticks(self, chunk: Chunk) -> np.ndarray:
        """The numbers of a chunk's rows; a DataError at a null, an empty text or NaN."""
        values = chunk.table.column(self.column).combine_chunks()
        lacks = pc.is_nan(values) if pa.types.is_floating(values.type) else pc.invert(known_values(values))
        lacks = pc.fill_null(lacks, True)
        if pc.any(lacks).as_py():
            row = int(np.flatnonzero(lacks.to_numpy(zero_copy_only=False))[0]) + chunk.first_row
            shown = {"nan": "NaN", "": "empty"}.get(str(values[row - chunk.first_row].as_py()), "null")
            raise DataError(
                f"the time to split by is {shown} in row {row}",
                file=chunk.file,
                column=self.column,
                remedy="drop those rows, or split by another column",
            )
        try:
            return self._ticks(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise unreadable_values(error, chunk.file, self.column) from None

    def _ticks(self, values: pa.Array) -> np.ndarray:
        if self.form == "text":
            encoded = values.dictionary_encode()
            moments = [moment_of(text) for text in encoded.dictionary.cast(pa.string()).to_pylist()]
            ticks = np.array([_microseconds(moment) for moment in moments if moment], np.int64)
            return ticks[encoded.indices.to_numpy()]
        if self.form == "time":
            return _ticks_of_times(values)
        if self.form in ("s", "ms"):
            return values.cast(pa.int64()).to_numpy() * (1_000_000 if self.form == "s" else 1_000)
        if pa.types.is_duration(values.type) or self.form == "whole":
            values = values if pa.types.is_uint64(values.type) else values.cast(pa.int64())
        if self.form == "whole":
            return np.asarray(values.to_numpy(zero_copy_only=False))
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))

    def told(self, tick: float) -> str:
        """A number of the line as a person writes it."""
        if not self.is_dated:
            return str(int(tick)) if self.form == "whole" else f"{tick:g}"
        try:
            moment = datetime(1970, 1, 1) + timedelta(microseconds=int(tick))
        except OverflowError:  # beyond the year 9999, or before the year 1
            return str(np.datetime64(int(tick), "us"))
        return str(moment.date() if int(tick) % DAY == 0 else moment)


def _timeline(column: str, kind: pa.DataType, facts: ColumnFacts) -> Timeline | None:
    """The order of a column's values; None where they are texts that are neither dates nor whole numbers."""
    if is_time(kind):
        return Timeline(column, "time", not pa.types.is_date(kind))
    if facts.num_known and facts.is_date:
        return Timeline(column, "text", facts.has_hours)
    if is_epoch(column, facts):
        return Timeline(column, facts.epoch or "s", True)
    if pa.types.is_integer(kind) or (pa.types.is_string(kind) and facts.num_known and facts.is_whole_text):
        return Timeline(column, "whole", False)
    if is_number(kind):
        return Timeline(column, "number", False)
    if pa.types.is_string(kind):
        return None
    remedy = "name a column of train/validation/test, of dates, times or numbers"
    raise DataError("cannot split by a column of this type", column=column, value=str(kind), remedy=remedy)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _ticks_of_times(values: pa.Array) -> np.ndarray:
    """Microseconds; of times with a zone as clocks there show them."""
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz:
        values = pc.local_timestamp(values)
    if pa.types.is_time(kind):
        values = values.cast(pa.time64("us"), safe=False).cast(pa.int64())
    else:
        values = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _by_order(raw: RawFiles, line: Timeline) -> Splitter:
    """Cut at 80 and 90 % of the rows; over ``TIMES_KEPT`` rows by an even subsample."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    share = 1.0
    for chunk in raw.chunks([line.column]):
        kept.append(_drawn(line.ticks(chunk), uniform(0, chunk.rows), share))
        if sum(len(ticks) for ticks, _ in kept) > TIMES_KEPT:
            share /= 2
            kept = [_drawn(*part, share) for part in kept]
    all_ticks = np.concatenate([ticks for ticks, _ in kept]) if kept else np.empty(0)
    if line.is_dated and line.has_hours and len(np.unique(all_ticks // DAY)) >= len(SPLITS):
        all_ticks = all_ticks // DAY * DAY  # a day is in one split
    times, counts = np.unique(all_ticks, return_counts=True)
    if len(times) < len(SPLITS):
        raise DataError(
            f"the time to split by has {len(times)} distinct values, and train, validation and test need one each",
            file=raw.folder,
            column=line.column,
            value=", ".join(map(line.told, times)),
            remedy="split by a finer time, or leave out split_by",
        )
    before = np.cumsum(counts) / counts.sum()
    train = int(np.argmin(np.abs(before[:-2] - SHARES[0])))
    validation = train + 1 + int(np.argmin(np.abs(before[train + 1 : -1] - SHARES[1])))
    cuts = times[[train + 1, validation + 1]]
    told = f"by {line.column}: validation from {line.told(cuts[0])}, test from {line.told(cuts[1])}"
    return Splitter(lambda chunk: np.searchsorted(cuts, line.ticks(chunk), side="right"), told)


def _drawn(ticks: np.ndarray, drawn: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    chosen = drawn < share
    return ticks[chosen], drawn[chosen]


def _by_ranges(line: Timeline, split: Mapping[str, Any]) -> Splitter:
    """The splits of ranges, which hold their first and last values."""
    ranges: dict[str, tuple[float, float]] = {}
    for name, said in check_ranges(split).items():
        low, high = (said[0], said[-1]) if isinstance(said, list) else (said, said)
        first, last = _bound(line, name, low)[0], _bound(line, name, high)[1]
        if first >= last:
            remedy = "write the first value before the last"
            raise DataError(f"the range of {name} in split= is empty", value=f"[{low}, {high}]", remedy=remedy)
        ranges[name] = (first, last)
    in_order = sorted(ranges, key=lambda name: ranges[name])
    for one, other in pairwise(in_order):
        if ranges[one][1] > ranges[other][0]:
            shown = f"{one}: {split[one]}, {other}: {split[other]}"
            remedy = "let each value be in one split; a range holds its last value"
            raise DataError("two ranges of split= overlap", column=line.column, value=shown, remedy=remedy)

    def assign(chunk: Chunk) -> np.ndarray:
        ticks = line.ticks(chunk)
        out = np.full(len(ticks), NOWHERE)
        for name, (first, last) in ranges.items():
            out[(ticks >= first) & (ticks < last)] = SPLITS.index(name)
        return out

    told = ", ".join(f"{name} {_shown(said)}" for name, said in check_ranges(split).items())
    return Splitter(assign, f"by {line.column}: {told}")


def check_ranges(split: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``split=`` as lists and plain values; a DataError where it does not name all splits, each once."""
    if not isinstance(split, Mapping):
        remedy = "pass split={train: [FIRST, LAST], validation: ONE, test: ONE}"
        raise DataError("split= must give each split its values", value=split, remedy=remedy)
    for name in split:
        if name not in SPLITS:
            close = get_close_matches(str(name), SPLITS, n=1, cutoff=0.3)
            remedy = (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(SPLITS)}"
            raise DataError("no such split in split=", value=name, remedy=remedy)
    for name in SPLITS:
        if split.get(name) is None:
            remedy = "give train, validation and test a value or [first, last] each"
            raise DataError(f"split= has no values for {name}", remedy=remedy)
    plain = {}
    for name in SPLITS:
        said = split[name]
        many = isinstance(said, Sequence) and not isinstance(said, str)
        if isinstance(said, Mapping) or (many and len(said) not in (1, 2)):
            remedy = f"pass one value, or [first, last], both in {name}"
            raise DataError(f"{name} in split= is neither a value nor a range", value=said, remedy=remedy)
        plain[name] = [_plain(value) for value in said] if many else _plain(said)
    return plain


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)


def _shown(said: Any) -> str:
    return f"{said[0]} to {said[-1]}" if isinstance(said, list) else str(said)


def _bound(line: Timeline, name: str, said: Any) -> tuple[float, float]:
    """Where a value of a range begins and where it ends; a date ends with its day, a month with its month."""
    if not line.is_dated:
        try:
            if line.form == "whole" and re.fullmatch(r"-?[0-9]+", str(said).strip()):
                return int(said), int(said) + 1
            if np.isnan(float(said)):
                raise ValueError
            return float(said), float(np.nextafter(float(said), np.inf))
        except (TypeError, ValueError):
            remedy = f"{line.column} holds numbers: give numbers"
            raise DataError(f"{name} in split= is no number", column=line.column, value=said, remedy=remedy) from None
    text = str(said).strip()
    moment = moment_of(text)
    if moment is None and line.form in ("s", "ms") and text.isdecimal():
        tick = int(text) * (1_000_000 if line.form == "s" else 1_000)
        return tick, tick + (1_000_000 if line.form == "s" else 1_000)
    if moment is None:
        remedy = "write dates such as 2026-11-01, or times such as 2026-11-01T12:30:00"
        raise DataError(f"{name} in split= is no date", column=line.column, value=said, remedy=remedy)
    start = _microseconds(moment)
    digits = sum(sign.isdigit() for sign in text)
    if digits == 6:
        return start, int((np.datetime64(moment, "M") + 1).astype("datetime64[us]").astype(np.int64))
    if digits == 8:
        return start, start + DAY
    return start, start + (DAY // 24 if len(text) == digits == 10 else 1)


def check_splits(rows: dict[str, int], positives: dict[str, int], *, file: str) -> None:
    """A DataError where a split is empty, or the training rows all have one label."""
    empty = [split for split in SPLITS if not rows[split]]
    if empty:
        remedy = "leave out split_by and split for a random split, fix the ranges of split, or give more rows"
        raise DataError(f"no rows for {', '.join(empty)}", file=file, value=rows, remedy=remedy)
    if positives["train"] in (0, rows["train"]):
        remedy = "check the label column and the split"
        raise DataError(f"all training labels are {int(positives['train'] > 0)}", file=file, remedy=remedy)
