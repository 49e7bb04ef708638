"""Values to ids: vocabularies counted on the training rows, or hashing.

Every value is first its text: integers in decimal, whole floats as integers, booleans as "true" and "false". Id 0 is
for missing, empty and unknown values. Other ids are a value's place in the vocabulary, most frequent first, or, hashed,
``1 + fnv1a64(utf8 text) mod (num_rows - 1)``: the 64-bit Fowler-Noll-Vo hash 1a, the same in any language and process.
"""

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c2al.names import file_names
from c2al.schema import SparseColumn

FEW = 16  # texts, up to which a loop is faster than arrays
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


class Vocabulary:
    """Counts values, keeps the most frequent, turns values into ids.

    Counting holds at most about four times ``max_values`` distinct values: past that the rarest so far are forgotten,
    and ``approximate`` says so. With ``hash_rows`` a column of more values than that is hashed into that many rows.
    """

    def __init__(
        self, name: str, *, multi: bool = False, max_values: int = 1_000_000, min_count: int = 1, hash_rows: int | None
    ) -> None:
        self.name, self.multi, self.hash_rows = name, multi, hash_rows
        self.max_values, self.min_count = max_values, min_count
        self.hashed = self.approximate = False
        self.num_distinct = 0
        self.values = pa.array([], pa.string())
        self._counted = pa.table({"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
        self._waiting: list[pa.Table] = []

    def count(self, texts: pa.Array) -> None:
        """Count the values of some training rows (for bags: their elements)."""
        if self.hashed or not len(texts):
            return
        pairs = pc.value_counts(pc.drop_null(texts))
        self._waiting.append(pa.table({"value": pairs.field(0), "count": pairs.field(1)}))
        if sum(table.num_rows for table in self._waiting) > max(len(self._counted), 100_000):
            self._merge()

    def _merge(self) -> None:
        counts = pa.concat_tables([self._counted, *self._waiting]).group_by("value").aggregate([("count", "sum")])
        self._counted, self._waiting = counts.rename_columns(["value", "count"]), []
        self.num_distinct = max(self.num_distinct, self._counted.num_rows)
        if self.hash_rows and self._counted.num_rows >= self.hash_rows:
            self.hashed, self._counted = True, self._counted.slice(0, 0)
        elif self._counted.num_rows > 4 * self.max_values:
            self._counted = self._most_frequent(2 * self.max_values)
            self.approximate = True

    def _most_frequent(self, num: int) -> pa.Table:
        order = [("count", "descending"), ("value", "ascending")]
        return self._counted.sort_by(order).slice(0, num).combine_chunks()

    def finish(self) -> None:
        """Fix the ids."""
        self._merge()
        if self.hashed:
            return
        kept = self._most_frequent(self.max_values)
        kept = kept.filter(pc.greater_equal(kept["count"], self.min_count))
        self.values = kept["value"].combine_chunks()
        if isinstance(self.values, pa.ChunkedArray):
            self.values = pa.concat_arrays(self.values.chunks)
        self._counted = self._counted.slice(0, 0)

    def encode(self, texts: pa.Array) -> np.ndarray:
        """Ids of some rows, int32."""
        if self.hashed:
            return hashed_ids(texts, self.num_rows)
        found = pc.index_in(texts, value_set=self.values, skip_nulls=True)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32) + 1

    @property
    def num_rows(self) -> int:
        """Rows of the table: ids are below it."""
        return self.hash_rows if self.hashed and self.hash_rows else len(self.values) + 1

    def save(self, folder: str, file: str | None = None) -> SparseColumn:
        """Write ``vocabularies/<file>.parquet`` of (value, id), and describe the column.

        Where a folder gets vocabularies of several columns, ``file`` is what ``names.file_names`` makes of all of them.
        """
        if self.hashed:
            return SparseColumn(self.name, self.num_rows, multi=self.multi, hashed=True)
        place = f"vocabularies/{file or file_names([self.name])[self.name]}.parquet"
        path = f"{folder.rstrip('/')}/{place}"
        with fsspec.open(path, "wb", auto_mkdir=True) as file:
            ids = np.arange(1, len(self.values) + 1, dtype=np.int32)
            pq.write_table(pa.table({"value": self.values, "id": ids}), file)
        return SparseColumn(self.name, self.num_rows, multi=self.multi, vocabulary=place)


class Lookup:
    """Ids of texts by the values of a vocabulary, whose index is made once: 64-bit hashes, every match compared.

    Id 0 for null and unknown ones. 12 bytes a value beside the values themselves.
    """

    def __init__(self, values: pa.Array) -> None:
        self.values = values
        hashes = fnv1a64(values)
        self._place = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._place]
        self._apart = bool((self._hashes[1:] != self._hashes[:-1]).all())

    def __call__(self, texts: pa.Array) -> np.ndarray:
        """Ids, int32."""
        if not len(self.values):
            return np.zeros(len(texts), np.int32)
        if not self._apart:  # two values of one hash: 1 vocabulary in 30 million, of a million values
            found = pc.index_in(texts, value_set=self.values, skip_nulls=True)
            return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32) + 1
        nearest = np.searchsorted(self._hashes, fnv1a64(texts))
        place = self._place[np.minimum(nearest, len(self._hashes) - 1)]
        same = pc.fill_null(pc.equal(self.values.take(pa.array(place)), texts), False)
        return np.where(same.to_numpy(zero_copy_only=False), place + 1, 0).astype(np.int32)


def hashed_ids(texts: pa.Array, num_rows: int) -> np.ndarray:
    """Ids in [1, num_rows) by hash, 0 for null; int32."""
    distinct = texts.dictionary_encode()
    hashes = fnv1a64(distinct.dictionary) % np.uint64(num_rows - 1)
    ids = np.concatenate([hashes.astype(np.int32) + 1, np.zeros(1, np.int32)])
    return ids[pc.fill_null(distinct.indices, -1).to_numpy(zero_copy_only=False)]


def fnv1a64(texts: pa.Array) -> np.ndarray:
    """FNV-1a, 64 bits, of the UTF-8 bytes of each text: all texts' first bytes, then all second ones, and so on."""
    if len(texts) <= FEW:
        return np.array([_fnv1a64(text) for text in texts.cast(pa.binary()).to_pylist()], np.uint64)
    data = texts.cast(pa.large_binary())
    _, offset_buffer, byte_buffer = data.buffers()
    hashes = np.full(len(data), FNV_OFFSET)
    if byte_buffer is None or not len(data):
        return hashes
    offsets = np.frombuffer(offset_buffer, np.int64)[data.offset : data.offset + len(data) + 1]
    all_bytes = np.frombuffer(byte_buffer, np.uint8)
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")  # so that texts with a byte at a place are the first ones
    starts, longest_first = offsets[:-1][order], -lengths[order]
    state = hashes.copy()
    for place in range(int(lengths.max())):
        num = int(np.searchsorted(longest_first, -place, side="left"))
        state[:num] = (state[:num] ^ all_bytes[starts[:num] + place]) * FNV_PRIME
    hashes[order] = state
    return hashes


def _fnv1a64(text: bytes | None) -> int:
    state = int(FNV_OFFSET)
    for byte in text or b"":
        state = ((state ^ byte) * int(FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return state


def unit_ids(texts: pa.Array) -> np.ndarray:
    """Units as 31-bit hashes, 0 for missing: two of a million units share one with probability 1 in 2,000 each."""
    distinct = texts.dictionary_encode()
    hashes = np.append((fnv1a64(distinct.dictionary) % np.uint64(2**31 - 1)).astype(np.int32) + 1, np.int32(0))
    return hashes[pc.fill_null(distinct.indices, -1).to_numpy(zero_copy_only=False)].astype(np.int32)
