"""A vocabulary's Parquet file that somebody else wrote, read in memory of about its own size.

A few kilobytes of Parquet can say gigabytes: a text that is there a thousand times is stored once, and equal beginnings
(delta encodings) once too. So sizes and encodings of the footer are looked at first, texts are read as a dictionary,
and unfolded only where all of them together are no larger than texts of such a number may be.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

MOST_BYTES_EACH, MOST_BYTES_MORE = 1024, 2**24  # of all texts together, a text on average and beside
LONGEST = 2**16  # bytes of a text
ENCODINGS = frozenset(["PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "BIT_PACKED"])


class NoVocabularyError(Exception):
    """Something that the file of a vocabulary never holds; the message says what."""


def read_vocabulary(source: Any, num_values: int | None = None) -> tuple[pa.Array, pa.Array]:
    """Return values and ids, by rising id; ``num_values`` is how many there must be.

    Raises:
        NoVocabularyError: more or larger texts than a vocabulary holds, or no texts.
        pa.ArrowException, KeyError, OSError: it is no Parquet file, or has other columns.
    """
    with _opened(source) as file:
        rows = file.metadata.num_rows
        if num_values is not None and rows != num_values:
            raise NoVocabularyError(f"a vocabulary of {rows} values beside a table of {num_values + 1} rows")
        _check_footer(file.metadata)
        kind = _check_columns(file.schema_arrow)
        table = file.read(columns=["value", "id"])
    values, ids = table["value"], table["id"]
    most, total = _most_bytes(rows), 0
    for chunk in values.chunks:
        lengths = pc.binary_length(chunk.dictionary if pat.is_dictionary(chunk.type) else chunk)
        if (pc.max(lengths).as_py() or 0) > LONGEST:
            raise NoVocabularyError(f"a vocabulary with a text of more than {LONGEST:,} bytes")
        spread = lengths.take(chunk.indices) if pat.is_dictionary(chunk.type) else lengths
        total += pc.sum(spread.cast(pa.int64())).as_py() or 0
        if total > most:
            raise NoVocabularyError(f"a vocabulary whose {rows:,} texts have more than {most:,} bytes")
    found = pa.table({"value": values.cast(kind), "id": ids}).sort_by("id")
    texts = found["value"].combine_chunks()
    texts.validate(full=True)
    return texts, found["id"].combine_chunks()


def _opened(source: Any) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source, read_dictionary=["value"])
    except KeyError:
        raise NoVocabularyError("a vocabulary without texts: its column value does not exist") from None


def _check_columns(schema: pa.Schema) -> pa.DataType:
    """The type of the texts; columns of other types would be unfolded as they are read."""
    for name in ("value", "id"):
        if len(schema.get_all_field_indices(name)) != 1:
            raise NoVocabularyError(f"a vocabulary whose column {name} does not exist, or twice")
    kind, ids = schema.field("value").type, schema.field("id").type
    kind = kind.value_type if pat.is_dictionary(kind) else kind
    if not (pat.is_string(kind) or pat.is_large_string(kind)):
        raise NoVocabularyError("a vocabulary whose values are no texts")
    if not pat.is_integer(ids):
        raise NoVocabularyError("a vocabulary whose ids are no integers")
    return kind


def _most_bytes(rows: int) -> int:
    return rows * MOST_BYTES_EACH + MOST_BYTES_MORE


def _check_footer(metadata: pq.FileMetaData) -> None:
    total, most = 0, _most_bytes(metadata.num_rows)
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            total += max(0, column.total_uncompressed_size)
            if unusual := set(column.encodings) - ENCODINGS:
                raise NoVocabularyError(f"a vocabulary in an encoding that c2al never writes, {min(unusual)}")
    if total > most:
        problem = f"a vocabulary of {metadata.num_rows:,} values that unpacks to {total:,} bytes, {most:,} at most"
        raise NoVocabularyError(problem)
