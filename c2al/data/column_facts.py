"""Count what is in each raw column, on all rows: how many are null, how many values there are, what they go with.

``inference`` decides by these facts what a column is. One pass over the files; a column takes a few MiB at most.
"""

import re
from collections.abc import Callable, Collection
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al.data.fitting import Moments
from c2al.data.raw_files import RawFiles
from c2al.data.raw_values import is_float, is_number, is_time, known_values, labels_of, numbers_of
from c2al.data.vocabulary import fnv1a64

MAX_HASHES = 1 << 20  # distinct values up to which they are counted exactly
MAX_TALLIED = 64  # values of a chunk whose rows and labels are counted one by one
MAX_KEPT = 1024
NUM_BINS = 1 << 16  # of numbers, by sign, exponent and four bits of the mantissa: in order, 6 % wide at most
EPOCHS = {"s": (3e8, 5e9), "ms": (3e11, 5e12)}  # 1979 to 2128 in seconds and in milliseconds
_COMPACT = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])?")
_MONTH = re.compile(r"\d{4}-\d{2}")


class Distinct:
    """Number of distinct 64-bit hashes: exact up to ``MAX_HASHES``, then estimated to about 0.1 %.

    Past the limit, hashes are kept whose last bits are zero (adaptive sampling, Flajolet 1990).
    """

    def __init__(self) -> None:
        self._kept = np.empty(0, np.uint64)
        self._waiting: list[np.ndarray] = []
        self._bits = 0

    def update(self, hashes: np.ndarray) -> None:
        """Take in some hashes."""
        self._waiting.append(self._chosen(hashes))
        if sum(map(len, self._waiting)) > max(len(self._kept) // 2, 4_096):
            self._merge()

    def _merge(self) -> None:
        self._kept = np.unique(np.concatenate([self._kept, *map(self._chosen, self._waiting)]))
        self._waiting = []
        while len(self._kept) > MAX_HASHES:
            self._bits += 1
            self._kept = self._chosen(self._kept)

    def _chosen(self, hashes: np.ndarray) -> np.ndarray:
        mask = np.uint64((1 << self._bits) - 1)
        return hashes[(hashes & mask) == 0]

    @property
    def count(self) -> int:
        """How many there are."""
        self._merge()
        return len(self._kept) << self._bits

    @property
    def exact(self) -> bool:
        """Whether the count is no estimate."""
        self._merge()
        return self._bits == 0


class ColumnFacts:
    """What all rows of one column say.

    ``distinct`` is None for nested values. Null is also what is encoded as null (``known_values``): empty texts, NaN.
    Two-element arrays count the rows of label 0 and of label 1: ``known_L``, where the value is not null (of lists: not
    empty), ``above_L``, where a number is above 0. ``moments`` are of integers.
    """

    def __init__(self, kind: pa.DataType) -> None:
        self.kind = kind
        flat = kind.value_type if pa.types.is_list(kind) else kind
        self.countable = not (pa.types.is_nested(flat) or pa.types.is_null(flat) or pa.types.is_interval(flat))
        self.num_rows = self.num_nulls = 0
        self.rows_L, self.known_L, self.above_L = (np.zeros(2, np.int64) for _ in range(3))
        self.values = Distinct()
        self.tally: dict[object, np.ndarray] = {}  # rows by label, of the values that come most often
        self.tally_is_whole = True
        self.is_text = True  # bytes are UTF-8
        self.is_date = self.countable and (pa.types.is_string(kind) or pa.types.is_integer(kind))
        self.has_hours = False  # a date with a time of day
        self.is_whole_text = pa.types.is_string(kind)
        self.is_numbered = is_number(kind)  # goes up by one from row to row of each file
        self.is_whole, self.num_finite = True, 0
        self.least, self.most = np.inf, -np.inf
        self.moments = Moments()
        self.num_epoch = dict.fromkeys(EPOCHS, 0)
        self._bins = np.zeros((2, NUM_BINS), np.int64)
        self._last: tuple[str, float] | None = None

    @property
    def num_known(self) -> int:
        """Rows that are not null, nor encoded as such."""
        return self.num_rows - self.num_nulls

    @property
    def distinct(self) -> int | None:
        """Distinct values, of lists distinct elements."""
        return self.values.count if self.countable else None

    @property
    def nulls(self) -> float:
        """Percent of the rows that are null."""
        return round(100 * self.num_nulls / max(self.num_rows, 1), 2)

    @property
    def epoch(self) -> str | None:
        """``s`` or ``ms`` where nearly all integers can be seconds or milliseconds since 1970."""
        return next((unit for unit, num in self.num_epoch.items() if num and num >= 0.99 * self.num_known), None)

    @property
    def auc(self) -> float:
        """AUC of the number as a prediction of the label, ties in a bin counted half."""
        zero, one = self._bins
        below = np.cumsum(zero) - zero
        return float((one * (below + zero / 2)).sum() / max(int(zero.sum()) * int(one.sum()), 1))

    def update(self, values: pa.Array, label_R: np.ndarray, file: str) -> None:
        """Take in some rows of one file."""
        self.num_rows += len(values)
        self.rows_L += _by_label(label_R)
        if pa.types.is_list(self.kind):
            self.num_nulls += values.null_count
            known = pc.fill_null(pc.greater(pc.list_value_length(values), 0), False)
        else:
            known = known_values(values)
            self.num_nulls += len(values) - (pc.sum(known).as_py() or 0)
        known_R = known.to_numpy(zero_copy_only=False)
        self.known_L += _by_label(label_R[known_R])
        if not self.countable:
            return
        if pa.types.is_list(self.kind):
            elements = pc.unique(pc.list_flatten(values))
            self.values.update(_hashes(elements.filter(known_values(elements))))
            return
        label_R, values = label_R[known_R], values.filter(known)
        if not len(values):
            self.is_numbered = False
            return
        self._count(values, label_R)
        if is_number(self.kind):
            self.is_numbered = self.is_numbered and bool(known_R.all())
            self._measure(numbers_of(values), label_R, file)

    def _count(self, values: pa.Array, label_R: np.ndarray) -> None:
        encoded = values.dictionary_encode()
        unique, place_R = encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False)
        self.values.update(_hashes(unique))
        if is_time(self.kind) or pa.types.is_duration(self.kind):
            self.tally_is_whole = False
            return
        count = np.bincount(place_R, minlength=len(unique))
        positives = np.bincount(place_R, label_R, minlength=len(unique)).astype(np.int64)
        chosen = np.arange(len(unique))
        if len(unique) > MAX_TALLIED:
            self.tally_is_whole = False
            chosen = np.union1d(*(np.argpartition(-by, MAX_TALLIED)[:MAX_TALLIED] for by in (count, positives)))
        for place, value in zip(chosen.tolist(), unique.take(pa.array(chosen)).to_pylist(), strict=True):
            rows_L = np.array([count[place] - positives[place], positives[place]])
            self.tally[value] = self.tally.get(value, 0) + rows_L
        if len(self.tally) > MAX_KEPT:
            self.tally_is_whole = False
            best = sorted(self.tally, key=lambda value: -self.tally[value].sum())[: MAX_KEPT // 4]
            best += sorted(self.tally, key=lambda value: -self.tally[value][1])[: MAX_KEPT // 4]
            self.tally = {value: self.tally[value] for value in best}
        self._look_at(unique)

    def _look_at(self, unique: pa.Array) -> None:
        if pa.types.is_binary(self.kind) and self.is_text:
            try:
                unique.cast(pa.string())
            except pa.ArrowInvalid:
                self.is_text = False
        if self.is_whole_text:
            self.is_whole_text = pc.all(pc.match_substring_regex(unique, r"^-?[0-9]{1,15}$")).as_py()
        if self.is_date:
            for text in unique.cast(pa.string()).to_pylist():
                moment = moment_of(text)
                if moment is None:
                    self.is_date = False
                    break
                self.has_hours |= moment.time() != datetime.min.time()

    def _measure(self, numbers: np.ndarray, label_R: np.ndarray, file: str) -> None:
        first = self._last[1] + 1 if self._last and self._last[0] == file else numbers[0]
        with np.errstate(over="ignore", invalid="ignore"):  # extreme values, and infinity less infinity
            self.is_numbered = self.is_numbered and numbers[0] == first and bool((np.diff(numbers) == 1).all())
        self._last = (file, float(numbers[-1]))
        finite = np.isfinite(numbers)
        numbers, label_R = numbers[finite], label_R[finite]
        self.num_finite += len(numbers)
        if not len(numbers):
            return
        self.is_whole = self.is_whole and bool((numbers == np.round(numbers)).all())
        self.least, self.most = min(self.least, float(numbers.min())), max(self.most, float(numbers.max()))
        if not is_float(self.kind):
            self.moments.update(numbers)
        self.above_L += _by_label(label_R[numbers > 0])
        for unit, (low, high) in EPOCHS.items():
            self.num_epoch[unit] += int(((numbers > low) & (numbers < high)).sum())
        bits = (numbers + 0.0).view(np.uint64) >> np.uint64(48)
        sign = bits >> np.uint64(15)
        place = np.where(
            sign == 1, 32_767 - (bits & np.uint64(32_767)).astype(np.int64), 32_768 + bits.astype(np.int64)
        )
        for label in (0, 1):
            self._bins[label] += np.bincount(place[label_R == label], minlength=NUM_BINS)


def count_columns(
    raw: RawFiles,
    label: str | None,
    *,
    without: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
) -> dict[str, ColumnFacts]:
    """Count all columns of all rows but those in ``without``.

    Args:
        raw: the files.
        label: the column of 0 and 1; every value is checked. None: all rows count as label 0.
        without: columns that are not read.
        progress: called with the number of rows that are done.
    """
    columns = [column for column in raw.types if column not in without]
    facts = {column: ColumnFacts(raw.types[column]) for column in columns}
    num_rows = 0
    for chunk in raw.chunks(list(dict.fromkeys([*columns, *([label] if label else [])]))):
        labels = labels_of(chunk, label) if label else np.zeros(chunk.table.num_rows, np.int8)
        for column in columns:
            values = chunk.table.column(column).combine_chunks()
            facts[column].update(values, labels, chunk.file)
        num_rows += chunk.table.num_rows
        if progress:
            progress(num_rows)
    return facts


def moment_of(text: str) -> datetime | None:
    """Read a date, with or without a time of day: 2026-11-01, 20261101, 2026-11, 2026/11/01, 2026-11-01 12:30:00.

    A time zone is dropped: what counts is the day as it is written. None for other texts.
    """
    text = text.strip().replace("/", "-")
    if text.isdecimal() and not _COMPACT.fullmatch(text):
        return None
    if len(text) == 10 and text.isdecimal():
        text = f"{text[:8]}T{text[8:]}"
    try:
        return datetime.fromisoformat(f"{text}-01" if _MONTH.fullmatch(text) else text).replace(tzinfo=None)
    except ValueError:
        return None


def _by_label(label_R: np.ndarray) -> np.ndarray:
    return np.bincount(label_R, minlength=2)


def _hashes(unique: pa.Array) -> np.ndarray:
    """Well-mixed 64-bit hashes of distinct values."""
    kind = unique.type
    if pa.types.is_floating(kind):
        bits = (unique.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0).view(np.uint64)
    elif pa.types.is_uint64(kind):
        bits = unique.to_numpy(zero_copy_only=False).astype(np.uint64)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        bits = unique.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    elif is_time(kind) or pa.types.is_duration(kind):
        narrow = pa.types.is_date32(kind) or pa.types.is_time32(kind)
        ticks = unique.cast(pa.int32()).cast(pa.int64()) if narrow else unique.cast(pa.int64())
        bits = ticks.to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        texts = unique if pa.types.is_string(kind) or pa.types.is_binary(kind) else unique.cast(pa.string())
        bits = fnv1a64(texts)
    with np.errstate(over="ignore"):  # SplitMix64's finalizer
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))
