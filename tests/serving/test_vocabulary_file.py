import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al.serving.vocabulary_file import LONGEST, NoVocabularyError, read_vocabulary


def parquet(values, ids=None, **settings):
    sink = pa.BufferOutputStream()
    columns = {"value": values, "id": ids or pa.array(range(1, len(values) + 1), pa.int32())}
    pq.write_table(pa.table(columns), sink, **settings)
    return pa.BufferReader(sink.getvalue())


@pytest.mark.parametrize("settings", [{}, {"use_dictionary": False}, {"row_group_size": 2}, {"compression": "zstd"}])
def test_values_come_by_their_ids(settings):
    for kind in (pa.string(), pa.large_string()):
        values, ids = read_vocabulary(parquet(pa.array(["b", "a", "ü", ""], kind), [2, 1, 4, 3], **settings), 4)
        assert (values.to_pylist(), ids.to_pylist()) == (["a", "b", "", "ü"], [1, 2, 3, 4])
    assert len(read_vocabulary(parquet(pa.array([], pa.string())), 0)[0]) == 0


@pytest.mark.parametrize("size", [60_000, 2**20])
@pytest.mark.parametrize("row_group_size", [100, 2000])
def test_kilobytes_that_say_gigabytes_are_not_unfolded(size, row_group_size):
    equal = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * size]))
    source = parquet(equal, compression="zstd", row_group_size=row_group_size)
    before = pa.total_allocated_bytes()
    with pytest.raises(NoVocabularyError, match="bytes"):
        read_vocabulary(source, 2000)
    assert pa.total_allocated_bytes() - before < 2**23


def test_texts_that_share_their_beginnings():
    texts = [f"{'x' * 10_000}{i}" for i in range(50)]
    source = parquet(texts, use_dictionary=False, column_encoding={"value": "DELTA_BYTE_ARRAY"})
    with pytest.raises(NoVocabularyError, match="DELTA_BYTE_ARRAY"):
        read_vocabulary(source, 50)


def test_what_is_no_vocabulary():
    wrong = {
        "3 values beside a table of 5 rows": parquet(["a", "b", "c"]),
        "more than 65,536 bytes": parquet(["a", "b", "c", "d" * (LONGEST + 1)]),
        "values are no texts": parquet([1, 2, 3, 4]),
        "ids are no integers": parquet(["a", "b", "c", "d"], [1.0, 2.0, 3.0, 4.0]),
    }
    for said, source in wrong.items():
        with pytest.raises(NoVocabularyError, match=said):
            read_vocabulary(source, 4)
    for columns in ({"text": ["a"], "id": [1]}, {"value": ["a"], "number": [1]}):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        with pytest.raises(NoVocabularyError, match="does not exist"):
            read_vocabulary(pa.BufferReader(sink.getvalue()))
    with pytest.raises(NoVocabularyError, match="without texts"):
        read_vocabulary(parquet([["a"], ["b"]]), 2)
    with pytest.raises(NoVocabularyError, match="ids are no integers"):
        read_vocabulary(parquet(["a"], ["a"]), 1)
    not_utf8 = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"\xff"]).buffers()[1:]])
    with pytest.raises(pa.ArrowInvalid):
        read_vocabulary(parquet(not_utf8), 1)
