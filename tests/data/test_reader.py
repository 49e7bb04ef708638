import gc
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
import torch

from c2al.batch import Batch
from c2al.data.reader import Reader
from c2al.data.writer import write_splits
from c2al.schema import DataError, Schema

Prepared = Callable[..., tuple[str, pa.Table]]
AXES = ["place", "age_x_place", "age"]


def reader(folder: str, **settings: object) -> Reader:
    defaults = {"split": "train", "batch_size": 4, "axes": AXES, "window_rows": 16}
    return Reader(**({"folder": folder} | defaults | settings))  # type: ignore[arg-type]


def same(first: Batch, second: Batch) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in [
            *zip(first._parts()[0:1] + first._parts()[2:], second._parts()[0:1] + second._parts()[2:], strict=True),
            (first.sparse.values(), second.sparse.values()),
            (first.sparse.lengths(), second.sparse.lengths()),
        ]
    )


def no_reader_thread() -> bool:
    """Whether the threads of all readers end: those of readers that are gone do."""
    gc.collect()
    threads = [thread for thread in threading.enumerate() if thread.name == "c2al-reader"]
    for thread in threads:
        thread.join(60)
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_row_once_and_equal_steps(prepared: Prepared, world_size: int, shuffle: bool) -> None:
    for num_rows, batch_size, window_rows in itertools.product((1, 5, 16, 53), (1, 4), (7, 20, 1000)):
        folder, _ = prepared(num_rows)
        rows, lengths, steps = [], [], set()
        for rank in range(world_size):
            one = reader(
                folder,
                batch_size=batch_size,
                window_rows=window_rows,
                rank=rank,
                world_size=world_size,
                shuffle=shuffle,
            )
            batches = list(one.batches(epoch=1))
            steps |= {one.steps_per_epoch, len(batches)}
            lengths.append([len(batch) for batch in batches])
            for batch in batches:
                filler = batch.row_B < 0
                rows += batch.row_B[~filler].tolist()
                assert not filler[:-1].any()
                assert (batch.weight_B[filler] == 0).all()
                assert (batch.cohort_BA[filler] == -1).all()
                assert (batch.weight_B[~filler] > 0).all()
        assert sorted(rows) == list(range(num_rows))
        assert len(steps) == 1
        assert all(length == lengths[0] for length in lengths)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_batches_hold_the_rows_of_the_files(prepared: Prepared, shuffle: bool, rank: int) -> None:
    folder, table = prepared(61)
    expected = table.to_pylist()
    axis = Schema.load(folder).axis("age_x_place")
    for batch in reader(folder, shuffle=shuffle, rank=rank, world_size=2).batches():
        assert batch.sparse.keys() == ["item", "tags", "store"]
        assert batch.sparse.values().dtype == batch.sparse.lengths().dtype == torch.int64
        ids = {key: jagged.to_dense() for key, jagged in batch.sparse.to_dict().items()}
        assert batch.dense_BN.shape == (len(batch), 2)
        assert [part.dtype for part in (batch.label_B, batch.weight_B, batch.dense_BN)] == [torch.float32] * 3
        assert batch.cohort_BA.dtype == batch.row_B.dtype == torch.int64
        for index, number in enumerate(batch.row_B.tolist()):
            if number < 0:
                continue
            row = expected[number]
            assert ids["item"][index].tolist() == [row["item"]] == [number]
            assert ids["store"][index].tolist() == [row["store"]]
            assert ids["tags"][index].tolist() == row["tags"]
            assert batch.dense_BN[index].tolist() == [row["age"], row["price"]]
            assert batch.label_B[index].item() == row["clicked"]
            assert batch.weight_B[index].item() == row["weight"]
            place, crossed, age = batch.cohort_BA[index].tolist()
            assert (place, age) == (row["cohort_place"], row["cohort_age"])
            assert crossed == (age * 2 + place if min(age, place) >= 0 else -1)
            assert crossed < len(axis.cohorts)


def test_jagged_tensor_agrees_with_one_built_from_lengths(prepared: Prepared) -> None:
    folder, _ = prepared(30)
    for batch in reader(folder).batches():
        given = batch.sparse
        plain = type(given)(keys=given.keys(), values=given.values(), lengths=given.lengths())
        assert given.stride() == plain.stride()
        assert given.length_per_key() == plain.length_per_key()
        assert given.offset_per_key() == plain.offset_per_key()
        assert torch.equal(given.offsets(), plain.offsets())


def test_columns_can_be_chosen(prepared: Prepared) -> None:
    folder, table = prepared(20)
    batch = next(reader(folder, sparse=["store", "item"], dense=["price"], axes=[]).batches())
    assert batch.sparse.keys() == ["item", "store"]
    assert batch.sparse.values().tolist() == [0, 1, 2, 3, *table["store"].to_pylist()[:4]]
    assert batch.dense_BN.squeeze(1).tolist() == table["price"].to_pylist()[:4]
    assert batch.cohort_BA.shape == (4, 0)
    batch = next(reader(folder, sparse=["tags"], dense=[]).batches())
    assert batch.sparse.values().tolist() == table["tags"].slice(0, 4).combine_chunks().flatten().to_pylist()
    assert batch.dense_BN.shape == (4, 0)
    with pytest.raises(DataError, match="did you mean store"):
        reader(folder, sparse=["stores"])
    with pytest.raises(DataError, match="no such cohort axis"):
        reader(folder, axes=["plaice"])


def test_without_weight_every_row_weighs_one(prepared: Prepared) -> None:
    folder, _ = prepared(9)
    replace(Schema.load(folder), weight=None).save(folder)
    weights = [batch.weight_B.tolist() for batch in reader(folder, world_size=2, rank=1).batches()]
    assert weights == [[1.0, 1.0, 1.0, 1.0], [0.0]]


def test_same_seed_and_epoch_same_batches_and_others_differ(prepared: Prepared) -> None:
    folder, _ = prepared(60)

    def rows(seed: int, epoch: int) -> list[int]:
        return [row for batch in reader(folder, shuffle=True, seed=seed).batches(epoch) for row in batch.row_B.tolist()]

    assert rows(0, 0) == rows(0, 0)
    assert rows(0, 0) != rows(0, 1)
    assert rows(0, 0) != rows(1, 0)
    assert rows(0, 0) != sorted(rows(0, 0))


def test_two_epochs_of_one_reader_both_have_steps(prepared: Prepared) -> None:
    folder, _ = prepared(60)
    one = reader(folder, shuffle=True)
    assert [len(list(one.batches(epoch))) for epoch in (0, 1, 2)] == [15, 15, 15]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_resume_is_exact_at_every_step(prepared: Prepared, shuffle: bool, rank: int) -> None:
    folder, _ = prepared(83)
    one = reader(folder, shuffle=shuffle, rank=rank, world_size=2, batch_size=3)
    whole = list(one.batches(epoch=2))
    for step in range(one.steps_per_epoch + 1):
        rest = list(one.batches(epoch=2, start_step=step))
        assert len(rest) == len(whole) - step
        assert all(map(same, rest, whole[step:]))
    with pytest.raises(ValueError, match="start_step"):
        one.batches(start_step=one.steps_per_epoch + 1)


def test_resume_reads_no_window_before(prepared: Prepared) -> None:
    folder, table = prepared(48)
    label = table["clicked"].to_numpy().copy()
    label[3] = 7  # in the first window of three
    prepared(48, table=table.set_column(table.schema.get_field_index("clicked"), "clicked", pa.array(label)))
    assert len(list(reader(folder).batches(start_step=4))) == 8
    with pytest.raises(DataError, match="label"):
        next(reader(folder).batches())


def test_batches_own_their_memory(prepared: Prepared) -> None:
    folder, _ = prepared(48)
    batch = next(reader(folder).batches())
    for part in (batch.dense_BN, batch.label_B, batch.weight_B, batch.cohort_BA, batch.row_B, batch.sparse.values()):
        assert part.is_contiguous()
        assert part.untyped_storage().nbytes() == part.nbytes


def test_early_close_leaves_no_thread_and_no_file(prepared: Prepared) -> None:
    folder, _ = prepared(83)
    batches = reader(folder).batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    del batches
    assert no_reader_thread()
    for _ in reader(folder).batches():
        break
    assert no_reader_thread()
    assert len(list(reader(folder).batches())) == 21
    assert no_reader_thread()


def test_only_one_window_is_read_ahead(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = prepared(83)
    one = reader(folder, window_rows=8)
    loaded: list[int] = []
    load = one._load
    monkeypatch.setattr(one, "_load", lambda *given: loaded.append(given[-1]) or load(*given))
    for step, _ in enumerate(one.batches()):
        one._thread.submit(lambda: None).result()
        assert loaded == list(range(min(step // 2 + 2, 11)))


def test_memory_path(prepared: Prepared) -> None:
    folder, _ = prepared(40, folder="memory://small/data")
    try:
        batches = list(reader(folder, shuffle=True).batches())
        assert sorted(torch.cat([batch.row_B for batch in batches]).tolist()) == list(range(40))
        fsspec.filesystem("memory").rm("/small/data/train/part-00001.parquet")
        with pytest.raises(DataError, match=r"files hold 26 .*memory://small/data/train"):
            reader(folder)
    finally:
        fsspec.filesystem("memory").rm("/small", recursive=True)


def test_reads_what_the_writer_writes(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, table = prepared(50)
    for path in Path(folder, "train").glob("*.parquet"):
        path.unlink()
    monkeypatch.setattr("c2al.data.writer.ROWS_PER_GROUP", 8)
    monkeypatch.setattr("c2al.data.writer.ROWS_PER_FILE", 24)
    assert write_splits(folder, [("train", table)], label="clicked", weight="weight")["train"].rows == 50
    assert len(list(Path(folder, "train").glob("*.parquet"))) == 3
    rows = torch.cat([batch.sparse["item"].values() for batch in reader(folder).batches()])
    assert rows.tolist() == list(range(50))
